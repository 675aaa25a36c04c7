/* Memory plans. */
#include "train/plan.h"

#include "train/ema.h"
#include "train/finetune.h"
#include "train/loss_scale.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define BASE_BYTES         ((int64_t)10 << 20) /* the program itself, tokenizer, buffers */
#define SCRATCH_PER_THREAD ((int64_t)6 << 20)  /* panels of matrix products, attention tiles */

double fm_flops_per_token(const fm_model *m, int32_t seq_len) {
    int64_t n = fm_model_params_active(m);
    if (!m->cfg.tied || m->cfg.head.kind != FM_HEAD_LM) {
        n -= (int64_t)m->cfg.vocab_size * m->cfg.d_model;
    }
    return 6.0 * (double)n + 12.0 * m->cfg.n_layers * m->cfg.d_model * (double)seq_len;
}

static int64_t align64(int64_t n) {
    return (n + 63) / 64 * 64;
}

/* One pass of n samples on the meta device. */
static fm_status measure(const fm_plan_input *in, int64_t n, bool recompute, bool train, int64_t *arena,
                         int64_t *grads) {
    fm_ctx *c = NULL;
    void *state = NULL;
    fm_objective_env env = {.model = in->model,
                            .seq_len = in->seq_len,
                            .vocab = in->vocab,
                            .max_segments = in->max_segments,
                            .dataset = in->dataset,
                            .task_weights = in->task_weights,
                            .mlm_probability = in->mlm_probability};
    bool before = in->model->checkpoint_layers;
    in->model->checkpoint_layers = recompute;
    fm_ctx_options co = {.size = sizeof co, .compute = in->compute};
    fm_status s = fm_ctx_new(&c, &co);
    if (s == FM_OK) {
        s = in->objective->open(&state, &env);
    }
    if (s == FM_OK) {
        s = in->objective->load(state, NULL, n);
    }
    if (s == FM_OK) {
        fm_ctx_set_training(c, train);
        if (train) {
            fm_tape_begin(c);
        }
        fm_tensor *token_loss = NULL;
        fm_tensor *loss = in->objective->loss(state, c, 0, n, 1.0, train ? NULL : &token_loss);
        if (train && in->compute == FM_F16 && in->objective->scales_itself) {
            loss = fm_scale(c, loss, FM_LOSS_SCALE_MAX); /* as a step does */
        }
        s = loss ? FM_OK : fm_ctx_status(c);
        if (s == FM_OK && train) {
            s = fm_backward(c, loss, 1.0);
        }
    }
    if (s == FM_OK) {
        *arena = fm_ctx_arena_peak(c);
        *grads = fm_ctx_grad_peak(c);
        /* Micro-batches of several tasks differ in which heads and how many rows they have: pieces of other sizes come
         * and go in the region of gradients, which then has gaps that this one pass does not show. */
        *grads += in->objective->several ? *grads : 0;
    }
    in->model->checkpoint_layers = before;
    in->objective->close(state);
    fm_ctx_free(c);
    return s;
}

/* Weights, copies and gradients of a store; frozen ones are held in the compute type only. */
static void add_store(fm_mem_plan *p, const fm_params *ps, fm_dtype compute) {
    for (int i = 0; i < fm_params_count(ps); i++) {
        const fm_param *q = fm_params_at(ps, i);
        if (q->tie || q->instead) {
            continue;
        }
        int64_t narrow = align64(fm_dtype_bytes(compute, q->numel)), wide = align64(4 * q->numel);
        p->weights_bytes += q->own_dtype ? align64(fm_param_bytes(q, q->dtype)) : q->frozen ? narrow : wide;
        p->copy_bytes += q->frozen || compute == FM_F32 ? 0 : narrow;
        p->grad_bytes += q->frozen ? 0 : wide;
    }
}

/* A quantised weight becomes numbers for each of its products; experts of a layer all at once. */
static int64_t numbers_bytes(const fm_model *m, fm_dtype compute) {
    int64_t most = 0;
    for (int i = 0; i < fm_params_count(m->params); i++) {
        const fm_param *p = fm_params_at(m->params, i);
        int64_t n = p->own_dtype && p->n_dims == 2 ? p->numel : 0;
        most = FM_MAX(most, strstr(p->name, ".experts.") ? n * m->cfg.moe.n_experts : n);
    }
    return fm_dtype_bytes(compute, most);
}

