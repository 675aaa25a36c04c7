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


def lion(decay, l1, l2, b1=0.9, b2=0.99):
    w, m = weights(), [0.0] * N
    for t in range(1, STEPS + 1):
        for i in range(N):
            g = grad(i, t) * CLIP + l2 * w[i] + l1 * sign(w[i])
            w[i] -= LR * (sign(b1 * m[i] + (1 - b1) * g) + decay * w[i])
            m[i] = b2 * m[i] + (1 - b2) * g
    return w


def matmul(a, b):
    return [[sum(x * y for x, y in zip(row, col)) for col in zip(*b)] for row in a]


def transpose(a):
    return [list(r) for r in zip(*a)]


def muon(rows, cols, decay, mu=0.95, a=3.4445, b=-4.7750, c=2.0315):
    """torch.optim.Muon with adjust_lr_fn="match_rms_adamw", in exact arithmetic instead of bf16."""
    w = [[0.5 * math.cos(i * cols + j + 1) for j in range(cols)] for i in range(rows)]
    m = [[0.0] * cols for _ in range(rows)]
    for t in range(1, STEPS + 1):
        u = [[0.0] * cols for _ in range(rows)]
        for i in range(rows):
            for j in range(cols):
                g = grad(i * cols + j, t) * CLIP
                m[i][j] = mu * m[i][j] + (1 - mu) * g
                u[i][j] = (1 - mu) * g + mu * m[i][j]
        norm = math.sqrt(sum(v * v for r in u for v in r))
        x = [[v / norm for v in r] for r in u]
        x = transpose(x) if rows > cols else x
        for _ in range(5):
            gram = matmul(x, transpose(x))
            square = matmul(gram, gram)
            poly = [[b * p + c * q for p, q in zip(r, s)] for r, s in zip(gram, square)]
            x = [[a * p + q for p, q in zip(r, s)] for r, s in zip(x, matmul(poly, x))]
        x = transpose(x) if rows > cols else x
        rate = LR * 0.2 * math.sqrt(max(rows, cols))
        w = [[p * (1 - LR * decay) - rate * q for p, q in zip(r, s)] for r, s in zip(w, x)]
    return [v for r in w for v in r]


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
        "lion": lion(0, 0, 0),
        "lion_l1_l2": lion(0.1, 0.02, 0.03),
        "muon_tall": muon(5, 3, 0.1),
        "muon_wide": muon(3, 5, 0.1),
    }
    with open(os.path.join(here, "data", "optim.txt"), "w") as f:
        for name, w in rows.items():
            f.write(name + " " + " ".join("%.17g" % x for x in w) + "\n")


if __name__ == "__main__":
    main()
