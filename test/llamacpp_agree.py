"""llamacpp_agree.py FOLDER NAME... - llama.cpp (xllamacpp) runs our GGUF files: FOLDER/NAME.gguf, and its FOLDER/NAME.json says what
it must do: {"sequences": [{"ids", "greedy"[, "margins"]}], "margin": least one that counts} or {"chats": [{"prompt", "response"}]}."""
import json, os, struct, sys
import xllamacpp as llama

passed = failed = 0


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("llamacpp_agree:", what)


def text(s):
    return struct.pack("<Q", len(s)) + s


def named(path, out, end_token):
    """A copy of a file without tokenizer, in which each row of the embedding has a token: the server wants one.  end_token must
    not be the model's: without the key it would be number 11."""
    with open(path, "rb") as f:
        data = f.read()
    none = text(b"tokenizer.ggml.model") + struct.pack("<I", 8) + text(b"none")
    tensors, keys = struct.unpack_from("<QQ", data, 8)
    at = end = data.index(none) + len(none)          # the last key: the table of tensors follows
    rows = 0
    for _ in range(tensors):
        n, = struct.unpack_from("<Q", data, at)
        name, at = data[at + 8:at + 8 + n], at + 8 + n
        dims, = struct.unpack_from("<I", data, at)
        if name == b"token_embd.weight":
            rows, = struct.unpack_from("<Q", data, at + 4 + 8)
        at += 4 + 8 * dims + 4 + 8
    key = lambda name, kind: text(b"tokenizer.ggml." + name) + struct.pack("<I", kind)
    vocabulary = [b"t%d" % i for i in range(rows)]
    facts = (key(b"model", 8) + text(b"gpt2") + key(b"pre", 8) + text(b"gpt-2") + key(b"tokens", 9) + struct.pack("<IQ", 8, rows) +
             b"".join(map(text, vocabulary)) + key(b"merges", 9) + struct.pack("<IQ", 8, 1) + text(b"t 1") +
             key(b"eos_token_id", 4) + struct.pack("<I", end_token) + key(b"bos_token_id", 4) + struct.pack("<I", end_token))
    head = data[:16] + struct.pack("<Q", keys + 5) + data[24:end - len(none)] + facts + data[end:at]
    with open(out, "wb") as f:
        f.write(head + bytes(-len(head) % 32) + data[at + -at % 32:])
    return out


def server(path):
    p = llama.CommonParams()
    p.model.path, p.n_ctx, p.n_parallel, p.warmup, p.verbosity, p.cpuparams.n_threads = path, 128, 1, False, 0, 1
    p.cache_type_k = p.cache_type_v = llama.ggml_type.GGML_TYPE_F32
    p.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return llama.Server(p)


def answer(reply):
    return reply if isinstance(reply, dict) else json.loads(reply)


folder, names = sys.argv[1], sys.argv[2:]
for name in names:
    path = f"{folder}/{name}.gguf"
    with open(f"{folder}/{name}.json") as f:
        want = json.load(f)
    if want.get("unnamed"):
        used = {i for s in want["sequences"] for i in s["greedy"]}
        path = named(path, f"{folder}/named.gguf", min(set(range(100)) - used))
    model = server(path)
    for s in want.get("sequences", []):
        greedy = s["greedy"]
        reply = answer(model.handle_completions({"prompt": s["ids"], "n_predict": len(greedy), "temperature": 0, "n_probs": 2,
                                                 "cache_prompt": False, "ignore_eos": True}))
        for i, token in enumerate(reply["choices"][0]["logprobs"]["content"] if "choices" in reply else [None]):
            if token is None:
                check(False, f"{name}: {reply}")
            elif token["id"] == greedy[i]:
                check(True, "")
            else:
                top = [t["logprob"] for t in token["top_logprobs"]] + [-1e9]
                check(top[0] - top[1] < want["margin"], f"{name}: token {i} after {len(s['ids'])} is {token['id']}, expected {greedy[i]}")
                break
    for s in want.get("chats", []):
        reply = answer(model.handle_chat_completions({"messages": [{"role": "user", "content": s["prompt"]}], "temperature": 0,
                                                      "max_tokens": 12}))
        got = reply["choices"][0]["message"]["content"] if "choices" in reply else reply
        check(got == s["response"], f"{name}: the answer to {s['prompt']!r} is {got!r}, expected {s['response']!r}")
    del model
print(f"check_llamacpp: {passed} passed, {failed} failed, 0 skipped", flush=True)
os._exit(failed > 0)
