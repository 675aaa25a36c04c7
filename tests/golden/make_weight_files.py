#!/usr/bin/env python3
"""Small model folders in the formats that people have: block-scaled fp8, PyTorch state dicts.

    python3 tests/golden/make_weight_files.py

Made with the versions printed at the end. Each folder of tests/golden/data/files holds a model; expected.safetensors
beside them holds the numbers that every folder must give (fp8 has its own: expected_f32, expected_bf16).
"""
import json
import os
import shutil

import numpy as np
import safetensors
import torch
from safetensors.torch import save_file

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "files")
BLOCK = 16
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 40, "hidden_size": 24,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 12,
    "intermediate_size": 40, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def shapes():
    d, f, v, h, kv = 24, 40, 40, 24, 12
    p = "model.layers.0."
    return {
        "model.embed_tokens.weight": (v, d), p + "self_attn.q_proj.weight": (h, d),
        p + "self_attn.k_proj.weight": (kv, d), p + "self_attn.v_proj.weight": (kv, d),
        p + "self_attn.o_proj.weight": (d, h), p + "mlp.gate_proj.weight": (f, d), p + "mlp.up_proj.weight": (f, d),
        p + "mlp.down_proj.weight": (d, f), p + "input_layernorm.weight": (d,),
        p + "post_attention_layernorm.weight": (d,), "model.norm.weight": (d,), "lm_head.weight": (v, d),
    }


def folder(name, config):
    path = os.path.join(OUT, name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    with open(os.path.join(path, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
    return path


def round_bf16(x):
    """float64 -> the nearest bfloat16, ties to even, in one rounding (a cast through float32 rounds twice)."""
    m, e = np.frexp(x)
    return torch.from_numpy(np.ldexp(np.rint(m * 256) / 256, e)).to(torch.bfloat16)


def fp8(name, scale_fmt, rng):
    config = dict(CONFIG)
    config["quantization_config"] = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                                     "weight_block_size": [BLOCK, BLOCK]}
    if scale_fmt:
        config["quantization_config"]["scale_fmt"] = scale_fmt
    path = folder(name, config)
    stored, f32, bf16 = {}, {}, {}
    for key, shape in shapes().items():
        if "proj" not in key:
            stored[key] = torch.from_numpy(rng.standard_normal(shape)).to(torch.bfloat16)
            f32[key], bf16[key] = stored[key].float(), stored[key]
            continue
        codes = rng.integers(0, 256, shape).astype(np.uint8)
        codes.reshape(-1)[:254] = [c for c in range(256) if c not in (0x7F, 0xFF)][:codes.size]
        codes[(codes & 0x7F) == 0x7F] = 0x7E  # the code of NaN
        w = torch.from_numpy(codes).view(torch.float8_e4m3fn)
        grid = tuple(-(-n // BLOCK) for n in shape)
        scale = torch.from_numpy(np.exp2(rng.integers(-9, 3, grid)) if scale_fmt == "ue8m0"
                                 else rng.uniform(1e-4, 2e-3, grid)).to(torch.float32)
        stored[key], stored[key + "_scale_inv"] = w, scale
        full = scale.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)[: shape[0], : shape[1]]
        f32[key] = w.float() * full
        bf16[key] = round_bf16(w.double().numpy() * full.double().numpy())
    save_file(stored, os.path.join(path, "model.safetensors"), {"format": "pt"})
    save_file(f32, os.path.join(OUT, name + "_f32.safetensors"))
    save_file(bf16, os.path.join(OUT, name + "_bf16.safetensors"))


def main():
    os.makedirs(OUT, exist_ok=True)
    rng = np.random.default_rng(20)
    fp8("fp8", None, rng)
    fp8("fp8_ue8m0", "ue8m0", rng)
    print("torch", torch.__version__, "safetensors", safetensors.__version__, "numpy", np.__version__)


if __name__ == "__main__":
    main()
