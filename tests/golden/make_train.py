#!/usr/bin/env python3
"""Ten training steps of three tiny decoders, by plain PyTorch in float64: the reference of test_train_golden.c.

    python3 -m venv venv && venv/bin/pip install torch numpy safetensors
    venv/bin/python tests/golden/make_train.py tests/golden/data [model ...]

The models are written out here rather than taken from a library, so that they share no code with what they judge.
Rope frequencies alone are formed in float32, as every published implementation forms them. Each folder holds
    config.json, model.safetensors   the model before training, float32, in the Hugging Face layout
    train.json                       what fathom needs to repeat the run, keys as in its recipes
    train.safetensors                ids, targets [10,T] and offsets [10,S+1] (padded by -1) of ten packed batches;
                                     logits [T,V] and grad.<name> of step 0 (before clipping); loss, grad_norm [10];
                                     final.<name>; bf16_error.<name> [1]: how far the gradient of step 0 is off in
                                     PyTorch with weights and activations in bf16, relative to its norm
Documents of one token up to several windows occur; about one target in five is ignored, and the last token of
each document always is. Some steps are clipped and some are not, as with Adam a factor common to all steps hardly matters.
"""
import json
import math
import os
import shutil
import sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

T, STEPS = 64, 10
COMMON = dict(num_hidden_layers=2, hidden_size=32, num_attention_heads=4, max_position_embeddings=128,
              hidden_act="silu", initializer_range=0.02, attention_dropout=0.0, bos_token_id=None, eos_token_id=None)
MODELS = {
    "train_full": dict(COMMON, architectures=["Qwen3ForCausalLM"], model_type="qwen3", vocab_size=48, intermediate_size=40,
                       num_key_value_heads=2, head_dim=12, rms_norm_eps=1e-5, tie_word_embeddings=True,
                       attention_bias=True, use_sliding_window=True, sliding_window=7, max_window_layers=1,
                       rope_theta=100.0,
                       rope_scaling=dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                         original_max_position_embeddings=32)),
    "train_plain": dict(COMMON, architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=50, intermediate_size=36,
                        num_key_value_heads=4, head_dim=8, rms_norm_eps=1e-5, tie_word_embeddings=False,
                        attention_bias=False, mlp_bias=False, rope_theta=1000.0, rope_scaling=None),
    "train_moe": dict(COMMON, architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", vocab_size=40, intermediate_size=28,
                      num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-5, tie_word_embeddings=False,
                      attention_bias=False, rope_theta=1000.0, rope_scaling=None, num_experts=6, num_experts_per_tok=2,
                      moe_intermediate_size=12, decoder_sparse_step=1, mlp_only_layers=[], norm_topk_prob=True,
                      router_aux_loss_coef=0.05),
}
RECIPE = dict(label_smoothing_factor=0.1, z_loss=1e-4, learning_rate=0.01, warmup_steps=3, min_lr_ratio=0.1,
              lr_scheduler_type="cosine", max_steps=STEPS, adam_beta1=0.9, adam_beta2=0.95, adam_epsilon=1e-6,
              weight_decay=0.1, ignore_index=-100)
CLIP = {"train_full": 1.5, "train_plain": 2.2, "train_moe": 2.2}
GAP = 0.03  # least distance of a router logit that was chosen from one that was not, in step 0: bf16 must choose the same


# ---- the model -------------------------------------------------------------------------------------------------------

