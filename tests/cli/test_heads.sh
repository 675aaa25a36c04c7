#!/bin/sh
# Evaluation by heads: the figures are those that training's own evaluation gives, and those of `fathom score`.
set -eu
. "$(dirname "$0")/lib.sh"
here=$(cd "$(dirname "$0")" && pwd)
cd "$tmp"
gzip -dc "$top/recipes/data/state_of_the_union.train.jsonl.gz" | head -n 1 > corpus.jsonl
run 0 "$fathom" tokenizer train -i corpus.jsonl -o tok --vocab-size 600
# Rows of five tasks: a label, numbers, labels, tags and answers in a text.
awk 'BEGIN{srand(5); split("peace war trade law", w, " "); for (i = 0; i < 160; i++) {
    a = w[1 + int(rand() * 4)]; b = w[1 + int(rand() * 4)]; n = 1 + int(rand() * 9)
    printf "{\"task\":\"who\",\"text\":\"the nation wants %s %d\",\"label\":\"%s\"}\n", a, n, a
    printf "{\"task\":\"stars\",\"text\":\"number %d of %s\",\"label\":%d}\n", n, b, n
    printf "{\"task\":\"both\",\"text\":\"%s and %s\",\"labels\":[\"%s\"%s]}\n", a, b, a, a == b ? "" : ",\"" b "\""
    printf "{\"task\":\"names\",\"tokens\":[\"so\",\"%s\",\"comes\"],\"tags\":[\"O\",\"B-%s\",\"O\"]}\n", a, a
    printf "{\"task\":\"find\",\"question\":\"what comes?\",\"context\":\"so %s comes to %s\",\"answer\":\"%s\"}\n", a, b, a}}' > rows.jsonl
head -n 600 rows.jsonl > train.jsonl
tail -n 200 rows.jsonl > test.jsonl
mkdir base
run 0 "$fathom" train params=200k vocab_size=600 dataset=corpus.jsonl tokenizer=tok cutoff_len=128 per_device_train_batch_size=4 max_steps=2 train_from_scratch=true measure_mfu=false output_dir=base
# shellcheck disable=SC2086
run 0 "$fathom" train stage=multi tasks=who=cls,stars=reg,both=cls:labels,names=tag,find=qa model_name_or_path=base dataset=train.jsonl eval_dataset=test.jsonl cutoff_len=64 per_device_train_batch_size=4 max_steps=30 learning_rate=3e-3 eval_steps=30 measure_mfu=false precision=fp32 output_dir=multi
grep -h eval_who_accuracy multi/trainer_log.jsonl | tail -n 1 > last
# near NAME VALUE: the trainer's figure, to its last digits
near() {
    want=$(sed -n "s/.*\"$1\": \([-0-9.e+]*\).*/\1/p" last)
    n_checks=$((n_checks + 1))
    awk -v a="$want" -v b="$2" 'BEGIN { d = a - b; d = d < 0 ? -d : d; exit !(a != "" && b != "" && d <= 2e-4 * (1 + (a < 0 ? -a : a))) }' || die "$1: training says '$want', eval '$2'"
}
# figure NAME: its value in the report
figure() { tr -d '\n' < "$tmp/out" | sed -n "s/.*\"$1\": {\"value\": \([-0-9.e+]*\),.*/\1/p"; }
say() { run 0 "$fathom" eval --model multi --task test.jsonl --dtype f32 --bootstrap 20 --json "$@"; }
say --head who
has out '"task": "head"'
has out '"n_rows": 40'
near eval_who_accuracy "$(figure accuracy)"
near eval_who_f1_macro "$(figure f1_macro)"
say --head stars --rows-output numbers.jsonl
near eval_stars_mse "$(figure mse)"
near eval_stars_mae "$(figure mae)"
near eval_stars_pearson "$(figure pearson)"
mse=$(figure mse) pearson=$(figure pearson) spearman=$(figure spearman) r2=$(figure r2)
sed -n 's/.*"output": "\([^"]*\)".*/\1/p' numbers.jsonl > said.txt
sed -n 's/.*"reference": "\([^"]*\)".*/\1/p' numbers.jsonl > true.txt
run 0 "$fathom" score --metric regression --hyp said.txt --ref true.txt --json
for f in mse pearson spearman r2; do
    eval "mine=\$$f"
    want=$(tr -d '\n' < out | sed -n "s/.*\"$f\": *\([-0-9.e+]*\).*/\1/p")
    n_checks=$((n_checks + 1))
    awk -v a="$want" -v b="$mine" 'BEGIN { d = a - b; d = d < 0 ? -d : d; exit !(a != "" && d < 1e-5 * (1 + (a < 0 ? -a : a))) }' || die "$f: score says '$want', eval '$mine'"
