"""decoder.py - GPT-2 and a small llama in plain PyTorch, with its fused attention and AdamW: what benchmarks run beside ours."""
import torch
import torch.nn as nn
import torch.nn.functional as F


def turned(x, cos, sin):
    """Rotary positions: halves of a head as pairs."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


class Block(nn.Module):
    def __init__(self, channels, heads, ffn, llama):
        super().__init__()
        norm = nn.RMSNorm if llama else nn.LayerNorm
        self.heads, self.llama = heads, llama
        self.norm1, self.norm2 = norm(channels, eps=1e-5), norm(channels, eps=1e-5)
        self.qkv, self.out = nn.Linear(channels, 3 * channels, not llama), nn.Linear(channels, channels, not llama)
        self.up = nn.Linear(channels, 2 * ffn if llama else ffn, not llama)
        self.down = nn.Linear(ffn, channels, not llama)

    def forward(self, x, cos, sin, mask):
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        if self.llama:
            q, k = turned(q, cos, sin), turned(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        h = self.up(self.norm2(x))
        if self.llama:
            gate, up = h.chunk(2, dim=-1)
            return x + self.down(F.silu(gate) * up)
        return x + self.down(F.gelu(h, approximate="tanh"))


class Decoder(nn.Module):
    """Mean cross-entropy of targets but -100; the output is tied to the embedding.  GPT-2: learned positions; llama: rotary.
    place, mask: of tokens in rows of several sequences."""

    def __init__(self, layers, channels, heads, context, vocab, ffn=None, llama=False):
        super().__init__()
        self.tokens = nn.Embedding(vocab, channels)
        self.places = None if llama else nn.Embedding(context, channels)
        self.blocks = nn.ModuleList([Block(channels, heads, ffn or 4 * channels, llama) for _ in range(layers)])
        self.norm = nn.RMSNorm(channels, eps=1e-5) if llama else nn.LayerNorm(channels)
        half = channels // heads // 2
        angle = torch.arange(context)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, x, targets, place=None, mask=None):
        if place is None:
            place = slice(x.shape[1])
        h = self.tokens(x)
        if self.places is not None:
            h = h + self.places.weight[place]
        for block in self.blocks:
            h = block(h, self.cos[place], self.sin[place], mask)
        return F.cross_entropy(F.linear(self.norm(h), self.tokens.weight).float().flatten(0, 1), targets.flatten())


def adamw(model, **more):
    return torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, **more)


def update(model, optimizer):
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
