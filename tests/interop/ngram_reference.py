"""Interpolated modified Kneser-Ney by the published formulas (Chen and Goodman 1998; Heafield et al. 2013 for pruning and
the unknown word), in plain dictionaries: the witness for data ngram and data perplexity. Units are what stands between
blanks."""
import math
from collections import defaultdict


def train(lines, order, prune):
    """prune[n - 1]: n-grams of n words seen at most so often go. Gives (p, backoff, unknown, discounts), p[n] and
    backoff[n] by tuples of n words."""
    raw = [defaultdict(int) for _ in range(order + 1)]
    for line in lines:
        w = line.split()
        if w:
            w = ["<s>"] + w + ["</s>"]
            for n in range(1, order + 1):
                for i in range(len(w) - n + 1):
                    raw[n][tuple(w[i:i + n])] += 1
    p, backoff, discounts, words = [None] * (order + 1), [{} for _ in range(order + 1)], [], 0
    for n in range(1, order + 1):
        if n == order:
            adjusted = dict(raw[n])
        else:
            before = defaultdict(set)
            for g in raw[n + 1]:
                before[g[1:]].add(g[0])
            adjusted = {g: c if g[0] == "<s>" else len(before[g]) for g, c in raw[n].items()}
        if n == 1:
            del adjusted[("<s>",)]
            words = len(adjusted) + 1
        of = [sum(a == k for a in adjusted.values()) for k in range(5)]
        d = [0.5, 1, 1.5]
        if all(of[1:]):
            y = of[1] / (of[1] + 2 * of[2])
            own = [k - (k + 1) * y * of[k + 1] / of[k] for k in (1, 2, 3)]
            d = own if all(0 <= v <= k for k, v in enumerate(own, 1)) else d
        discounts.append(d)
        kept = {g for g in adjusted if raw[n][g] > prune[n - 1]}
        total, mass = defaultdict(float), defaultdict(float)
        for g, a in adjusted.items():
            total[g[:-1]] += a
            mass[g[:-1]] += a - d[min(a, 3) - 1] if g in kept else 0
        backoff[n - 1] = {h: (total[h] - mass[h]) / total[h] for h in total}
        p[n] = {g: (adjusted[g] - d[min(adjusted[g], 3) - 1]) / total[g[:-1]] +
                backoff[n - 1][g[:-1]] * (p[n - 1][g[1:]] if n > 1 else 1 / words) for g in kept}
    return p, backoff, backoff[0][()] / words, discounts


def probability(model, context, word):
    p, backoff, unknown, _ = model
    g = context + (word,)
    if g in p[len(g)]:
        return p[len(g)][g]
    return backoff[len(context)].get(context, 1.0) * probability(model, context[1:], word) if context else unknown


def perplexity(model, line):
    order = len(model[0]) - 1
    w = ["<s>"] + line.split() + ["</s>"]
    logs = [math.log10(probability(model, tuple(w[max(0, i - order + 1):i]), w[i])) for i in range(1, len(w))]
    return 10 ** (-sum(logs) / len(logs))


def write_arpa(model, path):
    p, backoff, unknown, _ = model
    order = len(p) - 1
    with open(path, "w", encoding="utf-8") as f:
        f.write("\\data\\\n")
        for n in range(1, order + 1):
            f.write("ngram %d=%d\n" % (n, len(p[n]) + (2 if n == 1 else 0)))
        for n in range(1, order + 1):
            f.write("\n\\%d-grams:\n" % n)
            if n == 1:
                f.write("%.9g\t<unk>\n-99\t<s>\t%.9g\n" % (math.log10(unknown), math.log10(backoff[1][("<s>",)]) if order > 1 else 0))
            for g, v in p[n].items():
                b = backoff[n].get(g) if n < order else None
                f.write("%.9g\t%s%s\n" % (math.log10(v), " ".join(g), "\t%.9g" % math.log10(b) if b else ""))
        f.write("\n\\end\\\n")