done
say --head both --answer labels
near eval_both_f1_macro "$(figure f1_macro)"
near eval_both_f1_micro "$(figure f1_micro)"
near eval_both_accuracy "$(figure accuracy)"
say --head names
near eval_names_f1 "$(figure f1)"
near eval_names_accuracy "$(figure accuracy)"
say --head find --answer answer
near eval_find_em "$(figure em)"
near eval_find_f1 "$(figure f1)"
# Another size of batches, the same figures; slices, a second model, the table.
say --head stars --batch-tokens 7
[ "$(figure mse)" = "$mse" ] || die "batches change the figure: $(figure mse), $mse"
run 0 "$fathom" eval --model multi --compare multi --task test.jsonl --head who --slice-by length --bootstrap 20
has out 'f1_macro'
has out 'difference 0.0000'
# What is wrong is said, and where.
run 2 "$fathom" eval --model multi --task test.jsonl --head nobody
has err 'nobody'
printf '{"text":"x","label":"nonsense"}\n' > bad.jsonl
run 3 "$fathom" eval --model multi --task bad.jsonl --head who
has err 'bad.jsonl:1: its label is not among those that are learned'
run 3 "$fathom" eval --model multi --task bad.jsonl --head stars
has err 'its label is no number'
# A model whose own head judges needs no name of a head.
sed -n 's/.*"text":"\([^"]*\)","label":\([0-9]*\)}/\1,\2/p' train.jsonl | sed '1i text,label' > stars.csv
run 0 "$fathom" train stage=reg model_name_or_path=base dataset=stars.csv eval_dataset=stars.csv cutoff_len=64 per_device_train_batch_size=4 max_steps=2 measure_mfu=false precision=fp32 output_dir=reg
grep -h eval_mse reg/trainer_log.jsonl | tail -n 1 > last
run 0 "$fathom" eval --model reg --task stars.csv --dtype f32 --bootstrap 20 --json
near eval_mse "$(figure mse)"
# As a service: heads by name, the first of them without a name, all in the list of models.
. "$here/serve_lib.sh"
model=multi
start
ask 200 /v1/models
has out '"heads":[{"name":"who","kind":"classification","outputs":4,"labels":["law","peace","trade","war"]}'
has out '{"name":"stars","kind":"reward","outputs":1,'
text=$(sed -n 's/.*"question": "\([^"]*\)".*/\1/p' numbers.jsonl | head -n 1)
ask 200 /predict "{\"text\":\"$text\",\"head\":\"stars\"}"
sed -n 's/{"prediction":\([-0-9.e]*\)}/\1/p' out > served_number
n_checks=$((n_checks + 1))
paste served_number said.txt | head -n 1 | awk '{ d = $1 - $2; d = d < 0 ? -d : d; exit !(NF == 2 && d < 0.05 * (1 + ($2 < 0 ? -$2 : $2))) }' || die "served $(cat served_number), evaluated $(head -n 1 said.txt)"
ask 200 /predict '{"text":"the nation wants peace 3","head":"who"}'
cp out named
ask 200 /predict '{"text":"the nation wants peace 3"}'
same out named
has out '"label":"'
ask 200 /predict '{"text":["so war comes","law"],"head":"names"}'
has out '"labels":["'
ask 200 /predict '{"text":"peace and war","head":"both"}'
has out '"labels":['
ask 400 /predict '{"text":"x","head":"nobody"}'
has out 'nobody'
ask 200 /generate '{"prompt":"the nation","max_tokens":3}'
has out '"response"'
stop
finish
