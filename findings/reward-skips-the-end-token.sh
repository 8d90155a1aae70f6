#!/bin/bash
# reward-skips-the-end-token.sh - a reward model whose padding is the end token never sees whether an answer ended.
#
# One would guess: the score of a row comes from the last token whose attention mask is 1, here the end token of the answer.
# What happens: ...ForSequenceClassification does not look at the attention mask.  It takes the last token that is not pad_token_id.
# Where the end token serves as padding (tokenizer.pad_token = tokenizer.eos_token, the usual line for models that ship without a
# padding token), every end token is passed over and the score is read one token earlier.  An answer that ended and the same
# answer cut off have exactly the same score, and the same model scores otherwise under another pad_token_id.
# Version: transformers 5.24.0, torch 2.15.0.
# Why it matters: reward models trained this way cannot prefer answers that stop, and a program that reads their head at the
# end token gets other scores from the same weights.  RewardTrainer of TRL 1.16 takes the end token as padding by itself when the
# tokenizer names none.  Give a reward model a padding token that is not its end token, and compare scores only under that one.
# Source: GenericForSequenceClassification in modeling_layers.py; transformers issue 35352.
# Seen:
#   transformers 5.24.0 torch 2.15.0
#   padding is token 0:          answer with end token 0.020078   without -0.026468
#   padding is the end token:    answer with end token -0.026468   without -0.026468
packages="transformers==5.24.0 torch==2.15.0 accelerate==1.15.0"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
env=${FINDINGS_ENV:-$(mktemp -d)}
[ -n "$FINDINGS_ENV" ] || trap 'rm -rf "$env"' EXIT
python3 -m venv "$env" && "$env/bin/pip" install -q $packages || { echo "skipped: cannot install $packages"; exit 77; }
cd "$env" || exit 1
TRANSFORMERS_VERBOSITY=error PYTHONWARNINGS=ignore "$env/bin/python" - <<'PYTHON'
import sys
import torch
import transformers
from transformers import LlamaConfig, LlamaForSequenceClassification

print("transformers", transformers.__version__, "torch", torch.__version__.split("+")[0])
end = 2
torch.manual_seed(0)
model = LlamaForSequenceClassification(LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                                                   num_attention_heads=4, num_key_value_heads=4, num_labels=1, eos_token_id=end)).eval()


def score(tokens, padding):
    model.config.pad_token_id = padding
    ids = torch.tensor([tokens])
    with torch.no_grad():
        return model(ids, attention_mask=torch.ones_like(ids)).logits.item()


differs = []
for name, padding in ("padding is token 0:      ", 0), ("padding is the end token:", end):
    ended, cut = score([5, 6, 7, end], padding), score([5, 6, 7], padding)
    differs.append(abs(ended - cut) > 1e-4)
    print(f"{name}    answer with end token {ended:.6f}   without {cut:.6f}")
sys.exit(differs != [True, False])
PYTHON
