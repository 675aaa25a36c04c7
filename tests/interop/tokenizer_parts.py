#!/usr/bin/env python3
"""Compares tokenizer.json made of every part with Hugging Face tokenizers. Any difference is a failure.

  parts      each normalizer (seen through a vocabulary of bytes) and each pre-tokenizer (through a vocabulary of all pieces)
             on random text, every assigned character and the given files
  models     tokenizers trained by the library from many combinations of parts: ids of one text and of pairs with token
             types, decoding at once and as a stream, and again after saving
  spm        models trained by the sentencepiece library, against that library

Characters that Python's Unicode tables do not know are left out: the libraries have different versions of Unicode.

Usage: tokenizer_parts.py --lib build/libfathom.so [--seed N] [--rounds N] [--only WORD] [--tokenizer FILE]... [TEXT FILE]...
Needs: pip install tokenizers sentencepiece
"""
import argparse
import base64
import gzip
import io
import json
import os
import pathlib
import random
import sys
import tempfile
import time
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tokenizer_lib import Fathom

ROOT = pathlib.Path(__file__).resolve().parents[2]
POOL = ([" "] * 8 + list("abzABZ019'\"!#$_-.,?\t\r\n\x0b\x00\x7f\x85\u00a0\u3000\u2028slltrevmdSLTREVMDIiK") +
        ["\r\n", "'s", "'LL", "ſ", "中", "文", "の", "カ", "・", "ー", "\u3099", "\u309b", "〇", "é", "e\u0301", "\u0301", "İ",
         "ß", "Ж", "ع", "١", "²", "Ⅷ", "😀", "👩\u200d👧", "🇩🇪", "€", "\u200d", "\u200b", "\ud7ff", "\ue000", "\U000e0001",
         "龥", "龦", "\u3041", "한", "하\u11ab", "ก", "ำ", "。", "，", "ü", "ﬁ", "½", "Å", "Å", "▁", "▁▁", "\ufffd", "\ufeff", "\u00ad",
         " the", " of", "don't do not", " .", "www", "====", "<s>", "[SEP]", "<0x41>", "##ing", "</w>", "\u0345", "ͅα", "क़"])
ASSIGNED = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Cs", "Co")]
failures = 0
total = [0, 0]


def report(name, n, bad, example=""):
    global failures
    failures += bad
    total[0] += 1
    total[1] += n
    if bad or n > 20000 or os.environ.get("VERBOSE"):
        print(f"{name:44} {n:9} compared, {bad} different {example}", flush=True)


def random_text(rng):
    return "".join(rng.choice(POOL) if rng.random() < 0.85 else rng.choice(ASSIGNED) for _ in range(rng.randint(1, 30)))


# ---- parts ----

