#!/usr/bin/env python3
"""Golden kappas for tests/unit/data/test_label.c: Cohen's of scikit-learn, Fleiss' of statsmodels. Prints C rows and the
versions that made them.
"""
import random

import sklearn
import statsmodels
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa

print(f"/* scikit-learn {sklearn.__version__}, statsmodels {statsmodels.__version__} */")
random.seed(7)
for n, labels, noise in ((12, 2, 0.3), (50, 3, 0.2), (40, 5, 0.6), (9, 4, 0.0)):
    truth = [random.randrange(labels) for _ in range(n)]

    def said():
        return [t if random.random() > noise else random.randrange(labels) for t in truth]

    raters = [said() for _ in range(4)]
    counts = [[sum(r[i] == label for r in raters) for label in range(labels)] for i in range(n)]
    text = ["".join(map(str, r)) for r in raters]
    print(f"    {{{labels}, {{{', '.join(chr(34) + t + chr(34) for t in text)}}}, "
          f"{cohen_kappa_score(raters[0], raters[1], labels=list(range(labels))):.17g}, {fleiss_kappa(counts):.17g}}},")
