#!/bin/sh
# Data steps and pipelines as a user runs them.
set -eu
. "$(dirname "$0")/lib.sh"
cat > "$tmp/a.jsonl" <<'X'
{"id":1,"text":"  Hello   world \r\n","n":1.50,"nested":{"a":[1,2]}}
{"id":2,"text":"short"}
not json at all
{"id":3,"text":"A third row, long enough to stay.","label":"x"}
{"id":4}
X
# Cells that are not touched leave verbatim; bad rows are counted and kept.
run 0 "$fathom" data clean -i "$tmp/a.jsonl" -o "$tmp/b.jsonl" --rejects "$tmp/bad.jsonl" --json
has out '"reasons": {"broken JSON": 1}'
printf '%s\n' '{"id":1,"text":"Hello world","n":1.50,"nested":{"a":[1,2]}}' '{"id":2,"text":"short"}' \
    '{"id":3,"text":"A third row, long enough to stay.","label":"x"}' > "$tmp/want"
same "$tmp/b.jsonl" "$tmp/want"
has bad.jsonl '"line":3,"step":"read"'
has bad.jsonl '"reason":"missing column"'
has b.jsonl.manifest.json '"name": "clean"'
run 1 "$fathom" data clean -i "$tmp/a.jsonl" -o "$tmp/b.jsonl"
has err "exists already"
# A pipeline; the same bytes for any number of threads; history is carried along.
i=0
while [ $i -lt 3000 ]; do
    echo "{\"id\":$i,\"text\":\"Row number $i of a corpus  that has many rows in it.\",\"label\":\"c$((i % 3))\"}"
    i=$((i + 1))
done > "$tmp/many.jsonl"
cat > "$tmp/p.yaml" <<X
input:
  - {path: $tmp/many.jsonl, name: many, licence: CC0}
  - $tmp/b.jsonl
output: $tmp/parts
output_format: jsonl.gz
rejects: $tmp/dropped.jsonl
steps:
  - clean: {lowercase: true}
  - filter-length: {min_chars: 10}
  - split: {stratify: label}
X
run 0 "$fathom" data run "$tmp/p.yaml" --threads 1
has dropped.jsonl "too few characters"
has parts/manifest.json '"licence": "CC0"'
has parts/manifest.json '"from"'
run 0 "$fathom" data run "$tmp/p.yaml" --threads 3 --output "$tmp/again"
for p in train val test; do same "$tmp/parts/$p.jsonl.gz" "$tmp/again/$p.jsonl.gz"; done
gunzip -c "$tmp/parts/test.jsonl.gz" > "$tmp/test.jsonl"
[ "$(grep -c . "$tmp/test.jsonl")" -eq 300 ] || die "test part has $(grep -c . "$tmp/test.jsonl") rows, expected 300"
# CSV out: the header is the union of columns.
run 0 "$fathom" data fields -i "$tmp/a.jsonl" -o "$tmp/c.csv" --rename text=body --remove nested
printf 'id,body,n,label\n1,"  Hello   world \r\n",1.50,\n2,short,,\n3,"A third row, long enough to stay.",,x\n4,,,\n' > "$tmp/want"
same "$tmp/c.csv" "$tmp/want"
# Parquet: types come from all rows; JSON cells and missing ones come back.
run 0 "$fathom" data convert -i "$tmp/a.jsonl" -o "$tmp/a.parquet"
run 0 "$fathom" data convert -i "$tmp/a.parquet" -o - --quiet
printf '%s\n' '{"id":1,"text":"  Hello   world \r\n","n":1.5,"nested":{"a":[1,2]},"label":null}' \
    '{"id":2,"text":"short","n":null,"nested":null,"label":null}' \
    '{"id":3,"text":"A third row, long enough to stay.","n":null,"nested":null,"label":"x"}' \
    '{"id":4,"text":null,"n":null,"nested":null,"label":null}' > "$tmp/want"
