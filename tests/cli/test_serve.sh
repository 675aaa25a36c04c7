#!/bin/sh
# The server as curl sees it: routes, streams, errors, keys, limits, end.
set -eu
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/serve_lib.sh"
gzip -dc "$top/recipes/data/state_of_the_union.train.jsonl.gz" | head -n 2 > corpus.jsonl
run 0 "$fathom" tokenizer train -i corpus.jsonl -o tok --vocab-size 600
run 0 "$fathom" train params=200k vocab_size=600 dataset=corpus.jsonl tokenizer=tok cutoff_len=128 \
    per_device_train_batch_size=4 max_steps=3 train_from_scratch=true measure_mfu=false output_dir=one

start --alias tiny --ctx-size 256 --max-body 64KiB --access-log
ask 200 /health
has out '"ok"'
ask 200 /ready
ask 200 /v1/models
has out '"id":"tiny"'
ask 200 /v1/models/tiny
ask 404 /v1/models/other
ask 200 /v1/completions '{"prompt":"We the people","max_tokens":8,"temperature":0}'
has out '"finish_reason":"length"'
has out '"completion_tokens":8'
sed 's/.*"text":"\([^"]*\)".*/\1/p;d' out > text1; echo >> text1
ask 200 /v1/completions '{"prompt":"We the people","max_tokens":8,"temperature":0,"stream":true}'
has out 'data: [DONE]'
has headers 'text/event-stream'
grep '^data: {' out | sed 's/.*"text":"\([^"]*\)".*/\1/' | tr -d '\n' > text2
echo >> text2
same text1 text2
ask 200 /v1/chat/completions '{"messages":[{"role":"user","content":"Hello"}],"max_tokens":4,"logprobs":true,"top_logprobs":2}'
has out '"role":"assistant"'
has out '"top_logprobs":[{'
ask 200 /tokenize '{"prompt":"Hello world"}'
sed 's/.*"tokens":\(\[[^]]*\]\).*/{"tokens":\1}/' out > ids.json
ask 200 /detokenize "$(cat ids.json)"
has out '"Hello world"'
ask 200 /v1/embeddings '{"input":["a","b"]}'
has out '"index":1'
ask 200 /generate '{"prompt":"We","max_length":4}'
has out '{"response":"'
# What an answer must look like: it follows the grammar, and a grammar that cannot be followed is refused.
ask 200 /v1/completions '{"prompt":"We","max_tokens":40,"guided_regex":"[0-9]{3}-[a-c]{2}","ignore_eos":true}'
sed 's/.*"text":"\([^"]*\)".*/\1/p;d' out | grep -Eqx '[0-9]{3}-[a-c]{2}' || die "the regular expression is not followed"
has out '"finish_reason":"stop"'
ask 200 /v1/completions '{"prompt":"We","max_tokens":40,"guided_choice":["left","right"]}'
sed 's/.*"text":"\([^"]*\)".*/\1/p;d' out | grep -Eqx 'left|right' || die "the choice is not followed"
ask 200 /v1/completions '{"prompt":"We","max_tokens":40,"grammar":"root ::= \"x\" root | \"y\""}'
sed 's/.*"text":"\([^"]*\)".*/\1/p;d' out | grep -Eq '^x*(y|$)' || die "the grammar is not followed"
ask 200 /v1/chat/completions '{"messages":[{"role":"user","content":"Hello"}],"max_tokens":160,"seed":3,"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","properties":{"n":{"type":"integer","minimum":5,"maximum":9},"b":{"type":"boolean"}},"required":["n","b"]}}}}'
sed 's/.*"content":"\(.*\)","refusal.*/\1/p;d' out | sed 's/\\n/ /g;s/\\t/ /g;s/\\"/"/g' |
    grep -Eqx '[{] *"n": *[5-9], *"b": *(true|false) *[}]' || { cat out >&2; die "the schema is not followed"; }
