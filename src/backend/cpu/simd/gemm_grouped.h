/* Products over groups of rows (mixture of experts). Included by gemm.c, whose plans and tiles it uses.
 *
 * A task is a part of one group: some of its rows and some columns of its result (of outer products: rows of C). Each
 * task runs as a product of its own on one thread; tasks are handed out as threads become free. Rows that are named by
 * a map are copied together first. The bits of an element are those of a plain product of the group, whatever the
 * tasks. */
#ifndef FM_BACKEND_CPU_SIMD_GEMM_GROUPED_H
#define FM_BACKEND_CPU_SIMD_GEMM_GROUPED_H

#include "backend/cpu/simd/gemm_pack.h"

#define GROUP_COPY_BYTES ((int64_t)1 << 20) /* of rows copied together, or of sums, for one task */
#define GROUP_MIN_ROWS   128                /* packing a weight again costs about 16 rows */

typedef struct group_task {
    int32_t group;
    int64_t r0, r1; /* rows of the group's operand, from its first; outer: rows of C */
    int64_t j0, j1; /* columns; of whole panels */
} group_task;

typedef struct group_job {
    bool bf16;
    int64_t es;
    const fm_grouped_matmul_args *mm; /* one of the two */
    const fm_grouped_outer_args *outer;
    group_task *task;
    int64_t n_tasks;
    int64_t copy_off, copy2_off, sum_off, thread_bytes; /* in a thread's scratch; plans' own at 0 */
    char *scratch;
} group_job;

/* Rows [r0, r1) through the map, `width` of `row` elements from element `at`; in place when they lie together. */
static const char *group_rows(const void *p, const fm_row_map *map, int64_t r0, int64_t r1, int64_t row, int64_t at,
                              int64_t width, int64_t es, char *copy, int64_t *ld) {
    const char *src = (const char *)p + at * es;
    if (!map->index) {
        *ld = row;
        return src + r0 * row * es;
    }
    for (int64_t r = r0; r < r1; r++) {
        memcpy(copy + (r - r0) * width * es, src + map->index[r] / map->div * row * es, (size_t)(width * es));
    }
    *ld = width;
    return copy;
}

/* Runs one product on this thread with the scratch of `base`. */
static fm_status group_product(const fm_matmul_args *g, bool bf16, char *base) {
    gemm_plan p;
    make_plan(&p, g, bf16, 1);
    p.scratch = base;
    return run_part(&p, 0, 1, 0);
}

static fm_status group_matmul_task(const group_job *w, const group_task *t, char *base) {
    const fm_grouped_matmul_args *g = w->mm;
    const int64_t first = g->offsets[t->group], r0 = first + t->r0, r1 = first + t->r1, es = w->es;
    const int64_t units = ceil_div(g->k, w->bf16 ? 2 : 1), b_at = t->j0 * (g->trans_b ? g->k : 1) * es;
    const void *packed = g->b_packed ? g->b_packed[t->group] : NULL;
    const void *b = g->b[t->group];
    const bool sum = g->a2 != NULL && w->bf16; /* f32 sums of the first product go through memory */
    fm_matmul_args m = {
        .m = r1 - r0,
        .n = t->j1 - t->j0,
        .k = g->k,
        .b = b ? (const char *)b + b_at : NULL,
        .ldb = g->trans_b ? g->k : g->n,
        .trans_b = g->trans_b,
        .c = sum ? base + w->sum_off : (char *)g->c + (r0 * g->n + t->j0) * es,
        .ldc = sum ? t->j1 - t->j0 : g->n,
        .c_dtype = sum || !w->bf16 ? FM_F32 : FM_BF16,
        .b_packed = packed ? (const char *)packed + t->j0 * units * 4 : NULL,
    };
    m.a = group_rows(g->a, &g->a_map, r0, r1, g->k, 0, g->k, es, base + w->copy_off, &m.lda);
    FM_TRY(group_product(&m, w->bf16, base));
    if (!g->a2) {
        return FM_OK;
    }
    m.a = (const char *)g->a2 + r0 * g->k * es;
    m.lda = g->k;
    m.b = (const char *)g->b2[t->group] + b_at;
    m.accumulate = true;
    FM_TRY(group_product(&m, w->bf16, base));
    for (int64_t r = 0; sum && r < m.m; r++) {
        const float *from = (const float *)m.c + r * m.ldc;
        fm_bf16 *to = (fm_bf16 *)g->c + (r0 + r) * g->n + t->j0;
        for (int64_t j = 0; j < m.n; j += VF_N) {
            const int n = (int)FM_MIN(m.n - j, (int64_t)VF_N);
            vf_storen_bf16(to + j, vf_loadn(from + j, n), n);
        }
    }
    return FM_OK;
}

/* Rows of an outer product taken together: one chunk of k. */
static int64_t outer_chunk(bool bf16) {
    return bf16 ? 2 * KC : KC;
}

