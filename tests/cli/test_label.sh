#!/bin/sh
# fathom data label: import from an export file and from the API, the guide, agreement, review, release, predictions, and
# the ML backend.
set -eu
. "$2/tests/cli/lib.sh"
command -v python3 > /dev/null || { echo "SKIP: no python3"; exit 77; }
cd "$tmp"
unset LABEL_STUDIO_API_KEY OPENAI_API_KEY http_proxy https_proxy all_proxy HTTP_PROXY ALL_PROXY || true
label() { # RC ACTION ARGS...
    rc_=$1
    shift
    run "$rc_" "$fathom" data label "$@"
}
cat > guide.yaml << 'Y'
version: 2
kind: classification
labels:
  - {name: positive, definition: the writer is content, examples: [I love it]}
  - {name: negative, definition: the writer is not, examples: [it broke]}
Y
python3 - <<'P'
import json
def choice(v, name="sentiment"):
    return {"type": "choices", "from_name": name, "to_name": "text", "value": {"choices": v if isinstance(v, list) else [v]}}
def note(id, by, *result, **more):
    return {"id": id, "completed_by": by, "result": list(result), "was_cancelled": False, "updated_at": "2024-05-01T10:00:00Z", **more}
said = {1: "ppn", 2: "ppp", 3: "nnn", 4: "pnn", 5: "nnp", 6: "ppp", 7: "nnn", 8: "npp"}
names = {"p": "positive", "n": "negative"}
tasks = []
for i, s in said.items():
    tasks.append({"id": i, "data": {"text": f"text {i}", "n": i}, "annotations":
                  [note(10 * i + k, {"email": who + "@x.org", "id": k}, choice(names[c])) for k, (who, c) in enumerate(zip(("ann", "bob", "eve"), s))]})
json.dump(tasks, open("export.json", "w"))
json.dump([
    {"id": 1, "data": {"text": "a \U0001F600 Ann in Oslo"}, "annotations": [note(1, 5,
        {"type": "labels", "value": {"start": 12, "end": 16, "text": "Oslo", "labels": ["LOC"]}},
        {"type": "labels", "value": {"start": 5, "end": 8, "text": "Ann", "labels": ["PER"]}}, {"type": "relation"})]},
    {"id": 2, "data": {"text": "nothing here"}, "annotations": [note(2, 5)]},
    {"id": 3, "data": {"text": "short"}, "annotations": [note(3, 5, {"type": "labels", "value": {"start": 2, "end": 99, "text": "x", "labels": ["PER"]}})]},
    {"id": 4, "data": {"question": "why?", "context": "because", "left": "A", "right": "B"}, "annotations": [
        note(4, 5, {"type": "textarea", "value": {"text": ["so"]}}, {"type": "rating", "value": {"rating": 4}}),
        note(5, 5, {"type": "pairwise", "value": {"selected": "right"}}, ground_truth=True),
        note(6, 5, choice(["x", "y"]), choice("z", "second")),
        note(7, 5, choice("x"), was_cancelled=True), note(8, 5, {"type": "brushlabels", "value": {}})]},
    {"id": 5, "data": {"text": "t"}, "annotations": []},
    {"id": 6, "text": "flat"},
], open("kinds.json", "w"))
P

# every kind of annotation; places in characters, not in UTF-16 units
label 0 import -i kinds.json -o kinds.jsonl --rejects bad.jsonl
python3 - <<'P'
import json
rows = {r["annotation_id"]: r for r in map(json.loads, open("kinds.jsonl"))}
bad = [json.loads(l) for l in open("bad.jsonl")]
assert sorted(rows) == [1, 4, 5, 6], rows
t = rows[1]["text"]
assert [(t[e["start"]:e["end"]], e["label"], e["text"]) for e in rows[1]["entities"]] == [("Ann", "PER", "Ann"), ("Oslo", "LOC", "Oslo")]
assert rows[4]["answer"] == "so" and rows[4]["score"] == 4 and rows[4]["annotator"] == 5 and rows[4]["task_id"] == 4
assert (rows[5]["chosen"], rows[5]["rejected"], rows[5]["ground_truth"]) == ("B", "A", True)
assert rows[6]["labels"] == ["x", "y"] and rows[6]["second"] == "z"
reasons = sorted(b["reason"].split(" (")[0] for b in bad)
assert reasons == ["annotation without a result", "kind of annotation that is not read", "no task with data and annotations", "span that is not in the text"], reasons
m = json.load(open("kinds.jsonl.manifest.json"))
assert m["counts"]["skipped by the annotator"] == 1 and m["counts"]["without an annotation"] == 1 and m["refused"] == 4 and m["rows"] == 4
P

