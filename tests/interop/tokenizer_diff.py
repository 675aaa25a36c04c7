#!/usr/bin/env python3
"""Compares the byte-level BPE tokenizer with Hugging Face tokenizers. Any difference is a failure.

  classes   every code point against \\p{L} \\p{N} \\p{M} \\p{P} \\p{S} \\s
  splits    pieces of the four patterns on random Unicode and on the given files
  train     merges and vocabulary on the same text; with 1, 2 and 3 threads
  encode    ids of trained tokenizers (written by us, read by the library) on random text and files
  files     tokenizer.json given with --tokenizer: same ids, and again after saving it
  added     added tokens with every combination of flags

Usage: tokenizer_diff.py --lib build/libfathom.so [--seed N] [--rounds N] [--tokenizer FILE]... [TEXT FILE]...
Needs: pip install tokenizers
"""
import argparse
import ctypes
import gzip
import itertools
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from tokenizer_lib import Fathom

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATTERNS = ["gpt2", "llama3", "qwen2", "deepseek_v3", "deepseek_llm", "deepseek_coder"]
POOL = ([" "] * 8 + list("abzABZ019'\"!#$_-.\t\r\n\x0b\x00\x85\u00a0\u3000\u2028slltrevmdSLTREVMD") +
        ["\r\n", "'s", "'LL", "ſ", "中", "文", "の", "カ", "・", "ー", "\u3099", "\u309b", "〇", "é", "e\u0301", "\u0301",
         "ß", "Ж", "ع", "١", "²", "Ⅷ", "😀", "€", "\u200d", "\u200b", "\ud7ff", "\ue000", "\U000e0001", "龥", "龦", "\u3041",
         "한", "ก", "ำ", "。", "，", "ü", "<|a|>", "<|ab|>", " the", " of"])
failures = 0


def report(name, n, bad, example=""):
    global failures
    failures += bad
    print(f"{name:32} {n:9} compared, {bad} different {example}")


def random_text(rng):
    out = []
    for _ in range(rng.randint(1, 30)):
        r = rng.random()
        if r < 0.85:
            out.append(rng.choice(POOL))
        elif r < 0.95:
            out.append(chr(rng.choice([rng.randint(0, 0x2FFF), rng.randint(0x3000, 0xD7FF)])))
        else:
            out.append(chr(rng.randint(0xE000, 0x10FFFF)))
    return "".join(out)


class Splitter:
    """split.c alone, compiled here: its functions are not exported from the library."""

    class State(ctypes.Structure):
        _fields_ = [("p", ctypes.c_void_p), ("end", ctypes.c_void_p), ("seg", ctypes.c_void_p), ("kind", ctypes.c_int),
                    ("level", ctypes.c_void_p * 6)]

    def __init__(self, folder):
        so = f"{folder}/split.so"
        subprocess.run(["cc", "-O2", "-std=gnu17", "-shared", "-fPIC", f"-I{ROOT}/include", f"-I{ROOT}/src",
                        f"{ROOT}/src/text/split.c", f"{ROOT}/src/text/split_levels.c",
                        f"{ROOT}/src/text/unicode_tables.c", "-o", so], check=True)
        self.c = ctypes.CDLL(so)
        self.c.fm_splitter_next.restype = ctypes.c_size_t
        self.c.fm_split_regex.restype = ctypes.c_char_p
        n = (0x110000 + 127) // 128
        self.block = (ctypes.c_uint16 * n).in_dll(self.c, "fm_uni_block")
        self.bits = (ctypes.c_uint8 * (128 * (max(self.block) + 1))).in_dll(self.c, "fm_uni_bits")

    def char_class(self, cp):
        return self.bits[self.block[cp >> 7] * 128 + (cp & 127)]

    def regexes(self, name):
        kind = self.c.fm_split_find(name.encode())
        return [r.decode() for r in iter(map(lambda i: self.c.fm_split_regex(kind, i), itertools.count()).__next__, None)]

    def split(self, name, data):
        buf = ctypes.create_string_buffer(data, len(data))
        s, piece, out, pos = self.State(), ctypes.c_void_p(), [], 0
        self.c.fm_splitter_init(ctypes.byref(s), self.c.fm_split_find(name.encode()), buf, ctypes.c_size_t(len(data)))
        while n := self.c.fm_splitter_next(ctypes.byref(s), ctypes.byref(piece)):
            out.append(data[pos : pos + n])
            pos += n
        return out


def hf_split(splitter, name):
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r), behavior="isolated") for r in splitter.regexes(name)])


def check_classes(splitter):
    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for pattern, bit in [(r"\p{L}", 1), (r"\p{N}", 2), (r"\p{M}", 4), (r"\p{P}", 8), (r"\p{S}", 16), (r"\s", 32)]:
        s = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
        theirs = set()
        for i in range(0, len(points), 4096):
            for piece, _ in s.pre_tokenize_str("".join(map(chr, points[i : i + 4096]))):
                theirs.update(map(ord, piece))
        ours = {c for c in points if splitter.char_class(c) & bit}
        report(f"class {pattern}", len(points), len(ours ^ theirs), [hex(c) for c in sorted(ours ^ theirs)[:5]] or "")


def check_splits(splitter, texts):
    for name in PATTERNS:
        hf, bad, example = hf_split(splitter, name), 0, ""
        for t in texts:
            a, b = splitter.split(name, t.encode()), [p.encode() for p, _ in hf.pre_tokenize_str(t)]
            if a != b:
                bad, example = bad + 1, repr(t[:80])
        report(f"split {name}", len(texts), bad, example)


