#!/bin/sh
# Model folders as people have them: what info says of them, and what is refused and how.
set -eu
. "$2/tests/cli/lib.sh"
cd "$tmp"
data=$top/tests/golden/data/files
for m in fp8 torch_zip torch_old torch_shards; do
    run 0 "$fathom" info --check "$data/$m"
    has out "6600 numbers, all finite"
    run 0 "$fathom" info --json "$data/$m"
    [ "$(number out parameters)" = 6600 ] || die "parameters of $m"
    [ "$(number out serve_bytes)" -gt 13000 ] || die "memory to serve of $m"
done
has out "pytorch_model-00002-of-00002.bin"
run 0 "$fathom" info "$data/fp8"
has out "e4m3 53.6%"
has out "gradients"
# the same numbers from every format
for m in torch_zip torch_old torch_shards; do
    printf '{"ids":[1,2,3]}\n' > ids
    stdin=ids
    run 0 "$fathom" logits "$data/$m" --dtype f32
    unset stdin
    cp out "$m.logits"
    same torch_zip.logits "$m.logits"
done

model() { rm -rf m && mkdir m && cp "$data/torch_zip/config.json" m/; }
refused() { # FILE TEXT HINT
    model
    : > "m/$1"
    run 1 "$fathom" info m
    has err "$2"
    has err "$3"
}
refused tf_model.h5 TensorFlow from_tf
refused model.ckpt.index TensorFlow from_tf
refused flax_model.msgpack Flax from_flax
refused model.onnx ONNX exported
refused nothing.txt "no weights" model.safetensors
model
cp "$data/hostile/system.pt" m/pytorch_model.bin
run 1 "$fathom" info m
has err posix.system
model
cp "$data/torch_shards/pytorch_model.bin.index.json" "$data/torch_shards/pytorch_model-00001-of-00002.bin" m/
run 1 "$fathom" info m
has err pytorch_model-00002-of-00002.bin
sed 's/"model.norm.weight": "pytorch_model-0000[12]/"model.norm.weight": "pytorch_model-00009/' "$data/torch_shards/pytorch_model.bin.index.json" > m/pytorch_model.bin.index.json
cp "$data/torch_shards/pytorch_model-00002-of-00002.bin" m/
run 1 "$fathom" info m
has err pytorch_model-00009
cp "$data/torch_shards/pytorch_model-00001-of-00002.bin" m/pytorch_model-00009-of-00002.bin
run 1 "$fathom" info m
has err "is there twice"
for method in gptq awq bitsandbytes; do
    model
    sed "s/\"hidden_size\"/\"quantization_config\": {\"quant_method\": \"$method\"}, \"hidden_size\"/" "$data/torch_zip/config.json" > m/config.json
    run 1 "$fathom" info m
    has err "$method"
    has err "dequantize()"
done
finish