def shapes(c):
    d, f, v, w = c["hidden_size"], c["intermediate_size"], c["vocab_size"], c["head_dim"]
    q, kv = c["num_attention_heads"] * w, c["num_key_value_heads"] * w
    out = {"model.embed_tokens.weight": (v, d)}
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        out[p + "input_layernorm.weight"] = (d,)
        for name, rows, cols in (("q", q, d), ("k", kv, d), ("v", kv, d), ("o", d, q)):
            out[p + f"self_attn.{name}_proj.weight"] = (rows, cols)
            if c["attention_bias"]:
                out[p + f"self_attn.{name}_proj.bias"] = (rows,)
        if c["model_type"].startswith("qwen3"):
            out[p + "self_attn.q_norm.weight"] = (w,)
            out[p + "self_attn.k_norm.weight"] = (w,)
        out[p + "post_attention_layernorm.weight"] = (d,)
        parts = [("mlp.", f)]
        if c["model_type"] == "qwen3_moe":
            out[p + "mlp.gate.weight"] = (c["num_experts"], d)
            parts = [(f"mlp.experts.{e}.", c["moe_intermediate_size"]) for e in range(c["num_experts"])]
        for part, width in parts:
            out[p + part + "gate_proj.weight"] = (width, d)
            out[p + part + "up_proj.weight"] = (width, d)
            out[p + part + "down_proj.weight"] = (d, width)
    out["model.norm.weight"] = (d,)
    if not c["tie_word_embeddings"]:
        out["lm_head.weight"] = (v, d)
    return out


def initial(c, rng):
    """Matrices N(0, 1/fan_in); norms about 1 and biases about 0, so that none of them is invisible."""
    w = {}
    for name, shape in shapes(c).items():
        x = rng.standard_normal(shape)
        x = x / math.sqrt(shape[1]) if len(shape) == 2 else (1 + 0.2 * x if "norm" in name else 0.3 * x)
        w[name] = torch.tensor(x.astype(np.float32).astype(np.float64), requires_grad=True)
    return w


def frequencies(c):
    """One angle per token of position for each pair of elements."""
    n = c["head_dim"] // 2
    base = np.float32(c["rope_theta"]) ** (np.arange(n, dtype=np.float32) / np.float32(n))
    freq = (np.float32(1) / base).astype(np.float32)
    s = c["rope_scaling"]
    if s:
        # Llama 3: waves longer than the old context are stretched by `factor`, those far shorter stay, between them
        # the change is gradual in the number of turns.
        old = s["original_max_position_embeddings"]
        turns = old * freq.astype(np.float64) / (2 * math.pi)
        blend = np.clip((turns - s["low_freq_factor"]) / (s["high_freq_factor"] - s["low_freq_factor"]), 0, 1)
        kinds = [(blend == 0).any(), ((blend > 0) & (blend < 1)).any(), (blend == 1).any()]
        assert all(kinds), (blend, "each of the three cases must occur")
        freq = ((1 - blend) * freq / s["factor"] + blend * freq).astype(np.float32)
    return torch.tensor(freq.astype(np.float64))


def rms_norm(x, w, eps):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * w


def rotate(x, pos, freq):  # x [T,H,Dh]
    angle = pos[:, None, None] * freq
    a, b = x.to(freq.dtype).chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1).to(x.dtype)


