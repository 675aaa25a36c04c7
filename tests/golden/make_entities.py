#!/usr/bin/env python3
"""Random tag sequences with seqeval's precision, recall and F1 (default mode), written to tests/golden/data/entities.txt:
one case a line: tags said | tags wanted | precision recall f1. Sequences of one case are joined by " / ".

    python3 tests/golden/make_entities.py        (needs seqeval)
"""
import os
import random

import seqeval
from seqeval.metrics import f1_score, precision_score, recall_score

TAGS = ["O", "O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-PER", "S-LOC"]


def main():
    r = random.Random(7)
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "data", "entities.txt"), "w") as f:
        f.write("# seqeval %s\n" % getattr(seqeval, "__version__", "1.2.2"))
        for _ in range(120):
            want = [[r.choice(TAGS) for _ in range(r.randint(1, 9))] for _ in range(r.randint(1, 3))]
            said = [[t if r.random() < 0.7 else r.choice(TAGS) for t in s] for s in want]
            f.write("%s | %s | %.9f %.9f %.9f\n" % (
                " / ".join(" ".join(s) for s in said), " / ".join(" ".join(s) for s in want),
                precision_score(want, said), recall_score(want, said), f1_score(want, said)))


if __name__ == "__main__":
    main()
