#!/bin/bash
# generate-samples-from-50-tokens.sh - transformers 5: a generation config that says top_k None samples from 50 tokens.
#
# One would guess: sampling at temperature 1 draws from the model's distribution when model.generation_config.top_k is None, and
# GenerationConfig(top_k=None) is the same as generate(top_k=None).
# What happens: in a config None means "not set", and what is not set becomes 50 inside generate().  As an argument of generate() None
# does mean no limit, as does top_k=0 anywhere.  The 50 can be seen nowhere before the call (transformers 4 at least printed it).
# Version: transformers 5.24.0, torch 2.15.0.
# Why it matters: answers sampled for RLHF, for rejection sampling or to estimate a KL come from a cut distribution, while the
# log-probabilities that the training step computes are those of the whole one; importance ratios and KL are then biased.
# Source: _get_default_generation_params in generation/configuration_utils.py; transformers issue 38549.
# Seen (4000 samples of one token, 1000 in the vocabulary, a model that knows nothing yet):
#   transformers 5.24.0 torch 2.15.0
#   model.generation_config.top_k: None
#   generate(do_sample=True)                                  50 different tokens
#   generate(GenerationConfig(do_sample=True, top_k=None))    50 different tokens
#   generate(do_sample=True, top_k=None)                     982 different tokens
#   generate(do_sample=True, top_k=0)                        977 different tokens
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
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

print("transformers", transformers.__version__, "torch", torch.__version__.split("+")[0])
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=1000, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                     num_attention_heads=1, num_key_value_heads=1, eos_token_id=None, pad_token_id=0)).eval()
print("model.generation_config.top_k:", model.generation_config.top_k)
prompts = torch.ones(4000, 1, dtype=torch.long)
counts = []
for call, options in {"do_sample=True": {"do_sample": True},
                      "GenerationConfig(do_sample=True, top_k=None)":
                          {"generation_config": GenerationConfig(do_sample=True, top_k=None)},
                      "do_sample=True, top_k=None": {"do_sample": True, "top_k": None},
                      "do_sample=True, top_k=0": {"do_sample": True, "top_k": 0}}.items():
    answers = model.generate(prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=1, **options)
    counts.append(len(set(answers[:, 1].tolist())))
    print(f"generate({call})".ljust(56), f"{counts[-1]:3} different tokens")
sys.exit(not (model.generation_config.top_k is None and counts[:2] == [50, 50] and min(counts[2:]) > 500))
PYTHON
