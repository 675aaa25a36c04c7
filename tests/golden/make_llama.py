#!/usr/bin/env python3
"""Reference logits of tiny decoders, from transformers on PyTorch in float32.

    python3 -m venv venv && venv/bin/pip install torch transformers numpy safetensors
    venv/bin/python tests/golden/make_llama.py tests/golden/data [case ...]

Each case is a Hugging Face folder as transformers writes it, with golden.bin beside it:
    u32 n_ids, u32 vocab, i32 ids[n_ids], f32 logits[n_ids][vocab]   (little-endian)
Weights have a standard deviation of 1/sqrt(fan in), norms and biases are random too, so that every part of the model
moves the logits. test_golden.c reads the folders.
"""
import os
import shutil
import struct
import sys

import numpy as np
import torch
import transformers
from transformers import (LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, MixtralConfig,
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


def main(out, *only):
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    print("torch", torch.__version__, "transformers", transformers.__version__)
    for seed, (name, (config, cls, kw, n)) in enumerate(CASES.items()):
        if only and name not in only:
            continue
        model = cls(config(**{**SMALL, **kw}, attn_implementation="eager")).eval()
        fill(model, seed)
        ids = np.random.default_rng(seed).integers(0, 32, n).astype(np.int32)
        with torch.no_grad():
            logits = model(torch.tensor(ids[None].astype(np.int64))).logits[0].float().numpy()
        folder = os.path.join(out, name)
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        os.chmod(os.path.join(folder, "model.safetensors"), 0o644)
        with open(os.path.join(folder, "golden.bin"), "wb") as f:
            f.write(struct.pack("<II", n, logits.shape[1]) + ids.tobytes() + logits.astype("<f4").tobytes())
        print(name, logits.std())


if __name__ == "__main__":
    main(*sys.argv[1:])
