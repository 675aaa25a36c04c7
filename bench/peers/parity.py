"""Trains the (a) shape in PyTorch on the same tokens, in the same order, from the same weights as Fathom, and reports validation bits per byte.

  python3 bench/peers/parity.py FATHOM OUT TRAIN.txt HELDOUT.txt [--steps 100] [--python-only] [--fathom-only]

Both texts are one document each, so that windows are plain runs of 512 tokens and PyTorch needs no document mask. AdamW 0.9/0.95, decay 0.1 on
matrices, clipping 1.0, 10 warm-up steps then a constant rate of 1e-3, 8 windows a step, bf16 in both.
"""
import argparse
import json
import math
import os
import subprocess
import sys

import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.dirname(__file__))
from torch_train import SHAPES, Model  # noqa: E402

ap = argparse.ArgumentParser()
ap.add_argument("fathom")
ap.add_argument("out")
ap.add_argument("train")
ap.add_argument("held")
ap.add_argument("--steps", type=int, default=100)
ap.add_argument("--skip", choices=["torch", "fathom"])
a = ap.parse_args()
s = SHAPES["a"]
os.makedirs(a.out, exist_ok=True)
tok = a.out + "/tok"


def sh(*cmd, **kw):
    return subprocess.run(cmd, check=True, capture_output=True, text=True, **kw).stdout


if not os.path.exists(tok):
    sh(a.fathom, "tokenizer", "train", "-i", a.train, "-o", tok, "--vocab-size", "6400")
    for name, path in (("train", a.train), ("held", a.held)):
        sh(a.fathom, "data", "pack", "-i", path, "-t", tok, "-o", f"{a.out}/{name}", "--format", "txt")


def ids_of(path, limit):
    text = open(path, encoding="utf-8").read()
    ids = json.loads(sh(a.fathom, "tokenizer", "encode", tok, input=json.dumps({"text": text}) + "\n"))["ids"]
    eos = json.load(open(tok + "/tokenizer_config.json")).get("eos_token")
    added = {t["content"]: t["id"] for t in json.load(open(tok + "/tokenizer.json"))["added_tokens"]}
    return torch.tensor((ids + [added[eos if isinstance(eos, str) else eos["content"]]])[:limit])


torch.manual_seed(3)
torch.set_num_threads(2)
m = Model(s)
init = a.out + "/init"
if not os.path.exists(init + "/model.safetensors"):
    from safetensors.torch import save_file

    os.makedirs(init, exist_ok=True)
    w = {"model.embed_tokens.weight": m.embed.weight, "model.norm.weight": m.norm.weight}
    for i, b in enumerate(m.blocks):
        p = f"model.layers.{i}."
        w[p + "input_layernorm.weight"], w[p + "post_attention_layernorm.weight"] = b.n1.weight, b.n2.weight
        for k, v in (("q", b.q), ("k", b.k), ("v", b.v), ("o", b.o)):
            w[p + f"self_attn.{k}_proj.weight"] = v.weight
        for k, v in (("gate", b.gate), ("up", b.up), ("down", b.down)):
            w[p + f"mlp.{k}_proj.weight"] = v.weight
    save_file({k: v.detach().clone() for k, v in w.items()}, init + "/model.safetensors", {"format": "pt"})
    json.dump(dict(architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=s["vocab"], hidden_size=s["d"], intermediate_size=s["ff"],
                   num_hidden_layers=s["layers"], num_attention_heads=s["heads"], num_key_value_heads=s["heads"], hidden_act="silu", rms_norm_eps=1e-6,
                   max_position_embeddings=2048, rope_theta=10000.0, tie_word_embeddings=True, torch_dtype="float32"), open(init + "/config.json", "w"))

if a.skip != "fathom":
    r = json.loads(sh(a.fathom, "train", "model_name_or_path=" + init, "tokenizer=" + tok, f"dataset={a.out}/train", f"eval_dataset={a.out}/held",
                      f"output_dir={a.out}/fathom", "overwrite_output_dir=true", "shuffle=false", "cutoff_len=512", "per_device_train_batch_size=8",
                      "gradient_accumulation_steps=1", f"max_steps={a.steps}", "learning_rate=1e-3", "lr_scheduler_type=constant", "warmup_steps=10",
                      "weight_decay=0.1", "adam_beta2=0.95", "max_grad_norm=1.0", "precision=bf16", "save_steps=100000", "eval_steps=100000",
                      "spike_factor=0", "--json", "--quiet").strip().splitlines()[-1])
    print(json.dumps(dict(program="fathom", bits_per_byte=r["eval_bits_per_byte"], seconds=r["seconds"], steps=r["steps"])), flush=True)

if a.skip != "torch":
    import time

    seq, batch = s["seq"], s["batch"]
    ids, held = ids_of(a.train, a.steps * seq * batch + 1), ids_of(a.held, None)
    decay = [p for p in m.parameters() if p.dim() == 2]
    rest = [p for p in m.parameters() if p.dim() != 2]
    opt = torch.optim.AdamW([dict(params=decay, weight_decay=0.1), dict(params=rest, weight_decay=0.0)], lr=1e-3, betas=(0.9, 0.95))
    t0 = time.time()
    for step in range(a.steps):
        for g in opt.param_groups:
            g["lr"] = 1e-3 * min(1, (step + 1) / 10)
        x = ids[step * seq * batch : (step + 1) * seq * batch].view(batch, seq)
        y = ids[step * seq * batch + 1 : (step + 1) * seq * batch + 1].view(batch, seq)
        opt.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = m(x, y, torch.bfloat16)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        opt.step()
    secs = time.time() - t0
    nll = 0.0
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for i in range(0, len(held) - 1, seq):
            n = min(seq, len(held) - 1 - i)
            x, y = held[i : i + n][None], held[i + 1 : i + 1 + n][None]
            m.cos, m.sin, m.mask, keep = m.cos[:, :, :n], m.sin[:, :, :n], m.mask[:, :, :n, :n], (m.cos, m.sin, m.mask)
            nll += m(x, y, torch.bfloat16).item() * n
            m.cos, m.sin, m.mask = keep
    print(json.dumps(dict(program="torch", version=torch.__version__, bits_per_byte=nll / math.log(2) / os.path.getsize(a.held), seconds=secs, steps=a.steps, last_loss=loss.item())))
