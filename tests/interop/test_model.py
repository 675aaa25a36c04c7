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
    paths = [p for d in ("*", "heads/*") for p in glob.glob(os.path.join(HERE, "../golden/data", d, "config.json"))]
    golden = sorted(os.path.dirname(p) for p in paths
                    if json.load(open(p))["model_type"] in transformers.CONFIG_MAPPING)
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([writer, out, *golden], check=True)
        for name in sorted(os.listdir(out)):
            folder = os.path.join(out, name)
            with open(os.path.join(folder, "outputs.bin"), "rb") as f:
                n, rows, columns = struct.unpack("<III", f.read(12))
                ids = np.frombuffer(f.read(4 * n), "<i4")
                ours = np.frombuffer(f.read(), "<f4").reshape(rows, columns)
            cls = getattr(transformers, json.load(open(os.path.join(folder, "config.json")))["architectures"][0])
            messages.clear()
            model, info = cls.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
            model.eval()
            with torch.no_grad():
                r = model(torch.tensor(ids[None].astype(np.int64)))
            theirs = (r.logits if hasattr(r, "logits") else r.last_hidden_state)[0].numpy().reshape(rows, columns)
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
