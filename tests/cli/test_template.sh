#!/bin/sh
# fathom template: built-in names, files, folders, spans, variables, and errors that name the line.
set -eu
. "$(dirname "$0")/lib.sh"
cd "$tmp"
run 0 "$fathom" template --list
has out deepseek-r1
[ "$(wc -l < out)" = 11 ] || die "eleven built-in templates expected"
run 2 "$fathom" template
cat > talks.jsonl <<'J'
{"messages":[{"role":"user","content":"Hi \"é\""}],"add_generation_prompt":true}

{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Yo"}],"tools":[{"name":"f"}]}
J
stdin=talks.jsonl run 0 "$fathom" template chatml --spans
has out '{"text":"<|im_start|>user\u000aHi \"é\"<|im_end|>\u000a<|im_start|>assistant\u000a","assistant":[]}'
has out '"assistant":[[52,64]]}'
[ "$(wc -l < out)" = 2 ] || die "two lines expected"
stdin=talks.jsonl run 0 "$fathom" template chatml --add-generation-prompt
has out 'Yo<|im_end|>\u000a<|im_start|>assistant\u000a"}'
# a file, with variables from the line, the command line and the tokenizer
printf '{{ bos_token }}{{ x }}{{ y }}{%% for m in messages %%}[{{ m.content }}]{%% endfor %%}\n' > t.jinja
echo '{"messages":[{"role":"user","content":"a"}],"y":2,"bos_token":"<b>"}' > one.jsonl
stdin=one.jsonl run 0 "$fathom" template t.jinja --template-vars '{"x":[1,"q"],"y":3}'
has out "{\"text\":\"<b>[1, 'q']2[a]\"}"
data=$top/tests/unit/text/data
mkdir model
cp "$data/hf/tokenizer.json" "$data/hf/tokenizer_config.json" model/
cp t.jinja model/chat_template.jinja
run 0 "$fathom" template model --show
has out '{{ bos_token }}{{ x }}'
echo '{"messages":[{"role":"user","content":"a"}]}' > bare.jsonl
stdin=bare.jsonl run 0 "$fathom" template model
hasnt out '"[a]"'
stdin=bare.jsonl run 0 "$fathom" template model --template phi
has out '<|user|>'
# a second template for conversations with tools
mkdir model/additional_chat_templates
echo 'tools {{ tools | length }}' > model/additional_chat_templates/tool_use.jinja
stdin=talks.jsonl run 0 "$fathom" template model
has out '{"text":"tools 1"}'
has out '[Hi'
# errors
printf '{"messages":[]}\n{"messages":[1]}\n' > bad.jsonl
stdin=bad.jsonl run 1 "$fathom" template chatml
has err 'standard input:2'
echo '{"messages":' > bad.jsonl
stdin=bad.jsonl run 1 "$fathom" template chatml
has err 'standard input:1'
printf 'a\n{{ messages[0].content.nothing.x }}' > bad.jinja
stdin=one.jsonl run 3 "$fathom" template bad.jinja
has err 'bad.jinja:2'
has err "has no attribute 'nothing'"
printf '{%% if x %%}' > bad.jinja
stdin=one.jsonl run 1 "$fathom" template bad.jinja
has err 'bad.jinja:1'
stdin=one.jsonl run 1 "$fathom" template chatmml
has err "did you mean 'chatml'"
finish
