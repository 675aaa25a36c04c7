/* Attention backward for one engine: P is computed again from the log-sum-exp of the forward pass.
 *
 *   S = scale Q K^T   P = exp(S - lse)   dP = dO V^T   dS = P (dP - sum(dO O))
 *   dV = P^T dO       dQ = scale dS K    dK = scale dS^T Q
 *
 * A task is one (segment, kv head) and owns its dq, dk and dv, so nothing is shared and every sum has one order:
 * blocks of ATT_KT rows outside, key tiles inside. S and dP are computed transposed, keys down and rows across:
 * lse and sum(dO O) are then vectors, and P^T and dS^T come out as the operands that dV and dK need; dQ
 * reads dS^T across. A key tile is taken in strips of ATT_STRIP keys that stay in L1. */

#define ATT_STRIP 24     /* keys; a multiple of ATT_MR and of 2 */
#define ATT_RT    ATT_KT /* rows in a block */

typedef struct att_bwd {
    const fm_attention_bwd_args *b;
    fm_dtype d;
    bool plain;
    int64_t max_nk;
    int64_t steps_k, steps_v; /* of head_dim and v_dim */
    int64_t ldk, ldv;         /* rows layout */
    int64_t ldk_acc, ldv_acc; /* f32 accumulators */
    int64_t kb_tile;          /* att_e of one key tile in kb */
    float *dsink_part;        /* [n_segments,n_heads] or NULL */
    char *scratch;
    int64_t scratch_bytes;
} att_bwd;

typedef struct att_bwd_tile {
    /* The segment's keys. */
    att_e *k, *v;   /* rows [max_nk][ldk or ldv] */
    att_e *kb;      /* panels with keys summed over, one tile after the other */
    float *dk, *dv; /* [max_nk][ldk_acc or ldv_acc] */
    /* A block of rows. */
    int64_t n_rows;
    att_e *qt, *dot;                      /* panels, rows across */
    att_e *qb, *dob;                      /* panels, rows summed over */
    float *dq;                            /* [ATT_RT][ldk_acc] */
    float *neg_lse;                       /* [ATT_RT] -lse in units of log 2 */
    float *delta, *lo, *hi, *pos, *slope; /* [ATT_RT]; lo and hi: keys that the row sees */
    /* A strip of keys against the block. */
    float *s, *dp; /* [ATT_STRIP][ATT_RT] */
    att_e *p, *ds; /* rows [ATT_STRIP][ATT_RT] */
    att_e *ds_all; /* columns [ATT_KT keys][ATT_RT]; f32: ds is part of it */
    float *chosen; /* [ATT_KT keys][ATT_RT] 1 or 0, with lists of keys only */
} att_bwd_tile;

static int64_t att_bwd_carve(const att_bwd *c, char *base, att_bwd_tile *t) {
    const fm_attention_args *f = &c->b->f;
    att_carver cv = {base, 0};
    int64_t nk = att_round_up(c->max_nk, ATT_KT);
    int64_t along = ATT_RT / ATT_STEP * ATT_W;
    t->k = att_carve(&cv, nk * c->ldk * 4);
    t->v = att_carve(&cv, nk * c->ldv * 4);
    t->kb = att_carve(&cv, nk / ATT_KT * c->kb_tile * 4);
    t->dk = att_carve(&cv, nk * c->ldk_acc * 4);
    t->dv = att_carve(&cv, nk * c->ldv_acc * 4);
    t->qt = att_carve(&cv, c->steps_k * ATT_RT * 4);
    t->dot = att_carve(&cv, c->steps_v * ATT_RT * 4);
    t->qb = att_carve(&cv, att_panels(f->head_dim) * along * 4);
    t->dob = att_carve(&cv, att_panels(f->v_dim) * along * 4);
    t->dq = att_carve(&cv, ATT_RT * c->ldk_acc * 4);
    float **lanes[] = {&t->neg_lse, &t->delta, &t->lo, &t->hi, &t->pos, &t->slope};
    for (size_t i = 0; i < FM_ARRAY_LEN(lanes); i++) {
        *lanes[i] = att_carve(&cv, ATT_RT * 4);
    }
    t->s = att_carve(&cv, ATT_STRIP * ATT_RT * 4);
    t->dp = att_carve(&cv, ATT_STRIP * ATT_RT * 4);
    t->p = att_carve(&cv, ATT_STRIP * ATT_RT / ATT_STEP * 4);
    t->ds = att_carve(&cv, ATT_STRIP * ATT_RT / ATT_STEP * 4);
    t->ds_all = att_carve(&cv, ATT_KT / ATT_STEP * ATT_RT * 4);
    t->chosen = f->selected != NULL ? att_carve(&cv, ATT_KT * ATT_RT * 4) : NULL;
    return cv.used;
}

