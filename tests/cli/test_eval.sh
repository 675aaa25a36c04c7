#!/bin/sh
# Evaluation as a user runs it: tasks, formats, reports, refusals.
set -eu
. "$(dirname "$0")/lib.sh"
cd "$tmp"
data=$top/tests/unit/eval/data/lm_eval
gzip -dc "$top/recipes/data/state_of_the_union.train.jsonl.gz" | head -n 2 > corpus.jsonl
run 0 "$fathom" tokenizer train -i corpus.jsonl -o tok --vocab-size 600
args="params=200k vocab_size=600 dataset=corpus.jsonl tokenizer=tok cutoff_len=128 per_device_train_batch_size=4 max_steps=3 train_from_scratch=true measure_mfu=false"
# shellcheck disable=SC2086
run 0 "$fathom" train $args output_dir=one seed=1
# shellcheck disable=SC2086
run 0 "$fathom" train $args output_dir=two seed=2

run 0 "$fathom" eval list
has out mmlu
has out gsm8k
run 0 "$fathom" eval list --json
has out '"name":"ceval"'
run 0 "$fathom" eval --model one --task ppl --data "$data/held.txt"
has out bits_per_byte
has out 'disjoint windows'
# The same model judges rows of data.
printf '%s\n' '{"text":"My fellow Americans, the state of our union is strong."}' '{"text":"zq#x 8%%kk ~~ qqjx vvv"}' > judged.jsonl
run 0 "$fathom" data perplexity -i judged.jsonl -o scored.jsonl --model one
[ "$(grep -c '"perplexity":[0-9]' scored.jsonl)" = 2 ] || die "rows without a perplexity"
run 2 "$fathom" data perplexity -i judged.jsonl -o no.jsonl --model one --min-fluency 0.1
has err "only n-gram models"
sed 's/}$/,"label":"a"}/; 2s/"a"}/"b"}/; 1p' judged.jsonl > labelled.jsonl
run 0 "$fathom" data embed -i labelled.jsonl -o vectors.jsonl --model one
run 0 "$fathom" data balance -i vectors.jsonl -o even.jsonl --method smote --numeric embedding
[ "$(grep -c '"label":"b"' even.jsonl)" = 2 ] || die "no vector was made for the small class"
# A configuration file, overridden; the second model; rows.
printf 'model: one\ntask: mc\ndata: %s\nslice_by: [length, topic]\nbootstrap: 50\n' "$data/mc.jsonl" > eval.yaml
run 0 "$fathom" eval eval.yaml compare=two rows_output=rows.jsonl max_samples=10
has out 'all                                10'
has out 'topic: '
has out 'Against two'
has out 'Worst rows'
[ "$(wc -l < rows.jsonl)" = 10 ] || die "10 rows, $(wc -l < rows.jsonl) lines"
run 0 "$fathom" eval eval.yaml --json
has out '"acc_norm"'
has out '"definition"'
# The same rows as CSV with columns A, B ..., packed.
printf 'question,A,B,answer\n"Which, then?",one,two,B\nAnd?,three,four,three\n' | gzip > mc.csv.gz
run 0 "$fathom" eval --model one --task mc.csv.gz --json
has out '"n_rows": 2'
run 0 "$fathom" eval --model one --task mmlu --data "$data/mmlu" --num-fewshot 2
has out 'high school history'
run 0 "$fathom" eval --model one --task qa --data "$data/gsm8k.jsonl" --max-new-tokens 5 --metrics bleu,f1
has out 'sacrebleu'
# Findings with evidence; the changed configuration runs.
has out 'Findings:'
has out 'eval max_new_tokens: 5 -> 10'
run 0 "$fathom" advise qa --apply next.yaml
has out 'answers cut'
grep -q 'max_new_tokens: "10"' next.yaml || die "the change is not in next.yaml"
run 0 "$fathom" eval next.yaml bootstrap=20 --json
has out '"max_new_tokens": "10"'
run 1 "$fathom" advise nowhere
has err 'no run nowhere'
# What is wrong is said, and where.
printf 'question,A,B,answer\nx,one,two,B\ny,one,two,C\n' > bad.csv
run 3 "$fathom" eval --model one --task bad.csv
has err 'bad.csv:3'
run 2 "$fathom" eval --model one --task mmlo
has err 'mmlu'
run 2 "$fathom" eval --model one --task gsm8k --data "$data/gsm8k.jsonl"
has err 'fewshot_data'
run 2 "$fathom" eval --task ppl --data "$data/held.txt"
has err '--model'
finish
