#!/bin/sh
# Administrators: keys of their own, adapters, and a reload that loses no request.
set -eu
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/serve_lib.sh"
gzip -dc "$top/recipes/data/state_of_the_union.train.jsonl.gz" | head -n 2 > corpus.jsonl
run 0 "$fathom" tokenizer train -i corpus.jsonl -o tok --vocab-size 600
run 0 "$fathom" train params=200k vocab_size=600 dataset=corpus.jsonl tokenizer=tok cutoff_len=128 \
    per_device_train_batch_size=4 max_steps=3 train_from_scratch=true measure_mfu=false output_dir=one
run 0 "$fathom" train model_name_or_path=one dataset=corpus.jsonl cutoff_len=128 finetuning_type=lora \
    per_device_train_batch_size=4 max_steps=2 measure_mfu=false output_dir=lora
echo 'user-1 name=ann' > keys
echo 'root-1' > admins
start --api-key-file keys --admin-key-file admins
key=user-1
ask 401 /admin/adapters
ask 401 /admin/reload ''
key=root-1
ask 401 /v1/models
ask 200 /admin/adapters
has out '{"adapters":[]}'
ask 200 /admin/adapters '{"name":"law","path":"lora"}'
has out '["law"]'
ask 409 /admin/adapters '{"name":"law","path":"lora"}'
ask 404 /v1/load_lora_adapter '{"lora_name":"verse","lora_path":"nothing"}'
ask 400 /admin/adapters '{"name":"verse"}'
key=user-1
ask 200 /v1/models
has out '"id":"law"'
ask 200 /v1/completions '{"model":"law","prompt":"We","max_tokens":2}'
key=root-1
ask 200 /admin/adapters/remove '{"name":"law"}'
ask 404 /v1/unload_lora_adapter '{"lora_name":"law"}'
key=user-1
ask 404 /v1/completions '{"model":"law","prompt":"We","max_tokens":2}'

# While requests come without a pause, on one connection each and on one that stays, and a long answer is written, the
# server is replaced by one that knows another key.
many() {
    i=0
    while [ ! -e enough ] && [ $i -lt 20000 ]; do
        curl -sS -m 30 -o /dev/null -w '%{http_code}\n' -H 'Authorization: Bearer user-1' -d '{"prompt":"We","max_tokens":2}' \
            "$url/v1/completions" 2>> many.err || echo failed
        i=$((i + 1))
    done > many.codes
}
kept() {
    i=0
    while [ ! -e enough ] && [ $i -lt 2000 ]; do
        # shellcheck disable=SC2046
        curl -sS -m 30 -H 'Authorization: Bearer user-1' -w '%{http_code}\n' \
            $(for _ in 1 2 3 4 5 6 7 8 9 10; do printf -- '-o /dev/null %s ' "$url/v1/models"; done) 2>> kept.err || echo failed
        i=$((i + 1))
    done > kept.codes
}
many &
many_pid=$!
kept &
kept_pid=$!
curl -sS -m 60 -N -o long -H 'Authorization: Bearer user-1' -d '{"prompt":"We","max_tokens":100,"ignore_eos":true,"stream":true}' \
    "$url/v1/completions" &
long_pid=$!
echo 'user-2 name=bob' >> keys
key=root-1
ask 202 /admin/reload ''
until_served() {
    i=0
    until [ "$(grep -c 'is served at' served)" -ge "$1" ]; do
        i=$((i + 1))
        [ $i -lt 600 ] || { cat served >&2; die "no new process after a minute"; }
        sleep 0.1
    done
}
until_served 2
key=user-2
i=0
until [ "$(curl -sS -o out -w '%{http_code}' -H 'Authorization: Bearer user-2' "$url/v1/models")" = 200 ]; do
    i=$((i + 1))
    [ $i -lt 100 ] || die "the new key is not known"
    sleep 0.1
done
sleep 0.5
touch enough
wait $many_pid $kept_pid $long_pid
for f in many kept; do
    [ "$(sort -u $f.codes)" = 200 ] || { cat $f.err >&2; die "$f: $(sort $f.codes | uniq -c)"; }
    [ "$(wc -l < $f.codes)" -gt 5 ] || die "$f: only $(wc -l < $f.codes) requests"
done
has long 'data: [DONE]'
n_checks=$((n_checks + 5))
# The process with the number that was started goes on, and a signal to it reaches the one that serves: again.
kill -USR2 "$pid"
until_served 3
ask 200 /v1/models
# A reload that fails changes nothing.
cp keys good
echo 'user-3 nonsense' > keys
kill -USR2 "$pid"
i=0
until grep -q 'the new process did not start' served; do
    i=$((i + 1))
    [ $i -lt 300 ] || { cat served >&2; die "no word of a failed reload"; }
    sleep 0.1
done
ask 200 /v1/models
stop
i=0
while curl -sS -m 1 -o /dev/null "$url/health" 2> /dev/null; do
    i=$((i + 1))
    [ $i -lt 50 ] || die "something still serves"
    sleep 0.1
done
finish
