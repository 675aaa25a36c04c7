/* One optimizer step.
 *
 * All samples of the step are read first, so that the loss is divided by the true number of trained tokens of the whole
 * step; then micro-batches forward and backward, the gradient norm over all parameters, the guard, and one pass of the
 * optimizer. Until that pass nothing has changed but gradients: a step that runs out of memory is run again with a
 * smaller plan, and one that is interrupted is as if it had not begun. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "train/continual.h"
#include "train/run.h"

#define MAX_ROWS_NAMED 8

static fm_status micro_batch(fm_trainer *r, int64_t begin, int64_t end, double scale, double *loss) {
    fm_ctx *c = r->ctx;
    double mark = fm_now();
    fm_ctx_set_training(c, true);
    fm_ctx_set_step(c, (uint32_t)r->st.step, (uint64_t)begin * (uint64_t)r->seq_len);
    fm_tape_begin(c);
    fm_tensor *t = r->choice.objective->loss(r->objective, c, begin, end, scale * r->st.loss_scale.scale, NULL);
    if (r->choice.objective->scales_itself && r->st.loss_scale.scale != 1) {
        t = fm_scale(c, t, r->st.loss_scale.scale);
    }
    if (!t) {
        return fm_ctx_status(c);
    }
    const float *value = fm_data(c, t);
    FM_TRY(fm_ctx_status(c));
    *loss += (double)*value / r->st.loss_scale.scale;
    fm_trainer_charge(r, FM_PHASE_FORWARD, &mark);
    FM_TRY(fm_backward(c, t, 1.0));
    fm_trainer_charge(r, FM_PHASE_BACKWARD, &mark);
    return FM_OK;
}

/* Forward and backward of n samples with n_trained trained tokens. */
static fm_status passes(fm_trainer *r, int64_t n, int64_t n_trained, double *loss) {
    fm_params_begin_step(r->params);
    fm_trainer_clear_load(r);
    *loss = 0;
    for (int64_t begin = 0; begin < n; begin += r->plan.micro_batch) {
        if (fm_cancelled()) {
            FM_FAIL(FM_ERR_CANCELLED, "interrupted at step %lld", (long long)r->st.step);
        }
        FM_TRY(micro_batch(r, begin, FM_MIN(begin + r->plan.micro_batch, n), 1.0 / (double)FM_MAX(n_trained, 1), loss));
    }
    return fm_continual_add(r);
}

/* Memory ran out during the passes: a smaller plan for the same step, or the failure that was there. */
fm_status fm_trainer_recover(fm_trainer *r) {
    fm_error_record keep;
    fm_error_save(&keep);
    fm_ctx_free(r->ctx);
    r->ctx = NULL;
    for (;;) {
        bool lowered;
        FM_TRY(fm_mem_plan_lower(&r->plan, &r->plan_input, &lowered));
        if (!lowered) {
            fm_error_restore(&keep);
            return fm_error_hint(
                "memory ran out with one window and recomputation; lower cutoff_len or use a smaller model. The last "
                "checkpoint is good: --resume goes on from it");
        }
        if (r->plan.offload && !r->optim.on_disk) {
            char path[4096];
            FM_TRY(fm_trainer_states_path(r, path, sizeof path));
            FM_TRY(fm_optim_to_disk(&r->optim, path));
        }
        fm_status s = fm_trainer_make_ctx(r);
        if (s != FM_ERR_NO_MEMORY) {
            FM_TRY(s);
            break;
        }
    }
    fm_warn(
        "memory ran out (%s): going on with %lld windows x %lld%s%s, the same effective batch; no step is lost, but "
        "from here on the run is "
        "not bit for bit what it would have been",
        keep.message, (long long)r->plan.micro_batch, (long long)r->plan.accumulation,
        r->plan.recompute ? ", recomputing activations" : "", r->plan.offload ? ", optimizer on disk" : "");
    return FM_OK;
}