BYTES = {f"<0x{b:02X}>": b for b in range(256)}
SMALL = lambda: normalizers.Sequence([])
NORMALIZERS = {
    "NFC": normalizers.NFC, "NFD": normalizers.NFD, "NFKC": normalizers.NFKC, "NFKD": normalizers.NFKD,
    "Lowercase": normalizers.Lowercase, "Strip": normalizers.Strip,
    "Strip left": lambda: normalizers.Strip(right=False), "Strip right": lambda: normalizers.Strip(left=False),
    "StripAccents": normalizers.StripAccents, "Prepend": lambda: normalizers.Prepend("▁x"), "Nmt": normalizers.Nmt,
    "ByteLevel": normalizers.ByteLevel, "Replace": lambda: normalizers.Replace("a", "bb"),
    "Replace \\s+": lambda: normalizers.Replace(Regex(r"\s+"), " "),
    "Replace {2,}": lambda: normalizers.Replace(Regex(" {2,}"), "▁"),
    "Replace empty": lambda: normalizers.Replace(Regex("x*"), "-"),
    "Replace quotes": lambda: normalizers.Replace(Regex("``|''"), '"'),
    "Bert": normalizers.BertNormalizer,
    "Bert cased": lambda: normalizers.BertNormalizer(lowercase=False),
    "Bert accents": lambda: normalizers.BertNormalizer(lowercase=True, strip_accents=False),
    "Bert cased, no accents": lambda: normalizers.BertNormalizer(lowercase=False, strip_accents=True),
    "Bert dirty": lambda: normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False),
    "Albert": lambda: normalizers.Sequence([
        normalizers.Replace("``", '"'), normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(),
        normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]),
}
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
P = pre_tokenizers
PRE_TOKENIZERS = {
    "ByteLevel": P.ByteLevel, "ByteLevel no prefix": lambda: P.ByteLevel(add_prefix_space=False),
    "ByteLevel no regex": lambda: P.ByteLevel(add_prefix_space=True, use_regex=False),
    "Whitespace": P.Whitespace, "WhitespaceSplit": P.WhitespaceSplit, "Bert": P.BertPreTokenizer,
    "Metaspace": P.Metaspace, "Metaspace never": lambda: P.Metaspace(prepend_scheme="never"),
    "Metaspace first": lambda: P.Metaspace(prepend_scheme="first"),
    "Metaspace whole": lambda: P.Metaspace(split=False), "Metaspace _": lambda: P.Metaspace(replacement="_"),
    "Digits": P.Digits, "Digits single": lambda: P.Digits(individual_digits=True), "UnicodeScripts": P.UnicodeScripts,
    "Delimiter": lambda: P.CharDelimiterSplit("b"), "Delimiter wide": lambda: P.CharDelimiterSplit("中"),
    "FixedLength": lambda: P.FixedLength(3),
    "gpt4o": lambda: P.Split(Regex(GPT4O), "isolated"),
    "\\h, nested class": lambda: P.Split(Regex(r"[\h[xyz]]+|(?m:.)\n"), "isolated"),
    "lines": lambda: P.Split(Regex(r"^\s*|\s+$"), "isolated"),
    "anchors": lambda: P.Split(Regex(r"\b|\Aa| {,2}x"), "isolated"),
    "\\d \\w": lambda: P.Split(Regex(r"\d+|\w+"), "removed", invert=True),
    "scripts": lambda: P.Split(Regex(r"\p{Han}+|\p{Hiragana}+|[^\p{Latin}\s]"), "isolated"),
    "sequence": lambda: P.Sequence([P.WhitespaceSplit(), P.Punctuation(), P.Digits(individual_digits=True)]),
    "metaspace after": lambda: P.Sequence([P.WhitespaceSplit(), P.Metaspace()]),
    "first after split": lambda: P.Sequence([P.Split("b", "isolated"), P.Metaspace(prepend_scheme="first")]),
    "bytes after": lambda: P.Sequence([P.Digits(), P.ByteLevel()]),
    "metaspace split, bytes": lambda: P.Sequence([P.Split("a", "merged_with_next"), P.ByteLevel(add_prefix_space=True)]),
}
for behavior in ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]:
    PRE_TOKENIZERS[f"Punctuation {behavior}"] = lambda b=behavior: P.Punctuation(b)
    for invert in (False, True):
        for what in ["a", Regex("[ab]"), Regex("b*")]:
            PRE_TOKENIZERS[f"Split {what if isinstance(what, str) else 'regex'} {behavior} {invert}"] = (
                lambda b=behavior, w=what, i=invert: P.Split(w, b, invert=i))


def with_model(hf, model):
    d = json.loads(hf.to_str())
    d["model"] = model
    return json.dumps(d)


def open_text(fm, folder, text):
    path = f"{folder}/t.json"
    pathlib.Path(path).write_text(text)
    return fm.open(path), Tokenizer.from_str(text)


