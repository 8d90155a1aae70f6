"""reader.py - a second reader of checkpoints, written from format/SPEC.md alone, with the standard library only.

Prints what it read as one JSON object: header, sections, key-values, tensors with CRC, first values and sum of bytes.
It is strict about what SPEC.md calls a must where that costs a line; a file that breaks a rule raises ValueError."""
import json
import math
import re
import struct
import sys
import zlib

NAME = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]+(?<!\.)")
KV = ("CONF", "CHAT", "TRNS", "RNGS", "DCUR", "LINE", "META", "EVAL")
# dtype: name, bytes, struct letter (None: not decoded here)
DTYPES = {1: ("f32", 4, "f"), 2: ("f16", 2, "e"), 3: ("bf16", 2, None), 4: ("f64", 8, "d"), 5: ("i8", 1, "b"), 6: ("u8", 1, "B"),
          7: ("i16", 2, "h"), 8: ("u16", 2, "H"), 9: ("i32", 4, "i"), 10: ("u32", 4, "I"), 11: ("i64", 8, "q"), 12: ("u64", 8, "Q"),
          13: ("bool", 1, "B"), 14: ("f8_e4m3fn", 1, None), 15: ("f8_e5m2", 1, None), 16: ("f8_e8m0", 1, None)}
ROLES = ("weight", "master", "m", "v", "ema", "buffer", "head", "scale")
STAGES = ("unknown", "pretrain", "sft", "rm", "rlhf", "critic", "imported")


def need(truth, check):
    if not truth:
        raise ValueError("[%s]" % check)


def up(n, to):
    return (n + to - 1) // to * to


def read_header(data):
    need(len(data) >= 8192 and len(data) % 4096 == 0, "H1")
    need(data[:8] == b"\x89QCK\r\n\x1a\n", "H2")
    order, major, minor, size, kind = struct.unpack_from("<IHHII", data, 8)
    need(order == 0x01020304, "H3")
    need(zlib.crc32(data[:252]) == struct.unpack_from("<I", data, 252)[0], "H4")
    need(major == 1 and size == 4096, "H5")
    need(not any(data[128:144]) and not any(data[216:252]) and not any(data[256:4096]), "H6")
    file_size, incompat, _, _, table = struct.unpack_from("<5Q", data, 24)
    count, table_crc, stage, flags = struct.unpack_from("<4I", data, 64)
    step, tokens, created = struct.unpack_from("<QQq", data, 144)
    shard, shards, align, entry = struct.unpack_from("<4I", data, 168)
    need(file_size == len(data), "H7")
    need(64 <= align <= 2097152 and align & (align - 1) == 0, "H8")
    need(incompat == 0, "H9")
    need(kind == 1 and stage <= 6 and flags < 8, "H10")
    need(shard == 0 and shards == 1, "H11")
    need(1 <= count <= 1024 and 64 <= entry <= 256 and entry % 8 == 0 and table % 4096 == 0 and
         table + up(count * entry, 4096) == file_size and not any(data[table + count * entry:]), "H12")
    writer = data[184:216].rstrip(b"\0")
    need(all(0x20 <= c <= 0x7E for c in writer), "H13")
    return {"file_size": file_size, "minor": minor, "stage": STAGES[stage], "flags": flags, "step": step, "tokens": tokens, "created": created,
            "uuid": data[80:96].hex(), "run_uuid": data[96:112].hex(), "weights_id": data[112:128].hex(), "writer": writer.decode(),
            "table": table, "count": count, "entry": entry, "table_crc": table_crc, "align": align}


