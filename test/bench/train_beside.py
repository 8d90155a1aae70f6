"""train_beside.py - training steps of bench_model.c's cases beside PyTorch on the same threads: plain and compiled, in float32, and in
bfloat16 (autocast, compiled) beside a bfloat16 build.  In turn, ROUNDS times; medians.
Usage: train_beside.py THREADS ROUNDS BENCH_MODEL [BENCH_MODEL_OF_BFLOAT16].  BENCH_CASE=TEXT: only cases whose name holds the text."""
import os
import statistics
import subprocess
import sys
import time

import torch

from decoder import Decoder, adamw, update

threads, rounds = map(int, sys.argv[1:3])
builds = {"float32": sys.argv[3], **({"bfloat16": sys.argv[4]} if len(sys.argv) > 4 else {})}
CASES = {  # name: Decoder's arguments, sequences, tokens in each
    "124M 4 x 64": (dict(layers=12, channels=768, heads=12, context=1024, vocab=50257), 4, 64),
    "124M 4 x 256": (dict(layers=12, channels=768, heads=12, context=1024, vocab=50257), 4, 256),
    "6 x 384 4 x 256": (dict(layers=6, channels=384, heads=6, context=1024, vocab=50257), 4, 256),
    "4 x 128 32 x 64": (dict(layers=4, channels=128, heads=4, context=256, vocab=512, ffn=384, llama=True), 32, 64),
}
torch.set_num_threads(threads)


class Ours:
    def __init__(self, binary, name):
        self.process = subprocess.Popen([binary, str(threads), "beside", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def rate(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Theirs:
    """One model; its forward and backward plain or compiled, with or without autocast."""

    def __init__(self, shape, rows, length):
        torch.manual_seed(1)
        self.model = Decoder(**shape)
        self.optimizer = adamw(self.model, fused=True)
        x = torch.randint(shape["vocab"], (rows, length + 1))
        self.x, self.targets = x[:, :-1].contiguous(), x[:, 1:].contiguous()
        self.compiled = torch.compile(self.model)

    def step(self, compiled, bfloat16):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            loss = (self.compiled if compiled else self.model)(self.x, self.targets)
        loss.backward()
        update(self.model, self.optimizer)

    def rate(self, compiled, bfloat16):
        steps, start = 0, time.perf_counter()
        while time.perf_counter() - start < 0.3:
            self.step(compiled, bfloat16)
            steps += 1
        return steps * self.x.numel() / (time.perf_counter() - start)


def compare(name, shape, rows, length):
    theirs = Theirs(shape, rows, length)
    ours = {type: Ours(binary, name) for type, binary in builds.items()}
    runs = {("Quartet", type): run.rate for type, run in ours.items()}
    for type in builds:
        runs["PyTorch", type] = lambda bf=type == "bfloat16": theirs.rate(False, bf)
        runs["compiled", type] = lambda bf=type == "bfloat16": theirs.rate(True, bf)
    rates = {key: [] for key in runs}
    for r in range(rounds + 1):
        for key, run in runs.items():
            rate = run()
            if r > 0:  # the first compiles, and touches memory for the first time
                rates[key].append(rate)
    for run in ours.values():
        run.close()
    for type in builds:
        median = {who: statistics.median(rates[who, type]) for who in ("Quartet", "PyTorch", "compiled")}
        best = max(median["PyTorch"], median["compiled"])
        print("  %s, %s: " % (name, type) + ", ".join("%s %.0f (%.0f to %.0f)" % (who, median[who], min(rates[who, type]), max(rates[who, type]))
                                                  for who in median) + " tokens/s")
        print("* %-48s %8.2f of PyTorch %s" % ("training %s, %s" % (name, type), median["Quartet"] / best, torch.__version__), flush=True)


for name, (shape, rows, length) in CASES.items():
    if os.environ.get("BENCH_CASE", "") in name:
        compare(name, shape, rows, length)
