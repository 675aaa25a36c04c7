"""One window of training steps of a Llama-shaped model in PyTorch eager; prints one JSON line.

  python3 bench/peers/torch_train.py --shape a --dtype bf16 --seconds 5 [--default]

Shapes: a = dim 512, 8 layers, 8 heads, SwiGLU 1408, vocabulary 6400, 512 x 8; b = dim 768, 12 layers, 12 heads, SwiGLU 2048,
vocabulary 16384, 512 x 4. bf16 is autocast over fp32 weights, the usual recipe. Memory reuse in malloc, the OpenBLAS
core and thread binding are set by the caller's environment (bench/peers/train_pairs.sh); nothing here is hidden from the peer.
"""
import argparse
import json
import math
import resource
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

SHAPES = {
    "a": dict(d=512, layers=8, heads=8, ff=1408, vocab=6400, seq=512, batch=8),
    "b": dict(d=768, layers=12, heads=12, ff=2048, vocab=16384, seq=512, batch=4),
}


class RMSNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        f = x.float()
        return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + 1e-6)).type_as(x) * self.weight.type_as(x)


def rope(x, cos, sin):
    h = x.shape[-1] // 2
    turned = torch.cat((-x[..., h:], x[..., :h]), -1)
    return x * cos + turned * sin


class Block(nn.Module):
    def __init__(self, s):
        super().__init__()
        d, f = s["d"], s["ff"]
        self.heads = s["heads"]
        self.n1, self.n2 = RMSNorm(d), RMSNorm(d)
        self.q, self.k, self.v, self.o = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.gate, self.up, self.down = nn.Linear(d, f, bias=False), nn.Linear(d, f, bias=False), nn.Linear(f, d, bias=False)

    def forward(self, x, cos, sin, mask):
        b, t, d = x.shape
        n = self.n1(x)
        q, k, v = (m(n).view(b, t, self.heads, -1).transpose(1, 2) for m in (self.q, self.k, self.v))
        q, k = rope(q, cos, sin), rope(k, cos, sin)
        if hasattr(F, "scaled_dot_product_attention"):
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            w = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(q.shape[-1]) + mask
            a = torch.matmul(torch.softmax(w, -1, dtype=torch.float32).type_as(q), v)
        x = x + self.o(a.transpose(1, 2).reshape(b, t, d))
        n = self.n2(x)
        return x + self.down(F.silu(self.gate(n)) * self.up(n))


class Model(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.embed = nn.Embedding(s["vocab"], s["d"])
        self.blocks = nn.ModuleList(Block(s) for _ in range(s["layers"]))
        self.norm = RMSNorm(s["d"])
        dh = s["d"] // s["heads"]
        ang = torch.outer(torch.arange(s["seq"]).float(), 10000.0 ** (-torch.arange(0, dh, 2).float() / dh))
        ang = torch.cat((ang, ang), -1)
        self.register_buffer("cos", ang.cos()[None, None])
        self.register_buffer("sin", ang.sin()[None, None])
        self.register_buffer("mask", torch.full((s["seq"], s["seq"]), float("-inf")).triu(1)[None, None])
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, ids, targets, dtype):
        x = self.embed(ids)
        cos, sin, mask = self.cos, self.sin, self.mask
        if dtype != torch.float32:
            x, cos, sin, mask = x.to(dtype), cos.to(dtype), sin.to(dtype), mask.to(dtype)
        for b in self.blocks:
            x = b(x, cos, sin, mask)
        logits = F.linear(self.norm(x), self.embed.weight)
        return F.cross_entropy(logits.float().view(-1, logits.shape[-1]), targets.reshape(-1))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--shape", choices=SHAPES, default="a")
    ap.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
    ap.add_argument("--seconds", type=float, default=5)
    ap.add_argument("--threads", type=int, default=2)
    a = ap.parse_args()
    s = SHAPES[a.shape]
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    m = Model(s)
    n = sum(p.numel() for p in m.parameters())
    try:
        opt = torch.optim.AdamW(m.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, foreach=True)
    except TypeError:
        opt = torch.optim.AdamW(m.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1)
    bf16 = a.dtype == "bf16"
    ids = torch.randint(0, s["vocab"], (s["batch"], s["seq"] + 1))

    def step():
        opt.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = m(ids[:, :-1], ids[:, 1:], torch.bfloat16 if bf16 else torch.float32)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        opt.step()
        return loss.item()

    step()
    done, start = 0, time.perf_counter()
    while done < 3 or time.perf_counter() - start < a.seconds:
        loss = step()
        done += 1
    secs = time.perf_counter() - start
    tok = done * s["batch"] * s["seq"] / secs
    # The machine's limit in the same process: best 1024^3 product of the same dtype.
    x, y = torch.randn(1024, 1024), torch.randn(1024, 1024)
    if bf16:
        x, y = x.bfloat16(), y.bfloat16()
    best = 0
    for _ in range(40):
        t = time.perf_counter()
        torch.mm(x, y)
        best = max(best, 2 * 1024**3 / (time.perf_counter() - t))
    flop = 6 * n + 12 * s["layers"] * s["d"] * s["seq"]
    print(json.dumps(dict(program="torch", version=torch.__version__, shape=a.shape, dtype=a.dtype, tokens_per_s=tok, steps=done, loss=loss,
                          params=n, mfu=flop * tok / best, peak_flops=best, peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                          state_bytes=16 * n)))


if __name__ == "__main__":
    main()
