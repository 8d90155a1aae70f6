#!/bin/bash
# byte-level-bpe-loses-bytes.sh - tokenizers: a byte-level BPE leaves out, without a word, what its training text did not have.
#
# One would guess: byte-level BPE needs no unknown token, as the documentation of ByteLevel says: any text is a sequence of tokens, and
# decoding gives it back.
# What happens: BpeTrainer begins with the characters that it finds in the training text, not with the 256 bytes.  A byte that was not
# there has no token, and encoding drops it: a letter, a digit, a line break, or one byte of a letter.  initial_alphabet=
# ByteLevel.alphabet() gives all of them; the class ByteLevelBPETokenizer and train_new_from_iterator pass it, plain BpeTrainer does not.
# Version: tokenizers 0.23.3.
# Why it matters: a tokenizer of one's own, trained on a sample or on one language, is right on all text that looks like it.  The numbers
# missing from an answer, or the line breaks, do not raise an error or an unknown token later: the model never sees them, neither in
# training nor in evaluation, and no loss tells.  Compare decode(encode(text)) with the text.
# Source: compute_alphabet of tokenizers/src/models/bpe/trainer.rs, merge_word of model.rs (no unk_token: nothing is added);
# huggingface/course issue 775 (the trainer of its chapter on building tokenizers is the first of the two below).
# Seen (trained on "hello world, this is a text."):
#   tokenizers 0.23.3
#   as it comes           'hello 42 worlds' ->  'hello  worlds'      4 tokens
#   as it comes           'hello\nworld'    ->  'helloworld'         3 tokens
#   as it comes           'hello Zürich'    ->  'hello rih'          5 tokens
#   initial_alphabet      'hello 42 worlds' ->  'hello 42 worlds'    6 tokens
#   initial_alphabet      'hello\nworld'    ->  'hello\nworld'       4 tokens
#   initial_alphabet      'hello Zürich'    ->  'hello Zürich'       9 tokens
packages="tokenizers==0.23.3"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
env=${FINDINGS_ENV:-$(mktemp -d)}
[ -n "$FINDINGS_ENV" ] || trap 'rm -rf "$env"' EXIT
python3 -m venv "$env" && "$env/bin/pip" install -q $packages || { echo "skipped: cannot install $packages"; exit 77; }
cd "$env" || exit 1
PYTHONUTF8=1 "$env/bin/python" - <<'PYTHON'
import sys
import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

print("tokenizers", tokenizers.__version__)


def trained(**options):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(["hello world, this is a text."],
                                  trainers.BpeTrainer(vocab_size=300, show_progress=False, **options))
    return tokenizer


right = []
for name, tokenizer in (("as it comes", trained()),
                        ("initial_alphabet", trained(initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))):
    for text in "hello 42 worlds", "hello\nworld", "hello Zürich":
        ids = tokenizer.encode(text).ids
        back = tokenizer.decode(ids)
        print(f"{name:21} {text!r:17} ->  {back!r:17} {len(ids):4} tokens")
        right.append(back == text)
sys.exit(right != [False, False, False, True, True, True])
PYTHON
