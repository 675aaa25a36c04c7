#!/usr/bin/env python3
"""Compares `fathom eval` with lm-evaluation-harness on small random models, through its Hugging Face backend.

  lm_eval_diff.py FATHOM                     compares
  lm_eval_diff.py FATHOM --write             also writes tests/unit/eval/data/lm_eval (golden figures, data, filters)
FATHOM is the program in its build folder; eval_test_evaluate there writes the models.
Needs: pip install lm_eval torch transformers
"""
import csv
import json
import os
import random
import re
import subprocess
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
import lm_eval
import numpy as np
import torch
import transformers
import yaml
from lm_eval.filters.extraction import RegexFilter
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

torch.set_num_threads(1)
fathom = os.path.abspath(sys.argv[1])
top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
tree = f"{top}/tests/unit/eval/data/lm_eval"
write = "--write" in sys.argv
tmp = tempfile.mkdtemp()
package = os.path.dirname(lm_eval.__file__)
SUBJECTS = ("high_school_history", "law")


def make_data():
    rng = random.Random(3)
    held = open(f"{top}/recipes/data/state_of_the_union.heldout.txt", encoding="utf-8").read()[:6000]
    open(f"{tree}/held.txt", "w", encoding="utf-8").write(held)
    words = held.split()

    def text(n):
        return " ".join(rng.choice(words) for _ in range(n))

    with open(f"{tree}/mc.jsonl", "w", encoding="utf-8") as f:
        for _ in range(24):
            row = {"question": text(rng.randint(3, 30)), "choices": [text(rng.randint(1, 6)) for _ in range(rng.randint(2, 5))],
                   "topic": rng.choice("xyz")}
            row["answer"] = rng.randrange(len(row["choices"]))
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
    for s in SUBJECTS:
        for part, n in (("test", 10), ("dev", 3), ("val", 10)):
            os.makedirs(f"{tree}/mmlu/{part}", exist_ok=True)
            with open(f"{tree}/mmlu/{part}/{s}_{part}.csv", "w", newline="", encoding="utf-8") as f:
                for _ in range(n):
                    csv.writer(f).writerow([" " * rng.randrange(2) + text(rng.randint(3, 15)), text(2), text(3), text(1), text(2), rng.choice("ABCD")])
    os.makedirs(f"{tree}/ceval", exist_ok=True)
    for part, n in (("val", 8), ("dev", 2)):
        with open(f"{tree}/ceval/law_{part}.csv", "w", newline="", encoding="utf-8") as f:
            out = csv.writer(f)
            out.writerow(["id", "question", "A", "B", "C", "D", "answer", "explanation"])
            for i in range(n):
                out.writerow([i, text(rng.randint(3, 15)) + "（　）", "法", text(1), "人民", text(2), rng.choice("ABCD"), ""])
    for name, n in (("gsm8k", 6), ("gsm8k_train", 2)):
        with open(f"{tree}/{name}.jsonl", "w", encoding="utf-8") as f:
            for _ in range(n):
                f.write(json.dumps({"question": text(12), "answer": f"{text(5)}\n#### {rng.randrange(5000):,}"}) + "\n")
    pieces = ["#### ", "####", "12", "-3", "1,000", "$5", "3.50", ".", ",", "-", " ", "\n", "a", "The answer is ", "$", "\n#### -7.", "##### 8", "½", "x", "9.\n", "--4"]
    ours = {}
    for name, path in (("strict", 0), ("flexible", 1)):
        conf = yaml.safe_load(open(f"{package}/tasks/gsm8k/gsm8k.yaml"))
        args = {k: v for k, v in conf["filter_list"][path]["filter"][0].items() if k != "function"}
        ours[name] = RegexFilter(**args)
    ignore = conf["metric_list"][0]["regexes_to_ignore"]
    with open(f"{tree}/filters.jsonl", "w", encoding="utf-8") as f:
        for _ in range(400):
            t = "".join(rng.choice(pieces) for _ in range(rng.randint(0, 9)))
            row = {"text": t}
            for name, one in ours.items():
                row[name] = list(one.apply([[t]], [{}]))[0][0]
            for r in ignore:
                t = re.sub(r, "", t)
            row["clean"] = t.lower()
            f.write(json.dumps(row, ensure_ascii=False) + "\n")


def rows_of_csv(path, header):
    with open(path, newline="", encoding="utf-8") as f:
        rows = list(csv.reader(f))
    names = rows.pop(0) if header else ["question", "A", "B", "C", "D", "answer"]
    return [dict(zip(names, r)) for r in rows]


def task(name, conf, parts):
    """A task of the package's own YAML over local rows."""
    files = {}
    for part, rows in parts.items():
        files[part] = f"{tmp}/{name}_{part}.json"
        with open(files[part], "w", encoding="utf-8") as f:
            f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    conf = {k: v for k, v in conf.items() if k not in ("dataset_name", "tag", "task_alias", "include", "group")}
    conf.update(task=name, dataset_path="json", dataset_kwargs={"data_files": files})
    os.makedirs(f"{tmp}/tasks", exist_ok=True)
    yaml.safe_dump(conf, open(f"{tmp}/tasks/{name}.yaml", "w"), allow_unicode=True)
    return name