# JSON-MIN gives the same rows, also as objects one after the other
python3 - <<'P'
import json
def small(t, a):
    out = dict(t["data"], id=t["id"], annotator=a["completed_by"], annotation_id=a["id"], lead_time=1.5)
    if "updated_at" in a: out["updated_at"] = a["updated_at"]
    by = {}
    for x in a["result"]:
        if x["type"] != "relation":
            by.setdefault(x.get("from_name", x["type"]), []).append((x["type"], x.get("value", {})))
    for name, items in by.items():
        v = [x["choices"][0] if k == "choices" and len(x["choices"]) == 1 else x["text"][0] if k == "textarea" and len(x["text"]) == 1 else x for k, x in items]
        out[name] = v[0] if items[-1][0] in ("choices", "textarea") and len(v) == 1 else v
    return out
for name in ("export", "kinds"):
    tasks = [t for t in json.load(open(name + ".json")) if t.get("annotations")]
    rows = [small(t, a) for t in tasks for a in t["annotations"] if not a["was_cancelled"] and not any(r["type"] == "brushlabels" for r in a["result"])]
    json.dump(rows, open(name + "_min.json", "w"), indent=1)
    open(name + "_lines.json", "w").write("".join(json.dumps(r) + "\n" for r in rows))
P
label 0 import -i export.json -o full.jsonl
for form in min lines; do
    label 0 import -i export_$form.json -o small.jsonl --from-name sentiment --overwrite
    same full.jsonl small.jsonl
    label 0 import -i export_$form.json -o small.jsonl --guide guide.yaml --overwrite
    same full.jsonl small.jsonl
done
label 3 import -i export_min.json -o small.jsonl --from-name mood --overwrite --rejects small_bad.jsonl
same full.jsonl small.jsonl # nothing was taken: what is there stays
has small_bad.jsonl "annotation without a result"
has err "24 annotations or tasks were not taken"
label 0 import -i kinds_min.json -o small.jsonl --from-name textarea --overwrite --rejects small_bad2.jsonl
python3 - <<'P'
import json
rows = {r["annotation_id"]: r for r in map(json.loads, open("small.jsonl"))}
full = {r["annotation_id"]: r for r in map(json.loads, open("kinds.jsonl"))}
assert rows[1]["entities"] == full[1]["entities"]
assert rows[5]["chosen"] == "B" and rows[6]["labels"] == ["x", "y"] and rows[4]["score"] == 4, rows
P

# the guide: names, definitions, examples; versions
label 0 import -i export.json -o rows.jsonl --guide guide.yaml
[ "$(wc -l < rows.jsonl)" = 24 ] || die "not 24 rows"
has rows.jsonl.manifest.json '"version": 2'
sed 's/negative/poor/' guide.yaml > poor.yaml
label 2 import -i export.json -o rows.jsonl --guide poor.yaml --overwrite
has err "higher version"
sed 's/version: 2/version: 3/' poor.yaml > three.yaml
label 0 import -i export.json -o other.jsonl --guide three.yaml --rejects refused.jsonl
[ "$(grep -c 'not in the guide' refused.jsonl)" = 12 ] || die "labels that are not in the guide"
[ "$(wc -l < other.jsonl)" = 12 ] || die "not 12 rows"
for bad in 's/version: 2/version: two/' 's/kind: class/kind: klass/' 's/, definition: the writer is content//' 's/, examples: \[it broke\]//' 's/negative/positive/' 's/labels:/lables:/'; do
    sed "$bad" guide.yaml > bad.yaml
    label 2 import -i export.json -o x.jsonl --guide bad.yaml
    has err "bad.yaml"
