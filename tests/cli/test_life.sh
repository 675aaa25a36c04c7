#!/bin/sh
# The whole way of a tiny model: check, tokenizer, pack, plan, train, interrupt, resume, generate, chat, logits, info.
set -eu
. "$(dirname "$0")/lib.sh"
cd "$tmp"
# Real text, a small part of it.
gzip -dc "$top/recipes/data/state_of_the_union.train.jsonl.gz" | head -n 6 > corpus.jsonl
head -c 30000 "$top/recipes/data/state_of_the_union.heldout.txt" > held.txt
{ cat corpus.jsonl; echo '{"txt": "no such column"}'; echo 'not json'; printf '{"text":"bad \377 byte"}\n'; echo '{"text":""}'; } > dirty.jsonl

run 0 "$fathom" data check dirty.jsonl --json
has out '"line":7'
has out '"line":8'
has out '"line":9'
run 0 "$fathom" tokenizer train -i corpus.jsonl -o tok --vocab-size 600 --json
[ "$(number out vocab_size)" = 600 ] || die "vocabulary is not 600"
run 1 "$fathom" tokenizer train -i corpus.jsonl -o tok --vocab-size 700
has err "there already"
# Encoding and decoding are inverse, in order, for any UTF-8.
printf '%s\n' '{"text":"Hello, world! \u4f60\u597d \ud83d\ude00\n\ttab"}' '{"text":""}' '{"text":"  two  spaces "}' > texts.jsonl
stdin=texts.jsonl run 0 "$fathom" tokenizer encode tok
[ "$(wc -l < out)" = 3 ] || die "three lines in, $(wc -l < out) out"
cp out ids.jsonl
stdin=ids.jsonl run 0 "$fathom" tokenizer decode tok
has out '"text":"Hello, world! 你好 😀\u000a\u0009tab"'
has out '"text":"  two  spaces "'
run 0 "$fathom" data pack -i dirty.jsonl -t tok -o packed --json
[ "$(number out bad)" = 4 ] || die "expected 4 bad rows, found $(number out bad)"
[ -s packed/rejects.jsonl ] || die "bad rows were not set aside"
run 0 "$fathom" data pack -i held.txt -t tok -o held
# Data that would all be dropped is refused before anything is written.
run 3 "$fathom" data pack -i held.txt -t tok -o dropped --cutoff-len 4 --long-rows drop
[ ! -e dropped/dataset.json ] || die "a refused dataset was written"

args="params=200k vocab_size=600 dataset=packed eval_dataset=held tokenizer=tok cutoff_len=64 per_device_train_batch_size=4 gradient_accumulation_steps=2
 learning_rate=3e-3 dropout=0.1 max_steps=24 logging_steps=4 eval_steps=12 save_steps=6 train_from_scratch=true seed=7 measure_mfu=false"
# shellcheck disable=SC2086
run 0 "$fathom" plan $args --calibrate=0 --json
[ "$(number out fits)" = "" ] && has out '"fits":true'
# shellcheck disable=SC2086
run 0 "$fathom" train $args output_dir=whole --json
has out '"steps":24'
awk "BEGIN { exit !($(number out eval_loss) < 6.0) }" || die "eval loss $(number out eval_loss) is no better than log(600)"
# Stopped by a signal, then resumed: the same bits.
# shellcheck disable=SC2086
FATHOM_PIN=0 "$fathom" train $args output_dir=cut > out 2> err &
pid=$!
i=0
while [ ! -d cut/checkpoint-6 ] && [ $i -lt 600 ]; do sleep 0.05; i=$((i + 1)); done
kill -INT $pid
rc=0
wait $pid || rc=$?
[ "$rc" = 130 ] || [ "$rc" = 0 ] || die "interrupted training ended with $rc"
# shellcheck disable=SC2086
run 0 "$fathom" train $args output_dir=cut --resume
same whole/model.safetensors cut/model.safetensors
# shellcheck disable=SC2086
run 1 "$fathom" train $args output_dir=whole
has err "whole"
ls whole/runs/* > /dev/null 2>&1 || find whole -name 'events.out.tfevents.*' | grep -q . || die "no TensorBoard file"
tail -n 1 whole/trainer_log.jsonl | grep -q '"step": 24' || die "the log does not end at step 24"

run 0 "$fathom" info whole --json
has out '"family":"llama"'
run 0 "$fathom" generate whole --prompt "The state" --max-new-tokens 20 --temperature 0 --json
cp out greedy
run 0 "$fathom" generate whole --prompt "The state" --max-new-tokens 20 --temperature 0 --json --no-cache
same out greedy
run 0 "$fathom" generate whole --prompt "The state" --max-new-tokens 20 --seed 3 --json
cp out seeded
run 0 "$fathom" generate whole --prompt "The state" --max-new-tokens 20 --seed 3 --json
same out seeded
printf '{"prompt":"A"}\n{"prompt":"B"}\n' > prompts.jsonl
stdin=prompts.jsonl run 0 "$fathom" generate whole --max-new-tokens 3
[ "$(wc -l < out)" = 2 ] || die "two prompts, $(wc -l < out) answers"
printf 'Hello\n/exit\n' > talk
stdin=talk run 0 "$fathom" chat whole --max-new-tokens 5
printf 'Hello\nAgain\n/new\nHello\n/exit\n' > talk
stdin=talk run 0 "$fathom" chat whole --max-new-tokens 5 --template chatml --system Brief --temperature 0
[ "$(wc -l < out)" -ge 3 ] || die "three answers expected"
stdin=talk run 1 "$fathom" chat whole --template nosuch
printf '{"ids":[1,2,3]}\n{"ids":[4,5,6]}\n' > three.jsonl
stdin=three.jsonl run 0 "$fathom" logits whole -o l.npy
[ "$(wc -c < l.npy)" = $((128 + 2 * 3 * 600 * 4)) ] || die "l.npy has $(wc -c < l.npy) bytes"
printf '{"ids":[1,2,3]}\n{"ids":[4]}\n' > uneven.jsonl
stdin=uneven.jsonl run 3 "$fathom" logits whole -o l.npy
printf '{"ids":[999999]}\n' > outside.jsonl
stdin=outside.jsonl run 3 "$fathom" logits whole
# A damaged model is an error, not a crash.
cp -r whole broken
head -c 1000 whole/model.safetensors > broken/model.safetensors
run 1 "$fathom" generate broken --prompt x
has err "model.safetensors"
finish
