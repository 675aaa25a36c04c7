"""Logits of DeepSeek V3 and V3.2 from the formulas of the published inference code, in plain torch, one text at a time.

A second witness beside transformers, written from the papers (arXiv 2412.19437, the V3.2 report) and the published
inference/model.py; make_deepseek.py compares the two when it writes fixtures. Left out are fp8 and the Hadamard
rotation of the indexer, which is orthonormal and there for fp8 only. Weights go by their names in published files.
"""
import math

import torch
import torch.nn.functional as F


def rms(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def angles(c, n):
    """Rotation angles [n, rope/2], and YaRN's factor of the softmax scale."""
    r, dim = c["rope_parameters"], c["qk_rope_head_dim"]
    freqs = 1.0 / r["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    if r["rope_type"] != "yarn":
        return torch.outer(torch.arange(n, dtype=torch.float64), freqs), 1.0

    def place(rotations):
        return dim * math.log(r["original_max_position_embeddings"] / (rotations * 2 * math.pi)) / (
            2 * math.log(r["rope_theta"]))

    low = max(math.floor(place(r["beta_fast"])), 0)
    high = min(math.ceil(place(r["beta_slow"])), dim - 1)
    ramp = ((torch.arange(dim // 2, dtype=torch.float64) - low) / max(high - low, 0.001)).clamp(0, 1)
    freqs = freqs / r["factor"] * ramp + freqs * (1 - ramp)
    return torch.outer(torch.arange(n, dtype=torch.float64), freqs), 0.1 * r["mscale"] * math.log(r["factor"]) + 1.0


def rotate(x, a, neighbours):
    """x [T, H, rope]"""
    z = torch.complex(x[..., 0::2], x[..., 1::2]) if neighbours else torch.complex(*x.chunk(2, dim=-1))
    z = z * torch.polar(torch.ones_like(a), a)[:, None]
    return torch.view_as_real(z).flatten(-2) if neighbours else torch.cat([z.real, z.imag], dim=-1)


def attention(w, c, p, x, a, factor):
    """w: weights, p: name of the layer, x [T, D] normed."""
    n, h = x.shape[0], c["num_attention_heads"]
    nope, rope, v = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]

    def lin(name, y):
        return y @ w[p + "self_attn." + name + ".weight"].T

    qr = rms(lin("q_a_proj", x), w[p + "self_attn.q_a_layernorm.weight"], 1e-6)
    q = lin("q_b_proj", qr).view(n, h, nope + rope)
    q = torch.cat([q[..., :nope], rotate(q[..., nope:], a, True)], dim=-1)
    kv, pe = lin("kv_a_proj_with_mqa", x).split([c["kv_lora_rank"], rope], dim=-1)
    kv = lin("kv_b_proj", rms(kv, w[p + "self_attn.kv_a_layernorm.weight"], 1e-6)).view(n, h, nope + v)
    k = torch.cat([kv[..., :nope], rotate(pe[:, None], a, True).expand(n, h, rope)], dim=-1)
    scores = torch.einsum("thd,shd->hts", q, k) * (nope + rope) ** -0.5 * factor * factor
    mask = torch.full((n, n), float("-inf"), dtype=x.dtype).triu(1)
    if "index_topk" in c:
        dim, heads = c["index_head_dim"], c["index_n_heads"]
        iq = lin("indexer.wq_b", qr).view(n, heads, dim)
        ik = F.layer_norm(lin("indexer.wk", x), (dim,), w[p + "self_attn.indexer.k_norm.weight"],
                          w[p + "self_attn.indexer.k_norm.bias"], 1e-6)[:, None]
        iq = torch.cat([rotate(iq[..., :rope], a, False), iq[..., rope:]], dim=-1)
        ik = torch.cat([rotate(ik[..., :rope], a, False), ik[..., rope:]], dim=-1)[:, 0]
        weight = lin("indexer.weights_proj", x) * heads ** -0.5 * dim ** -0.5
        index = torch.einsum("th,ths->ts", weight, torch.einsum("thd,sd->ths", iq, ik).relu()) + mask
        chosen = index.topk(min(c["index_topk"], n), dim=-1).indices
        mask = mask + torch.full_like(mask, float("-inf")).scatter(-1, chosen, 0.0)
    out = torch.einsum("hts,shd->thd", (scores + mask).softmax(-1), kv[..., nope:])
    return lin("o_proj", out.flatten(1))


def mlp(w, p, x):
    return (F.silu(x @ w[p + "gate_proj.weight"].T) * (x @ w[p + "up_proj.weight"].T)) @ w[p + "down_proj.weight"].T


def experts(w, c, p, x):
    s = (x @ w[p + "gate.weight"].T).sigmoid()
    biased = s + w[p + "gate.e_score_correction_bias"]
    groups = biased.unflatten(-1, (c["n_group"], -1))
    best = groups.topk(2, dim=-1).values.sum(-1).topk(c["topk_group"], dim=-1).indices
    keep = torch.zeros(groups.shape[:2], dtype=torch.bool).scatter(-1, best, True)
    ids = groups.masked_fill(~keep[..., None], float("-inf")).flatten(1).topk(c["num_experts_per_tok"], dim=-1).indices
    weight = s.gather(-1, ids)
    if c["norm_topk_prob"]:
        weight = weight / weight.sum(-1, keepdim=True)
    weight = weight * c["routed_scaling_factor"]
    y = mlp(w, p + "shared_experts.", x)
    for t in range(x.shape[0]):
        for j, e in enumerate(ids[t].tolist()):
            y[t] = y[t] + weight[t, j] * mlp(w, f"{p}experts.{e}.", x[t])
    return y


def logits(w, c, ids):
    """w: name -> tensor, c: config.json, ids [T] -> [T, V] in float64."""
    w = {k: v.double() for k, v in w.items()}
    a, factor = angles(c, len(ids))
    h, eps = w["model.embed_tokens.weight"][ids], c["rms_norm_eps"]
    for layer in range(c["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        h = h + attention(w, c, p, rms(h, w[p + "input_layernorm.weight"], eps), a, factor)
        x = rms(h, w[p + "post_attention_layernorm.weight"], eps)
        h = h + (mlp(w, p + "mlp.", x) if layer < c["first_k_dense_replace"] else experts(w, c, p + "mlp.", x))
    return rms(h, w["model.norm.weight"], eps) @ w["lm_head.weight"].T
