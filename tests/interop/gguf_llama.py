#!/usr/bin/env python3
"""GGUF files of Fathom in llama.cpp, and llama.cpp's in Fathom.

    python3 -m venv venv && venv/bin/pip install numpy safetensors gguf
    venv/bin/pip install --no-binary llama-cpp-python llama-cpp-python      # builds llama.cpp, about ten minutes
    venv/bin/python tests/interop/gguf_llama.py build/fathom [case ...]

For each architecture and element type: a random model is written as a Hugging Face folder, converted by Fathom, loaded
by llama.cpp, and both continue prompts greedily: the tokens must be the same, the logits close (of BERT: the pooled
embeddings, and the ids of texts). Then
  - llama.cpp quantises Fathom's F32 file; Fathom's own quantised file must have the same bytes in every tensor,
  - Fathom reads llama.cpp's file and its logits must equal those of its own,
  - the way back to a folder must give the weights bit for bit (F32, BF16).
Last line: versions, and the number of checks.
"""
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile

import ctypes
import gguf
import llama_cpp
import numpy as np
from safetensors.numpy import load_file, save_file

FATHOM = sys.argv[1] if len(sys.argv) > 1 else "build/fathom"
N_CHECKS = 0

BASE = dict(vocab_size=288, hidden_size=256, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, head_dim=64, max_position_embeddings=128, rms_norm_eps=1e-5, rope_theta=10000.0,
            hidden_act="silu", tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, torch_dtype="float32")
MOE = dict(n_routed_experts=8, num_experts_per_tok=2, n_shared_experts=1, moe_intermediate_size=256,
           first_k_dense_replace=1, moe_layer_freq=1, routed_scaling_factor=1.0, norm_topk_prob=False)
MLA = dict(kv_lora_rank=256, qk_nope_head_dim=32, qk_rope_head_dim=32, v_head_dim=64, attention_bias=False,
           num_key_value_heads=4)
YARN = dict(type="yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=32, beta_slow=1, mscale=0.707,
            mscale_all_dim=0.707)

CASES = {
    "llama": ("LlamaForCausalLM", "llama", {}),
    "llama_tied": ("LlamaForCausalLM", "llama", dict(tie_word_embeddings=True, rope_scaling=dict(type="linear", factor=2.0))),
    "llama3": ("LlamaForCausalLM", "llama",
               dict(rope_theta=500.0, rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0,
                                                        high_freq_factor=4.0, original_max_position_embeddings=32))),
    "llama_odd": ("LlamaForCausalLM", "llama", dict(hidden_size=96, head_dim=24, intermediate_size=160)),
    "mistral": ("MistralForCausalLM", "mistral", dict(sliding_window=None)),
    "qwen2": ("Qwen2ForCausalLM", "qwen2", dict(use_sliding_window=False)),
    "qwen2_yarn": ("Qwen2ForCausalLM", "qwen2",
                   dict(use_sliding_window=False, rope_scaling=dict(type="yarn", factor=4.0,
                                                                    original_max_position_embeddings=32))),
    "qwen3": ("Qwen3ForCausalLM", "qwen3", dict(use_sliding_window=False, tie_word_embeddings=True)),
    "qwen3_moe": ("Qwen3MoeForCausalLM", "qwen3_moe",
                  dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=256, norm_topk_prob=True,
                       decoder_sparse_step=1, mlp_only_layers=[])),
    "deepseek": ("DeepseekForCausalLM", "deepseek", MOE),
    "mixtral": ("MixtralForCausalLM", "mixtral", dict(num_local_experts=8, num_experts_per_tok=2, sliding_window=None)),
    "deepseek_v2_lite": ("DeepseekV2ForCausalLM", "deepseek_v2",
                         dict(MOE, **MLA, q_lora_rank=None, n_group=1, topk_group=1, topk_method="greedy",
                              scoring_func="softmax", rope_scaling=YARN)),
    "deepseek_v2": ("DeepseekV2ForCausalLM", "deepseek_v2",
                    dict(MOE, **MLA, q_lora_rank=96, n_group=1, topk_group=1, topk_method="greedy",
                         scoring_func="softmax", routed_scaling_factor=2.0)),
    "deepseek_v3": ("DeepseekV3ForCausalLM", "deepseek_v3",
                    dict(dict(MOE, norm_topk_prob=True, routed_scaling_factor=2.5), **MLA, q_lora_rank=96, n_group=4,
                         topk_group=2, topk_method="noaux_tc", scoring_func="sigmoid",
                         rope_scaling=dict(YARN, mscale=1.0, mscale_all_dim=1.0))),
    "deepseek_v32": ("DeepseekV32ForCausalLM", "deepseek_v32",
                     dict(dict(MOE, norm_topk_prob=True, routed_scaling_factor=2.5), **MLA, q_lora_rank=96, n_group=4,
                          topk_group=2, topk_method="noaux_tc", scoring_func="sigmoid", index_n_heads=4,
                          index_head_dim=64, index_topk=42, rope_scaling=dict(YARN, mscale=1.0, mscale_all_dim=1.0))),
    "gpt2": ("GPT2LMHeadModel", "gpt2",
             dict(n_embd=256, n_head=4, n_layer=3, n_positions=128, n_ctx=128, activation_function="gelu_new",
                  layer_norm_epsilon=1e-5, tie_word_embeddings=True)),
}
BERT = dict(vocab_size=288, hidden_size=256, num_attention_heads=4, intermediate_size=512, num_hidden_layers=3,
            max_position_embeddings=96, type_vocab_size=2, hidden_act="gelu", layer_norm_eps=1e-12, pad_token_id=0,
            architectures=["BertModel"], model_type="bert", torch_dtype="float32")