same "$tmp/out" "$tmp/want"
run 2 "$fathom" data convert -i "$tmp/a.jsonl" -o "$tmp/b.csv" --rejects "$tmp/bad.parquet"
has err "as JSONL"
# And back, with a template.
run 0 "$fathom" data regex -i "$tmp/c.csv" -o - --text-template '{id}: {body}' --pattern '\s+$' --quiet
has out '"text":"2: short"'
# Other encodings: detected, or named; a character without a meaning sets its row aside.
printf 'id,\325\357\266\317\n1,\267\316\321\327\241\243\n2,\270\337\377\n3,\270\337\321\252\321\271\n' > "$tmp/gbk.csv"
run 0 "$fathom" data fields -i "$tmp/gbk.csv" -o - --rename 诊断=text --quiet --encoding gbk
printf '%s\n' '{"id":"1","text":"肺炎。"}' '{"id":"3","text":"高血压"}' > "$tmp/want"
same "$tmp/out" "$tmp/want"
printf '\304\343\272\303\243\254\325\342\312\307\322\273\270\366\272\334\272\303\265\304\276\344\327\323\241\243\n' > "$tmp/gbk.txt"
run 0 "$fathom" data clean -i "$tmp/gbk.txt" -o -
has out '{"text":"你好，这是一个很好的句子。"}'
has err "GB18030"
run 2 "$fathom" data clean -i "$tmp/gbk.txt" -o - --encoding gb18031
# Archives: the files inside by their names or by --format; rejected rows name them; a bomb is set aside.
mkdir "$tmp/in"
cp "$tmp/a.jsonl" "$tmp/in/a.jsonl"
cp "$tmp/c.csv" "$tmp/in/c.csv"
cp "$tmp/a.jsonl" "$tmp/in/rows.dat"
tar -C "$tmp" -cf "$tmp/in.tar" in
run 0 "$fathom" data convert -i "$tmp/in.tar" -o "$tmp/tar.jsonl" --rejects "$tmp/bad.jsonl"
[ "$(grep -c . "$tmp/tar.jsonl")" -eq 8 ] || die "the archive gave $(grep -c . "$tmp/tar.jsonl") rows, expected 8"
has bad.jsonl '"member":"in/a.jsonl","line":3'
run 0 "$fathom" data convert -i "$tmp/in.tar" -o "$tmp/tar2.jsonl" --threads 1 --rejects "$tmp/bad.jsonl"
same "$tmp/tar.jsonl" "$tmp/tar2.jsonl"
stdin="$tmp/in.tar" run 0 "$fathom" data convert -i - -o - --format archive --quiet
same "$tmp/out" "$tmp/tar.jsonl"
gzip -c "$tmp/in.tar" > "$tmp/in.tar.gz"
run 0 "$fathom" data convert -i "$tmp/in.tar.gz" -o - --format jsonl --quiet
has out '"text":"short"'
if command -v python3 > /dev/null; then
    python3 - "$tmp" <<'P'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1] + "/bomb.zip", "w", zipfile.ZIP_DEFLATED) as z:
    z.writestr("a.jsonl", '{"text":"good"}\n')
    z.writestr("b.jsonl", b" " * 100_000_000)
P
    run 0 "$fathom" data convert -i "$tmp/bomb.zip" -o "$tmp/bomb.jsonl" --rejects "$tmp/bad.jsonl"
    has bomb.jsonl good
    has bad.jsonl "more than 500 times its size"
fi
# Paths into nested JSON.
echo '{"a":{"b":[{"t":[{"x":1},{"x":2}]},{"t":[]},{"t":{"x":3}}]}}' > "$tmp/n.jsonl"
for p in 'a.b[*].t' '$.a.b[].t[*]'; do
    run 0 "$fathom" data convert -i "$tmp/n.jsonl" -o - --quiet --record-path "$p"
    has out '{"x":2}'
