#!/usr/bin/env python3
"""balance --method smote against imbalanced-learn's SMOTE: the same number of rows of each class, and each new row on
the line between a row and one of its 5 nearest neighbours as scikit-learn finds them; scale and outliers against
scikit-learn and numpy. Usage: test_balance.py FATHOM"""
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter

try:
    import numpy as np
    from imblearn.over_sampling import SMOTE
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import MinMaxScaler
except ImportError as e:
    print("SKIPPED:", e)
    sys.exit(0)

fathom = sys.argv[1]
rng = np.random.default_rng(5)
counts = {"a": 300, "b": 60, "c": 9}
x = np.concatenate([rng.normal(i * 2, 1 + i, (n, 3)) for i, n in enumerate(counts.values())])
y = np.array([k for k, n in counts.items() for _ in range(n)])
order = rng.permutation(len(y))
x, y = x[order], y[order]


def run(step, *options):
    with tempfile.TemporaryDirectory() as d:
        rows, out = os.path.join(d, "in.jsonl"), os.path.join(d, "out.jsonl")
        with open(rows, "w") as f:
            f.writelines(json.dumps({"p": a, "q": b, "r": c, "label": k}) + "\n" for (a, b, c), k in zip(x.tolist(), y))
        subprocess.run([fathom, "data", step, "-i", rows, "-o", out, "--quiet", *options], check=True)
        return [json.loads(r) for r in open(out)]


got = run("balance", "--method", "smote", "--numeric", "p,q,r")
_, labels = SMOTE(random_state=0).fit_resample(x, y)
assert Counter(r["label"] for r in got) == Counter(labels.tolist()), "rows of each class"
new = [r for r in got if r.get("synthetic")]
assert len(new) == len(got) - len(y)
steps = []
for label in counts:
    own = x[y == label]
    near = NearestNeighbors(n_neighbors=6).fit(own).kneighbors(own, return_distance=False)[:, 1:]
    base, other = np.repeat(own, 5, axis=0), own[near.ravel()]
    for r in (r for r in new if r["label"] == label):
        v = np.array([r["p"], r["q"], r["r"]])
        d = other - base
        u = ((v - base) * d).sum(1) / (d * d).sum(1)
        off = np.abs(base + u[:, None] * d - v).max(1)
        k = np.argmin(np.where((u >= 0) & (u < 1), off, np.inf))
        assert off[k] < 1e-9, (label, v)
        steps.append(u[k])
print("SMOTE: %d new rows on the lines of imbalanced-learn's rule, mean step %.3f" % (len(steps), np.mean(steps)))
assert 0.4 < np.mean(steps) < 0.6

got = np.array([[r["p"], r["q"], r["r"]] for r in run("scale", "--numeric", "p,q,r")])
worst = np.abs(got - MinMaxScaler().fit_transform(x)).max()
print("scale: largest difference from MinMaxScaler %.1e" % worst)
assert worst < 1e-12
for method, options in (("zscore", ["--limit", "2"]), ("iqr", []), ("percentile", ["--low", "3", "--high", "88.5"])):
    kept = {r["p"] for r in run("outliers", "--numeric", "p", "--method", method, *options)}
    v = x[:, 0]
    if method == "zscore":
        want = np.abs(v - v.mean()) <= 2 * v.std()
    elif method == "iqr":
        a, b = np.quantile(v, [0.25, 0.75])
        want = (v >= a - 1.5 * (b - a)) & (v <= b + 1.5 * (b - a))
    else:
        a, b = np.percentile(v, [3, 88.5])
        want = (v >= a) & (v <= b)
    assert kept == set(v[want].tolist()), method
    print("outliers %s: the same %d rows as numpy" % (method, len(kept)))
