#!/usr/bin/env python3
"""Times Hugging Face tokenizers on a text file, one thread; one JSON object on stdout.

Usage: tokenizer_hf.py [--tokenizer tokenizer.json] [--vocab-size N] [--block N] [--repeat N] TEXT
Without --tokenizer one is trained on the text first. Needs: pip install tokenizers
"""
import argparse
import json
import os
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import tokenizers  # noqa: E402  (reads the environment)
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers  # noqa: E402

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")


def blocks(text, size):
    return [text[i : i + size] for i in range(0, len(text), size)]


def train(text, vocab_size):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    start = time.perf_counter()
    t.train_from_iterator(blocks(text, 100000), trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return t, time.perf_counter() - start


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--tokenizer")
    ap.add_argument("--vocab-size", type=int, default=32000)
    ap.add_argument("--block", type=int, default=4096, help="characters given to one call")
    ap.add_argument("--repeat", type=int, default=3)
    ap.add_argument("text")
    a = ap.parse_args()
    text = open(a.text, encoding="utf-8", newline="").read()
    mb = len(text.encode()) / 1e6
    out = {"peer": "tokenizers", "version": tokenizers.__version__, "threads": 1, "mb": round(mb, 3)}
    if a.tokenizer:
        t = Tokenizer.from_file(a.tokenizer)
    else:
        t, seconds = train(text, a.vocab_size)
        out["train_mb_s"] = round(mb / seconds, 3)
        out["train_s"] = round(seconds, 3)
    parts = blocks(text, a.block)
    speeds = []
    for _ in range(a.repeat):
        start = time.perf_counter()
        n = sum(len(t.encode(p, add_special_tokens=False).ids) for p in parts)
        speeds.append(mb / (time.perf_counter() - start))
    speeds.sort()
    out |= {"block": a.block, "n_tokens": n, "encode_mb_s_min": round(speeds[0], 3),
            "encode_mb_s_median": round(speeds[len(speeds) // 2], 3), "encode_mb_s_max": round(speeds[-1], 3)}
    print(json.dumps(out))


main()
