#!/usr/bin/env python3
"""Supervised fine-tuning by Hugging Face Trainer: the same model, rows, template, threads and precision as `fathom train stage=sft`; prints one JSON line.

  bench/peers/trainer.py MODEL ROWS.jsonl [--steps 12] [--batch 8] [--dtype bf16] [--threads 2] [--lora]

Rows are messages; the template is the tokenizer's. Batches are grouped by length and padded to the longest row (train_sampling_strategy "group_by_length"),
answers alone carry loss. Time counts from the third step on, by the wall and by processor time. See sft_pairs.py.
"""
import argparse
import json
import os
import tempfile
import time

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

ap = argparse.ArgumentParser()
ap.add_argument("model")
ap.add_argument("rows")
ap.add_argument("--steps", type=int, default=12)
ap.add_argument("--batch", type=int, default=8)
ap.add_argument("--cutoff", type=int, default=512)
ap.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16")
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--lora", action="store_true")
a = ap.parse_args()
torch.set_num_threads(a.threads)
transformers.utils.logging.set_verbosity_error()
tok = AutoTokenizer.from_pretrained(a.model)
tok.pad_token = tok.pad_token or tok.eos_token
model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32)
if a.lora:
    import peft
    model = peft.get_peft_model(model, peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
WARM = 2


def example(messages):
    text = tok.apply_chat_template(messages, tokenize=False)
    head = tok.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    ids, n = tok(text, add_special_tokens=False)["input_ids"][:a.cutoff], len(tok(head, add_special_tokens=False)["input_ids"])
    return {"input_ids": ids, "labels": [-100] * min(n, len(ids)) + ids[n:], "length": len(ids)}


rows = [example(json.loads(line)["messages"]) for line in open(a.rows, encoding="utf-8")]


class Clock(TrainerCallback):
    marks = []
    real = 0

    def on_step_begin(self, args, state, control, **kw):
        if state.global_step >= WARM and not self.marks:
            self.marks.append((time.perf_counter(), time.process_time()))

    def on_step_end(self, args, state, control, **kw):
        self.last = (time.perf_counter(), time.process_time())


class Count(DataCollatorForSeq2Seq):
    batches = []

    def __call__(self, features, return_tensors=None):
        b = super().__call__(features, return_tensors)
        Count.batches.append((b["input_ids"].numel(), int(b["attention_mask"].sum())))
        return b


clock = Clock()
args = TrainingArguments(output_dir=tempfile.mkdtemp(), max_steps=a.steps, per_device_train_batch_size=a.batch, learning_rate=1e-4, bf16=a.dtype == "bf16", use_cpu=True,
                         train_sampling_strategy="group_by_length", length_column_name="length", report_to=[], save_strategy="no", logging_steps=1000, disable_tqdm=True, seed=1)
out = Trainer(model=model, args=args, train_dataset=rows, data_collator=Count(tok, padding="longest", label_pad_token_id=-100), callbacks=[clock]).train()
wall, cpu = (clock.last[i] - clock.marks[0][i] for i in (0, 1))
n = (a.steps - WARM) * a.batch
taken = Count.batches[WARM:a.steps]
print(json.dumps(dict(program="trainer", transformers=transformers.__version__, torch=torch.__version__, dtype=a.dtype, lora=a.lora, rows=n, wall_s=wall, cpu_s=cpu, rows_per_s=n / wall,
                      rows_per_cpu_s=n / cpu, tokens=sum(t[1] for t in taken), padded=sum(t[0] for t in taken), loss=out.training_loss)))