def compare(label, ours, hf, texts, add=False):
    bad, example = 0, ""
    theirs = hf.encode_batch(texts, add_special_tokens=add)
    for t, e in zip(texts, theirs):
        a = ours.encode(t, True, add)
        if a != e.ids:
            k = next((i for i, (x, y) in enumerate(zip(a, e.ids)) if x != y), min(len(a), len(e.ids)))
            at = e.offsets[k][0] if k < len(e.offsets) else len(t)
            bad, example = bad + 1, f"{t[max(0, at - 12) : at + 20]!r} ours {a[k : k + 6]} theirs {e.ids[k : k + 6]}"
    report(label, len(texts), bad, example)
    return [e.ids for e in theirs]


def every_character():
    for i in range(0, len(ASSIGNED), 64):
        yield "a".join(ASSIGNED[i : i + 64])


def check_normalizers(fm, folder, texts, charsmaps):
    texts = texts + list(every_character())
    kinds = dict(NORMALIZERS)
    for name, c in charsmaps.items():
        kinds[f"Precompiled {name}"] = lambda c=c: normalizers.Precompiled(c)
    for name, make in kinds.items():
        hf = Tokenizer(models.BPE())
        hf.normalizer = make()
        text = with_model(hf, {"type": "BPE", "byte_fallback": True, "unk_token": None, "vocab": BYTES, "merges": []})
        ours, hf = open_text(fm, folder, text)
        compare(f"normalizer {name}", ours, hf, texts)


def check_pre_tokenizers(fm, folder, texts):
    # A vocabulary with NUL in a token cannot be read (it is a key of a JSON object).
    texts = [t.replace("\0", "") for t in texts]
    chars = [t.replace("\0", "") for t in every_character()]
    for name, make in PRE_TOKENIZERS.items():
        pre = make()
        vocab = {}
        for t in texts + chars:
            for piece, _ in pre.pre_tokenize_str(t):
                vocab.setdefault(piece, len(vocab))
        hf = Tokenizer(models.WordLevel())
        hf.pre_tokenizer = pre
        vocab["[?]"] = len(vocab)
        try:
            ours, hf = open_text(fm, folder, with_model(hf, {"type": "WordLevel", "unk_token": "[?]", "vocab": vocab}))
        except RuntimeError as e:
            report(f"pre-tokenizer {name}", 1, 1, str(e))
            continue
        compare(f"pre-tokenizer {name}", ours, hf, texts + chars)


# ---- whole tokenizers ----

def bert(corpus, lower=True):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=lower)
    t.pre_tokenizer = P.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    t.train_from_iterator(corpus, trainers.WordPieceTrainer(
        vocab_size=8000, show_progress=False, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    ids = [(s, t.token_to_id(s)) for s in ("[CLS]", "[SEP]")]
    t.post_processor = (processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
                                                      special_tokens=ids) if lower else
                        processors.BertProcessing(ids[1], ids[0]))
    return t


def unigram(corpus, norm, pre, dec, byte_fallback=False, size=8000):
    t = Tokenizer(models.Unigram())
    t.normalizer, t.pre_tokenizer, t.decoder = norm, pre, dec
    t.train_from_iterator(corpus, trainers.UnigramTrainer(
        vocab_size=size, show_progress=False, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>"))
    if byte_fallback:
        d = json.loads(t.to_str())
        d["model"]["vocab"] += [[k, 0.0] for k in BYTES]
        d["model"]["byte_fallback"] = True
        t = Tokenizer.from_str(json.dumps(d))
    t.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>",
                                                     special_tokens=[("</s>", t.token_to_id("</s>"))])
    return t


def bpe(corpus, norm, pre, dec, size=8000, model=None, **options):
    t = Tokenizer(models.BPE(**(model or {})))
    if norm:
        t.normalizer = norm
    if pre:
        t.pre_tokenizer = pre
    if dec:
        t.decoder = dec
    t.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=size, show_progress=False, **options))
    return t


def change(t, **model):
    d = json.loads(t.to_str())
    d["model"].update(model)
    return Tokenizer.from_str(json.dumps(d))


def add_bytes(t, **model):
    d = json.loads(t.to_str())
    for k in BYTES:
        d["model"]["vocab"].setdefault(k, len(d["model"]["vocab"]))
    d["model"].update(byte_fallback=True, **model)
    return Tokenizer.from_str(json.dumps(d))