ENCODERS = {"bert_cls": "pooling_mode_cls_token", "bert_mean": "pooling_mode_mean_tokens"}
TEXTS = ["the cat sat", "The CAT, sat; on unseenwords!", "caf\u00e9 at the mat", "sat unzzz 42"]


def shapes(c, kind):
    """Hugging Face names and shapes."""
    d, v, out = c["hidden_size"], c["vocab_size"], {}
    if kind == "bert":
        def pair(name, *shape):
            out[name + ".weight"], out[name + ".bias"] = shape, shape[:1]

        out["embeddings.word_embeddings.weight"] = (v, d)
        out["embeddings.position_embeddings.weight"] = (c["max_position_embeddings"], d)
        out["embeddings.token_type_embeddings.weight"] = (c["type_vocab_size"], d)
        pair("embeddings.LayerNorm", d)
        for i in range(c["num_hidden_layers"]):
            p = f"encoder.layer.{i}."
            for n in ("self.query", "self.key", "self.value", "output.dense"):
                pair(p + "attention." + n, d, d)
            pair(p + "attention.output.LayerNorm", d)
            pair(p + "intermediate.dense", c["intermediate_size"], d)
            pair(p + "output.dense", d, c["intermediate_size"])
            pair(p + "output.LayerNorm", d)
        pair("pooler.dense", d, d)
        return out
    if kind == "gpt2":
        e = c["n_embd"]
        out["transformer.wte.weight"] = (v, e)
        out["transformer.wpe.weight"] = (c["n_positions"], e)
        for i in range(c["n_layer"]):
            p = f"transformer.h.{i}."
            for n, s in (("attn.c_attn", (e, 3 * e)), ("attn.c_proj", (e, e)), ("mlp.c_fc", (e, 4 * e)),
                         ("mlp.c_proj", (4 * e, e))):
                out[p + n + ".weight"], out[p + n + ".bias"] = s, (s[1],)
            for n in ("ln_1", "ln_2"):
                out[p + n + ".weight"], out[p + n + ".bias"] = (e,), (e,)
        out["transformer.ln_f.weight"], out["transformer.ln_f.bias"] = (e,), (e,)
        return out
    out["model.embed_tokens.weight"] = (v, d)
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        h, kv, hd = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        out[p + "input_layernorm.weight"] = out[p + "post_attention_layernorm.weight"] = (d,)
        if "kv_lora_rank" in c:
            r, qk = c["kv_lora_rank"], c["qk_nope_head_dim"] + c["qk_rope_head_dim"]
            if c["q_lora_rank"]:
                out[p + "self_attn.q_a_proj.weight"] = (c["q_lora_rank"], d)
                out[p + "self_attn.q_a_layernorm.weight"] = (c["q_lora_rank"],)
                out[p + "self_attn.q_b_proj.weight"] = (h * qk, c["q_lora_rank"])
            else:
                out[p + "self_attn.q_proj.weight"] = (h * qk, d)
            out[p + "self_attn.kv_a_proj_with_mqa.weight"] = (r + c["qk_rope_head_dim"], d)
            out[p + "self_attn.kv_a_layernorm.weight"] = (r,)
            out[p + "self_attn.kv_b_proj.weight"] = (h * (c["qk_nope_head_dim"] + c["v_head_dim"]), r)
            out[p + "self_attn.o_proj.weight"] = (d, h * c["v_head_dim"])
            if "index_topk" in c:
                q, n = p + "self_attn.indexer.", c["index_head_dim"]
                out[q + "wq_b.weight"] = (c["index_n_heads"] * n, c["q_lora_rank"])
                out[q + "wk.weight"], out[q + "weights_proj.weight"] = (n, d), (c["index_n_heads"], d)
                out[q + "k_norm.weight"] = out[q + "k_norm.bias"] = (n,)
        else:
            for n, rows in (("q", h), ("k", kv), ("v", kv)):
                out[p + f"self_attn.{n}_proj.weight"] = (rows * hd, d)
                if kind == "qwen2":
                    out[p + f"self_attn.{n}_proj.bias"] = (rows * hd,)
            out[p + "self_attn.o_proj.weight"] = (d, h * hd)
            if kind.startswith("qwen3"):
                out[p + "self_attn.q_norm.weight"] = out[p + "self_attn.k_norm.weight"] = (hd,)

        def mlp(q, f):
            out[q + "gate_proj.weight"] = out[q + "up_proj.weight"] = (f, d)
            out[q + "down_proj.weight"] = (d, f)

        if kind == "mixtral":
            out[p + "block_sparse_moe.gate.weight"] = (c["num_local_experts"], d)
            for e in range(c["num_local_experts"]):
                q = p + f"block_sparse_moe.experts.{e}."
                out[q + "w1.weight"] = out[q + "w3.weight"] = (c["intermediate_size"], d)
                out[q + "w2.weight"] = (d, c["intermediate_size"])
        elif kind == "qwen3_moe" or i >= c.get("first_k_dense_replace", 1 << 30):
            n = c["num_experts"] if kind == "qwen3_moe" else c["n_routed_experts"]
            out[p + "mlp.gate.weight"] = (n, d)
            if c.get("topk_method") == "noaux_tc":
                out[p + "mlp.gate.e_score_correction_bias"] = (n,)
            for e in range(n):
                mlp(p + f"mlp.experts.{e}.", c["moe_intermediate_size"])
            if "n_shared_experts" in c:
                mlp(p + "mlp.shared_experts.", c["moe_intermediate_size"] * c["n_shared_experts"])
        else:
            mlp(p + "mlp.", c["intermediate_size"])
    out["model.norm.weight"] = (d,)
    if not c["tie_word_embeddings"]:
        out["lm_head.weight"] = (v, d)
    return out


