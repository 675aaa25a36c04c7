#!/usr/bin/env python3
"""Perplexities of tests/unit/data/ngram/test.txt by models of train.txt, as ngram_reference.py has them:
make_ngram_golden.py > tests/unit/data/ngram/golden.txt"""
import os
import platform

import ngram_reference as reference

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "unit", "data", "ngram")
train = open(os.path.join(here, "train.txt"), encoding="utf-8").read().split("\n")
test = open(os.path.join(here, "test.txt"), encoding="utf-8").read().splitlines()
print("# python", platform.python_version())
for order, prune in ((1, [0]), (2, [0, 0]), (3, [0, 0, 1]), (5, [0, 0, 0, 0, 0]), (4, [0, 1, 1, 2])):
    model = reference.train(train, order, prune)
    print("model %d %s" % (order, ",".join(map(str, prune))))
    for n, d in enumerate(model[3], 1):
        print("order %d %.9f %.9f %.9f" % (len(model[0][n]), *d))
    for line in test:
        print("%.9g" % reference.perplexity(model, line))
