/* The table of keys. Names are those of Hugging Face transformers and LLaMA-Factory. */
#include "train/config.h"

#include <math.h>
#include <string.h>

#include "base/cpu.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "train/continual.h"
#include "train/difficulty.h"
#include "train/finetune.h"
#include "train/tasks.h"

#define F(name) offsetof(fm_train_config, name)

static const fm_option table[] = {
    {"stage", FM_OPT_STR, F(stage), "pt", 0, 0, NULL, NULL, "NAME",
     "what is learned: pt (next token); sft (answers of questions and conversations); cls (labels of texts); reg "
     "(numbers for texts); tag (tags of words, entities); multi (several of these on one trunk); mlm (masked tokens, "
     "for encoders); probe (as pt, plain, for "
     "tests)"},
    {"finetuning_type", FM_OPT_STR, F(finetuning_type), "full", 0, 0, NULL, NULL, "NAME",
     "which weights are trained: full; freeze (some layers); lora (low-rank adapters, a PEFT folder); progressive (a "
     "new "
     "column beside the model, which stays as it is)"},
    {"lora_rank", FM_OPT_INT, F(lora_rank), "8", 1, 65536, NULL, "lora_r", "N", "LoRA: rank of the added matrices"},
    {"lora_alpha", FM_OPT_FLOAT, F(lora_alpha), "0", 0, 1e6, NULL, NULL, NULL,
     "LoRA: the addition is scaled by alpha/rank; 0 = twice the rank"},
    {"lora_dropout", FM_OPT_FLOAT, F(lora_dropout), "0", 0, 0.999, NULL, NULL, NULL, "LoRA: dropout of its input"},
    {"use_rslora", FM_OPT_BOOL, F(use_rslora), "false", 0, 0, NULL, NULL, NULL,
     "LoRA: scale by alpha/sqrt(rank) instead"},
    {"lora_target", FM_OPT_LIST, F(lora_target), NULL, 0, 0, NULL, NULL, "NAMES",
     "LoRA: linear layers by name, such as q_proj,v_proj or layers.*.mlp.*; default all of them"},
    {"use_dora", FM_OPT_BOOL, F(use_dora), "false", 0, 0, NULL, NULL, NULL,
     "LoRA: learn the length of each row apart from its direction (DoRA)"},
    {"modules_to_save", FM_OPT_LIST, F(modules_to_save), NULL, 0, 0, NULL, "additional_target|lora_modules_to_save",
     "NAMES", "LoRA: modules trained whole beside the adapter, such as embed_tokens,lm_head"},
    {"quantization_bit", FM_OPT_INT, F(quantization_bit), "0", 0, 8, NULL, NULL, "4|8",
     "LoRA: the frozen linear weights are held in 4 bits (nf4) or 8 (int8); 0 = as they are"},
    {"quantization_type", FM_OPT_STR, F(quantization_type), NULL, 0, 0, NULL, "bnb_4bit_quant_type", "NAME",
     "LoRA: the same by type: nf4, int8, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k, or stored = as the GGUF file "
     "or "
     "int8 folder of the model has them"},
    {"double_quantization", FM_OPT_BOOL, F(double_quantization), "true", 0, 0, NULL, "bnb_4bit_use_double_quant", NULL,
     "LoRA on nf4: the scales of blocks are held in 8 bits"},
    {"progressive_width", FM_OPT_INT, F(progressive_width), "0", 0, 1048576, NULL, NULL, "N",
     "progressive: width of the new column; 0 = half of the model's"},
    {"progressive_layers", FM_OPT_INT, F(progressive_layers), "0", 0, 4096, NULL, NULL, "N",
     "progressive: its layers, at most those of the model; 0 = as many"},
    {"progressive_lateral", FM_OPT_INT, F(progressive_lateral), "0", 0, 1048576, NULL, NULL, "N",
     "progressive: width of the lateral projections from each earlier column into each layer; 0 = a quarter of "
     "progressive_width"},
    {"freeze_trainable_layers", FM_OPT_INT, F(freeze_trainable_layers), "2", -4096, 4096, NULL, NULL, "N",
     "freeze: the last N layers are trained; -N: the first N"},
    {"freeze_trainable_modules", FM_OPT_LIST, F(freeze_trainable_modules), NULL, 0, 0, NULL, NULL, "NAMES",
     "freeze: parameters whose names have one of these parts are trained too (embed_tokens, lm_head)"},
    {"model_name_or_path", FM_OPT_STR, F(model_name_or_path), NULL, 0, 0, NULL, "base_model|model", "DIR",
     "Hugging Face folder to start from"},
    {"preset", FM_OPT_STR, F(preset), NULL, 0, 0, NULL, NULL, "NAME",
     "named size of a new model: 26m, 100m, 0.5b, 1b ... (fathom plan shows each)"},
    {"params", FM_OPT_INT, F(params), "0", 0, 1e12, NULL, NULL, "COUNT",
     "size of a new model by one number, such as 300M"},
    {"train_from_scratch", FM_OPT_BOOL, F(train_from_scratch), "false", 0, 0, NULL, "reinit_weights", NULL,
     "start model_name_or_path with new weights"},
    {"attention_pattern", FM_OPT_STR, F(attention_pattern), NULL, 0, 0, NULL, NULL, "PATTERN",
     "of a model from scratch: which layers see sliding_window tokens and which all, such as local:local:global; it "
     "repeats along the layers"},
    {"sliding_window", FM_OPT_INT, F(sliding_window), "0", 0, 1e9, NULL, NULL, "N",
     "of a model from scratch: tokens that a local layer sees; without attention_pattern of all layers"},
    {"positions", FM_OPT_ENUM, F(positions), "rope", 0, 0, "rope|learned|alibi", NULL, NULL,
     "of a model from scratch: how it knows the order of tokens; learned makes a GPT-2, alibi a BLOOM of this size"},
    {"mlm_probability", FM_OPT_FLOAT, F(mlm_probability), "0.15", 0.001, 0.9, NULL, NULL, NULL,
     "stage mlm: share of the tokens that are to be guessed"},
    {"vocab_size", FM_OPT_INT, F(vocab_size), "0", 0, 4e6, NULL, NULL, "N",
     "rows of a new model's embedding; 0 = as many as the tokenizer has"},
    {"tokenizer", FM_OPT_STR, F(tokenizer), NULL, 0, 0, NULL, "tokenizer_name_or_path", "DIR",
     "tokenizer folder; default: the dataset's, then the model's"},
    {"dataset", FM_OPT_LIST, F(rows.input), NULL, 0, 0, NULL, "datasets|data", "DIR",
     "packed folder (data pack), or text, JSONL, CSV files that are packed into OUTPUT/cache first"},
    {"eval_dataset", FM_OPT_LIST, F(eval_dataset), NULL, 0, 0, NULL, "test_datasets", "DIR",
     "the same for evaluation; default: the part that val_size held out"},
    {"val_size", FM_OPT_FLOAT, F(val_size), "0", 0, 0.9, NULL, "val_set_size", "SHARE",
     "share of raw files' documents held out for evaluation"},
    {"format", FM_OPT_ENUM, F(rows.format), "auto", 0, 0, "auto|txt|jsonl|csv|tsv", NULL, NULL,
     "how raw files are read"},
    {"text_column", FM_OPT_STR, F(rows.text_column), "text", 0, 0, NULL, NULL, "NAME",
     "column of raw files that holds the text"},
    {"text_template", FM_OPT_STR, F(rows.text_template), NULL, 0, 0, NULL, NULL, "TEXT",
     "text made from columns: \"{question} {answer}\""},
    {"txt_unit", FM_OPT_ENUM, F(rows.txt_unit), "file", 0, 0, "file|paragraph|line", NULL, NULL,
     "what one document of a text file is"},
    FM_COLUMNS_OPTIONS(fm_train_config),
    {"template", FM_OPT_STR, F(template_), NULL, 0, 0, NULL, "chat_template", "NAME|FILE",
     "stage sft: chat template, a known name or a Jinja file; default the model's own"},
    {"train_on", FM_OPT_ENUM, F(train_on), "answers", 0, 0, "answers|last|all", NULL, NULL,
     "stage sft: which text carries loss: every answer, the last answer of a conversation, everything"},
    {"long_rows", FM_OPT_ENUM, F(long_rows), "refuse", 0, 0, "refuse|drop|cut", NULL, NULL,
     "stage sft: what happens when rows are longer than cutoff_len; texts of cls and reg are cut"},
    {"problem_type", FM_OPT_ENUM, F(problem_type), "auto", 0, 0, "auto|single|multi", NULL, NULL,
     "stage cls: one label of each text, or several; auto: several when the column holds lists"},
    {"class_weight", FM_OPT_ENUM, F(class_weight), "none", 0, 0, "none|balanced", NULL, NULL,
     "stage cls: balanced = rare labels count more, by the inverse of their share"},
    {"tasks", FM_OPT_LIST, F(tasks), NULL, 0, 0, NULL, NULL, "NAME=KIND",
     "stage multi: what is learned, each task with a head of its name: intent=cls, stars=reg, names=tag, find=qa "
     "(answers "
     "that are parts of a text), chat=sft; NAME=KIND:COLUMN names its label column"},
    {"task_column", FM_OPT_STR, F(task_column), "task", 0, 0, NULL, NULL, "NAME",
     "stage multi: column that names the task of a row; a dataset entry NAME=FILE gives a whole file to a task"},
    {"task_weights", FM_OPT_LIST, F(task_weights), "equal", 0, 0, NULL, NULL, "NAME=WEIGHT",
     "stage multi: what the mean loss of a task counts: equal, size (its share of the examples), uncertainty (learned, "
     "Kendall et al. 2018), or by hand: intent=1, stars=0.2"},
    {"cutoff_len", FM_OPT_INT, F(cutoff_len), "512", 2, 1048576, NULL, "sequence_len|max_length|max_seq_length",
     "TOKENS", "tokens of one training window; documents are packed into windows and do not see each other"},
    {"shuffle", FM_OPT_BOOL, F(shuffle), "true", 0, 0, NULL, NULL, NULL,
     "windows, and the rows in them, in an order drawn anew each epoch"},
    {"curriculum", FM_OPT_ENUM, F(curriculum), "none", 0, 0, "none|column|length|loss", NULL, NULL,
     "rows from easy to hard: by a number of theirs (curriculum_column), their tokens, or the loss of "
     "curriculum_model"},
    {"curriculum_column", FM_OPT_STR, F(curriculum_column), NULL, 0, 0, NULL, NULL, "NAME",
     "column with a number, larger = harder; stages that learn from rows"},
    {"curriculum_model", FM_OPT_STR, F(curriculum_model), NULL, 0, 0, NULL, NULL, "DIR",
     "model whose loss on a row says how hard it is"},
    {"curriculum_levels", FM_OPT_LIST, F(curriculum_levels), NULL, 0, 0, NULL, NULL, "LIST",
     "when the next level begins, such as 5,15: three levels of as many rows each, the easiest alone up to epoch 5, "
     "two "
     "up to 15, then all"},
    {"curriculum_unit", FM_OPT_ENUM, F(curriculum_in_steps), "epochs", 0, 0, "epochs|steps", NULL, NULL,
     "unit of curriculum_levels"},
    {"curriculum_mode", FM_OPT_ENUM, F(curriculum_by_weights), "levels", 0, 0, "levels|weights", NULL, NULL,
     "weights: rows of all levels from the start, drawn by weights that move from easy to hard up to the last of "
     "curriculum_levels, or (without: three levels) over the whole run"},
    {"frozen_tests", FM_OPT_LIST, F(frozen_tests), NULL, 0, 0, NULL, NULL, "FILE",
     "test sets of `fathom data freeze` whose rows are refused in dataset, besides those in its folder"},
    {"earlier_dataset", FM_OPT_LIST, F(earlier_dataset), NULL, 0, 0, NULL, NULL, "NAME=DIR",
     "rows that the model knew before: their loss is measured before and after (OUTPUT/forgetting.json)"},
    {"replay_dataset", FM_OPT_LIST, F(replay_dataset), NULL, 0, 0, NULL, NULL, "DIR",
     "rows that the model was trained on before, for ewc_lambda and replay_ratio"},
    {"ewc_lambda", FM_OPT_FLOAT, F(ewc_lambda), "0", 0, 1e12, NULL, NULL, NULL,
     "elastic weight consolidation: what a token of replay_dataset counts beside one of dataset, in holding the "
     "weights "
     "that matter to it; 0 = off, 1 = the same"},
    {"ewc_samples", FM_OPT_INT, F(ewc_samples), "256", 1, 1e9, NULL, NULL, "N",
     "windows of replay_dataset that say which weights matter"},
    {"ewc_fisher", FM_OPT_STR, F(ewc_fisher), NULL, 0, 0, NULL, NULL, "FILE",
     "fisher.safetensors of an earlier run, added to that of replay_dataset or in its place"},
    {"replay_ratio", FM_OPT_FLOAT, F(replay_ratio), "0", 0, 10, NULL, NULL, "SHARE",
     "windows of replay_dataset beside those of a step, whose answers are what replay_model says; 0 = off"},
    {"replay_weight", FM_OPT_FLOAT, F(replay_weight), "1", 0, 1e6, NULL, NULL, NULL, "weight of their loss"},
    {"replay_temperature", FM_OPT_FLOAT, F(replay_temperature), "1", 0.1, 100, NULL, NULL, NULL,
     "temperature of both distributions in that loss"},
    {"replay_model", FM_OPT_STR, F(replay_model), NULL, 0, 0, NULL, NULL, "DIR",
     "the old model; default model_name_or_path"},
    {"verify_data", FM_OPT_BOOL, F(verify_data), "true", 0, 0, NULL, NULL, NULL,
     "compare the hash of each shard before training"},
    {"output_dir", FM_OPT_STR, F(output_dir), NULL, 0, 0, NULL, "o|save_dir", "DIR",
     "where checkpoints, logs and the trained model go"},
    {"overwrite_output_dir", FM_OPT_BOOL, F(overwrite_output_dir), "false", 0, 0, NULL, NULL, NULL,
     "start anew in a folder that holds an earlier run (its checkpoints are removed)"},
    {"resume_from_checkpoint", FM_OPT_STR, F(resume_from_checkpoint), NULL, 0, 0, NULL, NULL, "true|auto|DIR",
     "true: go on from the newest good checkpoint; auto: the same, or start when there is none; or a checkpoint "
     "folder"},
    {"run_name", FM_OPT_STR, F(run_name), NULL, 0, 0, NULL, NULL, "TEXT",
     "name of the run in logs; default the last part of output_dir"},
    {"report_to", FM_OPT_STR, F(report_to), "tensorboard", 0, 0, NULL, NULL, "NAME",
     "tensorboard or none; trainer_log.jsonl is always written"},
    {"learning_rate", FM_OPT_FLOAT, F(learning_rate), "0", 0, 100, NULL, "lr", "RATE",
     "peak rate; 0 = by size: new models 1e-3 at 26M, 6e-4 at 125M, 2e-4 at 1.3B; from given weights 3e-5 (stages cls, "
     "reg, tag: 5e-5)"},
    {"per_device_train_batch_size", FM_OPT_INT, F(per_device_train_batch_size), "16", 1, 65536, NULL,
     "micro_batch_size|batch_size", "N",
     "windows of one forward pass; lowered by itself when memory is short, at the same effective batch"},
    {"gradient_accumulation_steps", FM_OPT_INT, F(gradient_accumulation_steps), "1", 1, 65536, NULL, NULL, "N",
     "forward passes of one optimizer step"},
    {"num_train_epochs", FM_OPT_FLOAT, F(num_train_epochs), "3", 0, 1e6, NULL, "num_epochs|epochs", "N",
     "passes over the data, used when max_steps is 0"},
    {"max_steps", FM_OPT_INT, F(max_steps), "0", -1, 1e12, NULL, "iters", "N",
     "optimizer steps; replaces num_train_epochs"},
    {"lr_scheduler_type", FM_OPT_STR, F(lr_scheduler_type), "cosine", 0, 0, NULL, "lr_scheduler", "NAME",
     "cosine, linear, constant, wsd, multistep"},
    {"warmup_ratio", FM_OPT_FLOAT, F(warmup_ratio), "0.1", 0, 1, NULL, NULL, "SHARE",
     "share of the steps in which the rate rises linearly"},
    {"warmup_steps", FM_OPT_INT, F(warmup_steps), "0", 0, 1e12, NULL, NULL, "N",
     "the same in steps; replaces warmup_ratio"},
    {"min_lr_ratio", FM_OPT_FLOAT, F(min_lr_ratio), "0.1", 0, 1, NULL, NULL, "SHARE",
     "rate at the end over the peak rate (cosine, linear, wsd)"},
    {"wsd_decay_ratio", FM_OPT_FLOAT, F(wsd_decay_ratio), "0.2", 0, 1, NULL, NULL, "SHARE",
     "wsd: share of the steps at the end in which the rate falls"},
    {"lr_milestones", FM_OPT_LIST, F(lr_milestones), "0.8,0.9", 0, 0, NULL, NULL, "LIST",
     "multistep: where the rate drops, as shares of the run (below 1) or steps"},
    {"lr_gamma", FM_OPT_FLOAT, F(lr_gamma), "0.316", 0, 1, NULL, NULL, "FACTOR",
     "multistep: factor of each drop (0.316 twice is a tenth)"},
    {"optim", FM_OPT_STR, F(optim), "adamw", 0, 0, NULL, "optimizer", "NAME",
     "adamw, adamw_8bit (states in 8 bits), adafactor (row and column sums in the place of the second moment, no "
     "first), "
     "lion (rates 3 to 10 times lower, betas 0.9 and 0.99), muon (matrices; the rest as adamw), sgd"},
    {"adam_beta1", FM_OPT_FLOAT, F(adam_beta1), "0.9", 0, 0.999999, NULL, "beta1", NULL,
     "AdamW: decay of the mean of gradients"},
    {"adam_beta2", FM_OPT_FLOAT, F(adam_beta2), "0.95", 0, 0.999999, NULL, "beta2", NULL,
     "AdamW: decay of the mean of squared gradients"},
    {"adam_epsilon", FM_OPT_FLOAT, F(adam_epsilon), "1e-8", 1e-20, 1, NULL, NULL, NULL,
     "AdamW: added to the denominator"},
    {"sgd_momentum", FM_OPT_FLOAT, F(sgd_momentum), "0.9", 0, 0.999999, NULL, "momentum", NULL, "SGD: momentum"},
    {"muon_momentum", FM_OPT_FLOAT, F(muon_momentum), "0.95", 0, 0.999999, NULL, NULL, NULL, "Muon: momentum"},
    {"sgd_nesterov", FM_OPT_BOOL, F(sgd_nesterov), "false", 0, 0, NULL, "nesterov", NULL, "SGD: Nesterov's form"},
    {"weight_decay", FM_OPT_FLOAT, F(weight_decay), "0.01", 0, 10, NULL, NULL, NULL,
     "decoupled decay; norms and biases are left out"},
    {"l1", FM_OPT_FLOAT, F(l1), "0", 0, 10, NULL, NULL, NULL,
     "penalty on the sum of |w|, through the gradient; norms and biases are left out"},
    {"l2", FM_OPT_FLOAT, F(l2), "0", 0, 10, NULL, NULL, NULL,
     "penalty on w^2/2, through the gradient; norms and biases are left out"},
    {"max_grad_norm", FM_OPT_FLOAT, F(max_grad_norm), "1.0", 0, 1e9, NULL, "gradient_clipping", NULL,
     "gradients are scaled down to this norm; 0 = off"},
    {"dropout", FM_OPT_FLOAT, F(dropout), "0", 0, 0.95, NULL, NULL, NULL,
     "sets attention_dropout and hidden_dropout where they are 0"},
    {"attention_dropout", FM_OPT_FLOAT, F(attention_dropout), "0", 0, 0.95, NULL, NULL, NULL,
     "dropout of the attention output"},
    {"hidden_dropout", FM_OPT_FLOAT, F(hidden_dropout), "0", 0, 0.95, NULL, "resid_dropout", NULL,
     "dropout of what each block adds to the residual"},
    {"embedding_dropout", FM_OPT_FLOAT, F(embedding_dropout), "0", 0, 0.95, NULL, NULL, NULL,
     "dropout of the embedding"},
    {"label_smoothing_factor", FM_OPT_FLOAT, F(label_smoothing_factor), "0", 0, 0.95, NULL, "label_smoothing", NULL,
     "share of the target spread over the vocabulary"},
    {"neftune_noise_alpha", FM_OPT_FLOAT, F(neftune_noise_alpha), "0", 0, 1000, NULL, "neftune_alpha", NULL,
     "uniform noise of alpha / sqrt(tokens x width) on embeddings in training (NEFTune; 5 is usual)"},
    {"ema_decay", FM_OPT_FLOAT, F(ema_decay), "0", 0, 0.9999999, NULL, NULL, NULL,
     "average of the trained weights, 0.999 or so; 0 = none. It costs 4 bytes a trained weight"},
    {"ema_evaluate", FM_OPT_BOOL, F(ema_evaluate), "true", 0, 0, NULL, NULL, NULL,
     "with ema_decay: evaluations read the average"},
    {"ema_save", FM_OPT_BOOL, F(ema_save), "true", 0, 0, NULL, NULL, NULL,
     "with ema_decay: the model written at the end is the average; checkpoints hold both"},
    {"z_loss", FM_OPT_FLOAT, F(z_loss), "0", 0, 1, NULL, NULL, NULL,
     "weight of log(Z)^2, which keeps logits small (1e-4 is usual)"},
    {"router_aux_loss_coef", FM_OPT_FLOAT, F(router_aux_loss_coef), "-1", -1, 1e3, NULL, "aux_loss_alpha", NULL,
     "experts: weight of the loss that balances their load; -1 = as config.json says, 0 = off"},
    {"moe_bias_update_rate", FM_OPT_FLOAT, F(moe_bias_update_rate), "-1", -1, 1, NULL, NULL, "RATE",
     "experts: step of the routing bias towards even load, without a loss (DeepSeek V3); -1 = 0.001 for new models, "
     "else "
     "0"},
    {"mtp_loss_weight", FM_OPT_FLOAT, F(mtp_loss_weight), "0.3", 0, 100, NULL, NULL, NULL,
     "models with multi-token prediction layers (DeepSeek V3): weight of their loss; 0 = they stay as they are"},
    {"mtp_from_scratch", FM_OPT_BOOL, F(mtp_from_scratch), "false", 0, 0, NULL, NULL, NULL,
     "begin multi-token prediction layers at random when model_name_or_path has no weights for them, instead of "
     "refusing it"},
    {"precision", FM_OPT_ENUM, F(precision), "auto", 0, 0, "auto|bf16|fp32|fp16", "dtype", NULL,
     "arithmetic; weights are kept in fp32 in any case; auto = bf16 where the CPU multiplies it; fp16, with a loss "
     "scale "
     "that follows the gradients, is emulated on CPUs and slow"},
    {"bf16", FM_OPT_BOOL, F(bf16), "false", 0, 0, NULL, NULL, NULL, "the same as precision: bf16"},
    {"fp16", FM_OPT_BOOL, F(fp16), "false", 0, 0, NULL, NULL, NULL, "the same as precision: fp16"},
    {"initial_loss_scale", FM_OPT_FLOAT, F(initial_loss_scale), "65536", 1, 16777216, NULL, "fp16_scale", NULL,
     "fp16: what the loss is multiplied by at first; halved when gradients overflow"},
    {"loss_scale_window", FM_OPT_INT, F(loss_scale_window), "2000", 1, 1e9, NULL, NULL, "N",
     "fp16: good steps in a row after which it is doubled"},
    {"gradient_checkpointing", FM_OPT_ENUM, F(gradient_checkpointing), "auto", 0, 0, "auto|on|off", NULL, NULL,
     "compute each layer again in backward instead of keeping it; auto = when memory asks for it"},
    {"optimizer_offload", FM_OPT_ENUM, F(optimizer_offload), "auto", 0, 0, "auto|disk|off", "offload_optimizer", NULL,
     "states of the optimizer in a file of OUTPUT/cache that the system reads and writes as they are used; auto = when "
     "nothing else fits; the result has the same bits"},
    {"max_memory", FM_OPT_BYTES, F(max_memory), "0", 0, 0, NULL, NULL, "BYTES",
     "memory the process may use, such as 6GB; 0 = what is free"},
    {"threads", FM_OPT_INT, F(threads), "0", 0, 4096, NULL, NULL, "N", "compute threads; 0 = all CPUs"},
    {"seed", FM_OPT_INT, F(seed), "42", 0, 9e15, NULL, NULL, "N", "of weights, order of data and dropout"},
    {"logging_steps", FM_OPT_INT, F(logging_steps), "50", 1, 1e12, NULL, "log_interval", "N",
     "steps between log lines"},
    {"save_strategy", FM_OPT_ENUM, F(save_strategy), "steps", 0, 0, "steps|epoch|no", NULL, NULL,
     "checkpoints every save_steps, after each epoch, or only at the end"},
    {"eval_strategy", FM_OPT_ENUM, F(eval_strategy), "steps", 0, 0, "steps|epoch|no", "evaluation_strategy", NULL,
     "evaluation every eval_steps, after each epoch, or never"},
    {"per_device_eval_batch_size", FM_OPT_INT, F(per_device_eval_batch_size), "0", 0, 65536, NULL, NULL, "N",
     "windows of an evaluation pass; 0 = what the memory of training holds; the value does not change the result"},
    {"save_steps", FM_OPT_INT, F(save_steps), "500", 0, 1e12, NULL, "save_interval", "N",
     "steps between checkpoints; 0 = only at the end"},
    {"save_minutes", FM_OPT_FLOAT, F(save_minutes), "0", 0, 1e6, NULL, NULL, "MINUTES",
     "time between checkpoints, beside save_steps; 0 = off"},
    {"eval_steps", FM_OPT_INT, F(eval_steps), "500", 0, 1e12, NULL, NULL, "N",
     "steps between evaluations; one more at the end; 0 = only then"},
    {"eval_max_samples", FM_OPT_INT, F(eval_max_samples), "0", 0, 1e12, NULL, NULL, "N",
     "windows of an evaluation; 0 = all"},
    {"eval_on_start", FM_OPT_BOOL, F(eval_on_start), "false", 0, 0, NULL, NULL, NULL, "evaluate before the first step"},
    {"save_total_limit", FM_OPT_INT, F(save_total_limit), "3", 0, 1e6, NULL, NULL, "N",
     "newest checkpoints kept; the best one is kept beside them; 0 = all"},
    {"metric_for_best_model", FM_OPT_STR, F(metric_for_best_model), "eval_loss", 0, 0, NULL, NULL, "NAME",
     "eval_loss, eval_perplexity, eval_bits_per_byte, loss, or one that the stage measures: eval_accuracy, "
     "eval_f1_macro, eval_f1_micro (cls), eval_precision, eval_recall, eval_f1 (tag: of entities), eval_mse, eval_mae, "
     "eval_pearson (reg)"},
    {"greater_is_better", FM_OPT_ENUM, F(greater_is_better), "auto", 0, 0, "auto|true|false", NULL, NULL,
     "direction of metric_for_best_model; auto = by its kind"},
    {"load_best_model_at_end", FM_OPT_BOOL, F(load_best_model_at_end), "false", 0, 0, NULL, NULL, NULL,
     "the result is the best checkpoint, not the last"},
    {"early_stopping", FM_OPT_BOOL, F(early_stopping), "false", 0, 0, NULL, NULL, NULL,
     "the same as early_stopping_patience: 3"},
    {"early_stopping_patience", FM_OPT_INT, F(early_stopping_patience), "0", 0, 1e6, NULL, "early_stopping_steps", "N",
     "stop after this many evaluations without gain; 0 = off (3 is usual)"},
    {"early_stopping_threshold", FM_OPT_FLOAT, F(early_stopping_threshold), "0", 0, 1e9, NULL, NULL, NULL,
     "least gain that counts"},
    {"nan_policy", FM_OPT_ENUM, F(nan_policy), "skip", 0, 0, "skip|stop", NULL, NULL,
     "what a step with NaN or infinite loss or gradient does; layer and rows are named"},
    {"spike_factor", FM_OPT_FLOAT, F(spike_factor), "10", 0, 1e9, NULL, NULL, NULL,
     "skip a step whose loss or gradient norm lies this many spreads above the running median; 0 = off"},
    {"grad_norm_min", FM_OPT_FLOAT, F(grad_norm_min), "0", 0, 1e9, NULL, NULL, NULL,
     "warn below this gradient norm; 0 = a band learned from the run"},
    {"grad_norm_max", FM_OPT_FLOAT, F(grad_norm_max), "0", 0, 1e9, NULL, NULL, NULL,
     "warn above this gradient norm; 0 = a band learned from the run"},
    {"max_skipped_steps", FM_OPT_INT, F(max_skipped_steps), "10", 1, 1e9, NULL, NULL, "N",
     "skipped steps in a row after which the run goes back to its newest checkpoint, with half the rate and other "
     "rows"},
    {"max_rollbacks", FM_OPT_INT, F(max_rollbacks), "2", 0, 1000, NULL, NULL, "N",
     "times that a run goes back; after that, or without a checkpoint, it ends with an error"},
    {"measure_mfu", FM_OPT_BOOL, F(measure_mfu), "true", 0, 0, NULL, NULL, NULL,
     "measure the machine's best matrix product first (half a second), for MFU"},
    {0},
};

