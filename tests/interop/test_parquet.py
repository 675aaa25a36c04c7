#!/usr/bin/env python3
"""Parquet and Arrow: files that pyarrow writes (every codec, page version and encoding it has, nested columns) hold for `fathom data` what they
hold for pyarrow.

  test_parquet.py FATHOM [FILE.parquet...]      with files: those are compared instead
Needs: pip install pyarrow
"""
import base64
import datetime
import decimal
import json
import math
import os
import random
import struct
import subprocess
import sys
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq

fathom = sys.argv[1]
random.seed(1)
N = 1500
bad = 0


def fail(*what):
    global bad
    bad += 1
    if bad < 30:
        print("DIFFERENT", *what)


def plain(v, t):
    """The value as fathom writes it; what needs an exact comparison as a pair."""
    if v is None:
        return None
    if pa.types.is_struct(t):
        return {f.name: plain(v[f.name], f.type) for f in t}
    if pa.types.is_map(t):
        return [{"key": plain(k, t.key_type), "value": plain(x, t.item_type)} for k, x in v]
    if pa.types.is_list(t) or pa.types.is_large_list(t) or pa.types.is_fixed_size_list(t):
        return [plain(x, t.value_type) for x in v]
    if pa.types.is_dictionary(t):
        return plain(v, t.value_type)
    if isinstance(v, bytes):
        try:
            return v.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(v).decode()}
    if isinstance(v, float):
        return None if not math.isfinite(v) else ("f32", v) if pa.types.is_float32(t) else v
    if isinstance(v, decimal.Decimal):
        return ("decimal", v)
    if isinstance(v, (datetime.date, datetime.time)):
        return ("time", v.isoformat())
    return v


def moment(s):
    whole, _, part = s.replace("+00:00", "").rstrip("Z").partition(".")
    return whole, part.rstrip("0")


def same(a, b):
    if isinstance(a, tuple):
        if b is None:
            return False
        if a[0] == "f32":
            return struct.pack("f", float(b)) == struct.pack("f", a[1])
        return decimal.Decimal(b) == a[1] if a[0] == "decimal" else moment(a[1]) == moment(b)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, (int, float)):
        return b is not None and not isinstance(b, str) and float(a) == float(b) and (not isinstance(a, int) or int(b) == a)
    return a == b


def run(source, target):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as y:
        y.write("input: %s\noutput: %s\n" % (source, target))
        y.flush()
        return subprocess.run([fathom, "data", "run", y.name, "--quiet"], capture_output=True, text=True)


def check(path, dir_):
    target = os.path.join(dir_, "rows.jsonl")
    for name in os.listdir(dir_):
        if name.startswith("rows.jsonl"):
            os.remove(os.path.join(dir_, name))
    r = run(path, target)
    try:
        t = pa.ipc.open_stream(path).read_all() if path.endswith(".arrow") else pq.read_table(path, coerce_int96_timestamp_unit="us")
        values = [[plain(v, f.type) for v in c.to_pylist()] for c, f in zip(t.columns, t.schema)]
    except Exception as e:
        print("pyarrow refuses %s (%s); fathom: %d %s" % (os.path.basename(path), str(e)[:60], r.returncode, r.stderr.strip()[:120]))
        return
    if r.returncode:
        return fail(path, r.stderr.strip()[:300])
    rows = [json.loads(line, parse_float=decimal.Decimal) for line in open(target, encoding="utf-8")]
    if len(rows) != t.num_rows:
        return fail(path, len(rows), "rows, expected", t.num_rows)
    for i, row in enumerate(rows):
        for name, column in zip(t.column_names, values):
            if name not in row or not same(column[i], row[name]):
                fail(path, "row", i, name, repr(column[i])[:100], repr(row.get(name))[:100])


def column(make, type_=None, missing=0.1):
    return pa.array([None if random.random() < missing else make(i) for i in range(N)], type_)