fm_status fm_mem_plan_measure(fm_mem_plan *p, const fm_plan_input *in) {
    const fm_params *ps = fm_trained_params(in->model);
    p->weights_bytes = p->copy_bytes = p->grad_bytes = 0;
    add_store(p, in->model->params, in->compute);
    if (ps != in->model->params) {
        add_store(p, ps, in->compute);
    }
    int64_t states = fm_optim_bytes(in->optimizer, in->optim, ps);
    p->optimizer_bytes = states + (in->averages ? fm_ema_bytes(ps) : 0);
    FM_TRY(measure(in, p->micro_batch, p->recompute, true, &p->arena_bytes, &p->act_grad_bytes));
    /* Evaluation keeps to the memory that training has anyway, unless one sample needs more. */
    p->eval_batch = 1;
    for (int64_t n = in->evaluates ? p->micro_batch : 0; n >= 1; n /= 2) {
        int64_t arena, grads;
        FM_TRY(measure(in, n, false, false, &arena, &grads));
        if ((arena <= p->arena_bytes && grads <= p->act_grad_bytes) || n == 1) {
            p->eval_batch = n;
            p->arena_bytes = FM_MAX(p->arena_bytes, arena);
            p->act_grad_bytes = FM_MAX(p->act_grad_bytes, grads);
            break;
        }
    }
    p->scratch_bytes = SCRATCH_PER_THREAD * in->threads + fm_optim_scratch_bytes(in->optimizer, ps) +
                       numbers_bytes(in->model, in->compute);
    p->other_bytes = BASE_BYTES + in->more_bytes + p->step_samples * in->seq_len * 20;
    p->process_bytes = p->weights_bytes + p->copy_bytes + p->grad_bytes + p->optimizer_bytes + p->arena_bytes +
                       p->act_grad_bytes + p->scratch_bytes + p->other_bytes - (p->offload ? states : 0);
    p->accumulation = (p->step_samples + p->micro_batch - 1) / p->micro_batch;
    p->fits = in->limit <= 0 || p->process_bytes <= in->limit;
    return FM_OK;
}

/* Largest divisor of the step's samples below n, so that all passes of a step are equal; 0 when there is none. */
static int64_t next_lower(int64_t step_samples, int64_t n) {
    for (n--; n > 0 && step_samples % n != 0; n--) {
    }
    return n;
}

/* Largest micro-batch that fits, with or without recomputation. */
static fm_status largest(fm_mem_plan *p, const fm_plan_input *in, bool recompute) {
    p->recompute = recompute;
    for (p->micro_batch = FM_MIN(in->batch, p->step_samples);;) {
        FM_TRY(fm_mem_plan_measure(p, in));
        int64_t lower = next_lower(p->step_samples, p->micro_batch);
        if (p->fits || lower == 0) {
            return FM_OK;
        }
        p->micro_batch = lower;
    }
}

fm_status fm_mem_plan_make(fm_mem_plan *out, const fm_plan_input *in) {
    fm_mem_plan p = {.step_samples = in->batch * in->accumulation, .offload = in->offload == FM_ON};
    FM_TRY(largest(&p, in, in->gradient_checkpointing == FM_ON));
    if (!p.fits && in->gradient_checkpointing == FM_AUTO) {
        FM_TRY(largest(&p, in, true));
    }
    if (!p.fits && in->offload == FM_AUTO && p.optimizer_bytes > 0) {
        p.offload = true;
        FM_TRY(largest(&p, in, p.recompute));
    }
    char need[32], limit[32];
    fm_format_bytes(need, sizeof need, (double)p.process_bytes);
    fm_format_bytes(limit, sizeof limit, (double)in->limit);
    if (!p.fits) {
        snprintf(p.why, sizeof p.why, "even one window with recomputation needs %s of %s", need, limit);
    } else if (p.micro_batch == in->batch && p.recompute == (in->gradient_checkpointing == FM_ON) &&
               p.offload == (in->offload == FM_ON)) {
        snprintf(p.why, sizeof p.why, "as asked for: %s%s%s", need, in->limit > 0 ? " of " : "",
                 in->limit > 0 ? limit : "");
    } else {
        snprintf(p.why, sizeof p.why, "lowered from %lld x %lld to fit %s (%s)%s%s: the effective batch stays %lld",
                 (long long)in->batch, (long long)in->accumulation, limit, need,
                 p.recompute ? ", activations recomputed" : "", p.offload ? ", optimizer on disk" : "",
                 (long long)p.step_samples);
    }
    *out = p;
    return FM_OK;
}

fm_status fm_mem_plan_lower(fm_mem_plan *p, const fm_plan_input *in, bool *lowered) {
    *lowered = true;
    if (p->micro_batch > 1) {
        p->micro_batch /= 2;
    } else if (!p->recompute && in->gradient_checkpointing != FM_OFF) {
        p->recompute = true;
    } else if (!p->offload && in->offload != FM_OFF && p->optimizer_bytes > 0) {
        p->offload = true;
    } else {
        *lowered = false;
        return FM_OK;
    }
    snprintf(p->why, sizeof p->why, "lowered after memory ran out; the effective batch stays %lld",
             (long long)p->step_samples);
    return fm_mem_plan_measure(p, in);
}
