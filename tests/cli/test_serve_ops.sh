#!/bin/sh
# What runs a service: metrics that the dashboard and the alert rules name are there, in a form that Prometheus reads;
# the unit, the manifest and the image files fit the program.
set -eu
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/serve_lib.sh"
gzip -dc "$top/recipes/data/state_of_the_union.train.jsonl.gz" | head -n 2 > corpus.jsonl
run 0 "$fathom" tokenizer train -i corpus.jsonl -o tok --vocab-size 600
run 0 "$fathom" train params=200k vocab_size=600 dataset=corpus.jsonl tokenizer=tok cutoff_len=128 \
    per_device_train_batch_size=4 max_steps=3 train_from_scratch=true measure_mfu=false output_dir=one
printf 'rules:\n- name: w\n  words: [nothing]\n' > rules.yaml
start --filter rules.yaml --access-log
ask 200 /v1/completions '{"prompt":"We","max_tokens":4,"n":2}'
ask 404 /nowhere
ask 200 /metrics
has headers 'text/plain; version=0.0.4'
cp out metrics.txt
p=$top/packaging
for name in $(grep -ohE '\b(vllm|fathom|process)[:_][a-z0-9_]+' "$p/prometheus/alerts.yml" "$p/grafana/fathom.json" | sort -u); do
    grep -q "^$name[{ ]" metrics.txt || die "no metric $name, which packaging/ names"
    n_checks=$((n_checks + 1))
done
# The form of Prometheus: a TYPE before each family, once; buckets that grow; +Inf equal to the count.
awk '
    /^# TYPE / { if ($3 in type) { print "twice: " $3; bad = 1 } type[$3] = $4; next }
    /^#/ || /^$/ { next }
    {
        name = $1; sub(/\{.*/, "", name); base = name
        if (!(base in type)) sub(/_(bucket|sum|count)$/, "", base)
        if (!(base in type)) { print "no type: " $0; bad = 1 }
        if ($NF !~ /^-?[0-9.]+(e[-+]?[0-9]+)?$/) { print "no number: " $0; bad = 1 }
        if (name ~ /_bucket$/) {
            key = $0; sub(/,le=.*/, "", key)
            if (key == last && $NF + 0 < before) { print "shrinks: " $0; bad = 1 }
            last = key; before = $NF + 0
        } else if (name ~ /_count$/ && $NF + 0 != before) { print "+Inf is not the count: " $0; bad = 1 }
    }
    END { exit bad }' metrics.txt || die "not the form of Prometheus"
grep -q '^vllm:request_params_n_sum{[^}]*} 2$' metrics.txt || die "request_params_n"
grep -q '^fathom:http_request_duration_seconds_count{[^}]*route="/v1/completions"} 1$' metrics.txt || die "by route"
grep -q '^fathom:http_request_duration_seconds_count{[^}]*route="other"} 1$' metrics.txt || die "by no route"
n_checks=$((n_checks + 4))
id=$(sed -n 's/^[Xx]-[Rr]equest-[Ii]d: \([0-9a-f]*\).*/\1/p' headers)
[ -n "$id" ] || die "no request id"
stop
grep -q "\"id\":\"$id\"" log || die "the request id is not in the log"
# Options that the files of packaging/ give are options of the program.
run 0 "$fathom" serve --help
cp out help
for o in $(cat "$p/systemd/fathom@.service" "$p/docker/Dockerfile" "$p/kubernetes/fathom.yaml" |
    grep -v -e useradd -e apt-get -e HEALTHCHECK -e COPY -e 'docker build' -e cmake -e kubectl -e systemctl -e DFATHOM |
    grep -oE -- '--[a-z]+(-[a-z]+)*' | sort -u); do
    grep -qF -- "$o" help || die "there is no option $o, which packaging/ gives"
    n_checks=$((n_checks + 1))
done
if command -v python3 > /dev/null 2>&1; then
    python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); assert len({p["id"] for p in d["panels"]})==len(d["panels"])>=10' \
        "$p/grafana/fathom.json" || die "the dashboard"
fi
finish
