#!/bin/sh
# Interleaved pairs: fathom bench train and PyTorch, each at least SECONDS, PAIRS times; raw JSON lines of both to OUT.
#   bench/peers/train_pairs.sh FATHOM PYTHON SHAPE DTYPE [PAIRS] [SECONDS] [OUT]
# PyTorch runs tuned: memory reuse in malloc, the OpenBLAS core that matches the CPU, bound threads. TORCH_DEFAULT=1 leaves its defaults.
set -eu
fathom=$1
python=$2
shape=$3
dtype=$4
pairs=${5:-7}
seconds=${6:-5}
out=${7:-bench-train-$shape-$dtype.jsonl}
here=$(cd "$(dirname "$0")" && pwd)
: > "$out"
peer() {
    if [ "${TORCH_DEFAULT:-0}" = 1 ]; then
        "$python" "$here/torch_train.py" --shape "$shape" --dtype "$dtype" --seconds "$seconds"
    else
        env MALLOC_TOP_PAD_=268435456 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_MMAP_THRESHOLD_=17179869184 OPENBLAS_CORETYPE=SKYLAKEX \
            OMP_PROC_BIND=close OMP_PLACES=cores "$python" "$here/torch_train.py" --shape "$shape" --dtype "$dtype" --seconds "$seconds"
    fi
}
for i in $(seq "$pairs"); do
    "$fathom" bench train --shape "$shape" --dtype "$dtype" --seconds "$seconds" --json | sed "s/^{/{\"program\":\"fathom\",\"pair\":$i,/" | tee -a "$out" >&2
    peer | sed "s/^{/{\"pair\":$i,/" | tee -a "$out" >&2
done
"$python" "$here/summarise.py" "$out"
