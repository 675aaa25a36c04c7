#!/bin/sh
# make bench: every benchmark against limits measured in the same run. Nothing else should run meanwhile.
#   bench/run.sh FATHOM [SECONDS]
set -eu
fathom=$1
seconds=${2:-5}
here=$(cd "$(dirname "$0")" && pwd)
"$fathom" doctor
text=$(mktemp)
trap 'rm -f "$text"' EXIT
gzip -dc "$here/../recipes/data/state_of_the_union.train.jsonl.gz" > "$text"
for b in matmul ops train decode prefill; do
    "$fathom" bench "$b" --seconds "$seconds"
done
"$fathom" bench tokenizer --seconds "$seconds" --input "$text"
"$fathom" bench data --seconds "$seconds" --input "$text"
