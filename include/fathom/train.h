/* Training.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_TRAIN_H
#define FATHOM_TRAIN_H

#include "fathom/log.h"
#include "fathom/option.h"
#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Everything `fathom train` can be told; the rows of the table are the keys. */
typedef struct fm_train_config fm_train_config;
FM_API const fm_option *fm_train_options(void);
FM_API FM_MUST_CHECK fm_status fm_train_config_new(fm_train_config **out); /* defaults */
FM_API void fm_train_config_free(fm_train_config *cfg);
typedef struct fm_train_metric {
    const char *name; /* "eval_accuracy" */
    double value;
} fm_train_metric;

/* One line of the training log. Fields that were not computed are NaN. */
typedef struct fm_train_event {
    size_t size;
    int64_t step, n_steps;
    double epoch, loss, learning_rate, grad_norm, tokens_per_s, mfu, eval_loss, eval_perplexity, eval_bits_per_byte;
    int64_t n_tokens; /* trained so far */
    int64_t memory_bytes;
    double elapsed_s, remaining_s;
    bool skipped; /* the step was skipped by the guard */
    const double
        *layer_grad_norm; /* [n_layers + 1] of this step; the last is of everything outside layers. NULL: none */
    int n_layers;
    /* Load of experts over this step: (largest - mean) / mean, mean over layers. 0 = even; NaN for a dense model. */
    double expert_max_violation;
    const fm_train_metric *metrics; /* [n_metrics] of an evaluation, besides its loss; until the call returns */
    int n_metrics;
    const char *skipped_rows; /* where the rows of a skipped step stand; or NULL */
} fm_train_event;
typedef void (*fm_train_event_fn)(void *user, const fm_train_event *e);

typedef struct fm_train_result {
    size_t size;
    int64_t steps, tokens, skipped_steps;
    double train_loss, eval_loss, eval_bits_per_byte, best_metric;
    int64_t best_step;
    double seconds, tokens_per_s, mfu;
    char output_dir[1024];
    char stopped_by[32]; /* "end", "early_stopping", "interrupt" */
    /* Of a trial: */
    int64_t whole_steps; /* of the run that it is a trial of */
    int64_t eval_windows, tokens_per_step;
    double eval_seconds, save_seconds;
    int32_t vocab;
} fm_train_result;

/* Runs or resumes, with the sinks that report_to names (trainer_log.jsonl always). FM_ERR_CANCELLED when interrupted,
 * with the checkpoint written. on_event may be NULL. */
FM_API FM_MUST_CHECK fm_status fm_train_run(const fm_train_config *cfg, fm_train_event_fn on_event, void *user,
                                            fm_train_result *result);

/* What a run tells its sinks before the first step. Strings live until the run ends. */
typedef struct fm_train_info {
    size_t size;
    const char *output_dir, *run_name, *stage, *precision, *kernels, *report_to;
    const char *config_yaml; /* every key as it is used */
    const char *data_hash;
    int64_t first_step; /* 0, or the step resumed from: what a log holds after it is of a lost past */
    int64_t n_steps, n_params, tokens_per_step;
    int threads;
} fm_train_info;
/* Where the numbers of a run go. A sink that fails is told of in a warning and left out; it never ends the run. */
typedef struct fm_train_sink {
    const char *name;
    void *user;
    fm_status (*begin)(void **state, void *user, const fm_train_info *info);
    fm_status (*event)(void *state, const fm_train_event *e);
    void (*end)(void *state, const fm_train_result *r); /* r NULL when the run failed; frees state */
} fm_train_sink;
/* As fm_train_run with these sinks (at most 8) and no others. */
FM_API FM_MUST_CHECK fm_status fm_train_run_sinks(const fm_train_config *cfg, const fm_train_sink *sinks, int n_sinks,
                                                  fm_train_result *result);

/* What the numbers of a finished or interrupted run say, with the evidence, and the keys to change. */
typedef struct fm_advice_change {
    const char *key;
    char from[32], to[32];
} fm_advice_change;
typedef struct fm_finding {
    const char *kind; /* "divergence", "overfitting", "underfitting", "learning curve", "memory", "slow" */
    char evidence[256];
    char advice[256]; /* what no key does; "" = nothing */
    fm_advice_change change[4];
    int n_changes;
} fm_finding;
typedef struct fm_advice {
    size_t size;
    fm_finding finding[8];
    int n;
} fm_advice;
/* Reads trainer_log.jsonl and the newest checkpoint of a run's output folder. */
FM_API FM_MUST_CHECK fm_status fm_train_advise(fm_advice *out, const char *output_dir);
/* {"findings": [{kind, evidence, advice, changes: [{for, key, from, to}]}]}, released with fm_string_free. */
FM_API FM_MUST_CHECK fm_status fm_train_advice_json(char **out, const fm_advice *a);
/* Writes the run's configuration with all changes made into a YAML file, for a new output_dir. */
FM_API FM_MUST_CHECK fm_status fm_train_advice_apply(const fm_advice *a, const char *output_dir, const char *path);

/* What a run would need: nothing is trained. With calibrate, kernels are timed for about calibrate_s seconds. */
typedef struct fm_plan {
    size_t size;
    int64_t n_params;
    int64_t weights_bytes, copy_bytes, grad_bytes, optimizer_bytes; /* exact */
    int64_t activation_bytes, activation_grad_bytes;                /* exact for the chosen micro-batch */
    int64_t scratch_bytes, process_bytes; /* predicted: kernels' scratch; peak anonymous memory */
    int64_t micro_batch, accumulation, tokens_per_step, n_steps;
    bool recompute;
    char precision[16], kernels[32];
    int threads;
    double flops_per_step_causal;                              /* attention counted as computed: half of the square */
    double flops_per_step, step_s, total_s, tokens_per_s, mfu; /* NaN without calibration */
    bool fits;
    char why[256]; /* how micro-batch and recomputation were chosen */
} fm_plan;
FM_API FM_MUST_CHECK fm_status fm_train_plan(fm_plan *out, const fm_train_config *cfg, double calibrate_s);

/* A short run of a configuration before the long one: its first steps with the whole learning rate schedule drawn
 * together, a part of the evaluation, a checkpoint. */
typedef struct fm_trial {
    size_t size;
    int64_t steps, n_steps; /* done; of the whole run */
    int64_t tokens_per_step, memory_bytes;
    double step_s, tokens_per_s;    /* median step, the first one left out */
    double setup_s, eval_s, save_s; /* until the first step; one whole evaluation; one checkpoint */
    int64_t n_evals, n_saves;       /* of the whole run */
    double total_s;                 /* of the whole run */
    double first_loss, last_loss;   /* means of the first and the last quarter of the steps */
    double guess_loss;              /* of a guess among all tokens; NaN where the loss is another */
    fm_advice advice;
    char output_dir[1024]; /* where it wrote */
} fm_trial;
/* amount: a share of the run ("1%", at least 10 and at most 200 steps) or a number of steps; NULL = 1%. Changes cfg.
 * What it writes goes to OUTPUT_DIR.trial and is removed; with keep it goes to output_dir and stays, as the result of a
 * short run. */
FM_API FM_MUST_CHECK fm_status fm_train_trial(fm_trial *out, fm_train_config *cfg, const char *amount, bool keep);
/* The same with a sink that writes trainer_log.jsonl. */
FM_API FM_MUST_CHECK fm_status fm_train_trial_sink(fm_trial *out, fm_train_config *cfg, const char *amount, bool keep,
                                                   const fm_train_sink *log);

#ifdef __cplusplus
}
#endif
#endif
