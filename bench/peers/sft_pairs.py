#!/usr/bin/env python3
"""Fine-tuning figures: interleaved runs of fathom (plain pretraining, SFT, SFT with LoRA, LoRA over nf4) and Hugging Face Trainer on one model and one set of rows.

  bench/peers/sft_pairs.py FATHOM PYTHON MODEL ROWS.jsonl [--pairs 3] [--batch 8] [--steps 24] [--dtype bf16] [--no-trainer]

PYTHON has torch and transformers (trainer.py, its threads bound and its malloc tuned as in train_pairs.sh); MODEL has a chat template. A step of fathom is the mean by the wall from the third on, as the log of
the run has it, so that opening, packing and saving do not count; Trainer takes all rows once, for its first batches need not be like the rest. Nothing else should run.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

ap = argparse.ArgumentParser()
ap.add_argument("fathom")
ap.add_argument("python")
ap.add_argument("model")
ap.add_argument("rows")
ap.add_argument("--pairs", type=int, default=3)
ap.add_argument("--batch", type=int, default=8)
ap.add_argument("--steps", type=int, default=24)
ap.add_argument("--cutoff", type=int, default=512)
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16")
ap.add_argument("--no-trainer", action="store_true")
a = ap.parse_args()
tmp = tempfile.mkdtemp()
env = {**os.environ, "MALLOC_TOP_PAD_": "268435456", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_MMAP_THRESHOLD_": "17179869184", "OPENBLAS_CORETYPE": "SKYLAKEX",
       "OMP_PROC_BIND": "close", "OMP_PLACES": "cores"}
with open(a.rows, encoding="utf-8") as f, open(tmp + "/text.jsonl", "w", encoding="utf-8") as g:
    for line in f:
        g.write(json.dumps({"text": "\n".join(m["content"] for m in json.loads(line)["messages"])}) + "\n")
n_rows = sum(1 for _ in open(a.rows, encoding="utf-8"))
KINDS = {"pt": ["stage=pt", "dataset=" + tmp + "/text.jsonl", "tokenizer=" + a.model], "sft": ["stage=sft", "dataset=" + a.rows], "lora": ["stage=sft", "dataset=" + a.rows, "finetuning_type=lora"],
         "qlora": ["stage=sft", "dataset=" + a.rows, "finetuning_type=lora", "quantization_bit=4"]}


def log(kind):
    with open(f"{tmp}/{kind}/trainer_log.jsonl", encoding="utf-8") as f:
        return [r for r in map(json.loads, f) if "elapsed_seconds" in r and "loss" in r]


def step(kind):
    cmd = [a.fathom, "train", *KINDS[kind], "model_name_or_path=" + a.model, f"cutoff_len={a.cutoff}", "long_rows=cut", f"per_device_train_batch_size={a.batch}", f"max_steps={a.steps}",
           f"threads={a.threads}", f"precision={a.dtype}", "logging_steps=1", "measure_mfu=false", "report_to=none", "save_strategy=no", "overwrite_output_dir=true", f"output_dir={tmp}/{kind}"]
    r = subprocess.run(cmd, capture_output=True, text=True)
    if r.returncode:
        sys.exit(r.stderr)
    at = {row["step"]: row["elapsed_seconds"] for row in log(kind)}
    return (at[a.steps] - at[2]) / (a.steps - 2)


def windows():
    last = log("sft")[-1]
    return last["step"] * a.batch / last["epoch"]  # of an epoch


runs = {k: [] for k in (*KINDS, "trainer")}
for pair in range(a.pairs):
    for kind in KINDS:
        runs[kind].append(step(kind))
    if not a.no_trainer:
        r = subprocess.run([a.python, os.path.join(os.path.dirname(os.path.abspath(__file__)), "trainer.py"), a.model, a.rows, "--steps", str(n_rows // a.batch), "--batch", str(a.batch), "--cutoff",
                            str(a.cutoff), "--threads", str(a.threads), "--dtype", a.dtype], capture_output=True, text=True, env=env)
        if r.returncode:
            sys.exit(r.stderr)
        runs["trainer"].append(1 / json.loads(r.stdout.splitlines()[-1])["rows_per_s"])  # seconds a row
    print(json.dumps({"pair": pair + 1, **{k: round(v[-1], 4) for k, v in runs.items() if v}}), flush=True)
m = {k: statistics.median(v) for k, v in runs.items() if v}
tokens, rows = a.batch * a.cutoff, n_rows / windows() * a.batch  # of a step
print(f"pt {tokens / m['pt']:.0f} tokens/s, sft {tokens / m['sft']:.0f} ({m['pt'] / m['sft']:.2f} of pt), lora {tokens / m['lora']:.0f} ({m['sft'] / m['lora']:.2f} of full), nf4 {tokens / m['qlora']:.0f}")
if "trainer" in m:
    print(f"rows/s: sft {rows / m['sft']:.2f}, Trainer {1 / m['trainer']:.2f} ({m['trainer'] * rows / m['sft']:.2f}x)")
shutil.rmtree(tmp)
