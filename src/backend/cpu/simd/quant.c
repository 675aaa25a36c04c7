/* Products with quantised weights (kernel FM_K_quant_matmul).
 *
 * Activations are rounded to int8 in blocks of 32 once per call, then
 *
 *   part      panels of 64 columns by rows, per thread; never a part of k
 *    panel    up to DIRECT_ROWS rows: tiles read the packed weights, each byte once per QT_DIRECT rows;
 *             more: the panel is expanded to bytes and f32 factors once, in the second-level cache
 *     tile    rows
 *
 * Both ways do the same arithmetic in the same order, see quant_tile.h. Weights that are not packed are packed a panel
 * at a time into scratch of the thread: slow for one row, but no second copy of the model. */
#include "backend/cpu/simd/quant_tile.h"

#include "backend/cpu/simd/gemm.h"
#include "backend/quant_act.h"

#define DIRECT_ROWS  64    /* beyond, some layouts are faster expanded; up to there none is */
#define INLINE_BYTES 32768 /* of packed weights: less is not worth the pool */
#define MAX_EXPANDED (FM_QP_COLS * (32 + 8))

/* ---- tiles ----------------------------------------------------------------------------------- */

typedef void (*tile_fn)(const qt_args *t);
typedef void (*expand_fn)(int64_t blocks, const uint8_t *panel, uint8_t *to);

/* 8-bit quants are signed, but turned ones stand for q + 128. */
#define OFF_OF(bits, off) ((bits) == 8 ? VQ_FLIP : (off))

#define TILE(name, bits, scale, min, init, mr, nv)                                                                     \
    static void name##_##mr(const qt_args *t) {                                                                        \
        qt_tile(bits, scale, min, init, mr, nv, t);                                                                    \
    }
