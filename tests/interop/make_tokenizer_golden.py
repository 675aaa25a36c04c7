#!/usr/bin/env python3
"""Writes tests/unit/text/data/golden.json and hf/: what Hugging Face tokenizers gives for the fixtures.

Usage: make_tokenizer_golden.py   (needs: pip install tokenizers)
"""
import json
import pathlib
import random
import re
import sys

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import decoders

DATA = pathlib.Path(__file__).resolve().parents[1] / "unit/text/data"
CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
REGEX = {
    "gpt2": [CONTRACTIONS + r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"],
    "llama3": [r"(?i:" + CONTRACTIONS + r")|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + TAIL],
    "qwen2": [r"(?i:" + CONTRACTIONS + r")|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + TAIL],
    "deepseek_v3": [
        r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
        " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"],
}


def cased_letters():
    """The class of DeepSeek LLM's second pattern, from the source, where it stands beside the table that is tested."""
    text = (DATA.parents[3] / "src/text/split_levels.h").read_text()
    literal = re.search(r"#define FM_REGEX_CASED((?: *\\\n *\"[^\n]*\")+)", text)[1]
    raw = "".join(re.findall(r'"([^"]*)"', literal))
    return re.sub(rb"\\x([0-9A-F]{2})", lambda m: bytes([int(m[1], 16)]), raw.encode()).decode()


WIDE = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
REGEX["deepseek_llm"] = [r"[\r\n]", rf"\s?[{cased_letters()}]+",
                         "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+$", WIDE, r"\p{N}"]
REGEX["deepseek_coder"] = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", WIDE, r"\p{N}"]
POOL = ([" "] * 8 + list("abzABZ019'\"!#$_-.\t\r\n\x0b\x01\x85\u00a0\u3000\u2028slltrevmdSLTREVMD") +
        ["\r\n", "'s", "'LL", "ſ", "中", "文", "の", "カ", "・", "ー", "\u3099", "\u309b", "〇", "é", "e\u0301", "\u0301",
         "ß", "Ж", "ع", "١", "²", "Ⅷ", "😀", "€", "\u200d", "\u200b", "\ud7ff", "\ue000", "\U000e0001", "龥", "龦", "\u3041",
         "한", "ก", "ำ", "。", "，", "<|user|>", "<|end|>", "<tool>", " the", " of"])


def split(name):
    return [pre_tokenizers.Split(Regex(r), behavior="isolated") for r in REGEX[name]]


def train(name, size, special, minimum=0):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence(
        split(name) + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    texts = [p.read_bytes().decode() for p in sorted(DATA.glob("*.txt"))]
    t.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, min_frequency=minimum, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return t


def main():
    rng = random.Random(7)
    texts = ["".join(rng.choice(POOL) for _ in range(rng.randint(1, 24))) for _ in range(400)]
    golden = {"texts": texts, "splits": {}, "train": []}
    for name in REGEX:
        s = pre_tokenizers.Sequence(split(name))
        golden["splits"][name] = [[len(p.encode()) for p, _ in s.pre_tokenize_str(t)] for t in texts]
    for name, size, minimum in [("gpt2", 700, 0), ("llama3", 1500, 2), ("qwen2", 500, 50), ("deepseek_v3", 600, 0)]:
        m = json.loads(train(name, size, ["<|begin|>", "<|end|>"], minimum).to_str())["model"]
        golden["train"].append({"pattern": name, "vocab_size": size, "min_frequency": minimum,
                                "n_vocab": len(m["vocab"]), "merges": [" ".join(x) for x in m["merges"]]})
    # A file as other programs write them: pairs as lists, NFC, template, tokens of every kind.
    t = train("deepseek_v3", 1000, ["<|begin|>", "<|end|>"])
    t.normalizer = normalizers.NFC()
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken("<|user|>", rstrip=True), AddedToken("<|pad|>")])
    t.add_tokens([AddedToken("<tool>", lstrip=True, normalized=False), AddedToken("of", single_word=True), "ü"])
    t.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A <|end|>", special_tokens=[("<|begin|>", 0), ("<|end|>", 1)])
    (DATA / "hf").mkdir(exist_ok=True)
    t.save(str(DATA / "hf/tokenizer.json"), pretty=False)
    (DATA / "hf/tokenizer_config.json").write_text(json.dumps({
        "bos_token": {"content": "<|begin|>", "special": True}, "eos_token": "<|end|>", "pad_token": "<|pad|>",
        "unk_token": None, "add_bos_token": True, "model_max_length": 1000000000000000019884624838656,
        "chat_template": [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "{{ 'übung' }}"}],
    }, ensure_ascii=False))
    encoded = [t.encode(x, add_special_tokens=False).ids for x in texts]
    t.encode_special_tokens = True
    golden["hf"] = {"special": encoded, "plain": [t.encode(x, add_special_tokens=False).ids for x in texts]}
    (DATA / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")))


sys.exit(main())
