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