def write_word_pieces(path):
    """tokenizer.json of an uncased BERT with 288 tokens."""
    letters = [chr(i) for i in range(ord("a"), ord("z") + 1)] + list("0123456789.,;!?'-")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "on", "mat", "cafe", "at", "##s", "un",
              "##seen", "##words"] + letters + ["##" + x for x in letters[:26] if x != "s" and x != "z"]
    tokens += [f"[unused{i}]" for i in range(BERT["vocab_size"] - len(tokens))]
    special = [dict(id=i, content=tokens[i], single_word=False, lstrip=False, rstrip=False, normalized=False,
                    special=True) for i in range(5)]
    around = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
              {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]
    t = dict(version="1.0", truncation=None, padding=None, added_tokens=special,
             normalizer=dict(type="BertNormalizer", clean_text=True, handle_chinese_chars=True, strip_accents=None,
                             lowercase=True), pre_tokenizer=dict(type="BertPreTokenizer"),
             post_processor=dict(type="TemplateProcessing", single=around,
                                 pair=around + [{"Sequence": {"id": "B", "type_id": 1}},
                                                {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
                                 special_tokens={x: dict(id=x, ids=[tokens.index(x)], tokens=[x])
                                                 for x in ("[CLS]", "[SEP]")}),
             decoder=dict(type="WordPiece", prefix="##", cleanup=True),
             model=dict(type="WordPiece", unk_token="[UNK]", continuing_subword_prefix="##",
                        max_input_chars_per_word=100, vocab={x: i for i, x in enumerate(tokens)}))
    json.dump(t, open(os.path.join(path, "tokenizer.json"), "w"))


def write_model(path, case):
    arch, kind, more = CASES[case] if case in CASES else (None, "bert", {})
    c = dict(BASE, architectures=[arch], model_type=kind, **more) if kind not in ("gpt2", "bert") else dict(
        vocab_size=288, hidden_size=256, bos_token_id=1, eos_token_id=2, torch_dtype="float32", architectures=[arch],
        model_type=kind, **more)
    for k, v in more.items():
        c[k] = v
    c = dict(BERT) if kind == "bert" else c
    rng = np.random.default_rng(sum(case.encode()))
    w = {}
    for name, shape in shapes(c, kind).items():
        norm = len(shape) == 1 and "bias" not in name
        fan = shape[0] if "c_" in name else shape[-1]
        std = 0.2 if norm else 0.1 if len(shape) == 1 else 2.0 if "embed" in name or "wte" in name else fan ** -0.5
        x = (rng.normal(0, std, shape) + norm).astype(np.float32)
        w[name] = (x.view(np.uint32) & 0xffff0000).view(np.float32)  # bf16 values: f32 and bf16 files agree
    os.makedirs(path)
    if kind == "gpt2":
        c.pop("hidden_size")
    if kind == "bert":
        write_word_pieces(path)
        os.makedirs(os.path.join(path, "1_Pooling"))
        json.dump({ENCODERS[case]: True}, open(os.path.join(path, "1_Pooling", "config.json"), "w"))
    json.dump(c, open(os.path.join(path, "config.json"), "w"), indent=1)
    save_file(w, os.path.join(path, "model.safetensors"), metadata={"format": "pt"})
    return w


def fathom(*args, stdin=None, check=True):
    r = subprocess.run([FATHOM, *args], input=stdin, capture_output=True, text=True)
    if check and r.returncode != 0:
        raise SystemExit(f"fathom {' '.join(args)}: {r.stderr}")
    return r


def fathom_logits(model, rows, tmp):
    out = os.path.join(tmp, "logits.npy")
    fathom("logits", model, "-o", out, "--dtype", "f32", stdin="".join(json.dumps({"ids": r}) + "\n" for r in rows))
    return np.load(out)


def fathom_lines(args, items, key):
    out = fathom(*args, stdin="".join(json.dumps(x) + "\n" for x in items)).stdout
    return [json.loads(line)[key] for line in out.splitlines()]


def fathom_vectors(model, rows):
    return np.array(fathom_lines(["logits", model, "--embed", "auto", "--dtype", "f32"], [{"ids": r} for r in rows],
                                 "embedding"), np.float32)


class Llama:
    def __init__(self, path, embeddings=False):
        llama_cpp.llama_log_set(QUIET, None)
        p = llama_cpp.llama_model_default_params()
        p.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), p)
        assert self.model, f"llama.cpp does not load {path}"
        c = llama_cpp.llama_context_default_params()
        c.n_ctx, c.n_threads, c.n_threads_batch, c.type_k, c.type_v = 128, 2, 2, 0, 0  # F32 cache
        c.flash_attn_type, c.embeddings = 0, embeddings
        self.ctx = llama_cpp.llama_init_from_model(self.model, c)
        assert self.ctx
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def logits(self, ids):
        """[n, vocab]"""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.ctx), True)
        b = llama_cpp.llama_batch_init(len(ids), 0, 1)
        b.n_tokens = len(ids)
        for i, t in enumerate(ids):
            b.token[i], b.pos[i], b.n_seq_id[i], b.logits[i] = t, i, 1, 1
            b.seq_id[i][0] = 0
        assert llama_cpp.llama_decode(self.ctx, b) == 0
        out = [np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.ctx, i), (self.n_vocab,)).copy()
               for i in range(len(ids))]
        llama_cpp.llama_batch_free(b)
        return np.stack(out)

    def embedding(self, ids):
        """[width], pooled as the file says"""
        b = llama_cpp.llama_batch_init(len(ids), 0, 1)
        b.n_tokens = len(ids)
        for i, t in enumerate(ids):
            b.token[i], b.pos[i], b.n_seq_id[i], b.logits[i] = t, i, 1, 1
            b.seq_id[i][0] = 0
        assert llama_cpp.llama_encode(self.ctx, b) == 0
        width = llama_cpp.llama_model_n_embd(self.model)
        out = np.ctypeslib.as_array(llama_cpp.llama_get_embeddings_seq(self.ctx, 0), (width,)).copy()
        llama_cpp.llama_batch_free(b)
        return out

    def ids(self, text):
        data, out = text.encode(), (llama_cpp.llama_token * 256)()
        vocab = llama_cpp.llama_model_get_vocab(self.model)
        n = llama_cpp.llama_tokenize(vocab, data, len(data), out, 256, True, False)
        return list(out[:n])

    def close(self):
        llama_cpp.llama_free(self.ctx)
        llama_cpp.llama_model_free(self.model)


