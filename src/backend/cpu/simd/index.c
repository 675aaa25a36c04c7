/* Choice of keys for sparse attention (lightning indexer of DeepSeek V3.2).
 *
 * Scores of some queries against all their keys, then the threshold of each query by counting digits of the scores from
 * the top: two passes over 16 bits each, and one that lists. Each score is one chain of sums, so a query's choice does
 * not depend on what it is computed with. */
#include "backend/cpu/simd/kernel.h"

#define SCORES     ((int64_t)1 << 21) /* held at a time, unless one query has more */
#define KEY_CHUNK  512                /* keys of a task */
#define HEAD_BLOCK 4

typedef struct index_job {
    fm_dtype d;
    const fm_index_select_args *a;
    int64_t begin, end; /* queries at work */
    int64_t max_keys, n_chunks;
    const int32_t *segment; /* [n_tokens] */
    float *scores;          /* [end-begin,max_keys] */
    uint32_t *counts;       /* [threads,65536] */
} index_job;

static int64_t n_keys(const fm_index_select_args *a, int32_t s, int64_t row) {
    int64_t nk = a->kv.kv_offsets[s + 1] - a->kv.kv_offsets[s];
    return FM_MAX(nk - (a->q_offsets[s + 1] - row) + 1, 0);
}

static const void *key_at(const fm_index_select_args *a, int32_t s, int64_t j) {
    const fm_kv_view *kv = &a->kv;
    int64_t row = kv->kv_offsets[s] + j;
    if (kv->block_table) {
        row = (int64_t)kv->block_table[s * kv->max_blocks + j / kv->block_tokens] * kv->block_tokens +
              j % kv->block_tokens;
    }
    return vx_at(kv->dtype, kv->k, row * kv->k_stride);
}

/* sum over heads [h, h+n) of w * relu(q . k), added to `sum` in order. */
FM_INLINE float some_heads(fm_dtype d, fm_dtype dk, const fm_index_select_args *a, int64_t row, int64_t h,
                           const int n_heads, const void *key, float sum) {
    vf acc[HEAD_BLOCK];
    const void *q = vx_at(d, a->q, (row * a->n_heads + h) * a->dim);
    for (int b = 0; b < n_heads; b++) {
        acc[b] = vf_zero();
    }
    FM_VECTOR_LOOP(i, n, 0, a->dim, {
        vf k = vx_get(dk, key, i, n);
        for (int b = 0; b < n_heads; b++) {
            acc[b] = vf_fma(vx_get(d, q, b * a->dim + i, n), k, acc[b]);
        }
    });
    for (int b = 0; b < n_heads; b++) {
        float dot = vf_hsum(acc[b]);
        sum += vx_scalar(d, a->w, row * a->n_heads + h + b) * (dot > 0.0F || dot != dot ? dot : 0.0F);
    }
    return sum;
}

FM_INLINE float score(fm_dtype d, fm_dtype dk, const fm_index_select_args *a, int64_t row, const void *key) {
    float sum = 0.0F;
    int64_t h = 0;
    for (; h + HEAD_BLOCK <= a->n_heads; h += HEAD_BLOCK) {
        sum = some_heads(d, dk, a, row, h, HEAD_BLOCK, key, sum);
    }
    for (; h < a->n_heads; h++) {
        sum = some_heads(d, dk, a, row, h, 1, key, sum);
    }
    return sum;
}

static fm_status score_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(n_parts);
    FM_UNUSED(thread);
    const index_job *j = arg;
    int64_t row = j->begin + part / j->n_chunks, from = part % j->n_chunks * KEY_CHUNK;
    int32_t s = j->segment[row];
    int64_t to = FM_MIN(from + KEY_CHUNK, n_keys(j->a, s, row));
    float *out = j->scores + (row - j->begin) * j->max_keys;
    fm_dtype dk = j->a->kv.dtype;
    for (int64_t k = from; k < to; k++) {
        const void *key = key_at(j->a, s, k);
        if (j->d == FM_F32) {
            out[k] = dk == FM_F32 ? score(FM_F32, FM_F32, j->a, row, key) : score(FM_F32, FM_BF16, j->a, row, key);
        } else {
            out[k] = dk == FM_F32 ? score(FM_BF16, FM_F32, j->a, row, key) : score(FM_BF16, FM_BF16, j->a, row, key);
        }
    }
    return FM_OK;
}

