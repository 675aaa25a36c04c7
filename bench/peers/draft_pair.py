#!/usr/bin/env python3
"""What guessing ahead gains with a trained pair: a target of 100M parameters and a draft of 26M both learn the bundled medical questions by heart (a service that
answers known questions), then the target answers them, plainly, with --draft and with --lookup, in turns.

    python3 bench/peers/draft_pair.py FATHOM OUT [--turns 3] [--rows 100] [--target-epochs 30] [--draft-epochs 60] [--threads 2]

OUT keeps the models: a second call only measures. "as trained" asks the training rows' questions, "with gaps" the same without a seventh of their words. The texts
must be the same bytes in every way. Times are by the wall and include loading.
"""
import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import time

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("fathom")
ap.add_argument("out")
ap.add_argument("--turns", type=int, default=3)
ap.add_argument("--rows", type=int, default=100)
ap.add_argument("--target-epochs", type=int, default=30)
ap.add_argument("--draft-epochs", type=int, default=60)
ap.add_argument("--threads", type=int, default=2)
a = ap.parse_args()
recipes = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "recipes")


def at(name):
    return os.path.join(a.out, name)


def fathom(*args, **more):
    return subprocess.run([a.fathom, *map(str, args)], check=True, **more)


def train(name, params, epochs, rate):
    if not os.path.exists(at(name + "/config.json")):
        fathom("train", "stage=sft", f"params={params}", "train_from_scratch=true", f"tokenizer={at('tokenizer')}", f"dataset={rows}", "cutoff_len=512", "per_device_train_batch_size=2",
               f"num_train_epochs={epochs}", f"learning_rate={rate}", "warmup_ratio=0.05", "save_strategy=no", f"output_dir={at(name)}", f"threads={a.threads}", "measure_mfu=false")


def ask(questions, *how):
    start = time.monotonic()
    r = fathom("generate", at("target"), *how, "--temperature", 0, "--max-new-tokens", 128, "--threads", a.threads, input="".join(questions).encode(), stdout=subprocess.PIPE,
               stderr=subprocess.DEVNULL)
    seconds = time.monotonic() - start
    out = [json.loads(line) for line in r.stdout.splitlines()]
    return seconds, [o["text"] for o in out], [sum(o.get(k, 0) for o in out) for k in ("n_tokens", "n_guessed", "n_accepted")]


os.makedirs(a.out, exist_ok=True)
rows = at("rows.jsonl")
with gzip.open(os.path.join(recipes, "data", "medquad.1.jsonl.gz"), "rt", encoding="utf-8") as f, open(rows, "w", encoding="utf-8") as g:
    g.writelines(list(f)[: a.rows])
if not os.path.exists(at("tokenizer/tokenizer.json")):
    fathom("tokenizer", "train", "-i", rows, "--text-template", "{question}\n{answer}", "--vocab-size", 2000, "--special", "<|user|>,<|assistant|>", "--chat-template",
           os.path.join(recipes, "medical-qa", "chat_template.jinja"), "-o", at("tokenizer"))
train("target", "100M", a.target_epochs, "5e-4")
train("draft", "26M", a.draft_epochs, "1e-3")
fathom("data", "augment", "-i", rows, "-o", at("gaps.jsonl"), "--column", "question", "--methods", "delete", "--ratio", 0.15, "--copies", 1, "--no-originals", "--overwrite", "-q")
sets = {"as trained": rows, "with gaps": at("gaps.jsonl")}
ways = {"plain": (), "draft": ("--draft", at("draft")), "lookup": ("--lookup",)}
for name, path in sets.items():
    with open(path, encoding="utf-8") as f:
        questions = [json.dumps({"prompt": f"<|user|>{json.loads(line)['question']}<|assistant|>"}) + "\n" for line in f]
    took, said, counts = {w: [] for w in ways}, {}, {}
    for _ in range(a.turns):
        for w, how in ways.items():
            seconds, texts, counts[w] = ask(questions, *how)
            took[w].append(seconds)
            if said.setdefault(name, texts) != texts:
                sys.exit(f"{w}: other texts than plainly")
    tokens = counts["plain"][0]
    print(f"{name}: {len(questions)} questions, {tokens} tokens, plainly {tokens / statistics.median(took['plain']):.0f} tokens/s", flush=True)
    for w in ("draft", "lookup"):
        gain = [p / s for p, s in zip(took["plain"], took[w])]
        n, guessed, right = counts[w]
        print(f"  {w}: {statistics.median(gain):.2f} times as fast ({min(gain):.2f} to {max(gain):.2f} in {len(gain)} turns); {guessed} guessed, {right} right ({100 * right / max(guessed, 1):.0f}%)")
