#!/bin/sh
# What a dataset holds, what changed between two versions of it, and taking one subject out.
set -eu
. "$(dirname "$0")/lib.sh"
i=0
while [ $i -lt 400 ]; do
    if [ $((i % 10)) -eq 9 ]; then label=rare; else label=common; fi
    echo "{\"id\":\"p$i\",\"text\":\"Note number $((i % 390)) about 中文\",\"label\":\"$label\",\"n\":$i}"
    i=$((i + 1))
done > "$tmp/v1.jsonl"
# stats: types, missing, distinct, duplicates, classes with the warning.
run 0 "$fathom" data stats "$tmp/v1.jsonl"
has out "400 rows, 0 bad; 10 rows (2.50%) have the text"
has out "largest class has 9.0 times the rows of the smallest"
has out "main script of 400 rows"
run 0 "$fathom" data stats "$tmp/v1.jsonl" --json
has out '{"name": "n", "type": "integer", "missing": 0, "distinct": 400, "exact": true, "min": 0.0, "max": 399.0, "mean": 199.5}'
has out '{"from": 16, "to": 31, "rows": 400}'
has out '"unbalanced": true'
run 0 "$fathom" data check "$tmp/v1.jsonl"
has out "9.0 times"
run 0 "$fathom" data check "$tmp/v1.jsonl" --label n
hasnt out "times the rows"
cat > "$tmp/languages.jsonl" << 'J'
{"text":"All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience."}
{"text":"Toute personne a droit à l'éducation. L'éducation doit être gratuite, au moins en ce qui concerne l'enseignement élémentaire."}
{"text":"Everyone has the right to life, liberty and security of person, and nobody shall be held in slavery."}
{"text":"42"}
J
run 0 "$fathom" data stats "$tmp/languages.jsonl" --json
if grep -q '"languages": null' "$tmp/out"; then
    echo "no CLD2: languages are not counted"
else
    has out '"languages": [{"language": "en", "rows": 2, "bytes": '
    has out '{"language": "fr", "rows": 1,'
    has out '{"language": "und", "rows": 1,'
    run 0 "$fathom" data stats "$tmp/languages.jsonl"
    has out '50.00% of rows, 2 rows'
fi
run 0 "$fathom" data stats "$tmp/languages.jsonl" --json --no-languages
has out '"languages": null'
run 0 "$fathom" data stats "$tmp/v1.jsonl" --text-column nothing --label n
has out "have the content"
run 2 "$fathom" data stats
run 1 "$fathom" data stats "$tmp/none.jsonl"
# diff: by content, whatever the order and the format.
sed -n '1!G;h;$p' "$tmp/v1.jsonl" > "$tmp/turned.jsonl"
run 0 "$fathom" data diff "$tmp/v1.jsonl" "$tmp/turned.jsonl"
has out "400 the same, 0 added, 0 removed"
run 0 "$fathom" data convert -i "$tmp/v1.jsonl" -o "$tmp/v1.parquet"
run 0 "$fathom" data diff "$tmp/v1.jsonl" "$tmp/v1.parquet" --key id
has out "400 the same, 0 added, 0 removed, 0 changed"
# By key: 3 changed, 2 gone, 1 new.
sed -e '5,7s/Note/Remark/' -e '10,11d' "$tmp/v1.jsonl" > "$tmp/v2.jsonl"
echo '{"id":"new","text":"x","extra":1}' >> "$tmp/v2.jsonl"
run 0 "$fathom" data diff "$tmp/v1.jsonl" "$tmp/v2.jsonl" --key id
has out "395 the same, 1 added, 2 removed, 3 changed"
has out "column text differs in 3 of 3"
has out "columns added: extra"
has out '+ '
run 0 "$fathom" data diff "$tmp/v1.jsonl" "$tmp/v2.jsonl" --show 1 --json
has out '"rows": {"same": 395, "added": 4, "removed": 5}'
# What manifests say: made from the other, and two of the same kind.
run 0 "$fathom" data filter-length -i "$tmp/v1.jsonl" -o "$tmp/a.jsonl" --min-chars 20
run 0 "$fathom" data filter-length -i "$tmp/v2.jsonl" -o "$tmp/b.jsonl" --min-chars 24 --seed 7
run 0 "$fathom" data diff "$tmp/a.jsonl" "$tmp/b.jsonl"
has out "with other options"
has out "min_chars: 20 -> 24"
has out "seed: 42 -> 7"
has out "v2.jsonl added"
run 0 "$fathom" data dedup -i "$tmp/a.jsonl" -o "$tmp/c.jsonl"
run 0 "$fathom" data diff "$tmp/a.jsonl" "$tmp/c.jsonl"
has out "was made from the first by"
has out "step dedup: 400 -> 390 rows"
run 2 "$fathom" data diff - "$tmp/c.jsonl"
run 2 "$fathom" data diff "$tmp/c.jsonl"
# check and pack read what is no plain text too.
tar -C "$tmp" -czf "$tmp/v1.tar.gz" v1.jsonl
for f in v1.parquet v1.tar.gz; do
    run 0 "$fathom" data check "$tmp/$f"
    has out "1 files, 400 rows"
    has out ": 0 bad, 0 empty"
    run 0 "$fathom" data check "$tmp/$f" --text-template '{id}: {none}'
    has out "400 bad"
