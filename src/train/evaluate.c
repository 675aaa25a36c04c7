/* Validation loss. Every token of the evaluation data counts once; losses of single tokens are summed in f64 in data
 * order, so the value does not depend on the batch. Nothing of the run changes: no tape, no dropout, no gradients, and
 * the memory is that which training has anyway. */
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/progress.h"
#include "train/run.h"

static fm_status eval_batch(fm_trainer *r, int64_t n, double *sum, int64_t *count) {
    fm_ctx *c = r->ctx;
    const fm_objective *o = r->choice.objective;
    FM_TRY(o->load(r->eval_objective, &r->eval_sampler, n));
    fm_ctx_set_training(c, false);
    fm_tape_off(c);
    fm_ctx_reset(c);
    *count += o->n_trained(r->eval_objective, 0, n);
    if (o->evaluate) {
        return o->evaluate(r->eval_objective, c, 0, n, sum);
    }
    fm_tensor *token_loss = NULL;
    fm_tensor *t = o->loss(r->eval_objective, c, 0, n, 1.0, &token_loss);
    if (!t) {
        return fm_ctx_status(c);
    }
    const float *v = fm_data(c, token_loss);
    FM_TRY(fm_ctx_status(c));
    for (int64_t i = 0; i < fm_numel(token_loss); i++) {
        *sum += (double)v[i];
    }
    return FM_OK;
}

/* Bytes behind the tokens that were predicted. Of plain text: all but each document's first, taken in proportion. Of
 * examples: those of the trained text. */
static double bytes_of(const fm_dataset *d, int64_t count) {
    int64_t all = fm_dataset_tokens(d);
    if (fm_dataset_is_examples(d)) {
        all = fm_dataset_n_values(d) > 0 ? 0 : fm_json_int(fm_json_get(fm_dataset_json(d), "n_trained"), 0);
    }
    return all > 0 ? (double)fm_dataset_bytes(d) * (double)count / (double)all : 0;
}

static fm_status evaluate(fm_trainer *r, fm_eval_result *out) {
    double mark = fm_now(), sum = 0;
    int64_t count = 0, total = r->eval_sampler.n_samples;
    if (r->cfg->eval_max_samples > 0) {
        total = FM_MIN(total, r->cfg->eval_max_samples);
    }
    fm_meter meter;
    fm_meter_start(&meter, "evaluating", "windows", (double)total);
    r->eval_sampler.at = (fm_cursor){0};
    for (int64_t done = 0; done < total;) {
        int64_t n = FM_MIN(r->plan.eval_batch, total - done);
        fm_cursor before = r->eval_sampler.at;
        double sum_before = sum;
        int64_t count_before = count;
        fm_status s = eval_batch(r, n, &sum, &count);
        if (s == FM_ERR_NO_MEMORY && n > 1) { /* the value does not depend on the batch */
            r->plan.eval_batch = n / 2;
            r->eval_sampler.at = before;
            sum = sum_before;
            count = count_before;
            continue;
        }
        FM_TRY(s);
        done += n;
        fm_meter_update(&meter, (double)done, "");
        if (fm_cancelled()) {
            FM_FAIL(FM_ERR_CANCELLED, "interrupted while evaluating");
        }
    }
    fm_ctx_reset(r->ctx);
    double bytes = bytes_of(r->eval_data, count);
    const fm_objective *o = r->choice.objective;
    out->n_metrics = o->metrics_of ? o->metrics_of(r->eval_objective, out->metric) : 0;
    out->loss = count > 0 ? sum / (double)count : NAN;
    if (out->n_metrics > 0 && strcmp(out->metric[0].name, "eval_loss") == 0) {
        out->loss = out->metric[0].value;
        memmove(out->metric, out->metric + 1, (size_t)--out->n_metrics * sizeof *out->metric);
    }
    out->perplexity = o->evaluate ? NAN : exp(out->loss);
    out->bits_per_byte = bytes > 0 ? sum / 0.693147180559945309417 / bytes : NAN;
    fm_trainer_charge(r, FM_PHASE_EVAL, &mark);
    return FM_OK;
}

fm_status fm_trainer_evaluate(fm_trainer *r, fm_eval_result *out) {
    bool averaged = r->cfg->ema_evaluate && r->ema.block;
    FM_TRY(averaged ? fm_ema_swap(&r->ema, r->pool) : FM_OK);
    fm_status s = evaluate(r, out);
    if (averaged) { /* a swap back does not fail: the first one did not */
        fm_error_record keep;
        fm_error_save(&keep);
        fm_status back = fm_ema_swap(&r->ema, r->pool);
        fm_error_restore(&keep);
        s = s == FM_OK ? back : s;
    }
    return s;
}