/* ---- keys ---- */

static void att_bwd_pack_keys(const att_bwd *c, const att_seg *g, const att_bwd_tile *t) {
    const fm_attention_args *f = &c->b->f;
    const void *src[ATT_KT];
    for (int64_t k0 = 0; k0 < g->nk; k0 += ATT_KT) {
        int64_t n = att_min(ATT_KT, g->nk - k0);
        att_prefetch_keys(g, k0 + ATT_KT, att_min(k0 + 2 * ATT_KT, g->nk));
        for (int64_t j = 0; j < n; j++) {
            src[j] = att_k_row(g, k0 + j);
        }
        att_pack_rows(t->k + k0 * c->ldk, c->ldk, src, n, f->head_dim, c->d == FM_BF16);
        att_pack_along(t->kb + k0 / ATT_KT * c->kb_tile, src, n, f->head_dim, c->d == FM_BF16, NULL);
        for (int64_t j = 0; j < n; j++) {
            src[j] = att_v_row(g, k0 + j);
        }
        att_pack_rows(t->v + k0 * c->ldv, c->ldv, src, n, f->v_dim, c->d == FM_BF16);
    }
    memset(t->dk, 0, (size_t)(g->nk * c->ldk_acc) * 4);
    memset(t->dv, 0, (size_t)(g->nk * c->ldv_acc) * 4);
}

static void att_bwd_store_keys(const att_bwd *c, const att_seg *g, const att_bwd_tile *t) {
    const fm_attention_bwd_args *b = c->b;
    if (b->dk == NULL) {
        return;
    }
    for (int64_t j = 0; j < g->nk; j++) {
        int64_t row = att_kv_row(g, j) * b->f.n_kv_heads + g->kv_head;
        att_store_row(b->dk, c->d, row * b->f.head_dim, b->acc_dk, t->dk + j * c->ldk_acc, b->f.head_dim, b->f.scale);
        att_store_row(b->dv, c->d, row * b->f.v_dim, b->acc_dv, t->dv + j * c->ldv_acc, b->f.v_dim, 1.0F);
    }
}

/* ---- rows ---- */

static float att_dot_rows(const void *a, const void *b, fm_dtype d, int64_t n) {
    vf sum = vf_zero();
    for (int64_t i = 0; i < n; i += VF_N) {
        int m = (int)att_min(VF_N, n - i);
        if (d == FM_BF16) {
            sum = vf_fma(vf_loadn_bf16((const uint16_t *)a + i, m), vf_loadn_bf16((const uint16_t *)b + i, m), sum);
        } else {
            sum = vf_fma(vf_loadn((const float *)a + i, m), vf_loadn((const float *)b + i, m), sum);
        }
    }
    return vf_hsum(sum);
}

