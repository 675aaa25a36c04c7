#!/usr/bin/env python3
"""Reference logits of tiny decoders, from transformers on PyTorch in float32.

    python3 -m venv venv && venv/bin/pip install torch transformers numpy safetensors
    venv/bin/python tests/golden/make_llama.py tests/golden/data [case ...]

Each case is a Hugging Face folder as transformers writes it, with golden.bin beside it:
    u32 n_ids, u32 vocab, i32 ids[n_ids], f32 logits[n_ids][vocab]   (little-endian)
Weights have a standard deviation of 1/sqrt(fan in), norms and biases are random too, so that every part of the model
moves the logits. test_golden.c reads the folders. DeepSeekMoE 16B is not part of transformers: its feed-forward layer is
written out here, from the paper (Dai et al. 2024, equations 9 to 11), in a Llama of transformers.
"""
import json
import os
import shutil
import struct
import sys

import numpy as np
import torch
import transformers
from transformers import (DeepseekV2Config, DeepseekV2ForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, MixtralConfig,
                          MixtralForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM,
                          Qwen3MoeConfig, Qwen3MoeForCausalLM)

SMALL = dict(vocab_size=32, hidden_size=32, intermediate_size=24, num_hidden_layers=1, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)


def rope(**kw):
    return dict(rope_parameters=kw)


CASES = {
    "llama_gqa": (LlamaConfig, LlamaForCausalLM, dict(num_hidden_layers=2, **rope(rope_type="default", rope_theta=500.0)), 40),
    "llama_bias": (LlamaConfig, LlamaForCausalLM,
                   dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True, hidden_act="gelu", head_dim=12,
                        **rope(rope_type="default", rope_theta=10000.0)), 20),
    "llama_linear": (LlamaConfig, LlamaForCausalLM,
                     dict(**rope(rope_type="linear", rope_theta=10000.0, factor=4.0)), 40),
    "llama_llama3": (LlamaConfig, LlamaForCausalLM,
                     dict(**rope(rope_type="llama3", rope_theta=100.0, factor=8.0, low_freq_factor=1.0,
                                 high_freq_factor=4.0, original_max_position_embeddings=32)), 40),
    "llama_yarn": (LlamaConfig, LlamaForCausalLM,
                   dict(max_position_embeddings=128,
                        **rope(rope_type="yarn", rope_theta=100.0, factor=4.0, original_max_position_embeddings=32,
                               beta_fast=4.0, beta_slow=1.0)), 40),
    "llama_yarn_mscale": (LlamaConfig, LlamaForCausalLM,
                          dict(max_position_embeddings=128,
                               **rope(rope_type="yarn", rope_theta=100.0, factor=4.0, truncate=False, mscale=1.0,
                                      mscale_all_dim=0.5, beta_fast=4.0, original_max_position_embeddings=32)), 40),
    "llama_dynamic": (LlamaConfig, LlamaForCausalLM,
                      dict(max_position_embeddings=16, **rope(rope_type="dynamic", rope_theta=100.0, factor=2.0)), 40),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, dict(tie_word_embeddings=True, **rope(rope_type="default", rope_theta=1000.0)), 30),
    "qwen2_window": (Qwen2Config, Qwen2ForCausalLM,
                     dict(num_hidden_layers=2, use_sliding_window=True, sliding_window=7, max_window_layers=1,
                          **rope(rope_type="default", rope_theta=1000.0)), 30),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, dict(num_hidden_layers=2, head_dim=16, **rope(rope_type="default", rope_theta=1000.0)), 30),
    "mistral_window": (MistralConfig, MistralForCausalLM,
                       dict(num_hidden_layers=2, sliding_window=9, **rope(rope_type="default", rope_theta=1000.0)), 50),
    "qwen3_moe": (Qwen3MoeConfig, Qwen3MoeForCausalLM,
                  dict(num_hidden_layers=3, head_dim=16, num_experts=9, num_experts_per_tok=3, moe_intermediate_size=12,
                       norm_topk_prob=True, mlp_only_layers=[0], **rope(rope_type="default", rope_theta=1000.0)), 40),
    "qwen3_moe_sparse": (Qwen3MoeConfig, Qwen3MoeForCausalLM,
                         dict(num_hidden_layers=3, head_dim=8, num_experts=5, num_experts_per_tok=2,
                              moe_intermediate_size=8, norm_topk_prob=False, decoder_sparse_step=2,
                              attention_bias=True, **rope(rope_type="default", rope_theta=1000.0)), 30),
    "mixtral": (MixtralConfig, MixtralForCausalLM,
                dict(num_hidden_layers=2, num_local_experts=5, num_experts_per_tok=2, sliding_window=9,
                     **rope(rope_type="default", rope_theta=1000.0)), 40),
}


