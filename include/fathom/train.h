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
/* One line of the training log. Fields that were not computed are NaN. */
typedef struct fm_train_event {
    size_t size;
    int64_t step, n_steps;
    double epoch, loss, learning_rate, grad_norm, tokens_per_s, mfu, eval_loss, eval_perplexity, eval_bits_per_byte;
    int64_t n_tokens; /* trained so far */
    int64_t memory_bytes;
    double elapsed_s, remaining_s;
    bool skipped; /* the step was skipped by the guard */
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
} fm_train_result;

/* Runs or resumes. FM_ERR_CANCELLED when interrupted, with the checkpoint written. */
FM_API FM_MUST_CHECK fm_status fm_train_run(const fm_train_config *cfg, fm_train_event_fn on_event, void *user,
                                            fm_train_result *result);

/* What a run would need: nothing is trained. With calibrate, kernels are timed for about calibrate_s seconds. */
typedef struct fm_plan {
    size_t size;
    int64_t n_params;
    int64_t weights_bytes, copy_bytes, grad_bytes, optimizer_bytes; /* exact */
    int64_t activation_bytes, activation_grad_bytes;                /* exact for the chosen micro-batch */
    int64_t scratch_bytes, process_bytes;                           /* predicted: kernels' scratch; peak anonymous memory */
    int64_t micro_batch, accumulation, tokens_per_step, n_steps;
    bool recompute;
    char precision[16], kernels[32];
    int threads;
    double flops_per_step, step_s, total_s, tokens_per_s, mfu; /* NaN without calibration */
    bool fits;
    char why[256]; /* how micro-batch and recomputation were chosen */
} fm_plan;
FM_API FM_MUST_CHECK fm_status fm_train_plan(fm_plan *out, const fm_train_config *cfg, double calibrate_s);

#ifdef __cplusplus
}
#endif
#endif