def llama_like(corpus, split):
    norm = None if split is not None else normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    pre = P.Metaspace(prepend_scheme="first", split=False) if split is not None else None
    train_pre = P.Metaspace(prepend_scheme="always")
    t = bpe(corpus, None, train_pre, decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
        special_tokens=["<unk>", "<s>", "</s>"], limit_alphabet=600)
    d = json.loads(t.to_str())
    d["normalizer"] = json.loads(norm_json(norm)) if norm else None
    d["pre_tokenizer"] = json.loads(pre_json(pre)) if pre else None
    t = Tokenizer.from_str(json.dumps(d))
    t = add_bytes(t, fuse_unk=True, unk_token="<unk>")
    t.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", t.token_to_id("<s>"))])
    return t


def norm_json(n):
    t = Tokenizer(models.BPE())
    t.normalizer = n
    return json.dumps(json.loads(t.to_str())["normalizer"])


def pre_json(p):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = p
    return json.dumps(json.loads(t.to_str())["pre_tokenizer"])


def roberta(corpus):
    t = bpe(corpus, None, P.ByteLevel(add_prefix_space=True), decoders.ByteLevel(), initial_alphabet=P.ByteLevel.alphabet(),
            special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    t.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    t.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    return t


def split_bytes(pattern, **kw):
    return P.Sequence([P.Split(Regex(pattern), "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)])


def llama3_ignore(corpus):
    t = bpe(corpus, None, split_bytes(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
                                      r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), decoders.ByteLevel(),
            initial_alphabet=P.ByteLevel.alphabet(), special_tokens=["<|a|>"])
    d = json.loads(t.to_str())
    kept = d["model"]["merges"][:-1500]  # tokens without a merge
    d["model"].update(merges=kept, ignore_merges=True)
    t = Tokenizer.from_str(json.dumps(d))
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single="<|a|> $A", pair="<|a|> $A <|a|>:1 $B:1", special_tokens=[("<|a|>", 0)])])
    return t


def word_level(corpus):
    t = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    t.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()])
    t.pre_tokenizer = P.Sequence([P.Whitespace(), P.Digits(individual_digits=True)])
    t.train_from_iterator(corpus, trainers.WordLevelTrainer(vocab_size=9000, special_tokens=["[UNK]"], show_progress=False))
    return t


def many_added(corpus):
    t = roberta(corpus)
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    t.add_tokens([AddedToken("Whale", single_word=True), AddedToken("THE", normalized=True), AddedToken("of", normalized=False),
                  AddedToken("ing", rstrip=True), AddedToken("中文", lstrip=True), "的", " .", "\n\n"])
    t.add_special_tokens([AddedToken("<|x|>", rstrip=True), AddedToken("<|x", normalized=True), "www"])
    return t


