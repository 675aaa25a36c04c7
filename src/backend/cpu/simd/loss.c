/* Softmax and cross-entropy. */
#include "backend/cpu/simd/kernel.h"

/* Largest element of a row; -inf for an empty one. NaN may pass or not: sums show it. */
FM_INLINE float row_max(fm_dtype d, const void *x, int64_t begin, int64_t end) {
    vf low = vf_set1(-INFINITY), m0 = low, m1 = low;
    int64_t i = begin;
    for (; i + 2 * VF_N <= end; i += 2 * VF_N) {
        m0 = vf_max(vx_load(d, x, i), m0);
        m1 = vf_max(vx_load(d, x, i + VF_N), m1);
    }
    for (; i < end; i += VF_N) {
        int n = (int)FM_MIN((int64_t)VF_N, end - i);
        m0 = vf_max(vf_select(vf_firstn(n), vx_get(d, x, i, n), low), m0);
    }
    return vf_hmax(vf_max(m0, m1));
}

FM_INLINE void softmax_fwd_row(fm_dtype d, const void *x, void *y, int64_t dim) {
    vf max = vf_set1(row_max(d, x, 0, dim));
    float sum;
    FM_ROW_SUM(sum, dim, {
        vf e = vf_exp(vf_sub(vx_get(d, x, i, n), max));
        acc = vf_add(acc, n == VF_N ? e : vf_select(vf_firstn(n), e, vf_zero()));
    });
    vf scale = vf_set1(1.0F / sum);
    FM_VECTOR_LOOP(i, n, 0, dim, { vx_put(d, y, i, vf_mul(vf_exp(vf_sub(vx_get(d, x, i, n), max)), scale), n); });
}

FM_INLINE void softmax_bwd_row(fm_dtype d, const fm_softmax_bwd_args *a, int64_t r) {
    const void *y = vx_at(d, a->y, r * a->dim), *dy = vx_at(d, a->dy, r * a->dim);
    void *dx = vx_at(d, a->dx, r * a->dim);
    float dot;
    FM_ROW_SUM(dot, a->dim, acc = vf_fma(vx_get(d, y, i, n), vx_get(d, dy, i, n), acc););
    vf s = vf_set1(dot);
    FM_VECTOR_LOOP(i, n, 0, a->dim, {
        vf v = vf_mul(vx_get(d, y, i, n), vf_sub(vx_get(d, dy, i, n), s));
        vx_put(d, dx, i, a->acc_dx ? vf_add(v, vx_get(d, dx, i, n)) : v, n);
    });
}

typedef struct softmax_job {
    fm_dtype d;
    const fm_softmax_args *fwd;
    const fm_softmax_bwd_args *bwd;
    int64_t n_rows;
} softmax_job;

FM_INLINE void softmax_rows(fm_dtype d, const softmax_job *j, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
        if (j->bwd) {
            softmax_bwd_row(d, j->bwd, r);
        } else {
            int64_t dim = j->fwd->dim;
            softmax_fwd_row(d, vx_at(d, j->fwd->x, r * dim), vx_at(d, j->fwd->y, r * dim), dim);
        }
    }
}

static fm_status softmax_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(thread);
    const softmax_job *j = arg;
    int64_t begin, end;
    fm_split(j->n_rows, part, n_parts, 1, &begin, &end);
    if (j->d == FM_BF16) {
        softmax_rows(FM_BF16, j, begin, end);
    } else {
        softmax_rows(FM_F32, j, begin, end);
    }
    return FM_OK;
}

FM_INLINE fm_status softmax_fwd_run(fm_dtype d, const fm_exec *x, const fm_softmax_args *a) {
    softmax_job job = {d, a, NULL, a->n_rows};
    return fm_par_split(x, a->n_rows * a->dim * (d == FM_BF16 ? 4 : 8), softmax_part, &job);
}
FM_INLINE fm_status softmax_bwd_run(fm_dtype d, const fm_exec *x, const fm_softmax_bwd_args *a) {
    softmax_job job = {d, NULL, a, a->n_rows};
    return fm_par_split(x, a->n_rows * a->dim * (d == FM_BF16 ? 6 : 12), softmax_part, &job);
}
FM_SIMD_KERNEL(softmax_fwd, fm_softmax_args)
FM_SIMD_KERNEL(softmax_bwd, fm_softmax_bwd_args)

/* Logits of a large vocabulary do not fit the first cache: maximum and sum go over blocks that do, the sum being
 * rescaled when the maximum grows, so that a row is read from memory once for the loss. */
#define BLOCK 2048

typedef struct row_stats {
    float max, sum; /* sum of exp(x - max) */
    double total;   /* sum of x, for label smoothing */
    int64_t argmax;
} row_stats;

