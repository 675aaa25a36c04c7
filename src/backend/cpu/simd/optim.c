/* Optimizer steps and the sum of squares they are clipped by: one pass over each array. */
#include "backend/cpu/simd/kernel.h"

/* Elements per partial sum; part of the result's definition. */
#define CHUNK ((int64_t)65536)

typedef struct squares_job {
    fm_dtype d;
    const void *x;
    int64_t n;
    double *sums;
    int64_t *bad;
} squares_job;

FM_INLINE double squares_range(fm_dtype d, const void *x, int64_t begin, int64_t end) {
    vd s0 = vd_zero(), s1 = vd_zero(), s2 = vd_zero(), s3 = vd_zero();
    int64_t i = begin;
    for (; i + 2 * VF_N <= end; i += 2 * VF_N) {
        vf a = vx_load(d, x, i), b = vx_load(d, x, i + VF_N);
        s0 = vd_fma(vd_lo(a), vd_lo(a), s0);
        s1 = vd_fma(vd_hi(a), vd_hi(a), s1);
        s2 = vd_fma(vd_lo(b), vd_lo(b), s2);
        s3 = vd_fma(vd_hi(b), vd_hi(b), s3);
    }
    for (; i < end; i += VF_N) {
        vf a = vx_loadn(d, x, i, (int)FM_MIN((int64_t)VF_N, end - i));
        s0 = vd_fma(vd_lo(a), vd_lo(a), s0);
        s1 = vd_fma(vd_hi(a), vd_hi(a), s1);
    }
    return vd_hsum(vd_add(vd_add(s0, s1), vd_add(s2, s3)));
}

static fm_status squares_chunk(void *arg, int64_t chunk, int64_t n_chunks, int thread) {
    FM_UNUSED(n_chunks);
    FM_UNUSED(thread);
    const squares_job *j = arg;
    int64_t begin = chunk * CHUNK, end = FM_MIN(begin + CHUNK, j->n), bad = 0;
    double sum = j->d == FM_BF16 ? squares_range(FM_BF16, j->x, begin, end) : squares_range(FM_F32, j->x, begin, end);
    /* Squares of f32 cannot overflow f64: the sum is finite exactly when all elements are. */
    for (int64_t i = begin; i < end && !isfinite(sum); i++) {
        bad += !isfinite(vx_scalar(j->d, j->x, i));
    }
    j->sums[chunk] = sum;
    j->bad[chunk] = bad;
    return FM_OK;
}

FM_INLINE fm_status sum_squares_run(fm_dtype d, const fm_exec *x, const fm_sum_squares_args *a) {
    int64_t n_chunks = (a->n + CHUNK - 1) / CHUNK;
    squares_job job = {.d = d, .x = a->x, .n = a->n};
    job.sums = fm_scratch_take(x, n_chunks * (int64_t)sizeof *job.sums);
    job.bad = fm_scratch_take(x, n_chunks * (int64_t)sizeof *job.bad);
    if (!job.sums || !job.bad) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no scratch memory for a sum of squares over %lld elements", (long long)a->n);
    }
    FM_TRY(fm_pool_run(fm_par_pool(x, a->n * 4), n_chunks, squares_chunk, &job));
    double sum = 0.0;
    int64_t bad = 0;
    for (int64_t c = 0; c < n_chunks; c++) {
        sum += job.sums[c];
        bad += job.bad[c];
    }
    *a->out = sum;
    if (a->n_nonfinite) {
        *a->n_nonfinite = bad;
    }
    return FM_OK;
}
FM_SIMD_KERNEL(sum_squares, fm_sum_squares_args)

/* one with the sign of v; 0 for 0 */
FM_INLINE vf signed_one(vf v, vf one) {
    return vf_select(vf_lt(vf_zero(), v), one, vf_select(vf_lt(v, vf_zero()), vf_neg(one), vf_zero()));
}

/* g * scale (+ l2 w + l1 sign(w)) */
FM_INLINE vf scaled_grad(bool penalty, vf g, vf w, vf scale, vf l1, vf l2) {
    g = vf_mul(g, scale);
    if (penalty) {
        g = vf_fma(l2, w, g);
        g = vf_add(g, signed_one(w, l1));
    }
    return g;
}

FM_INLINE void adamw_range(bool penalty, const fm_adamw_args *a, int64_t begin, int64_t end) {
    float *w = a->w, *g = a->g, *m = a->m, *v = a->v;
    const vf scale = vf_set1((float)a->grad_scale), l1 = vf_set1((float)a->l1), l2 = vf_set1((float)a->l2);
    const vf b1 = vf_set1((float)a->beta1), c1 = vf_set1((float)(1.0 - a->beta1));
    const vf b2 = vf_set1((float)a->beta2), c2 = vf_set1((float)(1.0 - a->beta2));
    const vf step = vf_set1((float)(a->lr / a->bias1)), inv_bias2 = vf_set1((float)(1.0 / a->bias2));
    const vf eps = vf_set1((float)a->eps), shrink = vf_set1((float)(a->lr * a->decay));
    FM_VECTOR_LOOP(i, n, begin, end, {
        vf wi = vx_get(FM_F32, w, i, n);
        vf gi = scaled_grad(penalty, vx_get(FM_F32, g, i, n), wi, scale, l1, l2);
        vf mi = vf_fma(b1, vx_get(FM_F32, m, i, n), vf_mul(c1, gi));
        vf vi_ = vf_fma(b2, vx_get(FM_F32, v, i, n), vf_mul(c2, vf_mul(gi, gi)));
        vx_put(FM_F32, m, i, mi, n);
        vx_put(FM_F32, v, i, vi_, n);
        vf root = vf_add(vf_sqrt(vf_mul(vi_, inv_bias2)), eps);
        wi = vf_sub(wi, vf_fma(shrink, wi, vf_div(vf_mul(step, mi), root)));
        vx_put(FM_F32, w, i, wi, n);
        if (a->w_bf16) {
            vx_put(FM_BF16, a->w_bf16, i, wi, n);
        }
        if (a->zero_grad) {
            vx_put(FM_F32, g, i, vf_zero(), n);
        }
    });
}

