/* Element by element: sums, products, fills, casts, dropout; sums along rows. */
#include "backend/cpu/ref/ref.h"

static fm_status add_any(fm_dtype d, const fm_exec *x, const fm_binary_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n; i++) {
        fm_store_from_f64(d, a->y, i, FM_LD(d, a->a, i) + FM_LD(d, a->b, i));
    }
    return FM_OK;
}

static fm_status mul_any(fm_dtype d, const fm_exec *x, const fm_binary_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n; i++) {
        fm_store_from_f64(d, a->y, i, FM_LD(d, a->a, i) * FM_LD(d, a->b, i));
    }
    return FM_OK;
}

static fm_status axpby_any(fm_dtype d, const fm_exec *x, const fm_axpby_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n; i++) {
        double v = a->alpha * FM_LD(d, a->x, i);
        if (a->beta != 0.0) {
            v += a->beta * FM_LD(d, a->y, i);
        }
        fm_store_from_f64(d, a->y, i, v);
    }
    return FM_OK;
}

static fm_status fill_any(fm_dtype d, const fm_exec *x, const fm_fill_args *a) {
    FM_UNUSED(x);
    for (int64_t i = 0; i < a->n; i++) {
        fm_store_from_f64(d, a->y, i, a->value);
    }
    return FM_OK;
}

static fm_status cast_any(fm_dtype d, const fm_exec *x, const fm_cast_args *a) {
    FM_UNUSED(x);
    if (fm_dtype_get(a->to)->block != 1) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "cast from %s to the block type %s", fm_dtype_get(d)->name,
                fm_dtype_get(a->to)->name);
    }
    for (int64_t i = 0; i < a->n; i++) {
        fm_ref_put(a->to, a->y, i, FM_LD(d, a->x, i), a->acc_y);
    }
    return FM_OK;
}

static fm_status dropout_any(fm_dtype d, const fm_exec *x, const fm_dropout_args *a) {
    FM_UNUSED(x);
    double limit = a->p * 4294967296.0, scale = 1.0 / (1.0 - a->p);
    for (int64_t i = 0; i < a->n_tokens * a->dim; i++) {
        uint64_t index = a->first_token * (uint64_t)a->dim + (uint64_t)i;
        bool keep = (double)fm_rng_u32(a->key, index) >= limit;
        fm_ref_put(d, a->y, i, keep ? FM_LD(d, a->x, i) * scale : 0.0, a->acc_y);
    }
    return FM_OK;
}

static fm_status reduce_fwd_any(fm_dtype d, const fm_exec *x, const fm_reduce_args *a) {
    FM_UNUSED(x);
    for (int64_t r = 0; r < a->n_rows; r++) {
        double sum = 0.0;
        for (int64_t j = 0; j < a->dim; j++) {
            sum += FM_LD(d, a->x, r * a->dim + j);
        }
        fm_store_from_f64(fm_dtype_acc(d), a->y, r, a->scale * sum);
    }
    return FM_OK;
}

static fm_status reduce_bwd_any(fm_dtype d, const fm_exec *x, const fm_reduce_args *a) {
    FM_UNUSED(x);
    for (int64_t r = 0; r < a->n_rows; r++) {
        for (int64_t j = 0; j < a->dim; j++) {
            fm_ref_put(d, a->x, r * a->dim + j, a->scale * FM_LD(fm_dtype_acc(d), a->y, r), a->acc_x);
        }
    }
    return FM_OK;
}

FM_REF_KERNEL(add, fm_binary_args)
FM_REF_KERNEL(mul, fm_binary_args)
FM_REF_KERNEL(axpby, fm_axpby_args)
FM_REF_KERNEL(fill, fm_fill_args)
FM_REF_KERNEL(cast, fm_cast_args)
FM_REF_ONE(cast, fm_cast_args, e4m3, FM_E4M3)
FM_REF_ONE(cast, fm_cast_args, e5m2, FM_E5M2)
FM_REF_KERNEL(dropout, fm_dropout_args)
FM_REF_KERNEL(reduce_fwd, fm_reduce_args)
FM_REF_KERNEL(reduce_bwd, fm_reduce_args)
