#!/usr/bin/env python3
"""Logits, losses and gradients of tiny DeepSeek models, from transformers on PyTorch in float32.

    python3 -m venv venv && venv/bin/pip install torch transformers numpy safetensors
    venv/bin/python tests/golden/make_deepseek.py tests/golden/data/deepseek_grads [case ...]

Each case is a Hugging Face folder; golden/model.safetensors beside it holds ids and offsets of packed texts, logits of
every token, the loss (mean over the predicted tokens, plus 0.3 of that of the multi-token prediction layer where there
is one), that layer's logits, and the gradient of the loss by every parameter under its name with "grad." before it.
The multi-token prediction layer is transformers' own (modeling_layers.MtpLayer), fed with the state after the final
norm; transformers does not save it, so its weights are added to the file under the published names. Logits of V3 and
V3.2 must also equal those of deepseek_formulas.py, which shares no code with transformers.
test_deepseek.c reads the folders.
"""
import json
import os
import shutil
import sys

import torch
import torch.nn.functional as F
import transformers
import deepseek_formulas
from safetensors.torch import load_file, save_file
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM
from transformers.modeling_layers import MtpLayer
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3DecoderLayer, DeepseekV3RMSNorm

YARN = dict(rope_type="yarn", rope_theta=100.0, factor=4.0, original_max_position_embeddings=8, beta_fast=4.0,
            beta_slow=1.0)
SMALL = dict(vocab_size=40, hidden_size=24, intermediate_size=32, moe_intermediate_size=8, num_hidden_layers=2,
             num_attention_heads=2, num_key_value_heads=2, first_k_dense_replace=1, n_routed_experts=8,
             num_experts_per_tok=3, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6,
             max_position_embeddings=32, rms_norm_eps=1e-6, bos_token_id=1, eos_token_id=2)
V3 = dict(SMALL, n_shared_experts=1, q_lora_rank=12, n_group=4, topk_group=2, norm_topk_prob=True,
          routed_scaling_factor=2.5, rope_parameters=dict(YARN, mscale=1.0, mscale_all_dim=1.0))
CASES = {
    "v2_lite": (DeepseekV2Config, DeepseekV2ForCausalLM,
                dict(SMALL, n_shared_experts=2, q_lora_rank=None, topk_method="greedy", n_group=1, topk_group=1,
                     routed_scaling_factor=1.0, rope_parameters=dict(YARN, mscale=0.707, mscale_all_dim=0.707)), 0),
    "v2": (DeepseekV2Config, DeepseekV2ForCausalLM,
           dict(SMALL, n_shared_experts=2, q_lora_rank=12, topk_method="group_limited_greedy", n_group=4, topk_group=2,
                routed_scaling_factor=16.0, rope_parameters=dict(YARN, mscale=0.707, mscale_all_dim=0.707)), 0),
    "v3": (DeepseekV3Config, DeepseekV3ForCausalLM, dict(V3, num_nextn_predict_layers=0), 0),
    "v3_mtp": (DeepseekV3Config, DeepseekV3ForCausalLM, dict(V3, num_nextn_predict_layers=1), 1),
}
try:
    from transformers import DeepseekV32Config, DeepseekV32ForCausalLM
    CASES["v32"] = (DeepseekV32Config, DeepseekV32ForCausalLM,
                    dict(V3, index_n_heads=3, index_head_dim=10, index_topk=5), 0)
except ImportError:
    pass
LENGTHS = [13, 7, 2]


def fill(module, seed):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in list(module.named_parameters()) + list(module.named_buffers()):
            if "inv_freq" in name:
                continue
            r = torch.randn(p.shape, generator=g)
            if "e_score_correction_bias" in name or name.endswith("k_norm.bias"):
                p.copy_(0.1 * r)
            elif p.dim() >= 2 and "embed_tokens" not in name:
                p.copy_(r / p.shape[-1] ** 0.5)
            elif "norm" in name:
                p.copy_(1 + 0.2 * r)
            else:
                p.copy_(r)


def per_expert(name, t):
    """Names and parts of a tensor as files have it: transformers keeps all experts in two tensors."""
    head, _, tail = name.rpartition(".")
    if tail == "gate_up_proj":
        for e in range(t.shape[0]):
            gate, up = t[e].chunk(2, dim=0)
            yield f"{head}.{e}.gate_proj.weight", gate
            yield f"{head}.{e}.up_proj.weight", up
    elif tail == "down_proj" and head.endswith("experts"):
        for e in range(t.shape[0]):
            yield f"{head}.{e}.down_proj.weight", t[e]
    else:
        yield name, t


