#!/bin/sh
# The registry of runs: training and evaluation write themselves into it.
set -eu
. "$(dirname "$0")/lib.sh"
cd "$tmp"
run 0 "$fathom" runs list
gzip -dc "$top/recipes/data/state_of_the_union.train.jsonl.gz" | head -n 1 > corpus.jsonl
run 0 "$fathom" tokenizer train -i corpus.jsonl -o tok --vocab-size 600
args="params=200k vocab_size=600 dataset=corpus.jsonl tokenizer=tok cutoff_len=128 per_device_train_batch_size=4 max_steps=4 logging_steps=1 train_from_scratch=true measure_mfu=false"
# shellcheck disable=SC2086
run 0 "$fathom" train $args output_dir=one
# shellcheck disable=SC2086
run 0 "$fathom" train $args output_dir=two learning_rate=1e-3
run 0 "$fathom" eval --model one --task ppl --data "$top/tests/unit/eval/data/lm_eval/held.txt"
has err 'runs report 3'
run 0 "$fathom" runs list
[ "$(wc -l < out)" = 4 ] || die "three runs and a heading, $(wc -l < out) lines"
run 0 "$fathom" runs list --input corpus.jsonl --json
has out '"name": "two"'
hasnt out '"ppl"'
run 0 "$fathom" runs list --input one --kind eval --json
has out '"ppl"'
run 0 "$fathom" runs compare one two
has out 'learning_rate'
hasnt out 'cutoff_len'
run 0 "$fathom" runs show 1 --json
has out '"loss"'
run 0 "$fathom" runs report 3 -o page.html
grep -q '<!doctype html>' page.html || die "no page"
# The page of a training run has what it learned from and how its model did since; that of several, their curves.
run 0 "$fathom" runs report one -o train.html
for part in '<h2>Data card</h2>' '<h2>Evaluations of this model</h2>' 'bits_per_byte' '<svg' 'corpus.jsonl' '<h2>Environment</h2>' '<h2>Configuration</h2>'; do
    grep -qF "$part" train.html || die "train.html lacks $part"
done
run 0 "$fathom" runs show one
has out 'evaluated in run 3: ppl'
run 0 "$fathom" runs show 3
has out '(made by run 1)'
run 0 "$fathom" runs compare one two 3 -o compare.html
[ "$(grep -o '<polyline' compare.html | wc -l)" -ge 6 ] || die "curves of two runs"
for page in train.html compare.html page.html; do
    grep -qE '<script|https?:|src=|@import|url\(' $page && die "$page needs something else"
done
# Filters and order; from a row forward to the models that learned it, also those that went on from there.
run 0 "$fathom" runs list --name tw --json
has out '"name": "two"'
hasnt out '"name": "one"'
run 0 "$fathom" runs list --kind train --sort name
sed -n 2p out | grep -q ' one ' || die "not sorted by name"
run 0 "$fathom" runs list --kind train --sort=-tokens_per_second --limit 1 --json
cp out worst_first
run 0 "$fathom" runs list --kind train --sort tokens_per_second --json
[ "$(grep -o '"id": [0-9]*' worst_first)" = "$(grep -o '"id": [0-9]*' out | tail -n 1)" ] || die "order by a figure"
[ "$(grep -o '"id": [0-9]*' out | wc -l)" = 2 ] || die "two training runs"
run 0 "$fathom" runs list --since 1h --json
has out '"name": "one"'
run 0 "$fathom" runs list --since 2990-01-01
[ "$(wc -l < out)" = 1 ] || die "runs of the future"
run 2 "$fathom" runs list --since yesterday
has err 'is no time'
printf '%s\n' '{"text":"A row   that only THIS file has."}' '{"text":"another one of them"}' > tuned.jsonl
run 0 "$fathom" train model_name_or_path=one dataset=tuned.jsonl cutoff_len=64 per_device_train_batch_size=1 max_steps=1 measure_mfu=false output_dir=tuned
run 0 "$fathom" train model_name_or_path=tuned dataset=corpus.jsonl cutoff_len=64 per_device_train_batch_size=1 max_steps=1 measure_mfu=false output_dir=later
run 0 "$fathom" runs list --row 'a row that only this file has' --json
has out '"name": "tuned"'
has out '"name": "later"'
hasnt out '"name": "one"'
run 0 "$fathom" runs list --row 'no file has this one' --json
hasnt out '"name"'
echo >> tuned.jsonl
run 0 "$fathom" runs list --row 'a row that only this file has' --json
hasnt out '"name"'
has err '1 data files are gone or have changed'
run 0 "$fathom" runs rm tuned
run 0 "$fathom" runs rm later
run 0 "$fathom" runs tag one best
run 0 "$fathom" runs show best
has out 'tokenizer'
run 0 "$fathom" runs rm 2
run 1 "$fathom" runs show 2
has err 'no run 2'
FATHOM_REGISTRY=none run 0 "$fathom" eval --model one --task ppl --data "$top/tests/unit/eval/data/lm_eval/held.txt"
run 0 "$fathom" runs list
[ "$(wc -l < out)" = 3 ] || die "a run was written with the registry off"
finish