/* Packs n rows from r0 and their vectors. Missing rows see no key. */
static void att_bwd_pack_rows(const att_bwd *c, const att_seg *g, att_bwd_tile *t, int64_t r0, int64_t n) {
    const fm_attention_bwd_args *b = c->b;
    const fm_attention_args *f = &b->f;
    const void *src[ATT_RT];
    t->n_rows = n;
    for (int64_t r = 0; r < n; r++) {
        src[r] = att_elem(f->q, c->d, att_row_index(g, r0 + r) * f->head_dim);
    }
    att_pack_across(t->qt, src, n, f->head_dim, c->d == FM_BF16, NULL);
    att_pack_along(t->qb, src, n, f->head_dim, c->d == FM_BF16, NULL);
    for (int64_t r = 0; r < n; r++) {
        src[r] = att_elem(b->dout, c->d, att_row_index(g, r0 + r) * f->v_dim);
    }
    att_pack_across(t->dot, src, n, f->v_dim, c->d == FM_BF16, NULL);
    att_pack_along(t->dob, src, n, f->v_dim, c->d == FM_BF16, NULL);
    for (int64_t r = 0; r < ATT_RT; r++) {
        bool there = r < n;
        int64_t at = there ? att_row_index(g, r0 + r) : 0;
        float lse = there ? ((const float *)f->lse)[at] : -INFINITY;
        t->neg_lse[r] = lse == -INFINITY ? -INFINITY : -lse * ATT_LOG2E; /* exp(-inf) = 0 for a row without keys */
        t->delta[r] = there ? att_dot_rows(src[r], att_elem(f->out, c->d, at * f->v_dim), c->d, f->v_dim) : 0.0F;
        t->lo[r] = there ? (float)att_row_lo(g, r0 + r) : 0.0F;
        t->hi[r] = there ? (float)att_row_hi(g, r0 + r) : 0.0F;
        t->pos[r] = (float)att_row_pos(g, r0 + r);
        t->slope[r] = there && f->alibi != NULL ? f->alibi[att_row_head(g, r0 + r)] : 0.0F;
        if (there && c->dsink_part != NULL) {
            int32_t h = att_row_head(g, r0 + r);
            float sink = (float)fm_load_as_f64(c->d, f->sink, h);
            c->dsink_part[(int64_t)g->s * f->n_heads + h] -= expf(sink - lse) * t->delta[r];
        }
    }
    memset(t->dq, 0, (size_t)(ATT_RT * c->ldk_acc) * 4);
}

/* Rows of the next block, while this one is worked on. */
static void att_bwd_prefetch_rows(const att_bwd *c, const att_seg *g, int64_t r0, int64_t end) {
    const fm_attention_args *f = &c->b->f;
    int64_t es = att_elem_bytes(c->d);
    for (int64_t r = r0; r < att_min(r0 + ATT_RT, end); r++) {
        int64_t at = att_row_index(g, r);
        att_prefetch(att_elem(f->q, c->d, at * f->head_dim), f->head_dim * es);
        att_prefetch(att_elem(c->b->dout, c->d, at * f->v_dim), f->v_dim * es);
        att_prefetch(att_elem(f->out, c->d, at * f->v_dim), f->v_dim * es);
    }
}

static void att_bwd_store_rows(const att_bwd *c, const att_seg *g, const att_bwd_tile *t, int64_t r0, int64_t n) {
    const fm_attention_bwd_args *b = c->b;
    for (int64_t r = 0; r < n && b->dq != NULL; r++) {
        att_store_row(b->dq, c->d, att_row_index(g, r0 + r) * b->f.head_dim, b->acc_dq, t->dq + r * c->ldk_acc,
                      b->f.head_dim, b->f.scale);
    }
}

/* ---- a strip of keys against a block of rows ---- */

