#!/bin/bash
# reward-model-reads-other-text.sh - TRL: GRPO and RLOO do not show a reward model the tokens that it was trained on.
#
# One would guess: a reward model that RewardTrainer has trained, given to GRPOTrainer as one of reward_funcs, reads an answer there as it
# did in its training: beginning token, prompt, answer, and the end token if the answer ended.
# What happens: the answer is decoded without its special tokens, and the text is encoded without adding any.  In plain text the <s> and
# </s> that RewardTrainer puts around every text are missing, and the score is read at the last letter, where it never was in training.
# In a dialogue the chat template writes an end token behind every answer: one cut off at max_completion_length looks finished.
# Version: trl 1.16.0, transformers 5.24.0, torch 2.15.0.
# Why it matters: the scores of plain texts are outside of what the reward model has learnt.  Whether an answer ended it sees in neither
# form, so it cannot teach the policy to stop.  Nothing is printed.  A reward function of one's own is given completion_ids and can build
# the tokens itself; mask_truncated_completions=True leaves answers that were cut out of the loss.
# Source: _calculate_rewards in trl/trainer/grpo_trainer.py and rloo_trainer.py, add_eos in reward_trainer.py; trl pull request 3272.
# Seen (the padding token is not the end token; GRPO and RLOO alike):
#   trl 1.16.0 transformers 5.24.0 torch 2.15.0
#   RewardTrainer trains on <s>n?yes</s>
#     GRPOTrainer  the policy wrote e</s>   the reward model reads n?e
#     GRPOTrainer  the policy wrote oee     the reward model reads n?oee
#   RewardTrainer trains on <s>?n?</s>!yes</s>
#     GRPOTrainer  the policy wrote e</s>   the reward model reads <s>?n?</s>!e</s>
#     GRPOTrainer  the policy wrote oee     the reward model reads <s>?n?</s>!oee</s>
packages="trl==1.16.0 transformers==5.24.0 torch==2.15.0 accelerate==1.15.0 datasets==5.2.0"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
env=${FINDINGS_ENV:-$(mktemp -d)}
[ -n "$FINDINGS_ENV" ] || trap 'rm -rf "$env"' EXIT
python3 -m venv "$env" && "$env/bin/pip" install -q $packages || { echo "skipped: cannot install $packages"; exit 77; }
cd "$env" || exit 1
HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 TRANSFORMERS_VERBOSITY=error PYTHONWARNINGS=ignore "$env/bin/python" - <<'PYTHON'
import contextlib
import io
import sys
import torch
import transformers
import trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, processors
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer, RewardConfig, RewardTrainer, RLOOConfig, RLOOTrainer

transformers.utils.logging.disable_progress_bar()
print("trl", trl.__version__, "transformers", transformers.__version__, "torch", torch.__version__.split("+")[0])
special = ["<pad>", "<s>", "</s>"]
own = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(special + list("?!yesno"))}, merges=[]))
own.decoder = decoders.Fuse()
own.add_special_tokens(special)
own.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
tokenizer = PreTrainedTokenizerFast(tokenizer_object=own, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
tokenizer.chat_template = ("<s>{% for m in messages %}{{ '?' if m.role == 'user' else '!' }}{{ m.content }}</s>{% endfor %}"
                           "{% if add_generation_prompt %}!{% endif %}")
size = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1,
        "num_key_value_heads": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
torch.manual_seed(0)
LlamaForCausalLM(LlamaConfig(**size)).save_pretrained("policy")
judge = LlamaForSequenceClassification(LlamaConfig(num_labels=1, **size))
options = {"report_to": [], "use_cpu": True, "bf16": False, "max_steps": 1, "save_strategy": "no", "disable_tqdm": True}


def text(ids):
    return "".join(tokenizer.convert_ids_to_tokens(ids))


def trained_on(row):
    data = Dataset.from_dict({key: [value] for key, value in row.items()})
    return text(RewardTrainer(judge, RewardConfig("out", **options), train_dataset=data,
                              processing_class=tokenizer).train_dataset[0]["chosen_ids"])


def scored(trainer, config, prompt):
    """{what the policy wrote: what the reward model read}"""
    read, written = [], []
    hook = judge.register_forward_pre_hook(
        lambda module, args, given: read.extend(text(i[m == 1]) for i, m in zip(given["input_ids"], given["attention_mask"])),
        with_kwargs=True)

    def watch(prompts, completions, completion_ids, **rest):
        written.extend(map(text, completion_ids))
        return [0.0] * len(completions)

    arguments = config("out", per_device_train_batch_size=16, num_generations=16, max_completion_length=3,
                       generation_kwargs={"suppress_tokens": [0, 1]}, **options)
    data = Dataset.from_dict({"prompt": [prompt] * 16})
    with contextlib.redirect_stdout(io.StringIO()):
        trainer("policy", [judge, watch], arguments, train_dataset=data, processing_class=tokenizer,
                reward_processing_classes=[tokenizer, None]).train()
    hook.remove()
    return dict(zip(written, read))


right = True
plain = {"prompt": "n?", "chosen": "yes", "rejected": "no"}
chat = {key: [{"role": "user" if key == "prompt" else "assistant", "content": value}] for key, value in plain.items()}
for row, before, after in (plain, "n?", ""), (chat, "<s>?n?</s>!", "</s>"):
    example = trained_on(row)
    print("RewardTrainer trains on", example)
    right &= example == ("<s>n?yes</s>" if row is plain else "<s>?n?</s>!yes</s>")
    for trainer, config in (GRPOTrainer, GRPOConfig), (RLOOTrainer, RLOOConfig):
        pairs = scored(trainer, config, row["prompt"])
        ended = [answer for answer in pairs if answer.endswith("</s>") and answer != "</s>"]
        cut = [answer for answer in pairs if not answer.endswith("</s>")]
        for answer in ended[0], cut[0]:
            print(f"  {trainer.__name__:12} the policy wrote {answer:7} the reward model reads {pairs[answer]}")
        right &= all(pairs[answer] == before + answer.removesuffix("</s>") + after for answer in ended + cut)
sys.exit(not right)
PYTHON
