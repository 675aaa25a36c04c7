#!/usr/bin/env python3
"""Parquet that `fathom data` writes: pyarrow reads the rows, types, nulls and bounds that went in; the program's own reader gives back what it wrote.

  test_parquet_write.py FATHOM [FILE.parquet...]      with files: those are read, written again and compared besides
Needs: pip install pyarrow
"""
import json
import os
import random
import subprocess
import sys
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq

fathom = sys.argv[1]
random.seed(2)
bad = checks = 0


def check(ok, *what):
    global bad, checks
    checks += 1
    if not ok:
        bad += 1
        if bad < 30:
            print("DIFFERENT", *what)


def run(*args, want=0):
    r = subprocess.run([fathom, "data", *args, "--overwrite", "--quiet"], capture_output=True, text=True)
    check(r.returncode == want, args, r.returncode, r.stderr.strip()[:300])
    return r


def rows_of(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def text(v):
    """What a value is in a text column."""
    if v is None or isinstance(v, str):
        return v
    return json.dumps(v, ensure_ascii=False, separators=(",", ":"))


def same_rows(a, b, what):
    check(len(a) == len(b), what, len(a), "rows, expected", len(b))
    for i, (x, y) in enumerate(zip(a, b)):
        for k in y:
            v, w = x.get(k), y[k]
            check(v == w or text(v) == text(w), what, "row", i, k, repr(v)[:80], repr(w)[:80])


def generated(d):
    def maybe(v):
        return None if random.random() < 0.1 else v
    words = ["", "a", "héllo", "中文 text", "line\nbreak", 'quote " \\', "x" * 200]
    rows = []
    for i in range(20000):
        r = {"id": i, "text": "%s %d " % (random.choice(words), i) * random.randint(1, 30), "n": maybe(random.randint(-2**63, 2**63 - 1)),
             "x": maybe(random.choice([0.0, -0.0, 1.5, 1e300, -5e-324, random.random()])), "mixed": random.choice([1, 2.5]),
             "yes": maybe(random.random() < 0.5), "label": random.choice(["red", "green"]), "list": maybe([random.randint(0, 9), None, "中"]),
             "chat": [{"role": "user", "content": words[i % len(words)]}], "odd": random.choice([1, "a", True, None, [1]]), "none": None,
             "wide": random.choice([2**70, 1]), "big": random.choice([2**60 + 1, 0.5])}
        if i % 7 == 0:
            del r["label"]
        rows.append(r)
    source, out, back = d + "/in.jsonl", d + "/out.parquet", d + "/back.jsonl"
    with open(source, "w", encoding="utf-8") as f:
        for r in rows:
            f.write(json.dumps(r, ensure_ascii=False, separators=(",", ":")) + "\n")
    run("convert", "-i", source, "-o", out, "--threads", "1")
    first = open(out, "rb").read()
    run("convert", "-i", source, "-o", out, "--threads", "3")
    check(first == open(out, "rb").read(), "bytes depend on the number of threads")
    t = pq.read_table(out)
    types = {"id": pa.int64(), "n": pa.int64(), "x": pa.float64(), "mixed": pa.float64(), "yes": pa.bool_(), "text": pa.string(), "label": pa.string(),
             "odd": pa.string(), "none": pa.string(), "wide": pa.string(), "big": pa.string()}
    for k, ty in types.items():
        check(t.schema.field(k).type == ty, k, t.schema.field(k).type, "expected", ty)
    for name in t.column_names:
        v = t.column(name).to_pylist()
        for i, r in enumerate(rows):
            want = r.get(name)
            if name in ("list", "chat"):
                check(v[i] is None and want is None or json.loads(v[i]) == want, name, i)
            elif types[name] == pa.string():
                check(v[i] == text(want), name, i, repr(v[i])[:60], repr(text(want))[:60])
            else:
                check(v[i] == want, name, i, v[i], want)
    run("convert", "-i", out, "-o", back)
    same_rows(rows_of(back), [{k: r.get(k) for k in t.column_names} for r in rows], "own reader")
    # Bounds and nulls of every row group hold, and a filter that uses them finds the same rows.
    f = pq.ParquetFile(out)
    for g in range(f.num_row_groups):
        part = f.read_row_group(g)
        for c in range(len(t.column_names)):
            s, v = f.metadata.row_group(g).column(c).statistics, part.column(c).to_pylist()
            there = [x for x in v if x is not None]
            check(s.null_count == len(v) - len(there), "nulls", g, c)
            if s.has_min_max:
                lo, hi = (x.encode() if isinstance(x, str) else x for x in (s.min, s.max))
                key = [x.encode() if isinstance(x, str) else x for x in there]
                check(lo == min(key) and hi == max(key), "bounds", g, t.column_names[c], lo, hi)
            else:
                check(not there or any(len(str(x).encode()) > 64 for x in there), "no bounds", g, t.column_names[c])
    check(pq.read_table(out, filters=[("id", ">", 19990)]).num_rows == 9, "filter by bounds")
    # Several row groups, parts and shards in a folder, columns by name, no rows.
    run("convert", "-i", source, "-o", d + "/shards/", "--output-format", "parquet", "--shard-bytes", "1MB")
    files = sorted(x for x in os.listdir(d + "/shards") if x.endswith(".parquet"))
    check(len(files) > 2, "shards", files)
    check(sum((pq.read_table(os.path.join(d, "shards", x)).column("id").to_pylist() for x in files), []) == list(range(20000)), "rows of shards")
    run("split", "-i", source, "-o", d + "/parts/", "--output-format", "parquet")
    check(sum(pq.read_table("%s/parts/%s.parquet" % (d, p)).num_rows for p in ("train", "val", "test")) == 20000, "rows of parts")
    run("fields", "-i", source, "-o", out, "--keep", "label,id", "--columns", "label,id")
    check(pq.read_table(out).column_names == ["label", "id"], "columns by name")
    run("fields", "-i", source, "-o", out, "--keep", "label,id", "--columns", "id", want=3)
    run("filter-length", "-i", source, "-o", out, "--min-chars", "1000000")
    check(pq.read_table(out).num_rows == 0, "no rows")
    run("convert", "-i", source, "-o", d + "/x.parquet.gz", "--output-format", "x", want=2)
    with open(d + "/large.jsonl", "w", encoding="utf-8") as g:
        for i in range(3000):
            g.write(json.dumps({"t": random.randbytes(8000).hex()}) + "\n")
    run("convert", "-i", d + "/large.jsonl", "-o", out)
    f = pq.ParquetFile(out)
    check(f.num_row_groups > 1 and f.metadata.num_rows == 3000, "row groups", f.num_row_groups)
    check([r["t"] for r in rows_of(d + "/large.jsonl")] == f.read().column("t").to_pylist(), "rows of groups")


def again(path, d):
    a, b, c = d + "/a.jsonl", d + "/b.parquet", d + "/c.jsonl"
    r = subprocess.run([fathom, "data", "convert", "-i", path, "-o", a, "--overwrite", "--quiet"], capture_output=True, text=True)
    if r.returncode:
        print("refused: %s: %s" % (os.path.basename(path), r.stderr.strip()[:100]))
        return
    run("convert", "-i", path, "-o", b)
    run("convert", "-i", b, "-o", c)
    rows = rows_of(a)
    same_rows(rows_of(c), rows, os.path.basename(path))
    check(pq.read_table(b).num_rows == len(rows), path, "rows for pyarrow")


with tempfile.TemporaryDirectory() as tmp:
    generated(tmp)
    for p in sys.argv[2:]:
        again(p, tmp)
    print("%d checks, %d differences (pyarrow %s)" % (checks, bad, pa.__version__))
sys.exit(bad > 0)
