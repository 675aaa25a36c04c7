#!/usr/bin/env python3
"""Ten steps of PyTorch's AdamW, SGD and Muon, bitsandbytes' AdamW8bit and Lion and transformers' Adafactor on the CPU, written to
tests/golden/data/optim_reference.txt; the first line holds the versions.

    python3 tests/golden/make_optim_reference.py        (needs torch, transformers, bitsandbytes)
"""
import math
import os

import bitsandbytes as bnb
import torch
import transformers
from transformers.optimization import Adafactor

STEPS, LR, CLIP = 10, 0.01, 0.5


def weights(n):
    return torch.tensor([0.5 * math.cos(i + 1) for i in range(n)], dtype=torch.float64).float()


def grad(n, t):
    return torch.tensor([math.sin(0.7 * i + 0.3 * t) * (1 + t / 10) * CLIP for i in range(n)], dtype=torch.float64).float()


def run(shape, make):
    n = math.prod(shape)
    w = torch.nn.Parameter(weights(n).view(shape))
    o = make(w)
    for t in range(1, STEPS + 1):
        w.grad = grad(n, t).view(shape)
        o.step()
    return w.detach().flatten()[:40].tolist()


def factor(w):
    return Adafactor([w], lr=LR, scale_parameter=False, relative_step=False, weight_decay=0.1)


def main():
    rows = {
        "adamw_8bit": run((5000,), lambda w: bnb.optim.AdamW8bit([w], lr=LR, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)),
        "adamw": run((50,), lambda w: torch.optim.AdamW([w], lr=LR, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)),
        "sgd": run((50,), lambda w: torch.optim.SGD([w], lr=LR, momentum=0.9, nesterov=True)),
        "lion": run((50,), lambda w: bnb.optim.Lion32bit([w], lr=LR, betas=(0.9, 0.95), weight_decay=0.1)),
        "muon": run((2, 25), lambda w: torch.optim.Muon([w], lr=LR, momentum=0.95, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")),
        "adafactor_matrix": run((7, 9), factor),
        "adafactor_vector": run((50,), factor),
    }
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "data", "optim_reference.txt"), "w") as f:
        f.write("# bitsandbytes %s transformers %s torch %s\n" % (bnb.__version__, transformers.__version__, torch.__version__))
        for name, w in rows.items():
            f.write(name + " " + " ".join("%.9g" % x for x in w) + "\n")


if __name__ == "__main__":
    main()