const fm_option *fm_train_options(void) {
    return table;
}

fm_status fm_train_config_new(fm_train_config **out) {
    *out = fm_calloc(1, sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a configuration");
    }
    fm_status s = fm_options_init(*out, table);
    if (s != FM_OK) {
        fm_train_config_free(*out);
        *out = NULL;
    }
    return s;
}

void fm_train_config_free(fm_train_config *cfg) {
    if (cfg) {
        fm_options_free(cfg, table);
        fm_free(cfg);
    }
}

int64_t fm_train_patience(const fm_train_config *c) {
    return c->early_stopping_patience > 0 ? c->early_stopping_patience : c->early_stopping ? 3 : 0;
}

double fm_train_default_rate(int64_t n_params, bool from_scratch) {
    if (!from_scratch) {
        return 3e-5;
    }
    return fmin(1e-3, 6e-4 * pow(125e6 / (double)FM_MAX(n_params, 1), 0.42));
}

/* Multiplying bf16 in hardware is what makes it worth its rounding. */
static fm_dtype choose_compute(const fm_train_config *c) {
    if (c->precision == FM_PRECISION_FP16 || (c->precision == FM_PRECISION_AUTO && c->fp16)) {
        return FM_F16;
    }
    if (c->precision == FM_PRECISION_BF16 || (c->precision == FM_PRECISION_AUTO && c->bf16)) {
        return FM_BF16;
    }
    if (c->precision == FM_PRECISION_FP32) {
        return FM_F32;
    }
    const fm_cpu_info *i = fm_cpu_get();
    fm_isa isa = fm_cpu_isa();
    bool fast = (isa == FM_ISA_AVX512 && i->avx512_bf16) || (isa == FM_ISA_NEON && i->neon_bf16);
    return fast ? FM_BF16 : FM_F32;
}

