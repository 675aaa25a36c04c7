/* Whole rows: embeddings, gather and scatter by index, sums over rows and along rows.
 *
 * Sums into rows chosen by index are split over columns: each thread walks the list in order for its own columns,
 * so the order of additions is that of the list for any number of threads. */
#include "backend/cpu/simd/kernel.h"

typedef struct copy_job {
    const int32_t *idx;
    const char *from;
    char *to;
    int64_t n, row_bytes;
} copy_job;

static fm_status copy_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(thread);
    const copy_job *j = arg;
    int64_t begin, end;
    fm_split(j->n, part, n_parts, 1, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        memcpy(j->to + i * j->row_bytes, j->from + j->idx[i] * j->row_bytes, (size_t)j->row_bytes);
    }
    return FM_OK;
}

static fm_status copy_rows(const fm_exec *x, int64_t size, int64_t n, int64_t dim, const int32_t *idx, const void *from,
                           void *to) {
    if (n == 0 || dim == 0) {
        return FM_OK;
    }
    copy_job job = {idx, from, to, n, dim * size};
    return fm_par_split(x, 2 * n * dim * size, copy_part, &job);
}

#define COPY_KERNELS(suffix, size)                                                                                     \
    static fm_status embedding_fwd_##suffix(const fm_exec *x, const void *p) {                                         \
        const fm_embedding_args *a = p;                                                                                \
        return copy_rows(x, size, a->n_tokens, a->dim, a->ids, a->w, a->y);                                            \
    }                                                                                                                  \
    static fm_status gather_rows_##suffix(const fm_exec *x, const void *p) {                                           \
        const fm_rows_args *a = p;                                                                                     \
        return copy_rows(x, size, a->n, a->dim, a->idx, a->x, a->y);                                                   \
    }
COPY_KERNELS(f64, 8)
COPY_KERNELS(f32, 4)
COPY_KERNELS(bf16, 2)
COPY_KERNELS(f16, 2)

typedef struct block_job {
    fm_dtype d;
    const fm_copy_block_args *a;
} block_job;

FM_INLINE void block_rows(fm_dtype d, const fm_copy_block_args *a, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
        const void *x = vx_at(d, a->x, r * a->x_stride);
        void *y = vx_at(d, a->y, r * a->y_stride);
        FM_VECTOR_LOOP(i, n, 0, a->dim, {
            vf v = vx_get(d, x, i, n);
            vx_put(d, y, i, a->acc_y ? vf_add(v, vx_get(d, y, i, n)) : v, n);
        });
    }
}

static fm_status block_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(thread);
    const block_job *j = arg;
    int64_t begin, end;
    fm_split(j->a->n_rows, part, n_parts, 1, &begin, &end);
    if (j->d == FM_BF16) {
        block_rows(FM_BF16, j->a, begin, end);
    } else {
        block_rows(FM_F32, j->a, begin, end);
    }
    return FM_OK;
}

FM_INLINE fm_status copy_block_run(fm_dtype d, const fm_exec *x, const fm_copy_block_args *a) {
    block_job job = {d, a};
    return fm_par_split(x, a->n_rows * a->dim * (d == FM_BF16 ? 4 : 8), block_part, &job);
}

/* to[idx[i],:] += from[i,:]; `to` is of type dt. */
typedef struct add_job {
    fm_dtype d, dt;
    const int32_t *idx;
    const void *from;
    void *to;
    int64_t n, dim;
} add_job;

FM_INLINE void add_rows(fm_dtype d, fm_dtype dt, const add_job *j, int64_t begin, int64_t end) {
    for (int64_t r = 0; r < j->n; r++) {
        int64_t from = r * j->dim, to = j->idx[r] * j->dim;
        FM_VECTOR_LOOP(i, n, begin, end, {
            vf v = vf_add(vx_get(dt, j->to, to + i, n), vx_get(d, j->from, from + i, n));
            vx_put(dt, j->to, to + i, v, n);
        });
    }
}

static fm_status add_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(thread);
    const add_job *j = arg;
    int64_t begin, end;
    fm_split(j->dim, part, n_parts, 64, &begin, &end);
    if (j->d == FM_F32) {
        add_rows(FM_F32, FM_F32, j, begin, end);
    } else if (j->dt == FM_F32) {
        add_rows(FM_BF16, FM_F32, j, begin, end);
    } else {
        add_rows(FM_BF16, FM_BF16, j, begin, end);
    }
    return FM_OK;
}