def mtp_name(name, layer):
    if name.startswith("mtp_block."):
        name = name[len("mtp_block."):]
    return f"model.layers.{layer}." + name.replace("post_norm.", "shared_head.norm.")


def make(out, name):
    cls_config, cls, kw, n_mtp = CASES[name]
    config = cls_config(**kw)
    config._attn_implementation = "eager"
    model = cls(config)
    fill(model, 1)
    model.train()
    n = config.num_hidden_layers
    mtp = None
    if n_mtp:
        mtp = MtpLayer(config, DeepseekV3DecoderLayer, DeepseekV3RMSNorm, n)
        fill(mtp, 2)
    g = torch.Generator().manual_seed(3)
    ids = [torch.randint(3, config.vocab_size, (m,), generator=g) for m in LENGTHS]
    count = sum(m - 1 for m in LENGTHS)
    logits, mtp_logits, loss = [], [], 0
    for x in ids:
        r = model.model(input_ids=x[None])
        h = r.last_hidden_state
        y = model.lm_head(h)[0]
        logits.append(y)
        loss = loss + F.cross_entropy(y[:-1], x[1:], reduction="sum") / count
        if mtp is not None:
            e = model.model.embed_tokens(F.pad(x[1:], (0, 1))[None])
            pos = torch.arange(len(x))[None]
            mask = torch.full((len(x), len(x)), float("-inf")).triu(1)[None, None]
            z = model.lm_head(mtp(e, h, model.model.rotary_emb(e, pos), mask, pos, None))[0]
            mtp_logits.append(z[:-1])
            if len(x) > 2:
                loss = loss + 0.3 * F.cross_entropy(z[:-2], x[2:], reduction="sum") / count
    loss.backward()

    folder = os.path.join(out, name)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    path = os.path.join(folder, "model.safetensors")
    weights = load_file(path)
    golden = {"ids": torch.cat(ids).to(torch.int32), "logits": torch.cat(logits).detach(), "loss": loss.detach()[None],
              "offsets": torch.tensor([0] + [sum(LENGTHS[:i + 1]) for i in range(len(LENGTHS))], dtype=torch.int32)}
    grads = {k: p.grad for k, p in model.named_parameters()}
    if mtp is not None:
        golden["mtp_logits"] = torch.cat(mtp_logits).detach()
        for k, p in list(mtp.named_parameters()) + list(mtp.named_buffers()):
            grads[mtp_name(k, n)] = p.grad
            for part, t in per_expert(mtp_name(k, n), p.detach()):
                weights[part] = t.clone()
        weights[f"model.layers.{n}.embed_tokens.weight"] = weights["model.embed_tokens.weight"].clone()
        weights[f"model.layers.{n}.shared_head.head.weight"] = weights["lm_head.weight"].clone()
        save_file(weights, path, metadata={"format": "pt"})
    for k, t in grads.items():
        if t is not None:
            for part, u in per_expert(k, t):
                golden["grad." + part] = u.clone()
    os.makedirs(os.path.join(folder, "golden"))
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    save_file(golden, os.path.join(folder, "golden", "model.safetensors"), metadata=versions)
    config_path = os.path.join(folder, "config.json")
    with open(config_path) as f:
        c = json.load(f)
    c["aux_loss_alpha"] = 0.0  # the losses here have no balance term
    with open(config_path, "w") as f:
        json.dump(c, f, indent=2)
    if name != "v2" and name != "v2_lite":
        for x, y in zip(ids, logits):
            far = float((deepseek_formulas.logits(weights, c, x) - y.detach()).abs().max())
            assert far < 1e-5, f"{name}: transformers and the published formulas differ by {far}"
    os.path.exists(os.path.join(folder, "generation_config.json")) and os.remove(
        os.path.join(folder, "generation_config.json"))
    missing = set(weights) - {k[5:] for k in golden if k.startswith("grad.")}
    print(name, "loss", float(loss), versions, "no gradient:", sorted(missing))


if __name__ == "__main__":
    for case in sys.argv[2:] or CASES:
        make(sys.argv[1], case)
