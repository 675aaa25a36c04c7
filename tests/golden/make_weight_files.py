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


def state_dict(rng):
    """Values that bf16 holds, in many types, as views, in a shared storage."""
    out = {}
    for i, (key, shape) in enumerate(shapes().items()):
        dtype = [torch.bfloat16, torch.float32, torch.float16, torch.float64][i % 4]
        w = torch.from_numpy(rng.integers(-127, 128, shape) / 64.0).to(dtype)
        if i == 2:
            w = w.t().contiguous().t()  # strides (1, rows)
        if i == 3:
            w = torch.cat([torch.full_like(w, 9), w])[w.shape[0]:]  # begins inside its storage
        if i == 4:
            w = torch.nn.Parameter(w)
        if i == 6:
            w = torch.stack([w, w + 1], dim=2)[:, :, 0]  # strides (2 cols, 2)
        out[key] = w
    out["lm_head.weight"] = out["model.embed_tokens.weight"]
    out["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(6)
    return out


def pytorch(rng):
    d = state_dict(rng)
    save_file({k: v.detach().float().contiguous().clone() for k, v in d.items() if "inv_freq" not in k},
              os.path.join(OUT, "torch_f32.safetensors"))
    torch.save(d, os.path.join(folder("torch_zip", CONFIG), "pytorch_model.bin"))
    torch.save(d, os.path.join(folder("torch_old", CONFIG), "pytorch_model.bin"),
               _use_new_zipfile_serialization=False)
    path = folder("torch_shards", CONFIG)
    keys = list(d)
    names = ["pytorch_model-%05d-of-00002.bin" % (i + 1) for i in range(2)]
    for i, name in enumerate(names):
        part = {k: d[k] for k in keys[i::2]}
        torch.save({"epoch": 3, "state_dict": part} if i else part, os.path.join(path, name))
    with open(os.path.join(path, "pytorch_model.bin.index.json"), "w") as f:
        json.dump({"metadata": {}, "weight_map": {k: names[i % 2] for i, k in enumerate(keys)}}, f, indent=0)
    # fp8 tensors go through another function and untyped storages.
    fp8_codes = torch.arange(0, 256, dtype=torch.uint8).view(torch.float8_e4m3fn).reshape(16, 16)
    torch.save({"codes": fp8_codes, "half": torch.ones(3, dtype=torch.float16), "n": torch.tensor(5)},
               os.path.join(OUT, "torch_fp8.pt"))


def archive(path, pkl, members=None, compress=False):
    import zipfile
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as z:
        for name, data in [("archive/data.pkl", pkl)] + sorted((members or {"archive/data/0": bytes(64)}).items()):
            z.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data,
                       compress_type=zipfile.ZIP_DEFLATED if compress else None)


def tensor(offset=0, dims=(4, 4), strides=(4, 1), n=16, storage=b"FloatStorage", key=b"0"):
    """The pickle of {"w": tensor}, by hand."""
    def num(i):
        return b"\x8a\x08" + int(i).to_bytes(8, "little", signed=True)

    def text(t):
        return b"X" + len(t).to_bytes(4, "little") + t

    def tup(items):
        return b"(" + b"".join(num(i) for i in items) + b"t"

    return (b"\x80\x02}(" + text(b"w") + b"ctorch._utils\n_rebuild_tensor_v2\n((" + text(b"storage") + b"ctorch\n" +
            storage + b"\n" + text(key) + text(b"cpu") + num(n) + b"tQ" + num(offset) + tup(dims) + tup(strides) +
            b"\x89}tRu.")


def hostile():
    """Files that must be refused; none does anything but be refused. The name says what is wrong."""
    path = os.path.join(OUT, "hostile")
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    cases = {
        "system": b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.",
        "eval": b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
        "newobj": b"\x80\x02ctorch\nTensor\n)\x81.",
        "inst": b"(ios\nsystem\n.",
        "extension": b"\x80\x02\x82\x01.",
        "memo": b"\x80\x02}r\xff\xff\xff\x7f.",
        "memo_get": b"\x80\x02h\x05.",
        "long_text": b"\x80\x02X\xff\xff\xff\x7fabc.",
        "long_number": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "no_stop": b"\x80\x02}",
        "empty_stack": b"\x80\x020.",
        "call_data": b"\x80\x02}}R.",
        "self": b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.",
        "no_tensors": b"\x80\x02}X\x01\x00\x00\x00aK\x01s.",
        "bad_opcode": b"\x80\x02\xff.",
        "offset": tensor(offset=1),
        "offset_negative": tensor(offset=-1),
        "offset_huge": tensor(offset=2**62),
        "stride": tensor(strides=(5, 1)),
        "stride_negative": tensor(strides=(-4, 1)),
        "dims_overflow": tensor(dims=(2**33, 2**33), strides=(0, 0)),
        "dims_strides": tensor(strides=(1,)),
        "storage_short": tensor(n=17),
        "storage_huge": tensor(n=2**61),
        "storage_missing": tensor(key=b"1"),
        "storage_path": tensor(key=b"../../x"),
        "storage_class": tensor(storage=b"QInt8Storage"),
    }
    for name, pkl in cases.items():
        archive(os.path.join(path, name + ".pt"), pkl)
    import zipfile
    for n in (374, 380, 385, 391, 400, 600):  # folder names around the reader's limit
        with zipfile.ZipFile(os.path.join(path, "folder_%d.pt" % n), "w") as z:
            z.writestr(zipfile.ZipInfo("f" * n + "/data.pkl", (1980, 1, 1, 0, 0, 0)), tensor(key=b"1"))
    archive(os.path.join(path, "compressed.pt"), tensor(), compress=True)
    archive(os.path.join(path, "bomb.pt"), tensor(), {"archive/data/0": bytes(1 << 16)}, compress=True)
    archive(os.path.join(path, "big_endian.pt"), tensor(), {"archive/data/0": bytes(64), "archive/byteorder": b"big"})
    good = os.path.join(path, "good")
    archive(good, tensor())
    data = open(good, "rb").read()
    os.remove(good)
    for name, change in {
        "cut": lambda b: b[:-30], "cut_early": lambda b: b[:60], "flipped": lambda b: b[:60] + b"\x00" + b[61:],
        "directory": lambda b: b[:-6] + (len(b) + 9).to_bytes(4, "little") + b[-2:],
        "entries": lambda b: b[:-12] + b"\xff\xff" + b[-10:],
        "place": lambda b: b.replace(b"PK\x01\x02", b"PK\x01\x03"),
        "local": lambda b: b"PK\x03\x05".join(b.rsplit(b"PK\x03\x04", 1)),
    }.items():
        changed = change(data)
        assert changed != data, name
        open(os.path.join(path, "zip_" + name + ".pt"), "wb").write(changed)
    open(os.path.join(path, "text.pt"), "w").write("version https://git-lfs.github.com/spec/v1\n")
    open(os.path.join(path, "empty.pt"), "w").close()
    old = os.path.join(OUT, "torch_old", "pytorch_model.bin")
    open(os.path.join(path, "old_cut.pt"), "wb").write(open(old, "rb").read()[:-100])


def main():
    os.makedirs(OUT, exist_ok=True)
    rng = np.random.default_rng(20)
    fp8("fp8", None, rng)
    fp8("fp8_ue8m0", "ue8m0", rng)
    pytorch(rng)
    hostile()
    print("torch", torch.__version__, "safetensors", safetensors.__version__, "numpy", np.__version__)


if __name__ == "__main__":
    main()
