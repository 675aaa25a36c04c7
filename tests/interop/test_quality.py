#!/usr/bin/env python3
"""The quality step against datatrove's filters: the same reason for every document and rule, the same text after the
chain. Usage: test_quality.py FATHOM [ROWS.jsonl[.gz] ...]

Documents are made here so that each rule meets both sides of its limit; files of JSON lines with a column "text" are
taken besides (real web pages). Every document that differs is listed; more than 0.1% of them fail the test."""
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter

try:
    from datatrove.data import Document
    from datatrove.pipeline.filters import (C4QualityFilter, FineWebQualityFilter, GopherQualityFilter,
                                            GopherRepetitionFilter)
except ImportError as e:
    print("SKIPPED:", e)
    sys.exit(0)

RULES = {
    "gopher-repetition": (lambda: GopherRepetitionFilter(), []),
    "gopher-quality": (lambda: GopherQualityFilter(), []),
    "c4": (lambda: C4QualityFilter(), ["--set", "filter_no_terminal_punct=1"]),
    "fineweb": (lambda: FineWebQualityFilter(), []),
}
SENTENCES = """The committee met on Monday, and it didn't agree with the report. We have seen that the rivers of the north are
rising; nobody knows why! Is this what you'd call a "plan"? Prices rose by 3.5% in the U.S., to $1,200 a ton... Dr. Smith
said: 'I can't be sure.' See http://example.com/a for the details. Mix 50ml of water with 2kg of flour and bake it. It's
well-known that state-of-the-art methods fail here. To be or not to be, that is the question.""".replace("\n", " ").split(". ")
LINES = ["• buy now", "- item one", "Read more...", "Home | About | Contact", "We use cookies on this site to help you.",
         "Please enable JavaScript to continue reading this page.", "See our privacy policy before you go on.", "#tag #tag #tag",
         "Lorem ipsum dolor sit amet.", "function() { return 1; }", "It was shown earlier.[12] The rest follows.[citation needed]",
         "x" * 1001 + " is long. Really.", "!!! ??? ...", "…", "1 2 3 4 5 6 7 8 9 10", "中文 句子。", "Short.", "",
         "\x85next line\u2028and another.", "the the the the the the the the", "  indented line of text, which ends well.  "]


def make(rng):
    out = []
    for _ in range(rng.choice([1, 2, 3, 5, 8, 13, 30])):
        kind = rng.random()
        if kind < 0.55:
            out.append(". ".join(rng.choice(SENTENCES) for _ in range(rng.randint(1, 4))) + rng.choice([".", "!", "", "...", '"']))
        elif kind < 0.9 or not out:
            out.append(rng.choice(LINES))
        else:
            out.append(rng.choice(out))
    return "".join(line + rng.choice(["\n", "\n\n", "\n", "\r\n", "\n\n\n"]) for line in out)


def load(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as f:
        return [json.loads(line)["text"] for line in f]


def run(fathom, texts, options):
    with tempfile.TemporaryDirectory() as d:
        rows, out = os.path.join(d, "in.jsonl"), os.path.join(d, "out.jsonl")
        with open(rows, "w", encoding="utf-8") as f:
            for i, t in enumerate(texts):
                f.write(json.dumps({"id": i, "text": t}) + "\n")
        subprocess.run([fathom, "data", "quality", "-i", rows, "-o", out, "--language", "en", "--quiet", *options],
                       check=True, stdout=subprocess.DEVNULL)
        with open(out, encoding="utf-8") as f:
            return [json.loads(line) for line in f]


def theirs(filters, text):
    d = Document(text=text, id="0")
    for f in filters:
        try:
            r = f.filter(d)
        except ZeroDivisionError:
            return "no words", None
        if r is not True:
            return r[1], None
    return None, d.text


def main():
    fathom = sys.argv[1]
    rng = random.Random(3)
    sets = {"made": [make(rng) for _ in range(3000)]}
    for path in sys.argv[2:]:
        sets[os.path.basename(path)] = load(path)
    failed = False
    for name, texts in sets.items():
        for rule, (new, options) in RULES.items():
            got = run(fathom, texts, ["--rules", rule, "--action", "mark", *options])
            f, bad, reasons = [new()], [], Counter()
            for i, t in enumerate(texts):
                want = theirs(f, t)[0]
                reasons[want] += 1
                if want != got[i]["quality"] and want != "no words":
                    bad.append((i, want, got[i]["quality"], t[:60]))
            for b in bad[:20]:
                print("  differs:", b)
            print(f"{name}: {rule}: {len(bad)} of {len(texts)} differ;", dict(reasons))
            failed = failed or len(bad) > len(texts) / 1000
        chain = [GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(filter_no_terminal_punct=False),
                 FineWebQualityFilter()]
        got = {r["id"]: r["text"] for r in run(fathom, texts, [])}
        bad = []
        for i, t in enumerate(texts):
            reason, text = theirs(chain, t)
            if text != got.get(i):
                bad.append((i, reason, t[:60]))
        for b in bad[:20]:
            print("  chain differs:", b)
        print(f"{name}: chain: {len(got)} of {len(texts)} kept, {len(bad)} differ")
        failed = failed or len(bad) > len(texts) / 1000
    sys.exit(failed)


if __name__ == "__main__":
    main()