/* Key `key` (row i of the strip), vectors v0 to the end of the rows: scores and dP to P and dS. */
ATT_INLINE void att_bwd_key(const att_bwd *c, const att_bwd_tile *t, int64_t i, int64_t key, int64_t v0,
                            const bool plain, const bool masked, att_e *ds_row) {
    const fm_attention_args *f = &c->b->f;
    for (int64_t r = v0 * VF_N; r < ATT_RT; r += VF_N) {
        vf s = vf_load(t->s + i * ATT_RT + r);
        vf gain = vf_zero();
        if (plain) {
            s = vf_fma(s, vf_set1(f->scale * ATT_LOG2E), vf_load(t->neg_lse + r));
        } else {
            s = vf_mul(s, vf_set1(f->scale));
            if (f->softcap != 0.0F) {
                vf th = vf_tanh(vf_div(s, vf_set1(f->softcap)));
                s = vf_mul(vf_set1(f->softcap), th);
                gain = vf_fnma(th, th, vf_set1(1.0F));
            }
            if (f->alibi != NULL) {
                s = vf_fma(vf_load(t->slope + r), vf_sub(vf_set1((float)key), vf_load(t->pos + r)), s);
            }
            s = vf_fma(s, vf_set1(ATT_LOG2E), vf_load(t->neg_lse + r));
        }
        vf p = att_exp2(s);
        if (masked) {
            vf k = vf_set1((float)key);
            p = vf_select(vf_lt(k, vf_load(t->hi + r)), p, vf_zero());
            p = vf_select(vf_le(vf_load(t->lo + r), k), p, vf_zero());
        }
        if (!plain && f->selected != NULL) {
            vf in = vf_load(t->chosen + key % ATT_KT * ATT_RT + r);
            p = vf_select(vf_lt(vf_zero(), in), p, vf_zero());
        }
        vf ds = vf_mul(p, vf_sub(vf_load(t->dp + i * ATT_RT + r), vf_load(t->delta + r)));
        if (!plain && f->softcap != 0.0F) {
            ds = vf_mul(ds, gain);
        }
#if ATT_BF16
        vf_narrow_store((uint16_t *)(void *)t->p + i * ATT_RT + r, p);
        vf_narrow_store((uint16_t *)(void *)ds_row + r, ds);
#else
        vf_store(t->p + i * ATT_RT + r, p);
        vf_store(ds_row + r, ds);
#endif
    }
}

/* Keys k0+j0 .. +n; rows before vector v0 see none of them. */
static void att_bwd_strip(const att_bwd *c, const att_bwd_tile *t, int64_t k0, int64_t j0, int64_t n, int64_t v0,
                          bool masked) {
    const int64_t nv = ATT_RT / VF_N;
    const int64_t along = ATT_RT / ATT_STEP * ATT_W;
    for (int64_t i = 0; i < n; i += ATT_MR) {
        int64_t m = att_min(ATT_MR, n - i);
        int64_t key = k0 + j0 + i;
        att_product(att_mk_rows, m, t->k + key * c->ldk, c->ldk, t->qt, c->steps_k * ATT_W, c->steps_k, v0, nv,
                    t->s + i * ATT_RT, ATT_RT, NULL, false);
        att_product(att_mk_rows, m, t->v + key * c->ldv, c->ldv, t->dot, c->steps_v * ATT_W, c->steps_v, v0, nv,
                    t->dp + i * ATT_RT, ATT_RT, NULL, false);
    }
#if ATT_BF16
    att_e *ds = t->ds;
    const int64_t ld = ATT_RT / 2;
    if (n % 2 != 0) {
        memset(ds + n * ld, 0, (size_t)ld * 4); /* the missing half of the last pair */
    }
#else
    att_e *ds = t->ds_all + j0 * ATT_RT;
    const int64_t ld = ATT_RT;
#endif
    for (int64_t i = 0; i < n; i++) {
        int64_t key = k0 + j0 + i;
        if (!c->plain) {
            att_bwd_key(c, t, i, key, v0, false, true, ds + i * ld);
        } else if (masked) {
            att_bwd_key(c, t, i, key, v0, true, true, ds + i * ld);
        } else {
            att_bwd_key(c, t, i, key, v0, true, false, ds + i * ld);
        }
    }
    /* dS for dQ, whose groups of rows may begin before v0. */
    for (int64_t i = 0; i < n; i += ATT_STEP) {
        att_e *to = t->ds_all + (j0 + i) / ATT_STEP * ATT_RT;
        memset(to, 0, (size_t)(v0 * VF_N) * 4);
#if ATT_BF16
        const uint16_t *row = (const uint16_t *)(const void *)(ds + i * ld);
        for (int64_t r = v0 * VF_N; r < ATT_RT; r += VF_N) {
            vu_store(to + r, vu_zip(row + r, row + ATT_RT + r));
        }
#endif
    }
    if (c->b->dk == NULL) {
        return;
    }
    const int64_t skip = v0 * VF_N / ATT_STEP;
    const int64_t steps = att_steps(t->n_rows) - skip;
    for (int64_t i = 0; i < n; i += ATT_MR) {
        int64_t m = att_min(ATT_MR, n - i);
        int64_t key = k0 + j0 + i;
        att_product(att_mk_rows, m, t->p + i * ld + skip, ld, t->dob + skip * ATT_W, along, steps, 0, c->ldv_acc / VF_N,
                    t->dv + key * c->ldv_acc, c->ldv_acc, NULL, true);
        att_product(att_mk_rows, m, ds + i * ld + skip, ld, t->qb + skip * ATT_W, along, steps, 0, c->ldk_acc / VF_N,
                    t->dk + key * c->ldk_acc, c->ldk_acc, NULL, true);
    }
}