FM_INLINE fm_status embedding_bwd_run(fm_dtype d, const fm_exec *x, const fm_embedding_bwd_args *a) {
    add_job job = {d, FM_F32, a->ids, a->dy, a->dw, a->n_tokens, a->dim};
    return fm_par_split(x, a->n_tokens * a->dim * 12, add_part, &job);
}

FM_INLINE fm_status scatter_add_rows_run(fm_dtype d, const fm_exec *x, const fm_rows_args *a) {
    add_job job = {d, d, a->idx, a->y, a->x, a->n, a->dim};
    return fm_par_split(x, a->n * a->dim * 12, add_part, &job);
}

typedef struct colsum_job {
    fm_dtype d;
    const fm_bias_grad_args *a;
    float *parts;
    int64_t stride, n_chunks;
} colsum_job;

/* Four rows at a time: the running sums are read and written a quarter as often. */
FM_INLINE void colsum_rows(fm_dtype d, const colsum_job *j, int64_t chunk) {
    int64_t cols = j->a->n, r = chunk * FM_ROW_CHUNK, end = FM_MIN(r + FM_ROW_CHUNK, j->a->m);
    const void *dy = j->a->dy;
    float *sum = j->parts + chunk * j->stride;
    memset(sum, 0, (size_t)cols * sizeof *sum);
    for (; r + 4 <= end; r += 4) {
        FM_VECTOR_LOOP(i, n, 0, cols, {
            vf s = vf_add(vx_get(d, dy, r * cols + i, n), vx_get(d, dy, (r + 1) * cols + i, n));
            vf t = vf_add(vx_get(d, dy, (r + 2) * cols + i, n), vx_get(d, dy, (r + 3) * cols + i, n));
            vx_put(FM_F32, sum, i, vf_add(vx_get(FM_F32, sum, i, n), vf_add(s, t)), n);
        });
    }
    for (; r < end; r++) {
        FM_VECTOR_LOOP(i, n, 0, cols, {
            vx_put(FM_F32, sum, i, vf_add(vx_get(FM_F32, sum, i, n), vx_get(d, dy, r * cols + i, n)), n);
        });
    }
}

static fm_status colsum_chunk(void *arg, int64_t chunk, int64_t n_chunks, int thread) {
    FM_UNUSED(n_chunks);
    FM_UNUSED(thread);
    const colsum_job *j = arg;
    if (j->d == FM_BF16) {
        colsum_rows(FM_BF16, j, chunk);
    } else {
        colsum_rows(FM_F32, j, chunk);
    }
    return FM_OK;
}

static fm_status colsum_combine(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(thread);
    const colsum_job *j = arg;
    int64_t begin, end;
    fm_split(j->a->n, part, n_parts, 64, &begin, &end);
    fm_add_chunks(j->a->dbias, j->parts, j->n_chunks, j->stride, begin, end, j->a->acc_dbias);
    return FM_OK;
}

FM_INLINE fm_status bias_grad_run(fm_dtype d, const fm_exec *x, const fm_bias_grad_args *a) {
    colsum_job job = {.d = d, .a = a, .stride = (a->n + 15) / 16 * 16, .n_chunks = fm_row_chunks(a->m)};
    int64_t bytes = job.n_chunks * job.stride * (int64_t)sizeof(float);
    job.parts = fm_scratch_take(x, bytes);
    if (!job.parts) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no scratch memory for a bias gradient (%lld bytes)", (long long)bytes);
    }
    fm_pool *pool = fm_par_pool(x, a->m * a->n * (d == FM_BF16 ? 2 : 4));
    FM_TRY(fm_pool_run(pool, job.n_chunks, colsum_chunk, &job));
    return fm_par_split(x, 2 * bytes, colsum_combine, &job);
}

typedef struct reduce_job {
    fm_dtype d;
    bool backward;
    const fm_reduce_args *a;
} reduce_job;

FM_INLINE void reduce_rows(fm_dtype d, bool backward, const fm_reduce_args *a, int64_t begin, int64_t end) {
    float *y = a->y;
    for (int64_t r = begin; r < end; r++) {
        void *x = vx_at(d, a->x, r * a->dim);
        if (!backward) {
            float total;
            FM_ROW_SUM(total, a->dim, acc = vf_add(acc, vx_get(d, x, i, n)););
            y[r] = (float)(a->scale * (double)total);
            continue;
        }
        vf v = vf_set1((float)(a->scale * (double)y[r]));
        FM_VECTOR_LOOP(i, n, 0, a->dim, vx_put(d, x, i, a->acc_x ? vf_add(v, vx_get(d, x, i, n)) : v, n););
    }
}

