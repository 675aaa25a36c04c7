#!/usr/bin/env python3
"""Writes tests/unit/text/data/kinds/: small tokenizers of every kind and what the libraries give for them, and seeds for
fuzz/corpus/tokenizer and fuzz/corpus/sentencepiece.

Usage: make_tokenizer_kinds_golden.py   (needs: pip install tokenizers sentencepiece; made with the versions that it writes)
"""
import base64
import io
import json
import pathlib
import random
import tempfile

import sentencepiece as spm
import tokenizers
from sentencepiece import sentencepiece_model_pb2 as pb
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers as P, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "tests/unit/text/data"
OUT = DATA / "kinds"
POOL = ([" "] * 8 + list("abzABZ019'\"!#$_-.,\t\n\x0b\x85\u00a0\u3000stand") +
        ["\r\n", "'s", "中", "文", "の", "カ", "é", "e\u0301", "İ", "ß", "Ж", "ع", "²", "😀", "€", "\u200d", "한", "。", "，", "ﬁ",
         "½", "▁", "\u00ad", " the", " of", " rights", "Human", "don't do not", " .", "====", "<s>", "[SEP]", "<x>", "##ing"])


def texts_of(rng, n):
    return [""] + ["".join(rng.choice(POOL) for _ in range(rng.randint(1, 20))) for _ in range(n)]


def corpus():
    out = []
    for p in sorted(DATA.glob("udhr_*.txt")):
        out += [line for line in p.read_text().split("\n") if line][:60]
    return out


def charsmap(lines):
    """A small map: the rules of SentencePiece's own files take 240 kB."""
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as f:
        rules = {"ﬁ": "fi", "½": "1⁄2", "e\u0301": "é", "\u3000": " ", "\t": " ", "\n": " ", "\u00a0": " ", "\u00ad": "", "²": "2",
                 "İ": "i"}
        for a, b in sorted(rules.items()):
            f.write(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n")
        f.flush()
        return train_spm(lines, model_type="unigram", vocab_size=800, hard_vocab_limit=False, normalization_rule_tsv=f.name), f.name


def train_spm(lines, **options):
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=out, minloglevel=2, num_threads=1,
                                   character_coverage=0.98, **options)
    m = pb.ModelProto()
    m.ParseFromString(out.getvalue())
    for field in ("input", "model_prefix"):
        m.trainer_spec.ClearField(field)
    m.normalizer_spec.ClearField("normalization_rule_tsv")
    return m.SerializeToString()


def with_parts(t, norm=None, pre=None, dec=None, post=None):
    if norm:
        t.normalizer = norm
    if pre:
        t.pre_tokenizer = pre
    if dec:
        t.decoder = dec
    return t


def bert(lines):
    t = with_parts(Tokenizer(models.WordPiece(unk_token="[UNK]")), normalizers.BertNormalizer(), P.BertPreTokenizer(),
                   decoders.WordPiece())
    t.train_from_iterator(lines, trainers.WordPieceTrainer(
        vocab_size=400, show_progress=False, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], limit_alphabet=120))
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return t


def unigram(lines, norm, pre, dec, **model):
    t = with_parts(Tokenizer(models.Unigram()), norm, pre, dec)
    t.train_from_iterator(lines, trainers.UnigramTrainer(vocab_size=1000, show_progress=False, unk_token="<unk>",
                                                         special_tokens=["<s>", "</s>", "<unk>"]))
    t.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    return change(t, **model)


def change(t, **model):
    d = json.loads(t.to_str())
    if model.get("byte_fallback"):
        names = [f"<0x{b:02X}>" for b in range(256)]
        if d["model"]["type"] == "Unigram":
            d["model"]["vocab"] += [[k, 0.0] for k in names]
        else:
            for k in names:
                d["model"]["vocab"].setdefault(k, len(d["model"]["vocab"]))
    d["model"].update(model)
    return Tokenizer.from_str(json.dumps(d))


def bpe(lines, norm, pre, dec, model=None, **options):
    t = with_parts(Tokenizer(models.BPE(**(model or {}))), norm, pre, dec)
    options.setdefault("vocab_size", 400)
    t.train_from_iterator(lines, trainers.BpeTrainer(show_progress=False, **options))
    return t


def llama(lines):
    t = bpe(lines, None, P.Metaspace(), decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
        special_tokens=["<unk>", "<s>", "</s>"], limit_alphabet=80)
    d = json.loads(t.to_str())
    d["normalizer"] = {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    d["pre_tokenizer"] = None
    t = change(Tokenizer.from_str(json.dumps(d)), byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    return t


def roberta(lines):
    t = bpe(lines, normalizers.Lowercase(), P.Sequence([P.Digits(individual_digits=True), P.ByteLevel(add_prefix_space=True)]),
            decoders.ByteLevel(), initial_alphabet=P.ByteLevel.alphabet(), special_tokens=["<s>", "<pad>", "</s>", "<mask>"])
    t.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    t.add_special_tokens([AddedToken("<x>", lstrip=True)])
    t.add_tokens([AddedToken("Human", normalized=True, rstrip=True), AddedToken(" .", normalized=False), "TION"])
    return t


def words(lines):
    t = with_parts(Tokenizer(models.WordLevel(unk_token="[UNK]")),
                   normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Strip()]),
                   P.Sequence([P.Whitespace(), P.Punctuation("merged_with_previous")]))
    t.train_from_iterator(lines, trainers.WordLevelTrainer(vocab_size=200, special_tokens=["[UNK]"], show_progress=False))
    return t


