#!/bin/sh
# fathom average: the mean of weights, and what is refused.
set -eu
. "$(dirname "$0")/lib.sh"
command -v python3 > /dev/null || { echo "SKIP: no python3"; exit 77; }
cd "$tmp"
gzip -dc "$top/recipes/data/state_of_the_union.train.jsonl.gz" | head -n 2 > corpus.jsonl
run 0 "$fathom" tokenizer train -i corpus.jsonl -o tok --vocab-size 600
small="dataset=corpus.jsonl tokenizer=tok cutoff_len=64 per_device_train_batch_size=2 max_steps=2 train_from_scratch=true measure_mfu=false precision=fp32"
for seed in 1 2 3; do
    # shellcheck disable=SC2086
    run 0 "$fathom" train $small params=200k seed=$seed output_dir=m$seed
done
run 0 "$fathom" average m1 m2 m3 -o mean --dtype f32
run 0 "$fathom" average m1 m1 -o same --dtype f32
for i in 1 2 3; do
    run 0 "$fathom" convert m$i f$i --dtype f32
done
python3 - << 'P'
import array, json, struct
def read(path):
    with open(path + "/model.safetensors", "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        head, data = json.loads(f.read(n)), f.read()
    return {k: array.array("f", data[t["data_offsets"][0]:t["data_offsets"][1]]) for k, t in head.items() if k != "__metadata__"}
f, mean = [read(f"f{i}") for i in (1, 2, 3)], read("mean")
assert set(mean) == set(f[0]) and f[0].keys() == f[1].keys()
for k, v in mean.items():
    for a, b, c, got in zip(f[0][k], f[1][k], f[2][k], v):
        assert abs((a + b + c) / 3 - got) < 1e-6, (k, a, b, c, got)
assert any(x != y for k in mean for x, y in zip(f[0][k], mean[k]))
assert read("same") == f[0]
P
run 0 "$fathom" generate mean --prompt The --max-new-tokens 3 --temperature 0

# shellcheck disable=SC2086
run 0 "$fathom" train $small params=300k output_dir=other
run 2 "$fathom" average m1 other -o x
has err "one shape"
run 2 "$fathom" average m1 -o x
run 2 "$fathom" average m1 m2
run 1 "$fathom" average m1 nowhere -o x
[ ! -e x ] || die "a refused average left a folder"
run 1 "$fathom" average m1 m2 -o mean
has err "not empty"
finish