QUIET = llama_cpp.llama_log_callback(lambda level, text, user: sys.stderr.write(text.decode()) if level >= 4 and
                                     os.environ.get("VERBOSE") else None)


def check(ok, what):
    global N_CHECKS
    N_CHECKS += 1
    if not ok:
        raise SystemExit(f"FAILED: {what}")


def far(a, b):
    return float(np.max(np.abs(a - b)) / np.max(np.abs(b)))


def greedy(logits_of, prompt, n):
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(np.argmax(logits_of(ids)[-1])))
    return ids[len(prompt):]


def tensors(path):
    return {t.name: (t.tensor_type, bytes(t.data)) for t in gguf.GGUFReader(path).tensors}


# llama.cpp rounds activations to 8 bits beside quantised weights, to bf16 or f16 beside those: logits differ by that.
TOLERANCE = {"f32": 2e-4, "bf16": 2e-2, "f16": 2e-3, "q8_0": 5e-2, "q4_0": 0.15, "q4_k_m": 0.15, "q6_k": 0.1}
FTYPE = {"q8_0": 7, "q4_0": 2, "q4_k_m": 15, "q6_k": 18}


def compare(case, dtype, path, rows, tmp):
    """Logits of llama.cpp and Fathom over the same file: the largest difference, or where there are experts the usual
    one, since a rounding may choose another expert. With sparse attention llama.cpp now and then attends to the other
    of two keys with nearly equal scores, in f32 too: of the tokens that see a choice of keys four fifths must agree."""
    ll = Llama(path)
    worst = 0.0
    routed = "num_experts_per_tok" in CASES[case][2] and dtype != "f32"
    dense = CASES[case][2].get("index_topk", 1 << 30)  # tokens that see all keys before them
    for r in rows:
        a, b = ll.logits(r), fathom_logits(path, [r], tmp)[0]
        per_token = np.max(np.abs(a - b), axis=1) / np.max(np.abs(b))
        worst = max(worst, float(np.median(per_token) if routed else np.max(per_token[:dense])))
        if dense < len(r) and not routed:
            worst = max(worst, float(np.quantile(per_token[dense:], 0.8)))
    check(worst <= TOLERANCE[dtype], f"{case} {dtype}: logits differ by {worst:.2g} of the largest")
    if dtype in ("f32",):
        for r in rows:
            want = greedy(lambda ids: fathom_logits(path, [ids], tmp)[0], r[:8], 8)
            have = greedy(ll.logits, r[:8], 8)
            check(want == have, f"{case} {dtype}: greedy tokens {have} instead of {want}")
    ll.close()
    return worst


