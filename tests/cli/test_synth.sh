#!/bin/sh
# fathom data synth against a server on the loopback that answers by rule, is overloaded, refuses; and against fathom
# serve and a local model.
set -eu
. "$2/tests/cli/lib.sh"
command -v python3 > /dev/null || { echo "SKIP: no python3"; exit 77; }
cd "$tmp"
mkfifo stay
python3 "$top/tests/cli/openai_server.py" port log < stay 2> server.err &
exec 9> stay # the server ends with this script
i=0
while [ ! -f port ]; do
    i=$((i + 1))
    [ $i -lt 100 ] || die "the test server did not start"
    sleep 0.1
done
url="http://127.0.0.1:$(cat port)/v1"
unset OPENAI_API_KEY http_proxy https_proxy all_proxy HTTP_PROXY ALL_PROXY || true
if "$fathom" data synth --task qa -i x -o y.jsonl --endpoint http://127.0.0.1:1/v1 --retries 0 2>&1 | grep -q "built without libcurl"; then
    echo "SKIP: built without libcurl"
    exit 77
fi
synth() { # RC TASK ARGS...
    rc_=$1
    task=$2
    shift 2
    run "$rc_" "$fathom" data synth --task "$task" --endpoint "$url" --retry-wait 0.01 "$@"
}
python3 - <<'P'
import json
with open("seeds.jsonl", "w") as f:
    for i in range(12):
        words = "the of a to in is you that it he was for on are as with his they at be".split()
        f.write(json.dumps({"instruction": f"Seed task {i} {words[i]} {words[i+3]}", "instances": [{"input": "", "output": f"answer {i}"}]}) + "\n")
    f.write('{"instruction": "", "instances": []}\n')
with open("docs.jsonl", "w") as f:
    for i in range(30):
        f.write(json.dumps({"text": f"Document {i}. " + "word " * i + ("NOJSON" if i == 3 else "") + ("REFUSED" if i == 5 else "") +
                            ("FLAKY" if i == 7 else "") + ("WRONGTURN" if i == 9 else ""), "label": i}) + "\n")
    f.write('{"label": 3}\n')
P

# instructions after seeds: form, length, likeness; the same rows for any number of requests at once
synth 0 instruct --seeds seeds.jsonl -n 20 -o a.jsonl --concurrency 8 --max-requests 400
has err "no instruction"
synth 0 instruct --seeds seeds.jsonl -n 20 -o b.jsonl --concurrency 1 --max-requests 400
same a.jsonl b.jsonl
[ "$(wc -l < a.jsonl)" = 20 ] || die "not 20 rows"
[ ! -e a.jsonl.journal.jsonl ] || die "the journal stayed"
synth 0 instruct --seeds seeds.jsonl -n 20 -o c.jsonl --seed 5 --max-requests 400
if cmp -s a.jsonl c.jsonl; then die "another seed, the same rows"; fi
python3 - <<'P'
import json
rows = [json.loads(l) for l in open("a.jsonl")]
m = json.load(open("a.jsonl.manifest.json"))
texts = [r["messages"][0]["content"] for r in rows]
assert len(set(texts)) == 20, texts
assert all([x["role"] for x in r["messages"]] == ["user", "assistant"] and r["task"] == "instruct" and r["model"] == "rule-model" for r in rows)
assert sum("capital of France" in t for t in texts) == 1
assert m["rows"] == 20 and m["format"] == "fathom-data" and m["result"]["prompt_tokens"] > 0
r = m["result"]["reasons"]
assert r["instruction too short"] > 0 and r["the same row again"] > 0, r
# ROUGE-L by its definition
def tok(t):
    return "".join(c if c.isalnum() else " " for c in t.lower()).split()
def f(a, b):
    t = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            t[i + 1][j + 1] = t[i][j] + 1 if x == y else max(t[i][j + 1], t[i + 1][j])
    return 2 * t[-1][-1] / (len(a) + len(b))
first = [tok(t.split("\n")[0]) for t in texts]
assert max(f(a, b) for i, a in enumerate(first) for b in first[:i]) < 0.7
assert r.get("too much like an earlier one", 0) > 0, r
P
[ "$(grep -c 'Seed task' log)" -gt 5 ] || die "no examples in the prompts"
[ "$(grep -o '"busy": [0-9]*' log | sort -t' ' -k2 -n | tail -n 1 | cut -d' ' -f2)" -gt 2 ] || die "one request at a time"

# questions about documents; overloaded once, one refused
synth 0 qa -i docs.jsonl -o qa.jsonl --price-in 1 --price-out 2 --json
has out '"refused by the server": 1'
has out '"missing column": 1'
has out '"answer without a question in JSON": 1'
has err "context length exceeded"
has err "trying again"
[ "$(wc -l < qa.jsonl)" = 56 ] || die "not 56 rows"
grep -q '"origin":"docs.jsonl:8"' qa.jsonl || die "the row that was tried again is missing"
python3 -c "import json; m=json.load(open('qa.jsonl.manifest.json'))['result']; assert abs(m['cost']-(m['prompt_tokens']+2*m['completion_tokens'])/1e6)<1e-9" || die "cost"
run 1 "$fathom" data synth --task qa --endpoint "$url" -i docs.jsonl -o qa.jsonl
has err "exists"