static void name_rows(fm_trainer *r, int64_t n) {
    fm_str text = {0};
    r->skipped_rows[0] = '\0';
    for (int64_t i = 0; i < FM_MIN(n, MAX_ROWS_NAMED); i++) {
        int64_t token = r->choice.objective->row(r->objective, i), document = 0;
        char where[256] = "";
        if (fm_dataset_locate(r->data, token, &document, where, sizeof where) == FM_OK) {
            fm_str_printf(&text, "%sdocument %lld (%s)", i ? ", " : "", (long long)document, where);
        }
    }
    if (!text.failed && text.data) {
        fm_warn("its windows begin in %s%s", text.data, n > MAX_ROWS_NAMED ? " ..." : "");
        size_t keep = fm_utf8_complete_prefix(text.data, FM_MIN(text.len, sizeof r->skipped_rows - 1));
        snprintf(r->skipped_rows, sizeof r->skipped_rows, "%.*s", (int)keep, text.data);
    }
    fm_str_free(&text);
}

/* Names the parameter with the largest gradient. */
static void name_gradient(const fm_trainer *r) {
    const double *sum = r->layers.sum;
    int top = 0;
    for (int i = 0; i < r->layers.n_params; i++) {
        top = sum[i] > sum[top] ? i : top;
    }
    fm_warn("the largest gradient is that of %s, norm %g", fm_params_at(r->params, top)->name, sqrt(sum[top]));
}

/* A step that is not applied: says why and which rows were in it. */
static fm_status skip_step(fm_trainer *r, fm_verdict v, const fm_param *bad, int64_t n) {
    long long step = (long long)r->st.step + 1;
    if (v == FM_STEP_NONFINITE) {
        fm_warn("step %lld: loss %g, gradient norm %g%s%s; the step is skipped", step, r->loss, r->grad_norm,
                bad ? "; first parameter with a gradient that is not finite: " : "", bad ? bad->name : "");
    } else {
        double m, s;
        bool loss = v == FM_STEP_LOSS_SPIKE;
        fm_median_spread(loss ? r->st.guard.loss : r->st.guard.norm, r->st.guard.n, &m, &s);
        fm_warn("step %lld: %s %g is far above the median %g (spread %g) of the last %d steps; the step is skipped",
                step, loss ? "loss" : "gradient norm", loss ? r->loss : r->grad_norm, m, s, r->st.guard.n);
        name_gradient(r);
    }
    name_rows(r, n);
    fm_guard_skip(&r->st.guard);
    r->skipped = true;
    if (v == FM_STEP_NONFINITE && r->cfg->nan_policy == FM_NAN_STOP) {
        fm_error_set(FM_ERR_NUMERIC, __FILE__, __LINE__, "loss %g, gradient norm %g at step %lld%s%s", r->loss,
                     r->grad_norm, step, bad ? "; first in " : "", bad ? bad->name : "");
        return fm_error_hint(
            "nan_policy=skip goes on without such steps; lower learning_rate, or look at the rows named above");
    }
    if (r->st.guard.skipped_in_row >= r->cfg->max_skipped_steps) {
        bool back = false;
        int64_t skipped = r->st.guard.skipped;
        if (r->st.rollbacks < r->cfg->max_rollbacks) {
            FM_TRY(fm_trainer_roll_back(r, &back));
        }
        if (back) {
            r->st.guard.skipped = skipped;
            return FM_OK;
        }
        fm_error_set(FM_ERR_NUMERIC, __FILE__, __LINE__, "%lld steps in a row were skipped, the last at step %lld",
                     (long long)r->st.guard.skipped_in_row, step);
        return fm_error_hint("the run has diverged: go on from an earlier checkpoint with a lower learning_rate (now "
                             "%g), or set max_grad_norm",
                             r->learning_rate);
    }
    return FM_OK;
}

/* Gradients of an fp16 loss to what they are without its scale; the optimizer divides them itself. */
static void unscale_norms(fm_trainer *r) {
    double scale = r->st.loss_scale.scale;
    r->grad_norm /= scale;
    for (int i = 0; i < r->layers.n_params && scale != 1; i++) {
        r->layers.sum[i] /= scale * scale;
    }
    fm_layer_norms_update(&r->layers);
}

/* Whether the step is left out because its gradients did not fit into fp16. A loss that is not finite itself is the
 * guard's business. */