def write_all(d):
    t = pa.table({
        "s": column(lambda i: random.choice(["", "a", "h\u00e9llo", "\u4e2d\u6587"]) * random.randint(0, 5)),
        "big": column(lambda i: ("x%d " % i) * random.randint(0, 50), pa.large_string(), 0),
        "b": column(lambda i: random.randbytes(random.randint(0, 6)), pa.binary()),
        "i8": column(lambda i: random.randint(-128, 127), pa.int8()),
        "u8": column(lambda i: random.randint(0, 255), pa.uint8()),
        "u32": column(lambda i: random.randint(0, 2**32 - 1), pa.uint32()),
        "u64": column(lambda i: random.randint(0, 2**64 - 1), pa.uint64()),
        "i64": column(lambda i: random.randint(-2**63, 2**63 - 1), pa.int64(), 0),
        "seq": pa.array(range(N), pa.int32()),
        "f": column(lambda i: random.gauss(0, 1e10), pa.float32()),
        "d": column(lambda i: random.choice([float("nan"), 1 / 3, 1e300, 5e-324, 1.0, random.random()])),
        "half": pa.array([1.5, 0.1, -2] * (N // 3), pa.float32()).cast(pa.float16()),
        "yes": column(lambda i: random.random() < 0.5),
        "date": column(lambda i: datetime.date(1, 1, 1) + datetime.timedelta(days=random.randint(0, 3000000))),
        "t_ms": column(lambda i: random.randint(0, 86399999), pa.time32("ms")),
        "t_us": column(lambda i: random.randint(0, 86399999999), pa.time64("us")),
        "ts": column(lambda i: random.randint(-10**15, 10**16), pa.timestamp("us")),
        "tz": column(lambda i: random.randint(-10**12, 10**13), pa.timestamp("ms", "UTC")),
        "dec": column(lambda i: decimal.Decimal(random.randint(-10**20, 10**20)).scaleb(-5), pa.decimal128(30, 5)),
        "dec_wide": column(lambda i: decimal.Decimal(random.randint(-10**39, 10**39)).scaleb(-7), pa.decimal256(60, 7)),
        "dec_small": column(lambda i: decimal.Decimal(random.randint(-10**8, 10**8)).scaleb(-2), pa.decimal128(9, 2)),
        "list": column(lambda i: random.choices([None, 1, 2, 3], k=random.randint(0, 4)), pa.list_(pa.int32())),
        "lists": column(lambda i: random.choices([None, [], [1, None, 3], [4]], k=random.randint(0, 4)), pa.list_(pa.list_(pa.int16()))),
        "struct": column(lambda i: {"a": random.choice([None, 1]), "b": random.choice([None, {"c": "x", "d": [1.5]}, {"c": None, "d": None}])},
                         pa.struct([("a", pa.int64()), ("b", pa.struct([("c", pa.string()), ("d", pa.list_(pa.float64()))]))])),
        "map": column(lambda i: [("k%d" % j, random.choice([None, j])) for j in range(random.randint(0, 3))], pa.map_(pa.string(), pa.int32())),
        "chat": column(lambda i: [{"role": "user", "content": "hi %d" % i}] * random.randint(0, 3),
                       pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        "pair": pa.array([[1.0, 2.0]] * N, pa.list_(pa.float32(), 2)),
        "dict": column(lambda i: random.choice(["red", "green", "blue"])).dictionary_encode(),
        "nothing": pa.nulls(N),
        "fixed": pa.array([random.randbytes(4) for i in range(N)], pa.binary(4)),
    })
    for codec in ("none", "snappy", "gzip", "zstd", "lz4", "brotli"):
        for version in ("1.0", "2.0"):
            for group in (400, N):
                pq.write_table(t, "%s/%s_%s_%d.parquet" % (d, codec, version, group), compression=codec, data_page_version=version, row_group_size=group,
                               data_page_size=4096)
    flat = t.select(["s", "i64", "seq", "u32", "f", "d", "date", "fixed", "yes", "big", "b"])
    delta, length, split = "DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY", "BYTE_STREAM_SPLIT"
    pq.write_table(flat, d + "/delta.parquet", use_dictionary=False, data_page_size=5000, column_encoding={
        "s": "DELTA_BYTE_ARRAY", "i64": delta, "seq": delta, "u32": delta, "f": split, "d": split, "date": delta, "fixed": "DELTA_BYTE_ARRAY", "yes": "RLE",
        "big": length, "b": length})
    pq.write_table(flat, d + "/split.parquet", use_dictionary=False, data_page_version="2.0", write_page_checksum=True, column_encoding={
        "s": length, "i64": split, "seq": split, "fixed": split, "big": "DELTA_BYTE_ARRAY"})
    pq.write_table(flat.slice(0, 0), d + "/empty.parquet")
    pq.write_table(t.select(["ts"]), d + "/int96.parquet", use_deprecated_int96_timestamps=True)
    for codec in (None, "lz4", "zstd"):
        with pa.ipc.new_stream("%s/%s.arrow" % (d, codec), t.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as w:
            for b in t.to_batches(max_chunksize=700):
                w.write_batch(b)
    pq.write_table(t, d + "/names.parquet", use_compliant_nested_type=False)


with tempfile.TemporaryDirectory() as tmp:
    files = sys.argv[2:]
    if not files:
        made = os.path.join(tmp, "made")
        os.mkdir(made)
        write_all(made)
        files = sorted(os.path.join(made, f) for f in os.listdir(made))
    for f in files:
        check(f, tmp)
    print("%d files, %d differences (pyarrow %s)" % (len(files), bad, pa.__version__))
sys.exit(bad > 0)
