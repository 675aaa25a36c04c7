/* Attention forward for one engine (Dao et al. 2022, 2023; online softmax: Milakov & Gimelshein 2018).
 *
 * A task is one (segment, kv head, block of rows). For each key tile it packs K (keys across) and V once and
 * then takes the rows in groups of ATT_MR: scores, running maximum, exponentials and the product with V of a
 * group stay in L1. With few rows (decode) a task takes several kv heads side by side, so that memory is read
 * in long runs. */

#define ATT_FWD_ROWS 264             /* rows in a task: amortises the packing of K and V */
#define ATT_LDS      (ATT_KT + VF_N) /* score rows: a mask store may run over by a vector */

typedef struct att_fwd {
    const fm_attention_args *f;
    fm_dtype d;
    bool plain;           /* scores need no more than a positive scale */
    int64_t block_rows;   /* rows of one kv head in a task */
    int32_t task_heads;   /* kv heads in a task */
    int64_t steps, ldq;   /* of the head dimension */
    int64_t ldo;          /* v_dim in whole vectors */
    const int64_t *first; /* [n_segments+1] first task of each segment */
    char *scratch;        /* per thread */
    int64_t scratch_bytes;
} att_fwd;

typedef struct att_fwd_tile {
    /* [task_heads] of: */
    att_e *q;         /* rows [block_rows][ldq] */
    float *o;         /* [block_rows][ldo] */
    float *l;         /* [block_rows][VF_N] sums of exponentials by lane */
    float *m;         /* [block_rows] running maximum, in units of log 2 */
    int32_t *lo, *hi; /* [block_rows] keys that the row sees */
    /* The key tile of one kv head. */
    att_e *k; /* panels, keys across */
    att_e *v; /* panels, keys summed over */
    float *x; /* a tile of keys or values out of blocks, or NULL */
} att_fwd_tile;

static int64_t att_fwd_carve(const att_fwd *c, char *base, att_fwd_tile *t) {
    att_carver cv = {base, 0};
    int64_t rows = c->block_rows * c->task_heads;
    t->q = att_carve(&cv, rows * c->ldq * 4);
    t->o = att_carve(&cv, rows * c->ldo * 4);
    t->l = att_carve(&cv, rows * VF_N * 4);
    t->m = att_carve(&cv, rows * 4);
    t->lo = att_carve(&cv, rows * 4);
    t->hi = att_carve(&cv, rows * 4);
    t->k = att_carve(&cv, ATT_KT / ATT_W * c->steps * ATT_W * 4);
    t->v = att_carve(&cv, att_panels(c->f->v_dim) * (ATT_KT / ATT_STEP) * ATT_W * 4);
    t->x = c->f->kv.dtype == FM_Q8_0 ? att_carve(&cv, ATT_KT * att_max(c->f->head_dim, c->f->v_dim) * 4) : NULL;
    return cv.used;
}