# conversations
synth 0 dialogue -i docs.jsonl -o talks.jsonl --turns 2
[ "$(wc -l < talks.jsonl)" = 28 ] || die "not 28 conversations"
has talks.jsonl '{"role":"assistant","content":"Gladly."}'

# there and back
synth 0 back-translate -i docs.jsonl -o back.jsonl --via German
python3 - <<'P'
import json
rows = [json.loads(l) for l in open("back.jsonl")]
copies = [r for r in rows if "task" in r]
assert len(rows) == 59 and len(copies) == 29, (len(rows), len(copies))
assert all(r["text"].startswith("B:Document") and r["label"] == int(r["text"][10:].split(".")[0]) for r in copies)
P

# interrupted by a fault: answers are kept, and asked for once
sed 's/Document 20/BROKEN 20/' docs.jsonl > broken.jsonl
synth 1 qa -i broken.jsonl -o q.jsonl --retries 1 --concurrency 1
has err "out of order"
[ -s q.jsonl.journal.jsonl ] || die "no journal"
[ ! -e q.jsonl ] || die "half an output"
kept=$(grep -c . q.jsonl.journal.jsonl)
printf '{"key":"00' >> q.jsonl.journal.jsonl
: > mended
before=$(wc -l < log)
synth 0 qa -i broken.jsonl -o q.jsonl
has out "$kept answers of an earlier run"
[ $(($(wc -l < log) - before)) -eq $((30 - kept)) ] || die "answers were asked for again"
synth 0 qa -i broken.jsonl -o q2.jsonl
same q.jsonl q2.jsonl
# the cost
synth 1 qa -i docs.jsonl -o q3.jsonl --price-in 1000 --max-cost 0.1
has err "max_cost"

# keys
OPENAI_API_KEY=secret synth 0 qa -i docs.jsonl -o k.jsonl -n 2 --model other
[ "$(wc -l < k.jsonl)" = 2 ] || die "not two rows"
grep -q '"auth": "Bearer secret", "model": "other"' log || die "no key or model in the request"
echo KEYS > keys.txt
synth 1 qa -i keys.txt -o k2.jsonl
has err "OPENAI_API_KEY"
OPENAI_API_KEY=secret run 2 "$fathom" data synth --task qa -i docs.jsonl -o k3.jsonl --endpoint http://192.0.2.1/v1
has err "without encryption"

# what cannot work
synth 2 qa -o x.jsonl
synth 2 instruct -o x.jsonl
synth 2 qa -i docs.jsonl -o x.csv
synth 2 poem -i docs.jsonl -o x.jsonl
run 2 "$fathom" data synth --task qa -i docs.jsonl -o x.jsonl
run 1 "$fathom" data synth --task qa -i docs.jsonl -o x.jsonl --endpoint http://127.0.0.1:1/v1 --retries 0
has err "is the server running"
run 1 "$fathom" data synth --task qa -i docs.jsonl -o x.jsonl --endpoint "${url%/v1}" --retries 0
has err "no such route"

# a model of this machine: directly, and behind fathom serve. An untrained one writes no JSON, but translates somehow.
gzip -dc "$top/recipes/data/state_of_the_union.train.jsonl.gz" | head -n 2 > corpus.jsonl
run 0 "$fathom" tokenizer train -i corpus.jsonl -o tok --vocab-size 600
run 0 "$fathom" train params=200k vocab_size=600 dataset=corpus.jsonl tokenizer=tok cutoff_len=128 \
    per_device_train_batch_size=4 max_steps=3 train_from_scratch=true measure_mfu=false output_dir=one
head -n 4 docs.jsonl > few.jsonl
run 0 "$fathom" data synth --task back-translate -i few.jsonl -o local.jsonl --local-model one --max-tokens 12 --temperature 0
has out "8 requests"
"$fathom" serve one --port 0 --alias tiny > served.out 2> served &
pid=$!
trap 'kill "$pid" 2> /dev/null || true; rm -rf "$tmp"' EXIT
i=0
until grep -q 'is served at' served; do
    if grep -q -e 'no HTTP server' -e libmicrohttpd12 served; then
        finish
        exit 0
    fi
    i=$((i + 1))
    [ $i -lt 600 ] || die "the server did not start"
    sleep 0.1
done
url=$(sed -n 's/.*served at \(http[^ ]*\)$/\1/p' served)
synth 0 back-translate -i few.jsonl -o served.jsonl --max-tokens 12 --temperature 0
has out "8 requests"
sed 's/"model":"tiny"/"model":"one"/' served.jsonl > s.jsonl
same s.jsonl local.jsonl
kill -TERM "$pid"
wait "$pid" || true
finish