def hf_train(splitter, name, texts, vocab_size, special, min_frequency):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [hf_split(splitter, name), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, min_frequency=min_frequency, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return json.loads(t.to_str())["model"]


def merge_list(model):
    return [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]


def check_train(fm, splitter, corpus, texts, folder):
    special = ["<|a|>", "<|ab|>"]
    for name, size, minimum in zip(PATTERNS, (3000, 20000, 8000, 6000, 5000, 4000), (0, 2, 3, 0, 0, 2)):
        theirs = hf_train(splitter, name, corpus, size, special, minimum)
        for threads in (1, 2, 3):
            ours, _ = fm.train(corpus, size, name, special, minimum, threads)
            ours.save(f"{folder}/{name}")
            model = json.loads(pathlib.Path(f"{folder}/{name}/tokenizer.json").read_text())["model"]
            a, b = merge_list(model), merge_list(theirs)
            bad = sum(x != y for x, y in itertools.zip_longest(a, b)) + (model["vocab"] != theirs["vocab"])
            report(f"train {name} {size}, {threads} threads", len(b), bad)
        check_ids(f"encode {name}", ours, Tokenizer.from_file(f"{folder}/{name}/tokenizer.json"), texts)
        check_ids(f"encode {name}, opened", fm.open(f"{folder}/{name}"),
                  Tokenizer.from_file(f"{folder}/{name}/tokenizer.json"), texts[:2000])


def check_ids(label, ours, hf, texts, add=False):
    bad, lossy, example = 0, 0, ""
    if hf.normalizer:
        # The library's NFC knows an older Unicode than utf8proc: texts with newer marks are left out.
        texts = [t for t in texts if hf.normalizer.normalize_str(t) == unicodedata.normalize("NFC", t)]
    for t in texts:
        a, b = ours.encode(t, True, add), hf.encode(t, add_special_tokens=add).ids
        if a != b:
            bad, example = bad + 1, repr(t[:80])
        if not add and not hf.normalizer:
            lossy += ours.decode(a) != t.encode()
    report(label, len(texts), bad + lossy, example + (f" {lossy} do not decode to the text" if lossy else ""))


def check_files(fm, paths, texts, folder):
    for p in paths:
        if p.endswith(".gz"):
            data = gzip.open(p).read()
            p = f"{folder}/{pathlib.Path(p).name[:-3]}"
            pathlib.Path(p).write_bytes(data)
        ours, hf = fm.open(p), Tokenizer.from_file(p)
        name = pathlib.Path(p).name
        check_ids(f"file {name}", ours, hf, texts)
        check_ids(f"file {name}, add_special", ours, hf, texts[:1000], add=True)
        ours.save(f"{folder}/again")
        again = Tokenizer.from_file(f"{folder}/again/tokenizer.json")
        check_ids(f"file {name}, saved", ours, again, texts[:2000])


def check_added(fm, folder, rng, rounds):
    base = json.loads(pathlib.Path(f"{folder}/llama3/tokenizer.json").read_text())
    pool = ["<a>", "<ab>", "a", "ab", "the", " ", "  ", "\n", "é", "_", "中", "<", ">", "b", "."]
    bad, n, example = 0, 0, ""
    for flags in itertools.product([False, True], repeat=4):
        d = dict(base)
        top = max(base["model"]["vocab"].values()) + 1
        d["added_tokens"] = [
            dict(id=top + i, content=c, single_word=flags[0], lstrip=flags[1], rstrip=flags[2], normalized=flags[3],
                 special=i == 0) for i, c in enumerate(["<a>", "<ab>", "the"])]
        path = f"{folder}/added.json"
        pathlib.Path(path).write_text(json.dumps(d))
        ours, hf = fm.open(path), Tokenizer.from_file(path)
        for _ in range(rounds):
            t = "".join(rng.choice(pool) for _ in range(rng.randint(1, 10)))
            for special in (True, False):
                hf.encode_special_tokens = not special
                n += 1
                a, b = ours.encode(t, special), hf.encode(t).ids
                if a != b:
                    bad, example = bad + 1, f"{flags} {t!r} {a} {b}"
    report("added tokens", n, bad, example)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--lib", required=True)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--rounds", type=int, default=10000)
    ap.add_argument("--tokenizer", action="append", default=[])
    ap.add_argument("text", nargs="*")
    a = ap.parse_args()
    rng = random.Random(a.seed)
    files = a.text or [str(p) for p in sorted((ROOT / "tests/unit/text/data").glob("*.txt"))]
    corpus = []
    for f in files:
        data = (gzip.open(f) if f.endswith(".gz") else open(f, "rb")).read().decode("utf-8", "replace")
        corpus += [data[i : i + 100000] for i in range(0, len(data), 100000)]
    texts = [random_text(rng) for _ in range(a.rounds)] + corpus
    fm = Fathom(a.lib)
    with tempfile.TemporaryDirectory() as folder:
        splitter = Splitter(folder)
        check_classes(splitter)
        check_splits(splitter, texts)
        check_train(fm, splitter, corpus, texts, folder)
        check_files(fm, a.tokenizer, texts, folder)
        check_added(fm, folder, rng, max(1, a.rounds // 50))
    print("FAILED" if failures else "all equal", f"(seed {a.seed})")
    sys.exit(failures != 0)


main()
