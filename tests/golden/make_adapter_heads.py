#!/usr/bin/env python3
"""Adapters with a head of their own, as the peft library writes them, over language models in the tree -> data/adapter_heads/CASE.

Each case is a PEFT folder with golden.safetensors in it: ids i32 [n] and offsets i32 [texts+1] of packed texts, out f32 [rows,labels] what the
head gives for each text run alone. test_adapter_heads.c reads them.

Versions that made the files in the tree: peft 0.21.2, transformers 5.23.0, torch 2.15.0. Run: make_adapter_heads.py
"""
import json
import os
import shutil

import numpy as np
import peft
import torch
import transformers
from safetensors.numpy import save_file

here = os.path.dirname(os.path.abspath(__file__)) + "/data/"
CASES = {
    "llama_seq": ("llama_gqa", "LlamaForSequenceClassification", 3, dict(task_type="SEQ_CLS", target_modules=["q_proj", "down_proj"])),
    "llama_tag": ("llama_gqa", "LlamaForTokenClassification", 4, dict(task_type="TOKEN_CLS", target_modules=["k_proj", "o_proj", "gate_proj"], use_dora=True)),
    "llama_number": ("llama_gqa", "LlamaForSequenceClassification", 1, dict(task_type="SEQ_CLS", target_modules=["v_proj"], use_rslora=True)),
    "bert_tag": ("heads/bert_mlm", "BertForTokenClassification", 5, dict(task_type="TOKEN_CLS", target_modules=["query", "value"])),
}
torch.manual_seed(21)
for name, (base, cls, labels, kw) in CASES.items():
    m = getattr(transformers, cls).from_pretrained(here + base, num_labels=labels)
    m = peft.get_peft_model(m, peft.LoraConfig(r=2, lora_alpha=6, **kw)).eval()
    with torch.no_grad():
        for n, p in m.named_parameters():
            if "lora_B" in n:
                p.normal_(0, 0.5)
            if "modules_to_save" in n:
                p.normal_(0, 0.3)
            if "magnitude" in n:
                p.mul_(1 + 0.3 * torch.rand_like(p))
    folder = here + "adapter_heads/" + name
    shutil.rmtree(folder, ignore_errors=True)
    m.save_pretrained(folder)
    os.remove(folder + "/README.md")
    with open(folder + "/adapter_config.json") as f:
        c = json.load(f)
    c["base_model_name_or_path"] = base
    c["target_modules"] = sorted(c["target_modules"]) if isinstance(c["target_modules"], list) else c["target_modules"]
    with open(folder + "/adapter_config.json", "w") as f:
        json.dump(c, f, indent=1, sort_keys=True)
        f.write("\n")
    texts, rows = [torch.randint(0, 32, (1, n)) for n in (9, 1, 14)], []
    for t in texts:
        with torch.no_grad():
            rows.append(m(t).logits.reshape(-1, labels).numpy())
    save_file({"ids": torch.cat(texts, 1)[0].numpy().astype(np.int32), "offsets": np.array([0, 9, 10, 24], np.int32), "out": np.concatenate(rows)}, folder + "/golden.safetensors",
              {"peft": peft.__version__, "transformers": transformers.__version__, "torch": torch.__version__})
    print(name, os.path.getsize(folder + "/adapter_model.safetensors"), "bytes")
print("peft", peft.__version__, "transformers", transformers.__version__, "torch", torch.__version__)
