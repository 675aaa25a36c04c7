#!/usr/bin/env python3
"""Times encoding with each tokenizer.json on each text: this library and Hugging Face tokenizers, one thread, interleaved;
the best of --repeat. Texts are cut into blocks; the ids are compared on the way.

Usage: tokenizer_kinds.py --lib build/libfathom.so [--repeat N] [--bytes N] --text FILE [--text FILE]... TOKENIZER.json...
`tests/interop/tokenizer_parts.py --keep FOLDER` trains tokenizers of every kind.
Needs: pip install tokenizers
"""
import argparse
import gzip
import os
import pathlib
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/interop"))

from tokenizers import Tokenizer  # noqa: E402  (reads the environment)

from tokenizer_lib import Fathom  # noqa: E402


def best(run, repeat):
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--lib", required=True)
    ap.add_argument("--text", action="append", required=True)
    ap.add_argument("--repeat", type=int, default=3)
    ap.add_argument("--bytes", type=int, default=1000000)
    ap.add_argument("tokenizer", nargs="+")
    a = ap.parse_args()
    fm = Fathom(a.lib)
    for path in a.tokenizer:
        theirs, ours = Tokenizer.from_file(path), fm.open(path)
        for name in a.text:
            data = (gzip.open(name) if name.endswith(".gz") else open(name, "rb")).read(a.bytes).decode("utf-8", "ignore")
            blocks = [data[i : i + 4096] for i in range(0, len(data), 4096)]
            raw = [b.encode() for b in blocks]
            size = sum(map(len, raw)) / 1e6
            same = all(ours.encode(b) == e.ids for b, e in zip(blocks, theirs.encode_batch(blocks, add_special_tokens=False)))
            x = y = float("inf")
            for _ in range(a.repeat):
                x = min(x, best(lambda: ours.encode_many(raw), 2))
                y = min(y, best(lambda: theirs.encode_batch_fast(blocks, add_special_tokens=False), 1))
            print(f"{pathlib.Path(path).stem:24} {pathlib.Path(name).name:24} {size / x:7.1f} MB/s, theirs {size / y:6.2f}, "
                  f"ratio {y / x:5.1f}{'' if same else ', IDS DIFFER'}", flush=True)


main()