def builders(charsmaps):
    meta = lambda: decoders.Metaspace()
    yield "bert uncased", bert
    yield "bert cased", lambda c: bert(c, False)
    yield "wordpiece plain", lambda c: wordpiece_plain(c)
    yield "unigram metaspace", lambda c: unigram(c, normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]), P.Metaspace(), meta())
    for name, charsmap in charsmaps.items():
        yield f"unigram {name}", lambda c, m=charsmap: unigram(c, normalizers.Sequence(
            [normalizers.Precompiled(m), normalizers.Strip(left=False, right=True),
             normalizers.Replace(Regex(" {2,}"), "▁")]), P.Metaspace(prepend_scheme="first"),
            decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")]), byte_fallback=True)
    yield "unigram whole text", lambda c: whole(unigram(c, normalizers.Replace(" ", "▁"), P.Metaspace(), meta()))
    yield "unigram xlnet", lambda c: unigram(c, normalizers.Sequence([normalizers.Replace("``", '"'), normalizers.NFKD(),
            normalizers.StripAccents()]), P.Sequence([P.WhitespaceSplit(), P.Metaspace()]), meta())
    yield "llama prepend", lambda c: llama_like(c, None)
    yield "llama metaspace", lambda c: llama_like(c, True)
    yield "bpe </w>", lambda c: bpe(c, normalizers.Lowercase(), P.BertPreTokenizer(), decoders.BPEDecoder(),
                                    model=dict(unk_token="<unk>", end_of_word_suffix="</w>"), end_of_word_suffix="</w>",
                                    special_tokens=["<unk>"], limit_alphabet=800)
    yield "bpe ##", lambda c: bpe(c, None, P.Whitespace(), decoders.WordPiece(cleanup=False),
                                  model=dict(unk_token="<unk>", continuing_subword_prefix="##"), special_tokens=["<unk>"],
                                  continuing_subword_prefix="##", limit_alphabet=800)
    yield "bpe fuse_unk", lambda c: bpe(c, normalizers.NFKC(), P.Sequence([P.UnicodeScripts(), P.Whitespace()]), None,
                                        model=dict(unk_token="<unk>", fuse_unk=True), special_tokens=["<unk>"],
                                        limit_alphabet=300)
    yield "bpe unk", lambda c: bpe(c, None, P.WhitespaceSplit(), decoders.Fuse(), model=dict(unk_token="<unk>"),
                                   special_tokens=["<unk>"], limit_alphabet=300)
    yield "bpe no unk", lambda c: bpe(c, None, P.Metaspace(), meta(), limit_alphabet=300)
    yield "roberta", roberta
    yield "llama3 ignore_merges", llama3_ignore
    yield "gpt4o", lambda c: bpe(c, None, split_bytes(GPT4O), decoders.ByteLevel(), initial_alphabet=P.ByteLevel.alphabet())
    yield "bytelevel normalizer", lambda c: bpe(c, normalizers.Sequence([normalizers.NFC(), normalizers.ByteLevel()]),
                                                P.Split(Regex(r"Ġ?\p{L}+|."), "isolated"), decoders.ByteLevel(),
                                                initial_alphabet=P.ByteLevel.alphabet())
    yield "digits then bytes", lambda c: bpe(c, normalizers.NFC(), P.Sequence(
        [P.Digits(individual_digits=True), P.ByteLevel(add_prefix_space=True)]), decoders.ByteLevel(),
        initial_alphabet=P.ByteLevel.alphabet())
    yield "word level", word_level
    yield "added tokens", many_added


def whole(t):
    d = json.loads(t.to_str())
    d["pre_tokenizer"] = None
    return Tokenizer.from_str(json.dumps(d))


def wordpiece_plain(corpus):
    t = Tokenizer(models.WordPiece(unk_token="<u>", max_input_chars_per_word=20))
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip(), normalizers.StripAccents()])
    t.pre_tokenizer = P.Sequence([P.Whitespace(), P.Punctuation()])
    t.decoder = decoders.WordPiece(prefix="@@", cleanup=False)
    t.train_from_iterator(corpus, trainers.WordPieceTrainer(vocab_size=6000, show_progress=False, special_tokens=["<u>"],
                                                            continuing_subword_prefix="@@"))
    d = json.loads(t.to_str())
    d["model"]["continuing_subword_prefix"] = "@@"
    return Tokenizer.from_str(json.dumps(d))


def check_decode(label, ours, hf, lists, skip=False):
    bad, example = 0, ""
    theirs = hf.decode_batch(lists, skip_special_tokens=skip)
    for ids, b in zip(lists, theirs):
        a = ours.decode(ids, skip).decode("utf-8", "replace")
        if a != b:
            k = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
            bad, example = bad + 1, f"ours {a[max(0, k - 9) : k + 15]!r} theirs {b[max(0, k - 9) : k + 15]!r}"
    report(label, len(lists), bad, example)


