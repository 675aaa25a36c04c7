#!/usr/bin/env python3
"""llama.cpp through llama-cpp-python: tokens/s of a prompt of 512 and of decoding 128 tokens after 16, one JSON line each.
   llama_decode.py MODEL.gguf [--threads N] [--rounds N]"""
import argparse
import ctypes
import json
import time

import llama_cpp as lc

PROMPT, SHORT, TOKENS = 512, 16, 128


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("model")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--what", default="both", choices=["both", "decode", "prefill"])
    a = ap.parse_args()
    quiet = lc.llama_log_callback(lambda *x: None)  # must outlive its uses
    lc.llama_log_set(quiet, ctypes.c_void_p(0))
    lc.llama_backend_init()
    mp = lc.llama_model_default_params()
    mp.n_gpu_layers = 0
    model = lc.llama_model_load_from_file(a.model.encode(), mp)
    cp = lc.llama_context_default_params()
    cp.n_ctx, cp.n_batch, cp.n_ubatch = PROMPT + TOKENS + 1, PROMPT, PROMPT
    cp.n_threads = cp.n_threads_batch = a.threads
    ctx = lc.llama_init_from_model(model, cp)
    n_vocab = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(model))

    def batch(ids):
        arr = (lc.llama_token * len(ids))(*ids)
        if lc.llama_decode(ctx, lc.llama_batch_get_one(arr, len(ids))) != 0:
            raise SystemExit("llama_decode failed")
        lc.llama_get_logits(ctx)

    best = {"decode": 0.0, "prefill": 0.0}
    for r in range(a.rounds + 1):
        if a.what != "decode":
            lc.llama_memory_clear(lc.llama_get_memory(ctx), True)
            t = time.perf_counter()
            batch([i * 7919 % n_vocab for i in range(PROMPT)])
            if r:
                best["prefill"] = max(best["prefill"], PROMPT / (time.perf_counter() - t))
        if a.what != "prefill":
            lc.llama_memory_clear(lc.llama_get_memory(ctx), True)
            batch([i * 7919 % n_vocab for i in range(SHORT)])
            t = time.perf_counter()
            for i in range(TOKENS - 1):
                batch([(i * 31 + 7) % n_vocab])
            if r:
                best["decode"] = max(best["decode"], (TOKENS - 1) / (time.perf_counter() - t))
    for k, v in best.items():
        if v:
            print(json.dumps({"program": "llama.cpp", "name": k, "value": round(v, 2), "unit": "tokens/s"}), flush=True)


main()
