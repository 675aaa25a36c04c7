#!/usr/bin/env python3
"""Makes tests/unit/eval/data/metrics.jsonl: texts and the figures that sacrebleu, rouge-score, scikit-learn, seqeval and scipy give for them.

Needs: pip install sacrebleu rouge-score scikit-learn seqeval (which brings scipy)
"""
import json
import random
import sys

import sacrebleu
import sklearn
from rouge_score import rouge_scorer
from sklearn.metrics import precision_recall_fscore_support

out = open(sys.argv[1] if len(sys.argv) > 1 else "tests/unit/eval/data/metrics.jsonl", "w", encoding="utf-8")


def put(**row):
    out.write(json.dumps(row, ensure_ascii=False) + "\n")


put(versions={"sacrebleu": sacrebleu.__version__, "scikit-learn": sklearn.__version__, "rouge-score": "0.1.2"})
pairs = [
    (["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."],
     [["The dog bit the man.", "It was not unexpected.", "The man bit him first."], ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."]]),
    (["糖尿病患者应控制饮食，每天运动30分钟。", "血压：120/80 mmHg，正常。"], [["糖尿病人要控制饮食，每天锻炼30分钟以上。", "血压为120/80mmHg，属于正常范围。"]]),
    (["Prices rose 3.5% -- to $1,200.50 (approx.) &amp; fell; see http://a.b/c?d=1", "x&lt;y&gt;z <skipped>10-3 a-b"],
     [["Prices rose 3.5 % to $ 1,200.50 (about) & fell; see http://a.b/c", "x<y>z 10 - 3 a-b"]]),
    (["", "a"], [["b", "a"]]),
    (["ΟΔΟΣ İstanbul K ½ № 🙂 e\u0301", "one two three four five"], [["οδος istanbul k ½ № 🙂 é", "one two four three five"]]),
]
rng = random.Random(3)
words = "the a cat sat on mat 中 文 字 。 , . 1.5 it's U.S. -".split()
for _ in range(6):
    hyp = [" ".join(rng.choices(words, k=rng.randint(1, 14))) for _ in range(3)]
    pairs.append((hyp, [[" ".join(rng.sample(h.split(), len(h.split())) + rng.choices(words, k=2)) for h in hyp] for _ in range(2)]))
for hyp, refs in pairs:
    for tok in ("13a", "zh", "char", "intl", "none"):
        b = sacrebleu.corpus_bleu(hyp, refs, tokenize=tok, lowercase=tok == "intl", force=True)
        put(metric="bleu", tokenize=tok, lowercase=tok == "intl", hyp=hyp, refs=refs,
            want={"bleu": b.score, "brevity_penalty": b.bp, "hyp_len": b.sys_len, "ref_len": b.ref_len, **{f"precision_{i + 1}": p for i, p in enumerate(b.precisions)}})
    for smooth in ("floor", "add-k", "none"):
        put(metric="bleu", tokenize="13a", smooth=smooth, hyp=hyp, refs=refs, want={"bleu": sacrebleu.corpus_bleu(hyp, refs, smooth_method=smooth, force=True).score})
    kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    rows = [rouge_scorer.RougeScorer(kinds).score(r, h) for h, r in zip(hyp, refs[0])]
    put(metric="rouge", tokenize="default", hyp=hyp, refs=refs[:1], want={k: sum(r[k].fmeasure for r in rows) / len(rows) for k in kinds})
multi = (["the cat sat.\nthe dog ran away\n\nend"], ["a cat sat\nthe dog ran\nthe end of the cat"])
r = rouge_scorer.RougeScorer(["rougeLsum"]).score(multi[1][0], multi[0][0])["rougeLsum"]
put(metric="rouge", tokenize="default", hyp=multi[0], refs=[multi[1]], want={"rougeLsum": r.fmeasure, "rougeLsum_precision": r.precision, "rougeLsum_recall": r.recall})
for _ in range(4):
    truth = [rng.choice("0 1 2 猫 dog 10".split()) for _ in range(25)]
    said = [t if rng.random() < 0.6 else rng.choice("0 1 2 猫 fish".split()) for t in truth]
    want = {"accuracy": sum(a == b for a, b in zip(truth, said)) / 25}
    for avg in ("macro", "weighted"):
        for part, v in zip(("precision", "recall", "f1"), precision_recall_fscore_support(truth, said, average=avg, zero_division=0)):
            want[f"{avg}_{part}"] = v
    put(metric="accuracy", tokenize="default", hyp=said, refs=[truth], want=want)

import classes  # the figures of labels, tags and numbers, shared with test_metrics.py

for _ in range(4):
    truth = [rng.choice("0 1 2 10 cat".split()) for _ in range(30)]
    said = [t if rng.random() < 0.6 else rng.choice("0 1 2 7".split()) for t in truth]
    put(metric="accuracy", tokenize="default", hyp=said, refs=[truth], want=classes.accuracy(said, truth))
for _ in range(8):
    said, truth = classes.random_tags(rng, 6)
    put(metric="entity", tokenize="default", hyp=said, refs=[truth], want=classes.entity(said, truth))
for _ in range(4):
    said, truth = classes.random_label_lists(rng, 12)
    put(metric="multilabel", tokenize="default", hyp=said, refs=[truth], want=classes.multilabel(said, truth))
for _ in range(4):
    said, truth = classes.random_numbers(rng, 20)
    put(metric="regression", tokenize="default", hyp=said, refs=[truth], want=classes.regression(said, truth))
