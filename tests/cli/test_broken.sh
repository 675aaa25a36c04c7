#!/bin/sh
# Broken files: the program never crashes, stays within its memory, and the good rows survive.
set -eu
. "$(dirname "$0")/lib.sh"
d=$tmp/d
mkdir "$d"
limit=$((1536 * 1024)) # KiB of addresses: sanitizers need more than there is
case $(nm "$fathom" 2> /dev/null | grep -c "__[at]san_init") in 0 | '') ;; *) limit=unlimited ;; esac
# try ROWS FILE [OPTION...]: so many good rows; 3 when there is none. What else there is was set aside with a reason.
try() {
    rows=$1
    file=$2
    shift 2
    rm -f "$tmp"/o.jsonl*
    rc=0
    (ulimit -v $limit 2> /dev/null || true
        exec "$fathom" data convert -i "$file" -o "$tmp/o.jsonl" --rejects "$tmp/r.jsonl" --threads 2 "$@") > "$tmp/out" 2> "$tmp/err" || rc=$?
    n_checks=$((n_checks + 1))
    got=$(cat "$tmp/o.jsonl" 2> /dev/null | wc -l)
    case $rc in 0 | 1 | 3) ;; *) die "$file: exit status $rc" ;; esac
    [ "$rows" = any ] || [ "$got" -eq "$rows" ] || die "$file: $got good rows, expected $rows"
}
good='{"id":1,"text":"A good row with enough words."}'
# Encodings, marks, line ends.
printf '\357\273\277%s\r\n%s\n\n%s\r\n' "$good" "$good" "$good" > "$d/mixed.jsonl"
try 3 "$d/mixed.jsonl"
printf '%s\n{"text":"caf\351"}\n%s\n' "$good" "$good" > "$d/latin.jsonl"
try 2 "$d/latin.jsonl"
has r.jsonl '"line":2'
try 3 "$d/latin.jsonl" --repair-utf8
printf '%s\n{"text":"a\000b"}\n\000\000\n%s' "$good" "$good" > "$d/nul.jsonl"
try 2 "$d/nul.jsonl"
printf '%s\n%s\n' "$good" "$good" | iconv -f utf-8 -t utf-16 > "$d/wide.jsonl"
try 2 "$d/wide.jsonl"
head -c 133 "$d/wide.jsonl" > "$d/odd.jsonl"
try 1 "$d/odd.jsonl"
printf 'id,text\r\n1,"two\nlines, ""quoted"""\r\n2,b\n3,"c"\r\n4,"never closed\n5,d\n' > "$d/quotes.csv"
try any "$d/quotes.csv"
has o.jsonl 'two\nlines, \"quoted\"'
printf 'id,text\n1,a\n2\n3,b,c,d\n4,e\n' > "$d/ragged.csv"
try any "$d/ragged.csv"
has o.jsonl '"text":"e"'
: > "$d/empty.jsonl"
try 0 "$d/empty.jsonl"
printf '\n\n\r\n  \n' > "$d/blank.jsonl"
try 0 "$d/blank.jsonl"
{ echo "$good"; head -c 200000 /dev/zero | tr '\0' '['; echo; echo "$good"; } > "$d/deep.jsonl"
try 2 "$d/deep.jsonl"
{ printf '[%s,' "$good"; head -c 200000 /dev/zero | tr '\0' '['; } > "$d/deep.json"
try 1 "$d/deep.json"
printf '[%s,%s,{"id":' "$good" "$good" > "$d/cut.json"
try 2 "$d/cut.json"
head -c 5000 /dev/urandom > "$d/noise.jsonl"
for f in txt jsonl json csv tsv parquet arrow sqlite html warc mediawiki pubmed archive; do
    try any "$d/noise.jsonl" --format $f
    [ $f = sqlite ] || try any "$d/empty.jsonl" --format $f # an empty SQLite file is a database without tables
done
# Long lines: set aside within the memory; 100 MB of them but in quick runs.
size=100000000
[ -z "${FATHOM_TEST_QUICK:-}" ] || size=10000000
{ echo "$good"; printf '{"text":"'; head -c $size /dev/zero | tr '\0' x; echo '"}'; echo "$good"; } > "$d/long.jsonl"
try 2 "$d/long.jsonl" --max-row-bytes 1MiB
has r.jsonl "longer than max_row_bytes"
try any "$d/long.jsonl" --format csv --no-header --max-row-bytes 1MiB
try any "$d/long.jsonl" --format json --max-row-bytes 1MiB
if [ -z "${FATHOM_TEST_QUICK:-}" ]; then
    try 3 "$d/long.jsonl" --max-row-bytes 128MiB