def read_sections(data, header):
    table, sections, end = header["table"], [], 4096
    need(zlib.crc32(data[table:table + header["count"] * header["entry"]]) == header["table_crc"], "S1")
    for i in range(header["count"]):
        at = table + i * header["entry"]
        kind, flags, offset, stored, raw, crc, codec, version, instance, algorithm = struct.unpack_from("<4sIQQQIHHII", data, at)
        need(kind.isalpha() and kind.isupper(), "S6")
        need(flags < 4 and algorithm == 0 and not any(data[at + 48:at + 64]), "S7")
        need(offset % 4096 == 0 and end <= offset < table, "S2")
        need(1 <= stored <= table - offset, "S3")
        need(offset - end < 4096 and not any(data[end:offset]), "S4")
        need((codec == 1 and kind != b"TDAT" and raw <= 1032 * stored + 64) or (codec == 0 and raw == stored), "S8")
        known = kind.decode() in KV + ("TOKN", "TIDX", "CCRC", "STAT", "TDAT")
        need(not known or (version == 0 and instance == 0), "S7")
        need(known or not flags & 1, "S11")
        end = offset + stored
        content = data[offset:end]
        need(crc == (0 if kind == b"TDAT" else zlib.crc32(content)), "S9")
        if codec == 1:
            inflate = zlib.decompressobj()
            content = inflate.decompress(content)
            need(inflate.eof and not inflate.unused_data and len(content) == raw, "S12")
        sections.append({"type": kind.decode(), "instance": instance, "version": version, "flags": flags, "offset": offset, "stored": stored,
                         "raw": raw, "crc": crc, "codec": codec, "content": content})
    need(table - end < 4096 and not any(data[end:table]), "S4")
    need(len({(s["type"], s["instance"]) for s in sections}) == len(sections), "S5")
    return sections


def read_text(raw):
    need(b"\0" not in raw, "K10")
    return raw.decode("utf-8")