# Calls of tools, whole and in pieces.
tools='"tools":[{"type":"function","function":{"name":"look","parameters":{"type":"object","properties":{"n":{"type":"integer","minimum":1,"maximum":9},"way":{"enum":["up","down"]}},"required":["n","way"],"additionalProperties":false}}}]'
talk='"messages":[{"role":"user","content":"Hello"}],"max_tokens":120,"seed":3'
ask 200 /v1/chat/completions "{$talk,$tools,\"tool_choice\":\"required\",\"parallel_tool_calls\":false}"
has out '"content":null,"tool_calls":[{"id":"call_'
has out '"function":{"name":"look","arguments":"{'
has out '"finish_reason":"tool_calls"'
ask 200 /v1/chat/completions "{$talk,$tools,\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"look\"}},\"stream\":true}"
has out '"delta":{"tool_calls":[{"index":0,"id":"call_'
has out '"tool_calls":[{"index":0,"function":{"arguments":'
has out '"finish_reason":"tool_calls"'
grep '^data: {' out | sed -n 's/.*"function":{"arguments":"\(.*\)"}}\]}.*/\1/p' | tr -d '\n' | sed 's/\\n/ /g;s/\\t/ /g;s/\\"/"/g' > arguments
grep -Eq '^[{] *"n": *[1-9], *"way": *"(up|down)" *[}]$' arguments || { cat arguments; die "the streamed arguments are not what the schema says"; }
ask 200 /v1/chat/completions "{$talk,$tools}"
ask 200 /v1/chat/completions '{"messages":[{"role":"user","content":"Hello"},{"role":"assistant","tool_calls":[{"id":"call_1","type":"function","function":{"name":"look","arguments":"{}"}}],"content":null},{"role":"tool","tool_call_id":"call_1","content":"7"}],"max_tokens":4}'
ask 400 /v1/chat/completions "{$talk,\"tool_choice\":\"required\"}"
has out 'tool_choice'
ask 400 /v1/completions '{"prompt":"We","guided_regex":"("}'
has out 'regular expression'
ask 400 /v1/completions '{"prompt":"We","guided_regex":"a","grammar":"root ::= \"x\""}'
has out 'only one of them'
ask 400 /v1/chat/completions '{"messages":[{"role":"user","content":"Hello"}],"response_format":{"type":"json_schema","json_schema":{"schema":{"type":"array","uniqueItems":true}}}}'
has out 'uniqueItems'
run 0 "$fathom" generate one --prompt We --regex '(ab|cd){2,4}' --json
has out '"finish_reason":"stop"'
sed 's/.*"text":"\([^"]*\)".*/\1/p;d' out | grep -Eqx '(ab|cd){2,4}' || die "generate: the regular expression is not followed"
printf '{"enum":["one",2]}' > schema.json
run 0 "$fathom" generate one --prompt We --json-schema schema.json --json
run 2 "$fathom" generate one --prompt We --regex a --grammar schema.json
run 2 "$fathom" generate one --prompt We --grammar schema.json
has err 'line 1'
ask 200 '/predict?text=We' ''
has out '{"prediction":"'
# /v1/responses: the answer, and the same as a stream.
ask 200 /v1/responses '{"input":"Hello","instructions":"Be brief.","max_output_tokens":6,"temperature":0}'
has out '"object":"response"'
has out '"type":"output_text"'
sed 's/.*"type":"output_text","annotations":\[\],"logprobs":\[\],"text":"\([^"]*\)".*/\1/' out > text1
echo >> text1
ask 200 /v1/responses '{"input":[{"role":"developer","content":"Be brief."},{"role":"user","content":[{"type":"input_text","text":"Hello"}]}],"max_output_tokens":6,"temperature":0,"stream":true}'
[ "$(sed -n 's/^event: //p' out | grep -v 'text.delta' | tr '\n' ' ')" = 'response.created response.in_progress response.output_item.added response.content_part.added response.output_text.done response.content_part.done response.output_item.done response.incomplete ' ] ||
    die "events: $(sed -n 's/^event: //p' out)"
