#!/bin/sh
# Encoders and classifiers as a service: predict, embeddings, rerank; many at once; what they refuse.
set -eu
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/serve_lib.sh"
for m in bert_cls bert_multi bert_reg bert_tag bert; do
    cp -r "$top/tests/golden/data/heads/$m" "$m"
    words "$m"
done
# value KEY: the number behind it in out
value() { sed -n "s/.*\"$1\":\([-0-9.e]*\).*/\1/p" out | head -n 1; }

model=bert_cls
start --access-log
ask 200 '/predict?text=the%20cat%20sat' ''
has out '"label":"LABEL_'
cp out query
ask 200 /predict '{"text":"the cat sat"}'
same out query
# Probabilities of the three labels; the prediction is the largest.
sed 's/.*"scores":\[\([^]]*\)\].*/\1/' out | awk -F, -v p="$(value prediction)" '
    { best = 1; for (i = 1; i <= NF; i++) { s += $i; if ($i > $best) best = i } }
    END { exit !(NF == 3 && s > 0.999999 && s < 1.000001 && best - 1 == p) }' || die "scores: $(cat out)"
ask 200 /predict '{"text":["the cat sat","not good","a very bad film !"]}'
has out '{"predictions":[{"prediction":'
[ "$(grep -o '"label"' out | wc -l)" = 3 ] || die "three texts, three labels"
[ "$(cut -c 17- out | cut -d '}' -f 1)}" = "$(cat query)" ] || die "a text alone and among others differ"
# The scores are those of the program.
printf '{"ids":[2,5,7,9,3]}\n' > ids.jsonl
stdin=ids.jsonl run 0 "$fathom" logits bert_cls --head main
sed 's/.*\[\[*\([^]]*\)\].*/\1/' out > logits
sed 's/.*"scores":\[\([^]]*\)\].*/\1/' query | cat logits - | awk -F, '
    NR == 1 { for (i = 1; i <= 3; i++) { e[i] = exp($i); s += e[i] } }
    NR == 2 { for (i = 1; i <= 3; i++) { d = $i - e[i] / s; if (d * d > 1e-10) exit 1 } }' || die "other scores than $(cat logits)"
ask 200 /predict '{"text":[2,5,7,9,3]}'
same out query
ask 200 /predict '{"text":"good","text_pair":"bad"}'
cp out pair
ask 200 /predict '{"text":"good bad"}'
! cmp -s out pair || die "a pair is not one text"
ask 400 /predict '{}'
has out 'text: expected'
ask 400 /predict '{"text":""'
ask 400 /predict '{"text":[]}'
ask 400 /predict '{"text":"good","head":"nothing"}'
has out 'nothing'
ask 400 /predict '{"text":"good","text_pair":["a"]}'
ask 400 '/predict?text=%ff' ''
ask 400 /predict "{\"text\":\"$(printf 'cat %.0s' $(seq 31))\"}"
has out 'the context is'
ask 400 /v1/completions '{"prompt":"the"}'
has out 'generates no text'
# 40 requests at once: each gets its own answer.
i=0
urls=""
while [ $i -lt 40 ]; do
    case $((i % 2)) in 0) t=the%20cat%20sat ;; *) t=not%20good ;; esac
    urls="$urls -o many$i $url/predict?text=$t"
    i=$((i + 1))
done
ask 200 /predict '{"text":"not good"}'
cp out other
# shellcheck disable=SC2086
curl -sS -m 60 -Z -X POST $urls 2> /dev/null || die "40 requests at once"
i=0
while [ $i -lt 40 ]; do
    case $((i % 2)) in 0) same many$i query ;; *) same many$i other ;; esac
    i=$((i + 1))
done
ask 200 /metrics
has out 'fathom:text_batches_total'
[ "$(sed -n 's/^fathom:texts_total.* //p' out)" = 49 ] || die "texts_total: $(grep ^fathom:texts_total out)"
has out 'vllm:request_success_total{engine="0",model_name="bert_cls",finished_reason="stop"} '
stop

model=bert_multi
start
ask 200 /predict '{"text":"the cat"}'
has out '"labels":['
stop
model=bert_reg
start
ask 200 /predict '{"text":"the cat"}'
has out '{"prediction":'
hasnt out label
stop
model=bert_tag
start
ask 200 /predict '{"text":"the cat"}'
has out '"tokens":["[CLS]","the","cat","[SEP]"]'
stop

model=bert
start
ask 200 /v1/embeddings '{"input":["the cat","a dog"]}'
has out '"index":1'
ask 400 /predict '{"text":"the cat"}'
has out embeddings
# A text is nearest to itself.
ask 200 /rerank '{"query":"the cat sat","documents":["not good","the cat sat",{"text":"a very bad film"}],"return_documents":true}'
grep -q '"results":\[{"index":1,"relevance_score":\(1\|0.99999[0-9]*\),"document":{"text":"the cat sat"}}' out || die "rerank: $(cat out)"
ask 200 /rerank '{"query":"the cat sat","texts":["not good","the cat sat"]}'
has out '[{"index":1,"score":'
ask 200 /v1/rerank '{"query":"the cat","documents":["a","b","c"],"top_n":2}'
[ "$(grep -o relevance_score out | wc -l)" = 2 ] || die "top_n"
for bad in '{"documents":["a"]}' '{"query":"a"}' '{"query":"a","documents":[]}' '{"query":"a","documents":[1]}' \
    '{"query":"a","documents":["a"],"top_n":0}'; do
    ask 400 /rerank "$bad"
done
stop
# One score for a text: query and document are read together.
model=bert_reg
start
ask 200 /rerank '{"query":"the cat","documents":["a dog","not good"],"raw_scores":true}'
has out relevance_score
stop
finish