static fm_status group_outer_task(const group_job *w, const group_task *t, char *base) {
    const fm_grouped_outer_args *g = w->outer;
    const int64_t first = g->offsets[t->group], rows = g->offsets[t->group + 1] - first;
    float *c = (float *)g->c[t->group] + t->r0 * g->n;
    if (rows == 0) {
        if (!g->accumulate[t->group]) {
            memset(c, 0, (size_t)((t->r1 - t->r0) * g->n) * sizeof *c);
        }
        return FM_OK;
    }
    for (int64_t k0 = 0; k0 < rows; k0 += outer_chunk(w->bf16)) {
        const int64_t k1 = FM_MIN(k0 + outer_chunk(w->bf16), rows);
        fm_matmul_args m = {
            .m = t->r1 - t->r0,
            .n = g->n,
            .k = k1 - k0,
            .trans_a = true,
            .c = c,
            .ldc = g->n,
            .c_dtype = FM_F32,
            .accumulate = k0 > 0 || g->accumulate[t->group],
        };
        m.a = group_rows(g->a, &g->a_map, first + k0, first + k1, g->m, t->r0, m.m, w->es, base + w->copy_off, &m.lda);
        m.b = group_rows(g->b, &g->b_map, first + k0, first + k1, g->n, 0, g->n, w->es, base + w->copy2_off, &m.ldb);
        FM_TRY(group_product(&m, w->bf16, base));
    }
    return FM_OK;
}

static fm_status group_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    const group_job *w = arg;
    FM_UNUSED(n_parts);
    char *base = w->scratch + thread * w->thread_bytes;
    const group_task *t = &w->task[part];
    return w->mm ? group_matmul_task(w, t, base) : group_outer_task(w, t, base);
}

/* Bytes of scratch that a product of the given shape asks for on one thread. */
static int64_t group_plan_bytes(const fm_matmul_args *g, bool bf16) {
    gemm_plan p;
    make_plan(&p, g, bf16, 1);
    return p.thread_bytes;
}

static fm_status group_run(const fm_exec *x, group_job *w, int64_t macs) {
    const bool inline_run = macs < INLINE_MACS;
    const int threads = inline_run ? 1 : fm_pool_threads(x->pool);
    w->thread_bytes = round_up(w->thread_bytes, 4096);
    w->scratch = fm_scratch_take(x, w->thread_bytes * threads);
    if (!w->scratch) {
        FM_FAIL(FM_ERR_NO_MEMORY, "products of experts: no memory for %lld bytes of scratch",
                (long long)(w->thread_bytes * threads));
    }
    return fm_pool_run_dynamic(inline_run ? NULL : x->pool, w->n_tasks, group_part, w);
}

static fm_status no_tasks(void) {
    FM_FAIL(FM_ERR_NO_MEMORY, "products of experts: no memory for the list of tasks");
}

/* How many rows and columns a task takes. Rows: few enough that threads end together and copies stay in the cache.
 * Columns are split only where there are too few rows for all threads (decoding). */
typedef struct group_cut {
    int64_t rows, panels;
} group_cut;

static group_cut group_cut_of(const fm_grouped_matmul_args *g, int64_t es, int threads) {
    const int64_t total = g->offsets[g->n_groups];
    int64_t n_busy = 0, panels = ceil_div(g->n, NR);
    for (int32_t i = 0; i < g->n_groups; i++) {
        n_busy += g->offsets[i + 1] > g->offsets[i];
    }
    int64_t rows = FM_MAX(ceil_div(total, 4 * (int64_t)threads), GROUP_MIN_ROWS);
    if (g->a_map.index) {
        rows = FM_MIN(rows, FM_MAX(GROUP_COPY_BYTES / FM_MAX(g->k * es, 1), GROUP_MIN_ROWS));
    }
    if (g->a2) {
        rows = FM_MIN(rows, FM_MAX(GROUP_COPY_BYTES / (g->n * 4), GROUP_MIN_ROWS));
    }
    int64_t want = threads > 1 && total < GROUP_MIN_ROWS ? ceil_div(2 * (int64_t)threads, FM_MAX(n_busy, 1)) : 1;
    return (group_cut){.rows = rows, .panels = ceil_div(panels, FM_MIN(want, panels))};
}

