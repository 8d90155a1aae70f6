"""ddp_beside.py - one of two processes that train GPT-2's shape with PyTorch's DistributedDataParallel over gloo; rank 0 prints tokens/s of each step.
Usage: RANK=0|1 WORLD_SIZE=2 MASTER_ADDR=... MASTER_PORT=... ddp_beside.py LAYERS CHANNELS HEADS CONTEXT VOCABULARY SEQUENCES STEPS.
SEQUENCES: of each process.  Float32, one thread, attention and AdamW by PyTorch's own fused operations."""
import os
import sys
import time

import torch
import torch.distributed as dist
from torch import nn

from decoder import Decoder, adamw, update

layers, channels, heads, context, vocabulary, sequences, steps = map(int, sys.argv[1:8])
torch.set_num_threads(1)
dist.init_process_group("gloo")
rank, ranks = dist.get_rank(), dist.get_world_size()
torch.manual_seed(1)
model = nn.parallel.DistributedDataParallel(Decoder(layers, channels, heads, context, vocabulary), gradient_as_bucket_view=True)
optimizer = adamw(model, fused=True)
torch.manual_seed(2 + rank)
for step in range(steps):
    data = torch.randint(vocabulary, (sequences, context + 1))
    dist.barrier()
    start = time.monotonic()
    model(data[:, :-1].contiguous(), data[:, 1:].contiguous()).backward()
    update(model, optimizer)
    dist.barrier()
    if rank == 0:
        print(f"{ranks * sequences * context / (time.monotonic() - start):.1f}", flush=True)
dist.destroy_process_group()
