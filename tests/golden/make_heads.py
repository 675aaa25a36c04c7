#!/usr/bin/env python3
"""Reference outputs, losses and gradients of tiny models with heads, from transformers on PyTorch in float32.

    python3 -m venv venv && venv/bin/pip install torch transformers numpy safetensors
    venv/bin/python tests/golden/make_heads.py tests/golden/data/heads [CASE ...]

Each case is a Hugging Face folder as transformers writes it, with golden/model.safetensors in it:
    ids, types i32 [n], offsets i32 [texts+1]   texts one behind the other, as Fathom packs them
    out f32 [rows,columns]                      what the head gives: a row per token or per text
    hidden f32 [n,D]                            last hidden states
    labels i32 or values f32, loss f32 [1]      where the case has a loss
    grad.<name>                                 of every parameter
Each text is run alone, without padding. test_heads.c reads the folders.
"""
import os
import shutil
import sys

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from transformers import (BertConfig, BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification,
                          BertModel, BloomConfig, BloomForCausalLM, BloomForTokenClassification, GPT2Config,
                          GPT2ForSequenceClassification, GPT2LMHeadModel, GPT2Model, LlamaConfig,
                          LlamaForSequenceClassification, LlamaForTokenClassification, LlamaModel, MobileBertConfig,
                          MobileBertForMaskedLM, MobileBertForSequenceClassification,
                          MobileBertForTokenClassification, MobileBertModel, MptConfig, MptForCausalLM, Qwen2Config,
                          Qwen2ForCausalLM, Qwen2ForSequenceClassification)

V = 40
BERT = dict(vocab_size=V, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
            max_position_embeddings=32)
MOBILE = dict(vocab_size=V, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
              max_position_embeddings=32, embedding_size=6, intra_bottleneck_size=8, num_feedforward_networks=3)
GPT2 = dict(vocab_size=V, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=1, eos_token_id=2)
BLOOM = dict(vocab_size=V, hidden_size=24, n_layer=2, n_head=3)
MPT = dict(vocab_size=V, d_model=24, n_layers=2, n_heads=6, max_seq_len=64)
LLAMA = dict(vocab_size=V, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
             intermediate_size=24, max_position_embeddings=64)

# name: config, model, keys, lengths of the texts, loss
CASES = {
    "bert": (BertConfig, BertModel, BERT, [11, 1, 7], None),
    "bert_mlm": (BertConfig, BertForMaskedLM, dict(BERT, layer_norm_eps=1e-5), [32, 5], "tokens"),
    "bert_cls": (BertConfig, BertForSequenceClassification, dict(BERT, num_labels=3), [9, 1, 12], "class"),
    "bert_multi": (BertConfig, BertForSequenceClassification,
                   dict(BERT, num_labels=4, problem_type="multi_label_classification"), [6, 8], "shares"),
    "bert_reg": (BertConfig, BertForSequenceClassification, dict(BERT, num_labels=1, hidden_act="gelu_new"), [6, 8, 3],
                 "numbers"),
    "bert_tag": (BertConfig, BertForTokenClassification, dict(BERT, num_labels=5, type_vocab_size=3), [10, 4], "tokens"),
    "mobilebert": (MobileBertConfig, MobileBertModel, MOBILE, [9, 1, 2], None),
    "mobilebert_mlm": (MobileBertConfig, MobileBertForMaskedLM, MOBILE, [13, 5], "tokens"),
    "mobilebert_cls": (MobileBertConfig, MobileBertForSequenceClassification,
                       dict(MOBILE, num_labels=3, normalization_type="layer_norm", use_bottleneck_attention=True,
                            classifier_activation=False, layer_norm_eps=1e-3), [8, 6], "class"),
    "mobilebert_tag": (MobileBertConfig, MobileBertForTokenClassification,
                       dict(MOBILE, num_labels=2, use_bottleneck=False, trigram_input=False,
                            num_feedforward_networks=1, hidden_act="gelu"), [8, 6], "tokens"),
    "gpt2": (GPT2Config, GPT2LMHeadModel, GPT2, [32, 1, 9], "tokens"),
    "gpt2_scaled": (GPT2Config, GPT2LMHeadModel,
                    dict(GPT2, scale_attn_by_inverse_layer_idx=True, scale_attn_weights=False, n_inner=20,
                         activation_function="relu", tie_word_embeddings=False, layer_norm_epsilon=1e-3), [20], None),
    "gpt2_base": (GPT2Config, GPT2Model, GPT2, [12], None),
    "gpt2_cls": (GPT2Config, GPT2ForSequenceClassification, dict(GPT2, num_labels=3, pad_token_id=39), [7, 4],
                 "class"),
    "bloom": (BloomConfig, BloomForCausalLM, BLOOM, [24, 1, 9], "tokens"),
    "bloom_tag": (BloomConfig, BloomForTokenClassification, dict(BLOOM, num_labels=4), [14], "tokens"),
    "mpt": (MptConfig, MptForCausalLM, MPT, [24, 5], "tokens"),
    "llama_base": (LlamaConfig, LlamaModel, LLAMA, [15], None),
    "llama_reward": (LlamaConfig, LlamaForSequenceClassification,
                     dict(LLAMA, num_labels=1, problem_type="regression", pad_token_id=39), [9, 1, 6], "numbers"),
    "llama_tag": (LlamaConfig, LlamaForTokenClassification, dict(LLAMA, num_labels=3), [9, 5], "tokens"),
    "qwen2_cls": (Qwen2Config, Qwen2ForSequenceClassification, dict(LLAMA, num_labels=4, pad_token_id=39), [9, 6],
                  "class"),
    "qwen2_mixed": (Qwen2Config, Qwen2ForCausalLM,
                    dict(LLAMA, num_hidden_layers=4, use_sliding_window=True, sliding_window=5,
                         layer_types=["sliding_attention", "full_attention", "sliding_attention",
                                      "full_attention"]), [40, 3], "tokens"),
}


