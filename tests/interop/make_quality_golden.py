#!/usr/bin/env python3
"""Writes tests/unit/data/quality/{rules,chain}.jsonl: documents with the reasons that datatrove's filters give, at most
a few for each reason, and the text its chain leaves. Needs datatrove and spacy."""
import importlib.metadata
import json
import os
import random
from collections import Counter

import test_quality as t

LIMIT = 2  # documents for each rule and reason


def main():
    rng = random.Random(9)
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "unit", "data", "quality")
    docs = [d for d in (t.make(rng) for _ in range(20000)) if len(d) < 1500]
    prose = [" ".join(rng.choice(t.SENTENCES) + "." for _ in range(9)) for _ in range(40)]
    docs += ["\n".join(rng.sample(prose, 4)) for _ in range(200)]
    seen, rows = Counter(), []
    for rule, (new, _) in t.RULES.items():
        f = [new()]
        for d in docs:
            reason = t.theirs(f, d)[0]
            if reason != "no words" and seen[rule, reason] < LIMIT:
                seen[rule, reason] += 1
                rows.append({"rule": rule, "text": d, "quality": reason})
    with open(os.path.join(folder, "rules.jsonl"), "w", encoding="utf-8") as f:
        for r in rows:
            f.write(json.dumps(r, ensure_ascii=False) + "\n")
    chain = [t.GopherRepetitionFilter(top_n_grams=((2, 0.9),), dup_n_grams=((5, 0.9),)), t.GopherQualityFilter(),
             t.C4QualityFilter(filter_no_terminal_punct=False), t.FineWebQualityFilter(char_duplicates_ratio=0.9)]
    n = 0
    with open(os.path.join(folder, "chain.jsonl"), "w", encoding="utf-8") as f:
        for d in docs:
            reason, text = t.theirs(chain, d)
            if reason is None and text != d and n < 12:
                n += 1
                f.write(json.dumps({"text": d, "after": text}, ensure_ascii=False) + "\n")
    with open(os.path.join(folder, "versions.txt"), "w", encoding="utf-8") as f:
        for p in ("datatrove", "spacy"):
            f.write(f"{p} {importlib.metadata.version(p)}\n")
    print(len(rows), n, dict(seen))


if __name__ == "__main__":
    main()
