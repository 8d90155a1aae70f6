#!/bin/bash
# grpo-scores-at-other-positions.sh - GRPO and RLOO train a GPT-2 on log-probabilities that depend on the longest prompt of the batch.
#
# One would guess: the log-probability of an answer that GRPOTrainer trains on is that of the model that wrote it, whatever else is in the
# batch.
# What happens: prompts are padded on the left.  generate() numbers the positions of a row from its first token on, but the forward pass
# that scores the answers is called without position ids.  GPT-2 then counts the padding as well, so the answer to a short prompt is
# scored at positions further back.  RoPE knows distances only, and OPT counts by the mask: with those the numbers agree.
# Version: trl 1.16.0, transformers 5.24.0, torch 2.15.0.
# Why it matters: the gradient is that of another model than the one that was sampled.  The old log-probabilities have the same mistake:
# the importance ratios stay 1, the KL of RLOO is wrong on both sides, and the logs look healthy.  Group prompts of equal length, or take
# another family: GPT-2, GPT-Neo and others with learnt positions are affected, and a plain forward call of one's own in the same way.
# Source: _get_per_token_logps_and_entropies in grpo_trainer.py and rloo_trainer.py; position_ids in modeling_gpt2.py; trl issue 6800 has
# the same of its experimental trainers.
# Seen (largest difference to the log-probabilities of prompt and answer alone; dropout is off):
#   trl 1.16.0 transformers 5.24.0 torch 2.15.0
#   gpt2  generate()    0.0000
#   gpt2  GRPOTrainer   'the cat sat on the mat' 0.0000  'a dog' 3.2209
#   gpt2  RLOOTrainer   'the cat sat on the mat' 0.0000  'a dog' 3.2209
#   llama generate()    0.0000
#   llama GRPOTrainer   'the cat sat on the mat' 0.0000  'a dog' 0.0000
#   llama RLOOTrainer   'the cat sat on the mat' 0.0000  'a dog' 0.0000
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
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

transformers.utils.logging.disable_progress_bar()
print("trl", trl.__version__, "transformers", transformers.__version__, "torch", torch.__version__.split("+")[0])
own = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(["<pad>", "</s>"] + list("abcdefghijklmnopqrstuvwxyz "))}, merges=[]))
own.decoder = decoders.Fuse()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=own, pad_token="<pad>", eos_token="</s>")
prompts = ["the cat sat on the mat", "a dog"]
common = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "initializer_range": 0.2}
configs = [GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **common),
           LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, **common)]
folder = tempfile.TemporaryDirectory()


def alone(model, row):
    """log-probabilities of all next tokens at each position of one text without padding"""
    with torch.no_grad():
        return model(row[None]).logits[0].log_softmax(-1)


def generated(model):
    """largest difference of generate() with padding: log-probabilities of the first answered token"""
    batch = tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt", return_token_type_ids=False)
    logits = model.generate(**batch, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True).logits[0]
    return max((alone(model, ids[mask.bool()])[-1] - row.log_softmax(-1)).abs().max().item()
               for ids, mask, row in zip(batch["input_ids"], batch["attention_mask"], logits))


def scored(trainer_class, config_class, model):
    """{prompt: largest difference of what the trainer trains on}"""
    arguments = config_class(folder.name, per_device_train_batch_size=16, num_generations=8, max_completion_length=6, max_steps=1,
                             disable_dropout=True, use_cpu=True, bf16=False, report_to=[], save_strategy="no", disable_tqdm=True,
                             generation_kwargs={"suppress_tokens": [0, 1]})
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = trainer_class(folder.name, lambda completions, **rest: [float(len(set(text))) for text in completions], arguments,
                                train_dataset=Dataset.from_dict({"prompt": prompts * 8}), processing_class=tokenizer)
        score, seen = trainer._get_per_token_logps_and_entropies, []

        def watch(model, ids, mask, kept, *rest, **options):
            result = score(model, ids, mask, kept, *rest, **options)
            if torch.is_grad_enabled():   # the pass that is trained on
                seen.extend(zip(ids, mask.bool(), result[0].detach()))
            return result

        trainer._get_per_token_logps_and_entropies = watch
        trainer.train()
    found = {}
    for ids, mask, result in seen:
        row, length = ids[mask], len(result)
        right = alone(model, row)[-length - 1:-1].gather(1, row[-length:, None])[:, 0]
        prompt = tokenizer.decode(row[:-length])
        found[prompt] = max(found.get(prompt, 0), (right - result).abs().max().item())
    return found


right = True
for config in configs:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder.name)
    model = AutoModelForCausalLM.from_pretrained(folder.name).eval()
    most = generated(model)
    print(f"{config.model_type:5} generate()    {most:.4f}")
    right &= most < 1e-4
    for trainer, arguments in (GRPOTrainer, GRPOConfig), (RLOOTrainer, RLOOConfig):
        found = scored(trainer, arguments, model)
        print(f"{config.model_type:5} {trainer.__name__}  ", "  ".join(f"{prompt!r} {found[prompt]:.4f}" for prompt in prompts))
        right &= found[prompts[0]] < 1e-4 and (found[prompts[1]] > 0.1 if config.model_type == "gpt2" else found[prompts[1]] < 1e-4)
sys.exit(not right)
PYTHON
