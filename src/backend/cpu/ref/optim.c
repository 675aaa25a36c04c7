/* Optimizer steps and the sum of squares they are clipped by. */
#include <math.h>

#include "backend/cpu/ref/ref.h"

static fm_status sum_squares_any(fm_dtype d, const fm_exec *x, const fm_sum_squares_args *a) {
    FM_UNUSED(x);
    double sum = 0.0;
    int64_t bad = 0;
    for (int64_t i = 0; i < a->n; i++) {
        double v = FM_LD(d, a->x, i);
        sum += v * v;
        bad += !isfinite(v);
    }
    *a->out = sum;
    if (a->n_nonfinite) {
        *a->n_nonfinite = bad;
    }
    return FM_OK;
}

static double sign_of(double v) {
    return v > 0.0 ? 1.0 : v < 0.0 ? -1.0 : 0.0;
}

/* Writes the new weight and its bf16 copy, which is rounded from the stored number. */
static void put_weight(fm_dtype d, void *w, uint16_t *w_bf16, int64_t i, double v) {
    fm_store_from_f64(d, w, i, v);
    if (w_bf16) {
        fm_store_from_f64(FM_BF16, w_bf16, i, FM_LD(d, w, i));
    }
}

static fm_status adamw_any(fm_dtype d, const fm_exec *x, const fm_adamw_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n; i++) {
        double w = FM_LD(d, a->w, i);
        double g = FM_LD(d, a->g, i) * a->grad_scale + a->l2 * w + a->l1 * sign_of(w);
        double m = a->beta1 * FM_LD(d, a->m, i) + (1.0 - a->beta1) * g;
        double v = a->beta2 * FM_LD(d, a->v, i) + (1.0 - a->beta2) * g * g;
        fm_store_from_f64(d, a->m, i, m);
        fm_store_from_f64(d, a->v, i, v);
        double step = m / a->bias1 / (sqrt(v / a->bias2) + a->eps) + a->decay * w;
        put_weight(d, a->w, a->w_bf16, i, w - a->lr * step);
        if (a->zero_grad) {
            fm_store_from_f64(d, a->g, i, 0.0);
        }
    }
    return FM_OK;
}

static fm_status sgd_any(fm_dtype d, const fm_exec *x, const fm_sgd_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n; i++) {
        double w = FM_LD(d, a->w, i);
        double g = FM_LD(d, a->g, i) * a->grad_scale + a->l2 * w + a->l1 * sign_of(w);
        double step = g;
        if (a->m) {
            double m = a->momentum * FM_LD(d, a->m, i) + g;
            fm_store_from_f64(d, a->m, i, m);
            step = a->nesterov ? g + a->momentum * m : m;
        }
        put_weight(d, a->w, a->w_bf16, i, w - a->lr * step - a->lr * a->decay * w);
        if (a->zero_grad) {
            fm_store_from_f64(d, a->g, i, 0.0);
        }
    }
    return FM_OK;
}

static fm_status lion_any(fm_dtype d, const fm_exec *x, const fm_lion_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n; i++) {
        double w = FM_LD(d, a->w, i), m = FM_LD(d, a->m, i);
        double g = FM_LD(d, a->g, i) * a->grad_scale + a->l2 * w + a->l1 * sign_of(w);
        double step = sign_of(a->beta1 * m + (1.0 - a->beta1) * g) + a->decay * w;
        fm_store_from_f64(d, a->m, i, a->beta2 * m + (1.0 - a->beta2) * g);
        put_weight(d, a->w, a->w_bf16, i, w - a->lr * step);
        if (a->zero_grad) {
            fm_store_from_f64(d, a->g, i, 0.0);
        }
    }
    return FM_OK;
}

FM_REF_KERNEL(sum_squares, fm_sum_squares_args)
FM_REF_KERNEL(adamw, fm_adamw_args)
FM_REF_KERNEL(sgd, fm_sgd_args)
FM_REF_KERNEL(lion, fm_lion_args)
