"""reader_agrees.py CKPT FILE - does the second reader (reader.py) say what `ckpt --json` says?  Prints each disagreement; exits 1 if any."""
import json
import subprocess
import sys

import reader

tool, path = sys.argv[1:3]
wrong = []


def ckpt(*arguments):
    return json.loads(subprocess.run([tool, *arguments, "--json"], check=True, capture_output=True).stdout)


def same(what, ours, theirs):
    if plain(ours) != plain(theirs):
        wrong.append("%s: reader.py %r, ckpt %r" % (what, ours, theirs))


def plain(value):
    """Numbers above 2^53 and NaN come as texts in JSON."""
    if isinstance(value, bool) or isinstance(value, str):
        return value
    if isinstance(value, float):
        return "NaN" if value != value else value
    if isinstance(value, int):
        return str(value) if abs(value) > 1 << 53 else value
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value


file = reader.read(path)
info = ckpt("info", path)
for ours, theirs in (("file_size", "bytes"), ("stage", "stage"), ("step", "step"), ("tokens", "tokens"), ("uuid", "uuid"), ("run_uuid", "run_uuid"),
                     ("weights_id", "weights_id"), ("writer", "writer"), ("minor", "minor")):
    same(ours, file["header"][ours], info[theirs])
for ours, theirs in zip(file["sections"], ckpt("sections", path)["sections"], strict=True):
    for key in ("type", "offset", "stored", "raw", "instance"):
        same(ours["type"] + " " + key, ours[key], theirs[key])
    same(ours["type"] + " crc", "%08x" % ours["crc"], theirs["crc32"])
for command, section in (("config", "CONF"), ("train", "TRNS"), ("rng", "RNGS"), ("data", "DCUR"), ("chat", "CHAT"), ("meta", "META"), ("eval", "EVAL")):
    same(section, file["kv"].get(section, {}), ckpt(command, path)["values"])
same("parents", sum(1 for k in file["kv"].get("LINE", {}) if k.endswith(".weights_id")), info["parents"])
same("TOKN", "%08x" % reader.zlib.crc32(file["tokn"]), ckpt("tokenizer", path)["crc32"])
stats = ckpt("stats", path)["tensors"]
for ours, theirs, numbers in zip(file["tensors"], ckpt("tensors", path)["tensors"], stats, strict=True):
    for key in ("name", "role", "dtype", "shape", "bytes", "trainable", "decay"):
        same(ours["name"] + " " + key, ours[key], theirs[key])
    same(ours["name"] + " crc", ours["crc"], theirs["crc32"])
    same(ours["name"] + " offset", file["tdat"] + ours["offset"], theirs["offset"])
    if "stats" in ours:
        for key, value in ours["stats"].items():
            same(ours["name"] + " " + key, value, numbers[key])
for ours in file["tensors"][:12]:
    if ours["values"] is None:
        continue
    cut = ours["shape"][-1] if ours["shape"] else 1
    cut = min(cut, 500)
    where = ["0"] * (len(ours["shape"]) - 1) + ["0:%d" % cut] if ours["shape"] else []
    shown = ckpt("print", path, ours["name"], *([",".join(where)] if where else []), "--role", ours["role"])["values"]
    for _ in ours["shape"][1:]:
        shown = shown[0]
    shown = shown if ours["shape"] else [shown]
    same(ours["name"] + " values", [float(v) for v in ours["values"][:cut]], [float(v) for v in shown])
for line in wrong:
    print(line)
sys.exit(1 if wrong else 0)
