#!/bin/bash
# added-token-decodes-to-other-text.sh - tokenizers: an added token with a letter like é does not decode to its own content.
#
# One would guess: an added token is matched in the text as it stands and decodes to just that content.
# What happens: with the decoder ByteLevel, which every byte-level BPE has, an added token goes through the table that turns the
# 256 signs of the vocabulary into bytes.  Where all its characters are in that table (ASCII without blanks, most of Latin-1, and
# U+0100 to U+0143), each one becomes one byte: ö is not the two bytes of UTF-8, Ġ is a blank, č is a carriage return.  A single
# character outside of the table, say a blank, and the token comes back whole.  Encoding is right in every case.
# Version: tokenizers 0.23.3.
# Why it matters: domain words and markers added for fine-tuning in German, French, Czech or Vietnamese come out of decode() broken,
# while the ids, the training and its loss are right; an ASCII marker such as <|user|> or DeepSeek's <｜User｜> never shows it.  Whoever
# scores answers by their text (a reward, an exact match) scores something that the model did not say.
# Source: decode of ByteLevel in tokenizers/src/pre_tokenizers/byte_level.rs; tokenizers issues 1392, 1915, 1996.
# Seen (content of the token, text encoded, text decoded):
#   tokenizers 0.23.3
#   'größe'        'a größe b'        -> 'a gr\ufffd\ufffde b'
#   'čau'          'a čau b'          -> 'a \rau b'
#   'größe m'      'a größe m b'      -> 'a größe m b'
#   '<｜é｜>'        'a <｜é｜> b'        -> 'a <｜é｜> b'
#   no added token 'a größe čau b'    -> 'a größe čau b'
packages="tokenizers==0.23.3"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
env=${FINDINGS_ENV:-$(mktemp -d)}
[ -n "$FINDINGS_ENV" ] || trap 'rm -rf "$env"' EXIT
python3 -m venv "$env" && "$env/bin/pip" install -q $packages || { echo "skipped: cannot install $packages"; exit 77; }
cd "$env" || exit 1
PYTHONUTF8=1 "$env/bin/python" - <<'PYTHON'
import sys
import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

print("tokenizers", tokenizers.__version__)


def there_and_back(added, text):
    vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(added)
    back = tokenizer.decode(tokenizer.encode(text).ids)
    shown = repr(back).replace("\ufffd", r"\ufffd")
    print((repr(added[0]) if added else "no added token").ljust(14), repr(text).ljust(18), "->", shown)
    return back == text


same = [there_and_back([word], f"a {word} b") for word in ("größe", "čau", "größe m", "<｜é｜>")]
same.append(there_and_back([], "a größe čau b"))
sys.exit(same != [False, False, True, True, True])
PYTHON