def check_stream(label, ours, lists):
    bad, example = 0, ""
    for ids in lists:
        a, b = ours.decode_stream(ids), ours.decode(ids)
        if a != b:
            bad, example = bad + 1, f"{a[:60]!r} {b[:60]!r}"
    report(label, len(lists), bad, example)


def check_pairs(label, ours, hf, texts):
    bad, example = 0, ""
    for a, b in zip(texts[::2], texts[1::2]):
        e = hf.encode(a, b)
        if (e.ids, e.type_ids) != ours.encode_pair(a, b):
            bad, example = bad + 1, f"{a[:30]!r} {b[:30]!r}"
    report(label, len(texts) // 2, bad, example)


def check_tokenizer(fm, folder, name, text, short, long):
    start = time.time()
    ours, hf = open_text(fm, folder, text)
    ids = compare(f"{name}: short", ours, hf, short)
    ids += compare(f"{name}: files", ours, hf, long)
    compare(f"{name}: add_special", ours, hf, short[:1500], add=True)
    check_pairs(f"{name}: pairs", ours, hf, short[:1500])
    check_decode(f"{name}: decode", ours, hf, ids)
    check_decode(f"{name}: decode, skip special", ours, hf, ids[:1500], True)
    size = hf.get_vocab_size()
    rng = random.Random(name)
    noise = [[rng.randrange(size + 3) for _ in range(rng.randint(1, 12))] for _ in range(2000)]
    check_decode(f"{name}: decode any ids", ours, hf, noise)
    check_stream(f"{name}: stream", ours, ids[:1500])
    ours.save(f"{folder}/saved")
    compare(f"{name}: saved", fm.open(f"{folder}/saved"), hf, short[:1500])
    print(f"{name}: {time.time() - start:.1f} s", flush=True)


# ---- sentencepiece ----

SPM = {
    "unigram": dict(model_type="unigram", vocab_size=6000),
    "unigram byte_fallback": dict(model_type="unigram", vocab_size=6000, byte_fallback=True, character_coverage=0.98,
                                  normalization_rule_name="nmt_nfkc_cf"),
    "unigram user symbols": dict(model_type="unigram", vocab_size=6000, user_defined_symbols=["<x>", " a ", "中文", "##", "ing"]),
    "unigram suffix": dict(model_type="unigram", vocab_size=5000, treat_whitespace_as_suffix=True),
    "unigram across blanks": dict(model_type="unigram", vocab_size=4000, split_by_whitespace=False,
                                  remove_extra_whitespaces=False),
    "bpe": dict(model_type="bpe", vocab_size=6000),
    "bpe llama": dict(model_type="bpe", vocab_size=6000, byte_fallback=True, normalization_rule_name="identity",
                      remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True,
                      character_coverage=0.99),
    "bpe user symbols": dict(model_type="bpe", vocab_size=6000, user_defined_symbols=["<x>", " a ", "中文", "##", "ing", "▁the"]),
    "bpe no prefix": dict(model_type="bpe", vocab_size=4000, add_dummy_prefix=False, normalization_rule_name="nfkc"),
    "bpe suffix": dict(model_type="bpe", vocab_size=4000, treat_whitespace_as_suffix=True, byte_fallback=True),
}


def train_spm(corpus, **options):
    import sentencepiece as spm
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(corpus), model_writer=out, minloglevel=2, num_threads=2,
                                   max_sentence_length=100000, **{"hard_vocab_limit": False, **options})
    return out.getvalue()


def spm_lines(texts):
    return [line for t in texts for line in t.replace("\x00", "").split("\n") if line]


def charsmap_of(model):
    from sentencepiece import sentencepiece_model_pb2 as pb
    m = pb.ModelProto()
    m.ParseFromString(model)
    return m.normalizer_spec.precompiled_charsmap


def check_spm(fm, folder, lines, short, long, only):
    import sentencepiece as spm
    for name, options in SPM.items():
        if only and only not in f"spm {name}":
            continue
        data = train_spm(lines, **options)
        check_spm_model(fm, folder, name, data, spm.SentencePieceProcessor(model_proto=data), short, long)


