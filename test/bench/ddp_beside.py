"""ddp_beside.py - one of two processes that train GPT-2's shape with PyTorch's DistributedDataParallel over gloo; rank 0 prints tokens/s of each step.
Usage: RANK=0|1 WORLD_SIZE=2 MASTER_ADDR=... MASTER_PORT=... ddp_beside.py LAYERS CHANNELS HEADS CONTEXT VOCABULARY SEQUENCES STEPS.
SEQUENCES: of each process.  Float32, one thread, attention and AdamW by PyTorch's own fused operations."""
import os
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

layers, channels, heads, context, vocabulary, sequences, steps = map(int, sys.argv[1:8])
torch.set_num_threads(1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.up, self.down = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (part.view(B, T, heads, C // heads).transpose(1, 2) for part in self.qkv(self.norm1(x)).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(B, T, C))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.position = nn.Embedding(vocabulary, channels), nn.Embedding(context, channels)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(layers)), nn.LayerNorm(channels)

    def forward(self, tokens, targets):
        x = self.embed(tokens) + self.position(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.embed.weight)
        return F.cross_entropy(logits.view(-1, vocabulary), targets.view(-1))


dist.init_process_group("gloo")
rank, ranks = dist.get_rank(), dist.get_world_size()
torch.manual_seed(1)
model = nn.parallel.DistributedDataParallel(GPT(), gradient_as_bucket_view=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
torch.manual_seed(2 + rank)
for step in range(steps):
    data = torch.randint(vocabulary, (sequences, context + 1))
    dist.barrier()
    start = time.monotonic()
    model(data[:, :-1].contiguous(), data[:, 1:].contiguous()).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    dist.barrier()
    if rank == 0:
        print(f"{ranks * sequences * context / (time.monotonic() - start):.1f}", flush=True)
dist.destroy_process_group()