done
# erase: of files with parts and a rejects file; what was made from it is listed.
head -c 32 /dev/urandom > "$tmp/key"
mkdir "$tmp/d"
run 0 "$fathom" data split -i "$tmp/v1.jsonl" -o "$tmp/d/clean/" --output-format jsonl.gz --shard-bytes 4KB --rejects "$tmp/d/rejects.jsonl"
run 0 "$fathom" data filter-length -i "$tmp/d/clean/" -o "$tmp/d/short.csv" --max-chars 26 --rejects "$tmp/d/long.jsonl"
run 0 "$fathom" tokenizer train -i "$tmp/v1.jsonl" -o "$tmp/tok" --vocab-size 300
for f in v1.jsonl v1.parquet v1.tar.gz; do
    run 0 "$fathom" data pack -i "$tmp/$f" -t "$tmp/tok" -o "$tmp/packed-$f"
    same "$tmp/packed-$f/shard-00000.fmt" "$tmp/packed-v1.jsonl/shard-00000.fmt"
done
run 0 "$fathom" data pack -i "$tmp/d/short.csv" -t "$tmp/tok" -o "$tmp/d/packed"
has d/packed/dataset.json '"from"'
printf 'p42\n' > "$tmp/who"
cp -r "$tmp/d" "$tmp/before"
run 0 "$fathom" data erase "$tmp/d/clean" --column id --subject-file "$tmp/who" --key-file "$tmp/key" --dry-run
has out "1 rows found, nothing was changed"
diff -r "$tmp/d" "$tmp/before" > /dev/null || die "a dry run changed something"
run 0 "$fathom" data erase "$tmp/d/clean" --column id --subject-file "$tmp/who" --key-file "$tmp/key"
has out "1 rows erased, 399 are left"
has out "short.csv.manifest.json (to be erased or made again)"
has out "packed/dataset.json (to be packed again)"
has out "v1.jsonl (may hold the rows)"
gunzip -c "$tmp"/d/clean/*.gz > "$tmp/left"
[ "$(grep -c . "$tmp/left")" -eq 399 ] || die "rows are left: $(grep -c . "$tmp/left")"
hasnt left '"p42"'
has d/clean/manifest.json '"erasures"'
hasnt d/clean/manifest.json 'p42'
[ ! -e "$tmp/d/clean/.fathom-erase" ] || die "the working folder is left"
# The manifest is that of the files now: nothing is found in a second run, and a changed byte would be seen.
cp -r "$tmp/d" "$tmp/after"
run 0 "$fathom" data erase "$tmp/d/clean" --column id --subject-file "$tmp/who" --key-file "$tmp/key"
has out "0 rows found, nothing was changed"
diff -r "$tmp/d" "$tmp/after" > /dev/null || die "a second erasure changed something"
stdin="$tmp/who" run 0 "$fathom" data erase "$tmp/d/short.csv" --column id --subject-file - --key-file "$tmp/key" --json
has out '"rows": 1'
hasnt d/short.csv 'p42'
hasnt d/long.jsonl '"p42"'
run 0 "$fathom" data erase "$tmp/d/clean" --column id --subject-file "$tmp/who" --key-file "$tmp/key"
has out "short.csv.manifest.json (erased there too)"
# A killed run is made good by the same command; rows that name the subject in their text; files without a manifest.
FATHOM_CRASH_POINT=erase.rename:3 "$fathom" data erase "$tmp/d/clean" --anywhere --subject 42 --key-file "$tmp/key" > /dev/null 2>&1 || true
run 0 "$fathom" data erase "$tmp/d/clean" --anywhere --subject 42 --key-file "$tmp/key" --json
gunzip -c "$tmp"/d/clean/*.gz > "$tmp/left"
hasnt left 'number 42 '
has left 'number 142 '
run 0 "$fathom" data stats "$tmp/d/clean" --json
rows=$(sed -n 's/.*"rows": \([0-9]*\), "bad": 0, "text".*/\1/p' "$tmp/out")
has d/clean/manifest.json "\"rows\": $rows,"
cp "$tmp/v2.jsonl" "$tmp/d/plain.jsonl"
run 0 "$fathom" data erase "$tmp/d/plain.jsonl" --column id --subject p1 --key-file "$tmp/key"
has out "1 rows erased, 398 are left"
has d/plain.jsonl.manifest.json '"hmac-sha256"'
run 2 "$fathom" data erase "$tmp/d/plain.jsonl" --column id --subject p1
has err "needs a key"
run 2 "$fathom" data erase "$tmp/d/plain.jsonl" --subject p1 --key-file "$tmp/key"
run 1 "$fathom" data erase "$tmp/none" --column id --subject p1 --key-file "$tmp/key"
finish
