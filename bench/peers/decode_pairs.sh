#!/bin/sh
# Interleaved pairs: fathom bench decode and prefill and llama.cpp on the same GGUF file; raw JSON lines of both to OUT, medians of the ratios at the end.
#   bench/peers/decode_pairs.sh FATHOM PYTHON MODEL.gguf [PAIRS] [THREADS] [OUT]
# PYTHON has llama-cpp-python, built for this machine. With CPU_CLOCK=1 and one thread both are timed in processor time, so that other programs on the machine count less.
set -eu
fathom=$1
python=$2
model=$3
pairs=${4:-5}
threads=${5:-2}
out=${6:-bench-decode-$(basename "$model" .gguf).jsonl}
here=$(cd "$(dirname "$0")" && pwd)
preload=
if [ "${CPU_CLOCK:-0}" = 1 ]; then
    [ "$threads" = 1 ] || { echo "CPU_CLOCK needs one thread" >&2; exit 2; }
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    cc -O2 -shared -fPIC -o "$dir/clock.so" "$here/cpu_clock.c"
    preload=$dir/clock.so
fi
: > "$out"
for i in $(seq "$pairs"); do
    for what in decode prefill; do
        LD_PRELOAD=$preload "$fathom" bench $what --model "$model" --threads "$threads" --seconds 1 --json | sed "s/^{/{\"program\":\"fathom\",\"pair\":$i,\"what\":\"$what\",/" >> "$out"
        LD_PRELOAD=$preload "$python" "$here/llama_decode.py" "$model" --threads "$threads" --rounds 2 --what $what | sed "s/^{/{\"pair\":$i,\"what\":\"$what\",/" >> "$out"
    done
done
"$python" - "$out" <<'P'
import json, statistics, sys
rate = {}
for line in open(sys.argv[1]):
    r = json.loads(line)
    if r["unit"] == "tokens/s":
        rate[r["what"], r["pair"], r["program"]] = r["value"]
for what in ("decode", "prefill"):
    pairs = sorted({p for w, p, _ in rate if w == what})
    ratios = [rate[what, p, "fathom"] / rate[what, p, "llama.cpp"] for p in pairs]
    ours, theirs = (statistics.median(rate[what, p, x] for p in pairs) for x in ("fathom", "llama.cpp"))
    print(f"{what}: ratio {min(ratios):.2f} / {statistics.median(ratios):.2f} / {max(ratios):.2f} (least, median, most of {len(ratios)}); {ours:.1f} and {theirs:.1f} tokens/s")
P