done
printf 'version: 1\nkind: classification\nlabels:\n  - {name: blue, definition: a colour, examples: [sky]}\n' > blue.yaml
label 3 import -i export.json -o none.jsonl --guide blue.yaml --rejects none_bad.jsonl
has err "none of"
has err "none_bad.jsonl has the reasons"
[ -s none_bad.jsonl ] || die "no reasons were kept"
[ ! -e none.jsonl ] || die "a file without rows was written"
label 0 import -i export.json -o some.jsonl --ids 2-4
[ "$(wc -l < some.jsonl)" = 9 ] || die "a range of ids"
label 0 import -i export.json -o some.jsonl --tasks 1,8 --overwrite
[ "$(wc -l < some.jsonl)" = 6 ] || die "a list of ids"
label 2 import -i export.json -o x.jsonl --ids 4-2
label 2 import -o x.jsonl
label 2 impart -i export.json
has err "import"

# agreement
label 0 agree -i rows.jsonl
python3 - <<'P'
import json
r = json.load(open("out"))
assert r["annotations"] == 24 and len(r["pairs"]) == 3 and r["fleiss"]["tasks"] == 8 and r["fleiss"]["annotators_per_task"] == 3
p = {(x["a"][0], x["b"][0]): x for x in r["pairs"]}
assert p["a", "b"]["agreement"] == 6 / 8 and abs(p["a", "b"]["kappa"] - 0.5) < 1e-12, p
n = [sum(c == "p" for c in s) for s in ("ppn", "ppp", "nnn", "pnn", "nnp", "ppp", "nnn", "npp")]
seen = sum(k * (k - 1) + (3 - k) * (2 - k) for k in n) / 6 / 8
chance = (sum(n) / 24) ** 2 + (1 - sum(n) / 24) ** 2
assert abs(r["fleiss"]["kappa"] - (seen - chance) / (1 - chance)) < 1e-12, r["fleiss"]
P

# review: own check, then the lead, then the expert's sample
verdicts() { # OUT WHO VERDICT-PYTHON
    python3 -c "
import json,sys
for l in open('rows.jsonl'):
    r=json.loads(l)
    v=(lambda r: $3)(r)
    if v: print(json.dumps({'task_id':r['task_id'],'annotation_id':r['annotation_id'],**(v if isinstance(v,dict) else {'verdict':v})}))" > "$1"
}
verdicts lead.jsonl eve "'accept'"
label 0 review -i rows.jsonl --log log.jsonl --level lead --reviewer lea --verdicts lead.jsonl
has out '"the level before was not passed": 24'
has out '"taken": 0'
for who in ann bob eve; do
    verdicts own.jsonl x "'accept' if r['annotator'].startswith('$who') else None"
    label 0 review -i rows.jsonl --log log.jsonl --level own --reviewer $who@x.org --verdicts own.jsonl
    has out '"taken": 8'
done
verdicts own.jsonl x "'accept' if r['annotator'].startswith('ann') else None"
label 0 review -i rows.jsonl --log log.jsonl --level own --reviewer bob@x.org --verdicts own.jsonl
has out "own check is the annotator's"
label 0 release -i rows.jsonl --log log.jsonl --require lead -o nothing.jsonl
[ "$(wc -l < nothing.jsonl)" = 0 ] || die "rows without a lead's check were released"
verdicts lead.jsonl x "{'verdict':'fixed','label':'positive'} if r['annotation_id']==70 else 'reject' if r['annotation_id'] in (80,) else 'accept'"
label 0 review -i rows.jsonl --log log.jsonl --level lead --reviewer lea --verdicts lead.jsonl -o wait.jsonl
[ "$(wc -l < wait.jsonl)" = 0 ] || die "rows still wait for the lead"
python3 - <<'P'
import json
r = {a["name"][:3]: a for a in json.load(open("out"))["annotators"]}
assert r["ann"]["lead"] == {"judged": 8, "accepted": 6, "rejected": 1, "fixed": 1, "error_rate": 0.25}, r["ann"]
assert r["bob"]["lead"]["error_rate"] == 0
P
printf '{"task_id":99,"annotation_id":1,"verdict":"accept"}\n{"task_id":1,"annotation_id":10,"verdict":"perhaps"}\n{"task_id":1,"annotation_id":10,"verdict":"fixed"}\n' > wrong.jsonl
label 0 review -i rows.jsonl --log log.jsonl --level lead --reviewer lea --verdicts wrong.jsonl
has err "no such row"
has err "not accept, reject or fixed"
has err "fixed without the label"
label 0 release -i rows.jsonl --log log.jsonl --require lead -o lead_rows.jsonl --rejects held.jsonl
python3 - <<'P'
import json
rows = {r["task_id"]: r for r in map(json.loads, open("lead_rows.jsonl"))}
held = [json.loads(l) for l in open("held.jsonl")]
# 7: one fixed to positive, two negative; 8: one rejected, two positive
assert {k: v["label"][0] for k, v in rows.items()} == {1: "p", 2: "p", 3: "n", 4: "n", 5: "n", 6: "p", 7: "n", 8: "p"}, rows
assert all(r["review"] == "lead" for r in rows.values()) and len(held) == 16
assert sorted({h["reason"] for h in held}) == ["outvoted", "rejected in review", "the same as a released annotation"]
P
label 0 review -i rows.jsonl --log log.jsonl --level expert -o sample.jsonl --sample 0.5
n=$(wc -l < sample.jsonl)
if [ "$n" -lt 4 ] || [ "$n" -gt 20 ]; then die "a sample of $n rows"; fi
label 0 release -i rows.jsonl --log log.jsonl --require expert --sample 0.5 -o early.jsonl --rejects early_held.jsonl
has early_held.jsonl "has not seen the whole sample"
[ "$(wc -l < early.jsonl)" = 0 ] || die "rows were released before the expert"
python3 -c "
import json
for i,l in enumerate(open('sample.jsonl')):
    r=json.loads(l)
    print(json.dumps({'task_id':r['task_id'],'annotation_id':r['annotation_id'],'verdict':'reject' if r['annotator'].startswith('bob') else 'accept'}))" > expert.jsonl