static bool overflowed(fm_trainer *r, const fm_param *bad) {
    double before = r->st.loss_scale.scale;
    if (r->choice.compute != FM_F16 || !bad || !isfinite(r->loss) || !fm_loss_scale_overflow(&r->st.loss_scale)) {
        return false;
    }
    fm_info("step %lld: gradients overflow fp16 with loss scale %g; the step is left out, the scale is now %g",
            (long long)r->st.step + 1, before, r->st.loss_scale.scale);
    r->skipped = true;
    return true;
}

/* Norm, guard, update. */
static fm_status apply(fm_trainer *r, int64_t n) {
    const fm_train_config *c = r->cfg;
    const fm_exec *x = fm_ctx_exec(r->ctx);
    fm_param *bad;
    double mark = fm_now();
    FM_TRY(fm_grad_norm(r->params, r->backend, x, &r->grad_norm, &bad, r->layers.sum));
    unscale_norms(r);
    if (bad) {
        r->grad_norm = NAN;
    }
    if (overflowed(r, bad)) {
        return FM_OK;
    }
    fm_verdict v = fm_guard_check(&r->st.guard, r->loss, r->grad_norm, c->spike_factor);
    if (fm_guard_new_level(&r->st.guard, v, r->grad_norm, c->max_grad_norm > 0)) {
        fm_warn("step %lld: gradient norms stay near %g while the loss is as before: steps go on, clipped to %g",
                (long long)r->st.step + 1, r->grad_norm, c->max_grad_norm);
    } else if (v != FM_STEP_OK) {
        return skip_step(r, v, bad, n);
    }
    double band[2];
    if (fm_guard_outside(&r->st.guard, r->grad_norm, c->grad_norm_min, c->grad_norm_max, band)) {
        fm_warn("step %lld: gradient norm %g is outside %g to %g", (long long)r->st.step + 1, r->grad_norm, band[0],
                band[1]);
        name_gradient(r);
    }
    double scale = c->max_grad_norm > 0 && r->grad_norm > c->max_grad_norm ? c->max_grad_norm / r->grad_norm : 1;
    FM_TRY(fm_optim_step(&r->optim, r->backend, x, r->lr, scale / r->st.loss_scale.scale));
    r->st.updates = r->optim.t;
    if (r->choice.compute == FM_F16) {
        fm_loss_scale_good(&r->st.loss_scale, c->loss_scale_window);
    }
    FM_TRY(fm_ema_update(&r->ema, r->pool, r->st.updates));
    fm_trainer_update_bias(r);
    fm_guard_accept(&r->st.guard, r->loss, r->grad_norm);
    fm_trainer_charge(r, FM_PHASE_OPTIMIZER, &mark);
    return FM_OK;
}

fm_status fm_trainer_step(fm_trainer *r) {
    double mark = fm_now();
    int64_t n = FM_MIN(r->plan.step_samples, r->total_samples - r->st.samples_done);
    r->skipped = false;
    r->lr = r->learning_rate * pow(0.5, (double)r->st.rollbacks) * fm_schedule_factor(&r->choice.schedule, r->st.step);
    r->sampler.at = r->st.cursor;
    FM_TRY(r->choice.objective->load(r->objective, &r->sampler, n));
    int64_t n_trained = r->choice.objective->n_trained(r->objective, 0, n);
    fm_trainer_charge(r, FM_PHASE_DATA, &mark);
    for (;;) {
        fm_status s = passes(r, n, n_trained, &r->loss);
        if (s == FM_OK) {
            break;
        }
        if (s != FM_ERR_NO_MEMORY) {
            return s;
        }
        FM_TRY(fm_trainer_recover(r));
    }
    r->max_violation = fm_trainer_max_violation(r);
    FM_TRY(apply(r, n));
    r->st.step++;
    r->st.samples_done += n;
    r->st.cursor = r->sampler.at;
    if (!r->skipped) {
        r->st.n_tokens += n_trained;
        r->st.log_loss_sum += r->loss * (double)n_trained;
        r->st.log_tokens += n_trained;
    }
    r->st.log_steps++;
    return FM_OK;
}
