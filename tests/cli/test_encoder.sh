#!/bin/sh
# Encoders and heads from the command line: hidden states, embeddings, scores, info; what they refuse.
set -eu
. "$(dirname "$0")/lib.sh"
cd "$tmp"
data=$top/tests/golden/data/heads
printf '%s\n' '{"ids":[5,6,7,8]}' '{"ids":[9,10],"types":[0,1]}' > ids.jsonl

stdin=ids.jsonl run 0 "$fathom" logits "$data/bert" --dtype f32
has out '{"hidden":[['
[ "$(wc -l < out)" = 2 ] || die "two lines in, $(wc -l < out) out"
stdin=ids.jsonl run 0 "$fathom" logits "$data/bert" --dtype f32 --embed mean --normalize
has out '{"embedding":['
# A vector of length 1, the same for a text alone and for the first of two.
sed -n 's/.*\[\(.*\)\].*/\1/p' out | head -n 1 | awk -F, '{ for (i = 1; i <= NF; i++) s += $i * $i; exit !(s > 0.9999 && s < 1.0001) }' || die "length is not 1"
cp out both
head -n 1 ids.jsonl > one.jsonl
stdin=one.jsonl run 0 "$fathom" logits "$data/bert" --dtype f32 --embed mean --normalize
head -n 1 both > first
same out first
# The folder says how to pool.
cp -r "$data/bert" st
mkdir st/1_Pooling
echo '{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false}' > st/1_Pooling/config.json
echo '[{"type":"sentence_transformers.models.Transformer"},{"type":"sentence_transformers.models.Normalize"}]' > st/modules.json
stdin=ids.jsonl run 0 "$fathom" logits "$data/bert" --dtype f32 --embed cls --normalize
cp out cls
stdin=ids.jsonl run 0 "$fathom" logits st --dtype f32 --embed auto
same out cls
echo '{"pooling_mode_max_tokens":true}' > st/1_Pooling/config.json
stdin=ids.jsonl run 1 "$fathom" logits st --embed auto
has err pooling_mode_max_tokens

stdin=ids.jsonl run 0 "$fathom" logits "$data/bert_cls" --dtype f32 --head main
has out '{"scores":['
[ "$(head -n 1 out | tr ',' '\n' | wc -l)" = 3 ] || die "three labels, three scores"
stdin=ids.jsonl run 3 "$fathom" logits "$data/llama_tag" --dtype f32 --head main -o tags.npy
stdin=one.jsonl run 0 "$fathom" logits "$data/llama_reward" --dtype f32 --head main
stdin=one.jsonl run 2 "$fathom" logits "$data/llama_reward" --head sentiment
has err 'no head named "sentiment"'
run 0 "$fathom" info "$data/bert_cls"
has out 'head          classification; labels LABEL_0, LABEL_1, LABEL_2'
has out 'learned positions'
run 0 "$fathom" info "$data/bert_cls" --json
has out '"output_heads":[{"name":"","kind":"classification","outputs":3,"per_token":false,"labels":["LABEL_0","LABEL_1","LABEL_2"]}]'
run 0 "$fathom" info "$data/llama_reward"
has out 'reward'
finish