label 0 review -i rows.jsonl --log log.jsonl --level expert --reviewer max --verdicts expert.jsonl --sample 0.5
label 0 release -i rows.jsonl --log log.jsonl --require expert --sample 0.5 -o final.jsonl --rejects final_held.jsonl
has final_held.jsonl "above max_error"
if grep -q bob@ final.jsonl; then die "rows of an annotator with too many errors"; fi
[ "$(wc -l < final.jsonl)" -gt 3 ] || die "too few rows were released"

# what to label next
printf '{"id":1,"scores":{"a":0.9,"b":0.1}}\n{"id":2,"scores":[0.5,0.5]}\n{"id":3,"scores":{"a":0.4,"b":0.35,"c":0.25}}\n{"id":4,"scores":[0.6,0.4]}\n{"id":5,"scores":"x"}\n{"id":6}\n' > scored.jsonl
for by in confidence:23 margin:23 entropy:23; do
    run 0 "$fathom" data select -i scored.jsonl -o next.jsonl --rows 2 --by "${by%:*}" --overwrite
    [ "$(sed 's/.*"id":\([0-9]\).*/\1/' next.jsonl | tr -d '\n')" = "${by#*:}" ] || die "by ${by%:*}: $(cat next.jsonl)"
done
grep -q '"id":2,"scores":\[0.5,0.5\],"uncertainty":1' next.jsonl || die "entropy"

# a server
mkfifo stay
python3 "$top/tests/cli/label_studio_server.py" port pushed export.json < stay 2> server.err &
exec 9> stay
mkfifo stay2
python3 "$top/tests/cli/openai_server.py" port2 asked < stay2 2> server2.err &
exec 8> stay2
i=0
while [ ! -f port ] || [ ! -f port2 ]; do
    i=$((i + 1))
    [ $i -lt 100 ] || die "the test servers did not start"
    sleep 0.1