fi
rm "$d/long.jsonl"
# A packed file that unpacks to a thousand times its size: one long line, or many blank ones.
{ echo "$good"; head -c $((4 * size)) /dev/zero; echo; echo "$good"; } | gzip > "$d/bomb.jsonl.gz"
try 2 "$d/bomb.jsonl.gz" --max-row-bytes 1MiB
{ echo "$good"; head -c $size /dev/zero | tr '\0' '\n'; echo "$good"; } | gzip > "$d/blanks.jsonl.gz"
try 2 "$d/blanks.jsonl.gz"
# Files that are cut short or have bytes changed: what comes before the damage is read.
i=0
while [ $i -lt 3000 ]; do
    echo "{\"id\":$i,\"text\":\"Row $((i * 7919)) of a file that will be cut, $((i * i)).\"}"
    i=$((i + 1))
done > "$d/rows.jsonl"
for f in gz zst; do
    run 0 "$fathom" data convert -i "$d/rows.jsonl" -o "$d/rows.jsonl.$f"
    n=$(wc -c < "$d/rows.jsonl.$f")
    head -c $((n - n / 10)) "$d/rows.jsonl.$f" > "$d/cut.jsonl.$f"
    try any "$d/cut.jsonl.$f"
    [ "$got" -gt 0 ] || [ $f = zst ] || die "cut.jsonl.$f: nothing was read before the damage"
    has r.jsonl "the rest of the file cannot be read"
    { head -c $((n / 2)) "$d/rows.jsonl.$f"; printf 'XXXXXXXX'; tail -c +$((n / 2 + 9)) "$d/rows.jsonl.$f"; } > "$d/hit.jsonl.$f"
    try any "$d/hit.jsonl.$f"
    [ "$got" -lt 3000 ] || die "hit.jsonl.$f: damage was not seen"
done
run 0 "$fathom" data convert -i "$d/rows.jsonl" -o "$d/rows.parquet"
tar -C "$d" -cf "$d/rows.tar" rows.jsonl rows.parquet
cp "$top/tests/unit/data/readers/site.warc.gz" "$top/tests/unit/data/readers/nested.arrow" "$top/tests/unit/data/readers/notes.sqlite" \
    "$top/tests/unit/data/readers/mixed.zip" "$top/tests/unit/data/readers/mixed.tar.gz" "$top/tests/unit/data/readers/wiki.xml" "$d"
for f in rows.parquet rows.tar site.warc.gz nested.arrow notes.sqlite mixed.zip mixed.tar.gz wiki.xml; do
    n=$(wc -c < "$d/$f")
    for k in 1 3 5 7 9; do
        head -c $((n * k / 10)) "$d/$f" > "$d/cut.$f"
        try any "$d/cut.$f"
        { head -c $((n * k / 10)) "$d/$f"; printf '\377\000\377\000'; tail -c +$((n * k / 10 + 5)) "$d/$f"; } > "$d/cut.$f"
        try any "$d/cut.$f"
    done
done
head -c 300000 "$d/rows.tar" | head -c 200000 > "$d/cut.tar"
try any "$d/cut.tar"
[ "$got" -gt 500 ] || die "cut.tar: $got rows"
# Folders of images: what is no image, or is cut short, is set aside.
mkdir -p "$tmp/pictures/cats" "$tmp/pictures/dogs"
printf '\211PNG\r\n\032\n\000\000\000\015IHDR\000\000\000\007\000\000\000\005\010\000\000\000\000AAAA\000\000\000\000IEND\256B\140\202' > "$tmp/pictures/cats/a.png"
head -c 40 "$tmp/pictures/cats/a.png" > "$tmp/pictures/cats/cut.png"
echo "a cat on a mat" > "$tmp/pictures/cats/a.txt"
printf 'GIF89a\003\000\002\000\000\000\000;' > "$tmp/pictures/dogs/b.gif"
printf '\377\330\377\340\000\004AA\377\300\000\013\010\000\020\000\040\001\001\021\000\377\332\000\002x\377\331' > "$tmp/pictures/dogs/c.jpg"
echo "no image" > "$tmp/pictures/dogs/d.jpg"
try 3 "$tmp/pictures"
has o.jsonl '/cats/a.png","label":"cats","format":"png","width":7,"height":5,"bytes":45,"text":"a cat on a mat"}'
has o.jsonl '"label":"dogs","format":"gif","width":3,"height":2'
has o.jsonl '"format":"jpeg","width":32,"height":16'
has r.jsonl '"detail":"it is cut short"'
has r.jsonl '"detail":"no image"'
finish