static fm_status reduce_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(thread);
    const reduce_job *j = arg;
    int64_t begin, end;
    fm_split(j->a->n_rows, part, n_parts, 1, &begin, &end);
    if (j->d == FM_BF16 && j->backward) {
        reduce_rows(FM_BF16, true, j->a, begin, end);
    } else if (j->d == FM_BF16) {
        reduce_rows(FM_BF16, false, j->a, begin, end);
    } else if (j->backward) {
        reduce_rows(FM_F32, true, j->a, begin, end);
    } else {
        reduce_rows(FM_F32, false, j->a, begin, end);
    }
    return FM_OK;
}

static fm_status reduce(fm_dtype d, bool backward, const fm_exec *x, const fm_reduce_args *a) {
    reduce_job job = {d, backward, a};
    return fm_par_split(x, a->n_rows * a->dim * (d == FM_BF16 ? 2 : 4), reduce_part, &job);
}
FM_INLINE fm_status reduce_fwd_run(fm_dtype d, const fm_exec *x, const fm_reduce_args *a) {
    return reduce(d, false, x, a);
}
FM_INLINE fm_status reduce_bwd_run(fm_dtype d, const fm_exec *x, const fm_reduce_args *a) {
    return reduce(d, true, x, a);
}

typedef struct groups_job {
    fm_dtype d;
    const fm_copy_groups_args *a;
} groups_job;

FM_INLINE void groups_row(fm_dtype d, const fm_copy_groups_args *a, int64_t r) {
    const void *x = vx_at(d, a->x, r * a->x_row);
    void *y = vx_at(d, a->y, r * a->y_row);
    if (a->sum) {
        FM_VECTOR_LOOP(j, n, 0, a->n_cols, {
            vf s = vf_zero();
            for (int64_t g = 0; g < a->n_groups; g++) {
                s = vf_add(s, vx_get(d, x, g * a->x_group + j, n));
            }
            vx_put(d, y, j, s, n);
        });
        return;
    }
    size_t bytes = (size_t)a->n_cols * (d == FM_BF16 ? 2 : 4);
    for (int64_t g = 0; g < a->n_groups; g++) {
        memcpy(vx_at(d, y, g * a->y_group), vx_at(d, x, g * a->x_group), bytes);
    }
}

static fm_status groups_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(thread);
    const groups_job *j = arg;
    int64_t begin, end;
    fm_split(j->a->n_rows, part, n_parts, 1, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        if (j->d == FM_BF16) {
            groups_row(FM_BF16, j->a, r);
        } else {
            groups_row(FM_F32, j->a, r);
        }
    }
    return FM_OK;
}

FM_INLINE fm_status copy_groups_run(fm_dtype d, const fm_exec *x, const fm_copy_groups_args *a) {
    groups_job job = {d, a};
    return fm_par_split(x, a->n_rows * a->n_groups * a->n_cols * (d == FM_BF16 ? 4 : 8), groups_part, &job);
}

FM_SIMD_KERNEL(copy_groups, fm_copy_groups_args)
FM_SIMD_KERNEL(embedding_bwd, fm_embedding_bwd_args)
FM_SIMD_KERNEL(scatter_add_rows, fm_rows_args)
FM_SIMD_KERNEL(copy_block, fm_copy_block_args)
FM_SIMD_KERNEL(bias_grad, fm_bias_grad_args)
FM_SIMD_KERNEL(reduce_fwd, fm_reduce_args)
FM_SIMD_KERNEL(reduce_bwd, fm_reduce_args)

extern const fm_kernel_row FM_SIMD_FN(rows_rows)[];
const fm_kernel_row FM_SIMD_FN(rows_rows)[] = {
    FM_SIMD_ROWS(embedding_fwd),
    FM_SIMD_ROW(embedding_fwd, f64, FM_F64),
    FM_SIMD_ROW(embedding_fwd, f16, FM_F16),
    FM_SIMD_ROWS(gather_rows),
    FM_SIMD_ROW(gather_rows, f64, FM_F64),
    FM_SIMD_ROW(gather_rows, f16, FM_F16),
    FM_SIMD_ROWS(copy_groups),
    FM_SIMD_ROWS(embedding_bwd),
    FM_SIMD_ROWS(scatter_add_rows),
    FM_SIMD_ROWS(copy_block),
    FM_SIMD_ROWS(bias_grad),
    FM_SIMD_ROWS(reduce_fwd),
    FM_SIMD_ROWS(reduce_bwd),
    FM_SIMD_END,
};
