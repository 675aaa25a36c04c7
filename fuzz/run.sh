#!/bin/sh
# Runs every fuzz target for some seconds each, starting from the corpus in the tree.
#   fuzz/run.sh BUILD SECONDS
set -eu
build=$1
seconds=$2
top=$(cd "$(dirname "$0")/.." && pwd)
found=0
for exe in "$build"/fuzz/fuzz_* "$build"/fuzz_*; do
    [ -x "$exe" ] && [ -f "$exe" ] || continue
    found=1
    name=$(basename "$exe")
    if ! grep -q LLVMFuzzerRunDriver "$exe"; then
        echo "$exe was built without libFuzzer: configure with -DFATHOM_FUZZ=ON" >&2
        exit 2
    fi
    name=${name#fuzz_}
    work=$build/corpus-$name
    mkdir -p "$work"
    printf 'fuzz %-12s ' "$name"
    if "$exe" -max_total_time="$seconds" -rss_limit_mb=4096 -timeout=20 -max_len=65536 -print_final_stats=1 \
        "$work" "$top/fuzz/corpus/$name" > "$build/fuzz-$name.log" 2>&1; then
        sed -n 's/^stat::number_of_executed_units: *//p' "$build/fuzz-$name.log" | sed 's/$/ runs, no finding/'
    else
        tail -n 40 "$build/fuzz-$name.log"
        exit 1
    fi
done
[ "$found" = 1 ] || { echo "no fuzz target was built"; exit 1; }