def check_spm_model(fm, folder, name, data, theirs, short, long):
    path = f"{folder}/tokenizer.model"
    pathlib.Path(path).write_bytes(data)
    ours = fm.open(path)
    start = time.time()
    for what, texts in (("short", short), ("files", long)):
        bad, example, bad_text, example_text = 0, "", 0, ""
        for t in texts:
            a, b = ours.encode(t, False), theirs.encode(t)
            if a != b:
                k = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
                bad, example = bad + 1, (f"{theirs.id_to_piece(b[max(0, k - 2) : k + 4])} {t[:40]!r} ours "
                                         f"{a[k : k + 4]} theirs {b[k : k + 4]}")
            # The library writes a mark of its own for unknown tokens, and takes more than one mark of a blank off the front.
            if theirs.unk_id() not in b and "▁" not in t:
                x, y = ours.decode(b).decode("utf-8", "replace"), theirs.decode(b)
                if x != y:
                    bad_text, example_text = bad_text + 1, f"{x[:40]!r} {y[:40]!r}"
        report(f"spm {name}: {what}", len(texts), bad, example)
        report(f"spm {name}: {what} decoded", len(texts), bad_text, example_text)
    print(f"spm {name}: {time.time() - start:.1f} s", flush=True)


def read(path):
    data = (gzip.open(path) if str(path).endswith(".gz") else open(path, "rb")).read().decode("utf-8", "replace")
    # Characters that only one side's Unicode knows.
    return "".join(c for c in data if unicodedata.category(c) not in ("Cn", "Cs"))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--lib", required=True)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--rounds", type=int, default=5000)
    ap.add_argument("--only", default="")
    ap.add_argument("--keep", help="folder to keep the trained tokenizers in")
    ap.add_argument("--tokenizer", action="append", default=[])
    ap.add_argument("text", nargs="*")
    a = ap.parse_args()
    rng = random.Random(a.seed)
    files = a.text or [str(p) for p in sorted((ROOT / "tests/unit/text/data").glob("*.txt"))]
    long = []
    for f in files:
        data = read(f)
        long += [data[i : i + 8000] for i in range(0, len(data), 8000)]
    rng.shuffle(long)
    short = [random_text(rng) for _ in range(a.rounds)]
    train = [t.replace("\0", "") for t in long[:150] + short[:500]]
    lines = spm_lines(train)
    fm = Fathom(a.lib)
    charsmaps = {k: charsmap_of(train_spm(lines[:3000], model_type="unigram", vocab_size=3000, hard_vocab_limit=False,
                                          character_coverage=0.98,
                                          normalization_rule_name=k)) for k in ("nmt_nfkc", "nmt_nfkc_cf")}
    with tempfile.TemporaryDirectory() as folder:
        if a.only in "parts":
            check_normalizers(fm, folder, short + long[:100], charsmaps)
            check_pre_tokenizers(fm, folder, short + long[:50])
        for name, make in builders(charsmaps):
            if a.only in name:
                text = make(train).to_str()
                if a.keep:
                    pathlib.Path(a.keep, name.replace("/", "_") + ".json").write_text(text)
                check_tokenizer(fm, folder, name, text, short, long)
        for p in a.tokenizer:
            if p.endswith(".model"):
                import sentencepiece as spm
                data = pathlib.Path(p).read_bytes()
                check_spm_model(fm, folder, pathlib.Path(p).name, data, spm.SentencePieceProcessor(model_proto=data), short, long)
            else:
                check_tokenizer(fm, folder, pathlib.Path(p).name, pathlib.Path(p).read_text(), short, long)
        if a.only in "spm" or a.only.startswith("spm"):
            check_spm(fm, folder, lines, short, long, a.only if a.only != "spm" else "")
    print("FAILED" if failures else "all equal", f"({total[0]} comparisons of {total[1]} items, seed {a.seed})")
    sys.exit(failures != 0)


main()