#define FM_X(name, dtype, bits, scale, min, off)                                                                       \
    TILE(direct_##name, bits, scale, min, OFF_OF(bits, off) != 0, 1, QT_NV)                                            \
    TILE(direct_##name, bits, scale, min, OFF_OF(bits, off) != 0, 2, QT_NV)                                            \
    TILE(direct_##name, bits, scale, min, OFF_OF(bits, off) != 0, 3, QT_NV)                                            \
    TILE(direct_##name, bits, scale, min, OFF_OF(bits, off) != 0, 4, QT_NV)                                            \
    static void expand_##name(int64_t blocks, const uint8_t *panel, uint8_t *to) {                                     \
        qt_expand(bits, scale, min, blocks, panel, to);                                                                \
    }
FM_QP_LIST(FM_X)
#undef FM_X

/* The forms that layouts are expanded to. X(form, bits, scale, min, off) */
#define FORMS(X)                                                                                                       \
    X(rows, 8, FM_QP_NO_SCALE, FM_QP_NO_MIN, VQ_FLIP)                                                                  \
    X(signed, 8, FM_QP_F32, FM_QP_NO_MIN, VQ_FLIP)                                                                     \
    X(offset, 7, FM_QP_F32, FM_QP_NO_MIN, 1)                                                                           \
    X(minimum, 7, FM_QP_F32, FM_QP_MIN_F32, 0)                                                                         \
    X(halves, 7, FM_QP_F32X2, FM_QP_NO_MIN, 1)
#if QT_MR > 4
#define TILES_ABOVE_4(name, bits, scale, min, init)                                                                    \
    TILE(name, bits, scale, min, init, 5, QT_NV_FORMS)                                                                 \
    TILE(name, bits, scale, min, init, 6, QT_NV_FORMS)
#define ROW_ABOVE_4(name) , name##_5, name##_6
#else
#define TILES_ABOVE_4(name, bits, scale, min, init)
#define ROW_ABOVE_4(name)
#endif
#define FM_X(name, bits, scale, min, off)                                                                              \
    TILE(form_##name, bits, scale, min, (off) != 0, 1, QT_NV_FORMS)                                                    \
    TILE(form_##name, bits, scale, min, (off) != 0, 2, QT_NV_FORMS)                                                    \
    TILE(form_##name, bits, scale, min, (off) != 0, 3, QT_NV_FORMS)                                                    \
    TILE(form_##name, bits, scale, min, (off) != 0, 4, QT_NV_FORMS)                                                    \
    TILES_ABOVE_4(form_##name, bits, scale, min, (off) != 0)
FORMS(FM_X)
#undef FM_X

typedef enum form_id { FORM_rows, FORM_signed, FORM_offset, FORM_minimum, FORM_halves } form_id;

static const tile_fn forms[][QT_MR] = {
#define FM_X(name, bits, scale, min, off)                                                                              \
    {form_##name##_1, form_##name##_2, form_##name##_3, form_##name##_4 ROW_ABOVE_4(form_##name)},
    FORMS(FM_X)
#undef FM_X
};

static const struct layout_fns {
    tile_fn direct[QT_DIRECT];
    expand_fn expand;
} fns[FM_QP_COUNT] = {
#define FM_X(name, dtype, bits, scale, min, off)                                                                       \
    {{direct_##name##_1, direct_##name##_2, direct_##name##_3, direct_##name##_4}, expand_##name},
    FM_QP_LIST(FM_X)
#undef FM_X
};

static form_id form_of(const fm_qp_layout *l) {
    return l->scale == FM_QP_NO_SCALE ? FORM_rows
           : l->bits == 8             ? FORM_signed
           : l->min != FM_QP_NO_MIN   ? FORM_minimum
           : l->n_sub == 2            ? FORM_halves
                                      : FORM_offset;
}

/* ---- activations ----------------------------------------------------------------------------- */

typedef struct plan {
    const fm_quant_matmul_args *g;
    fm_dtype dtype;
    const fm_qp_layout *l;
    int off;
    int64_t blocks, panel_bytes;
    int8_t *q; /* in groups of mr rows, see qt_rows */
    float *d, *ds;
    int32_t *init;
    int64_t part_m, part_n;
    bool expand;
    int mr; /* rows of a tile, and of a group of activations */
    form_id form;
    uint8_t *scratch; /* [threads]: a packed panel when weights are not packed, an expanded one */
    int64_t thread_bytes, expanded_at;
} plan;

/* Block b, n elements of x from i on, to row r of a group of mr; `at` is the group's first row times blocks. */
FM_INLINE void act_block(fm_dtype dtype, const plan *p, const void *x, int64_t i, int n, int64_t at, int64_t b, int r,
                         int mr) {
    vf v[FM_QUANT_ACT / VF_N];
    vi top = vi_set1(0);
    for (int j = 0; j < FM_QUANT_ACT / VF_N; j++) {
        const int left = n - j * VF_N;
        v[j] = left <= 0 ? vf_zero() : vx_get(dtype, x, i + j * VF_N, left < VF_N ? left : VF_N);
        top = vi_max(top, vi_and(vi_from_vf(v[j]), vi_set1(INT32_MAX)));
    }
    const int32_t bits = vi_hmax(top);
    float max;
    memcpy(&max, &bits, sizeof max);
    const bool finite = bits < 0x7f800000;
    const float inverse = max < FM_QUANT_ACT_MIN || !finite ? 0.0F : 127.0F / max;
    const float d = !finite ? (float)NAN : inverse > 0 ? max / 127.0F : 0.0F;
    int32_t sum[2] = {0, 0};
    int8_t q[FM_QUANT_ACT], *to = p->q + at * FM_QUANT_ACT + (b * FM_QUANT_ACT * mr + 4 * r);
    for (int j = 0; j < FM_QUANT_ACT / VF_N; j++) {
        const vi whole = vf_to_int(finite ? vf_mul(v[j], vf_set1(inverse)) : vf_zero());
        vi_store_i8(q + j * VF_N, whole);
        sum[j * VF_N / 16] += vi_hsum(whole);
    }
    for (int g = 0; g < FM_QUANT_ACT / 4; g++) {
        memcpy(to + (int64_t)g * mr * 4, q + 4 * g, 4);
    }
    p->d[at + b * mr + r] = d;
    if (p->ds) {
        p->ds[at + b * mr + r] = d * (float)(sum[0] + sum[1]);
    }
    if (p->init && p->l->n_sub == 2) {
        p->init[2 * (at + b * mr) + r] = -p->off * sum[0];
        p->init[2 * (at + b * mr) + mr + r] = -p->off * sum[1];
    } else if (p->init) {
        p->init[at + b * mr + r] = -p->off * (sum[0] + sum[1]);
    }
}

/* Groups [begin, end) of rows. */
FM_INLINE void act_groups(fm_dtype dtype, const plan *p, int64_t begin, int64_t end) {
    const fm_quant_matmul_args *g = p->g;
    for (int64_t r0 = begin * p->mr; r0 < FM_MIN(end * p->mr, g->m); r0 += p->mr) {
        const int mr = (int)FM_MIN(g->m - r0, (int64_t)p->mr);
        for (int r = 0; r < mr; r++) {
            for (int64_t b = 0; b < p->blocks; b++) {
                const int n = (int)FM_MIN(g->k - b * FM_QUANT_ACT, (int64_t)FM_QUANT_ACT);
                act_block(dtype, p, g->a, (r0 + r) * g->lda + b * FM_QUANT_ACT, n, r0 * p->blocks, b, r, mr);
            }
        }
    }
}

static fm_status act_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    const plan *p = arg;
    int64_t begin, end;
    FM_UNUSED(thread);
    fm_split((p->g->m + p->mr - 1) / p->mr, part, n_parts, 1, &begin, &end);
    if (p->dtype == FM_BF16) {
        act_groups(FM_BF16, p, begin, end);
    } else {
        act_groups(FM_F32, p, begin, end);
    }
    return FM_OK;
}

/* ---- the product ----------------------------------------------------------------------------- */

/* Adds bias and the factor of a row of W, and stores rows r0.. of columns j0.. */
FM_INLINE void finish(fm_dtype d, const plan *p, int64_t r0, int mr, int nv, int64_t j0, const float *out) {
    const fm_quant_matmul_args *g = p->g;
    for (int r = 0; r < mr; r++) {
        for (int v = 0; v < nv; v++) {
            const int64_t j = j0 + v * VF_N;
            const int n = (int)FM_MIN(g->n - j, (int64_t)VF_N);
            if (n <= 0) {
                break;
            }
            vf y = vf_load(out + (r * nv + v) * VF_N);
            if (p->l->scale == FM_QP_NO_SCALE) {
                y = vf_mul(y, vx_get(FM_F32, g->w_scale, j, n));
            }
            if (g->bias) {
                y = vf_add(y, vx_get(d, g->bias, j, n));
            }
            if (g->c_dtype == FM_F32) {
                vx_put(FM_F32, g->c, (r0 + r) * g->ldc + j, y, n);
            } else {
                vx_put(FM_BF16, g->c, (r0 + r) * g->ldc + j, y, n);
            }
        }
    }
}

static void run_tiles(const plan *p, const tile_fn *tiles, const uint8_t *panel, int64_t m0, int64_t m1, int64_t j) {
    float out[QT_MR * QT_NV * VF_N];
    const int nv = p->expand ? QT_NV_FORMS : QT_NV;
    const int64_t cols = FM_MIN(p->g->n - j * FM_QP_COLS, (int64_t)FM_QP_COLS);
    for (int64_t c = 0; c < cols; c += nv * VF_N) {
        for (int64_t r = m0; r < m1;) {
            const int mr = (int)FM_MIN(m1 - r, (int64_t)p->mr);
            const int64_t at = r * p->blocks;
            qt_args t = {.panel = panel,
                         .blocks = p->blocks,
                         .a = {.q = p->q + at * FM_QUANT_ACT,
                               .d = p->d + at,
                               .ds = p->ds ? p->ds + at : NULL,
                               .init = p->init ? p->init + at * p->l->n_sub : NULL},
                         .col0 = c,
                         .out = out};
            tiles[mr - 1](&t);
            if (p->dtype == FM_BF16) {
                finish(FM_BF16, p, r, mr, nv, j * FM_QP_COLS + c, out);
            } else {
                finish(FM_F32, p, r, mr, nv, j * FM_QP_COLS + c, out);
            }
            r += mr;
        }
    }
}

static fm_status run_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    const plan *p = arg;
    const fm_quant_matmul_args *g = p->g;
    const struct layout_fns *f = &fns[p->l->id];
    int64_t m0, m1, j0, j1;
    FM_UNUSED(n_parts);
    fm_split(g->m, part / p->part_n, p->part_m, p->mr, &m0, &m1);
    fm_split((g->n + FM_QP_COLS - 1) / FM_QP_COLS, part % p->part_n, p->part_n, 1, &j0, &j1);
    uint8_t *buffer = p->scratch ? p->scratch + thread * p->thread_bytes : NULL;
    for (int64_t j = j0; j < j1 && m0 < m1; j++) {
        const uint8_t *panel;
        if (g->w_packed) {
            panel = (const uint8_t *)g->w_packed + j * p->panel_bytes;
        } else {
            fm_qp_pack_panel(g->w_dtype, g->n, g->k, g->w, j, VQ_FLIP, buffer);
            panel = buffer;
        }
        if (!p->expand) {
            run_tiles(p, f->direct, panel, m0, m1, j);
            continue;
        }
        f->expand(p->blocks, panel, buffer + p->expanded_at);
        run_tiles(p, forms[p->form], buffer + p->expanded_at, m0, m1, j);
    }
    return FM_OK;
}

/* Splits C over the threads so that the largest part is smallest. */
static void choose_parts(plan *p, int64_t threads) {
    const fm_quant_matmul_args *g = p->g;
    const int64_t panels = (g->n + FM_QP_COLS - 1) / FM_QP_COLS;
    int64_t best = INT64_MAX;
    p->part_m = p->part_n = 1;
    if (panels * p->panel_bytes * g->m < INLINE_BYTES) {
        return;
    }
    for (int64_t pm = 1; pm <= FM_MIN(threads, (g->m + p->mr - 1) / p->mr); pm++) {
        const int64_t pn = FM_MIN(threads / pm, panels);
        const int64_t rows = (g->m + pm - 1) / pm, cols = (panels + pn - 1) / pn;
        const int64_t cost = cols * (rows + p->mr); /* a panel is read, and may be expanded, once for all its rows */
        if (cost < best) {
            best = cost;
            p->part_m = pm;
            p->part_n = pn;
        }
    }
}

static int64_t round64(int64_t n) {
    return (n + 63) / 64 * 64;
}

static fm_status take_scratch(plan *p, const fm_exec *x) {
    const fm_quant_matmul_args *g = p->g;
    const int64_t n = g->m * p->blocks, threads = fm_pool_threads(x->pool);
    const int64_t q = round64(n * FM_QUANT_ACT), d = round64(n * 4), init = round64(n * p->l->n_sub * 4);
    p->expanded_at = g->w_packed ? 0 : round64(p->panel_bytes);
    p->thread_bytes = p->expanded_at + (p->expand ? p->blocks * MAX_EXPANDED + 64 : 0);
    uint8_t *mem = fm_scratch_take(x, q + 2 * d + init + p->thread_bytes * threads);
    if (!mem) {
        FM_FAIL(FM_ERR_NO_MEMORY, "quantised product %lld x %lld x %lld: no memory for scratch", (long long)g->m,
                (long long)g->n, (long long)g->k);
    }
    p->q = (int8_t *)mem;
    p->d = (float *)(void *)(mem + q);
    p->ds = p->l->min != FM_QP_NO_MIN ? (float *)(void *)(mem + q + d) : NULL;
    p->init = p->off != 0 ? (int32_t *)(void *)(mem + q + 2 * d) : NULL;
    p->scratch = p->thread_bytes ? mem + q + 2 * d + init : NULL;
    return FM_OK;
}

static fm_status quant_matmul(const fm_exec *x, const fm_quant_matmul_args *g, fm_dtype dtype) {
    if (g->m <= 0 || g->n <= 0) {
        return FM_OK;
    }
    plan p = {.g = g, .dtype = dtype, .l = fm_qp_find(g->w_dtype)};
    if (!p.l || g->k % fm_dtype_get(g->w_dtype)->block != 0 || (!g->w && !g->w_packed)) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "no quantised product with %lld columns of type %s", (long long)g->k,
                fm_dtype_get(g->w_dtype)->name);
    }
    p.off = OFF_OF(p.l->bits, p.l->off);
    p.blocks = fm_qp_blocks(g->k);
    p.panel_bytes = fm_qp_panel_bytes(p.l, g->k);
    p.expand = g->m > DIRECT_ROWS;
    p.mr = p.expand ? QT_MR : QT_DIRECT;
    choose_parts(&p, fm_pool_threads(x->pool));
    p.form = form_of(p.l);
    FM_TRY(take_scratch(&p, x));
    fm_pool *pool = g->m * g->k * 4 < FM_PAR_MIN_BYTES ? NULL : x->pool;
    FM_TRY(fm_pool_run(pool, fm_pool_threads(pool), act_part, &p));
    const int64_t parts = p.part_m * p.part_n;
    return parts == 1 ? run_part(&p, 0, 1, 0) : fm_pool_run(x->pool, parts, run_part, &p);
}

static fm_status quant_matmul_f32(const fm_exec *x, const void *args) {
    return quant_matmul(x, args, FM_F32);
}
static fm_status quant_matmul_bf16(const fm_exec *x, const void *args) {
    return quant_matmul(x, args, FM_BF16);
}

fm_status FM_SIMD_FN(quant_pack)(const fm_exec *x, fm_dtype d, int64_t n, int64_t k, const void *w, void *packed) {
    return fm_qp_pack(x, d, n, k, w, VQ_FLIP, packed);
}

const fm_kernel_row FM_SIMD_FN(quant_rows)[] = {
    {FM_K_quant_matmul, FM_F32, quant_matmul_f32},
    {FM_K_quant_matmul, FM_BF16, quant_matmul_bf16},
    {FM_KERNEL_COUNT, FM_DTYPE_COUNT, NULL},
};
