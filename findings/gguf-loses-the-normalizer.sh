#!/bin/bash
# gguf-loses-the-normalizer.sh - llama.cpp does not bring text into NFC where the tokenizer of the model does.
#
# One would guess: a model converted to GGUF with its own pre-tokenizer (tokenizer.ggml.pre "qwen2") is given the ids of its
# tokenizer.json, which for Qwen2, 2.5 and 3 begins with the normalizer NFC.
# What happens: GGUF has no key for NFC, and the name of the pre-tokenizer stands for the splitting pattern alone.  Text in which é is e
# and U+0301 is split as it comes: other tokens, and more of them.  Nothing is said.  Text that is in NFC already has the right ids.
# Version: xllamacpp 2026.10.11549 (llama.cpp within), gguf 0.19.0, tokenizers 0.23.3.
# Why it matters: decomposed text comes from macOS file names, from many PDFs, from some Vietnamese keyboards.  The model never saw it in
# training: answers get worse in llama.cpp only, and the log-probabilities of the two cannot be compared.  Bring text into NFC before it
# is sent to a server of such a file.
# Source: llama.cpp issue 6980; pull request 28845 for NFKC.
# Seen (ids):
#   xllamacpp 2026.10.11549 gguf 0.19.0 tokenizers 0.23.3
#   'caf\xe9'            tokenizers [259]  llama.cpp [259]
#   'cafe\u0301'         tokenizers [259]  llama.cpp [257, 68, 136, 223]
#   '\ud55c'             tokenizers [261]  llama.cpp [261]
#   '\u1112\u1161\u11ab' tokenizers [261]  llama.cpp [157, 226, 240, 157, 227, 94, 157, 228, 104]
packages="xllamacpp==2026.10.11549 gguf==0.19.0 tokenizers==0.23.3 numpy==2.4.6"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
env=${FINDINGS_ENV:-$(mktemp -d)}
[ -n "$FINDINGS_ENV" ] || trap 'rm -rf "$env"' EXIT
python3 -m venv "$env" && "$env/bin/pip" install -q $packages || { echo "skipped: cannot install $packages"; exit 77; }
cd "$env" || exit 1
"$env/bin/python" - <<'PYTHON'
import json
import os
import sys
import unicodedata
import urllib.request
from importlib.metadata import version
import gguf
import numpy as np
import xllamacpp
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

print(*(f"{name} {version(name)}" for name in ("xllamacpp", "gguf", "tokenizers")))
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
vocab, merges = {c: i for i, c in enumerate(alphabet)}, []
for word in "caf\u00e9", "\ud55c":
    pieces = list(pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(word)[0][0])
    for piece in pieces[1:]:
        merges.append((pieces[0], piece))
        pieces[0] += piece
        vocab.setdefault(pieces[0], len(vocab))
own = Tokenizer(models.BPE(vocab=vocab, merges=merges))
own.normalizer = normalizers.NFC()
own.pre_tokenizer = pre_tokenizers.Sequence([     # the expression of Qwen2
    pre_tokenizers.Split(Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
                               r"\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated"),
    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

rows, width = len(vocab), 32
writer = gguf.GGUFWriter("model.gguf", "qwen2")
writer.add_context_length(64)
writer.add_embedding_length(width)
writer.add_block_count(1)
writer.add_feed_forward_length(width)
writer.add_head_count(1)
writer.add_head_count_kv(1)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("qwen2")
writer.add_token_list(sorted(vocab, key=vocab.get))
writer.add_token_types([gguf.TokenType.NORMAL] * rows)
writer.add_token_merges([" ".join(pair) for pair in merges])
writer.add_bos_token_id(0)
writer.add_eos_token_id(0)
shapes = {"token_embd.weight": (rows, width), "output_norm.weight": (width,)}
shapes |= {f"blk.0.{name}": (width,) for name in ("attn_norm.weight", "ffn_norm.weight", "attn_q.bias", "attn_k.bias", "attn_v.bias")}
shapes |= {f"blk.0.{name}.weight": (width, width) for name in
           ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")}
for name, shape in shapes.items():
    writer.add_tensor(name, np.ones(shape, np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
parameters = xllamacpp.CommonParams()
parameters.model.path, parameters.n_ctx, parameters.n_parallel, parameters.warmup = "model.gguf", 64, 1, False
parameters.verbosity, parameters.cpuparams.n_threads = 0, 1
server = xllamacpp.Server(parameters)


def served(text):
    request = urllib.request.Request(server.listening_address + "/tokenize", json.dumps({"content": text}).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)["tokens"]


same = []
for word in "caf\u00e9", "\ud55c":
    for form in "NFC", "NFD":
        text = unicodedata.normalize(form, word)
        ids = own.encode(text).ids, served(text)
        same.append(ids[0] == ids[1])
        print(ascii(text).ljust(20), "tokenizers", str(ids[0]).ljust(6), "llama.cpp", ids[1])
sys.stdout.flush()
os._exit(same != [True, False, True, False])
PYTHON
