#!/bin/sh
# fathom data augment-images: what is cut, mirrored, turned and lightened, by pictures whose pixels are known.
set -eu
. "$2/tests/cli/lib.sh"
command -v python3 > /dev/null || { echo "SKIP: no python3"; exit 77; }
cd "$tmp"
# Pictures are written and read here by hand (PNG is zlib and a few headers).
cat > png.py << 'P'
import struct, zlib
def write(path, w, h, pixel, bands=3):
    raw = b"".join(b"\0" + b"".join(bytes(pixel(x, y)) for x in range(w)) for y in range(h))
    chunk = lambda k, d: struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d))
    open(path, "wb").write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, {1: 0, 3: 2, 4: 6}[bands], 0, 0, 0)) +
                           chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))
def read(path):
    d = open(path, "rb").read()
    at, data = 8, b""
    while at < len(d):
        n, kind = struct.unpack(">I4s", d[at:at + 8])
        if kind == b"IHDR":
            w, h, depth, colour = struct.unpack(">IIBB", d[at + 8:at + 18])
        if kind == b"IDAT":
            data += d[at + 8:at + 8 + n]
        at += n + 12
    bands = {0: 1, 2: 3, 6: 4, 4: 2}[colour]
    assert depth == 8
    raw, rows, before = zlib.decompress(data), [], [0] * (w * bands)
    for y in range(h):
        line = list(raw[y * (w * bands + 1):(y + 1) * (w * bands + 1)])
        f, row = line[0], line[1:]
        for i in range(len(row)):
            a, b, c = row[i - bands] if i >= bands else 0, before[i], before[i - bands] if i >= bands else 0
            p = a + b - c
            row[i] = (row[i] + (0, a, b, (a + b) // 2, min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2])[f]) & 255
        rows.append([tuple(row[x * bands:(x + 1) * bands]) for x in range(w)])
        before = row
    return rows
P
mkdir -p in/cat/deep in/dog
python3 - <<'P'
import png
png.write("in/cat/one.png", 60, 40, lambda x, y: (x * 4, y * 6, 77))
png.write("in/cat/deep/two.png", 31, 33, lambda x, y: (x * 8, y * 7, 9, 100 + x), 4)
png.write("in/dog/grey.PNG", 20, 20, lambda x, y: (x * 10,), 1)
P
head -c 300 in/cat/one.png > in/dog/cut.png
echo "no picture" > in/dog/text.jpg
echo notes > in/dog/notes.txt
images() { # RC ARGS...
    rc_=$1
    shift
    run "$rc_" "$fathom" data augment-images "$@"
}
"$fathom" data augment-images -i in -o probe --copies 1 > out 2> err || true
if grep -q "libvips.so.42 is not installed" err; then
    echo "SKIP: no libvips"
    exit 77
fi

images 0 -i in -o all --copies 5 --threads 1 --seed 3
has out "3 pictures, 2 refused: 18 files"
has err "cut.png"
has err "text.jpg"
images 0 -i in -o all3 --copies 5 --threads 3 --seed 3
for f in $(cd all && find . -name '*.png' -o -name '*.PNG' -o -name metadata.jsonl | sort); do same "all/$f" "all3/$f"; done
images 0 -i in -o all4 --copies 5 --seed 4
if cmp -s all/metadata.jsonl all4/metadata.jsonl; then die "another seed, the same copies"; fi
images 1 -i in -o all
has err "overwrite"
images 0 -i in -o all --copies 1 --overwrite --no-originals --json
has out '"files":3'

# each change alone, pixel by pixel
images 0 -i in -o crop --copies 6 --crop 0.5 --flip none --rotate 0 --brightness 0
images 0 -i in -o flip --copies 8 --crop 1 --flip both --rotate 0 --brightness 0
images 0 -i in -o light --copies 6 --crop 1 --flip none --rotate 0 --brightness 0.5
images 0 -i in -o turn --copies 6 --crop 1 --flip none --rotate 40 --brightness 0
python3 - <<'P'
import json, math, png
def rows(d):
    return [json.loads(l) for l in open(d + "/metadata.jsonl")]
def pairs(d):
    for r in rows(d):
        if "source_file" in r:
            assert r["label"] == r["file_name"].split("/")[0]
            yield r, png.read("in/" + r["source_file"]), png.read(d + "/" + r["file_name"])
assert [r["file_name"] for r in rows("crop") if "source_file" not in r] == ["cat/deep/two.png", "cat/one.png", "dog/grey.PNG"]
places, n = set(), 0
for r, a, b in pairs("crop"):
    x, y, w, h = r["crop"]
    assert b == [line[x:x + w] for line in a[y:y + h]]
    assert w >= len(a[0]) // 2 and h >= len(a) // 2
    places.add((x, y, w, h))
    n += 1
assert n == 18 and len(places) > 10
seen = set()
for r, a, b in pairs("flip"):
    a = [line[::-1] for line in a] if "h" in r["flip"] else a
    assert b == (a[::-1] if "v" in r["flip"] else a)
    seen.add(r["flip"])
assert seen == {"", "h", "v", "hv"}, seen
for r, a, b in pairs("light"):
    f = r["brightness"]
    assert 0.5 <= f <= 1.5
    for la, lb in zip(a, b):
        for p, q in zip(la, lb):
            colours = len(p) - (len(p) in (2, 4))
            assert all(abs(min(255, p[i] * f) - q[i]) <= 1 for i in range(colours)) and p[colours:] == q[colours:], (p, q, f)
for r, a, b in pairs("turn"):
    h, w = len(a), len(a[0])
    assert abs(r["angle"]) <= 40
    t = math.radians(r["angle"])
    for y, line in enumerate(b):
        for x, p in enumerate(line):
            dx, dy = x - (len(line) - 1) / 2, y - (len(b) - 1) / 2
            sx, sy = dx * math.cos(t) + dy * math.sin(t) + (w - 1) / 2, -dx * math.sin(t) + dy * math.cos(t) + (h - 1) / 2
            assert -0.6 <= sx <= w - 0.4 and -0.6 <= sy <= h - 0.4, (r, x, y)  # all of it was there
            if r["source_file"] == "cat/one.png":  # a plane: interpolation is exact but for rounding and half pixels
                assert abs(p[0] - 4 * sx) <= 6 and abs(p[1] - 6 * sy) <= 8 and abs(p[2] - 77) <= 2, (r, x, y, p, sx, sy)
P

# labels of metadata.jsonl
printf '{"file_name":"cat/one.png","label":"lion","note":[1]}\n{"file_name":"none.png"}\n{"x":1}\n' > in/metadata.jsonl
images 0 -i in -o meta --copies 1
has err "there is no such picture"
has err "without file_name"
[ "$(grep -c '"label":"lion","note":\[1\]' meta/metadata.jsonl)" = 2 ] || die "columns of the metadata"
# nothing to do, bombs
mkdir empty
images 3 -i empty -o x
images 1 -i nothere -o x
images 2 -i in
images 0 -i in -o small --max-pixels 1100
has err "more than max_pixels"
has out "2 pictures, 3 refused"
finish
