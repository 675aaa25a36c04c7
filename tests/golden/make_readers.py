#!/usr/bin/env python3
"""Small files of the formats that `fathom data` reads, and their rows as JSON lines (<file>.rows) as other programs see them.

  make_readers.py [NAME]      writes tests/unit/data/readers/
Needs: pip install pyarrow
The versions that wrote them are in versions.txt beside them.
"""
import base64
import datetime
import decimal
import json
import os
import sys

out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "unit", "data", "readers")
os.makedirs(out, exist_ok=True)
versions = {}


def rows(name, items):
    with open(os.path.join(out, name + ".rows"), "w", encoding="utf-8", newline="\n") as f:
        for r in items:
            f.write(json.dumps(r, ensure_ascii=False, separators=(",", ":")) + "\n")


def parquet():
    import pyarrow as pa
    import pyarrow.parquet as pq
    versions["pyarrow"] = pa.__version__
    chat = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    data = [
        {"id": 1, "messages": [{"role": "user", "content": "Hi \"there\"\n"}, {"role": "assistant", "content": "你好"}], "tags": ["a", None], "n": [[1], [], None]},
        {"id": None, "messages": [], "tags": None, "n": None},
        {"id": 3, "messages": None, "tags": [], "n": [[2, None, 3]]},
        {"id": 4, "messages": [{"role": None, "content": ""}, None], "tags": ["b"], "n": []},
    ]
    t = pa.Table.from_pylist(data, schema=pa.schema([("id", pa.int64()), ("messages", chat), ("tags", pa.list_(pa.string())), ("n", pa.list_(pa.list_(pa.int8())))]))
    pq.write_table(t, os.path.join(out, "nested.parquet"), compression="snappy", row_group_size=3)
    rows("nested.parquet", t.to_pylist())
    n = 300
    t = pa.table({
        "s": pa.array([None if i % 7 == 0 else "row %d" % i for i in range(n)]),
        "color": pa.array([["red", "green", "blue"][i % 3] for i in range(n)]),
        "u": pa.array([2**64 - 1 - i for i in range(n)], pa.uint64()),
        "d": pa.array([i / 8 + 0.5 for i in range(n)], pa.float64()),
        "yes": pa.array([i % 5 == 0 for i in range(n)]),
        "day": pa.array([datetime.date(1960, 2, 28) + datetime.timedelta(days=i) for i in range(n)]),
        "at": pa.array([datetime.datetime(1999, 12, 31, 23, 59, i % 60, 1000 * i) for i in range(n)], pa.timestamp("us", "UTC")),
        "price": pa.array([decimal.Decimal(i * 7 - 900).scaleb(-2) for i in range(n)], pa.decimal128(12, 2)),
        "bin": pa.array([bytes([255, i % 256]) for i in range(n)], pa.binary()),
    })
    pq.write_table(t, os.path.join(out, "types.parquet"), compression="zstd", row_group_size=170, data_page_size=300, data_page_version="2.0",
                   use_dictionary=["color"], column_encoding={"s": "DELTA_BYTE_ARRAY", "u": "DELTA_BINARY_PACKED", "d": "BYTE_STREAM_SPLIT", "bin": "DELTA_LENGTH_BYTE_ARRAY"})

    def plain(r):
        at = r["at"].strftime("%Y-%m-%dT%H:%M:%S")
        if r["at"].microsecond:
            at += (".%06d" % r["at"].microsecond).rstrip("0")
        return dict(r, day=r["day"].isoformat(), at=at + "Z", price="@%s@" % r["price"], bin={"base64": base64.b64encode(r["bin"]).decode()})
    rows("types.parquet", map(plain, t.to_pylist()))
    p = os.path.join(out, "types.parquet.rows")
    s = open(p, encoding="utf-8").read().replace('"@', "").replace('@"', "")
    open(p, "w", encoding="utf-8", newline="\n").write(s)


makers = {"parquet": parquet}
for name, make in makers.items():
    if len(sys.argv) < 2 or sys.argv[1] == name:
        make()
if versions:
    path = os.path.join(out, "versions.txt")
    old = dict(line.split(" ", 1) for line in open(path).read().splitlines()) if os.path.exists(path) else {}
    old.update(versions)
    open(path, "w").write("".join("%s %s\n" % kv for kv in sorted(old.items())))
