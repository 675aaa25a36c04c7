#!/usr/bin/env python3
"""What a model of questions and answers has to beat: the answer of the most similar training question.

    python3 bench/peers/nearest_question.py FATHOM TRAIN.jsonl TEST.jsonl [--mc TEST_mc.csv] [--question instruction] [--answer output]
        [--zh] [--threads 2]

Similarity is Jaccard's over character pairs (--zh) or lower-case words; of equal ones the first row wins. BLEU-4 and ROUGE-L are those of
`fathom score`. With --mc also the share of rows where the right choice is the one that shares most with that answer. The line
"without rows whose answer occurs in training" leaves out test rows that copying alone can answer.
"""
import argparse
import collections
import csv
import gzip
import json
import os
import subprocess
import tempfile


def rows_of(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f)) if ".csv" in path else [json.loads(line) for line in f if line.strip()]


class Index:
    def __init__(self, texts, grams):
        self.grams = grams
        self.sets = [grams(t) for t in texts]
        self.having = collections.defaultdict(list)
        for i, s in enumerate(self.sets):
            for g in s:
                self.having[g].append(i)

    def nearest(self, text):
        g = self.grams(text)
        shared = collections.Counter(i for x in g for i in self.having.get(x, ()))
        return max(shared, key=lambda i: (shared[i] / len(g | self.sets[i]), -i), default=0)


def score(fathom, hyp, ref, zh):
    with tempfile.TemporaryDirectory() as d:
        for name, lines in (("hyp", hyp), ("ref", ref)):
            with open(f"{d}/{name}", "w", encoding="utf-8") as f:
                f.writelines(" ".join(t.split()) + "\n" for t in lines)
        out = {}
        for metric, key, extra in (("bleu", "bleu", ["--tokenize", "zh" if zh else "13a"]), ("rouge", "rougeL", ["--tokenize", "char"] if zh else [])):
            r = subprocess.run([fathom, "score", "--metric", metric, "--hyp", f"{d}/hyp", "--ref", f"{d}/ref", "--json", *extra], capture_output=True, text=True, check=True)
            out[key] = json.loads(r.stdout)["metrics"][key] if "metrics" in json.loads(r.stdout) else json.loads(r.stdout)[key]
        return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("fathom")
    p.add_argument("train")
    p.add_argument("test")
    p.add_argument("--mc")
    p.add_argument("--question", default="instruction")
    p.add_argument("--answer", default="output")
    p.add_argument("--zh", action="store_true")
    a = p.parse_args()

    def grams(t):
        return {t[i:i + 2] for i in range(len(t) - 1)} if a.zh else set(t.lower().split())

    train, test = rows_of(a.train), rows_of(a.test)
    index = Index([r[a.question] for r in train], grams)
    said = [train[index.nearest(r[a.question])][a.answer] for r in test]
    print("all rows", len(test), score(os.path.abspath(a.fathom), said, [r[a.answer] for r in test], a.zh))
    known = {"".join(r[a.answer].split()) for r in train}
    new = [i for i, r in enumerate(test) if "".join(r[a.answer].split()) not in known]
    print("without rows whose answer occurs in training", len(new),
          score(os.path.abspath(a.fathom), [said[i] for i in new], [test[i][a.answer] for i in new], a.zh))
    if a.mc:
        right = 0
        choices = rows_of(a.mc)
        for r in choices:
            want = grams(train[index.nearest(r["question"])][a.answer])
            best = max("ABCD", key=lambda c: (len(want & grams(r[c])) / max(1, len(want | grams(r[c]))), -ord(c)))
            right += best == r["answer"]
        print("choices", len(choices), {"acc": right / len(choices)})


if __name__ == "__main__":
    main()