done
run 0 "$fathom" data convert -i "$tmp/n.jsonl" -o - --quiet --record-path 'a.b[2].t'
[ "$(cat "$tmp/out")" = '{"x":3}' ] || die "a path with an index gave $(cat "$tmp/out")"
run 3 "$fathom" data convert -i "$tmp/n.jsonl" -o - --quiet --record-path 'a.c'
run 2 "$fathom" data convert -i "$tmp/n.jsonl" -o - --quiet --record-path 'a.b[x]'
# sample: exactly so many, of each class; the same for any number of threads.
run 0 "$fathom" data sample -i "$tmp/many.jsonl" -o "$tmp/s1.jsonl" --rows 50 --by label --threads 1
[ "$(grep -c . "$tmp/s1.jsonl")" -eq 150 ] || die "expected 150 rows"
for c in c0 c1 c2; do [ "$(grep -c "\"$c\"" "$tmp/s1.jsonl")" -eq 50 ] || die "class $c is not 50 rows"; done
run 0 "$fathom" data sample -i "$tmp/many.jsonl" -o "$tmp/s3.jsonl" --rows 50 --by label --threads 3
same "$tmp/s1.jsonl" "$tmp/s3.jsonl"
run 0 "$fathom" data sample -i "$tmp/many.jsonl" -o "$tmp/s2.jsonl" --fraction 0.1
[ "$(grep -c . "$tmp/s2.jsonl")" -eq 300 ] || die "expected 300 rows"
run 2 "$fathom" data sample -i "$tmp/many.jsonl" -o "$tmp/x.jsonl"
# mix: shares within 0.1%, of rows with repeats, of bytes, by the names of inputs.
run 0 "$fathom" data mix -i "$tmp/many.jsonl" -o "$tmp/m.jsonl" --by label --weights c0=60,c1=30,c2=10 --repeat 2
[ "$(grep -c . "$tmp/m.jsonl")" -eq 3333 ] || die "mix has $(grep -c . "$tmp/m.jsonl") rows, expected 3333"
[ "$(grep -c '"c0"' "$tmp/m.jsonl")" -eq 2000 ] || die "c0 is not 60%"
[ "$(grep -c '"c1"' "$tmp/m.jsonl")" -eq 1000 ] || die "c1 is not 30%"
has m.jsonl.manifest.json '"wanted": 0.6'
cat > "$tmp/mix.yaml" <<X
input:
  - {path: $tmp/many.jsonl, name: many}
  - {path: $tmp/b.jsonl, name: few}
output: $tmp/mixed.jsonl
steps:
  - mix: {weights: [many=99, few=1], unit: bytes, repeat: 100, total: 20000}
X
run 0 "$fathom" data run "$tmp/mix.yaml" --json
has out '"wanted":'
python3 - "$tmp/out" <<'P' 2> /dev/null || [ $? -eq 127 ] || die "bytes are not shared as asked"
import json, sys
r = json.load(open(sys.argv[1]))["steps"][0]["report"]
sys.exit(any(abs(v["share"] - v["wanted"]) > 0.001 for v in r.values()))
P
run 2 "$fathom" data mix -i "$tmp/many.jsonl" -o "$tmp/x.jsonl" --by label --weights c0=60,c9=1
has err "c9"
# Mistakes.
run 2 "$fathom" data cleen -i "$tmp/a.jsonl" -o "$tmp/x.jsonl"
run 2 "$fathom" data clean -i "$tmp/a.jsonl"
has err "no output"
run 1 "$fathom" data clean -i "$tmp/none.jsonl" -o "$tmp/x.jsonl"
printf 'input: x\noutput: y\nsteps:\n  - claen\n' > "$tmp/bad.yaml"
run 2 "$fathom" data run "$tmp/bad.yaml"
has err "did you mean 'clean'"
echo nothing > "$tmp/junk.jsonl"
run 3 "$fathom" data clean -i "$tmp/junk.jsonl" -o "$tmp/x.jsonl"
[ ! -e "$tmp/x.jsonl" ] || die "a refused run left output"
run 0 "$fathom" data list
has out "filter-length"
# Ctrl-C and on again gives the same bytes.
run 0 "$fathom" data clean -i "$tmp/many.jsonl" -o "$tmp/full.jsonl"
FATHOM_CRASH_POINT=data.batch "$fathom" data clean -i "$tmp/many.jsonl" -o "$tmp/part.jsonl" > /dev/null 2>&1 || true
[ ! -e "$tmp/part.jsonl" ] || die "a killed run left output under its final name"
run 0 "$fathom" data clean -i "$tmp/many.jsonl" -o "$tmp/part.jsonl"
same "$tmp/full.jsonl" "$tmp/part.jsonl"
# Numbers: what is learned comes from the training part alone, and only it is balanced.
i=0
while [ $i -lt 400 ]; do
    echo "{\"text\":\"row $i\",\"v\":$i,\"label\":\"c$((i % 10 == 0))\"}"
    i=$((i + 1))
