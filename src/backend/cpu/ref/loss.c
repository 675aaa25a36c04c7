/* Softmax and cross-entropy. */
#include <math.h>

#include "backend/cpu/ref/ref.h"

static fm_status softmax_fwd_any(fm_dtype d, const fm_exec *x, const fm_softmax_args *a) {
    FM_UNUSED(x);
    for (int64_t r = 0; r < a->n_rows; r++) {
        int64_t o = r * a->dim;
        double max = -(double)INFINITY, sum = 0.0;
        for (int64_t j = 0; j < a->dim; j++) {
            max = fmax(max, FM_LD(d, a->x, o + j));
        }
        for (int64_t j = 0; j < a->dim; j++) {
            sum += exp(FM_LD(d, a->x, o + j) - max);
        }
        for (int64_t j = 0; j < a->dim; j++) {
            fm_store_from_f64(d, a->y, o + j, exp(FM_LD(d, a->x, o + j) - max) / sum);
        }
    }
    return FM_OK;
}

static fm_status softmax_bwd_any(fm_dtype d, const fm_exec *x, const fm_softmax_bwd_args *a) {
    FM_UNUSED(x);
    for (int64_t r = 0; r < a->n_rows; r++) {
        int64_t o = r * a->dim;
        double dot = 0.0;
        for (int64_t j = 0; j < a->dim; j++) {
            dot += FM_LD(d, a->y, o + j) * FM_LD(d, a->dy, o + j);
        }
        for (int64_t j = 0; j < a->dim; j++) {
            fm_ref_put(d, a->dx, o + j, FM_LD(d, a->y, o + j) * (FM_LD(d, a->dy, o + j) - dot), a->acc_dx);
        }
    }
    return FM_OK;
}

/* dx may lie over x. Rows go forward, and a number is read before its place can be written: an element of dx is no
 * wider than one of x. */
static void cross_entropy_row(fm_dtype d, const fm_cross_entropy_args *a, int64_t r) {
    fm_dtype acc = fm_dtype_acc(d);
    int64_t n = a->n_classes, o = r * a->x_stride, od = r * a->dx_stride;
    double max = -(double)INFINITY, sum = 0.0, mean = 0.0;
    int64_t arg = 0;
    for (int64_t j = 0; j < n; j++) {
        double v = FM_LD(acc, a->x, o + j);
        mean += v / (double)n;
        if (v > max) {
            max = v;
            arg = j;
        }
    }
    if (a->argmax) {
        a->argmax[r] = (int32_t)arg;
    }
    if (a->target[r] == a->ignore_index) {
        fm_store_from_f64(acc, a->loss, r, 0.0);
        for (int64_t j = 0; a->dx && j < n; j++) {
            fm_store_from_f64(d, a->dx, od + j, 0.0);
        }
        return;
    }
    for (int64_t j = 0; j < n; j++) {
        sum += exp(FM_LD(acc, a->x, o + j) - max);
    }
    double lse = max + log(sum), z = (double)a->z_loss, smooth = (double)a->smooth;
    double weight = a->weight ? (double)a->weight[r] : 1.0;
    double loss = (1.0 - smooth) * (lse - FM_LD(acc, a->x, o + a->target[r])) + z * lse * lse;
    if (smooth != 0.0) {
        loss += smooth * (lse - mean);
    }
    fm_store_from_f64(acc, a->loss, r, weight * loss);
    for (int64_t j = 0; a->dx && j < n; j++) {
        double g = exp(FM_LD(acc, a->x, o + j) - lse) * (1.0 + 2.0 * z * lse) - smooth / (double)n;
        g -= j == a->target[r] ? 1.0 - smooth : 0.0;
        fm_store_from_f64(d, a->dx, od + j, a->dscale * weight * g);
    }
}

static fm_status cross_entropy_any(fm_dtype d, const fm_exec *x, const fm_cross_entropy_args *a) {
    FM_UNUSED(x);
    for (int64_t r = 0; r < a->n_rows; r++) {
        cross_entropy_row(d, a, r);
    }
    return FM_OK;
}

FM_REF_KERNEL(softmax_fwd, fm_softmax_args)
FM_REF_KERNEL(softmax_bwd, fm_softmax_bwd_args)
FM_REF_KERNEL(cross_entropy, fm_cross_entropy_args)

static fm_status pointwise_loss_any(fm_dtype d, const fm_exec *e, const fm_pointwise_loss_args *a) {
    FM_UNUSED(e);
    for (int64_t r = 0; r < a->n_rows; r++) {
        double w = a->weight ? (double)a->weight[r] : 1.0, sum = 0.0;
        for (int64_t j = 0; j < a->dim; j++) {
            int64_t i = r * a->dim + j;
            double x = FM_LD(d, a->x, i), t = (double)a->target[i], loss = 0.0, dx = 0.0;
            if (w != 0.0 && !isnan(t) && a->kind == FM_POINTWISE_BCE) {
                loss = fmax(x, 0.0) - x * t + log1p(exp(-fabs(x)));
                dx = 1.0 / (1.0 + exp(-x)) - t;
            } else if (w != 0.0 && !isnan(t)) {
                loss = (x - t) * (x - t);
                dx = 2.0 * (x - t);
            }
            sum += loss;
            if (a->dx) {
                fm_store_from_f64(d, a->dx, i, a->dscale * w * dx / (double)a->dim);
            }
        }
        fm_store_from_f64(fm_dtype_acc(d), a->loss, r, w * sum / (double)a->dim);
    }
    return FM_OK;
}
FM_REF_KERNEL(pointwise_loss, fm_pointwise_loss_args)