static fm_status grouped_matmul(const fm_exec *x, const fm_grouped_matmul_args *g, bool bf16) {
    const int64_t total = g->offsets[g->n_groups], panels = ceil_div(g->n, NR);
    if (total == 0 || g->n <= 0) {
        return FM_OK;
    }
    const int64_t macs = total * g->n * g->k;
    group_job w = {.bf16 = bf16, .es = bf16 ? 2 : 4, .mm = g};
    group_cut cut = group_cut_of(g, w.es, macs < INLINE_MACS ? 1 : fm_pool_threads(x->pool));
    int64_t n_tasks = 0, most = 0;
    for (int32_t i = 0; i < g->n_groups; i++) {
        int64_t rows = g->offsets[i + 1] - g->offsets[i];
        n_tasks += ceil_div(rows, cut.rows) * ceil_div(panels, cut.panels);
        most = FM_MAX(most, FM_MIN(rows, cut.rows));
    }
    w.task = fm_scratch_take(x, n_tasks * (int64_t)sizeof *w.task);
    if (!w.task) {
        return no_tasks();
    }
    int64_t plan = 0;
    for (int32_t i = 0; i < g->n_groups; i++) {
        const int64_t rows = g->offsets[i + 1] - g->offsets[i];
        for (int64_t r = 0; r < rows; r += cut.rows) {
            for (int64_t p = 0; p < panels; p += cut.panels) {
                group_task t = {i, r, FM_MIN(r + cut.rows, rows), p * NR, FM_MIN((p + cut.panels) * NR, g->n)};
                fm_matmul_args m = {.m = t.r1 - t.r0,
                                    .n = t.j1 - t.j0,
                                    .k = g->k,
                                    .trans_b = g->trans_b,
                                    .c_dtype = bf16 && !g->a2 ? FM_BF16 : FM_F32,
                                    .b_packed = g->b_packed ? g->b_packed[i] : NULL};
                plan = FM_MAX(plan, group_plan_bytes(&m, bf16));
                w.task[w.n_tasks++] = t;
            }
        }
    }
    w.copy_off = round_up(plan, 64);
    w.sum_off = w.copy_off + (g->a_map.index ? round_up(most * g->k * w.es, 64) : 0);
    w.thread_bytes = w.sum_off + (g->a2 && bf16 ? most * g->n * 4 : 0) + 64;
    return group_run(x, &w, macs);
}

static fm_status grouped_outer(const fm_exec *x, const fm_grouped_outer_args *g, bool bf16) {
    const int64_t total = g->offsets[g->n_groups], macs = FM_MAX(total, 1) * g->n * g->m;
    const int64_t threads = macs < INLINE_MACS ? 1 : fm_pool_threads(x->pool), mr = bf16 ? BF16_MR : F32_MR;
    if (g->m <= 0 || g->n <= 0) {
        return FM_OK;
    }
    group_job w = {.bf16 = bf16, .es = bf16 ? 2 : 4, .outer = g};
    /* A group with many rows is cut so that no task is more than a fair part of all. */
    const int64_t fair = FM_MAX(ceil_div(total, 4 * threads), GROUP_MIN_ROWS);
    int64_t n_tasks = 0;
    for (int32_t i = 0; i < g->n_groups; i++) {
        n_tasks += FM_MAX(ceil_div(g->offsets[i + 1] - g->offsets[i], fair), 1);
    }
    w.task = fm_scratch_take(x, n_tasks * (int64_t)sizeof *w.task);
    if (!w.task) {
        return no_tasks();
    }
    int64_t plan = 0, copy = 0, copy2 = 0;
    for (int32_t i = 0; i < g->n_groups; i++) {
        const int64_t rows = g->offsets[i + 1] - g->offsets[i], k = FM_MIN(rows, outer_chunk(bf16));
        const int64_t parts = FM_MAX(ceil_div(rows, fair), 1);
        for (int64_t p = 0; p < parts && g->c[i]; p++) {
            group_task t = {.group = i};
            fm_split(g->m, p, parts, mr, &t.r0, &t.r1);
            if (t.r0 == t.r1) {
                continue;
            }
            for (int64_t last = 0; last < 2; last++) { /* the chunk of all rows but the last, and the last one */
                fm_matmul_args m = {.m = t.r1 - t.r0,
                                    .n = g->n,
                                    .k = last && rows > k ? (rows - 1) % outer_chunk(bf16) + 1 : k,
                                    .trans_a = true,
                                    .c_dtype = FM_F32};
                plan = FM_MAX(plan, rows ? group_plan_bytes(&m, bf16) : 0);
            }
            copy = FM_MAX(copy, g->a_map.index ? k * (t.r1 - t.r0) * w.es : 0);
            copy2 = FM_MAX(copy2, g->b_map.index ? k * g->n * w.es : 0);
            w.task[w.n_tasks++] = t;
        }
    }
    w.copy_off = round_up(plan, 64);
    w.copy2_off = w.copy_off + round_up(copy, 64);
    w.thread_bytes = w.copy2_off + round_up(copy2, 64) + 64;
    return group_run(x, &w, macs);
}

static fm_status grouped_matmul_f32(const fm_exec *x, const void *args) {
    return grouped_matmul(x, args, false);
}
static fm_status grouped_matmul_bf16(const fm_exec *x, const void *args) {
    return grouped_matmul(x, args, true);
}
static fm_status grouped_outer_f32(const fm_exec *x, const void *args) {
    return grouped_outer(x, args, false);
}
static fm_status grouped_outer_bf16(const fm_exec *x, const void *args) {
    return grouped_outer(x, args, true);
}

#endif
