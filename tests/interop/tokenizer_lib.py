"""The tokenizer part of libfathom for Python (ctypes), for the interop scripts."""
import ctypes as C
import os


class Text(C.Structure):
    _fields_ = [("ptr", C.c_char_p), ("len", C.c_size_t)]


class Tokens(C.Structure):
    _fields_ = [("ids", C.POINTER(C.c_int32)), ("n", C.c_size_t), ("cap", C.c_size_t)]


class Batch(C.Structure):
    _fields_ = [("ids", C.POINTER(C.c_int32)), ("offset", C.POINTER(C.c_size_t)), ("n_texts", C.c_size_t)]


class EncodeOptions(C.Structure):
    _fields_ = [("size", C.c_size_t), ("allow_special", C.c_bool), ("add_special", C.c_bool), ("n_threads", C.c_int)]


class DecodeOptions(C.Structure):
    _fields_ = [("size", C.c_size_t), ("skip_special", C.c_bool)]


NEXT = C.CFUNCTYPE(C.c_int, C.c_void_p, C.POINTER(Text), C.POINTER(C.c_bool))


class TrainOptions(C.Structure):
    _fields_ = [
        ("size", C.c_size_t), ("vocab_size", C.c_int64), ("pattern", C.c_char_p),
        ("special", C.POINTER(C.c_char_p)), ("n_special", C.c_int),
        ("bos", C.c_char_p), ("eos", C.c_char_p), ("pad", C.c_char_p), ("unk", C.c_char_p),
        ("add_bos", C.c_bool), ("add_eos", C.c_bool), ("chat_template", C.c_char_p),
        ("min_frequency", C.c_int64), ("max_memory", C.c_int64), ("n_threads", C.c_int),
    ]


class TrainInfo(C.Structure):
    _fields_ = [(n, C.c_int64) for n in
                ("n_texts", "n_bytes", "n_pieces", "n_unique", "prune_threshold", "n_pruned", "n_merges")]
    _fields_ += [("count_s", C.c_double), ("merge_s", C.c_double)]


class Error(C.Structure):
    _fields_ = [("status", C.c_int), ("message", C.c_char_p), ("hint", C.c_char_p), ("file", C.c_char_p),
                ("line", C.c_int)]


class Fathom:
    def __init__(self, path):
        self.c = C.CDLL(os.path.abspath(path))
        self.c.fm_error_get.restype = Error
        self.c.fm_tokenizer_vocab_size.restype = C.c_int32

    def check(self, status):
        if status:
            e = self.c.fm_error_get()
            raise RuntimeError(f"{e.message.decode()} ({e.hint.decode()})")

    def open(self, path):
        t = C.c_void_p()
        self.check(self.c.fm_tokenizer_open(C.byref(t), str(path).encode()))
        return Tokenizer(self, t)

    def train(self, texts, vocab_size, pattern, special=(), min_frequency=0, n_threads=1, max_memory=0):
        it = iter(texts)
        keep = []

        def nxt(_user, text, end):
            s = next(it, None)
            if s is None:
                end[0] = True
                return 0
            keep[:] = [s.encode() if isinstance(s, str) else s]
            text[0].ptr, text[0].len = keep[0], len(keep[0])
            return 0

        arr = (C.c_char_p * max(1, len(special)))(*[s.encode() for s in special])
        o = TrainOptions(size=C.sizeof(TrainOptions), vocab_size=vocab_size, pattern=pattern.encode(), special=arr,
                         n_special=len(special), min_frequency=min_frequency or -1, n_threads=n_threads,
                         max_memory=max_memory)
        t, info = C.c_void_p(), TrainInfo()
        self.check(self.c.fm_tokenizer_train(C.byref(t), C.byref(info), NEXT(nxt), None, C.byref(o)))
        return Tokenizer(self, t), info


class Tokenizer:
    def __init__(self, lib, handle):
        self.lib, self.h = lib, handle

    def __del__(self):
        self.lib.c.fm_tokenizer_free(self.h)

    def save(self, folder):
        self.lib.check(self.lib.c.fm_tokenizer_save(self.h, str(folder).encode()))

    def encode(self, text, special=True, add=False):
        b = text.encode() if isinstance(text, str) else text
        o = EncodeOptions(size=C.sizeof(EncodeOptions), allow_special=special, add_special=add, n_threads=1)
        t = Tokens()
        self.lib.check(self.lib.c.fm_tokenizer_encode(C.byref(t), self.h, b, C.c_size_t(len(b)), C.byref(o)))
        ids = t.ids[: t.n]
        self.lib.c.fm_tokens_free(C.byref(t))
        return ids

    def encode_many(self, texts):
        """Number of ids of many texts (bytes) on one thread: little Python between the calls."""
        n = len(texts)
        arr = (Text * n)(*[Text(t, len(t)) for t in texts])
        o = EncodeOptions(size=C.sizeof(EncodeOptions), allow_special=True, n_threads=1)
        b = Batch()
        self.lib.check(self.lib.c.fm_tokenizer_encode_batch(C.byref(b), self.h, arr, C.c_size_t(n), C.byref(o)))
        count = b.offset[n]
        self.lib.c.fm_token_batch_free(C.byref(b))
        return count

    def encode_pair(self, a, b):
        """Ids and token types, with special tokens."""
        a, b = a.encode(), b.encode()
        o = EncodeOptions(size=C.sizeof(EncodeOptions), allow_special=True, add_special=True, n_threads=1)
        t, types = Tokens(), Tokens()
        self.lib.check(self.lib.c.fm_tokenizer_encode_pair(C.byref(t), C.byref(types), self.h, Text(a, len(a)),
                                                           Text(b, len(b)), C.byref(o)))
        out = t.ids[: t.n], types.ids[: types.n]
        self.lib.c.fm_tokens_free(C.byref(t))
        self.lib.c.fm_tokens_free(C.byref(types))
        return out

    def decode(self, ids, skip_special=False):
        out, n = C.c_void_p(), C.c_size_t()
        arr = (C.c_int32 * max(1, len(ids)))(*ids)
        o = DecodeOptions(size=C.sizeof(DecodeOptions), skip_special=skip_special)
        self.lib.check(self.lib.c.fm_tokenizer_decode(C.byref(out), C.byref(n), self.h, arr, C.c_size_t(len(ids)),
                                                      C.byref(o)))
        b = C.string_at(out, n.value)
        self.lib.c.fm_string_free(out)
        return b

    def decode_stream(self, ids):
        d, text, n, out = C.c_void_p(), C.c_char_p(), C.c_size_t(), []
        self.lib.check(self.lib.c.fm_token_decoder_new(C.byref(d), self.h, None))
        for i in ids:
            self.lib.check(self.lib.c.fm_token_decoder_push(d, C.c_int32(i), C.byref(text), C.byref(n)))
            out.append(C.string_at(text, n.value))
        self.lib.c.fm_token_decoder_flush(d, C.byref(text), C.byref(n))
        out.append(C.string_at(text, n.value))
        self.lib.c.fm_token_decoder_free(d)
        return b"".join(out)
