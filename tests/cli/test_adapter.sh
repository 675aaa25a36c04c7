#!/bin/sh
# Adapters and frozen layers: train, resume to the same bits, generate, merge, and what is refused.
set -eu
. "$(dirname "$0")/lib.sh"
cd "$tmp"
gzip -dc "$top/recipes/data/state_of_the_union.train.jsonl.gz" | head -n 4 > corpus.jsonl
run 0 "$fathom" tokenizer train -i corpus.jsonl -o tok --vocab-size 600
run 0 "$fathom" data pack -i corpus.jsonl -t tok -o packed
run 0 "$fathom" train params=200k vocab_size=600 dataset=packed tokenizer=tok cutoff_len=64 per_device_train_batch_size=4 learning_rate=3e-3 max_steps=12 \
    train_from_scratch=true measure_mfu=false precision=fp32 output_dir=base
tune="model_name_or_path=base dataset=packed cutoff_len=64 per_device_train_batch_size=4 learning_rate=5e-2 max_steps=8 save_steps=4 measure_mfu=false precision=fp32"

# LoRA: only the adapter is written, the base stays, a resumed run has the same bits.
cp base/model.safetensors before
# shellcheck disable=SC2086
run 0 "$fathom" train $tune finetuning_type=lora lora_rank=4 lora_dropout=0.1 output_dir=lora
has err "trained: "
[ ! -e lora/model.safetensors ] || die "the base was written beside the adapter"
same before base/model.safetensors
cp -r lora again
rm -r again/checkpoint-8 again/adapter_model.safetensors
# shellcheck disable=SC2086
run 0 "$fathom" train $tune finetuning_type=lora lora_rank=4 lora_dropout=0.1 output_dir=again --resume
same lora/adapter_model.safetensors again/adapter_model.safetensors

# DoRA with modules trained whole: a killed run resumes to the same bits, whatever the number of threads.
more="finetuning_type=lora lora_rank=4 lora_dropout=0.1 use_dora=true lora_target=layers.*.mlp.*,q_proj modules_to_save=lm_head,model.norm"
# shellcheck disable=SC2086
run 0 "$fathom" train $tune $more threads=1 output_dir=dora
# shellcheck disable=SC2086
run 137 env FATHOM_CRASH_POINT=step.done:6 "$fathom" train $tune $more threads=2 output_dir=again2
# shellcheck disable=SC2086
run 0 "$fathom" train $tune $more threads=2 output_dir=again2 --resume
same dora/adapter_model.safetensors again2/adapter_model.safetensors
grep -q '"use_dora": true' dora/adapter_config.json || die "the configuration does not name DoRA"
run 0 "$fathom" merge base dora dora-merged --json
awk "BEGIN { exit !($(number out max_difference) <= 1e-4 * $(number out max_logit)) }" || die "merged logits differ by $(number out max_difference)"

# QLoRA: an adapter over nf4, and over the blocks of a GGUF file as they are; merged into full or rounded weights.
# shellcheck disable=SC2086
run 0 "$fathom" train $tune finetuning_type=lora lora_rank=4 quantization_bit=4 output_dir=qlora
has err "linear weights held in nf4"
run 0 "$fathom" merge base qlora qlora-full --quantization nf4 --json
full=$(number out max_difference_quantised)
awk "BEGIN { exit !($(number out max_difference) <= 1e-4 * $(number out max_logit)) }" || die "merged logits differ by $(number out max_difference)"
run 0 "$fathom" merge base qlora qlora-rounded --quantization nf4 --dequantised --json
awk "BEGIN { exit !($(number out max_difference_quantised) <= 1e-4 * $(number out max_logit) && $full > 1e-3 * $(number out max_logit)) }" ||
    die "into rounded weights: $(number out max_difference_quantised); into full ones: $full"
run 2 "$fathom" merge base qlora x --dequantised
has err "type"
run 2 "$fathom" merge base qlora x --quantization nf5
has err "q4_k"
run 0 "$fathom" convert base base.gguf --dtype q8_0
# shellcheck disable=SC2086
run 0 "$fathom" train $tune finetuning_type=lora lora_rank=4 model_name_or_path=base.gguf quantization_type=stored output_dir=stored
has err "held in their stored types"
run 0 "$fathom" generate base.gguf --adapter stored --prompt America --max-new-tokens 4 --json

# The adapter changes what is generated; merging it gives the same text, with and without cache.
gen="--prompt America --max-new-tokens 24 --temperature 0 --dtype f32 --json"
# shellcheck disable=SC2086
run 0 "$fathom" generate base $gen
cp out plain
# shellcheck disable=SC2086
run 0 "$fathom" generate base --adapter lora $gen
cp out adapted
cmp -s plain adapted && die "the adapter changes nothing"
# shellcheck disable=SC2086
run 0 "$fathom" generate base --adapter lora $gen --no-cache
same out adapted
run 0 "$fathom" merge base lora merged --json
awk "BEGIN { exit !($(number out max_difference) <= 1e-4 * $(number out max_logit)) }" || die "merged logits differ by $(number out max_difference)"
# shellcheck disable=SC2086
run 0 "$fathom" generate merged $gen
same out adapted
run 1 "$fathom" merge base lora merged
has err "not empty"

