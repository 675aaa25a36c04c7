#!/usr/bin/env python3
"""A weight in nf4 as bitsandbytes quantises it, with scales in f32 and quantised twice -> data/nf4.safetensors.

Versions that made the file in the tree: bitsandbytes 0.50.2, torch 2.15.0. Run: make_nf4.py
"""
import os

import bitsandbytes
import torch
from bitsandbytes import functional as F
from safetensors.torch import save_file

torch.manual_seed(3)
w = torch.randn(260, 70) * 0.05 * torch.exp(torch.randn(260, 1))  # 18,200 elements: 284 blocks and part of one, two groups of scales
w[7:9] = 0  # a block of zeros
w = w.bfloat16()
out = {"w": w}
for twice in (False, True):
    q, state = F.quantize_4bit(w, blocksize=64, compress_statistics=twice, quant_type="nf4")
    out["codes"] = q.flatten()
    state.dtype = torch.float32
    all = F.dequantize_4bit(q, state).flatten()
    name = "twice" if twice else "once"
    out[name + ".first"] = all[:700]
    out[name + ".every"] = all[3::29]
folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
save_file({k: v.contiguous() for k, v in out.items()}, os.path.join(folder, "nf4.safetensors"), {"bitsandbytes": bitsandbytes.__version__, "torch": torch.__version__})
print("bitsandbytes", bitsandbytes.__version__, "torch", torch.__version__)