static fm_status check_schedule(const fm_train_config *c, fm_schedule *s) {
    s->type = fm_schedule_find(c->lr_scheduler_type ? c->lr_scheduler_type : "");
    if (!s->type) {
        fm_str known = {0};
        fm_schedule_names(&known);
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "lr_scheduler_type: '%s' is not known", c->lr_scheduler_type);
        fm_status st = fm_error_hint("known: %s", known.data ? known.data : "");
        fm_str_free(&known);
        return st;
    }
    if (c->lr_milestones.n > FM_MAX_MILESTONES) {
        FM_FAIL(FM_ERR_CONFIG, "lr_milestones has %zu entries, at most %d are taken", c->lr_milestones.n,
                FM_MAX_MILESTONES);
    }
    for (size_t i = 0; i < c->lr_milestones.n; i++) {
        if (fm_parse_f64(&s->milestone[i], c->lr_milestones.item[i]) != FM_OK || s->milestone[i] < 0) {
            FM_FAIL(FM_ERR_CONFIG, "lr_milestones: '%s' is not a number of steps or a share", c->lr_milestones.item[i]);
        }
    }
    s->n_milestones = (int)c->lr_milestones.n;
    s->min_ratio = c->min_lr_ratio;
    s->decay_ratio = c->wsd_decay_ratio;
    s->gamma = c->lr_gamma;
    return FM_OK;
}

