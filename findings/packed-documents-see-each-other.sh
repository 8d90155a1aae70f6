#!/bin/bash
# packed-documents-see-each-other.sh - transformers keeps packed documents apart in training, but not when the same row is scored.
#
# One would guess: position ids that start again at 0 mark where the next document of a packed row begins, and either always or never
# keep it from seeing the one before.
# What happens: the marks count only while there is no cache and no attention mask.  Trainer turns the cache off, so there the documents
# are apart.  A plain model(ids, position_ids=...) has the cache on (use_cache is True in the config) and a mask of ones changes no
# other result, yet either of them drops the borders without a word: the second document reads the first.
# Version: transformers 5.24.0, torch 2.15.0, attention "sdpa" and "eager" alike, model.train() too.
# Why it matters: log-probabilities of packed rows computed in one's own loop (a reference model, the old policy of PPO, a validation)
# are not those that Trainer trains, and depend on whatever document happens to stand in front.  Pass use_cache=False and no mask.
# Source: create_causal_mask and its helper in masking_utils.py; transformers pull requests 39194 (the feature) and 46634 (the mask).
# Seen (largest difference of the second document's logits from those it has by itself):
#   transformers 5.24.0 torch 2.15.0
#   default                       sdpa 1.8e-01   eager 1.8e-01
#   use_cache=False               sdpa 0.0e+00   eager 3.0e-08
#   use_cache=False, mask of ones sdpa 1.8e-01   eager 1.8e-01
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
from transformers import LlamaConfig, LlamaForCausalLM

print("transformers", transformers.__version__, "torch", torch.__version__.split("+")[0])
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                                     num_attention_heads=4, num_key_value_heads=4)).eval()
first, second = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[9, 10, 11]])
row, positions = torch.cat([first, second], 1), torch.tensor([[0, 1, 2, 3, 0, 1, 2]])
calls = {"default": {}, "use_cache=False": {"use_cache": False},
         "use_cache=False, mask of ones": {"use_cache": False, "attention_mask": torch.ones_like(row)}}
apart = []
with torch.no_grad():
    alone = model(second, use_cache=False).logits
    for name, options in calls.items():
        line = f"{name:30}"
        for attention in "sdpa", "eager":
            model.set_attn_implementation(attention)
            packed = model(row, position_ids=positions, **options).logits[:, first.shape[1]:]
            difference = (packed - alone).abs().max().item()
            apart.append(difference < 1e-5)
            line += f"{attention} {difference:.1e}   "
        print(line.rstrip())
sys.exit(apart != [False, False, True, True, False, False])
PYTHON
