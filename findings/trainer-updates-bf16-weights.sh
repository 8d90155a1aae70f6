#!/bin/bash
# trainer-updates-bf16-weights.sh - transformers 5: Trainer(bf16=True) keeps no float32 weights, and most small updates vanish.
#
# One would guess: bf16=True is mixed precision training, as its documentation says: computing in bfloat16, updating weights in float32.
# What happens: from_pretrained loads a model in the type of its file since version 5, bfloat16 for nearly every published one, and
# Trainer updates those very weights.  An update of less than half the distance to the next bfloat16 number is rounded away, every time
# anew: at the learning rate 1e-5 that is any weight above 0.004 or so, and all weights of the norms, which are near 1.  The setting
# bf16 makes no difference, nothing warns, and the loss falls, only less.
# Version: transformers 5.24.0, torch 2.15.0, accelerate 1.15.0.
# Why it matters: learning rates of fine-tuning, 1e-6 to 2e-5, are right in this range; transformers 4 loaded float32
# unless told otherwise.  Pass dtype=torch.float32 to from_pretrained (TRL does so where it loads the model, not where it is given one).
# Source: from_pretrained in modeling_utils.py (dtype "auto"), bf16 in training_args.py; sentence-transformers pull request 3773.
# Seen (96 updates at the rate 1e-5; share of the weights that are not what they were):
#   transformers 5.24.0 torch 2.15.0
#   from_pretrained(f), bf16=True           trains torch.bfloat16  changed  15.3 %, of norms   0.0 %   loss 4.1863 -> 4.1632
#   from_pretrained(f), bf16=False          trains torch.bfloat16  changed  15.3 %, of norms   0.0 %   loss 4.1863 -> 4.1632
#   from_pretrained(f, float32), bf16=True  trains torch.float32   changed  99.7 %, of norms 100.0 %   loss 4.1863 -> 4.0378
packages="transformers==5.24.0 torch==2.15.0 accelerate==1.15.0"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
env=${FINDINGS_ENV:-$(mktemp -d)}
[ -n "$FINDINGS_ENV" ] || trap 'rm -rf "$env"' EXIT
python3 -m venv "$env" && "$env/bin/pip" install -q $packages || { echo "skipped: cannot install $packages"; exit 77; }
cd "$env" || exit 1
TRANSFORMERS_VERBOSITY=error PYTHONWARNINGS=ignore "$env/bin/python" - <<'PYTHON'
import contextlib
import io
import sys
import tempfile
import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, default_data_collator

transformers.utils.logging.disable_progress_bar()
print("transformers", transformers.__version__, "torch", torch.__version__.split("+")[0])
texts = [[1 + (row * 7 + j) % 60 for j in range(32)] for row in range(64)]
rows = [{"input_ids": text, "labels": text} for text in texts]
folder = tempfile.TemporaryDirectory()
torch.manual_seed(0)
LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                             num_key_value_heads=4)).to(torch.bfloat16).save_pretrained(folder.name)


def loss(model):
    with torch.no_grad():
        return model(**default_data_collator(rows)).loss.item()


def train(what, bf16, **options):
    model = AutoModelForCausalLM.from_pretrained(folder.name, **options)
    before, first = {name: w.detach().clone() for name, w in model.named_parameters()}, loss(model)
    arguments = TrainingArguments(folder.name, per_device_train_batch_size=4, num_train_epochs=6, learning_rate=1e-5, bf16=bf16,
                                  lr_scheduler_type="constant", use_cpu=True, report_to=[], disable_tqdm=True, save_strategy="no")
    with contextlib.redirect_stdout(io.StringIO()):
        Trainer(model, arguments, train_dataset=rows).train()
    changed = {name: (w != before[name]).flatten() for name, w in model.named_parameters()}
    shares = [torch.cat(flags).float().mean().item() for flags in
              (list(changed.values()), [flags for name, flags in changed.items() if "norm" in name])]
    print(f"{what:40}trains {str(model.dtype):15} changed {100 * shares[0]:5.1f} %, of norms {100 * shares[1]:5.1f} %  ",
          f"loss {first:.4f} -> {loss(model):.4f}")
    return model.dtype, *shares


results = [train("from_pretrained(f), bf16=True", True), train("from_pretrained(f), bf16=False", False),
           train("from_pretrained(f, float32), bf16=True", True, dtype=torch.float32)]
lost = [dtype == torch.bfloat16 and of_all < 0.3 and of_norms == 0 for dtype, of_all, of_norms in results]
sys.exit(lost != [True, True, False] or min(results[2][1:]) < 0.99)
PYTHON
