/* RMSNorm, LayerNorm, and the affine map that stands for a norm. */
#include <math.h>

#include "backend/cpu/ref/ref.h"

static double weight(fm_dtype d, const void *w, int64_t j) {
    return w ? FM_LD(d, w, j) : 1.0;
}

static fm_status norm_fwd(fm_dtype d, const fm_norm_args *a, bool centre) {
    int64_t n = a->dim;
    const void *in = a->res ? a->sum : a->x;
    for (int64_t r = 0; r < a->n_rows; r++) {
        int64_t o = r * n;
        if (a->res) {
            for (int64_t j = 0; j < n; j++) {
                fm_store_from_f64(d, a->sum, o + j, FM_LD(d, a->x, o + j) + FM_LD(d, a->res, o + j));
            }
        }
        double mean = 0.0, var = 0.0;
        for (int64_t j = 0; centre && j < n; j++) {
            mean += FM_LD(d, in, o + j) / (double)n;
        }
        for (int64_t j = 0; j < n; j++) {
            double c = FM_LD(d, in, o + j) - mean;
            var += c * c / (double)n;
        }
        double rstd = 1.0 / sqrt(var + (double)a->eps);
        for (int64_t j = 0; j < n; j++) {
            double y = (FM_LD(d, in, o + j) - mean) * rstd * weight(d, a->w, j);
            fm_store_from_f64(d, a->y, o + j, centre && a->b ? y + FM_LD(d, a->b, j) : y);
        }
        if (a->rstd) {
            fm_store_from_f64(fm_dtype_acc(d), a->rstd, r, rstd);
        }
        if (centre && a->mean) {
            fm_store_from_f64(fm_dtype_acc(d), a->mean, r, mean);
        }
    }
    return FM_OK;
}

/* With h = (x - mean) rstd and e = dy w: dx = rstd (e - h mean(e h) - mean(e)); the last term for layernorm only. */
static fm_status norm_bwd(fm_dtype d, const fm_norm_bwd_args *a, bool centre) {
    int64_t n = a->dim;
    fm_dtype acc = fm_dtype_acc(d);
    for (int64_t r = 0; r < a->n_rows; r++) {
        int64_t o = r * n;
        double rstd = FM_LD(acc, a->rstd, r), mean = centre ? FM_LD(acc, a->mean, r) : 0.0;
        double e_sum = 0.0, eh_sum = 0.0;
        for (int64_t j = 0; j < n; j++) {
            double e = FM_LD(d, a->dy, o + j) * weight(d, a->w, j);
            e_sum += e;
            eh_sum += e * (FM_LD(d, a->x, o + j) - mean) * rstd;
        }
        e_sum = centre ? e_sum / (double)n : 0.0;
        eh_sum /= (double)n;
        for (int64_t j = 0; a->dx && j < n; j++) {
            double h = (FM_LD(d, a->x, o + j) - mean) * rstd;
            double g = rstd * (FM_LD(d, a->dy, o + j) * weight(d, a->w, j) - h * eh_sum - e_sum);
            if (a->dsum) {
                g += FM_LD(d, a->dsum, o + j);
            }
            fm_ref_put(d, a->dx, o + j, g, a->acc_dx);
        }
    }
    for (int64_t j = 0; j < n && (a->dw || (centre && a->db)); j++) {
        double dw = 0.0, db = 0.0;
        for (int64_t r = 0; r < a->n_rows; r++) {
            double rstd = FM_LD(acc, a->rstd, r), mean = centre ? FM_LD(acc, a->mean, r) : 0.0;
            double dy = FM_LD(d, a->dy, r * n + j);
            dw += dy * (FM_LD(d, a->x, r * n + j) - mean) * rstd;
            db += dy;
        }
        if (a->dw) {
            fm_ref_put(acc, a->dw, j, dw, true);
        }
        if (centre && a->db) {
            fm_ref_put(acc, a->db, j, db, true);
        }
    }
    return FM_OK;
}

static fm_status affine_fwd_any(fm_dtype d, const fm_exec *x, const fm_norm_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n_rows * a->dim; i++) {
        double y = FM_LD(d, a->x, i) * weight(d, a->w, i % a->dim);
        fm_store_from_f64(d, a->y, i, a->b ? y + FM_LD(d, a->b, i % a->dim) : y);
    }
    return FM_OK;
}

static fm_status affine_bwd_any(fm_dtype d, const fm_exec *x, const fm_norm_bwd_args *a) {
    FM_UNUSED(x);
    fm_dtype acc = fm_dtype_acc(d);
    for (int64_t i = 0; a->dx && i < a->n_rows * a->dim; i++) {
        fm_ref_put(d, a->dx, i, FM_LD(d, a->dy, i) * weight(d, a->w, i % a->dim), a->acc_dx);
    }
    for (int64_t j = 0; j < a->dim; j++) {
        double dw = 0.0, db = 0.0;
        for (int64_t r = 0; r < a->n_rows; r++) {
            db += FM_LD(d, a->dy, r * a->dim + j);
            dw += FM_LD(d, a->dy, r * a->dim + j) * FM_LD(d, a->x, r * a->dim + j);
        }
        if (a->dw) {
            fm_ref_put(acc, a->dw, j, dw, true);
        }
        if (a->db) {
            fm_ref_put(acc, a->db, j, db, true);
        }
    }
    return FM_OK;
}

static fm_status rmsnorm_fwd_any(fm_dtype d, const fm_exec *x, const fm_norm_args *a) {
    FM_UNUSED(x);
    return norm_fwd(d, a, false);
}
static fm_status layernorm_fwd_any(fm_dtype d, const fm_exec *x, const fm_norm_args *a) {
    FM_UNUSED(x);
    return norm_fwd(d, a, true);
}
static fm_status rmsnorm_bwd_any(fm_dtype d, const fm_exec *x, const fm_norm_bwd_args *a) {
    FM_UNUSED(x);
    return norm_bwd(d, a, false);
}
static fm_status layernorm_bwd_any(fm_dtype d, const fm_exec *x, const fm_norm_bwd_args *a) {
    FM_UNUSED(x);
    return norm_bwd(d, a, true);
}
FM_REF_KERNEL(rmsnorm_fwd, fm_norm_args)
FM_REF_KERNEL(layernorm_fwd, fm_norm_args)
FM_REF_KERNEL(rmsnorm_bwd, fm_norm_bwd_args)
FM_REF_KERNEL(layernorm_bwd, fm_norm_bwd_args)
FM_REF_KERNEL(affine_fwd, fm_norm_args)
FM_REF_KERNEL(affine_bwd, fm_norm_bwd_args)
