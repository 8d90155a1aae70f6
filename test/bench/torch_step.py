# torch_step.py - the training steps of bench_gpu.c in PyTorch: GPT-2 in bfloat16, compiled, with its flash attention and
# fused AdamW; prints tokens per second.  For gpu.sh, where PyTorch and a GPU are there.
# Arguments: 124M=ROWS 350M=ROWS ..., or "cpu": a tiny one on the CPU.
import sys, time
import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, channels, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.up, self.down = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class GPT2(nn.Module):
    def __init__(self, layers, channels, context, vocab):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab, channels), nn.Embedding(context, channels)
        self.blocks = nn.ModuleList([Block(channels, channels // 64) for _ in range(layers)])
        self.norm = nn.LayerNorm(channels)

    def forward(self, x, targets):
        h = self.tokens(x) + self.places.weight[: x.shape[1]]
        for block in self.blocks:
            h = block(h)
        logits = F.linear(self.norm(h), self.tokens.weight)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def tokens_per_second(layers, channels, context, vocab, rows, device, steps):
    torch.manual_seed(1)
    model = GPT2(layers, channels, context, vocab).to(device)
    adamw = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=device == "cuda")
    run = torch.compile(model) if device == "cuda" else model
    x = torch.randint(vocab, (rows, context + 1), device=device)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def step():
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = run(x[:, :-1], x[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad(set_to_none=True)

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