done
url="http://127.0.0.1:$(cat port)"
label 1 import --url "$url" --project 3 -o api.jsonl --retries 0
if grep -q "built without libcurl" err; then finish; exit 0; fi
has err "LABEL_STUDIO_API_KEY"
LABEL_STUDIO_API_KEY=legacy
export LABEL_STUDIO_API_KEY
label 0 import --url "$url/" --project 3 -o api.jsonl --guide guide.yaml
same api.jsonl rows.jsonl
LABEL_STUDIO_API_KEY=a.b.c label 0 import --url "$url" --tasks 2,8,77 -o api2.jsonl
[ "$(wc -l < api2.jsonl)" = 6 ] || die "tasks by id"
has out '"ids without a task": 1'
label 0 import --url "$url" --ids 7-9 -o api3.jsonl
[ "$(wc -l < api3.jsonl)" = 6 ] || die "tasks by range"
label 1 import --url "$url" --project 4 -o x.jsonl
has err "Not found"
printf '{"task_id":1,"label":"positive","score":0.8}\n{"task_id":2,"text":"\360\237\230\200 Ann","entities":[{"start":2,"end":5,"label":"PER"}]}\n{"task_id":99,"label":"positive"}\n{"task_id":3}\n' > predicted.jsonl
label 0 push --url "$url" -i predicted.jsonl --from-name sentiment
has out '"pushed": 2'
has out '"refused_by_the_server": 1'
has out '"without_label": 1'
has pushed '"score": 0.8'
has pushed '"value": {"start": 3, "end": 6, "text": "Ann", "labels": ["PER"]}'

# the ML backend
cat > entities.yaml << 'Y'
version: 1
kind: entities
labels:
  - {name: PER, definition: a person, examples: [Ann Lee]}
  - {name: LOC, definition: a place, examples: [Oslo]}
Y
cat > ask.py << 'P'
import json, sys, urllib.error, urllib.request
def call(path, body=None, want=200):
    r = urllib.request.Request(sys.argv[1] + path, None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode())
    try:
        a = urllib.request.urlopen(r, timeout=20)
        code, text = a.status, a.read()
    except urllib.error.HTTPError as e:
        code, text = e.code, e.read()
    assert code == want, (path, code, text)
    return json.loads(text)
assert call("/health")["status"] == "UP"
assert call("/setup", {"project": "1.1", "schema": "<View/>"})["model_version"] == "v7"
call("/webhook", {"action": "ANNOTATION_CREATED", "annotation": {"id": 4}}, 201)
call("/predict", b"{", 400)
call("/predict", {"x": 1}, 400)
call("/none", want=404)
if sys.argv[2] == "choices":
    r = call("/predict", {"tasks": [{"id": 1, "data": {"text": "so good"}}, {"id": 2, "data": {"text": "bad"}}, {"id": 3, "data": {}}]})["results"]
    assert [x["result"][0]["value"]["choices"] if x["result"] else None for x in r] == [["positive"], ["negative"], None], r
    assert r[0]["model_version"] == "v7" and r[0]["result"][0]["from_name"] == "sentiment"
    call("/predict", {"tasks": [{"id": 1, "data": {"text": "KEYS"}}]}, 502)
elif sys.argv[2].startswith("trained:"):
    # scores and labels are those of `fathom logits` for the tokens of the text
    want = json.load(open(sys.argv[2][8:]))
    r = call("/predict", {"tasks": [{"id": 1, "data": {"text": "the cat sat"}}, {"id": 2, "data": {}}, {"id": 3, "data": {"text": ""}}]})["results"]
    v = [x["value"] for x in r[0]["result"]]
    got = [x.get("choices") or [x["start"], x["end"], x["text"], x["labels"]] for x in v]
    assert got == want["said"] and abs(r[0]["score"] - want["score"]) < 1e-5, (r, want)
    assert r[1]["result"] == [], r
else:
    r = call("/predict", {"tasks": [{"id": 1, "data": {"text": "\U0001F600 Ann met Ann in Oslo"}}]})["results"][0]["result"]
    # places in UTF-16 units; the model names Ann, Oslo, Ann, in this order, and what is not in the text
    assert sorted((x["value"]["start"], x["value"]["end"], x["value"]["labels"][0]) for x in r) == \
        [(3, 6, "PER"), (11, 14, "PER"), (18, 22, "LOC")], r
