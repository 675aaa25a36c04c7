#!/usr/bin/env python3
"""data ngram and data perplexity against ngram_reference.py, and that against KenLM's reading of the same model.
Usage: test_ngram.py FATHOM [TEXT TEST]"""
import json
import os
import subprocess
import sys
import tempfile

import ngram_reference as reference

try:
    import kenlm
except ImportError:
    kenlm = None
    print("kenlm is missing: only the formulas are compared")

fathom = sys.argv[1]
here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "unit", "data", "ngram")
text, test = sys.argv[2:4] if len(sys.argv) > 3 else (os.path.join(here, "train.txt"), os.path.join(here, "test.txt"))
lines = open(text, encoding="utf-8").read().split("\n")
rows = [" ".join(r.split()) for r in open(test, encoding="utf-8").read().split("\n") if r.strip()]
worst = 0
with tempfile.TemporaryDirectory() as d:
    path = lambda name: os.path.join(d, name)
    with open(path("rows.jsonl"), "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"text": r}) + "\n" for r in rows)
    for order, prune in ((1, [0]), (2, [0, 0]), (3, [0, 0, 1]), (5, [0] * 5), (5, [0, 0, 1, 1, 2])):
        model = reference.train(lines, order, prune)
        for f in ("m.ngram", "out.jsonl", "out.jsonl.manifest.json"):
            if os.path.exists(path(f)):
                os.unlink(path(f))
        subprocess.run([fathom, "data", "ngram", "-i", text, "-o", path("m.ngram"), "--order", str(order), "--prune",
                        ",".join(map(str, prune)), "--unit", "blank", "--hold-out", "0", "--quiet"],
                       check=True, stdout=subprocess.DEVNULL)
        subprocess.run([fathom, "data", "perplexity", "-i", path("rows.jsonl"), "-o", path("out.jsonl"), "--model",
                        path("m.ngram"), "--quiet"], check=True)
        ours = [json.loads(r)["perplexity"] for r in open(path("out.jsonl"), encoding="utf-8")]
        assert len(ours) == len(rows)
        theirs = [reference.perplexity(model, r) for r in rows]
        bad = max(abs(a - b) / b for a, b in zip(ours, theirs))
        kn = 0
        if kenlm and order > 1:  # KenLM reads no unigram models
            reference.write_arpa(model, path("m.arpa"))
            k = kenlm.Model(path("m.arpa"))
            kn = max(abs(k.perplexity(r) - b) / b for r, b in zip(rows, theirs))
        print("order %d, prune %s: %d rows, largest relative difference of perplexity %.2e (KenLM %.2e), %.1f bytes an n-gram"
              % (order, prune, len(rows), bad, kn, os.path.getsize(path("m.ngram")) / sum(map(len, model[0][1:]))))
        worst = max(worst, bad, kn)
print("worst: %.2e, allowed 1e-3" % worst)
sys.exit(worst > 1e-3)
