#!/usr/bin/env python3
"""Ten steps of each optimizer in double precision, from the formulas of PyTorch's documentation
(torch.optim.AdamW, torch.optim.SGD) with decoupled decay, written to tests/golden/data/optim.txt.

    python3 tests/golden/make_optim.py
"""
import math
import os

N, STEPS, LR, CLIP = 7, 10, 0.01, 0.5


def weights():
    return [0.5 * math.cos(i + 1) for i in range(N)]


def grad(i, t):
    return math.sin(0.7 * i + 0.3 * t) * (1 + t / 10)


def sign(x):
    return (x > 0) - (x < 0)


def adamw(decay, l1, l2, b1=0.9, b2=0.95, eps=1e-8):
    w, m, v = weights(), [0.0] * N, [0.0] * N
    for t in range(1, STEPS + 1):
        for i in range(N):
            g = grad(i, t) * CLIP + l2 * w[i] + l1 * sign(w[i])
            m[i] = b1 * m[i] + (1 - b1) * g
            v[i] = b2 * v[i] + (1 - b2) * g * g
            step = (m[i] / (1 - b1**t)) / (math.sqrt(v[i] / (1 - b2**t)) + eps)
            w[i] -= LR * (step + decay * w[i])
    return w


def sgd(decay, l1, l2, momentum, nesterov):
    w, buf = weights(), [0.0] * N
    for t in range(1, STEPS + 1):
        for i in range(N):
            g = grad(i, t) * CLIP + l2 * w[i] + l1 * sign(w[i])
            buf[i] = momentum * buf[i] + g
            d = g + momentum * buf[i] if nesterov else (buf[i] if momentum else g)
            w[i] -= LR * d + LR * decay * w[i]
    return w


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    rows = {
        "adamw": adamw(0, 0, 0),
        "adamw_decay": adamw(0.1, 0, 0),
        "adamw_l1_l2": adamw(0.1, 0.02, 0.03),
        "sgd": sgd(0, 0, 0, 0, False),
        "sgd_decay_l1_l2": sgd(0.1, 0.02, 0.03, 0, False),
        "sgd_momentum": sgd(0, 0, 0, 0.9, False),
        "sgd_nesterov_plain": sgd(0, 0, 0, 0.9, True),
        "sgd_nesterov": sgd(0.1, 0, 0.03, 0.9, True),
    }
    with open(os.path.join(here, "data", "optim.txt"), "w") as f:
        for name, w in rows.items():
            f.write(name + " " + " ".join("%.17g" % x for x in w) + "\n")


if __name__ == "__main__":
    main()