def read_value(kind, raw):
    if kind <= 4:
        need(len(raw) == 8, "K4")
    if kind == 1:
        need(raw in (bytes(8), b"\1" + bytes(7)), "K9")
        return raw[0] == 1
    if kind <= 4:
        return struct.unpack("<" + " qQd"[kind - 1], raw)[0]
    if kind == 5:
        return read_text(raw)
    if kind == 6:
        return raw.hex()
    if kind <= 9:
        need(len(raw) % 8 == 0, "K5")
        return list(struct.unpack("<%d%s" % (len(raw) // 8, "qQd"[kind - 7]), raw))
    count, zero = struct.unpack_from("<II", raw)
    lengths, at, texts = struct.unpack_from("<%dI" % count, raw, 8), 8 + up(4 * count, 8), []
    need(zero == 0 and at + sum(lengths) == len(raw) and not any(raw[8 + 4 * count:at]), "K5")
    for length in lengths:
        texts.append(read_text(raw[at:at + length]))
        at += length
    return texts


def read_kv(data):
    count, zero, zero2 = struct.unpack_from("<IIQ", data)
    need(zero == 0 and zero2 == 0 and count <= 65536, "K1")
    values, at, last = {}, 16, b""
    for _ in range(count):
        need(len(data) - at >= 8, "K2")
        kind, zero, key_length, value_length = struct.unpack_from("<BBHI", data, at)
        need(1 <= kind <= 10 and zero == 0, "K7")
        key, value_at = data[at + 8:at + 8 + key_length], at + 8 + up(key_length, 8)
        need(1 <= key_length <= 127 and set(key) <= set(b"abcdefghijklmnopqrstuvwxyz0123456789_."), "K3")
        need(last < key, "K8")
        end = value_at + up(value_length, 8)
        need(end <= len(data), "K4")
        need(not any(data[at + 8 + key_length:value_at]) and not any(data[value_at + value_length:end]), "K12")
        values[key.decode()] = read_value(kind, data[value_at:value_at + value_length])
        last, at = key, end
    need(at == len(data), "K13")
    return values


def read_index(data, tdat, align):
    n, entry, names, padded = struct.unpack_from("<IIQQ", data)
    order_at = 64 + 128 * n
    names_at = order_at + up(4 * n, 8)
    need(n >= 1 and entry == 128 and padded == up(names, 8) and names_at + padded == len(data) and not any(data[24:64]) and
         not any(data[order_at + 4 * n:names_at]) and not any(data[names_at + names:]), "T1")
    tensors, end, name_end, chunks = [], 0, 0, 0
    for i in range(n):
        at = 64 + 128 * i
        offset, stored, raw, crc, name_at, name_length, dtype, ndim, role, codec, flags = struct.unpack_from("<QQQIIHBBBBH", data, at)
        shape, (zero, _, first) = struct.unpack_from("<8Q", data, at + 40), struct.unpack_from("<III", data, at + 104)
        need(name_at == name_end and 1 <= name_length <= 255 and name_at + name_length <= names, "T2")
        name_end += name_length
        name = data[names_at + name_at:names_at + name_end].decode("ascii")
        need(NAME.fullmatch(name), "T2")
        need(dtype in DTYPES and role < len(ROLES) and codec == 0 and flags < 4 and zero == 0 and not any(data[at + 116:at + 128]), "T4")
        need(ndim <= 8 and not any(shape[ndim:]), "D1")
        need(all(1 <= d <= 1 << 48 for d in shape[:ndim]), "D2")
        elements = math.prod(shape[:ndim])
        size = DTYPES[dtype][1]
        need(elements <= 1 << 56, "D3")
        need(elements * size <= 1 << 58, "D4")
        need(raw == stored == elements * size, "T5")
        need(offset % align == 0 and end <= offset and offset + stored <= len(tdat), "T6")
        need(first == chunks, "T7")
        need(offset - end < align and not any(tdat[end:offset]), "T8")
        end = offset + stored
        chunks += (stored + 4194303) // 4194304
        need(zlib.crc32(tdat[offset:end]) == crc, "T10")
        need(dtype != 13 or max(tdat[offset:end]) <= 1, "T11")
        tensors.append({"name": name, "role": ROLES[role], "dtype": DTYPES[dtype][0], "shape": list(shape[:ndim]), "offset": offset, "bytes": stored,
                        "crc": "%08x" % crc, "trainable": bool(flags & 1), "decay": bool(flags & 2), "key": (name.encode(), role)})
    need(name_end == names, "T2")
    need(end == len(tdat), "T9")
    order = struct.unpack_from("<%dI" % n, data, order_at)
    need(all(i < n for i in order), "T3")
    keys = [tensors[i]["key"] for i in order]
    need(all(a < b for a, b in zip(keys, keys[1:])), "T3")
    return tensors


def read_values(tensor, tdat, count):
    name, raw = tensor["dtype"], tdat[tensor["offset"]:tensor["offset"] + tensor["bytes"]]
    letter, size = next((d[2], d[1]) for d in DTYPES.values() if d[0] == name)
    count = min(count, len(raw) // size)
    if name == "bf16":
        halves = struct.unpack_from("<%dH" % count, raw)
        return [struct.unpack("<f", struct.pack("<I", h << 16))[0] for h in halves]
    return list(struct.unpack_from("<%d%s" % (count, letter), raw)) if letter else None


def read_chunks(data, tensors, tdat):
    size, count, zero = struct.unpack_from("<IIQ", data)
    need(size == 4194304 and zero == 0, "CC1")
    crcs = struct.unpack_from("<%dI" % count, data, 16)
    parts = [tdat[t["offset"]:t["offset"] + t["bytes"]][at:at + size] for t in tensors for at in range(0, t["bytes"], size)]
    need(16 + 4 * count == len(data) and count == len(parts), "CC2")
    need(all(zlib.crc32(part) == crc for part, crc in zip(parts, crcs)), "CC3")


def read_stats(data, tensors):
    count, entry, zero = struct.unpack_from("<IIQ", data)
    need(count == len(tensors) and entry == 64 and zero == 0 and len(data) == 16 + 64 * count, "ST1")
    for i, tensor in enumerate(tensors):
        names = ("min", "max", "mean", "std", "absmax", "nan", "inf", "zero")
        tensor["stats"] = dict(zip(names, struct.unpack_from("<5d3Q", data, 16 + 64 * i)))


def read(path):
    with open(path, "rb") as file:
        data = file.read()
    header = read_header(data)
    sections = read_sections(data, header)
    content = {s["type"]: s["content"] for s in sections}
    need("TIDX" in content and "TDAT" in content, "S10")
    tensors = read_index(content["TIDX"], content["TDAT"], header["align"])
    if "CCRC" in content:
        read_chunks(content["CCRC"], tensors, content["TDAT"])
    if "STAT" in content:
        read_stats(content["STAT"], tensors)
    for tensor in tensors:
        tensor["values"] = read_values(tensor, content["TDAT"], 500)
    return {"header": header, "sections": sections, "kv": {k: read_kv(content[k]) for k in KV if k in content}, "tensors": tensors,
            "tokn": content.get("TOKN", b""), "tdat": next(s["offset"] for s in sections if s["type"] == "TDAT")}


if __name__ == "__main__":
    file = read(sys.argv[1])
    json.dump({"header": file["header"], "kv": file["kv"], "sections": [s["type"] for s in file["sections"]]}, sys.stdout, indent=1)