static fm_status adamw_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(thread);
    const fm_adamw_args *a = arg;
    int64_t begin, end;
    fm_split(a->n, part, n_parts, 64, &begin, &end);
    if (a->l1 != 0.0 || a->l2 != 0.0) {
        adamw_range(true, a, begin, end);
    } else {
        adamw_range(false, a, begin, end);
    }
    return FM_OK;
}

static fm_status adamw_f32(const fm_exec *x, const void *p) {
    return fm_par_split(x, ((const fm_adamw_args *)p)->n * 28, adamw_part, p);
}

FM_INLINE void sgd_range(bool penalty, bool moment, const fm_sgd_args *a, int64_t begin, int64_t end) {
    float *w = a->w, *g = a->g, *m = a->m;
    const vf scale = vf_set1((float)a->grad_scale), l1 = vf_set1((float)a->l1), l2 = vf_set1((float)a->l2);
    const vf mu = vf_set1((float)a->momentum), lr = vf_set1((float)a->lr);
    const vf shrink = vf_set1((float)(a->lr * a->decay));
    FM_VECTOR_LOOP(i, n, begin, end, {
        vf wi = vx_get(FM_F32, w, i, n);
        vf gi = scaled_grad(penalty, vx_get(FM_F32, g, i, n), wi, scale, l1, l2);
        if (moment) {
            vf mi = vf_fma(mu, vx_get(FM_F32, m, i, n), gi);
            vx_put(FM_F32, m, i, mi, n);
            gi = a->nesterov ? vf_fma(mu, mi, gi) : mi;
        }
        wi = vf_sub(wi, vf_fma(shrink, wi, vf_mul(lr, gi)));
        vx_put(FM_F32, w, i, wi, n);
        if (a->w_bf16) {
            vx_put(FM_BF16, a->w_bf16, i, wi, n);
        }
        if (a->zero_grad) {
            vx_put(FM_F32, g, i, vf_zero(), n);
        }
    });
}

static fm_status sgd_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(thread);
    const fm_sgd_args *a = arg;
    int64_t begin, end;
    fm_split(a->n, part, n_parts, 64, &begin, &end);
    bool penalty = a->l1 != 0.0 || a->l2 != 0.0;
    if (a->m) {
        sgd_range(penalty, true, a, begin, end);
    } else {
        sgd_range(penalty, false, a, begin, end);
    }
    return FM_OK;
}

static fm_status sgd_f32(const fm_exec *x, const void *p) {
    return fm_par_split(x, ((const fm_sgd_args *)p)->n * 16, sgd_part, p);
}

FM_INLINE void lion_range(bool penalty, const fm_lion_args *a, int64_t begin, int64_t end) {
    float *w = a->w, *g = a->g, *m = a->m;
    const vf scale = vf_set1((float)a->grad_scale), l1 = vf_set1((float)a->l1), l2 = vf_set1((float)a->l2);
    const vf b1 = vf_set1((float)a->beta1), c1 = vf_set1((float)(1.0 - a->beta1));
    const vf b2 = vf_set1((float)a->beta2), c2 = vf_set1((float)(1.0 - a->beta2));
    const vf lr = vf_set1((float)a->lr), shrink = vf_set1((float)(a->lr * a->decay));
    FM_VECTOR_LOOP(i, n, begin, end, {
        vf wi = vx_get(FM_F32, w, i, n), mi = vx_get(FM_F32, m, i, n);
        vf gi = scaled_grad(penalty, vx_get(FM_F32, g, i, n), wi, scale, l1, l2);
        vf step = signed_one(vf_fma(b1, mi, vf_mul(c1, gi)), lr);
        vx_put(FM_F32, m, i, vf_fma(b2, mi, vf_mul(c2, gi)), n);
        wi = vf_sub(wi, vf_fma(shrink, wi, step));
        vx_put(FM_F32, w, i, wi, n);
        if (a->w_bf16) {
            vx_put(FM_BF16, a->w_bf16, i, wi, n);
        }
        if (a->zero_grad) {
            vx_put(FM_F32, g, i, vf_zero(), n);
        }
    });
}

static fm_status lion_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(thread);
    const fm_lion_args *a = arg;
    int64_t begin, end;
    fm_split(a->n, part, n_parts, 64, &begin, &end);
    if (a->l1 != 0.0 || a->l2 != 0.0) {
        lion_range(true, a, begin, end);
    } else {
        lion_range(false, a, begin, end);
    }
    return FM_OK;
}

static fm_status lion_f32(const fm_exec *x, const void *p) {
    return fm_par_split(x, ((const fm_lion_args *)p)->n * 16, lion_part, p);
}

extern const fm_kernel_row FM_SIMD_FN(optim_rows)[];
const fm_kernel_row FM_SIMD_FN(optim_rows)[] = {FM_SIMD_ROWS(sum_squares), FM_SIMD_ROW(adamw, f32, FM_F32),
                                                FM_SIMD_ROW(sgd, f32, FM_F32), FM_SIMD_ROW(lion, f32, FM_F32),
                                                FM_SIMD_END};