# Some layers only.
# shellcheck disable=SC2086
run 0 "$fathom" train $tune finetuning_type=freeze freeze_trainable_layers=1 output_dir=frozen
cmp -s frozen/model.safetensors base/model.safetensors && die "nothing was trained"

# A column more: the first one answers as the model did, the newest otherwise, with and without cache.
# shellcheck disable=SC2086
run 0 "$fathom" train $tune finetuning_type=progressive output_dir=column earlier_dataset=first=packed
has err "(+0.0000)"
# shellcheck disable=SC2086
run 0 "$fathom" generate column --column 1 $gen
same out plain
# shellcheck disable=SC2086
run 0 "$fathom" generate column $gen
cp out newest
cmp -s plain newest && die "the column changes nothing"
# shellcheck disable=SC2086
run 0 "$fathom" generate column $gen --no-cache
same out newest
# shellcheck disable=SC2086
run 2 "$fathom" generate column --column 3 $gen
has err "column 3: column has 2"
run 0 "$fathom" info column
has out "2 progressive ones"
score="--task ppl --data corpus.jsonl --dtype f32 --max-samples 1 --bootstrap 0"
# shellcheck disable=SC2086
run 0 "$fathom" eval --model base $score -o rows.base
# shellcheck disable=SC2086
run 0 "$fathom" eval --model column --column 1 $score -o rows.first
same rows.base rows.first
# shellcheck disable=SC2086
run 0 "$fathom" eval --model column $score -o rows.newest
cmp -s rows.base rows.newest && die "the newest column scores as the first"
# shellcheck disable=SC2086
run 0 "$fathom" plan $tune finetuning_type=progressive --calibrate=0
run 1 "$fathom" convert column column.gguf
has err "progressive columns"
# shellcheck disable=SC2086
run 1 "$fathom" train $tune finetuning_type=full model_name_or_path=column output_dir=no
has err "finetuning_type=progressive"

# An adapter with a head: predicted, served and merged; the folder alone is no model.
for i in 0 1 2 3 4 5 6 7; do printf '{"text": "America the %s", "label": "%s"}\n' "$i" "$((i % 2))"; done > labels.jsonl
# shellcheck disable=SC2086
run 3 "$fathom" train $tune stage=cls dataset=labels.jsonl label_column=kind output_dir=none
has err 'column "kind" has none; the columns are '
run 0 "$fathom" train $tune stage=cls dataset=labels.jsonl finetuning_type=lora output_dir=cls
grep -q '"SEQ_CLS"' cls/adapter_config.json || die "the task is not named"
echo '{"ids":[5,6,7]}' > ids
stdin=ids
run 0 "$fathom" logits base --adapter cls --head main --dtype f32
cp out scores
run 0 "$fathom" merge base cls cls-merged --dtype f32
run 0 "$fathom" logits cls-merged --head main --dtype f32
awk -F'[][,]' 'FNR == NR { a = $(NF-2); next } { d = a - $(NF-2); exit !(d * d < 1e-8) }' scores out || die "scores of base and merged model differ"
run 2 "$fathom" info cls
has err "--adapter"
stdin=

# Refused before anything is written.
# shellcheck disable=SC2086
run 2 "$fathom" train $tune finetuning_type=lora lora_target=qq_proj output_dir=no
has err "q_proj"
# shellcheck disable=SC2086
run 2 "$fathom" train $tune finetuning_type=lora modules_to_save=lm_heads output_dir=no
has err "lm_heads"
# shellcheck disable=SC2086
run 2 "$fathom" train $tune finetuning_type=lora modules_to_save=q_proj output_dir=no
has err "lora_target"
# shellcheck disable=SC2086
run 2 "$fathom" train $tune finetuning_type=lora lora_rank=4000 output_dir=no
has err "lora_rank"
# shellcheck disable=SC2086
run 2 "$fathom" train $tune finetuning_type=lore output_dir=no
has err "known: full, freeze, lora"
# shellcheck disable=SC2086
run 2 "$fathom" train $tune finetuning_type=freeze freeze_trainable_layers=0 output_dir=no
run 2 "$fathom" train params=200k dataset=packed tokenizer=tok finetuning_type=lora output_dir=no
has err "model_name_or_path"
[ ! -e no ] || [ -z "$(ls -A no)" ] || die "a refused run wrote into its folder"
head -c 200 lora/adapter_model.safetensors > cut
cp -r lora broken && mv cut broken/adapter_model.safetensors
# shellcheck disable=SC2086
run 1 "$fathom" generate base --adapter broken $gen
has err "broken"
cp lora/adapter_model.safetensors broken/
sed 's/"bias": "none"/"bias": "all"/' lora/adapter_config.json > x && mv x broken/adapter_config.json
# shellcheck disable=SC2086
run 1 "$fathom" generate base --adapter broken $gen
has err "bias"
sed 's/"use_dora": false/"use_dora": true/' lora/adapter_config.json > x && mv x broken/adapter_config.json
# shellcheck disable=SC2086
run 1 "$fathom" generate base --adapter broken $gen
has err "lora_magnitude_vector"
finish
