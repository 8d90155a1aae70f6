# torch_step.py - the training steps of bench_gpu.c in PyTorch: GPT-2 in bfloat16, compiled, with its flash attention and
# fused AdamW; prints tokens per second.  For gpu.sh, where PyTorch and a GPU are there.
# Arguments: 124M=ROWS 350M=ROWS ..., or "cpu": a tiny one on the CPU.
import sys, time
import torch
from decoder import Decoder, adamw, update


def tokens_per_second(layers, channels, context, vocab, rows, device, steps):
    torch.manual_seed(1)
    model = Decoder(layers, channels, channels // 64, context, vocab).to(device)
    optimizer = adamw(model, fused=device == "cuda")
    run = torch.compile(model) if device == "cuda" else model
    x = torch.randint(vocab, (rows, context + 1), device=device)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def step():
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = run(x[:, :-1], x[:, 1:])
        loss.backward()
        update(model, optimizer)

    for _ in range(3):
        step()
    wait()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return steps * rows * context / (time.perf_counter() - start)


if len(sys.argv) > 1 and sys.argv[1] == "cpu":
    print("tokens/s of a tiny model on the CPU: %.0f" % tokens_per_second(2, 64, 16, 100, 2, "cpu", 2))
    sys.exit(0)
torch.set_float32_matmul_precision("high")
shapes = {"124M": (12, 768), "350M": (24, 1024), "1.5B": (48, 1600)}
for name, rows in (argument.split("=") for argument in sys.argv[1:]):
    rows = int(rows)
    while rows > 0:
        try:
            rate = tokens_per_second(*shapes[name], 1024, 50304, rows, "cuda", 10)
            what = "PyTorch %s, GPT-2 %s, %d x 1024" % (torch.__version__, name, rows)
            print("* %-44s %8.0f tokens/s" % (what, rate), flush=True)
            break
        except torch.cuda.OutOfMemoryError:
            rows //= 2
            torch.cuda.empty_cache()
    torch.cuda.empty_cache()
