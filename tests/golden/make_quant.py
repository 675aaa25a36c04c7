#!/usr/bin/env python3
"""Quantised blocks as ggml makes and reads them.

    python3 -m venv venv && venv/bin/pip install numpy gguf && venv/bin/pip install --no-binary :all: llama-cpp-python
    venv/bin/python tests/golden/make_quant.py tests/golden/data/quant.gguf

ggml's own library does the arithmetic (ggml_quantize_chunk, and the to_float of each type), the gguf package writes the
file, so the fixture also is a file of another writer. Tensors:
    x            F32  [blocks*256] numbers of many kinds (see below)
    q.<TYPE>     that type, what ggml makes of x
    r.<TYPE>     that type, random blocks with finite factors
    y.<TYPE>     F32, what ggml reads from r.<TYPE>
tests/unit/io/test_gguf.c compares bytes.
"""
import ctypes
import glob
import os
import sys

import gguf
import llama_cpp
import numpy as np

LIB = sorted(glob.glob(os.path.join(os.path.dirname(llama_cpp.__file__), "lib", "libggml-base.so*")))[0]
ggml = ctypes.CDLL(LIB)
ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
                                     ctypes.c_int64, ctypes.c_void_p]
T = gguf.GGMLQuantizationType
WRITTEN = [T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q4_K, T.Q5_K, T.Q6_K]
READ = WRITTEN + [T.Q2_K, T.Q3_K, T.IQ4_NL]


def numbers(rng):
    n = 256
    sub = np.repeat(10.0 ** rng.uniform(-6, 0, 8), 32)
    rows = [
        rng.normal(0, 0.02, n),
        rng.normal(0, 0.02, n) + (np.arange(n) == 77) * 5,
        np.zeros(n),
        np.where(np.arange(n) % 64 < 32, 0.3, -0.4),  # constant sub-blocks
        rng.normal(0, 1, n) * (rng.random(n) < 0.05),
        rng.normal(0, 1e-12, n),  # factors vanish in half precision
        rng.normal(0, 1, n) * sub,  # scales of sub-blocks that vanish beside the largest
        rng.uniform(0.1, 2, n),  # no negative number: minimum 0
        rng.standard_t(2, n),
        -np.abs(rng.normal(0, 3, n)),
        rng.integers(-8, 8, n) / 8.0,  # ties
        rng.normal(0, 1e-40, n),  # subnormal numbers
    ]
    return np.concatenate(rows).astype(np.float32)


def quantise(t, x):
    block, size = gguf.GGML_QUANT_SIZES[t]
    out = np.zeros(len(x) // block * size, np.uint8)
    n = ggml.ggml_quantize_chunk(int(t), x.ctypes.data, out.ctypes.data, 0, 1, len(x), None)
    assert n == len(out), (t, n, len(out))
    return out


# Where the half-precision factors of a block stand.
FACTORS = {T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q4_K: [0, 2], T.Q5_K: [0, 2],
           T.Q6_K: [208], T.Q2_K: [80, 82], T.Q3_K: [108], T.IQ4_NL: [0]}


def random_blocks(rng, t, n):
    block, size = gguf.GGML_QUANT_SIZES[t]
    b = rng.integers(0, 256, (n // block, size), dtype=np.uint8)
    for at in FACTORS[t]:
        b[:, at:at + 2] = rng.normal(0, 0.1, (n // block, 1)).astype(np.float16).view(np.uint8)
    return b.reshape(-1)


def to_float(t, blocks, n):
    f = getattr(ggml, "dequantize_row_" + t.name.lower().replace("_k", "_K"))
    f.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    y = np.zeros(n, np.float32)
    f(blocks.ctypes.data, y.ctypes.data, n)
    return y


def main(path):
    rng = np.random.default_rng(7)
    w = gguf.GGUFWriter(path, "quant-fixture")
    x = numbers(rng)
    w.add_string("made.with", f"llama-cpp-python {llama_cpp.__version__}, gguf {os.path.basename(LIB)}")
    w.add_tensor("x", x)
    for t in WRITTEN:
        w.add_tensor(f"q.{t.name}", quantise(t, x), raw_dtype=t)
    for t in READ:
        r = random_blocks(rng, t, 512)
        w.add_tensor(f"r.{t.name}", r, raw_dtype=t)
        w.add_tensor(f"y.{t.name}", to_float(t, r, 512))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    print(f"{path}: {os.path.getsize(path)} bytes, llama-cpp-python {llama_cpp.__version__}")


if __name__ == "__main__":
    main(sys.argv[1])