/* Marks which of the tile's keys the rows have in their lists; false when none. */
static bool att_bwd_mark(const att_seg *g, const att_bwd_tile *t, int64_t r0, int64_t n, int64_t k0) {
    const fm_attention_args *f = g->f;
    bool any = false;
    memset(t->chosen, 0, (size_t)(ATT_KT * ATT_RT) * 4);
    for (int64_t r = 0; r < n; r++) {
        const int32_t *list = f->selected + (g->q0 + (r0 + r) / g->group) * f->max_selected;
        int64_t lo = 0, hi = f->max_selected; /* the first entry from k0 on, or the end of the list */
        while (lo < hi) {
            int64_t mid = lo + (hi - lo) / 2;
            if (list[mid] >= 0 && list[mid] < k0) {
                lo = mid + 1;
            } else {
                hi = mid;
            }
        }
        for (; lo < f->max_selected && list[lo] >= 0 && list[lo] < k0 + ATT_KT; lo++) {
            t->chosen[(list[lo] - k0) * ATT_RT + r] = 1.0F;
            any = true;
        }
    }
    return any;
}

/* Rows r0..r0+n against the key tile at k0. */
static void att_bwd_block(const att_bwd *c, const att_seg *g, const att_bwd_tile *t, int64_t r0, int64_t n,
                          int64_t k0) {
    int64_t keys = att_min(ATT_KT, att_row_hi(g, r0 + n - 1) - k0);
    if (keys <= 0 || att_row_lo(g, r0) >= k0 + ATT_KT) {
        return;
    }
    if (c->b->f.selected != NULL && !att_bwd_mark(g, t, r0, n, k0)) {
        return;
    }
    bool masked = att_row_hi(g, r0) < k0 + keys || att_row_lo(g, r0 + n - 1) > k0;
    int64_t first = 0; /* first row that sees the strip */
    for (int64_t j0 = 0; j0 < keys; j0 += ATT_STRIP) {
        while (att_row_hi(g, r0 + first) <= k0 + j0) {
            first++;
        }
        att_bwd_strip(c, t, k0, j0, att_min(ATT_STRIP, keys - j0), first / VF_N, masked);
    }
    for (int64_t r = 0; r < n && c->b->dq != NULL; r += ATT_MR) {
        int64_t m = att_min(ATT_MR, n - r);
        int64_t seen = att_min(keys, att_row_hi(g, r0 + r + m - 1) - k0);
        if (seen > 0) {
            att_product(att_mk_cols, m, t->ds_all + r, ATT_RT, t->kb + k0 / ATT_KT * c->kb_tile,
                        ATT_KT / ATT_STEP * ATT_W, att_steps(seen), 0, c->ldk_acc / VF_N, t->dq + r * c->ldk_acc,
                        c->ldk_acc, NULL, true);
        }
    }
}