class DeepseekMoe(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        d, f = c["hidden_size"], c["moe_intermediate_size"]
        self.k, self.norm = c["num_experts_per_tok"], c["norm_topk_prob"]
        self.gate = torch.nn.Linear(d, c["n_routed_experts"], bias=False)

        def expert(width):
            return torch.nn.ModuleDict({"gate_proj": torch.nn.Linear(d, width, bias=False),
                                        "up_proj": torch.nn.Linear(d, width, bias=False),
                                        "down_proj": torch.nn.Linear(width, d, bias=False)})

        self.experts = torch.nn.ModuleList([expert(f) for _ in range(c["n_routed_experts"])])
        self.shared_experts = expert(f * c["n_shared_experts"])

    @staticmethod
    def run(e, x):
        return e["down_proj"](torch.nn.functional.silu(e["gate_proj"](x)) * e["up_proj"](x))

    def forward(self, x):
        s = self.gate(x).softmax(-1)
        best, ids = s.topk(self.k, -1)
        g = torch.zeros_like(s).scatter(-1, ids, best / best.sum(-1, keepdim=True) if self.norm else best)
        y = sum(g[..., i:i + 1] * self.run(e, x) for i, e in enumerate(self.experts))
        return y + self.run(self.shared_experts, x)


class DeepseekForCausalLM(LlamaForCausalLM):
    """keys: those of config.json that Llama does not have."""

    def __init__(self, config):
        super().__init__(config)
        self.keys = config.deepseek
        for i, layer in enumerate(self.model.layers):
            if i >= self.keys["first_k_dense_replace"] and i % self.keys["moe_layer_freq"] == 0:
                layer.mlp = DeepseekMoe(dict(self.keys, hidden_size=config.hidden_size))

    def save_pretrained(self, folder):
        super().save_pretrained(folder)
        path = os.path.join(folder, "config.json")
        with open(path) as f:
            c = json.load(f)
        del c["deepseek"]
        c.update(self.keys, architectures=["DeepseekForCausalLM"], model_type="deepseek")
        with open(path, "w") as f:
            json.dump(c, f, indent=2)


def deepseek(**kw):
    return dict(deepseek=dict(dict(n_routed_experts=8, n_shared_experts=2, num_experts_per_tok=3, moe_intermediate_size=12,
                                   first_k_dense_replace=1, moe_layer_freq=1, norm_topk_prob=False,
                                   scoring_func="softmax", aux_loss_alpha=0.001, seq_aux=True), **kw))


CASES.update({
    "deepseek": (LlamaConfig, DeepseekForCausalLM,
                 dict(num_hidden_layers=3, num_key_value_heads=4, **deepseek(), **rope(rope_type="default", rope_theta=1000.0)), 40),
    "deepseek_freq": (LlamaConfig, DeepseekForCausalLM,
                      dict(num_hidden_layers=3, **deepseek(first_k_dense_replace=0, moe_layer_freq=2, n_shared_experts=1,
                                                           norm_topk_prob=True),
                           **rope(rope_type="default", rope_theta=1000.0)), 30),
})

MLA = dict(num_hidden_layers=3, num_key_value_heads=4, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=12, n_routed_experts=8, num_experts_per_tok=3,
           moe_intermediate_size=12, first_k_dense_replace=1, aux_loss_alpha=0.001)
YARN = dict(rope_type="yarn", rope_theta=100.0, factor=4.0, original_max_position_embeddings=16, beta_fast=4.0, beta_slow=1.0)
v2 = dict(YARN, mscale=0.707, mscale_all_dim=0.707)
v3 = dict(YARN, mscale=1.0, mscale_all_dim=1.0)
CASES.update({
    "deepseek_v2_lite": (DeepseekV2Config, DeepseekV2ForCausalLM,
                         dict(MLA, q_lora_rank=None, n_shared_experts=2, topk_method="greedy", n_group=1, topk_group=1, routed_scaling_factor=1.0, norm_topk_prob=False,
                              rope_parameters=v2), 40),
    "deepseek_v2": (DeepseekV2Config, DeepseekV2ForCausalLM,
                    dict(MLA, q_lora_rank=12, n_shared_experts=1, topk_method="group_limited_greedy", n_group=4, topk_group=2, routed_scaling_factor=3.0,
                         norm_topk_prob=False, **rope(rope_type="default", rope_theta=1000.0)), 30),
    "deepseek_v3": (DeepseekV3Config, DeepseekV3ForCausalLM,
                    dict(MLA, q_lora_rank=12, n_shared_experts=1, n_group=4, topk_group=2, routed_scaling_factor=2.5, norm_topk_prob=True, rope_parameters=v3), 40),
    "deepseek_v3_half": (DeepseekV3Config, DeepseekV3ForCausalLM,
                         dict(MLA, q_lora_rank=None, n_shared_experts=1, n_group=2, topk_group=1, routed_scaling_factor=1.5, norm_topk_prob=False, rope_interleave=False,
                              **rope(rope_type="default", rope_theta=1000.0)), 30),
})


def fill(model, seed):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            r = torch.randn(p.shape, generator=g)
            if p.dim() >= 2 and "embed_tokens" not in name:
                p.copy_(r / p.shape[-1] ** 0.5)
            elif "norm" in name:
                p.copy_(1 + 0.2 * r)
            else:
                p.copy_(r if p.dim() == 2 else 0.3 * r)
        for name, b in model.named_buffers():
            if "e_score_correction_bias" in name:  # so large that it changes the choice; above 0: excluded groups count as 0 in transformers
                b.copy_(0.5 * torch.rand(b.shape, generator=g))


GAP = 0.02  # least distance, in router logits, of the last expert chosen from the first one that is not


def closest_choice(model, ids):
    """The choice of experts jumps: where two logits are nearly equal, bf16 may choose another expert than f32 with no
    fault on either side. Returns the smallest distance over all tokens and layers, or None without experts."""
    gaps, hooks = [], []

    def note(k):
        def hook(_, __, out):
            s = (out[0] if isinstance(out, tuple) else out).detach().float()
            s = s.reshape(-1, s.shape[-1]).sort(-1, descending=True)[0]
            gaps.append(float((s[:, k - 1] - s[:, k]).min()))
        return hook

    for layer in model.model.layers:
        gate = getattr(layer.mlp, "gate", None)
        if gate is not None:
            k = layer.mlp.k if isinstance(layer.mlp, DeepseekMoe) else model.config.num_experts_per_tok
            hooks.append(gate.register_forward_hook(note(k)))
    with torch.no_grad():
        model(torch.tensor(ids[None].astype(np.int64)))
    for h in hooks:
        h.remove()
    return min(gaps) if gaps else None


def choose_ids(model, seed, n):
    for k in range(1000):
        ids = np.random.default_rng(seed + 1000 * k).integers(0, 32, n).astype(np.int32)
        gap = closest_choice(model, ids)
        if gap is None or gap > GAP:
            return ids, gap
    raise SystemExit("no token ids without a near tie were found")


def main(out, *only):
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    print("torch", torch.__version__, "transformers", transformers.__version__)
    for seed, (name, (config, cls, kw, n)) in enumerate(CASES.items()):
        if only and name not in only:
            continue
        model = cls(config(**{**SMALL, **kw}, attn_implementation="eager")).eval()
        fill(model, seed)
        ids, gap = choose_ids(model, seed, n)
        with torch.no_grad():
            logits = model(torch.tensor(ids[None].astype(np.int64))).logits[0].float().numpy()
        folder = os.path.join(out, name)
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        os.chmod(os.path.join(folder, "model.safetensors"), 0o644)
        with open(os.path.join(folder, "golden.bin"), "wb") as f:
            f.write(struct.pack("<II", n, logits.shape[1]) + ids.tobytes() + logits.astype("<f4").tobytes())
        print(name, logits.std(), "" if gap is None else f"closest choice {gap:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
