#!/bin/sh
# The recipes that are shipped, each from its first stage to its last at the smallest size.
set -eu
. "$(dirname "$0")/lib.sh"
cd "$tmp"
export OMP_NUM_THREADS=2
gzip -dc "$top/recipes/data/state_of_the_union.train.jsonl.gz" | head -n 1 | cut -c 1-12000 | sed 's/[^}]$/&"}/' > general.jsonl
gzip -dc "$top/recipes/data/banking77.train.csv.gz" | awk 'NR == 1 || NR % 60 == 2' > bank.csv
gzip -dc "$top/recipes/data/medquad.1.jsonl.gz" | head -n 30 > med.1.jsonl
gzip -dc "$top/recipes/data/medquad.2.jsonl.gz" | head -n 30 > med.2.jsonl
gzip -dc "$top/recipes/data/medquad.test.jsonl.gz" | head -n 6 > med.test.jsonl
small="params=200k vocab=600 pretrain_steps=3 steps=3"

run 0 "$fathom" run "$top/recipes/pretrain-26m.yaml" output_dir=p corpus=general.jsonl held=general.jsonl preset=26m vocab=500 steps=1 batch=1
[ -s p/model-q8_0.gguf ] || die "pretrain-26m wrote no model"
grep -q '"bits_per_byte"' p/perplexity.json || die "pretrain-26m has no figures"

# shellcheck disable=SC2086
run 0 "$fathom" run "$top/recipes/classify-banking77.yaml" output_dir=c train=bank.csv test=bank.csv general=general.jsonl $small
grep -q '"eval_accuracy"' c/classifier/trainer_log.jsonl || die "classify-banking77 measured no accuracy"
run 0 "$fathom" info c/classifier
has out 'classification'

# shellcheck disable=SC2086
run 0 "$fathom" run "$top/recipes/multitask.yaml" output_dir=m banking=bank.csv banking_test=bank.csv medical=med.1.jsonl \
    medical_test=med.test.jsonl general=general.jsonl $small
grep -q '"eval_intent_accuracy"' m/model/trainer_log.jsonl || die "multitask measured no accuracy"
run 0 "$fathom" info m/model
has out 'intent'
echo '{"ids": [1, 2, 3]}' > ids.jsonl
stdin=ids.jsonl run 0 "$fathom" logits m/model --head kind
has out '"scores"'

# shellcheck disable=SC2086
run 0 "$fathom" run "$top/recipes/continual.yaml" output_dir=l first=med.1.jsonl second=med.2.jsonl test=med.test.jsonl general=general.jsonl $small
for s in adapter-2 plain full; do
    grep -q '"loss_after": [0-9]' "l/$s/forgetting.json" || die "continual: $s has no loss of the earlier rows"
done
[ -s l/full/fisher.safetensors ] || die "continual kept no Fisher information"

mkdir shape
sed 's/"hidden_size": 384/"hidden_size": 64/; s/"num_hidden_layers": 8/"num_hidden_layers": 2/; s/_heads": 6/_heads": 1/; s/"moe_intermediate_size": 384/"moe_intermediate_size": 32/' \
    "$top/recipes/medical-qa/shape/config.json" > shape/config.json
tiny="shape=shape vocab=600 steps=2 copy_steps=2 samples=2 max_samples=2"
# shellcheck disable=SC2086
run 0 "$fathom" run "$top/recipes/medical-qa-en.yaml" output_dir=e train=med.1.jsonl dev=med.test.jsonl test=med.test.jsonl $tiny
grep -q '"rougeL"' e/scores.json || die "medical-qa-en has no figures"

mkdir zh
for f in train dev test; do
    printf '{"instruction": "感冒应该怎么办？", "input": "", "output": "多喝水，注意休息。"}\n{"instruction": "头痛的原因是什么？", "input": "", "output": "可能是劳累或者感冒。"}\n{"instruction": "发烧怎么处理？", "input": "", "output": "物理降温，必要时服药。"}\n' > zh/$f.jsonl
done
printf 'question,A,B,C,D,answer\n感冒应该怎么办？,多喝水。,手术。,放疗。,化疗。,A\n' > zh/test_mc.csv
# shellcheck disable=SC2086
run 0 "$fathom" run "$top/recipes/medical-qa-zh.yaml" output_dir=z data=zh $tiny
grep -q '"bleu"' z/scores.json || die "medical-qa-zh has no figures"
grep -q '"acc_mutual_info"' z/choices.json || die "medical-qa-zh chose nothing"
finish
