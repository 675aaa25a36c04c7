#!/bin/sh
# docs/data-walkthrough.md says what the program does: its commands, its numbers.
set -eu
. "$2/tests/cli/lib.sh"
command -v python3 > /dev/null || { echo "SKIP: no python3"; exit 77; }
cd "$tmp"
doc=$top/docs/data-walkthrough.md
run 0 python3 "$top/recipes/walkthrough/make_inputs.py" work
has out "812 pages, 1501 lines"
cd work
rc=0
"$fathom" data check letters.csv --text-column comment > ../out 2> ../err || rc=$?
for line in "letters.csv:6: empty text" "letters.csv:68: invalid UTF-8" "letters.csv:267: more fields than the header"; do
    grep -qF "$line" ../out ../err || die "check does not say '$line'"
    grep -qF "$line" "$doc" || die "the page lacks '$line'"
done
run 0 "$fathom" data run "$top/recipes/walkthrough/pipeline.yaml"
if grep -q libxml2 ../err; then
    echo "SKIP: no libxml2"
    exit 77
fi
# each line of the report stands in the page, and the pipeline too
sed '/ rows in /d; /\[[#.]*\]/d; s/^/    /' ../err > report # without lines of progress
while IFS= read -r line; do
    grep -qxF -- "$line" "$doc" || die "the page lacks '$line'"
    n_checks=$((n_checks + 1))
done < report
[ "$n_checks" -gt 20 ] || die "the report has no lines"
sed '/^#/d; s/^/    /' "$top/recipes/walkthrough/pipeline.yaml" > pipeline
while IFS= read -r line; do
    grep -qxF -- "$line" "$doc" || die "the page lacks '$line'"
done < pipeline
grep -o '"reason":"[^"]*"' dropped.jsonl | sort | uniq -c | sed 's/^ *//' > reasons
while IFS= read -r line; do
    sed 's/^ *//' "$doc" | grep -qxF -- "$line" || die "the page lacks '$line'"
done < reasons
run 0 "$fathom" data quality -i clean/train.jsonl.zst -o tried.jsonl
grep -qF "$(grep '^quality' ../err)" "$doc" || die "quality: $(cat ../err)"
run 0 "$fathom" tokenizer train -i clean/train.jsonl.zst -o tok --vocab-size 4096
grep -qF "$(cat ../out ../err | grep -o '4096 entries.*merges')" "$doc" || die "tokenizer: $(cat ../out ../err)"
for part in train val; do
    run 0 "$fathom" data pack -i clean/$part.jsonl.zst -t tok -o packed-$part
    grep -qF "$(cat ../out ../err | grep -o '1 files, .* dropped')" "$doc" || die "pack: $(cat ../out ../err)"
    n_checks=$((n_checks + 1))
done
# in the pages no menus or footers, in the letters no addresses
zstd -dc clean/train.jsonl.zst > all.jsonl 2> /dev/null || run 0 "$fathom" data convert -i clean/train.jsonl.zst -o all.jsonl --overwrite
for word in webmaster "We use cookies" Imprint @mail.example 4111; do
    ! grep -qF "$word" all.jsonl || die "'$word' came through"
done
grep -qF "[EMAIL]" all.jsonl || die "no address was masked"
finish