def attention(c, w, p, x, pos, doc, layer, freq):
    n, width, h, hkv = len(x), c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"]

    def project(name, y):
        return F.linear(y, w[p + f"{name}_proj.weight"], w.get(p + f"{name}_proj.bias"))

    q, k, v = (project(s, x).view(n, -1, width) for s in "qkv")
    if p + "q_norm.weight" in w:
        q = rms_norm(q, w[p + "q_norm.weight"], c["rms_norm_eps"])
        k = rms_norm(k, w[p + "k_norm.weight"], c["rms_norm_eps"])
    q, k = rotate(q, pos, freq), rotate(k, pos, freq)
    k, v = (y.repeat_interleave(h // hkv, 1) for y in (k, v))
    score = torch.einsum("ihd,jhd->hij", q, k) / math.sqrt(width)
    back = pos[:, None] - pos[None, :]
    seen = (doc[:, None] == doc[None, :]) & (back >= 0)
    if c.get("use_sliding_window") and layer >= c["max_window_layers"]:
        seen &= back < c["sliding_window"]
    share = score.masked_fill(~seen, -math.inf).softmax(-1)
    return project("o", torch.einsum("hij,jhd->ihd", share, v).reshape(n, h * width))


def gated(w, p, y):
    y = F.silu(F.linear(y, w[p + "gate_proj.weight"])) * F.linear(y, w[p + "up_proj.weight"])
    return F.linear(y, w[p + "down_proj.weight"])


def experts(c, w, p, y, routing):
    x = F.linear(y, w[p + "gate.weight"])
    s = x.softmax(-1)
    best, ids = s.topk(c["num_experts_per_tok"], -1)
    if c["norm_topk_prob"]:
        best = best / best.sum(-1, keepdim=True)
    routing.append((x, s, ids))
    share = torch.zeros_like(s).scatter(-1, ids, best)
    return sum(share[:, e:e + 1] * gated(w, p + f"experts.{e}.", y) for e in range(c["num_experts"]))


def balance(c, routing):
    """load_balancing_loss_func of transformers: all layers together, times the number of experts."""
    if not routing:
        return 0
    rows = sum(len(s) for _, s, _ in routing)
    counts = sum(torch.bincount(ids.flatten(), minlength=c["num_experts"]) for _, _, ids in routing) / rows
    return c["router_aux_loss_coef"] * c["num_experts"] * (counts * sum(s.sum(0) for _, s, _ in routing) / rows).sum()


def closest_choice(c, routing):
    k = c.get("num_experts_per_tok", 0)
    sorted_logits = [x.detach().sort(-1, descending=True)[0] for x, _, _ in routing]
    return min([float((x[:, k - 1] - x[:, k]).min()) for x in sorted_logits], default=math.inf)


def logits_of(c, w, ids, pos, doc, freq, routing):
    x = w["model.embed_tokens.weight"][ids]
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        y = rms_norm(x, w[p + "input_layernorm.weight"], c["rms_norm_eps"])
        x = x + attention(c, w, p + "self_attn.", y, pos, doc, i, freq)
        y = rms_norm(x, w[p + "post_attention_layernorm.weight"], c["rms_norm_eps"])
        x = x + (experts(c, w, p + "mlp.", y, routing) if p + "mlp.gate.weight" in w else gated(w, p + "mlp.", y))
    x = rms_norm(x, w["model.norm.weight"], c["rms_norm_eps"])
    return F.linear(x, w.get("lm_head.weight", w["model.embed_tokens.weight"]))


# ---- the run ---------------------------------------------------------------------------------------------------------

def batches(c, rng):
    """Each batch: two halves of T/2 tokens, each of one to four documents; a document may have one token."""
    v, out = c["vocab_size"], []
    for step in range(STEPS):
        offsets = [0]
        for half in range(2):
            cuts = sorted(rng.choice(np.arange(1, T // 2), rng.integers(0, 4), replace=False)) if step else [[9], [1, 13]][half]
            offsets += [half * T // 2 + int(x) for x in cuts] + [(half + 1) * T // 2]
        # Skewed frequencies, and the next token depends on the last one: there is something to learn.
        ids = rng.zipf(1.3, T) % v
        ids[1::2] = (ids[0::2] * 5 + 3) % v
        targets = np.full(T, RECIPE["ignore_index"])
        for a, b in zip(offsets, offsets[1:]):
            targets[a:b - 1] = ids[a + 1:b]
        targets[rng.random(T) < 0.2] = RECIPE["ignore_index"]
        out.append((ids.astype(np.int32), targets.astype(np.int32), offsets))
    return out


def loss_of(x, t):
    trained = t != RECIPE["ignore_index"]
    loss = F.cross_entropy(x, t, ignore_index=RECIPE["ignore_index"], label_smoothing=RECIPE["label_smoothing_factor"])
    return loss + RECIPE["z_loss"] * (x.logsumexp(-1)[trained] ** 2).sum() / trained.sum()


def bf16_errors(c, w, ids, t, pos, doc, freq):
    """What to expect of bf16: gradients of this batch with weights and activations in bf16, against those in w."""
    v = {k: x.detach().bfloat16().requires_grad_() for k, x in w.items()}
    routing = []
    (loss_of(logits_of(c, v, ids, pos, doc, freq.float(), routing).double(), t) + balance(c, routing)).backward()
    return {"bf16_error." + k: ((v[k].grad - x.grad).norm() / x.grad.norm()).reshape(1) for k, x in w.items()}


def rate(step):
    r, n = RECIPE, RECIPE["warmup_steps"]
    if step < n:
        return r["learning_rate"] * (step + 1) / n
    x = (step - n) / (STEPS - n)
    return r["learning_rate"] * (r["min_lr_ratio"] + (1 - r["min_lr_ratio"]) * (1 + math.cos(math.pi * x)) / 2)


def starting_point(c, seed):
    """First weights and the batches; with experts, those of the first seed whose step 0 has no near tie and no expert
    without tokens."""
    for s in range(seed, seed + 1000000, 100):
        rng = np.random.default_rng(s)
        w, data, routing = initial(c, rng), batches(c, rng), []
        ids, _, offsets = data[0]
        doc = torch.tensor(np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)))
        pos = torch.tensor(np.concatenate([np.arange(b - a) for a, b in zip(offsets, offsets[1:])]))
        logits_of(c, w, torch.tensor(ids.astype(np.int64)), pos, doc, frequencies(c), routing)
        if closest_choice(c, routing) > GAP and all(len(i.unique()) == c["num_experts"] for _, _, i in routing):
            return w, data
    raise SystemExit("no start without a near tie was found")


def run(name, c, folder, seed):
    (w, data), freq = starting_point(c, seed), frequencies(c)
    start = {k: x.detach().float().numpy().copy() for k, x in w.items()}
    matrices, vectors = [x for x in w.values() if x.dim() == 2], [x for x in w.values() if x.dim() == 1]
    opt = torch.optim.AdamW([dict(params=matrices, weight_decay=RECIPE["weight_decay"]),
                             dict(params=vectors, weight_decay=0.0)],
                            lr=1.0, betas=(RECIPE["adam_beta1"], RECIPE["adam_beta2"]), eps=RECIPE["adam_epsilon"])
    saved, losses, norms = {}, [], []
    for step, (ids, targets, offsets) in enumerate(data):
        doc = torch.tensor(np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)))
        pos = torch.tensor(np.concatenate([np.arange(b - a) for a, b in zip(offsets, offsets[1:])]))
        ids, t = torch.tensor(ids.astype(np.int64)), torch.tensor(targets.astype(np.int64))
        routing = []
        x = logits_of(c, w, ids, pos, doc, freq, routing)
        loss = loss_of(x, t) + balance(c, routing)
        opt.zero_grad()
        loss.backward()
        if step == 0:
            saved["logits"] = x.detach()
            saved.update({"grad." + k: y.grad.clone() for k, y in w.items()})
            saved.update(bf16_errors(c, w, ids, t, pos, doc, freq))
        norms.append(float(torch.nn.utils.clip_grad_norm_(w.values(), CLIP[name])))
        losses.append(loss.item())
        for g in opt.param_groups:
            g["lr"] = rate(step)
        opt.step()
    print(name, "losses", np.round(losses, 3), "norms", np.round(norms, 3), "clip", CLIP[name])
    assert 3 <= sum(n > CLIP[name] for n in norms) <= 7, "some steps must be clipped and some not"
    saved.update({"final." + k: y.detach() for k, y in w.items()})
    saved = {k: x.float().numpy() for k, x in saved.items()}
    n_docs = max(len(o) for _, _, o in data)
    saved["ids"] = np.stack([b[0] for b in data])
    saved["targets"] = np.stack([b[1] for b in data])
    saved["offsets"] = np.stack([np.pad(o, (0, n_docs - len(o)), constant_values=-1) for _, _, o in data]).astype(np.int32)
    saved["loss"], saved["grad_norm"] = np.array(losses), np.array(norms)

    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(c, f, indent=2)
        f.write("\n")
    with open(os.path.join(folder, "train.json"), "w") as f:
        json.dump(dict(RECIPE, max_grad_norm=CLIP[name]), f, indent=2)
        f.write("\n")
    save_file(start, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    save_file({k: np.ascontiguousarray(x) for k, x in saved.items()}, os.path.join(folder, "train.safetensors"))
    for file in os.listdir(folder):
        os.chmod(os.path.join(folder, file), 0o644)


def main(out, *only):
    torch.set_num_threads(1)
    print("torch", torch.__version__)
    for seed, (name, config) in enumerate(MODELS.items()):
        if only and name not in only:
            continue
        run(name, config, os.path.join(out, name), seed)


if __name__ == "__main__":
    main(*sys.argv[1:])
