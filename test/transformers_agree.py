"""transformers_agree.py FOLDER NAME... - compares what transformers makes of exported folders with what Quartet said."""
import glob, io, json, logging, os, sys
os.environ["HF_HUB_OFFLINE"] = "1"
import torch, transformers
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

said = io.StringIO()
transformers.logging.set_verbosity_warning()
transformers.logging.disable_progress_bar()
logging.getLogger("transformers").addHandler(logging.StreamHandler(said))
folder, names = sys.argv[1], sys.argv[2:]
passed = failed = 0


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("transformers_agree:", what)


def lines(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


def chat_ids(tokenizer, messages, prompt):
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, return_tensors="pt")
    return ids if torch.is_tensor(ids) else ids["input_ids"]


def forget():
    said.seek(0)
    said.truncate()


def quiet(what):
    check(said.getvalue() == "", f"{what}: transformers warned: {said.getvalue()!r}")
    forget()


torch.set_grad_enabled(False)
for name in [f"{name}-{stage}" for name in names for stage in ("sft", "rlhf")]:
    path = f"{folder}/hf-{name}"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    quiet(name)
    texts = [row["text"] for row in lines(f"{folder}/rows.jsonl")]
    for text, ours in zip(texts, lines(f"{folder}/{name}.logprobs")):
        # Quartet never reads special tokens out of text
        plain = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        check(plain == ours["tokens"], f"{name}: ids of {text!r}: {plain}, expected {ours['tokens']}")
        logits = model(torch.tensor([ours["tokens"]])).logits[0].double()
        logprobs = torch.log_softmax(logits, -1)
        for i, (token, want) in enumerate(zip(ours["tokens"], ours["logprobs"])):
            if i:
                got = logprobs[i - 1, token].item()
                check(abs(got - want) <= 2e-5 * (1 + abs(want)), f"{name}: log-probability {i} of {text!r}: {got}, expected {want}")
        top = logits.topk(2, -1).values
        for i, want in enumerate(ours["argmax"]):
            if top[i, 0] - top[i, 1] > 1e-3:
                check(logits[i].argmax().item() == want, f"{name}: most likely token {i} of {text!r}")
    for row in lines(f"{folder}/{name}.answers"):
        ids = chat_ids(tokenizer, row["messages"] if row.get("messages") else [{"role": "user", "content": row["prompt"]}], True)
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)[0, ids.shape[1]:]
        text = tokenizer.decode(out, skip_special_tokens=True)
        check(text == row["response"], f"{name}: answer {text!r}, expected {row['response']!r}")
    forget()
for name in names:
    path = f"{folder}/hf-{name}-rm"
    judge, tokenizer = AutoModelForSequenceClassification.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    quiet(name + " rm")
    check(judge.config.num_labels == 1, f"{name}: {judge.config.num_labels} labels")
    for row, ours in zip(lines(f"{folder}/pairs.jsonl"), lines(f"{folder}/{name}.scores")):
        ids = chat_ids(tokenizer, [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}], False)
        reward = (judge(ids).logits[0, 0].item() - judge.config.mean) / judge.config.std
        check(abs(reward - ours["reward"]) <= 1e-4 * (1 + abs(ours["reward"])), f"{name}: reward {reward}, expected {ours['reward']}")

for path in sorted(glob.glob(f"{folder}/golden-*")):
    name = os.path.basename(path)[7:]
    with open(f"{path}/config.json") as f:
        reward = "Sequence" in json.load(f)["architectures"][0]
    if not os.path.exists(f"{os.environ.get('SHARED', '../shared')}/golden/{name}/golden.json"):
        continue
    with open(f"{os.environ.get('SHARED', '../shared')}/golden/{name}/golden.json") as f:
        golden = json.load(f)
    forget()
    model = (AutoModelForSequenceClassification if reward else AutoModelForCausalLM).from_pretrained(path, dtype=torch.float32)
    quiet(name)
    for k, s in enumerate(golden.get("sequences", [])):
        if name == "mistral" and len(s["ids"]) > 5:
            continue
        got, want = model(torch.tensor([s["ids"]])).logits[0], torch.tensor(s["logits"])
        check((got - want).abs().max() <= 1e-4 * want.abs().max(), f"{name}: logits of sequence {k} differ by {(got - want).abs().max()}")
    for row, want in zip(golden.get("rows", []), golden.get("scores_alone", [])):
        model.config.pad_token_id = golden["pad_token_id"]
        got = model(torch.tensor([row])).logits[0, 0].item()
        check(abs(got - want) <= 1e-4 * (1 + abs(want)), f"{name}: score {got}, expected {want}")

print(f"check_transformers: {passed} passed, {failed} failed, 0 skipped")
sys.exit(failed > 0)
