#!/bin/bash
# truncation-stays-in-tokenizer-json.sh - transformers 5: a tokenizer saved after a call with truncation=True cuts all texts elsewhere.
#
# One would guess: truncation=True, max_length=512 are arguments of one call; its documentation says that the settings are restored
# afterwards.
# What happens: the settings of the last call stay in the tokenizer, and save_pretrained writes them to tokenizer.json as its own.  Programs
# that read the file itself, the package tokenizers and servers built on its Rust crate, then cut every text there, and pad as well
# where padding was asked for.  AutoTokenizer ignores what the file says, so nothing shows in transformers.
# Version: transformers 5.24.0, tokenizers 0.23.3.
# Why it matters: a script of fine-tuning tokenises its data with truncation and saves the tokenizer beside the model at the end.  The
# model looks right where it was trained, and elsewhere reads only the beginning of long prompts, without an error.  Look for "truncation"
# in tokenizer.json, or make one plain call before saving.
# Source: set_truncation_and_padding in tokenization_utils_tokenizers.py; transformers issue 24441.
# Seen (tokens of a text of 11 characters, one token each; the file is written after the call):
#   transformers 5.24.0 tokenizers 0.23.3
#   (long, short)                       Tokenizer.from_file 11 and 2   AutoTokenizer 11 and 2
#   truncation=True, max_length=4       Tokenizer.from_file  4 and 2   AutoTokenizer 11 and 2
#   the same and padding=True           Tokenizer.from_file  4 and 4   AutoTokenizer 11 and 2
#   (long, short) again                 Tokenizer.from_file 11 and 2   AutoTokenizer 11 and 2
packages="transformers==5.24.0 tokenizers==0.23.3"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
env=${FINDINGS_ENV:-$(mktemp -d)}
[ -n "$FINDINGS_ENV" ] || trap 'rm -rf "$env"' EXIT
python3 -m venv "$env" && "$env/bin/pip" install -q $packages || { echo "skipped: cannot install $packages"; exit 77; }
cd "$env" || exit 1
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error PYTHONWARNINGS=ignore "$env/bin/python" - <<'PYTHON'
import os
import sys
import tempfile
import tokenizers
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

print("transformers", transformers.__version__, "tokenizers", tokenizers.__version__)
own = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=own, pad_token="!")
long, short = "hello-world", "hi"


def after(what, **options):
    """tokens of the long text, and of the short one beside it, by each reader of the file"""
    tokenizer([long, short], **options)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        direct = Tokenizer.from_file(os.path.join(folder, "tokenizer.json")).encode_batch([long, short])
        auto = AutoTokenizer.from_pretrained(folder)([long, short]).input_ids
    lengths = [len(encoding.ids) for encoding in direct] + list(map(len, auto))
    print(f"{what:35} Tokenizer.from_file {lengths[0]:2} and {lengths[1]}   AutoTokenizer {lengths[2]:2} and {lengths[3]}")
    return lengths


seen = [after("(long, short)"),
        after("truncation=True, max_length=4", truncation=True, max_length=4),
        after("the same and padding=True", truncation=True, max_length=4, padding=True),
        after("(long, short) again")]
sys.exit(seen != [[11, 2, 11, 2], [4, 2, 11, 2], [4, 4, 11, 2], [11, 2, 11, 2]])
PYTHON
