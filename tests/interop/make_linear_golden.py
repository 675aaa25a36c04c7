#!/usr/bin/env python3
"""Golden fits for tests/unit/data/test_domain.c: rows of hashed words, the weights that scikit-learn's
LogisticRegression gives them (with a feature that is 1 in every row for the bias, as src/data/linear.h has it) and
its sigmoid calibration. Run from the project's folder:

    python3 tests/interop/make_linear_golden.py > tests/unit/data/domain/linear.txt
"""
import gzip
import json
import math
import zlib

import numpy as np
import sklearn
from sklearn.calibration import _SigmoidCalibration
from sklearn.linear_model import LogisticRegression

FOLDS = 4


def features(text):
    """Logarithms of counts of up to 24 hashed words, of length 1, as the file will say them."""
    counts = {}
    for word in text.lower().split()[:24]:
        h = zlib.crc32(word.encode()) % 65536
        counts[h] = counts.get(h, 0) + 1
    norm = math.sqrt(sum(math.log1p(c) ** 2 for c in counts.values()))
    return {h: float(np.float32(f"{math.log1p(c) / norm:.6g}")) for h, c in counts.items()}


def main():
    medical = [json.loads(x)["answer"] for x in gzip.open("recipes/data/medquad.test.jsonl.gz", "rt")]
    novel = [x for x in open("tests/unit/data/ngram/train.txt") if len(x.split()) > 8]
    rows = [(features(t), 1, i % FOLDS) for i, t in enumerate(medical[:40])]
    rows += [(features(t), 0, i % FOLDS) for i, t in enumerate(novel[:80])]
    # Texts of the one kind among the other, so that the two cannot be told apart exactly.
    rows += [(features(t), 0, i % FOLDS) for i, t in enumerate(medical[40:])]
    names = sorted({h for f, _, _ in rows for h in f})
    column = {h: i for i, h in enumerate(names)}
    x = np.zeros((len(rows), len(names) + 1))
    x[:, -1] = 1
    for i, (f, _, _) in enumerate(rows):
        for h, v in f.items():
            x[i, column[h]] = v
    y = np.array([label for _, label, _ in rows])
    fold = np.array([f for _, _, f in rows])
    print(f"# scikit-learn {sklearn.__version__}, numpy {np.__version__}; tests/interop/make_linear_golden.py")
    for f, label, k in rows:
        print("r", label, k, " ".join(f"{h}:{v:.9g}" for h, v in f.items()))
    for cost, balanced, leave in ((1, 0, -1), (30, 1, -1), (0.1, 1, 2), (4, 1, 0)):
        use = fold != leave
        m = LogisticRegression(C=cost, class_weight="balanced" if balanced else None, fit_intercept=False, tol=1e-10,
                               solver="newton-cholesky", max_iter=1000).fit(x[use], y[use])
        w = m.coef_[0]
        print(f"f {cost} {balanced} {leave} {w[-1]:.9g}")
        for h in names[::5]:
            print(f"w {h} {w[column[h]]:.9g}")
    margin = x @ w
    sigmoid = _SigmoidCalibration().fit(margin, y)
    print("c")
    for i, p in enumerate(sigmoid.predict(margin)):
        if i % 2 == 0:
            print(f"p {i} {p:.9g}")


if __name__ == "__main__":
    main()