def kinds(lines, small_map):
    yield "bert", bert(lines)
    yield "unigram", unigram(lines, normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(),
                             normalizers.Replace(Regex(" {2,}"), " ")]), P.Metaspace(), decoders.Metaspace())
    yield "unigram bytes", unigram(lines, normalizers.Sequence([normalizers.Precompiled(small_map), normalizers.Strip(left=False)]),
                                   P.Sequence([P.WhitespaceSplit(), P.Metaspace(prepend_scheme="first")]),
                                   decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]), byte_fallback=True)
    yield "llama", llama(lines)
    yield "roberta", roberta(lines)
    yield "end of word", bpe(lines, normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase()]), P.BertPreTokenizer(),
                             decoders.BPEDecoder(), dict(unk_token="<unk>", end_of_word_suffix="</w>", fuse_unk=True),
                             end_of_word_suffix="</w>", special_tokens=["<unk>"], limit_alphabet=60)
    yield "prefix", bpe(lines, None, P.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True), decoders.WordPiece(cleanup=False),
                        dict(unk_token="<unk>", continuing_subword_prefix="##"), continuing_subword_prefix="##",
                        special_tokens=["<unk>"], limit_alphabet=60)
    yield "scripts", bpe(lines, normalizers.NFC(), P.Sequence([P.UnicodeScripts(), P.CharDelimiterSplit("a"), P.FixedLength(6)]),
                         None, limit_alphabet=60)
    yield "words", words(lines)


def main():
    rng = random.Random(11)
    lines = corpus()
    OUT.mkdir(exist_ok=True)
    model, _ = charsmap(lines)
    proto = pb.ModelProto()
    proto.ParseFromString(model)
    small_map = proto.normalizer_spec.precompiled_charsmap
    print(len(small_map), "bytes of character map")
    texts = texts_of(rng, 60)
    golden = {"made with": f"tokenizers {tokenizers.__version__}, sentencepiece {spm.__version__}", "texts": texts, "kinds": [],
              "spm": []}
    seeds = ROOT / "fuzz/corpus/tokenizer"
    for name, t in kinds(lines, small_map):
        file = name.replace(" ", "_") + ".json"
        (OUT / file).write_text(json.dumps(json.loads(t.to_str()), ensure_ascii=False, separators=(",", ":")))
        ids = [t.encode(x, add_special_tokens=False).ids for x in texts]
        pairs = [t.encode(a, b) for a, b in zip(texts, texts[1:9])]
        golden["kinds"].append({
            "file": file, "ids": ids, "special": [t.encode(x).ids for x in texts[:8]],
            "pairs": [[p.ids, p.type_ids] for p in pairs],
            "decoded": [t.decode(i, skip_special_tokens=False) for i in ids]})
        # The same with a few tokens, behind an empty first line.
        d = json.loads(t.to_str())
        vocab = d["model"]["vocab"]
        if isinstance(vocab, list):
            d["model"]["vocab"] = vocab[:40]
        else:
            d["model"]["vocab"] = {k: v for k, v in vocab.items() if v < 40}
            d["model"]["merges"] = []
        d["added_tokens"] = [a for a in d["added_tokens"] if a["id"] < 40]
        if d["model"]["type"] == "Unigram":
            d["model"]["byte_fallback"] = False
        (seeds / file).write_text("\n" + json.dumps(d, ensure_ascii=False, separators=(",", ":")))
    for name, options in {
        "unigram": dict(model_type="unigram", vocab_size=800, hard_vocab_limit=False, user_defined_symbols=["<x>", "====", "stan"], byte_fallback=False),
        "bpe": dict(model_type="bpe", vocab_size=1000, byte_fallback=True, normalization_rule_name="identity",
                    remove_extra_whitespaces=False, user_defined_symbols=["<x>", " the"]),
        "suffix": dict(model_type="bpe", vocab_size=700, treat_whitespace_as_suffix=True),
    }.items():
        data = train_spm(lines, **options)
        if name != "bpe":
            m = pb.ModelProto()
            m.ParseFromString(data)
            m.normalizer_spec.precompiled_charsmap = small_map
            data = m.SerializeToString()
        (OUT / f"{name}.model").write_bytes(data)
        p = spm.SentencePieceProcessor(model_proto=data)
        ids = [p.encode(x) for x in texts]
        golden["spm"].append({"file": f"{name}.model", "ids": ids,
                              "decoded": [None if p.unk_id() in i or "▁" in x else p.decode(i) for i, x in zip(ids, texts)]})
        m = pb.ModelProto()
        m.ParseFromString(data)
        del m.pieces[60:]
        (ROOT / "fuzz/corpus/sentencepiece").mkdir(exist_ok=True)
        (ROOT / f"fuzz/corpus/sentencepiece/{name}.model").write_bytes(m.SerializeToString())
    (OUT / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")))


main()