def quantised_same(case, dtype, f32, mine, tmp):
    other = os.path.join(tmp, "llama.gguf")
    p = llama_cpp.llama_model_quantize_default_params()
    p.ftype, p.nthread = FTYPE[dtype], 2
    check(llama_cpp.llama_model_quantize(f32.encode(), other.encode(), ctypes.byref(p)) == 0,
          f"{case}: llama.cpp does not quantise")
    a, b = tensors(mine), tensors(other)
    check(sorted(a) == sorted(b), f"{case} {dtype}: tensors differ: {sorted(set(a) ^ set(b))}")
    for name in a:
        check(a[name][0] == b[name][0], f"{case} {dtype}: {name} is {a[name][0].name}, llama.cpp's {b[name][0].name}")
        check(a[name][1] == b[name][1], f"{case} {dtype}: {name} ({a[name][0].name}) has other bytes than llama.cpp's")
    return other


def run(case, tmp):
    hf = os.path.join(tmp, case)
    weights = write_model(hf, case)
    if fathom("info", hf, check=False).returncode != 0:
        print(f"{case}: not a family of this build, skipped")
        return
    rng = np.random.default_rng(1)
    rows = [[int(t) for t in rng.integers(3, 288, 64)] for _ in range(2)]
    ref = fathom_logits(hf, rows, tmp)
    line = []
    f32 = os.path.join(tmp, f"{case}-f32.gguf")
    for dtype in ("f32", "bf16", "f16", "q8_0", "q4_0", "q4_k_m", "q6_k"):
        path = os.path.join(tmp, f"{case}-{dtype}.gguf")
        fathom("convert", hf, path, "--dtype", dtype)
        line.append(f"{dtype} {compare(case, dtype, path, rows, tmp):.1e}")
        mine = fathom_logits(path, rows, tmp)
        if dtype in ("f32", "bf16"):
            check(np.array_equal(mine, ref), f"{case} {dtype}: logits from GGUF differ from those of the folder")
            back = os.path.join(tmp, f"{case}-back-{dtype}")
            fathom("convert", path, back)
            w = {} if dtype == "bf16" else load_file(os.path.join(back, "model.safetensors"))
            for name in weights if w else ():
                check(name in w and np.array_equal(w[name].view(np.uint32), weights[name].view(np.uint32)),
                      f"{case} {dtype}: {name} changed on the way")
            check(np.array_equal(fathom_logits(back, rows, tmp), ref), f"{case} {dtype}: folder made from GGUF differs")
            bare = os.path.join(tmp, f"{case}-bare-{dtype}.gguf")
            fathom("convert", hf, bare, "--dtype", dtype, "--no-files")  # what another writer's file would say
            check(far(fathom_logits(bare, rows, tmp), ref) < 1e-5, f"{case} {dtype}: metadata alone gives other logits")
        if dtype in FTYPE:
            other = quantised_same(case, dtype, f32, path, tmp)
            check(np.array_equal(fathom_logits(other, rows, tmp), mine), f"{case} {dtype}: llama.cpp's file read badly")
            again = os.path.join(tmp, "again.gguf")
            fathom("convert", f32, again, "--dtype", dtype, "--overwrite")
            check(tensors(again) == tensors(path), f"{case} {dtype}: GGUF to GGUF gives other tensors")
    print(f"{case}: largest relative difference of logits: " + ", ".join(line))


