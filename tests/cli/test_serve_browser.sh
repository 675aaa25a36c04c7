#!/bin/sh
# The web page in headless Chromium, with a model that was hardly trained: tests/browser/page_test.py.
set -eu
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/serve_lib.sh"
[ "${FATHOM_TEST_QUICK:-}" != 1 ] || { echo "skipped: a browser's patience and sanitizers do not go together"; exit 77; }
# The distribution's Python: python3-websockets belongs to it.
python=""
for p in python3 /usr/bin/python3; do
    if [ -z "$python" ] && "$p" -c 'import websockets' 2> /dev/null; then python=$p; fi
done
browser=""
for b in chromium-headless-shell chromium chromium-browser google-chrome; do
    if [ -z "$browser" ] && command -v "$b" > /dev/null 2>&1; then browser=$b; fi
done
[ -n "$browser" ] || { echo "skipped: no Chromium (Debian: chromium-headless-shell)"; exit 77; }
[ -n "$python" ] || { echo "skipped: no websockets for Python (Debian: python3-websockets)"; exit 77; }
gzip -dc "$top/recipes/data/state_of_the_union.train.jsonl.gz" | head -n 2 > corpus.jsonl
run 0 "$fathom" tokenizer train -i corpus.jsonl -o tok --vocab-size 600
run 0 "$fathom" train params=5m vocab_size=600 dataset=corpus.jsonl tokenizer=tok cutoff_len=2048 \
    per_device_train_batch_size=1 max_steps=1 train_from_scratch=true measure_mfu=false output_dir=one
start # skips without libmicrohttpd
stop
run 0 "$python" "$top/tests/browser/page_test.py" "$fathom" one
has out 'checks passed'
finish
