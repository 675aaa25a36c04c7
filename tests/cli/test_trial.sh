#!/bin/sh
# A trial: a short run that forecasts the long one, says what is wrong, and leaves nothing behind.
set -eu
. "$(dirname "$0")/lib.sh"
cd "$tmp"
gzip -dc "$top/recipes/data/state_of_the_union.train.jsonl.gz" | head -n 6 > corpus.jsonl
run 0 "$fathom" tokenizer train -i corpus.jsonl -o tok --vocab-size 600
run 0 "$fathom" data pack -i corpus.jsonl -t tok -o packed --val-size 0.2
keys="params=200k vocab_size=600 dataset=packed eval_dataset=packed/val tokenizer=tok cutoff_len=64 per_device_train_batch_size=4 measure_mfu=false precision=fp32"

# Steps of a share, of a number, and of a run in epochs; what the whole run does is counted.
# shellcheck disable=SC2086
run 0 "$fathom" train $keys learning_rate=3e-3 max_steps=3000 eval_steps=300 save_steps=400 output_dir=model --trial --json
[ "$(number out steps)" = 30 ] && [ "$(number out n_steps)" = 3000 ] || die "30 of 3000 steps were expected"
[ "$(number out n_evals)" = 10 ] && [ "$(number out n_saves)" = 8 ] || die "10 evaluations and 8 checkpoints were expected"
awk "BEGIN { exit !($(number out total_s) >= 3000 * $(number out step_s) && $(number out step_s) > 0 && $(number out tokens_per_s) > 0 && $(number out memory_bytes) > 1000000) }" ||
    die "times do not add up"
awk "BEGIN { exit !($(number out last_loss) < $(number out first_loss) && $(number out first_loss) < 6.6 && $(number out guess_loss) > 6.39 && $(number out guess_loss) < 6.40) }" ||
    die "losses are not those of 600 tokens"
[ ! -e model ] && [ ! -e model.trial ] || die "the trial left a folder"
# shellcheck disable=SC2086
run 0 "$fathom" train $keys learning_rate=3e-3 num_train_epochs=2 output_dir=model --trial 12
has out "trial       12 of "
has out "finding     none"
# shellcheck disable=SC2086
run 0 "$fathom" train $keys learning_rate=3e-3 num_train_epochs=2 max_steps=14 save_steps=7 output_dir=model
cp model/model.safetensors before

# A trial beside a run leaves that as it is, and what it forecast of the steps is what they were.
# shellcheck disable=SC2086
run 0 "$fathom" train $keys learning_rate=3e-3 max_steps=14 output_dir=model --trial=3
same before model/model.safetensors
[ -d model/checkpoint-7 ] || die "the trial removed a checkpoint"

# What it finds: a rate that learns nothing, a model that knows nothing of the rows.
echo "It is one window of text: no step sees other rows than the step before it, and with such a rate nothing changes." > one.txt
# shellcheck disable=SC2086
run 0 "$fathom" train $keys dataset=one.txt eval_dataset= cutoff_len=16 per_device_train_batch_size=1 shuffle=false learning_rate=1e-12 max_steps=3000 output_dir=no --trial 12
has out "the loss did not fall"
# shellcheck disable=SC2086
run 0 "$fathom" train $keys learning_rate=1e-9 max_steps=1 output_dir=blank
# shellcheck disable=SC2086
run 0 "$fathom" train $keys preset= params=0 vocab_size=0 model_name_or_path=blank learning_rate=1e-12 max_steps=3000 output_dir=no --trial 10
has out "about what a guess costs"

# The short run's model, kept; and what is refused.
# shellcheck disable=SC2086
run 0 "$fathom" train $keys learning_rate=3e-3 max_steps=3000 output_dir=kept --trial-keep 10
[ -e kept/model.safetensors ] || die "the model was not kept"
# shellcheck disable=SC2086
run 2 "$fathom" train $keys output_dir=no --trial=0
has err "expected a share"
# shellcheck disable=SC2086
run 2 "$fathom" train $keys output_dir=no --trial=200%
has err "expected a share"
[ ! -e no ] && [ ! -e no.trial ] || die "a refused trial left a folder"
finish
