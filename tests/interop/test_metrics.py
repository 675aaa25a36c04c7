#!/usr/bin/env python3
"""Compares `fathom score` with sacrebleu, rouge-score and scikit-learn on files and on random texts.

  test_metrics.py FATHOM [HYP REF ...]     pairs of files with a segment a line, besides the random ones
Needs: pip install sacrebleu rouge-score scikit-learn seqeval
"""
import json
import os
import random
import subprocess
import sys
import tempfile

import rouge_score
import sacrebleu
import sklearn
from rouge_score import rouge_scorer
from sklearn.metrics import precision_recall_fscore_support

fathom = sys.argv[1]
tmp = tempfile.mkdtemp()
bad = n_checks = 0


def check(what, ours, theirs, tol):
    global bad, n_checks
    n_checks += 1
    if abs(ours - theirs) > tol:
        bad += 1
        print(f"DIFFERS {what}: {ours!r} here, {theirs!r} there")


def score(metric, hyp, refs, *flags):
    names = []
    for i, lines in enumerate([hyp, *refs]):
        names.append(f"{tmp}/{i}")
        with open(names[-1], "w", encoding="utf-8", newline="") as f:
            f.write("".join(s + "\n" for s in lines))
    out = subprocess.run([fathom, "score", "--metric", metric, "--hyp", names[0], "--ref", ",".join(names[1:]), "--json", *flags],
                         capture_output=True, text=True)
    if out.returncode:
        sys.exit(f"{out.args}: {out.returncode} {out.stderr}")
    return json.loads(out.stdout)


def compare(name, hyp, refs):
    for tok in ("13a", "zh", "char", "intl", "none"):
        for lower in (False, True):
            for smooth in ("exp", "floor", "add-k", "none"):
                want = sacrebleu.corpus_bleu(hyp, refs, tokenize=tok, lowercase=lower, smooth_method=smooth, force=True).score
                got = score("bleu", hyp, refs, "--tokenize", tok, "--smooth", smooth, *(["--lowercase"] if lower else []))["bleu"]
                check(f"{name} bleu {tok} {lower} {smooth}", got, want, 1e-6)
    kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    scorer = rouge_scorer.RougeScorer(kinds)
    rows = [scorer.score(r, h) for h, r in zip(hyp, refs[0])]
    got = score("rouge", hyp, refs[:1])
    for k in kinds:
        for part, suffix in (("fmeasure", ""), ("precision", "_precision"), ("recall", "_recall")):
            check(f"{name} {k}{suffix}", got[k + suffix], sum(getattr(r[k], part) for r in rows) / len(rows), 1e-9)


rng = random.Random(7)
pieces = ["the", "cat", "The", "U.S.", "3.14", "1,000", "a-b", "10-3", "--", "&amp;", "&quot;", "&lt;x&gt;", "<skipped>", "don't", "…", "“x”", "—", "中文", "的", "。", "，",
          "ＡＢ", "か", "€5", "x^2", "ß", "Ünïté", "é", "\u00a0", "\u3000", "(a)", "[b]", "{c}", "~", "`", "a/b", "½", "٣", "№", "K", "İ", "🙂", "𠀀", "\u2028", "\x1c", ".", "..", ",,", "",
          "the the the", "Mr. X", "e.g.,", "A.B.C.", "5%", "#tag", "@me", "http://x.y/z?q=1&r=2"]
for case in range(30):
    def text():
        return rng.choice(["", " "]) .join(rng.choice(pieces) + rng.choice(["", " ", "  "]) for _ in range(rng.randint(0, 25))).replace("\n", " ").replace("\r", " ")
    n = rng.randint(1, 8)
    hyp = [text() for _ in range(n)]
    # references share much with the hypotheses, so that counts are not all zero
    refs = [[h if rng.random() < 0.3 else " ".join(rng.sample(h.split(" "), len(h.split(" ")))) + rng.choice(pieces) for h in hyp] for _ in range(rng.randint(1, 3))]
    compare(f"random {case}", hyp, refs)

for a in range(2, len(sys.argv) - 1, 2):
    lines = [[s.rstrip("\n") for s in open(f, encoding="utf-8")] for f in sys.argv[a:a + 2]]
    compare(os.path.basename(sys.argv[a]), lines[0], [lines[1]])

for case in range(20):
    labels = [str(i) for i in range(rng.randint(1, 12))]
    truth = [rng.choice(labels) for _ in range(rng.randint(1, 60))]
    said = [t if rng.random() < 0.6 else rng.choice(labels) for t in truth]
    got = score("accuracy", said, [truth])
    check("accuracy", got["accuracy"], sum(t == s for t, s in zip(truth, said)) / len(truth), 1e-12)
    for avg in ("macro", "weighted"):
        want = precision_recall_fscore_support(truth, said, average=avg, zero_division=0)
        for part, value in zip(("precision", "recall", "f1"), want):
            check(f"{avg} {part}", got[f"{avg}_{part}"], value, 1e-12)

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import classes

for case in range(30):
    labels = [str(i) for i in range(rng.randint(2, 12))]
    truth = [rng.choice(labels) for _ in range(rng.randint(5, 60))]
    said = [t if rng.random() < 0.6 else rng.choice(labels) for t in truth]
    rows = {"accuracy": (said, truth), "entity": classes.random_tags(rng, rng.randint(1, 20)), "multilabel": classes.random_label_lists(rng, rng.randint(1, 30)),
            "regression": classes.random_numbers(rng, rng.randint(3, 40))}
    for metric, (said, truth) in rows.items():
        got = score(metric, said, [truth])
        for name, want in getattr(classes, metric)(said, truth).items():
            if want == want:
                check(f"{metric} {name}", got[name], want, 1e-9 * max(1, abs(want)))

print(f"{n_checks} comparisons, {bad} differ; sacrebleu {sacrebleu.__version__}, rouge-score, scikit-learn {sklearn.__version__}")
sys.exit(bad != 0)