/* Bits whose order as whole numbers is that of the scores. NaN is the least; -0 and 0 are one. */
static uint32_t sortable(float x) {
    uint32_t u;
    if (x != x) {
        return 0;
    }
    x += 0.0F;
    memcpy(&u, &x, sizeof u);
    return u & 0x80000000U ? ~u : u | 0x80000000U;
}

/* The digit at which `limit` of the counted numbers lie above or at it; *above: those that lie above. */
static uint32_t digit_of(const uint32_t *count, int64_t limit, int64_t *above) {
    uint32_t digit = 65535;
    while (*above + count[digit] < limit) {
        *above += count[digit--];
    }
    return digit;
}

static void choose(const fm_index_select_args *a, const float *s, int64_t n, uint32_t *count, int32_t *ids) {
    int64_t limit = a->n_selected, m = 0;
    if (n <= limit) {
        for (int64_t i = 0; i < limit; i++) {
            ids[i] = i < n ? (int32_t)i : -1;
        }
        return;
    }
    int64_t above = 0;
    memset(count, 0, 65536 * sizeof *count);
    for (int64_t i = 0; i < n; i++) {
        count[sortable(s[i]) >> 16]++;
    }
    uint32_t high = digit_of(count, limit, &above);
    memset(count, 0, 65536 * sizeof *count);
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = sortable(s[i]);
        count[u & 0xffffU] += u >> 16 == high;
    }
    uint32_t least = high << 16 | digit_of(count, limit, &above);
    int64_t equal = limit - above; /* so many of those at the threshold, the first ones */
    for (int64_t i = 0; i < n && m < limit; i++) {
        uint32_t u = sortable(s[i]);
        if (u > least || (u == least && equal-- > 0)) {
            ids[m++] = (int32_t)i;
        }
    }
}

static fm_status choose_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(n_parts);
    const index_job *j = arg;
    int64_t row = j->begin + part;
    choose(j->a, j->scores + part * j->max_keys, n_keys(j->a, j->segment[row], row),
           j->counts + (int64_t)thread * 65536, j->a->ids + row * j->a->n_selected);
    return FM_OK;
}

FM_INLINE fm_status index_select_run(fm_dtype d, const fm_exec *x, const fm_index_select_args *a) {
    index_job j = {.d = d, .a = a, .max_keys = 1};
    int64_t tokens = a->n_segments > 0 ? a->q_offsets[a->n_segments] : 0;
    if (a->kv.dtype != FM_F32 && a->kv.dtype != FM_BF16) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "index_select: keys of type %s", fm_dtype_get(a->kv.dtype)->name);
    }
    for (int32_t s = 0; s < a->n_segments; s++) {
        j.max_keys = FM_MAX(j.max_keys, (int64_t)a->kv.kv_offsets[s + 1] - a->kv.kv_offsets[s]);
    }
    if (tokens == 0) {
        return FM_OK;
    }
    int64_t step = FM_MIN(FM_MAX(SCORES / j.max_keys, 1), tokens);
    int32_t *segment = fm_scratch_take(x, tokens * (int64_t)sizeof *segment);
    j.scores = fm_scratch_take(x, step * j.max_keys * (int64_t)sizeof *j.scores);
    j.counts = fm_scratch_take(x, fm_pool_threads(x->pool) * 65536 * (int64_t)sizeof *j.counts);
    if (!segment || !j.scores || !j.counts) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no scratch memory for the scores of %lld keys", (long long)j.max_keys);
    }
    for (int32_t s = 0; s < a->n_segments; s++) {
        for (int64_t t = a->q_offsets[s]; t < a->q_offsets[s + 1]; t++) {
            segment[t] = s;
        }
    }
    j.segment = segment;
    j.n_chunks = (j.max_keys + KEY_CHUNK - 1) / KEY_CHUNK;
    for (j.begin = 0; j.begin < tokens; j.begin = j.end) {
        j.end = FM_MIN(j.begin + step, tokens);
        int64_t rows = j.end - j.begin;
        fm_pool *pool = fm_par_pool(x, rows * j.max_keys * a->n_heads * a->dim);
        FM_TRY(fm_pool_run_dynamic(pool, rows * j.n_chunks, score_part, &j));
        FM_TRY(fm_pool_run_dynamic(pool, rows, choose_part, &j));
    }
    return FM_OK;
}
FM_SIMD_KERNEL(index_select, fm_index_select_args)

extern const fm_kernel_row FM_SIMD_FN(index_rows)[];
const fm_kernel_row FM_SIMD_FN(index_rows)[] = {FM_SIMD_ROWS(index_select), FM_SIMD_END};
