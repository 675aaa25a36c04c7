#!/usr/bin/env python3
"""Adapters both ways: one that the peft library made gives the same logits here, one that `fathom train` made gives the same logits there, and
`fathom merge` gives what peft's merge gives.

  test_adapter.py FATHOM
Needs: pip install torch transformers peft
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import peft
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from tokenizers import Tokenizer, models, pre_tokenizers

fathom = sys.argv[1]
tmp = tempfile.mkdtemp()
torch.manual_seed(5)
base = tmp + "/base"
cfg = LlamaConfig(vocab_size=300, hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                  max_position_embeddings=128, tie_word_embeddings=False)
model = LlamaForCausalLM(cfg).eval()
model.save_pretrained(base)
tok = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
PreTrainedTokenizerFast(tokenizer_object=tok, eos_token="<eos>").save_pretrained(base)
ids = torch.randint(0, 256, (2, 40))


def ours(folder, adapter=None):
    rows = "".join(json.dumps({"ids": r.tolist()}) + "\n" for r in ids)
    subprocess.run([fathom, "logits", folder, "--dtype", "f32", "-o", tmp + "/x.npy", *(["--adapter", adapter] if adapter else [])], input=rows, text=True, check=True)
    return np.load(tmp + "/x.npy")


def theirs(m):
    with torch.no_grad():
        return m(ids).logits.numpy()


bad = 0


def check(what, a, b, tol=2e-5):
    global bad
    d = float(np.abs(a - b).max() / np.abs(b).max())
    print(f"{what}: largest difference over largest logit {d:.2e}")
    bad += not d <= tol


check("base", ours(base), theirs(model))
for name, kw in {"lora": {}, "rslora": dict(use_rslora=True, target_modules=["q_proj", "down_proj"]), "ranks": dict(rank_pattern={"v_proj": 3}), "dora": dict(use_dora=True),
                 "whole": dict(modules_to_save=["lm_head", "embed_tokens", "norm"]), "all": dict(use_dora=True, use_rslora=True, modules_to_save=["lm_head"])}.items():
    m = peft.get_peft_model(LlamaForCausalLM.from_pretrained(base), peft.LoraConfig(**{**dict(r=5, lora_alpha=13, target_modules=["q_proj", "v_proj", "o_proj", "gate_proj"]), **kw})).eval()
    with torch.no_grad():
        for n, p in m.named_parameters():
            if "lora_B" in n:
                p.normal_(0, 0.2)
            if "magnitude" in n or "modules_to_save" in n:
                p.mul_(1 + 0.3 * torch.rand_like(p))
    folder = f"{tmp}/{name}"
    m.save_pretrained(folder)
    want = theirs(m)
    assert np.abs(want - theirs(model)).max() > 0.05
    check(f"peft {name} here", ours(base, folder), want)
    subprocess.run([fathom, "merge", base, folder, folder + "-merged", "--dtype", "f32"], check=True, stdout=subprocess.DEVNULL)
    check(f"peft {name} merged here", ours(folder + "-merged"), theirs(m.merge_and_unload()))
for kw in (dict(bias="all"), dict(alpha_pattern={"q_proj": 3})):
    m = peft.get_peft_model(LlamaForCausalLM.from_pretrained(base), peft.LoraConfig(r=4, target_modules=["q_proj"], **kw))
    m.save_pretrained(tmp + "/no")
    r = subprocess.run([fathom, "generate", base, "--adapter", tmp + "/no", "--prompt", "a"], capture_output=True, text=True)
    print(kw, "->", r.stderr.splitlines()[0] if r.stderr else r)
    bad += r.returncode == 0 or list(kw)[0] not in r.stderr

with open(tmp + "/text.txt", "w") as f:
    f.write("the quick brown fox jumps over the lazy dog. " * 400)
for name, keys in {"lora": [], "dora": ["use_dora=true"], "whole": ["use_dora=true", "modules_to_save=lm_head,embed_tokens", "lora_target=layers.*.mlp.*,q_proj"]}.items():
    own = f"{tmp}/own-{name}"
    subprocess.run([fathom, "train", "stage=pt", "finetuning_type=lora", "lora_rank=4", "model_name_or_path=" + base, "tokenizer=" + base, "dataset=" + tmp + "/text.txt", "cutoff_len=64",
                    "per_device_train_batch_size=2", "max_steps=6", "learning_rate=0.02", "precision=fp32", "output_dir=" + own, *keys], check=True, capture_output=True)
    m = peft.PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), own).eval()
    want = theirs(m)
    assert np.abs(want - theirs(model)).max() > 0.01
    check(f"own {name} there", ours(base, own), want)

# A table tied to the head: both are written, PEFT loads the pair.
cfg.tie_word_embeddings = True
model = LlamaForCausalLM(cfg).eval()
shutil.copytree(base, tmp + "/tied")
model.save_pretrained(tmp + "/tied")
subprocess.run([fathom, "train", "stage=pt", "finetuning_type=lora", "lora_rank=4", "model_name_or_path=" + tmp + "/tied", "tokenizer=" + base, "dataset=" + tmp + "/text.txt", "cutoff_len=64",
                "per_device_train_batch_size=2", "max_steps=6", "learning_rate=0.02", "precision=fp32", "output_dir=" + tmp + "/own-tied", "modules_to_save=embed_tokens"], check=True, capture_output=True)
want = theirs(peft.PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(tmp + "/tied"), tmp + "/own-tied").eval())
assert np.abs(want - theirs(model)).max() > 0.01
check("own tied there", ours(tmp + "/tied", tmp + "/own-tied"), want)
# Heads beside adapters: the base is a language model, the folder makes a classifier or a tagger of it.
words = ["fox", "dog", "cat", "owl"]
with open(tmp + "/cls.jsonl", "w") as f:
    for i in range(200):
        f.write(json.dumps({"text": f"the {words[i % 4]} sees {words[i // 3 % 4]}", "label": words[i % 4]}) + "\n")
with open(tmp + "/reg.jsonl", "w") as f:
    for i in range(200):
        f.write(json.dumps({"text": f"the {words[i % 4]} sees {words[i // 3 % 4]}", "score": i % 4 / 2}) + "\n")
with open(tmp + "/tag.jsonl", "w") as f:
    for i in range(200):
        f.write(json.dumps({"tokens": ["the", words[i % 4], "sees", words[i // 3 % 4]], "tags": ["O", "B-A", "O", "B-B"]}) + "\n")
for stage, auto, keys in (("cls", AutoModelForSequenceClassification, []), ("reg", AutoModelForSequenceClassification, ["use_rslora=true"]),
                          ("tag", AutoModelForTokenClassification, ["use_dora=true"])):
    own = f"{tmp}/head-{stage}"
    subprocess.run([fathom, "train", "stage=" + stage, "finetuning_type=lora", "lora_rank=4", "model_name_or_path=" + base, "dataset=" + f"{tmp}/{stage}.jsonl", "cutoff_len=64",
                    "per_device_train_batch_size=2", "max_steps=12", "learning_rate=0.01", "precision=fp32", "output_dir=" + own, *keys], check=True, capture_output=True)
    m = peft.PeftModel.from_pretrained(auto.from_pretrained(base, config=AutoConfig.from_pretrained(own)), own).eval()
    assert json.load(open(own + "/adapter_config.json"))["task_type"] == ("TOKEN_CLS" if stage == "tag" else "SEQ_CLS")
    assert stage != "cls" or [m.config.id2label[i] for i in range(4)] == sorted(words), m.config.id2label
    rows = "".join(json.dumps({"ids": r.tolist()}) + "\n" for r in ids)
    for folder, more in ((base, ["--adapter", own]), (own + "-merged", [])):
        if not more:
            subprocess.run([fathom, "merge", base, own, folder, "--dtype", "f32"], check=True, stdout=subprocess.DEVNULL)
        out = subprocess.run([fathom, "logits", folder, "--head", "main", "--dtype", "f32", *more], input=rows, text=True, check=True, capture_output=True).stdout
        ours_ = np.array([json.loads(line)["scores"] for line in out.splitlines()])
        with torch.no_grad():
            want = np.stack([m(r[None]).logits[0].numpy() for r in ids])
        check(f"own {stage} {'there' if more else 'merged there'}", ours_.reshape(want.shape), want)
print("peft", peft.__version__, "torch", torch.__version__)
sys.exit(bad != 0)