sed -n 's/.*"type":"response.output_text.done".*"text":"\([^"]*\)".*/\1/p' out > text2
same text1 text2
sed -n 's/.*"type":"response.output_text.delta".*"delta":"\([^"]*\)".*/\1/p' out | tr -d '\n' > text2
echo >> text2
same text1 text2
ask 200 /v1/responses '{"input":"Hello","text":{"format":{"type":"json_schema","name":"n","schema":{"enum":["red","blue"]}}}}'
sed 's/.*"logprobs":\[\],"text":"\(.*\)"}\]}\],"parallel.*/\1/' out | grep -Eqx '..(red|blue)..' || die "responses: the schema is not followed: $(cat out)"
ask 400 /v1/responses '{"input":"Hello","text":{"format":{"type":"other"}}}'
ask 400 /v1/responses '{"input":"Hello","previous_response_id":"resp_1"}'
ask 400 /v1/responses '{"input":"Hello","tools":[{"type":"web_search"}]}'
has out 'nothing else can be called here'
ask 400 /v1/responses '{"input":[{"type":"function_call_output","call_id":"call_1","output":"7"}]}'
has out 'no function_call before it'
ask 400 /v1/chat/completions '{"messages":[{"role":"user","content":"Hello"}],"response_format":{"type":"xml"}}'
has out 'expected \"text\", \"json_object\" or \"json_schema\", found \"xml\"'
ask 400 /v1/responses '{"input":[{"role":"user","content":[{"type":"input_image"}]}]}'
ask 400 /v1/responses '{"input":[]}'
ask 200 /rerank '{"query":"We the people","documents":["Nothing","We the people"]}'
has out '"results":[{"index":1'
# Guessing tokens ahead changes nothing.
run 0 "$fathom" generate one --prompt 'We the people of the' --max-new-tokens 60 --temperature 0 --json --ignore-eos
sed 's/.*"text":\(".*"\),"n_prompt.*/\1/' out > plain
for how in --lookup '--draft one --draft-max 4'; do
    run 0 "$fathom" generate one --prompt 'We the people of the' --max-new-tokens 60 --temperature 0 --json --ignore-eos $how
    has out '"n_accepted":'
    hasnt out '"n_accepted":0'
    sed 's/.*"text":\(".*"\),"n_prompt.*/\1/' out > guessed
    same plain guessed
done
run 1 "$fathom" generate one --prompt We --mtp
has err 'prediction layers'
run 1 "$fathom" generate one --prompt We --draft nothing
# What is wrong is a 4xx in the form of the API, and says what.
ask 400 /v1/completions '{"prompt":"We","temperature":-1}'
has out 'temperature'
has out '"type":"invalid_request_error"'
ask 400 /v1/completions '{"prompt":'
ask 400 /v1/completions '[]'
ask 400 /v1/completions '{}'
ask 400 /v1/chat/completions '{"messages":[]}'
ask 400 /v1/chat/completions '{"messages":[{"role":"user"}]}'
long=$(printf 'word %.0s' $(seq 400))
ask 400 /v1/completions "{\"prompt\":\"$long\"}"
has out 'context_length_exceeded'
ask 404 /v1/completions '{"prompt":"We","model":"other"}'
ask 404 /nothing
ask 405 /v1/completions
head -c 100000 /dev/zero | tr '\0' ' ' > big
ask 413 /v1/completions @big
# The second prompt of the same beginning comes from the cache.
ask 200 /v1/completions "{\"prompt\":\"$(printf 'word %.0s' $(seq 60))\",\"max_tokens\":1}"
ask 200 /v1/completions "{\"prompt\":\"$(printf 'word %.0s' $(seq 60)) more\",\"max_tokens\":1}"
hasnt out '"cached_tokens":0'
ask 200 /metrics
has out 'vllm:generation_tokens_total'
has out 'vllm:time_to_first_token_seconds_bucket'
has out 'llamacpp:prompt_tokens_total'
# Every pass is in one bucket of its size, and holds a request at least.
n_checks=$((n_checks + 1))
awk '/^vllm:iteration_tokens_total_bucket.*le="16384"/ { most = $2 } /^vllm:iteration_tokens_total_count/ { n = $2 } /^vllm:iteration_tokens_total_sum/ { sum = $2 }
    /^llamacpp:n_decode_total/ { passes = $2 } /^llamacpp:n_busy_slots_per_decode/ { busy = $2 }
    END { exit !(n > 0 && n == most && n == passes && sum >= n && busy >= 1) }' out || die "metrics of passes: $(grep -e iteration_tokens -e n_busy -e n_decode out)"
