"""sft_beside.py - fine-tuning on ragged dialogues: `sft` beside PyTorch loops on the same tokens, model and threads, in turn; medians of
tokens/s, prompts and answers counted, padding not.  Dialogues of a step: as many as sft takes.
  padded: a row a dialogue, as long as the longest of the step      packed: rows of the context, an attention mask, positions that restart
Usage: sft_beside.py DIALOGUES WORK BASE_RUN SFT TOOL_TOKENS THREADS ROUNDS, or sft_beside.py words FILE N: makes N dialogues of the words of a file."""
import json
import random
import statistics
import subprocess
import sys
import time

LAYERS, CHANNELS, HEADS, FFN, CONTEXT, VOCAB, STEP, STEPS = 4, 128, 4, 384, 256, 4096, 4096, 8


def make(file, n):
    """Answers of 4 to 100 words, most of them short; one to three turns."""
    words, chance = open(file).read().split(), random.Random(1)

    def text(length):
        at = chance.randrange(len(words) - length)
        return " ".join(words[at:at + length])

    for _ in range(n):
        turns = []
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            turns.append({"role": "user", "content": text(chance.randrange(3, 15))})
            turns.append({"role": "assistant", "content": text(min(100, int(4 + chance.expovariate(1 / 20))))})
        print(json.dumps({"messages": turns}))


if sys.argv[1] == "words":
    make(sys.argv[2], int(sys.argv[3]))
    sys.exit(0)

import torch  # noqa: E402

from decoder import Decoder, adamw, update  # noqa: E402

file, work, base, sft, tool = sys.argv[1:6]
threads, rounds = map(int, sys.argv[6:8])
torch.set_num_threads(threads)


def dialogues():
    """(ids, targets) of each as the template quartet has them: <|endoftext|> (<|user|> text <|end|> <|assistant|> text <|end|>)..."""
    all = [json.loads(line)["messages"] for line in open(file)]
    texts = "".join(json.dumps(m["content"]) + "\n" for d in all for m in d)
    said = subprocess.run([tool, work + "/hf/tokenizer.json"], input=texts, capture_output=True, text=True, check=True).stdout
    encoded = iter(json.loads(line)[0] for line in said.splitlines())
    start, user, assistant, end = VOCAB - 1, VOCAB, VOCAB + 1, VOCAB + 2
    for d in all:
        ids, taught = [start], [False]
        for m in d:
            text, answer = next(encoded), m["role"] == "assistant"
            ids += [assistant if answer else user, *text, end]
            taught += [False] + [answer] * (len(text) + 1)
        if len(ids) <= CONTEXT:
            yield ids, [id if t else -100 for id, t in zip(ids[1:] + [0], taught[1:] + [False])]


def ours():
    subprocess.run(["rm", "-rf", work + "/sft"], check=True)
    subprocess.run([sft, "--model", base, "--data", file, "--validation", "0", "--batch-tokens", str(STEP), "--micro-tokens", str(STEP),
                    "--steps", str(STEPS), "--eval-every", "0", "--sample-every", "0", "--threads", str(threads), "--out", work + "/sft"],
                   check=True, capture_output=True)
    steps = [json.loads(line) for line in open(work + "/sft/metrics.jsonl")]
    steps = [s for s in steps if "tokens_per_second" in s][2:]
    return statistics.median(s["tokens_per_second"] for s in steps), statistics.mean(s["dialogues"] for s in steps)


def padded(part):
    longest = max(len(ids) for ids, _ in part)
    return (torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in part]),
            torch.tensor([targets + [-100] * (longest - len(targets)) for _, targets in part]))


def packed(part):
    rows = []
    for d in sorted(part, key=lambda d: -len(d[0])):
        fits = [r for r in rows if sum(len(ids) for ids, _ in r) + len(d[0]) <= CONTEXT]
        max(fits, key=lambda r: sum(len(ids) for ids, _ in r)).append(d) if fits else rows.append([d])
    x, y, place, which = (torch.zeros(len(rows), CONTEXT, dtype=torch.long) for _ in range(4))
    y -= 100
    for r, row in enumerate(rows):
        at = 0
        for k, (ids, targets) in enumerate(row):
            to = at + len(ids)
            x[r, at:to], y[r, at:to], place[r, at:to], which[r, at:to] = (torch.tensor(v) for v in (ids, targets, range(len(ids)), k + 1))
            at = to
    mask = (which[:, :, None] == which[:, None, :]) & torch.ones(CONTEXT, CONTEXT, dtype=torch.bool).tril()
    return x, y, place[:, None], mask[:, None]              # a dimension for the heads


def theirs(collate, n):
    order = random.Random(2)
    model = Decoder(LAYERS, CHANNELS, HEADS, CONTEXT, VOCAB + 3, FFN, llama=True)
    optimizer, rates = adamw(model, fused=True), []
    for _ in range(STEPS):
        part = order.sample(data, n)
        rows = collate(part)
        start = time.perf_counter()
        model(*rows).backward()
        update(model, optimizer)
        rates.append(sum(len(ids) for ids, _ in part) / (time.perf_counter() - start))
    return statistics.median(rates[2:])


data = list(dialogues())
lengths = sorted(len(ids) for ids, _ in data)
print(f"{len(data)} dialogues of {lengths[0]} to {lengths[-1]} tokens, mean {statistics.mean(lengths):.0f}, median {lengths[len(lengths) // 2]}")
rates = {"sft": [], "padded": [], "packed": []}
for r in range(rounds + 1):
    rate, n = ours()
    found = {"sft": rate, "padded": theirs(padded, round(n)), "packed": theirs(packed, round(n))}
    for key in rates:
        rates[key] += [found[key]] if r else []             # the first round only warms up
median = {key: statistics.median(rates[key]) for key in rates}
print(", ".join(f"{key} {median[key]:.0f} ({min(rates[key]):.0f} to {max(rates[key]):.0f})" for key in rates) + " tokens/s")
for key in "padded", "packed":
    print(f"* sft of ragged dialogues, {threads} threads: {median['sft']:.0f} tokens/s, PyTorch {torch.__version__} {key} {median[key]:.0f}, "
          f"{median['sft'] / median[key]:.2f} times as fast", flush=True)
