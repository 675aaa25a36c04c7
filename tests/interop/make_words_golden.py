#!/usr/bin/env python3
"""Writes tests/unit/data/words/words.jsonl: texts with their words and number of sentences by spaCy's blank English
pipeline, as datatrove uses it, and MinHash signatures of datatrove. Needs datatrove and spacy."""
import importlib.metadata
import json
import os
import random

from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.utils.hashing import HashConfig
from datatrove.utils.typeshelper import Languages
from datatrove.utils.word_tokenizers import load_word_tokenizer

PIECES = """a B ab don't 's ’s n't ... .. … ' " ( ) - -- — . , ; : ! ? $ US$ 5 10 km kg ° C. F é É 中 😀 @ http://
www. com co.uk / = + * ^ ~ _ # <3 :) :-( a.m. e.g. Mr. U.S. % £ ² we'll've can not cannot Id 'cause o'clock \\ | [ ] { }
« » ± © mailto: 127.0.0.1 8.8.8.8 :80 ж Ж 。 Wed its""".split() + [" ", " ", "  ", "\n", "\t", "\u00a0"]
TEXTS = [
    "Mr. O'Neill said (in the U.S., at 5p.m.) it's 10km/h—or $3.50... Didn't he?",
    "See http://example.com/a?b=c, user@mail.co.uk; 192.168.0.1 and 8.8.8.8:80/x! and/or w/o \"quotes\".",
    "One. Two!  Three?\n\nFour... five. \"Six.\" Seven",
    "I can't; you cannot; they'd've gonna. Its well-known state-of-the-art 3-4 5*6 x--y a/b :-) <3 xD",
    "“Smart” ‘quotes’ don’t matter… 20% 5°C. 100US$ 7€ 日本語。です #tag @name C++ <space>",
    "", " ", ".", "a", "A.B.C. d.e.", "Straße.Über ÉCOLE.Fin x,y 1,000 a:b 1:b c=d", "--- ... !!! ???",
]
SIGNED = [
    "The quick brown fox jumps over the lazy dog. It was 10km away, and it didn't stop!",
    "Ünïcödé text: “quotes”, 1,234.5 numbers — and more words than five… Straße İstanbul ΟΔΟΣ 中文 mixed in.",
]


def main():
    tokenizer = load_word_tokenizer(Languages.english)
    rng = random.Random(7)
    texts = TEXTS + ["".join(rng.choice(PIECES) for _ in range(rng.randint(1, 12))) for _ in range(400)]
    here = os.path.dirname(os.path.abspath(__file__))
    folder = os.path.join(here, "..", "unit", "data", "words")
    with open(os.path.join(folder, "words.jsonl"), "w", encoding="utf-8") as f:
        for t in texts:
            row = {"text": t, "words": "\x1f".join(tokenizer.word_tokenize(t)) if t else "",
                   "sentences": str(len(tokenizer.span_tokenize(t)) or 1) if t else "1"}
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
    with open(os.path.join(folder, "signatures.jsonl"), "w", encoding="utf-8") as f:
        for t in SIGNED:
            for precision, name in ((64, "xxhash"), (32, "xxhash"), (64, "sha1"), (32, "sha1")):
                m = MinhashDedupSignature("/tmp/unused", MinhashConfig(hash_config=HashConfig(precision, name)))
                s = m.get_signature(m.get_shingles(t))
                flat = " ".join(str(v) for bucket in s for v in bucket)
                f.write(json.dumps({"text": t, "hash": f"{name}-{precision}", "signature": flat}, ensure_ascii=False) + "\n")
    with open(os.path.join(folder, "versions.txt"), "w", encoding="utf-8") as f:
        for p in ("datatrove", "spacy", "numpy", "xxhash"):
            f.write(f"{p} {importlib.metadata.version(p)}\n")


if __name__ == "__main__":
    main()