done > "$tmp/numbers.jsonl"
cat > "$tmp/numbers.yaml" <<X
input: [$tmp/numbers.jsonl]
output: $tmp/numbers
steps:
  - split: {stratify: label}
  - balance: {method: over}
  - scale: {numeric: [v]}
X
run 0 "$fathom" data run "$tmp/numbers.yaml"
[ "$(grep -c '"c1"' "$tmp/numbers/train.jsonl")" -eq "$(grep -c '"c0"' "$tmp/numbers/train.jsonl")" ] || die "train is not balanced"
[ "$(grep -c . "$tmp/numbers/test.jsonl")" -eq 40 ] || die "the test part changed"
has numbers/ranges.json '"columns": {"v": {"min": '
has numbers/train.jsonl '"v":0,'
has numbers/train.jsonl '"v":1,'
# An n-gram model, then perplexity by it.
i=0
while [ $i -lt 200 ]; do
    echo "the cat number $i sat on the mat and the dog lay by the door $((i % 7)) times"
    i=$((i + 1))
done > "$tmp/cats.txt"
run 0 "$fathom" data ngram -i "$tmp/cats.txt" --txt-unit line -o "$tmp/cats.ngram" --order 3 --hold-out 2
has out "100 rows held out"
run 1 "$fathom" data ngram -i "$tmp/cats.txt" -o "$tmp/cats.ngram"
has err "is there already"
run 2 "$fathom" data ngram -i "$tmp/cats.txt" -o "$tmp/x.ngram" --prune 0,2,1
has err "below that of order 2"
[ ! -e "$tmp/x.ngram.work" ] || die "the folder of temporary files stayed"
printf '%s\n' '{"text":"the cat number 3 sat on the mat and the dog lay by the door 2 times"}' \
    '{"text":"door the mat lay cat zebra dog"}' > "$tmp/say.jsonl"
run 0 "$fathom" data perplexity -i "$tmp/say.jsonl" -o - --quiet --model "$tmp/cats.ngram" --min-fluency 0.01
has out "the cat number 3"
hasnt out zebra
# Interrupted in the middle: the state is kept, the same command goes on from it, and the bytes are the same.
cp "$tmp/many.jsonl" "$tmp/large.jsonl"
for i in 1 2 3 4 5 6 7 8; do
    cat "$tmp/large.jsonl" "$tmp/large.jsonl" > "$tmp/twice.jsonl"
    mv "$tmp/twice.jsonl" "$tmp/large.jsonl"
done
run 0 "$fathom" data clean -i "$tmp/large.jsonl" -o "$tmp/full.jsonl" --overwrite --lowercase
for delay in 0.1 0.05 0.2 0.02 0.4 0.01 0.8; do
    rm -f "$tmp"/part.jsonl*
    "$fathom" data clean -i "$tmp/large.jsonl" -o "$tmp/part.jsonl" --lowercase > /dev/null 2>&1 &
    sleep $delay
    kill -INT $! 2> /dev/null || true
    wait $! || true
    [ ! -e "$tmp/part.jsonl.state.json" ] || break
done
[ -e "$tmp/part.jsonl.state.json" ] || die "no run was caught in the middle"
[ ! -e "$tmp/part.jsonl" ] || die "an interrupted run left output under its final name"
run 0 "$fathom" data clean -i "$tmp/large.jsonl" -o "$tmp/part.jsonl" --lowercase
has err "going on where the interrupted run stopped"
same "$tmp/full.jsonl" "$tmp/part.jsonl"
[ ! -e "$tmp/part.jsonl.state.json" ] || die "the state is left"
has part.jsonl.manifest.json '"rows_in": 768000'
finish
