/* RMSNorm, LayerNorm, and the affine map that stands for a norm. A row is read from memory once and stays in the first
 * cache for the later passes. */
#include "backend/cpu/simd/kernel.h"

typedef enum kind { RMS, LAYER, AFFINE } kind;

typedef struct fwd_job {
    fm_dtype d;
    kind k;
    const fm_norm_args *a;
} fwd_job;

FM_INLINE vf weigh(fm_dtype d, const void *w, vf v, int64_t i, int n) {
    return w ? vf_mul(v, vx_get(d, w, i, n)) : v;
}

/* The row the norm reads: x, or sum = x + res rounded to d. */
FM_INLINE const void *fwd_input(fm_dtype d, const fm_norm_args *a, int64_t o) {
    const void *x = vx_at(d, a->x, o);
    if (!a->res) {
        return x;
    }
    const void *res = vx_at(d, a->res, o);
    void *sum = vx_at(d, a->sum, o);
    FM_VECTOR_LOOP(i, n, 0, a->dim, vx_put(d, sum, i, vf_add(vx_get(d, x, i, n), vx_get(d, res, i, n)), n););
    return sum;
}

FM_INLINE void fwd_row(fm_dtype d, kind k, const fm_norm_args *a, int64_t r) {
    bool centre = k == LAYER;
    int64_t o = r * a->dim, dim = a->dim;
    const void *x = fwd_input(d, a, o);
    void *y = vx_at(d, a->y, o);
    float total = 0.0F, mean = 0.0F;
    if (centre) {
        FM_ROW_SUM(total, dim, acc = vf_add(acc, vx_get(d, x, i, n)););
        mean = total / (float)dim;
    }
    vf m = vf_set1(mean);
    if (centre) {
        FM_ROW_SUM(total, dim, {
            vf c = vf_select(vf_firstn(n), vf_sub(vx_get(d, x, i, n), m), vf_zero());
            acc = vf_fma(c, c, acc);
        });
    } else if (k == RMS) {
        FM_ROW_SUM(total, dim, {
            vf c = vx_get(d, x, i, n);
            acc = vf_fma(c, c, acc);
        });
    }
    float rstd = k == AFFINE ? 1.0F : 1.0F / sqrtf(total / (float)dim + a->eps);
    vf s = vf_set1(rstd);
    FM_VECTOR_LOOP(i, n, 0, dim, {
        vf v = vx_get(d, x, i, n);
        v = k == AFFINE ? v : vf_mul(centre ? vf_sub(v, m) : v, s);
        v = weigh(d, a->w, v, i, n);
        if (k != RMS && a->b) {
            v = vf_add(v, vx_get(d, a->b, i, n));
        }
        vx_put(d, y, i, v, n);
    });
    if (k != AFFINE && a->rstd) {
        ((float *)a->rstd)[r] = rstd;
    }
    if (centre && a->mean) {
        ((float *)a->mean)[r] = mean;
    }
}

FM_INLINE void fwd_rows(fm_dtype d, kind k, const fm_norm_args *a, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
        fwd_row(d, k, a, r);
    }
}

static fm_status fwd_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(thread);
    const fwd_job *j = arg;
    int64_t begin, end;
    fm_split(j->a->n_rows, part, n_parts, 1, &begin, &end);
    bool half = j->d == FM_BF16;
    switch (j->k) {
    case RMS:
        half ? fwd_rows(FM_BF16, RMS, j->a, begin, end) : fwd_rows(FM_F32, RMS, j->a, begin, end);
        break;
    case LAYER:
        half ? fwd_rows(FM_BF16, LAYER, j->a, begin, end) : fwd_rows(FM_F32, LAYER, j->a, begin, end);
        break;
    case AFFINE:
        half ? fwd_rows(FM_BF16, AFFINE, j->a, begin, end) : fwd_rows(FM_F32, AFFINE, j->a, begin, end);
        break;
    }
    return FM_OK;
}

static fm_status norm_fwd(fm_dtype d, kind k, const fm_exec *x, const fm_norm_args *a) {
    fwd_job job = {d, k, a};
    int64_t arrays = a->res ? 4 : 2;
    return fm_par_split(x, a->n_rows * a->dim * arrays * (d == FM_BF16 ? 2 : 4), fwd_part, &job);
}