/* Scores that need more than a scale: scale, softcap, position bias. */
static void att_scores_general(const att_seg *g, int64_t r, int64_t k0, int64_t n, float *s) {
    const fm_attention_args *f = g->f;
    static const float iota[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    float slope = f->alibi == NULL ? 0.0F : f->alibi[att_row_head(g, r)];
    for (int64_t j = 0; j < n; j += VF_N) {
        vf x = vf_mul(vf_load(s + j), vf_set1(f->scale));
        if (f->softcap != 0.0F) {
            x = vf_mul(vf_set1(f->softcap), vf_tanh(vf_div(x, vf_set1(f->softcap))));
        }
        if (f->alibi != NULL) {
            vf dist = vf_add(vf_load(iota), vf_set1((float)(k0 + j - att_row_pos(g, r))));
            x = vf_fma(vf_set1(slope), dist, x);
        }
        vf_store(s + j, x);
    }
}

/* s[0..n) = -inf outside [lo, hi). */
static inline void att_mask_row(float *s, int64_t lo, int64_t hi, int64_t n) {
    vf none = vf_set1(-INFINITY);
    for (int64_t j = 0; j < att_min(lo, n); j += VF_N) {
        vf_storen(s + j, none, (int)att_min(VF_N, att_min(lo, n) - j));
    }
    for (int64_t j = att_max(hi, 0); j < n; j += VF_N) {
        vf_store(s + j, none);
    }
}

/* Exponentials of mr rows of scores: s[r][0..n) becomes p (f32 engine) or goes to p as bf16; m, l move on and alpha is
 * the factor of the old sums. */
ATT_INLINE void att_softmax(float scale, int64_t mr, int64_t n, float *s, uint16_t *p, float *m, float *l,
                            float *alpha) {
    _Alignas(64) float m_new[16];
    for (int64_t r = 0; r < mr; r++) {
        const float *row = s + r * ATT_LDS;
        vf top = vf_load(row);
        for (int64_t j = VF_N; j < n; j += VF_N) {
            top = vf_max(top, vf_load(row + j));
        }
        float t = vf_hmax(top) * scale;
        m_new[r] = m[r] > t ? m[r] : t;
        /* no key yet: exp(-inf - 0) = 0 instead of NaN */
        alpha[r] = m[r] - (m_new[r] == -INFINITY ? 0.0F : m_new[r]);
        m[r] = m_new[r];
    }
    for (int64_t r = 0; r < mr; r += VF_N) {
        vf_store(alpha + r, att_exp2(vf_load(alpha + r)));
    }
    vf sc = vf_set1(scale);
    for (int64_t r = 0; r < mr; r++) {
        float *row = s + r * ATT_LDS;
        vf top = vf_set1(m[r] == -INFINITY ? 0.0F : -m[r]);
        vf sum = vf_zero();
        for (int64_t j = 0; j < n; j += VF_N) {
            vf e = att_exp2(vf_fma(vf_load(row + j), sc, top));
            sum = vf_add(sum, e);
#if ATT_BF16
            vf_narrow_store(p + r * ATT_KT + j, e);
#else
            (void)p;
            vf_store(row + j, e);
#endif
        }
        vf_store(l + r * VF_N, vf_fma(vf_load(l + r * VF_N), vf_set1(alpha[r]), sum));
    }
}

/* Rows r0..r0+mr (in the block: at..) against the packed tile of keys k0... */
static void att_fwd_group(const att_fwd *c, const att_seg *g, const att_fwd_tile *t, int64_t r0, int64_t at, int64_t mr,
                          int64_t k0) {
    const fm_attention_args *f = c->f;
    const int32_t *lo = t->lo + at;
    const int32_t *hi = t->hi + at;
    int64_t n = att_min(ATT_KT, hi[mr - 1] - k0);
    if (n <= 0 || lo[0] >= k0 + ATT_KT) {
        return;
    }
    _Alignas(64) float s[ATT_MR * ATT_LDS];
    _Alignas(64) float alpha[16] = {0};
    int64_t nv = (n + VF_N - 1) / VF_N;
    int64_t cols = nv * VF_N;
    att_product(att_mk_rows, mr, t->q + at * c->ldq, c->ldq, t->k, c->steps * ATT_W, c->steps, 0, nv, s, ATT_LDS, NULL,
                false);
    if (!c->plain) {
        for (int64_t r = 0; r < mr; r++) {
            att_scores_general(g, r0 + r, k0, cols, s + r * ATT_LDS);
        }
    }
    if (hi[0] < k0 + cols || lo[mr - 1] > k0) {
        for (int64_t r = 0; r < mr; r++) {
            att_mask_row(s + r * ATT_LDS, lo[r] - k0, hi[r] - k0, cols);
        }
    }
#if ATT_BF16
    _Alignas(64) uint16_t p[ATT_MR * ATT_KT];
    const att_e *pa = (const att_e *)(const void *)p;
    const int64_t ldp = ATT_KT / 2;
#else
    uint16_t *p = NULL;
    const att_e *pa = s;
    const int64_t ldp = ATT_LDS;
#endif
    att_softmax((c->plain ? f->scale : 1.0F) * ATT_LOG2E, mr, cols, s, p, t->m + at, t->l + at * VF_N, alpha);
    att_product(att_mk_rows, mr, pa, ldp, t->v, ATT_KT / ATT_STEP * ATT_W, att_steps(n), 0, c->ldo / VF_N,
                t->o + at * c->ldo, c->ldo, alpha, true);
}

static void att_fwd_finish(const att_fwd *c, const att_seg *g, const att_fwd_tile *t, int64_t r, int64_t at) {
    const fm_attention_args *f = c->f;
    float m = t->m[at];
    float l = vf_hsum(vf_load(t->l + at * VF_N));
    float factor = 1.0F;
    if (f->sink != NULL) {
        float sink = (float)fm_load_as_f64(c->d, f->sink, att_row_head(g, r)) * ATT_LOG2E;
        float top = m > sink ? m : sink;
        factor = exp2f(m - top);
        l = l * factor + exp2f(sink - top);
        m = top;
    }
    float *o = t->o + at * c->ldo;
    vf inv = vf_set1(l > 0.0F || l != l ? factor / l : 0.0F);
    for (int64_t i = 0; i < c->ldo; i += VF_N) {
        vf_store(o + i, vf_fma(vf_load(o + i), inv, vf_zero())); /* -0 becomes 0 */
    }
    int64_t at_out = att_row_index(g, r);
    att_store_row(f->out, c->d, at_out * f->v_dim, false, o, f->v_dim, 1.0F);
    if (f->lse != NULL) {
        ((float *)f->lse)[at_out] = l > 0.0F || l != l ? m * ATT_LN2 + logf(l) : -INFINITY;
    }
}

/* Packs n queries from row `begin` to row `at` of the task and clears their sums. */
static void att_fwd_begin(const att_fwd *c, const att_seg *g, const att_fwd_tile *t, int64_t begin, int64_t n,
                          int64_t at) {
    const fm_attention_args *f = c->f;
    const void *src[ATT_KT];
    for (int64_t r0 = 0; r0 < n; r0 += ATT_KT) {
        int64_t m = att_min(ATT_KT, n - r0);
        for (int64_t r = 0; r < m; r++) {
            src[r] = att_elem(f->q, c->d, att_row_index(g, begin + r0 + r) * f->head_dim);
            att_prefetch(src[r], f->head_dim * att_elem_bytes(c->d));
        }
        att_pack_rows(t->q + (at + r0) * c->ldq, c->ldq, src, m, f->head_dim, c->d == FM_BF16);
    }
    memset(t->o + at * c->ldo, 0, (size_t)(n * c->ldo) * 4);
    memset(t->l + at * VF_N, 0, (size_t)(n * VF_N) * 4);
    for (int64_t r = 0; r < n; r++) {
        t->m[at + r] = -INFINITY;
        t->lo[at + r] = (int32_t)att_row_lo(g, begin + r);
        t->hi[at + r] = (int32_t)att_row_hi(g, begin + r);
    }
}

/* n keys from k0. */
static void att_fwd_pack_keys(const att_fwd *c, const att_seg *g, const att_fwd_tile *t, int64_t k0, int64_t n,
                              att_ahead *ahead) {
    const void *src[ATT_KT];
    bool is_bf16 = c->f->kv.dtype == FM_BF16;
    for (int64_t j = 0; j < n; j++) {
        src[j] = att_k_row(g, k0 + j);
    }
    if (t->x != NULL) {
        att_expand(t->x, src, n, c->f->head_dim);
    }
    att_pack_across(t->k, src, n, c->f->head_dim, is_bf16, ahead);
    for (int64_t j = 0; j < n; j++) {
        src[j] = att_v_row(g, k0 + j);
    }
    if (t->x != NULL) {
        att_expand(t->x, src, n, c->f->v_dim);
    }
    att_pack_along(t->v, src, n, c->f->v_dim, is_bf16, ahead);
}

/* The segment that holds the task: first[s] <= part < first[s+1]. */
static int32_t att_fwd_segment(const att_fwd *c, int64_t part) {
    int32_t lo = 0;
    int32_t hi = c->f->n_segments;
    while (hi - lo > 1) {
        int32_t mid = lo + (hi - lo) / 2;
        if (c->first[mid] <= part) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static fm_status att_fwd_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    (void)n_parts;
    const att_fwd *c = arg;
    int32_t s = att_fwd_segment(c, part);
    int32_t n_ranges = (c->f->n_kv_heads + c->task_heads - 1) / c->task_heads;
    int64_t n_blocks = (c->first[s + 1] - c->first[s]) / n_ranges;
    int64_t in = part - c->first[s];
    att_seg g = att_seg_at(c->f, s, (int32_t)(in / n_blocks) * c->task_heads);
    const int32_t head0 = g.kv_head;
    const int32_t n_heads = (int32_t)att_min(c->task_heads, c->f->n_kv_heads - head0);
    int64_t begin = in % n_blocks * c->block_rows;
    int64_t n = att_min(c->block_rows, att_n_rows(&g) - begin);
    int64_t end = att_row_hi(&g, begin + n - 1);
    int64_t k_first = att_row_lo(&g, begin) / ATT_KT * ATT_KT;
    att_fwd_tile t;
    (void)att_fwd_carve(c, c->scratch + thread * c->scratch_bytes, &t);

    for (int32_t h = 0; h < n_heads; h++) {
        g.kv_head = head0 + h;
        att_prefetch_keys(&g, k_first, att_min(k_first + ATT_KT, end));
        att_fwd_begin(c, &g, &t, begin, n, h * n);
    }
    g.kv_head = head0;
    att_ahead ahead = att_ahead_begin(&g, n_heads, k_first + ATT_KT, end);
    for (int64_t k0 = k_first; k0 < end; k0 += ATT_KT) {
        for (int32_t h = 0; h < n_heads; h++) {
            g.kv_head = head0 + h;
            att_fwd_pack_keys(c, &g, &t, k0, att_min(ATT_KT, end - k0), &ahead);
            for (int64_t r = 0; r < n; r += ATT_MR) {
                att_fwd_group(c, &g, &t, begin + r, h * n + r, att_min(ATT_MR, n - r), k0);
            }
        }
    }
    for (int32_t h = 0; h < n_heads; h++) {
        g.kv_head = head0 + h;
        for (int64_t r = 0; r < n; r++) {
            att_fwd_finish(c, &g, &t, begin + r, h * n + r);
        }
    }
    return FM_OK;
}

/* Many kv heads when the rows are few, but tasks enough for the threads. */
static int32_t att_fwd_task_heads(const fm_attention_args *f, int64_t rows, int threads) {
    int64_t n = att_max(1, att_min(ATT_FWD_ROWS / rows, f->n_kv_heads));
    int64_t wanted = threads > 1 ? 4 * (int64_t)threads : 1;
    while (n > 1 && (f->n_kv_heads + n - 1) / n * f->n_segments < wanted) {
        n = (n + 1) / 2;
    }
    return (int32_t)n;
}

fm_status ATT_FN(attention_fwd)(const fm_exec *x, const fm_attention_args *f, fm_dtype d) {
    int32_t group = f->n_heads / f->n_kv_heads;
    att_fwd c = {.f = f, .d = d};
    c.plain = f->softcap == 0.0F && f->alibi == NULL && f->scale > 0.0F;
    c.steps = att_steps(f->head_dim);
    c.ldq = att_round_up(c.steps, VF_N);
    c.ldo = att_round_up(f->v_dim, VF_N);
    int64_t most = 0;
    double work = 0.0; /* elements of keys and values, weighed by the rows that read them */
    for (int32_t s = 0; s < f->n_segments; s++) {
        int64_t rows = (int64_t)(f->q_offsets[s + 1] - f->q_offsets[s]) * group;
        most = att_max(most, rows);
        work += (double)(rows + 4) * (double)(f->kv.kv_offsets[s + 1] - f->kv.kv_offsets[s]);
    }
    if (most == 0) {
        return FM_OK;
    }
    work *= (double)f->n_kv_heads * (double)(f->head_dim + f->v_dim);
    fm_pool *pool = work < ATT_INLINE_WORK ? NULL : x->pool;
    c.block_rows = att_min(ATT_FWD_ROWS, most);
    c.task_heads = att_fwd_task_heads(f, most, fm_pool_threads(pool));
    att_fwd_tile t;
    c.scratch_bytes = att_fwd_carve(&c, NULL, &t);
    int64_t first_bytes = att_round_up(((int64_t)f->n_segments + 1) * 8, 64);
    int64_t bytes = first_bytes + fm_pool_threads(pool) * c.scratch_bytes;
    char *block = fm_scratch_take(x, bytes);
    if (block == NULL) {
        FM_FAIL(FM_ERR_NO_MEMORY, "attention: no memory for %lld bytes of scratch", (long long)bytes);
    }
    int64_t *first = (int64_t *)(void *)block;
    c.first = first;
    c.scratch = block + first_bytes;
    first[0] = 0;
    int32_t n_ranges = (f->n_kv_heads + c.task_heads - 1) / c.task_heads;
    for (int32_t s = 0; s < f->n_segments; s++) {
        int64_t rows = (int64_t)(f->q_offsets[s + 1] - f->q_offsets[s]) * group;
        first[s + 1] = first[s] + (rows + c.block_rows - 1) / c.block_rows * n_ranges;
    }
    return fm_pool_run_dynamic(pool, first[f->n_segments], att_fwd_part, &c);
}
