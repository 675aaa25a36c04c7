#!/bin/sh
# A short run of tests/soak/soak.py: full load with known answers, broken requests and reloads, then many open streams.
# Seconds do not show whether memory is flat (caches fill, a busy machine starts late): only gross growth counts here.
set -eu
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/serve_lib.sh"
[ "${FATHOM_TEST_QUICK:-}" != 1 ] || { echo "skipped: sanitizers keep what is freed"; exit 77; }
command -v python3 > /dev/null 2>&1 || { echo "skipped: no python3"; exit 77; }
gzip -dc "$top/recipes/data/state_of_the_union.train.jsonl.gz" | head -n 2 > corpus.jsonl
run 0 "$fathom" tokenizer train -i corpus.jsonl -o tok --vocab-size 600
run 0 "$fathom" train params=200k vocab_size=600 dataset=corpus.jsonl tokenizer=tok cutoff_len=128 \
    per_device_train_batch_size=4 max_steps=3 train_from_scratch=true measure_mfu=false output_dir=one
start # skips without libmicrohttpd
stop
run 0 python3 "$top/tests/soak/soak.py" "$fathom" one --seconds 9 --reload 1 --clients 8 --streams 200 --slow 40 --slack 64
has out ' reloads'
has out '200 open streams'
tail -n 1 out | grep -qx ok || die "the soak"
finish