# At SIGTERM a running answer is finished, then the program ends.
curl -sS -m 60 -o drained -d '{"prompt":"We","max_tokens":200,"ignore_eos":true}' "$url/v1/completions" &
curl_pid=$!
i=0
until curl -sS -o running "$url/metrics" && grep -q '^vllm:num_requests_running{[^}]*} 1' running; do
    i=$((i + 1))
    [ $i -lt 200 ] && [ ! -s drained ] || break
done
stop
wait $curl_pid
has drained '"completion_tokens":200'
grep -q '"path":"/v1/completions","status":200' log || die "the access log lacks the requests"
! grep -q 'people' log || die "the access log has content"

# Adapters by name, beside the base.
for name in law verse; do
    run 0 "$fathom" train model_name_or_path=one dataset=corpus.jsonl finetuning_type=lora lora_rank=4 cutoff_len=128 \
        learning_rate=0.05 max_steps=3 seed=${#name} measure_mfu=false output_dir=$name
done
start --alias tiny --ctx-size 256 --adapter law=law --adapter verse=verse
ask 200 /v1/models
has out '"id":"law"'
has out '"parent":"tiny"'
ask 200 /v1/models/verse
body='"prompt":"We the people","max_tokens":12,"temperature":0,"logprobs":1'
for name in tiny law verse; do
    ask 200 /v1/completions "{$body,\"model\":\"$name\"}"
    has out "\"model\":\"$name\""
    sed 's/.*"token_logprobs"/{"token_logprobs"/;s/"usage".*//' out > $name.out
done
! cmp -s tiny.out law.out || die "the adapter changes nothing"
! cmp -s verse.out law.out || die "both adapters are the same"
ask 200 /v1/completions "{$body,\"adapter\":\"law\"}"
sed 's/.*"token_logprobs"/{"token_logprobs"/;s/"usage".*//' out > again.out
same law.out again.out
ask 404 /v1/completions "{$body,\"adapter\":\"other\"}"
# While a request of an adapter runs the metrics name it.
ask 200 /metrics
has out 'vllm:lora_requests_info{max_lora="2",running_lora_adapters="",waiting_lora_adapters=""} '
curl -sS -N -m 60 -o long ${key:+-H "Authorization: Bearer $key"} -d '{"model":"law","prompt":"We","max_tokens":200,"ignore_eos":true,"stream":true}' "$url/v1/completions" &
slow=$!
i=0
seen=""
while [ -z "$seen" ] && kill -0 $slow 2> /dev/null && [ $i -lt 200 ]; do
    seen=$(curl -sS ${key:+-H "Authorization: Bearer $key"} "$url/metrics" | grep -F 'running_lora_adapters="law"' || true)
    i=$((i + 1))
done
wait $slow
n_checks=$((n_checks + 1))
[ -n "$seen" ] || die "no metric names the adapter of a request that runs"
ask 404 /v1/completions "{$body,\"model\":\"other\"}"
stop
run 1 "$fathom" serve one --port 0 --adapter law=nothing

# Keys, limits, origins.
printf '# two keys\nsecret-1 name=ann\nsha256:%s name=bob requests_per_minute=1\n' \
    "$(printf secret-2 | sha256sum | cut -d ' ' -f 1)" > keys
start --api-key-file keys --cors-origins http://page.example --access-log --max-tokens 3
ask 401 /v1/models
has out 'authentication_error'
ask 200 /health
key=wrong
ask 401 /v1/models
key=secret-2
ask 200 /v1/models
ask 429 /v1/models
has headers 'Retry-After'
key=secret-1
ask 200 /v1/completions '{"prompt":"We","max_tokens":100,"ignore_eos":true}'
has out '"completion_tokens":3'
curl -sS -D headers -o out -H 'Origin: http://page.example' "$url/health"
has headers 'Access-Control-Allow-Origin: http://page.example'
curl -sS -D headers -o out -H 'Origin: http://other.example' "$url/health"
hasnt headers 'Access-Control-Allow-Origin'
run 1 "$fathom" serve one --port "${url##*:}"
has err 'cannot listen'
stop
has log '"client":"ann"'
run 2 "$fathom" serve one --ctx-size 100000
has err 'ctx_size'
run 1 "$fathom" serve nothing
finish
