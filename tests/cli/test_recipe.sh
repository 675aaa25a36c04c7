#!/bin/sh
# A recipe as a user runs it: stages as child processes, kept results, a stage that fails, words that are wrong.
set -eu
. "$(dirname "$0")/lib.sh"
cd "$tmp"
gzip -dc "$top/recipes/data/state_of_the_union.train.jsonl.gz" | head -n 2 > corpus.jsonl
head -c 3000 "$top/recipes/data/state_of_the_union.heldout.txt" > held.txt
cat > r.yaml <<'R'
output_dir: work
vars: {steps: 3}
stages:
  - {name: tok, run: tokenizer train, with: {input: corpus.jsonl, vocab_size: 600}}
  - name: model
    run: train
    with: {params: 200k, vocab_size: 600, dataset: corpus.jsonl, tokenizer: "${tok}", cutoff_len: 128, per_device_train_batch_size: 4,
           max_steps: "${steps}", train_from_scratch: true, measure_mfu: false}
  - {name: score, run: eval, with: {model: "${model}", task: ppl, data: held.txt, window: 64}}
  - {name: f32, run: convert, args: ["${model}"], with: {dtype: f32}}
R
run 0 "$fathom" run r.yaml --dry-run
has out 'model            train: not done yet'
[ ! -e work ] || die "a dry run wrote something"
run 0 "$fathom" run r.yaml
has out '[4/4] f32              done'
grep -q '"bits_per_byte"' work/score.json || die "no figures in work/score.json"
[ -s work/f32/model.safetensors ] || die "nothing was converted"
run 0 "$fathom" run r.yaml
has out '[2/4] model            kept'
hasnt out 'done in'
run 0 "$fathom" run r.yaml steps=4 --dry-run --json
has out '"why":"max_steps: 3 -> 4"'
run 0 "$fathom" runs list --kind run --json
has out '"model.seconds"'
# A trial of it beside the whole: every stage runs, nothing of the whole is touched.
run 0 "$fathom" run r.yaml steps=2000 --trial 12
has out 'whole recipe: about'
has out '[4/4] f32              done'
[ -s work.trial/f32/model.safetensors ] || die "the trial's model was not converted"
grep -q '"n_steps":2000' work.trial/model/trial.json || die "the forecast is not of 2000 steps"
run 0 "$fathom" run r.yaml steps=2000 --trial 12 --json
awk "BEGIN { exit !($(number out seconds) > 5) }" || die "2000 steps are forecast to take $(number out seconds) s"
run 0 "$fathom" run r.yaml
hasnt out 'done in'
# Memory of a stage is given back: the small model behind the large one takes what it takes alone.
cat > two.yaml <<'R'
output_dir: two
stages:
  - name: large
    run: train
    with: {params: 5M, vocab_size: 600, dataset: corpus.jsonl, tokenizer: work/tok, cutoff_len: 128, per_device_train_batch_size: 4, max_steps: 2, measure_mfu: false}
  - name: small
    run: train
    with: {params: 200k, vocab_size: 600, dataset: corpus.jsonl, tokenizer: work/tok, cutoff_len: 128, per_device_train_batch_size: 4, max_steps: 2, measure_mfu: false}
R
memory() { sed -n 's/.*"memory_bytes": *\([0-9]*\).*/\1/p' "$1/trainer_log.jsonl" | sort -n | tail -n 1; }
run 0 "$fathom" run two.yaml
run 0 "$fathom" train params=200k vocab_size=600 dataset=corpus.jsonl tokenizer=work/tok cutoff_len=128 per_device_train_batch_size=4 max_steps=2 measure_mfu=false output_dir=alone
large=$(memory two/large) small=$(memory two/small) alone=$(memory alone)
awk "BEGIN { exit !($alone > 0 && $small < 1.2 * $alone + 4e6 && $large > $small + 4e7) }" || die "bytes of memory: $large, behind it $small, alone $alone"
# Words that are wrong are said before anything runs.
sed 's/window: 64/windov: 64/' r.yaml > typo.yaml
run 2 "$fathom" run typo.yaml
has err "'windov' is no option of 'fathom eval'"
sed 's/run: convert/run: convart/' r.yaml > typo.yaml
run 2 "$fathom" run typo.yaml
has err "convart"
run 2 "$fathom" run r.yaml stebs=4
has err 'stebs'
# The exit status of the stage that fails is the recipe's; then it goes on there.
sed 's/data: held.txt/data: nothing.txt/' r.yaml > fails.yaml
run 1 "$fathom" run fails.yaml
has err 'nothing.txt'
has out 'score            FAILED'
run 0 "$fathom" run r.yaml
has out '[3/4] score            done'
has out '[2/4] model            kept'
finish