static fm_status att_bwd_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    (void)n_parts;
    const att_bwd *c = arg;
    const fm_attention_args *f = &c->b->f;
    att_seg g = att_seg_at(f, (int32_t)(part / f->n_kv_heads), (int32_t)(part % f->n_kv_heads));
    att_bwd_tile t;
    (void)att_bwd_carve(c, c->scratch + thread * c->scratch_bytes, &t);
    att_prefetch_keys(&g, 0, att_min(ATT_KT, g.nk));
    att_bwd_pack_keys(c, &g, &t);
    int64_t rows = att_n_rows(&g);
    for (int64_t r0 = 0; r0 < rows; r0 += ATT_RT) {
        int64_t n = att_min(ATT_RT, rows - r0);
        att_bwd_pack_rows(c, &g, &t, r0, n);
        att_bwd_prefetch_rows(c, &g, r0 + ATT_RT, rows);
        int64_t end = att_row_hi(&g, r0 + n - 1);
        for (int64_t k0 = att_row_lo(&g, r0) / ATT_KT * ATT_KT; k0 < end; k0 += ATT_KT) {
            att_bwd_block(c, &g, &t, r0, n, k0);
        }
        att_bwd_store_rows(c, &g, &t, r0, n);
    }
    att_bwd_store_keys(c, &g, &t);
    return FM_OK;
}

fm_status ATT_FN(attention_bwd)(const fm_exec *x, const fm_attention_bwd_args *b, fm_dtype d) {
    const fm_attention_args *f = &b->f;
    att_bwd c = {.b = b, .d = d};
    c.plain = f->softcap == 0.0F && f->alibi == NULL && f->selected == NULL;
    c.steps_k = att_steps(f->head_dim);
    c.steps_v = att_steps(f->v_dim);
    c.ldk = att_round_up(c.steps_k, VF_N);
    c.ldv = att_round_up(c.steps_v, VF_N);
    c.ldk_acc = att_round_up(f->head_dim, VF_N);
    c.ldv_acc = att_round_up(f->v_dim, VF_N);
    c.kb_tile = att_panels(f->head_dim) * (ATT_KT / ATT_STEP) * ATT_W;
    double work = 0.0;
    for (int32_t s = 0; s < f->n_segments; s++) {
        int64_t nk = f->kv.kv_offsets[s + 1] - f->kv.kv_offsets[s];
        c.max_nk = att_max(c.max_nk, nk);
        work += (double)(f->q_offsets[s + 1] - f->q_offsets[s] + 4) * (double)nk;
    }
    work *= (double)f->n_heads * (double)(f->head_dim + f->v_dim);
    att_bwd_tile t;
    c.scratch_bytes = att_bwd_carve(&c, NULL, &t);
    bool sink = b->dsink != NULL && f->sink != NULL;
    int64_t sink_bytes = sink ? att_round_up((int64_t)f->n_segments * f->n_heads * 4, 64) : 0;
    fm_pool *pool = work < ATT_INLINE_WORK ? NULL : x->pool;
    int64_t bytes = sink_bytes + fm_pool_threads(pool) * c.scratch_bytes;
    char *block = fm_scratch_take(x, bytes);
    if (block == NULL) {
        FM_FAIL(FM_ERR_NO_MEMORY, "attention gradient: no memory for %lld bytes of scratch", (long long)bytes);
    }
    c.scratch = block + sink_bytes;
    if (sink) {
        c.dsink_part = (float *)(void *)block;
        memset(block, 0, (size_t)sink_bytes);
    }
    FM_TRY(fm_pool_run_dynamic(pool, (int64_t)f->n_segments * f->n_kv_heads, att_bwd_part, &c));
    for (int32_t h = 0; h < f->n_heads && sink; h++) {
        float sum = 0.0F;
        for (int32_t s = 0; s < f->n_segments; s++) {
            sum += c.dsink_part[(int64_t)s * f->n_heads + h];
        }
        ((float *)b->dsink)[h] += sum;
    }
    return FM_OK;
}
