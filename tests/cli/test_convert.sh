#!/bin/sh
# convert: folder to GGUF and back, types, refusals, interruption.
set -eu
. "$(dirname "$0")/lib.sh"
cd "$tmp"
golden=$top/tests/golden/data
echo '{"ids":[1,2,3,4,5,6,7,8]}' > ids.jsonl
logits() { stdin=ids.jsonl run 0 "$fathom" logits "$1" --dtype f32; cp out "$2"; }

run 0 "$fathom" convert "$golden/qwen3" a.gguf --json
has out '"to":"gguf"'
has out '"dtype":"f32"'
[ "$(number out tensors)" -gt 20 ] || die "too few tensors"
logits "$golden/qwen3" want
logits a.gguf have
same want have
run 0 "$fathom" convert a.gguf folder -q
logits folder have
same want have
[ -f folder/config.json ] && [ -f folder/model.safetensors ] || die "the folder is not whole"

# info over the file; several element types are shown with their shares
run 0 "$fathom" convert "$golden/qwen3" q.gguf --dtype q4_k_m
has out 'bits a weight'
run 0 "$fathom" info q.gguf
has out 'qwen3 (Qwen3ForCausalLM)'
has out '%'
run 0 "$fathom" info q.gguf --json
has out '"dtype_mix":"'
run 0 "$fathom" generate a.gguf --help
# GGUF to GGUF keeps metadata; the vocabulary in the file is the tokenizer
seed=$top/fuzz/corpus/gguf/llama.gguf
run 0 "$fathom" convert "$seed" seed-q8.gguf --dtype q8_0
printf '%s\n' '{"text":"abc a"}' > text.jsonl
stdin=text.jsonl run 0 "$fathom" tokenizer encode --special seed-q8.gguf
has out '"ids":[0,259,260]'
run 0 "$fathom" convert "$seed" seed-folder
stdin=text.jsonl run 0 "$fathom" tokenizer encode --special seed-folder
has out '"ids":[0,259,260]'

# Refused, with nothing written
run 1 "$fathom" convert "$golden/qwen3" a.gguf
has err '--overwrite'
run 0 "$fathom" convert "$golden/qwen3" a.gguf --overwrite
run 1 "$fathom" convert "$golden/mistral_window" w.gguf
has err 'sliding_window cannot be exported'
run 2 "$fathom" convert "$golden/qwen3" x.gguf --dtype q9
has err 'q4_k_m'
run 2 "$fathom" convert "$golden/qwen3" folder2 --dtype q8_0
run 2 "$fathom" convert "$golden/qwen3"
run 1 "$fathom" convert nowhere y.gguf
head -c 3000 a.gguf > cut.gguf
run 1 "$fathom" convert cut.gguf y
has err 'cut off'
for f in w.gguf x.gguf y.gguf folder2 y; do
    [ ! -e $f ] && [ ! -e $f.tmp ] || die "$f was written"
done

# Killed before the end: no half file
FATHOM_CRASH_POINT=gguf_before_rename "$fathom" convert "$golden/qwen3" killed.gguf > out 2> err && die "not killed"
[ ! -e killed.gguf ] || die "a killed conversion left its output"
run 0 "$fathom" convert "$golden/qwen3" killed.gguf
logits killed.gguf have
same want have
finish
