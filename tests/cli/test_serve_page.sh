#!/bin/sh
# The web page without a browser: what is served, that nothing comes from elsewhere, that every word is there twice, and
# the registry of runs behind it. tests/browser/page_test.py drives it in Chromium.
set -eu
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/serve_lib.sh"
web=$top/src/serve/web
cp -r "$top/tests/golden/data/heads/bert_cls" one
words one

start --runs
ask 200 /
has headers 'text/html; charset=utf-8'
has headers "default-src 'none'; script-src 'self'"
has headers 'nosniff'
cp out index.html
same index.html "$web/index.html"
for f in "$web"/*; do
    ask 200 "/ui/$(basename "$f")"
    same out "$f"
done
# What the page asks for is there.
for f in $(sed -n 's/.*\(src\|href\)="\(ui\/[^"]*\)".*/\2/p' index.html); do ask 200 "/$f"; done
ask 404 /ui/nothing.js
ask 404 /ui/../server.c
# No address of another host, no markup made of text, no handlers in attributes.
! grep -nE '(src|href|url\()=?["'\''(]?(https?:)?//' "$web"/* || die "something comes from elsewhere"
! grep -nE 'innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function' "$web"/*.js || die "text becomes markup"
! grep -nE ' on[a-z]+="' "$web/index.html" || die "a handler stands in an attribute"
# Each word of the page stands in both languages.
awk '/^  en: \{/,/^  \},/' "$web/text.js" | grep -oE '\b[a-zA-Z]+: "' | sort > en
awk '/^  zh: \{/,/^  \}/' "$web/text.js" | grep -oE '\b[a-zA-Z]+: "' | sort > zh
same en zh
[ "$(wc -l < en)" -gt 60 ] || die "few words: $(wc -l < en)"
for w in $(grep -ohE 'data-t(-[a-z]+)?="[a-zA-Z]+"' "$web/index.html" | cut -d '"' -f 2) \
    $(grep -ohE '\bt\("[a-zA-Z]+"\)' "$web"/*.js | cut -d '"' -f 2); do
    grep -q "^$w: \"" en || die "the word $w is missing"
done
# Every control has a label.
[ "$(grep -c '<html lang=' index.html)" = 1 ] || die "no language"
n_checks=$((n_checks + 4))

# An empty registry, then one with a run.
ask 200 /v1/runs
has out '[]'
ask 404 /v1/runs/1
stop
printf '{"text":"one two three four five six seven eight nine ten"}\n' > rows.jsonl
cp rows.jsonl many.jsonl
for i in 1 2 3 4 5 6; do cat rows.jsonl >> many.jsonl; done
run 0 "$fathom" tokenizer train -i many.jsonl -o tok --vocab-size 270
run 0 "$fathom" train params=100k dataset=many.jsonl tokenizer=tok max_steps=2 cutoff_len=32 measure_mfu=false \
    per_device_train_batch_size=1 train_from_scratch=true output_dir=trained
start --runs
ask 200 '/v1/runs?kind=train'
has out '"kind": "train"'
ask 200 '/v1/runs?kind=eval'
has out '[]'
ask 200 /v1/runs/1
has out '"config"'
ask 200 /v1/runs/1/report
has out '<!doctype html'
has headers 'sandbox'
ask 404 /v1/runs/99
stop
start --no-page
ask 404 /
ask 404 /v1/runs
has out "with --runs"
stop
finish
