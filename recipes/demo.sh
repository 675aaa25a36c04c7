#!/bin/sh
# From raw text to a model that talks, on bundled public-domain text: check, clean, tokenizer, pack, plan, train, compare, continue prompts.
#   recipes/demo.sh FATHOM [OUT]
set -eu
fathom=$1
out=${2:-out/demo}
here=$(cd "$(dirname "$0")" && pwd)
train=$here/data/state_of_the_union.train.jsonl.gz
held=$here/data/state_of_the_union.heldout.txt
say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }
[ -t 2 ] || say() { printf '\n%s\n' "$*" >&2; }
start=$(date +%s)
rm -rf "$out"
mkdir -p "$out"

say "1. Check the data"
"$fathom" data check "$train" "$held"
say "2. Clean it"
"$fathom" data run "$here/demo-data.yaml" --input "$train" --output "$out/text.jsonl.zst"
say "3. Train a tokenizer"
"$fathom" tokenizer train -i "$out/text.jsonl.zst" -o "$out/tokenizer" --vocab-size 4096 --report 1k,2k,4k --d-model 256
say "4. Pack token shards"
"$fathom" data pack -i "$out/text.jsonl.zst" -t "$out/tokenizer" -o "$out/packed"
"$fathom" data pack -i "$held" -t "$out/tokenizer" -o "$out/heldout"
set -- "$here/demo-model.yaml" dataset="$out/packed" eval_dataset="$out/heldout" tokenizer="$out/tokenizer" output_dir="$out/model"
say "5. Plan the run"
"$fathom" plan "$@" --calibrate=2
say "6. Train"
"$fathom" train "$@" --json > "$out/result.json"
say "7. Compare with simpler models of the same held-out file"
bpb=$(sed -n 's/.*"eval_bits_per_byte":\([0-9.]*\).*/\1/p' "$out/result.json" | awk '{ printf "%.3f", $1 }')
bytes=$(wc -c < "$held")
gzip_bytes=$(gzip -9 -c "$held" | wc -c)
unigram=$(od -An -v -tu1 "$held" | awk '{for (i = 1; i <= NF; i++) { c[$i]++; n++ }} END { for (k in c) h -= c[k] * log(c[k] / n); printf "%.3f", h / n / log(2) }')
gzip_bpb=$(awk "BEGIN { printf \"%.3f\", 8 * $gzip_bytes / $bytes }")
printf '  %-34s %s bits per byte\n' "unigram (bytes, its own counts)" "$unigram" "gzip -9" "$gzip_bpb" "this model" "$bpb"
say "8. Continue prompts"
for prompt in "My fellow citizens, the state of the Union" "The economy"; do
    "$fathom" generate "$out/model" --prompt "$prompt" --max-new-tokens 60 --temperature 0.7 --seed 1
done
say "Done in $(($(date +%s) - start)) s. Next:"
cat >&2 <<T
  $fathom chat $out/model                       talk with it (it continues what you type)
  $fathom info $out/model                       what it is
  $fathom train $here/pretrain-26m-model.yaml dataset=YOUR.jsonl output_dir=out/mine    a larger one on your text
  $fathom doctor                                what this machine can do
T
awk "BEGIN { exit !($bpb < $gzip_bpb) }" || { echo "demo: the model ($bpb bits per byte) does not beat gzip -9 ($gzip_bpb)" >&2; exit 1; }
