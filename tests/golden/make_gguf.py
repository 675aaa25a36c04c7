#!/usr/bin/env python3
"""Small GGUF files by the gguf package for Python: seeds of fuzz_gguf, and fixtures of tests/unit/model/test_gguf.c.

    venv/bin/pip install numpy gguf && venv/bin/python tests/golden/make_gguf.py fuzz/corpus/gguf
"""
import os
import sys

import gguf
import numpy as np

D, F, H, V, L = 8, 16, 2, 264, 1
# The GPT-2 map of bytes to characters.
PRINTED = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTES = [chr(b) if b in PRINTED else chr(256 + [x for x in range(256) if x not in PRINTED].index(b)) for b in range(256)]


def model(w, arch):
    rng = np.random.default_rng(3)
    w.add_context_length(32)
    w.add_embedding_length(D)
    w.add_block_count(L)
    w.add_feed_forward_length(F)
    w.add_head_count(H)
    w.add_head_count_kv(1)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(10000.0)
    w.add_vocab_size(V)
    shapes = {"token_embd": (V, D), "output_norm": (D,)}
    for i in range(L):
        b = f"blk.{i}."
        shapes.update({b + "attn_norm": (D,), b + "attn_q": (D, D), b + "attn_k": (D // H, D), b + "attn_v": (D // H, D),
                       b + "attn_output": (D, D), b + "ffn_norm": (D,), b + "ffn_gate": (F, D), b + "ffn_up": (F, D),
                       b + "ffn_down": (D, F)})
        for part in "qkv" if arch == "qwen2" else "":
            w.add_tensor(f"{b}attn_{part}.bias", np.full(D if part == "q" else D // H, 0.1, np.float32))
    for name, shape in shapes.items():
        w.add_tensor(name + ".weight", rng.normal(0, 0.3, shape).astype(np.float16 if len(shape) > 1 else np.float32))


def gpt2_vocab(w):
    tokens = ["<s>", "</s>", *BYTES, "ab", "abc", "\u0120a"]
    tokens += [f"[PAD{i}]" for i in range(len(tokens), V)]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("llama-bpe")
    w.add_token_list(tokens)
    w.add_token_types([3, 3] + [1] * 259 + [5] * (V - 261))
    w.add_token_merges(["a b", "ab c", "\u0120 a"])
    w.add_bos_token_id(0)
    w.add_eos_token_id(1)
    w.add_add_bos_token(True)
    w.add_chat_template("{{ messages }}")


def llama_vocab(w):
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)] + ["\u2581", "a", "b", "\u2581a", "\u2581ab"]
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores([0.0] * 259 + [-5.0, -4.0, -3.0, -1.0, -2.0])
    w.add_token_types([2, 3, 3] + [6] * 256 + [1] * 5)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)


def bert_vocab(w):
    w.add_tokenizer_model("bert")
    w.add_token_list(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u2581a", "b", "\u2581c"])
    w.add_token_types([3, 3, 3, 3, 1, 1, 1])
    w.add_bos_token_id(2)
    w.add_eos_token_id(3)
    w.add_unk_token_id(1)


def write(path, arch, *parts):
    w = gguf.GGUFWriter(path, arch)
    for p in parts:
        p(w) if p is not model else model(w, arch)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    print(path, os.path.getsize(path))


def main(out):
    os.makedirs(out, exist_ok=True)
    write(os.path.join(out, "llama.gguf"), "llama", model, gpt2_vocab)
    write(os.path.join(out, "qwen2.gguf"), "qwen2", model)
    write(os.path.join(out, "spm.gguf"), "llama", llama_vocab)
    write(os.path.join(out, "bert.gguf"), "bert", bert_vocab)


if __name__ == "__main__":
    main(sys.argv[1])
