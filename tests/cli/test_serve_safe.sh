#!/bin/sh
# What protects a service: content filter, TLS, slow clients, another user.
set -eu
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/serve_lib.sh"
gzip -dc "$top/recipes/data/state_of_the_union.train.jsonl.gz" | head -n 2 > corpus.jsonl
run 0 "$fathom" tokenizer train -i corpus.jsonl -o tok --vocab-size 600
run 0 "$fathom" train params=200k vocab_size=600 dataset=corpus.jsonl tokenizer=tok cutoff_len=128 \
    per_device_train_batch_size=4 max_steps=3 train_from_scratch=true measure_mfu=false output_dir=one
cp -r "$top/tests/golden/data/heads/bert_cls" judge
words judge

# The text of an answer that is the same each time, and a word in the middle of it.
greedy='"max_tokens":60,"temperature":0,"ignore_eos":true'
start
ask 200 /v1/completions "{\"prompt\":\"We the people\",$greedy,\"logit_bias\":{\"0\":-100}}"
sed 's/.*"text":"\(.*\)","logprobs.*/\1/' out > plain
piece=$(cut -c 9-12 plain)
stop
# That piece is blocked, wherever tokens end: no stream has it.
printf 'rules:\n- name: piece\n  regex: "\\\\Q%s\\\\E"\n  on: output\n' "$piece" > block.yaml
start --filter block.yaml --access-log
ask 200 /v1/completions "{\"prompt\":\"We the people\",$greedy,\"logit_bias\":{\"0\":-100},\"stream\":true}"
grep '^data: {' out | sed 's/.*"text":"\([^"]*\)".*/\1/' | tr -d '\n' > sent
! grep -qF -- "$piece" sent || die "banned text was sent: $(cat sent)"
has out '"finish_reason":"content_filter"'
ask 200 /v1/completions "{\"prompt\":\"We the people\",$greedy,\"logit_bias\":{\"0\":-100}}"
has out '"finish_reason":"content_filter"'
! grep -qF -- "$piece" out || die "banned text was sent"
ask 200 /v1/responses '{"input":"Hello","max_output_tokens":60,"temperature":0}'
ask 400 /v1/completions '{"prompt":"We","logprobs":1}'
has out logprobs
ask 200 /metrics
has out 'rule="piece",action="block",direction="output"} 2'
stop
grep -q '"filter":"piece"' log || die "the log lacks the filter"

printf 'rules:\n- name: insults\n  words: [fool]\n  on: input\n- name: private\n  privacy: all\n  on: input\n  action: mask\n- name: noted\n  words: [hello]\n  action: flag\n' > in.yaml
start --filter in.yaml --access-log
ask 400 /v1/chat/completions '{"messages":[{"role":"user","content":"You FOOL!"}]}'
has out '"code":"content_filter"'
ask 200 /v1/chat/completions '{"messages":[{"role":"user","content":"Hello, a fooling a@b.example"}],"max_tokens":2}'
ask 400 '/predict?text=fool' ''
ask 200 /tokenize '{"prompt":"mail a@b.example"}'
cp out masked
ask 200 /tokenize '{"prompt":"mail [removed]"}'
same out masked
ask 200 /metrics
has out 'rule="insults",action="block",direction="input"} 2'
has out 'rule="noted",action="flag",direction="input"} 1'
stop
hasnt log fooling

# A classifier as a rule: it says one label of all texts or of none, by the threshold.
printf 'rules:\n- name: judge\n  model: judge\n  label: LABEL_1\n  threshold: 0.000001\n' > model.yaml
start --filter model.yaml
ask 400 /v1/completions '{"prompt":"the cat sat"}'
has out content_filter
stop
printf 'rules:\n- name: judge\n  model: judge\n  label: LABEL_1\n  threshold: 0.999999\n' > model.yaml
start --filter model.yaml
ask 200 /v1/completions '{"prompt":"the cat sat","max_tokens":20,"stream":true}'
has out 'data: [DONE]'
hasnt out content_filter
ask 200 '/predict?text=We' ''
stop
printf 'rules:\n- name: x\n  wrods: [a]\n' > bad.yaml
run 2 "$fathom" serve one --filter bad.yaml
has err 'did you mean words?'

# Who sends a request byte by byte is cut off; others are served meanwhile.
start --read-timeout 1
port=${url##*:}
(
    printf 'GET /health HTTP/1.1\r\n'
    i=0
    while [ $i -lt 30 ]; do
        printf 'X-%s: 1\r\n' $i
        sleep 0.2
        i=$((i + 1))
    done
) 2> /dev/null | timeout 20 curl -sS -m 20 --no-buffer "telnet://127.0.0.1:$port" > slow 2> /dev/null &
slow=$!
began=$(date +%s)
ask 200 /health
wait $slow || true
[ $(($(date +%s) - began)) -lt 15 ] || die "a slow client was not cut off"
! grep -q 200 slow || die "a slow client was served"
stop

if command -v openssl > /dev/null 2>&1; then
    openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
        -addext subjectAltName=IP:127.0.0.1 2> /dev/null
    ca=cert.pem
    start --tls-cert cert.pem --tls-key key.pem
    case $url in https://*) ;; *) die "no https: $url" ;; esac
    ask 200 /v1/completions '{"prompt":"We","max_tokens":3,"stream":true}'
    has out 'data: [DONE]'
    ! curl -sS -m 5 "$url/health" > /dev/null 2>&1 || die "an unknown certificate was taken"
    stop
    ca=""
    run 1 "$fathom" serve one --tls-cert key.pem --tls-key cert.pem --port 0
    run 2 "$fathom" serve one --tls-cert cert.pem --port 0
fi

run 2 "$fathom" serve one --user no-such-user --port 0
has err 'there is no user no-such-user'
if [ "$(id -u)" = 0 ] && id nobody > /dev/null 2>&1; then
    chmod -R a+rX "$tmp"
    start --user nobody
    [ "$(stat -c %U "/proc/$pid")" = nobody ] || die "it runs as $(stat -c %U "/proc/$pid")"
    ask 200 /v1/completions '{"prompt":"We","max_tokens":3}'
    stop
fi
finish
