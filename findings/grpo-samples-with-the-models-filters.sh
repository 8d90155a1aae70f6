#!/bin/bash
# grpo-samples-with-the-models-filters.sh - GRPO and RLOO sample with filters of generation_config.json that their own config does not have.
#
# One would guess: a trainer whose config says temperature 1, top_p 1, top_k 0 and min_p None draws answers from the policy itself.
# What happens: those that are numbers override the model's generation_config.json, those that are None leave its value in force, and so
# does every setting that GRPOConfig has no field for (no_repeat_ngram_size, typical_p, suppress_tokens, ...).  min_p None samples with
# the min_p that the publisher of the model recommends for chat.  min_p=0.0 turns it off.
# Version: trl 1.16.0, transformers 5.24.0, torch 2.15.0.
# Why it matters: the log-probabilities of the training step are those of the whole distribution, and the answers are not drawn from it;
# tokens below the limit are never tried, so training cannot make them likelier.  Nothing shows it: the printed config says None, and the
# old log-probabilities are computed without the filter too.  With use_vllm=True None means 0.
# Source: the generation config in grpo_trainer.py and rloo_trainer.py; _prepare_generation_config in transformers/generation/utils.py;
# trl issue 5783 and pull request 4647 (which mended the settings that are numbers).
# Seen (least probability of a sampled token, as a share of the most likely one's; generation_config.json has min_p 0.5):
#   trl 1.16.0 transformers 5.24.0 torch 2.15.0
#   GRPOTrainer   min_p None  in its config   least share 0.5069
#   GRPOTrainer   min_p 0.0   in its config   least share 0.0914
#   RLOOTrainer   min_p None  in its config   least share 0.5069
#   RLOOTrainer   min_p 0.0   in its config   least share 0.0914
packages="trl==1.16.0 transformers==5.24.0 torch==2.15.0 accelerate==1.15.0 datasets==5.2.0"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
env=${FINDINGS_ENV:-$(mktemp -d)}
[ -n "$FINDINGS_ENV" ] || trap 'rm -rf "$env"' EXIT
python3 -m venv "$env" && "$env/bin/pip" install -q $packages || { echo "skipped: cannot install $packages"; exit 77; }
cd "$env" || exit 1
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error PYTHONWARNINGS=ignore "$env/bin/python" - <<'PYTHON'
import contextlib
import io
import sys
import tempfile
import torch
import transformers
import trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

transformers.utils.logging.disable_progress_bar()
print("trl", trl.__version__, "transformers", transformers.__version__, "torch", torch.__version__.split("+")[0])
own = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(["<pad>", "</s>"] + list("abcdefghijklmnopqrstuvwxyz "))}, merges=[]))
own.decoder = decoders.Fuse()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=own, pad_token="<pad>", eos_token="</s>")
prompt = "a dog"
folder = tempfile.TemporaryDirectory()
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                                     num_attention_heads=4, pad_token_id=0, bos_token_id=1, eos_token_id=1, initializer_range=0.1))
model.generation_config.update(do_sample=True, min_p=0.5)
model.save_pretrained(folder.name)
model = AutoModelForCausalLM.from_pretrained(folder.name).eval()


def least(trainer, config, **options):
    answers = []

    def watch(completion_ids, **rest):
        answers.extend(completion_ids)
        return [float(ids[0]) for ids in completion_ids]

    arguments = config(folder.name, per_device_train_batch_size=64, num_generations=64, max_completion_length=4, max_steps=1,
                       use_cpu=True, bf16=False, report_to=[], save_strategy="no", disable_tqdm=True, **options)
    with contextlib.redirect_stdout(io.StringIO()):
        trainer(folder.name, watch, arguments, train_dataset=Dataset.from_dict({"prompt": [prompt] * 64}),
                processing_class=tokenizer).train()
    shares = []
    start = tokenizer(prompt).input_ids
    for ids in answers:
        with torch.no_grad():
            probabilities = model(torch.tensor([start + ids])).logits[0, len(start) - 1:-1].softmax(-1)
        shares += [(row[token] / row.max()).item() for row, token in zip(probabilities, ids)]
    print(f"{trainer.__name__}   min_p {str(arguments.min_p):5} in its config   least share {min(shares):.4f}")
    return min(shares)


right = True
for trainer, config in (GRPOTrainer, GRPOConfig), (RLOOTrainer, RLOOConfig):
    right &= least(trainer, config) >= 0.499 and least(trainer, config, min_p=0.0) < 0.45
sys.exit(not right)
PYTHON
