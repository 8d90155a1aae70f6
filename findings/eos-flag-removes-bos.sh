#!/bin/bash
# eos-flag-removes-bos.sh - transformers 5: add_eos_token, True or False, removes the first token that tokenizer.json puts before a text.
#
# One would guess: add_eos_token=True puts the end token behind each text and leaves the rest alone; add_eos_token=False, where no end
# token was added anyway, changes nothing.
# What happens: either one replaces the post-processor of tokenizer.json by one made of the two flags.  add_bos_token is False unless
# it is given, whatever the file does (it reads False even while <s> is added), so the <s> is gone.  It makes no difference whether the
# flag is an argument of from_pretrained or set later.  In tokenizer_config.json the flags do nothing here.
# Version: transformers 5.24.0, tokenizers 0.23.3.
# Why it matters: models like Llama 3 keep their <s> in tokenizer.json.  Whoever asks for the end token to mark where documents of the
# training text end takes away the token that began every text in pretraining, without a word; save_pretrained then keeps it so.
# Pass add_bos_token=True as well.
# Source: update_post_processor in tokenization_utils_tokenizers.py; transformers issue 30947 and pull request 46722.
# Seen (tokenizer.json puts <s> before a text):
#   transformers 5.24.0 tokenizers 0.23.3
#   no flag                                  ['<s>', 'h', 'i']            add_bos_token reads False
#   add_eos_token=True                       ['h', 'i', '</s>']           add_bos_token reads False
#   add_eos_token=False                      ['h', 'i']                   add_bos_token reads False
#   add_bos_token=True, add_eos_token=True   ['<s>', 'h', 'i', '</s>']    add_bos_token reads True
#   tokenizer.add_eos_token = True           ['h', 'i', '</s>']           add_bos_token reads False
#   both True in tokenizer_config.json       ['<s>', 'h', 'i']            add_bos_token reads False
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
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer

print("transformers", transformers.__version__, "tokenizers", tokenizers.__version__)
vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()) + ["<s>", "</s>"])}
own = Tokenizer(models.BPE(vocab=vocab, merges=[]))
own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
own.decoder = decoders.ByteLevel()
own.add_special_tokens(["<s>", "</s>"])
own.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocab["<s>"])])
folder = tempfile.TemporaryDirectory()


def load(in_file={}, **flags):
    own.save(os.path.join(folder.name, "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", **in_file}
    for name, content in (("tokenizer_config.json", config), ("config.json", {"model_type": "llama", "vocab_size": 258})):
        with open(os.path.join(folder.name, name), "w") as f:
            json.dump(content, f)
    return AutoTokenizer.from_pretrained(folder.name, **flags)


def seen(name, tokenizer):
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("hi").input_ids)
    print(name.ljust(40), str(tokens).ljust(28), "add_bos_token reads", tokenizer.add_bos_token)
    return " ".join(tokens)


both = {"add_bos_token": True, "add_eos_token": True}
results = [seen("no flag", load()), seen("add_eos_token=True", load(add_eos_token=True)),
           seen("add_eos_token=False", load(add_eos_token=False)),
           seen("add_bos_token=True, add_eos_token=True", load(**both))]
later = load()
later.add_eos_token = True
results += [seen("tokenizer.add_eos_token = True", later), seen("both True in tokenizer_config.json", load(both))]
sys.exit(results != ["<s> h i", "h i </s>", "h i", "<s> h i </s>", "h i </s>", "<s> h i"])
PYTHON