static const char *const losses[] = {"eval_loss", "eval_perplexity", "eval_bits_per_byte", "loss", NULL};
static const char *const smaller[] = {"_loss", "_perplexity", "_mse", "_mae", NULL}; /* ends of names */

static bool in_list(const char *const *list, const char *name) {
    for (; list && *list; list++) {
        if (strcmp(*list, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool ends_in_list(const char *const *list, const char *name) {
    for (size_t n = strlen(name); *list; list++) {
        size_t k = strlen(*list);
        if (n >= k && strcmp(name + n - k, *list) == 0) {
            return true;
        }
    }
    return false;
}

bool fm_train_more_is_better(const fm_train_config *c) {
    const char *m = c->metric_for_best_model ? c->metric_for_best_model : "";
    return c->greater_is_better == FM_AUTO ? !in_list(losses, m) && !ends_in_list(smaller, m)
                                           : c->greater_is_better == FM_ON;
}

static fm_status check_metric(const fm_train_config *c, const fm_objective *o) {
    const char *m = c->metric_for_best_model ? c->metric_for_best_model : "";
    if (in_list(losses, m) || in_list(o->metrics, m) || (o->several && strncmp(m, "eval_", 5) == 0)) {
        return FM_OK;
    }
    fm_str known = {0};
    for (const char *const *p = losses; *p; p++) {
        fm_str_printf(&known, "%s%s", p == losses ? "" : ", ", *p);
    }
    for (const char *const *p = o->metrics; p && *p; p++) {
        fm_str_printf(&known, ", %s", *p);
    }
    fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "metric_for_best_model: '%s' is not known to stage %s", m, o->name);
    fm_status s = fm_error_hint("known: %s", known.data ? known.data : "");
    fm_str_free(&known);
    return s;
}

fm_status fm_train_config_check(const fm_train_config *c, fm_train_choice *out) {
    *out = (fm_train_choice){0};
    out->objective = fm_objective_find(c->stage ? c->stage : "");
    if (!out->objective) {
        fm_str known = {0};
        fm_objective_names(&known);
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "stage: '%s' is not known", c->stage ? c->stage : "");
        fm_status st = fm_error_hint("known: %s", known.data ? known.data : "");
        fm_str_free(&known);
        return st;
    }
    out->optimizer = fm_optimizer_find(c->optim ? c->optim : "");
    if (!out->optimizer) {
        fm_str known = {0};
        fm_optimizer_names(&known);
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "optim: '%s' is not known", c->optim ? c->optim : "");
        fm_status st = fm_error_hint("known: %s", known.data ? known.data : "");
        fm_str_free(&known);
        return st;
    }
    FM_TRY(check_schedule(c, &out->schedule));
    out->compute = choose_compute(c);
    bool set = c->precision != FM_PRECISION_AUTO;
    if ((c->bf16 && set && c->precision != FM_PRECISION_BF16) ||
        (c->fp16 && set && c->precision != FM_PRECISION_FP16) || (c->bf16 && c->fp16)) {
        FM_FAIL(FM_ERR_CONFIG, "precision, bf16 and fp16 disagree: set one of them");
    }
    out->finetune = fm_finetune_find(c->finetuning_type ? c->finetuning_type : "full");
    if (!out->finetune) {
        fm_str kinds = {0};
        fm_finetune_names(&kinds);
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "finetuning_type: '%s' is not known", c->finetuning_type);
        fm_status st = fm_error_hint("known: %s", kinds.data ? kinds.data : "");
        fm_str_free(&kinds);
        return st;
    }
    if ((c->quantization_bit != 0 || c->quantization_type) && strcmp(out->finetune->name, "lora") != 0) {
        FM_FAIL(FM_ERR_CONFIG, "quantization_bit and quantization_type are of finetuning_type lora: %s changes weights",
                out->finetune->name);
    }
    FM_TRY(check_metric(c, out->objective));
    double at[FM_MAX_LEVELS];
    int n_at;
    FM_TRY(fm_curriculum_check(c, at, &n_at));
    FM_TRY(fm_continual_check(c));
    FM_TRY(fm_tasks_check(out->objective, c));
    if (c->report_to && strcmp(c->report_to, "tensorboard") != 0 && strcmp(c->report_to, "none") != 0) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "report_to: '%s' is not known", c->report_to);
        return fm_error_hint("known: tensorboard, none");
    }
    int sources = (c->model_name_or_path != NULL) + (c->preset != NULL) + (c->params > 0);
    if (sources != 1) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__,
                     sources == 0 ? "no model is named" : "more than one model is named");
        return fm_error_hint("set one of model_name_or_path, preset and params");
    }
    if (c->max_steps <= 0 && !(c->num_train_epochs > 0)) {
        FM_FAIL(FM_ERR_CONFIG, "num_train_epochs is %g and max_steps %lld: nothing would be trained",
                c->num_train_epochs, (long long)c->max_steps);
    }
    return FM_OK;
}