def fill(model, seed, gain):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            r = torch.randn(p.shape, generator=g)
            norm = any(s in name.lower() for s in ("norm", "ln_"))
            if p.dim() == 2:
                embedding = any(s in name for s in ("embeddings.weight", "embed_tokens", "wte", "wpe"))
                fan_in = p.shape[0] if any(s in name for s in ("c_attn", "c_proj", "c_fc")) else p.shape[1]
                p.copy_(r if embedding else r * gain / fan_in ** 0.5)
            elif norm and name.endswith("weight"):
                p.copy_(1 + 0.2 * r)
            else:
                p.copy_(0.3 * r)


def loss_of(kind, out, rng):
    """Labels, and the loss as transformers computes it: means over what counts."""
    rows, columns = out.shape
    if kind in ("tokens", "class"):
        labels = rng.integers(0, columns, rows)
        if kind == "tokens":
            labels[rng.random(rows) < 0.3] = -100
            labels[0] = 1
        loss = torch.nn.functional.cross_entropy(out, torch.tensor(labels))
        return "labels", labels.astype(np.int32), loss
    values = rng.random((rows, columns)).astype(np.float32) if kind == "shares" else rng.normal(
        size=(rows, columns)).astype(np.float32)
    f = torch.nn.functional
    loss = (f.binary_cross_entropy_with_logits if kind == "shares" else f.mse_loss)(out, torch.tensor(values))
    return "values", values, loss


def main(out_dir, *only):
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    print("torch", torch.__version__, "transformers", transformers.__version__)
    for seed, (name, (config, cls, kw, lengths, kind)) in enumerate(CASES.items()):
        if only and name not in only:
            continue
        cfg = config(**kw, attn_implementation="eager")
        model = cls(cfg).eval()
        fill(model, seed, 0.5 if "mobile" in name else 1.5)  # without norms numbers grow
        rng = np.random.default_rng(seed)
        encoder = "bert" in name
        texts, outs, hidden, types = [], [], [], []
        for n in lengths:
            # PyTorch gives the row of the padding id (0) no gradient, and it never stands in a packed text
            ids = torch.tensor(rng.integers(1, V - 1, n))[None]
            kinds = torch.tensor(rng.integers(0, cfg.type_vocab_size, n))[None] if encoder else None
            extra = dict(token_type_ids=kinds) if encoder else {}
            r = model(input_ids=ids, output_hidden_states=True, **extra)
            texts.append(ids[0].numpy())
            types.append(kinds[0].numpy() if encoder else np.zeros(n))
            out = r.logits[0] if hasattr(r, "logits") else r.last_hidden_state[0]
            outs.append(out if out.dim() == 2 else out[None])
            hidden.append(r.hidden_states[-1][0])
        out = torch.cat(outs)
        t = {"ids": np.concatenate(texts).astype(np.int32), "types": np.concatenate(types).astype(np.int32),
             "offsets": np.cumsum([0] + lengths).astype(np.int32), "out": out.detach().numpy(),
             "hidden": torch.cat(hidden).detach().numpy()}
        if kind:
            key, t[key], loss = loss_of(kind, out, rng)
            loss.backward()
            t["loss"] = np.array([loss.item()], np.float32)
            for p_name, p in model.named_parameters():
                if p.grad is not None:
                    t["grad." + p_name] = p.grad.numpy().copy()
        folder = os.path.join(out_dir, name)
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        os.makedirs(os.path.join(folder, "golden"))
        save_file(t, os.path.join(folder, "golden", "model.safetensors"))
        for root, _, files in os.walk(folder):
            for f in files:
                os.chmod(os.path.join(root, f), 0o644)
        print(f"{name:16s} out {list(out.shape)} {out.std().item():.3f} loss {t.get('loss')}")


if __name__ == "__main__":
    main(*sys.argv[1:])
