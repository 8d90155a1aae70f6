#!/bin/bash
# added-token-ids-are-not-read.sh - tokenizers gives added tokens other ids than tokenizer.json says.
#
# One would guess: the id that stands beside each of added_tokens in tokenizer.json is the token's id, or the file is refused.
# What happens: the ids are not used.  A token whose content is in the model's vocabulary takes the id from there; the others are
# numbered from the end of the vocabulary on, in the order of the file, so a gap closes and tokens out of order trade places.  Nothing
# is printed, and a tokenizer that is saved again has the new ids in its file.  AutoTokenizer does the same, also where
# added_tokens_decoder of tokenizer_config.json has the ids once more.
# Version: tokenizers 0.23.3, transformers 5.24.0.
# Why it matters: a file written by another program or edited by hand may keep ids free between the vocabulary and the added tokens,
# as an embedding padded to a multiple of 64 does, or lack an entry that was taken out.  Then special tokens point to rows that were
# not trained for them: the model still answers, only worse, and does not stop where it should.  With the same ids in the model's
# vocabulary as well, they stay.
# Source: tokenizers/src/tokenizer/serialization.rs and added_vocabulary.rs; tokenizers issue 1528.  The warning in there is one of
# the Rust crate: Python does not show it.
# Seen (the vocabulary has the ids 0 to 256, 256 is "<s>"):
#   tokenizers 0.23.3 transformers 5.24.0
#   in the file            {'<s>': 300, '<|end|>': 310, '<|user|>': 301}
#   Tokenizer.from_file    {'<s>': 256, '<|end|>': 257, '<|user|>': 258}
#   saved again            {'<s>': 256, '<|end|>': 257, '<|user|>': 258}
#   AutoTokenizer          {'<s>': 256, '<|end|>': 257, '<|user|>': 258}
packages="tokenizers==0.23.3 transformers==5.24.0"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
env=${FINDINGS_ENV:-$(mktemp -d)}
[ -n "$FINDINGS_ENV" ] || trap 'rm -rf "$env"' EXIT
python3 -m venv "$env" && "$env/bin/pip" install -q $packages || { echo "skipped: cannot install $packages"; exit 77; }
cd "$env" || exit 1
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error PYTHONWARNINGS=ignore "$env/bin/python" - <<'PYTHON'
import json
import os
import sys
import tempfile
import tokenizers
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer

print("tokenizers", tokenizers.__version__, "transformers", transformers.__version__)
given = {"<s>": 300, "<|end|>": 310, "<|user|>": 301}
vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()) + ["<s>"])}
first = Tokenizer(models.BPE(vocab=vocab, merges=[]))
first.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
first.decoder = decoders.ByteLevel()
first.add_special_tokens(list(given))
description = json.loads(first.to_str())
for token in description["added_tokens"]:
    token["id"] = given[token["content"]]


def seen(name, ids):
    print(name.ljust(22), ids)
    return ids


def listed(description):
    return {token["content"]: token["id"] for token in description["added_tokens"]}


results = [seen("in the file", listed(description))]
with tempfile.TemporaryDirectory() as folder:
    config = {"tokenizer_class": "PreTrainedTokenizerFast",
              "added_tokens_decoder": {t["id"]: {k: v for k, v in t.items() if k != "id"} for t in description["added_tokens"]}}
    for name, content in (("tokenizer.json", description), ("tokenizer_config.json", config),
                          ("config.json", {"model_type": "llama", "vocab_size": 320})):
        with open(os.path.join(folder, name), "w") as f:
            json.dump(content, f)
    loaded = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    results.append(seen("Tokenizer.from_file", {token: loaded.encode(token).ids[0] for token in given}))
    results.append(seen("saved again", listed(json.loads(loaded.to_str()))))
    auto = AutoTokenizer.from_pretrained(folder)
    results.append(seen("AutoTokenizer", {token: auto(token, add_special_tokens=False).input_ids[0] for token in given}))
sys.exit(results != [given] + 3 * [{"<s>": 256, "<|end|>": 257, "<|user|>": 258}])
PYTHON