def load(path):
    return yaml.safe_load(open(f"{package}/tasks/{path}"))


def make_tasks():
    tasks = {}
    for s in SUBJECTS:
        parts = {}
        for part in ("test", "dev"):
            rows = rows_of_csv(f"{tree}/mmlu/{part}/{s}_{part}.csv", False)
            parts[part] = [{"question": r["question"], "choices": [r[c] for c in "ABCD"], "answer": "ABCD".index(r["answer"])} for r in rows]
        conf = dict(load("mmlu/default/_default_template_yaml"))
        conf["description"] = f"The following are multiple choice questions (with answers) about {s.replace('_', ' ')}.\n\n"
        tasks[s] = task(f"fm_mmlu_{s}", conf, parts)
    conf = dict(load("ceval/_default_ceval_yaml"), **{k: v for k, v in load("ceval/ceval-valid_law.yaml").items() if k == "description"})
    tasks["ceval"] = task("fm_ceval", conf, {p: rows_of_csv(f"{tree}/ceval/law_{p}.csv", True) for p in ("val", "dev")})
    lines = lambda f: [json.loads(s) for s in open(f"{tree}/{f}", encoding="utf-8")]
    gsm = dict(load("gsm8k/gsm8k.yaml"))
    gsm["fewshot_config"] = {"sampler": "first_n"}
    gsm["generation_kwargs"] = dict(gsm["generation_kwargs"], max_gen_toks=40)
    tasks["gsm8k"] = task("fm_gsm8k", gsm, {"test": lines("gsm8k.jsonl"), "train": lines("gsm8k_train.jsonl")})
    tasks["mc"] = task("fm_mc", {
        "output_type": "multiple_choice", "test_split": "test", "doc_to_text": "Question: {{question}}\nAnswer:", "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}", "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in ("acc", "acc_norm", "acc_bytes", "acc_mutual_info")],
    }, {"test": lines("mc.jsonl")})
    tasks["ppl"] = task("fm_ppl", {
        "output_type": "loglikelihood_rolling", "test_split": "test", "doc_to_text": "", "doc_to_target": "{{text}}",
        "metric_list": [{"metric": m, "aggregation": "weighted_perplexity" if m != "bits_per_byte" else m, "higher_is_better": False}
                        for m in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
    }, {"test": [{"text": open(f"{tree}/held.txt", encoding="utf-8").read()}]})
    return tasks


def one_mark(text):
    """Random models write bytes that are no UTF-8; decoders differ in how many U+FFFD they make of them."""
    return re.sub("\ufffd+", "\ufffd", text)


def margins(samples):
    out = []
    for s in sorted(samples, key=lambda s: s["doc_id"]):
        lp = [r[0][0] if isinstance(r[0], (list, tuple)) else r[0] for r in s["resps"]]
        lp = [float(v) for v in lp]
        if "acc_mutual_info" in s:
            lp = lp[:len(lp) // 2]  # the rest is without the question
        gold = int(s["target"]) if not isinstance(s["target"], str) or s["target"].isdigit() else "ABCD".index(s["target"])
        out.append(lp[gold] - max(v for i, v in enumerate(lp) if i != gold))
    return out


def theirs(model, tasks, shots, want, chat):
    """metrics as [[name, part, value]], margins and outputs in row order."""
    lm = HFLM(pretrained=f"{models}/{model}", dtype="float32", device="cpu", batch_size=4)
    r = lm_eval.simple_evaluate(lm, tasks=tasks, num_fewshot=shots, task_manager=manager, bootstrap_iters=0, log_samples=True, verbosity="ERROR",
                                **({"apply_chat_template": True, "fewshot_as_multiturn": True, "system_instruction": "Be brief."} if chat else {}))
    n = {t: len({s["doc_id"] for s in r["samples"][t]}) for t in tasks}
    metrics = []
    for name, key in want:
        key = key if "," in key else key + ",none"
        value = sum(r["results"][t][key] * n[t] for t in tasks) / sum(n.values())
        metrics.append([name, "value", value])
    run = {"model": model, "n": sum(n.values()), "metrics": metrics}
    first = r["samples"][tasks[0]][0]
    if first["arguments"] and "gen_kwargs" in str(first["arguments"]) or "until" in str(first["arguments"]):
        seen = {}
        for s in r["samples"][tasks[0]]:
            seen[s["doc_id"]] = s["resps"][0][0] if isinstance(s["resps"][0], (list, tuple)) else s["resps"][0]
        run["outputs"] = [one_mark(seen[i]) for i in sorted(seen)]
    elif want[0][0].startswith("acc"):
        run["margins"] = [m for t in tasks for m in margins(r["samples"][t])]
    return run


def ours(run):
    rows = f"{tmp}/rows.jsonl"
    args = []
    for k, v in zip(run["args"][::2], run["args"][1::2]):
        args.append(f"{k}={tree}/{v}" if "data" in k else f"{k}={v}")
    out = subprocess.run([fathom, "eval", f"model={models}/{run['model']}", "dtype=f32", f"rows_output={rows}", "--json", "-q", *args],
                         capture_output=True, text=True)
    if out.returncode:
        sys.exit(f"{out.args}: {out.returncode} {out.stderr}")
    return json.loads(out.stdout), [json.loads(s) for s in open(rows, encoding="utf-8")]


if write:
    make_data()
models = f"{tmp}/models"
os.makedirs(models)
subprocess.run([os.path.join(os.path.dirname(fathom), "eval_test_evaluate"), "--write", models], check=True)
tasks = make_tasks()
manager = TaskManager(include_path=f"{tmp}/tasks", include_defaults=False)
ACC = [("acc", "acc")]
GSM = [("exact_match_strict", "exact_match,strict-match"), ("exact_match_flexible", "exact_match,flexible-extract")]
PPL = [("word_perplexity", "word_perplexity"), ("byte_perplexity", "byte_perplexity"), ("bits_per_byte", "bits_per_byte")]
mmlu = [tasks[s] for s in sorted(SUBJECTS)]
CHAT = ["apply_chat_template", "true", "system", "Be brief."]
plan = [
    ("plain", mmlu, 3, ACC, ["task", "mmlu", "data", "mmlu", "num_fewshot", "3"]),
    ("bos", mmlu, 0, ACC, ["task", "mmlu", "data", "mmlu", "num_fewshot", "0"]),
    ("short", mmlu, 3, ACC, ["task", "mmlu", "data", "mmlu", "num_fewshot", "3"]),
    ("plain", [tasks["ceval"]], 2, [("acc", "acc"), ("acc_norm", "acc_norm")], ["task", "ceval", "data", "ceval", "num_fewshot", "2"]),
    ("plain", [tasks["mc"]], 0, [("acc", "acc"), ("acc_norm", "acc_norm"), ("acc_bytes", "acc_bytes"), ("acc_mutual_info", "acc_mutual_info")],
     ["task", "mc", "data", "mc.jsonl", "metrics", "acc,acc_norm,acc_bytes,acc_mutual_info"]),
    ("bos", [tasks["mc"]], 0, [("acc", "acc"), ("acc_norm", "acc_norm"), ("acc_mutual_info", "acc_mutual_info")],
     ["task", "mc", "data", "mc.jsonl", "metrics", "acc,acc_norm,acc_mutual_info"]),
    ("plain", [tasks["ppl"]], 0, PPL, ["task", "ppl", "data", "held.txt"]),
    ("short", [tasks["ppl"]], 0, PPL, ["task", "ppl", "data", "held.txt"]),
    ("plain", [tasks["gsm8k"]], 2, GSM, ["task", "gsm8k", "data", "gsm8k.jsonl", "fewshot_data", "gsm8k_train.jsonl", "num_fewshot", "2", "max_new_tokens", "40"]),
    ("chat", mmlu, 3, ACC, ["task", "mmlu", "data", "mmlu", "num_fewshot", "3", *CHAT]),
    ("chat", [tasks["mc"]], 0, [("acc", "acc"), ("acc_norm", "acc_norm")], ["task", "mc", "data", "mc.jsonl", "prompt", "Question: {question}\\nAnswer:", *CHAT]),
    ("chat", [tasks["gsm8k"]], 2, GSM, ["task", "gsm8k", "data", "gsm8k.jsonl", "fewshot_data", "gsm8k_train.jsonl", "num_fewshot", "2", "max_new_tokens", "40", *CHAT]),
]
runs, bad, checks = [], 0, 0
for model, names, shots, want, args in plan:
    run = theirs(model, names, shots, want, "apply_chat_template" in args)
    run["args"] = args
    runs.append(run)
    report, rows = ours(run)
    pairs = [(f"{m[0]}", report["metrics"][m[0]]["value"], m[2]) for m in run["metrics"]]
    pairs += [(f"margin of row {i}", r["margin"], w) for i, (r, w) in enumerate(zip(rows, run.get("margins", [])))]
    for what, a, b in pairs:
        checks += 1
        if abs(a - b) > 1e-4 * max(1, abs(b)):
            bad += 1
            print(f"DIFFERS {model} {args}: {what}: {a!r} here, {b!r} there")
    for i, w in enumerate(run.get("outputs", [])):
        checks += 1
        if one_mark(rows[i]["output"]) != w:
            bad += 1
            print(f"DIFFERS {model} {args}: row {i}: {rows[i]['output']!r} here, {w!r} there")
versions = {"lm_eval": lm_eval.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
if write and not bad:
    with open(f"{tree}/golden.json", "w", encoding="utf-8") as f:
        json.dump({"versions": versions, "runs": runs}, f, ensure_ascii=False, indent=0)
        f.write("\n")
print(f"{checks} comparisons, {bad} differ; {versions}")
sys.exit(bad != 0 or checks < 50)
