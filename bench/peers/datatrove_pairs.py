#!/usr/bin/env python3
"""Rates of Fathom's data steps beside datatrove's on the same rows, one core each, in turns.

    datatrove_pairs.py build/fathom ROWS.jsonl[.gz] [TURNS]

Rows need a column "text". datatrove's part is its own classes on texts in memory (no reading, no writing); Fathom's is
the whole command: reading, the step, sorting, writing. Times are processor time of the process. Needs datatrove, spacy
and orjson."""
import gzip
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature


def load(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as f:
        return [json.loads(line)["text"] for line in f]


def timed(fn):
    t = time.process_time()
    fn()
    return time.process_time() - t


def fathom(program, step, rows, options=()):
    with tempfile.TemporaryDirectory() as d:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([program, "data", *step, "-i", rows, "-o", os.path.join(d, "out.jsonl"), "--threads", "1",
                        "--quiet", *options], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def minhash(texts):
    m = MinhashDedupSignature("/tmp/unused", MinhashConfig())

    def run():
        for t in texts:
            s = m.get_shingles(t)
            if s.size:
                m.get_signature(s)

    m.get_shingles("warm up the tokenizer")
    return run


def signatures_only(texts):
    """datatrove's numpy part alone, without splitting words and hashing shingles."""
    m = MinhashDedupSignature("/tmp/unused", MinhashConfig())
    shingles = [m.get_shingles(t) for t in texts]

    def run():
        for s in shingles:
            if s.size:
                m.get_signature(s)

    return run


def quality(texts):
    from datatrove.pipeline.filters import (C4QualityFilter, FineWebQualityFilter, GopherQualityFilter,
                                            GopherRepetitionFilter)
    chain = [GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(filter_no_terminal_punct=False),
             FineWebQualityFilter()]
    chain[0].filter(Document(text="warm up the tokenizer", id="0"))

    def run():
        for i, t in enumerate(texts):
            d = Document(text=t, id=str(i))
            for f in chain:
                if f.filter(d) is not True:
                    break

    return run


def main():
    program, path = os.path.abspath(sys.argv[1]), sys.argv[2]
    turns = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    texts = load(path)
    size = sum(len(t.encode()) for t in texts) / 1e6
    many = 20  # Fathom's input is the rows many times over, so that its start does not count
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as big:
        for _ in range(many):
            for t in texts:
                big.write(json.dumps({"text": t}, ensure_ascii=False) + "\n")
        big.flush()
        for name, peer, step in (("minhash", minhash, ["minhash", "--action", "mark"]),
                                 ("minhash, peer's numpy part only", signatures_only, ["minhash", "--action", "mark"]),
                                 ("quality", quality, ["quality"])):
            run, ratios, rates = peer(texts), [], []
            for _ in range(turns):
                theirs = size / timed(run)
                ours = size * many / fathom(program, step, big.name)
                ratios.append(ours / theirs)
                rates.append((ours, theirs))
            print(json.dumps({"what": name, "mb": round(size, 1), "fathom_mb_per_s": [round(a, 2) for a, _ in rates],
                              "datatrove_mb_per_s": [round(b, 3) for _, b in rates],
                              "ratio_median": round(statistics.median(ratios), 1)}), flush=True)


if __name__ == "__main__":
    main()
