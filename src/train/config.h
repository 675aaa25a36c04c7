/* Keys of a training run and what they come to. */
#ifndef FM_TRAIN_CONFIG_H
#define FM_TRAIN_CONFIG_H

#include "data/examples.h"
#include "fathom/train.h"
#include "train/objective.h"
#include "train/optimizer.h"
#include "train/schedule.h"

typedef enum fm_auto { FM_AUTO, FM_ON, FM_OFF } fm_auto;
typedef enum fm_precision { FM_PRECISION_AUTO, FM_PRECISION_BF16, FM_PRECISION_FP32, FM_PRECISION_FP16 } fm_precision;
typedef enum fm_when { FM_WHEN_STEPS, FM_WHEN_EPOCH, FM_WHEN_NO } fm_when;
typedef enum fm_nan_policy { FM_NAN_SKIP, FM_NAN_STOP } fm_nan_policy;

struct fm_train_config {
    /* What is trained. */
    char *stage, *finetuning_type;
    char *model_name_or_path, *preset, *tokenizer;
    int64_t params, vocab_size;
    bool train_from_scratch;
    double mlm_probability;
    char *attention_pattern;
    int positions; /* fm_positions */
    int64_t sliding_window;
    int64_t lora_rank, freeze_trainable_layers;
    double lora_alpha, lora_dropout;
    int64_t quantization_bit;
    char *quantization_type;
    bool double_quantization;
    bool use_rslora, use_dora;
    int64_t progressive_width, progressive_layers, progressive_lateral;
    fm_strlist lora_target, modules_to_save, freeze_trainable_modules;
    /* Data. */
    fm_rows_config rows; /* input = dataset */
    fm_strlist eval_dataset;
    fm_columns columns;
    char *template_;
    int train_on, problem_type, long_rows,
        class_weight; /* fm_train_on, fm_problem_type, FM_LONG_ minus CUT, 1 = balanced */
    fm_strlist tasks, task_weights;
    char *task_column;
    double val_size;
    int64_t cutoff_len;
    bool shuffle, verify_data;
    fm_strlist earlier_dataset, replay_dataset, frozen_tests;
    double ewc_lambda, replay_ratio, replay_weight, replay_temperature;
    int64_t ewc_samples;
    char *ewc_fisher, *replay_model;
    int curriculum; /* FM_CURRICULUM_ (train/difficulty.h) */
    char *curriculum_column, *curriculum_model;
    fm_strlist curriculum_levels;
    int curriculum_by_weights, curriculum_in_steps; /* 0 or 1 */
    /* Output. */
    char *output_dir, *run_name, *resume_from_checkpoint, *report_to;
    bool overwrite_output_dir;
    /* Optimization. */
    double learning_rate, min_lr_ratio, warmup_ratio, wsd_decay_ratio, lr_gamma, num_train_epochs;
    int64_t per_device_train_batch_size, gradient_accumulation_steps, max_steps, warmup_steps;
    fm_strlist lr_milestones;
    char *lr_scheduler_type, *optim;
    double adam_beta1, adam_beta2, adam_epsilon, sgd_momentum, muon_momentum, weight_decay, l1, l2, max_grad_norm;
    bool sgd_nesterov;
    double dropout, hidden_dropout, attention_dropout, embedding_dropout, label_smoothing_factor, z_loss;
    double neftune_noise_alpha, ema_decay;
    bool ema_evaluate, ema_save;
    double router_aux_loss_coef, moe_bias_update_rate; /* below 0: by the model */
    double mtp_loss_weight;
    bool mtp_from_scratch;
    /* Machine. */
    int precision, gradient_checkpointing, optimizer_offload;
    bool bf16, fp16;
    double initial_loss_scale;
    int64_t loss_scale_window;
    int64_t max_memory, threads, seed;
    /* When. */
    int save_strategy, eval_strategy; /* fm_when */
    int64_t per_device_eval_batch_size;
    int64_t logging_steps, save_steps, eval_steps, save_total_limit, early_stopping_patience, eval_max_samples;
    double save_minutes, early_stopping_threshold;
    char *metric_for_best_model;
    int greater_is_better; /* fm_auto: by the metric */
    bool load_best_model_at_end, eval_on_start, early_stopping;
    /* Guard. */
    int nan_policy;
    double spike_factor, grad_norm_min, grad_norm_max;
    int64_t max_skipped_steps, max_rollbacks;
    /* Measuring. */
    bool measure_mfu;
    /* Of a trial, no keys: */
    double trial_share; /* of the steps */
    int64_t trial_steps;
};

/* Names and values that tables hold, looked up; messages name the key. */
typedef struct fm_finetune fm_finetune;
typedef struct fm_train_choice {
    const fm_finetune *finetune;
    const fm_objective *objective;
    const fm_optimizer *optimizer;
    fm_schedule schedule; /* n_steps and warm-up still open */
    fm_dtype compute;
} fm_train_choice;
/* Checks every key that can be checked without looking at files. */
FM_MUST_CHECK fm_status fm_train_config_check(const fm_train_config *c, fm_train_choice *out);
/* Whether more is better, by the key or the metric's kind. */
bool fm_train_more_is_better(const fm_train_config *c);
/* Evaluations without gain that end the run, 0 = none do. */
int64_t fm_train_patience(const fm_train_config *c);
/* The rate for n_params, when learning_rate is 0: from scratch it falls with the model's size
 * (6e-4 at 125M, 2.2e-4 at 1.3B, 1.1e-4 at 6.7B, after Brown et al. 2020; at most 1e-3), else 3e-5. */
double fm_train_default_rate(int64_t n_params, bool from_scratch);

#endif
