#!/bin/bash
# qwen2-tokenizer-is-replaced.sh - transformers 5: with model_type qwen2 the splitter and normalizer in tokenizer.json are not used.
#
# One would guess: AutoTokenizer gives the ids that tokenizer.json describes; tokenizer_class PreTrainedTokenizerFast, the class for
# "just what the file says", makes sure of it whatever model the folder holds.
# What happens: for a folder whose config.json says qwen2 the class Qwen2Tokenizer is taken all the same.  It keeps vocabulary and merges,
# but puts Qwen2's own splitting pattern and NFC in the place of what the file has, without a message.  The same three files with
# model_type llama are read as they are.
# Version: transformers 5.24.0, tokenizers 0.23.3.
# Why it matters: a model of Qwen2's architecture that was trained with a tokenizer of its own (numbers kept whole, say) is given other
# ids than in training, and gets worse instead of failing.  Merges across digits are dead entries of the vocabulary.
# Source: models/qwen2/tokenization_qwen2.py; the mapping of model types to tokenizer classes in models/auto/tokenization_auto.py.
# Seen:
#   transformers 5.24.0 tokenizers 0.23.3
#   the file itself    ['123'] None
#   llama              ['123'] None
#   qwen2              ['1', '2', '3'] NFC
packages="transformers==5.24.0 tokenizers==0.23.3"
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

print("transformers", transformers.__version__, "tokenizers", tokenizers.__version__)
vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
vocab.update({"12": 256, "123": 257})
own = Tokenizer(models.BPE(vocab=vocab, merges=[("1", "2"), ("12", "3")]))
own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)      # GPT-2's pattern: numbers are one piece
own.decoder = decoders.ByteLevel()


def seen(name, tokens, normalizer):
    print(name.ljust(18), tokens, type(normalizer).__name__ if normalizer else None)
    return tokens, normalizer is not None


results = [seen("the file itself", own.encode("123").tokens, own.normalizer)]
for model_type in ("llama", "qwen2"):
    with tempfile.TemporaryDirectory() as folder:
        own.save(os.path.join(folder, "tokenizer.json"))
        for name, content in (("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"}),
                              ("config.json", {"model_type": model_type, "vocab_size": 258})):
            with open(os.path.join(folder, name), "w") as f:
                json.dump(content, f)
        loaded = AutoTokenizer.from_pretrained(folder)
        results.append(seen(model_type, loaded.tokenize("123"), loaded.backend_tokenizer.normalizer))
sys.exit(results != [(["123"], False), (["123"], False), (["1", "2", "3"], True)])
PYTHON
