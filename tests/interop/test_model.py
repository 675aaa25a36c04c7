#!/usr/bin/env python3
"""Folders written by Fathom load in transformers without a warning and give the same logits.

    ninja fm_write_model && venv/bin/python tests/interop/test_model.py BUILD/tests/fm_write_model

Needs torch, transformers, numpy. Not part of CI.
"""
import glob
import json
import logging
import os
import struct
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
messages = []


class Catch(logging.Handler):
    def emit(self, record):
        messages.append(record.getMessage())


def main(writer):
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_warning()
    root = logging.getLogger("transformers")
    root.addHandler(Catch(level=logging.WARNING))
    warnings.showwarning = lambda m, *a, **k: messages.append(str(m))
    bad = 0
    # Families that transformers does not have are not for it to judge.
    golden = sorted(os.path.dirname(p) for p in glob.glob(os.path.join(HERE, "../golden/data/*/config.json"))
                    if json.load(open(p))["model_type"] in transformers.CONFIG_MAPPING)
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([writer, out, *golden], check=True)
        for name in sorted(os.listdir(out)):
            folder = os.path.join(out, name)
            with open(os.path.join(folder, "logits.bin"), "rb") as f:
                n, vocab = struct.unpack("<II", f.read(8))
                ids = np.frombuffer(f.read(4 * n), "<i4")
                ours = np.frombuffer(f.read(), "<f4").reshape(n, vocab)
            messages.clear()
            model, info = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
            model.eval()
            with torch.no_grad():
                theirs = model(torch.tensor(ids[None].astype(np.int64))).logits[0].numpy()
            stored = transformers.AutoConfig.from_pretrained(folder).dtype
            d = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
            left = {k: v for k, v in info.items() if v}
            ok = d <= 1e-5 and not messages and not left
            bad += not ok
            print(f"{'ok ' if ok else 'BAD'} {name:24s} {d:.2e} {stored} {messages or ''} {left or ''}")
    print("transformers", transformers.__version__, "torch", torch.__version__, "-", bad, "bad")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
