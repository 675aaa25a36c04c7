#!/bin/sh
# Kills a training run, resumes it, and asks for the very bytes of a run that was left alone; then what a full disk, a
# folder that cannot be written and damaged checkpoints do.
#   tests/kill/kill_test.sh FATHOM [fast|full] [SEED]
# fast: 6 kills, well under a minute. full: 20 kills: 10 inside or around a save, 10 at random moments, 5 of these in one run.
# The run has what could make a resumed one differ: dropout, accumulation, bf16, shuffling over several epochs, evaluation.
set -u
fathom=$(realpath "$1") || exit 2
mode=${2:-fast}
seed=${3:-$(date +%s)}
data=$(cd "$(dirname "$0")/../../recipes/data" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/fathom_kill.XXXXXX")
mounted=
pid=
cleanup() {
    [ -n "$pid" ] && kill -9 "$pid" 2>/dev/null
    [ -n "$mounted" ] && umount "$mounted" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
unset FATHOM_CRASH_POINT

die() {
    echo "FAILED: $*" >&2
    [ -f "$work/err" ] && tail -n 15 "$work/err" >&2
    exit 1
}
say() { printf '%-58s %s\n' "$1" "$2"; }

# Random whole numbers below $1, the same sequence for the same seed.
draws=0
random() {
    draws=$((draws + 1))
    drawn=$(awk -v s=$((seed + draws * 7919)) -v n="$1" 'BEGIN { srand(s); rand(); print int(rand() * n) }')
}

# ---- the run ---------------------------------------------------------------------------------------------------------

steps=26
[ "$mode" = full ] && steps=40
gzip -dc "$data/state_of_the_union.train.jsonl.gz" | head -n 3 > "$work/train.jsonl"
head -c 3000 "$data/state_of_the_union.heldout.txt" > "$work/held.txt"
{
    "$fathom" tokenizer train -i "$work/train.jsonl" -o "$work/tok" --vocab-size 512 &&
        "$fathom" data pack -i "$work/train.jsonl" -t "$work/tok" -o "$work/packed" &&
        "$fathom" data pack -i "$work/held.txt" -t "$work/tok" -o "$work/held"
} > "$work/out" 2> "$work/err" || die "no data to train on"

# train OUTPUT [key=value ...]: exit status as fathom gives it.
train() {
    output=$1
    shift
    exec "$fathom" train stage=pt params=150k dataset="$work/packed" eval_dataset="$work/held" tokenizer="$work/tok" \
        output_dir="$output" cutoff_len=64 per_device_train_batch_size=6 gradient_accumulation_steps=3 max_steps=$steps \
        dropout=0.1 embedding_dropout=0.1 precision=bf16 learning_rate=2e-3 save_steps=6 eval_steps=9 logging_steps=1 \
        save_total_limit=3 seed=11 threads=2 report_to=none "$@"
}
run() { (train "$@") > "$work/out" 2> "$work/err"; }
sums() { (cd "$1" && sha256sum model.safetensors "checkpoint-$steps/model.safetensors" "checkpoint-$steps/optimizer.safetensors") 2>&1; }
same() { # folder, what was done
    [ "$(sums "$1")" = "$want" ] || die "$2: other weights than the run that was left alone
$(sums "$1")
expected
$want"
    [ -z "$(find "$1" -name '*.tmp')" ] || die "$2: left $(find "$1" -name '*.tmp' | head -n 1)"
}
newest() { find "$1" -maxdepth 1 -name 'checkpoint-*[0-9]' 2>/dev/null | sed 's/.*-//' | sort -n | tail -n 1; }
refused() { # status, what: an error that was reported, not a signal
    { [ "$1" -gt 0 ] && [ "$1" -lt 128 ]; } || die "$2: status $1"
}

# Goes on from what is in the folder; where nothing was saved yet, `true` must say so and `auto` starts.
resume() { # folder, what was done
    if [ -z "$(newest "$1")" ]; then
        run "$1" resume_from_checkpoint=true && die "$2: resumed without a checkpoint"
        grep -q "no checkpoint" "$work/err" || die "$2: no clear word about the missing checkpoint"
        run "$1" resume_from_checkpoint=auto || die "$2: status $? on starting again"
    else
        run "$1" resume_from_checkpoint=true || die "$2: status $? on resuming"
    fi
}

echo "kill test: $mode, seed $seed"
run "$work/base" || die "the run that is left alone: status $?"
want=$(sums "$work/base")
echo "$want" | grep -q 'optimizer.safetensors$' || die "nothing to compare: $want"
run "$work/again" seed=12 || die "another seed: status $?"
[ "$(sums "$work/again")" != "$want" ] || die "another seed gives the same weights: the comparison sees nothing"
rm -rf "$work/again"

# ---- kills -----------------------------------------------------------------------------------------------------------

# Runs until the program kills itself at a named point; the shell's own word about it is not wanted.
stop_at() { # name:occurrence
    { FATHOM_CRASH_POINT=$1 run "$work/k"; } 2> /dev/null
}

kills=0
crash() { # name:occurrence
    stop_at "$1"
    status=$?
    [ $status -eq 137 ] || die "$1 was not reached: status $status"
    at=$(newest "$work/k")
    kills=$((kills + 1))
    resume "$work/k" "$1"
    same "$work/k" "$1"
    say "killed at $1, resumed from step ${at:-0}" same
    rm -rf "$work/k"
}

# Kills the run in the background a random moment after it has logged step $1.
kill_after() { # step, folder, resume mode
    lines=0
    [ -f "$2/trainer_log.jsonl" ] && lines=$(wc -l < "$2/trainer_log.jsonl")
    (train "$2" resume_from_checkpoint="$3") > "$work/out" 2> "$work/err" &
    pid=$!
    while kill -0 $pid 2>/dev/null; do
        logged=0
        [ -f "$2/trainer_log.jsonl" ] && logged=$(($(wc -l < "$2/trainer_log.jsonl") - lines))
        [ "$logged" -ge "$1" ] && break
        sleep 0.01
    done
    random 60
    sleep "0.0$(printf '%02d' "$drawn")"
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
    killed=$?
    pid=
    [ "$killed" -eq 137 ] || [ "$killed" -eq 0 ] || die "a run that was to be killed ended with status $killed"
    [ "$killed" -eq 137 ] && kills=$((kills + 1))
}

at_random() {
    random $((steps - 3))
    kill_after $((drawn + 1)) "$work/k" auto
    at=$(newest "$work/k")
    [ "$killed" -eq 137 ] || at=$steps
    resume "$work/k" "a kill after step $((drawn + 1))"
    same "$work/k" "a kill at a random moment"
    say "killed at random, resumed from step ${at:-0}" same
    rm -rf "$work/k"
}

# Several kills in one run: every part gets a few steps further.
chain() { # kills
    n=0
    trail=
    while [ $n -lt "$1" ]; do
        random 8
        kill_after $((drawn + 1)) "$work/k" auto
        at=$(newest "$work/k")
        trail="$trail ${at:-0}"
        [ "$killed" -eq 0 ] && break
        n=$((n + 1))
    done
    resume "$work/k" "$n kills in one run"
    same "$work/k" "$n kills in one run"
    say "killed $n times, resumed from steps$trail" same
    rm -rf "$work/k"
}

if [ "$mode" = full ]; then
    for point in ckpt.begin:1 ckpt.model:2 ckpt.optimizer:3 ckpt.state:2 ckpt.complete:2 ckpt.rename:4 ckpt.renamed:5 \
        ckpt.done:6 step.done:17 final.model; do
        crash $point
    done
    while [ $kills -lt 15 ]; do at_random; done
    chain 5
    while [ $kills -lt 20 ]; do at_random; done
else
    for point in ckpt.begin:1 ckpt.optimizer:3 ckpt.rename:4; do crash $point; done
    at_random
    chain 2
fi

# ---- interruption, full disk, read-only folder, damage -----------------------------------------------------------------

(train "$work/k") > "$work/out" 2> "$work/err" &
pid=$!
while kill -0 $pid 2>/dev/null; do
    [ -f "$work/k/trainer_log.jsonl" ] && [ "$(wc -l < "$work/k/trainer_log.jsonl")" -ge 15 ] && break
    sleep 0.01
done
kill -TERM $pid 2>/dev/null
wait $pid
status=$?
pid=
[ $status -eq 143 ] || [ $status -eq 0 ] || die "SIGTERM: expected status 143, found $status"
at=$(newest "$work/k")
[ "$at" -ge 15 ] || die "SIGTERM: a checkpoint of the last step was expected, the newest is of step $at"
resume "$work/k" SIGTERM
same "$work/k" SIGTERM
say "SIGTERM (status $status), resumed from step $at" same
rm -rf "$work/k"

# A run with a good checkpoint at step 6 that cannot write the one at step 12.
stop_at step.done:8
[ "$(newest "$work/k")" = 6 ] || die "expected a checkpoint of step 6"
# (XFSZ ignored: a write past the limit fails as on a full disk, part of the file written.)
(
    trap '' XFSZ
    ulimit -f 1000
    train "$work/k" resume_from_checkpoint=true
) > "$work/out" 2> "$work/err"
status=$?
[ $status -eq 1 ] || die "a file that cannot be written in full: expected status 1, found $status"
grep -q "checkpoint-12" "$work/err" || die "the message does not name the checkpoint"
[ "$(newest "$work/k")" = 6 ] || die "checkpoint 6 did not survive, or 12 is there without its files"
resume "$work/k" "a write that failed"
same "$work/k" "a write that failed"
say "disk full in the middle of a checkpoint, resumed" same
rm -rf "$work/k"

mkdir "$work/small"
if mount -t tmpfs -o size=4m tmpfs "$work/small" 2>/dev/null; then
    mounted=$work/small
    run "$work/small/k"
    status=$?
    [ $status -eq 1 ] || die "a disk that is too small: expected status 1, found $status"
    grep -q checkpoint-6 "$work/err" || grep -q "disk has" "$work/err" || die "no clear word about the disk"
    say "disk too small (tmpfs)" "status $status"
    umount "$mounted" && mounted=
fi

# Even root cannot make a folder in /proc.
run /proc/fathom_kill_test
status=$?
refused $status "an output folder that cannot be made"
grep -q /proc/fathom_kill_test "$work/err" || die "the message does not name the folder"
say "output folder that cannot be made" "status $status"
if [ "$(id -u)" -ne 0 ]; then
    mkdir -m 555 "$work/locked"
    run "$work/locked"
    status=$?
    refused $status "a read-only output folder"
    say "read-only output folder" "status $status"
fi

# Damage to the newest of three checkpoints: the one before is used; with all damaged, a clear error.
damage() { # what, command on the newest checkpoint's folder
    stop_at step.done:20
    [ "$(newest "$work/k")" = 18 ] || die "expected a checkpoint of step 18"
    (cd "$work/k/checkpoint-18" && eval "$2") || die "$1"
    resume "$work/k" "$1"
    grep -q "checkpoint-18" "$work/err" || die "$1: no warning about checkpoint-18"
    same "$work/k" "$1"
    say "$1" "fell back, same"
}
damage "newest checkpoint cut short" 'truncate -s -1000 optimizer.safetensors'
rm -rf "$work/k"
[ "$mode" = full ] && {
    damage "newest checkpoint without its model" 'rm model.safetensors'
    rm -rf "$work/k"
    damage "newest checkpoint not complete" 'rm COMPLETE'
    rm -rf "$work/k"
    damage "newest checkpoint's state empty" ': > trainer_state.json'
    rm -rf "$work/k"
}
stop_at step.done:14
for c in "$work/k"/checkpoint-*; do truncate -s 100 "$c/model.safetensors"; done
run "$work/k" resume_from_checkpoint=true
status=$?
refused $status "all checkpoints damaged"
grep -q "can be used" "$work/err" || die "all checkpoints damaged: no clear word"
say "all checkpoints damaged" "status $status"

echo "$kills kills, every run ended with the same bytes (seed $seed)"
