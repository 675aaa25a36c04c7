#!/usr/bin/env python3
"""Ids of published tokenizers over long real texts, against the library each is at home in.

    tokenizer_text.py FATHOM TOKENIZER... -- TEXT...

TOKENIZER: a tokenizer.json (against tokenizers), a SentencePiece .model (against sentencepiece), a .gguf (against
llama-cpp-python); .gz of each as well. TEXT: files of UTF-8, .gz as well. Every text is cut at line ends into blocks of about 2,000
characters, which both sides encode without special tokens. Exit 1 when any block differs.
"""
import gzip
import json
import os
import subprocess
import sys
import tempfile


def read(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as f:
        return f.read()


def blocks_of(text):
    block = []
    size = 0
    for line in text.split("\n"):
        block.append(line)
        size += len(line) + 1
        if size > 2000:
            yield "\n".join(block)
            block, size = [], 0
    if block:
        yield "\n".join(block)


def peer_of(path):
    if path.endswith(".json"):
        import tokenizers
        t = tokenizers.Tokenizer.from_file(path)
        return "tokenizers " + tokenizers.__version__, lambda s: t.encode(s, add_special_tokens=False).ids
    if path.endswith(".model"):
        import sentencepiece
        t = sentencepiece.SentencePieceProcessor(model_file=path)
        return "sentencepiece " + sentencepiece.__version__, t.encode
    import llama_cpp
    t = llama_cpp.Llama(path, vocab_only=True, verbose=False)
    return "llama-cpp-python " + llama_cpp.__version__, lambda s: t.tokenize(s.encode(), add_bos=False, special=False)


def main():
    fathom, rest = sys.argv[1], sys.argv[2:]
    cut = rest.index("--")
    blocks = [b for path in rest[cut + 1:] for b in blocks_of(read(path).decode("utf-8", "replace")) if b.strip()]
    lines = "".join(json.dumps({"text": b}, ensure_ascii=False) + "\n" for b in blocks).encode()
    size = sum(len(b.encode()) for b in blocks)
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in rest[:cut]:
            name = os.path.basename(path)
            if name.endswith(".gz"):
                name = name[:-3]
                with open(os.path.join(folder, name), "wb") as f:
                    f.write(read(path))
                path = os.path.join(folder, name)
            who, encode = peer_of(path)
            out = subprocess.run([fathom, "tokenizer", "encode", path], input=lines, stdout=subprocess.PIPE, check=True).stdout
            ours = [json.loads(line)["ids"] for line in out.splitlines()]
            assert len(ours) == len(blocks), (len(ours), len(blocks))
            differ = [i for i, b in enumerate(blocks) if list(encode(b)) != ours[i]]
            bad += len(differ)
            print(f"{name:36} {who:24} {size / 1e6:.1f} MB, {len(blocks)} blocks, {sum(map(len, ours))} ids, {len(differ)} blocks differ")
            for i in differ[:3]:
                theirs = list(encode(blocks[i]))
                at = next((k for k, (a, b) in enumerate(zip(ours[i], theirs)) if a != b), min(len(ours[i]), len(theirs)))
                print("   block", i, "at", at, "ours", ours[i][max(0, at - 3):at + 5], "theirs", theirs[max(0, at - 3):at + 5])
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