P
serve() { # GUIDE KIND [OPTIONS...]; without options the model behind the endpoint
    : > served
    guide=$1 kind=$2
    shift 2
    [ $# -gt 0 ] || set -- --endpoint "http://127.0.0.1:$(cat port2)/v1"
    [ -z "$guide" ] || set -- --guide "$guide" "$@"
    "$fathom" data label serve "$@" --port 0 --log events.jsonl \
        --model-version v7 --from-name sentiment --retries 0 > served.out 2> served &
    pid=$!
    trap 'kill "$pid" 2> /dev/null || true; rm -rf "$tmp"' EXIT
    i=0
    until grep -q 'are served at' served; do
        if grep -q -e 'no HTTP server' -e libmicrohttpd12 served; then finish; exit 0; fi
        kill -0 "$pid" 2> /dev/null || { cat served >&2; die "the backend did not start"; }
        i=$((i + 1))
        [ $i -lt 100 ] || die "the backend did not start"
        sleep 0.1
    done
    python3 ask.py "$(sed -n 's/.*served at \(http[^ ]*\)$/\1/p' served)" "$kind" || die "the backend's answers"
    kill -INT "$pid"
    rc=0
    wait "$pid" || rc=$?
    n_checks=$((n_checks + 1))
}
serve guide.yaml choices
serve entities.yaml entities
[ "$(grep -c ANNOTATION_CREATED events.jsonl)" = 2 ] || die "events"

# models that were trained to label: one label, several, tags of words
. "$top/tests/cli/serve_lib.sh"
for m in bert_cls bert_multi bert_tag; do
    cp -r "$top/tests/golden/data/heads/$m" "$m"
    words "$m"
    sed -i 's/"LABEL_0"/"I-PER"/; s/"LABEL_1"/"B-PER"/; s/"LABEL_2"/"O"/; s/"LABEL_3"/"B-LOC"/; s/"LABEL_4"/"I-LOC"/' "$m/config.json"
    printf '{"ids":[2,5,7,9,3]}\n' > ids.jsonl
    stdin=ids.jsonl run 0 "$fathom" logits "$m" --head main
    cp out "$m.scores"
done
python3 - <<'P'
import json, math
names = ["I-PER", "B-PER", "O", "B-LOC", "I-LOC"]
def rows(m):
    d = json.loads(open(m + ".scores").readline())
    d = d.get("scores", d.get("logits")) if isinstance(d, dict) else d
    return d if isinstance(d[0], list) else [d]
def soft(y):
    e = [math.exp(v - max(y)) for v in y]
    return [v / sum(e) for v in e]
p = soft(rows("bert_cls")[0])
json.dump({"said": [[names[p.index(max(p))]]], "score": max(p)}, open("bert_cls.want", "w"))
p = [1 / (1 + math.exp(-v)) for v in rows("bert_multi")[0]]
on = [names[i] for i, v in enumerate(p) if v >= .5]
json.dump({"said": [on] if on else [], "score": min(max(v, 1 - v) for v in p)}, open("bert_multi.want", "w"))
p = [soft(y) for y in rows("bert_tag")[1:4]]
tags = [names[y.index(max(y))] for y in p]
at, text, said, last = [(0, 3), (4, 7), (8, 11)], "the cat sat", [], "O"
for (a, b), t in zip(at, tags):
    if t != "O" and (t[0] == "B" or last[2:] != t[2:]):
        said.append([a, b, text[a:b], [t[2:]]])
    elif t != "O":
        said[-1][1:3] = [b, text[said[-1][0]:b]]
    last = t
json.dump({"said": said, "score": min(map(max, p))}, open("bert_tag.want", "w"))
assert said, tags
P
for m in bert_cls bert_multi bert_tag; do
    serve "" "trained:$m.want" --local-model "$m"
done
label 2 serve --guide guide.yaml --local-model bert_cls --port 0
has err "none of the"
label 2 serve --guide guide.yaml --local-model bert_tag --port 0
has err "another kind"
cp -r "$top/tests/golden/data/heads/bert_reg" bert_reg
words bert_reg
label 2 serve --local-model bert_reg --port 0
has err "expected one for labels"
printf '{"task_id":1,"text":"the cat sat"}\n{"task_id":2,"text":"not good","label":"positive"}\n{"task_id":3}\n' > wait.jsonl
label 0 push --url "$url" -i wait.jsonl --local-model bert_cls
has out '"labelled_by_the_model": 1'
has out '"pushed": 2'
has out '"without_label": 1'
# a text longer than the context is tagged to its end
python3 - <<'P'
import json
print(json.dumps({"task_id": 1, "text": "the cat sat on mat . " * 40}), file=open("long.jsonl", "w"))
P
label 0 push --url "$url" -i long.jsonl --local-model bert_tag
tail -n 1 pushed > long.pushed
python3 - <<'P'
line = open("long.pushed").read()
import re
assert max(map(int, re.findall(r'"end": (\d+)', line))) > 700, line[-300:]
P
finish