def run_encoder(case, tmp):
    """As run(), by embeddings. llama.cpp's gelu is the tanh form out of a table in f16: tolerance 3e-3 in f32."""
    hf = os.path.join(tmp, case)
    weights = write_model(hf, case)
    rng = np.random.default_rng(1)
    rows = [[2] + [int(t) for t in rng.integers(5, 288, n)] + [3] for n in (1, 30, 62)]
    ref, line = fathom_vectors(hf, rows), []
    f32 = os.path.join(tmp, f"{case}-f32.gguf")
    for dtype in ("f32", "bf16", "f16", "q8_0", "q4_0", "q4_k_m", "q6_k"):
        path = os.path.join(tmp, f"{case}-{dtype}.gguf")
        fathom("convert", hf, path, "--dtype", dtype)
        mine, ll = fathom_vectors(path, rows), Llama(path, embeddings=True)
        worst = max(far(ll.embedding(r), v) for r, v in zip(rows, mine))
        check(worst <= max(TOLERANCE[dtype], 3e-3), f"{case} {dtype}: embeddings differ by {worst:.2g} of the largest")
        line.append(f"{dtype} {worst:.1e}")
        if dtype == "f32":
            texts = [{"text": t} for t in TEXTS]
            want = fathom_lines(["tokenizer", "encode", "--special", hf], texts, "ids")
            check([ll.ids(t) for t in TEXTS] == want, f"{case}: ids {[ll.ids(t) for t in TEXTS]} instead of {want}")
            check(fathom_lines(["tokenizer", "encode", "--special", path], texts, "ids") == want, f"{case}: ids read from GGUF")
        ll.close()
        if dtype in ("f32", "bf16"):
            check(np.array_equal(mine, ref), f"{case} {dtype}: embeddings from GGUF differ from those of the folder")
            back, bare = os.path.join(tmp, f"{case}-back-{dtype}"), os.path.join(tmp, f"{case}-bare-{dtype}.gguf")
            fathom("convert", path, back)
            w = {} if dtype == "bf16" else load_file(os.path.join(back, "model.safetensors"))
            for name in weights if w else ():
                same = name in w and np.array_equal(w[name].view(np.uint32), weights[name].view(np.uint32))
                check(same != name.startswith("pooler."), f"{case} {dtype}: {name} on the way back")
            fathom("convert", hf, bare, "--dtype", dtype, "--no-files")
            check(far(fathom_vectors(bare, rows), ref) < 1e-5, f"{case} {dtype}: metadata alone gives other embeddings")
            check(fathom_lines(["tokenizer", "encode", "--special", bare], [{"text": t} for t in TEXTS], "ids") == want,
                  f"{case} {dtype}: metadata alone gives other ids")
        if dtype in FTYPE:
            other = quantised_same(case, dtype, f32, path, tmp)
            check(np.array_equal(fathom_vectors(other, rows), mine), f"{case} {dtype}: llama.cpp's file read badly")
    print(f"{case}: largest relative difference of embeddings: " + ", ".join(line))


def main():
    names = sys.argv[2:] or list(CASES) + list(ENCODERS)
    for case in names:
        with tempfile.TemporaryDirectory() as tmp:
            (run if case in CASES else run_encoder)(case, tmp)
    print(f"llama-cpp-python {llama_cpp.__version__}, gguf {importlib.metadata.version('gguf')}, numpy {np.__version__}: {N_CHECKS} checks passed")


if __name__ == "__main__":
    main()