typedef struct bwd_job {
    fm_dtype d;
    kind k;
    const fm_norm_bwd_args *a;
    float *dw, *db; /* [n_chunks,stride] sums of each chunk of rows, or NULL */
    int64_t stride, n_chunks;
} bwd_job;

/* With h = (x - mean) rstd and e = dy w: dx = rstd (e - h mean(e h) - mean(e)) and, in the same pass, dw += dy h and
 * db += dy. For affine h = x and dx = e. */
FM_INLINE void bwd_row(fm_dtype d, kind k, const fm_norm_bwd_args *a, int64_t r, float *dw, float *db) {
    bool centre = k == LAYER, affine = k == AFFINE;
    int64_t dim = a->dim, o = r * dim;
    const void *x = vx_at(d, a->x, o), *dy = vx_at(d, a->dy, o);
    float rstd = affine ? 1.0F : ((const float *)a->rstd)[r], mean = centre ? ((const float *)a->mean)[r] : 0.0F;
    float e_sum = 0.0F, eh_sum = 0.0F;
    vf m = vf_set1(mean), s = vf_set1(rstd);
    /* Lanes past the end have dy = 0 and so add nothing. */
    if (!affine) {
        FM_ROW_SUM(eh_sum, dim, {
            vf e = weigh(d, a->w, vx_get(d, dy, i, n), i, n);
            vf c = vx_get(d, x, i, n);
            acc = vf_fma(e, centre ? vf_sub(c, m) : c, acc);
        });
    }
    if (centre) {
        FM_ROW_SUM(e_sum, dim, acc = vf_add(acc, weigh(d, a->w, vx_get(d, dy, i, n), i, n)););
    }
    vf h_scale = vf_set1(eh_sum * rstd / (float)dim), e_mean = vf_set1(e_sum / (float)dim);
    const void *add = a->dsum ? a->dsum : a->acc_dx ? a->dx : NULL;
    FM_VECTOR_LOOP(i, n, 0, dim, {
        vf g = vx_get(d, dy, i, n);
        vf c = vx_get(d, x, i, n);
        vf h = affine ? c : vf_mul(centre ? vf_sub(c, m) : c, s);
        if (dw) {
            vx_put(FM_F32, dw, i, vf_fma(g, h, vx_get(FM_F32, dw, i, n)), n);
        }
        if (db) {
            vx_put(FM_F32, db, i, vf_add(g, vx_get(FM_F32, db, i, n)), n);
        }
        if (a->dx) {
            vf e = weigh(d, a->w, g, i, n), v = affine ? e : vf_fnma(h, h_scale, e);
            v = centre ? vf_sub(v, e_mean) : v;
            v = add ? vf_fma(v, s, vx_get(d, add, o + i, n)) : vf_mul(v, s);
            vx_put(d, a->dx, o + i, v, n);
        }
    });
}

FM_INLINE void bwd_rows(fm_dtype d, kind k, const bwd_job *j, int64_t chunk) {
    float *dw = j->dw ? j->dw + chunk * j->stride : NULL, *db = j->db ? j->db + chunk * j->stride : NULL;
    if (dw) {
        memset(dw, 0, (size_t)j->a->dim * sizeof *dw);
    }
    if (db) {
        memset(db, 0, (size_t)j->a->dim * sizeof *db);
    }
    int64_t end = FM_MIN((chunk + 1) * FM_ROW_CHUNK, j->a->n_rows);
    for (int64_t r = chunk * FM_ROW_CHUNK; r < end; r++) {
        bwd_row(d, k, j->a, r, dw, db);
    }
}

static fm_status bwd_chunk(void *arg, int64_t chunk, int64_t n_chunks, int thread) {
    FM_UNUSED(n_chunks);
    FM_UNUSED(thread);
    const bwd_job *j = arg;
    bool half = j->d == FM_BF16;
    switch (j->k) {
    case RMS:
        half ? bwd_rows(FM_BF16, RMS, j, chunk) : bwd_rows(FM_F32, RMS, j, chunk);
        break;
    case LAYER:
        half ? bwd_rows(FM_BF16, LAYER, j, chunk) : bwd_rows(FM_F32, LAYER, j, chunk);
        break;
    case AFFINE:
        half ? bwd_rows(FM_BF16, AFFINE, j, chunk) : bwd_rows(FM_F32, AFFINE, j, chunk);
        break;
    }
    return FM_OK;
}

