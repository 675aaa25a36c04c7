#!/bin/sh
# A frozen test set: drawn by topic, kept apart from training whatever its spelling, refused when it changes.
set -eu
. "$(dirname "$0")/lib.sh"
cd "$tmp"
gzip -dc "$top/recipes/data/medquad.1.jsonl.gz" > rows.jsonl
sed -n 1p rows.jsonl | sed 's/"question": "/"question": "  /; s/What/WHAT/' >> rows.jsonl # asks the same in another spelling
mkdir -p test
run 0 "$fathom" data freeze rows.jsonl -o test/test.jsonl --rest train.jsonl --rows 40 --topic qtype --json
[ "$(number out test)" = 40 ] || die "drawn: $(number out test), expected 40"
[ "$(wc -l < test/test.jsonl)" = 40 ] || die "the test set has another number of rows"
[ $(($(number out test) + $(number out rest) + $(number out duplicates))) = 201 ] || die "rows were lost"
# Each topic has its share, to a row for each of the four lengths.
for t in $(sed 's/.*"qtype": "\([a-z ]*\)".*/\1/' rows.jsonl | tr ' ' '.' | sort -u); do
    all=$(grep -c "\"qtype\": *\"$t\"" rows.jsonl) drawn=$(grep -c "\"qtype\": *\"$t\"" test/test.jsonl || true)
    [ "$drawn" -ge $((all / 5 - 4)) ] && [ "$drawn" -le $((all / 5 + 4)) ] || die "$t: $drawn of $all drawn"
done
run 1 "$fathom" data freeze rows.jsonl -o test/test.jsonl
has err 'exists'

gzip -dc "$top/recipes/data/state_of_the_union.train.jsonl.gz" | head -n 2 > corpus.jsonl
run 0 "$fathom" tokenizer train -i corpus.jsonl -o tok --vocab-size 600
train="stage=sft params=200k train_from_scratch=true tokenizer=tok template=chatml cutoff_len=512 long_rows=drop max_steps=2 per_device_train_batch_size=2 measure_mfu=false"
# shellcheck disable=SC2086
run 3 "$fathom" train $train dataset=rows.jsonl frozen_tests=test/test.jsonl output_dir=a
has err 'training rows ask what a frozen test set asks'
has err 'rows.jsonl:'
# A set that was frozen on this machine is known wherever its rows turn up: renamed, in a bigger file, under another
# column, as a conversation, packed.
mkdir -p elsewhere
cp test/test.jsonl elsewhere/renamed.jsonl
# shellcheck disable=SC2086
run 3 "$fathom" train $train dataset=elsewhere/renamed.jsonl output_dir=a
has err 'test/test.jsonl'
has err 'renamed.jsonl:1'
{ cat train.jsonl; sed -n 7p test/test.jsonl; } > elsewhere/bigger.jsonl
# shellcheck disable=SC2086
run 3 "$fathom" train $train dataset=elsewhere/bigger.jsonl output_dir=a
has err '1 of '
q=$(sed -n '3s/.*"question": *"\([^"]*\)".*/\1/p' test/test.jsonl)
[ -n "$q" ] || die "no question in row 3"
printf '{"instruction":"%s","output":"x"}\n' "$q" > elsewhere/alpaca.jsonl
# shellcheck disable=SC2086
run 3 "$fathom" train $train dataset=elsewhere/alpaca.jsonl output_dir=a
printf '{"messages":[{"role":"system","content":"s"},{"role":"user","content":"%s"},{"role":"assistant","content":"x"}]}\n' "$q" > elsewhere/chat.jsonl
# shellcheck disable=SC2086
run 3 "$fathom" train $train dataset=elsewhere/chat.jsonl output_dir=a
printf '{"text":"%s"}\n' "$q" > elsewhere/plain.jsonl
run 3 "$fathom" data pack -i elsewhere/plain.jsonl -o elsewhere/packed --tokenizer tok
has err 'frozen test set'
FATHOM_REGISTRY=none run 0 "$fathom" data pack -i elsewhere/plain.jsonl -o elsewhere/packed --tokenizer tok
FATHOM_REGISTRY=none run 3 "$fathom" data pack -i elsewhere/plain.jsonl -o elsewhere/again --tokenizer tok --frozen-tests test/test.jsonl
# Rows that were learned already are not drawn.
head -n 100 rows.jsonl > learned.jsonl
run 0 "$fathom" data freeze rows.jsonl -o fresh.jsonl --rows 40 --against learned.jsonl --json
[ "$(number out test)" = 40 ] || die "drawn: $(number out test), expected 40"
[ "$(number out known)" -ge 100 ] || die "known: $(number out known)"
cat learned.jsonl fresh.jsonl | sort | uniq -d | grep -q . && die "a learned row was drawn"
run 3 "$fathom" data freeze learned.jsonl -o none.jsonl --against rows.jsonl
rm fresh.jsonl fresh.jsonl.frozen.json
# What is beside the rows is found without that.
export FATHOM_REGISTRY=none
cp rows.jsonl test/more.jsonl
# shellcheck disable=SC2086
run 3 "$fathom" train $train dataset=test/more.jsonl output_dir=a
# shellcheck disable=SC2086
run 0 "$fathom" train $train dataset=train.jsonl frozen_tests=test/test.jsonl eval_dataset=test/test.jsonl output_dir=b
run 0 "$fathom" eval --model b --task qa --data test/test.jsonl --max-samples 2 --max-new-tokens 4 --json
has out '"frozen": "'
# Its score stands on the page of the run that made the model.
rm -r frozen
export FATHOM_REGISTRY="$tmp/runs.db"
# shellcheck disable=SC2086
run 0 "$fathom" train $train dataset=train.jsonl frozen_tests=test/test.jsonl seed=2 output_dir=c
run 0 "$fathom" eval --model c --task qa --data test/test.jsonl --max-samples 3 --max-new-tokens 4 --metrics f1
run 0 "$fathom" runs show c
has out 'frozen test set '
run 0 "$fathom" runs report c -o page.html
grep -q 'frozen, hash [0-9a-f]*</td><td>f1 ' page.html || die "the page lacks the score on the frozen test set"
sed -i '1s/question/Question/' test/test.jsonl
run 3 "$fathom" eval --model b --task qa --data test/test.jsonl --max-samples 2 --json
has err 'was frozen with hash'
finish