FM_INLINE row_stats scan_row(const float *x, int64_t n_classes, bool want_total) {
    row_stats s = {-INFINITY, 0.0F, 0.0, 0};
    int64_t best_block = 0;
    for (int64_t b = 0; b < n_classes; b += BLOCK) {
        const float *xb = x + b;
        int64_t len = FM_MIN((int64_t)BLOCK, n_classes - b);
        float top = row_max(FM_F32, xb, 0, len), part;
        if (top > s.max) {
            s.sum = s.max == -INFINITY ? s.sum : s.sum * expf(s.max - top);
            s.max = top;
            best_block = b;
        }
        /* While all logits are -inf the shift is 0: exp gives 0, not NaN. */
        vf shift = vf_set1(s.max == -INFINITY ? 0.0F : s.max);
        FM_ROW_SUM(part, len, {
            vf e = vf_exp(vf_sub(vx_get(FM_F32, xb, i, n), shift));
            acc = vf_add(acc, n == VF_N ? e : vf_select(vf_firstn(n), e, vf_zero()));
        });
        s.sum += part;
        if (want_total) {
            FM_ROW_SUM(part, len, acc = vf_add(acc, vx_get(FM_F32, xb, i, n)););
            s.total += (double)part;
        }
    }
    for (s.argmax = best_block; s.argmax < n_classes && !(x[s.argmax] == s.max); s.argmax++) {
    }
    s.argmax = s.argmax < n_classes ? s.argmax : 0; /* nothing but NaN */
    return s;
}

FM_INLINE void cross_entropy_row(fm_dtype d, const fm_cross_entropy_args *a, int64_t r) {
    const float *x = (const float *)a->x + r * a->x_stride;
    void *dx = a->dx ? vx_at(d, a->dx, r * a->dx_stride) : NULL;
    int64_t n_classes = a->n_classes, target = a->target[r];
    bool ignored = a->target[r] == a->ignore_index;
    if (!ignored || a->argmax) {
        bool smoothed = a->smooth != 0.0F;
        row_stats s = scan_row(x, n_classes, smoothed && !ignored);
        if (a->argmax) {
            a->argmax[r] = (int32_t)s.argmax;
        }
        if (!ignored) {
            double lse = (double)s.max + log((double)s.sum), z = (double)a->z_loss, smooth = (double)a->smooth;
            double weight = a->weight ? (double)a->weight[r] : 1.0;
            double loss = (1.0 - smooth) * (lse - (double)x[target]) + z * lse * lse;
            loss += smoothed ? smooth * (lse - s.total / (double)n_classes) : 0.0;
            ((float *)a->loss)[r] = (float)(weight * loss);
            if (!dx) {
                return;
            }
            double g = a->dscale * weight, p_scale = g * (1.0 + 2.0 * z * lse);
            /* exp(x - max) / sum keeps more bits than exp(x - lse) */
            vf shift = vf_set1(s.max), scale = vf_set1((float)(p_scale / (double)s.sum));
            vf uniform = vf_set1((float)(g * smooth / (double)n_classes));
            double p_target = exp((double)x[target] - lse); /* before dx is written over x */
            FM_VECTOR_LOOP(i, n, 0, n_classes, {
                vf e = vf_exp(vf_sub(vx_get(FM_F32, x, i, n), shift));
                vx_put(d, dx, i, vf_sub(vf_mul(e, scale), uniform), n);
            });
            float at = (float)(p_scale * p_target - g * smooth / (double)n_classes - g * (1.0 - smooth));
            vx_storen(d, dx, target, vf_set1(at), 1);
            return;
        }
    }
    ((float *)a->loss)[r] = 0.0F;
    if (dx) {
        FM_VECTOR_LOOP(i, n, 0, n_classes, vx_put(d, dx, i, vf_zero(), n););
    }
}

typedef struct ce_job {
    fm_dtype d;
    const fm_cross_entropy_args *a;
} ce_job;

static fm_status cross_entropy_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(thread);
    const ce_job *j = arg;
    int64_t begin, end;
    fm_split(j->a->n_rows, part, n_parts, 1, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        if (j->d == FM_BF16) {
            cross_entropy_row(FM_BF16, j->a, r);
        } else {
            cross_entropy_row(FM_F32, j->a, r);
        }
    }
    return FM_OK;
}

/* dx over x with rows that do not start at the same places: a row of dx may then cover another row of x. */
static bool rows_shift(fm_dtype d, const fm_cross_entropy_args *a) {
    if (!a->dx) {
        return false;
    }
    int64_t size = d == FM_BF16 ? 2 : 4;
    uintptr_t x = (uintptr_t)a->x, dx = (uintptr_t)a->dx;
    uintptr_t x_end = x + (uintptr_t)(a->n_rows * a->x_stride * 4);
    uintptr_t dx_end = dx + (uintptr_t)(a->n_rows * a->dx_stride * size);
    return dx < x_end && x < dx_end && (dx != x || a->dx_stride * size != a->x_stride * 4);
}

FM_INLINE fm_status cross_entropy_run(fm_dtype d, const fm_exec *x, const fm_cross_entropy_args *a) {
    ce_job job = {d, a};
    if (rows_shift(d, a)) {
        return fm_pool_run(NULL, 1, cross_entropy_part, &job);
    }
    return fm_par_split(x, a->n_rows * a->n_classes * 4, cross_entropy_part, &job);
}
FM_SIMD_KERNEL(cross_entropy, fm_cross_entropy_args)

extern const fm_kernel_row FM_SIMD_FN(loss_rows)[];
const fm_kernel_row FM_SIMD_FN(loss_rows)[] = {FM_SIMD_ROWS(softmax_fwd), FM_SIMD_ROWS(softmax_bwd),
                                               FM_SIMD_ROWS(cross_entropy), FM_SIMD_END};