static fm_status combine_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(thread);
    const bwd_job *j = arg;
    int64_t begin, end;
    fm_split(j->a->dim, part, n_parts, 64, &begin, &end);
    if (j->dw) {
        fm_add_chunks(j->a->dw, j->dw, j->n_chunks, j->stride, begin, end, true);
    }
    if (j->db) {
        fm_add_chunks(j->a->db, j->db, j->n_chunks, j->stride, begin, end, true);
    }
    return FM_OK;
}

static fm_status norm_bwd(fm_dtype d, kind k, const fm_exec *x, const fm_norm_bwd_args *a) {
    bwd_job job = {.d = d, .k = k, .a = a};
    job.n_chunks = fm_row_chunks(a->n_rows);
    job.stride = (a->dim + 15) / 16 * 16;
    int64_t bytes = job.n_chunks * job.stride * (int64_t)sizeof(float);
    if (a->dw) {
        job.dw = fm_scratch_take(x, bytes);
    }
    if (a->db && k != RMS) {
        job.db = fm_scratch_take(x, bytes);
    }
    if ((a->dw && !job.dw) || (a->db && k != RMS && !job.db)) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no scratch memory for the weight gradient of a norm (%lld bytes)", (long long)bytes);
    }
    int64_t traffic = a->n_rows * a->dim * 4 * (d == FM_BF16 ? 2 : 4);
    FM_TRY(fm_pool_run(fm_par_pool(x, traffic), job.n_chunks, bwd_chunk, &job));
    return job.dw || job.db ? fm_par_split(x, 2 * bytes, combine_part, &job) : FM_OK;
}

FM_INLINE fm_status rmsnorm_fwd_run(fm_dtype d, const fm_exec *x, const fm_norm_args *a) {
    return norm_fwd(d, RMS, x, a);
}
FM_INLINE fm_status layernorm_fwd_run(fm_dtype d, const fm_exec *x, const fm_norm_args *a) {
    return norm_fwd(d, LAYER, x, a);
}
FM_INLINE fm_status rmsnorm_bwd_run(fm_dtype d, const fm_exec *x, const fm_norm_bwd_args *a) {
    return norm_bwd(d, RMS, x, a);
}
FM_INLINE fm_status layernorm_bwd_run(fm_dtype d, const fm_exec *x, const fm_norm_bwd_args *a) {
    return norm_bwd(d, LAYER, x, a);
}
FM_INLINE fm_status affine_fwd_run(fm_dtype d, const fm_exec *x, const fm_norm_args *a) {
    return norm_fwd(d, AFFINE, x, a);
}
FM_INLINE fm_status affine_bwd_run(fm_dtype d, const fm_exec *x, const fm_norm_bwd_args *a) {
    return norm_bwd(d, AFFINE, x, a);
}
FM_SIMD_KERNEL(rmsnorm_fwd, fm_norm_args)
FM_SIMD_KERNEL(layernorm_fwd, fm_norm_args)
FM_SIMD_KERNEL(rmsnorm_bwd, fm_norm_bwd_args)
FM_SIMD_KERNEL(layernorm_bwd, fm_norm_bwd_args)
FM_SIMD_KERNEL(affine_fwd, fm_norm_args)
FM_SIMD_KERNEL(affine_bwd, fm_norm_bwd_args)

extern const fm_kernel_row FM_SIMD_FN(norm_rows)[];
const fm_kernel_row FM_SIMD_FN(norm_rows)[] = {
    FM_SIMD_ROWS(rmsnorm_fwd),
    FM_SIMD_ROWS(layernorm_fwd),
    FM_SIMD_ROWS(affine_fwd),
    FM_SIMD_ROWS(rmsnorm_bwd),
    FM_SIMD_ROWS(layernorm_bwd),
    FM_SIMD_ROWS(affine_bwd),
    FM_SIMD_END,
};
