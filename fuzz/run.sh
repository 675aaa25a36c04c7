#!/bin/sh
# Runs every fuzz target for some seconds each, starting from the corpus in the tree, JOBS at a time (default: all
# processors).
#   fuzz/run.sh BUILD SECONDS
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
if [ "$1" = --one ]; then
    build=$2
    seconds=$3
    exe=$4
    if ! grep -q LLVMFuzzerRunDriver "$exe"; then
        echo "$exe was built without libFuzzer: configure with -DFATHOM_FUZZ=ON" >&2
        exit 2
    fi
    name=$(basename "$exe")
    name=${name#fuzz_}
    work=$build/corpus-$name
    log=$build/fuzz-$name.log
    mkdir -p "$work"
    if "$exe" -max_total_time="$seconds" -rss_limit_mb=4096 -timeout=20 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="$build/" "$work" "$top/fuzz/corpus/$name" > "$log" 2>&1; then
        printf 'fuzz %-12s %s runs, no finding\n' "$name" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
        exit 0
    fi
    printf 'fuzz %-12s FINDING, kept in %s:\n%s\n' "$name" "$build" "$(tail -n 60 "$log")"
    exit 1
fi
build=$1
seconds=$2
list=$(for exe in "$build"/fuzz/fuzz_* "$build"/fuzz_*; do [ -x "$exe" ] && [ -f "$exe" ] && echo "$exe"; done || true)
[ -n "$list" ] || { echo "no fuzz target was built"; exit 1; }
echo "$list" | xargs -P "${JOBS:-$(nproc)}" -n 1 sh "$0" --one "$build" "$seconds"
