#!/bin/bash
# eval-loss-depends-on-batch-size.sh - the validation loss that transformers' Trainer reports changes with the evaluation batch size.
#
# One would guess: eval_loss is the mean over the trained tokens of the validation data, as the training loss is since 4.46, and the
# batch size of an evaluation changes only its speed and memory.
# What happens: each batch counts with its number of rows, whatever tokens they hold.  With one row per batch a text of 3 targets
# weighs as much as one of 39; with 2 rows the two are first averaged by tokens.  Nothing is random here: same model, same rows.
# Version: transformers 5.24.0, torch 2.15.0.
# Why it matters: two runs are comparable only at one per_device_eval_batch_size, number of devices and order of the rows, and e to
# the eval_loss is no perplexity of the data.  A smaller batch because memory ran short can look like a worse model.  Another
# program that divides by tokens reports the value of the first line below.
# Source: evaluation_loop in trainer.py (losses.repeat(batch_size)); transformers issue 39241.
# Seen (a model that learnt the long texts and not the short ones):
#   transformers 5.24.0 torch 2.15.0
#   loss per token               0.7148
#   eval_loss, batches of 1      4.9810
#   eval_loss, batches of 2      0.7148
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
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

print("transformers", transformers.__version__, "torch", torch.__version__.split("+")[0])
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                                     num_attention_heads=4, num_key_value_heads=4, pad_token_id=0))
texts = [[1 + (i * 7 + j * (1 + i % 2)) % 60 for j in range(4 if i % 2 else 40)] for i in range(8)]   # long, short, long, ...


def batch(rows):
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
for _ in range(60):
    model(**batch(texts[::2])).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
with torch.no_grad():
    per_token = model.eval()(**batch(texts)).loss.item()
print(f"loss per token               {per_token:.4f}")
losses = []
for rows in 1, 2:
    arguments = TrainingArguments("out", per_device_eval_batch_size=rows, report_to=[], use_cpu=True, disable_tqdm=True)
    trainer = Trainer(model, arguments, eval_dataset=texts, data_collator=batch)
    trainer.log = lambda *values: None   # it would print them rounded
    losses.append(trainer.evaluate()["eval_loss"])
    print(f"eval_loss, batches of {rows}      {losses[-1]:.4f}")
sys.exit(not (losses[0] > 2 * per_token and abs(losses[1] - per_token) < 1e-3))
PYTHON
