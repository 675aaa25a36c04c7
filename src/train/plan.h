/* Memory of a run before it starts: the run's own forward and backward on the meta device give the exact bytes of
 * activations for any micro-batch; the rest is arithmetic over the parameter store. */
#ifndef FM_TRAIN_PLAN_H
#define FM_TRAIN_PLAN_H

#include "train/config.h"

/* What the plan is made for. */
typedef struct fm_plan_input {
    fm_model *model; /* built; needs no memory. checkpoint_layers is set while measuring and put back */
    const fm_objective *objective;
    const fm_optimizer *optimizer;
    const fm_optim_options *optim;
    fm_dtype compute;
    double mlm_probability;
    const fm_json *dataset;         /* dataset.json or NULL */
    const fm_strlist *task_weights; /* of several tasks */
    int32_t seq_len, vocab;
    int32_t max_segments;        /* of a window, 0 = 1 */
    int64_t batch, accumulation; /* as asked for */
    int gradient_checkpointing;  /* fm_auto */
    int64_t limit;               /* bytes the process may use; 0 = no limit */
    int threads;
    bool evaluates;
    int offload;        /* fm_auto: states of the optimizer in a file */
    bool averages;      /* weights are averaged (ema_decay) */
    int64_t more_bytes; /* that the run holds besides */
} fm_plan_input;

typedef struct fm_mem_plan {
    int64_t micro_batch, accumulation; /* samples of a pass; passes of a step */
    int64_t step_samples;              /* samples of a step: what was asked for, never changed */
    bool recompute;
    bool offload; /* states of the optimizer in a file: counted in optimizer_bytes, not in process_bytes */
    int64_t eval_batch;
    int64_t weights_bytes, copy_bytes, grad_bytes, optimizer_bytes; /* exact */
    int64_t arena_bytes, act_grad_bytes;                            /* exact for micro_batch and eval_batch */
    int64_t scratch_bytes, other_bytes;                             /* predicted */
    int64_t process_bytes;
    bool fits;
    char why[256];
} fm_mem_plan;

/* Chooses the largest micro-batch that fits, then recomputation, then the optimizer on disk; the effective batch stays.
 */
FM_MUST_CHECK fm_status fm_mem_plan_make(fm_mem_plan *out, const fm_plan_input *in);
/* Fills the bytes for a micro-batch and recompute already set in *p. */
FM_MUST_CHECK fm_status fm_mem_plan_measure(fm_mem_plan *p, const fm_plan_input *in);
/* The next smaller plan with the same effective batch after memory ran out: half the micro-batch, then recomputation,
 * then the optimizer on disk. False when there is none. */
FM_MUST_CHECK fm_status fm_mem_plan_lower(fm_mem_plan *p, const fm_plan_input *in, bool *lowered);

/* Operations of one trained token, forward and backward: 6 N + 12 L D T (Chowdhery et al. 2022, appendix B), N without
 * an input embedding that is no head as well, which is a lookup, and of experts those that one token meets. */
double fm_flops_per_token(const fm_model *m, int32_t seq_len);

#endif
