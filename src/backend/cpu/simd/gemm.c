/* Matrix product for f32 and bf16 (kernel FM_K_matmul) and packing of weights.
 *
 * C is computed in tiles held in registers (gemm_tile.h). Around them:
 *
 *   part      a rectangle of C per thread: rows x panels of B; never a part of k
 *    block    rows of A that stay in the second-level cache
 *     chunk   of k, at most KC units; sums of a chunk start at 0 and are added to C in order
 *      panel  NR columns of B, packed (on the fly into a buffer of the thread, or ready as b_packed)
 *       tile  MR rows
 *
 * The bits of an element depend on k, its row of A and its column of B alone: tiles add products in
 * order of k, and the chunks are a function of k. One row (decode) and many run the same arithmetic,
 * and so do packed and plain weights.
 *
 * Each part packs its own panels, once (all are kept when they fit KEEP_BYTES): no barrier, no shared buffer.
 * Where parts share panels (a split of rows) packing is repeated, which costs about 16/rows of the product.
 * A is read in place, two bf16 at a time, since consecutive k are adjacent; only a transposed A, or an odd
 * number of bf16 (whose last pair would reach past the row), is packed. */
#include "backend/cpu/simd/gemm.h"

#include "backend/cpu/simd/gemm_pack.h"
#include "backend/cpu/simd/gemm_tile_types.h"
#include "backend/cpu/simd/simd.h"

#if defined(FM_SIMD_avx512)
#define F32_MR  6
#define BF16_MR 6
#define NV      4
#elif defined(FM_SIMD_avx2)
#define F32_MR  6
#define BF16_MR 4
#define NV      2
#else
#define F32_MR  6
#define BF16_MR 4
#define NV      4
#endif
#define NR (NV * VF_N)

#define GT_NAME(x) f32_##x
#define GT_MR      F32_MR
#define GT_NV      NV
#define GT_BF16    0
#include "backend/cpu/simd/gemm_tile.h"

#define GT_NAME(x) bf16_##x
#define GT_MR      BF16_MR
#define GT_NV      NV
#define GT_BF16    1
#include "backend/cpu/simd/gemm_tile.h"

#define KC      1024         /* units of k per chunk, at most; bits of results depend on it */
#define A_BYTES (512 * 1024) /* of A per block, about */
/* Bytes of packed B kept per thread, at most; beyond that panels are packed again for each block, and
 * blocks are larger. */
#define KEEP_BYTES    (16 * 1024 * 1024)
#define A_BYTES_LARGE (2 * 1024 * 1024)
#define MIN_BLOCK     192          /* rows per block, at least */
#define PARTIAL_MAX   (256 * 1024) /* bytes of f32 partial sums per thread, about */
#define INLINE_MACS   300000
#define INLINE_BYTES  65536

/* Second row of the last pair when k is odd. */
static const fm_bf16 zero_row[VF_N];

typedef struct gemm_plan {
    const fm_matmul_args *g;
    bool bf16;
    int64_t es;    /* bytes of an element */
    int64_t epu;   /* elements per unit */
    int64_t ks;    /* units of k */
    int64_t chunk; /* units per chunk */
    int64_t n_chunks;
    int mr;
    int64_t panels;
    int64_t part_m, part_n; /* parts along m and n */
    int64_t block;          /* rows per block, a multiple of mr */
    int64_t group;          /* panels per group: all, or as many as partial sums are kept for */
    bool pack_a, partial, keep;
    int64_t a_off, partial_off; /* in a thread's scratch; the panel buffer is at 0 */
    int64_t thread_bytes;
    char *scratch;
} gemm_plan;

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}
static int64_t round_up(int64_t a, int64_t b) {
    return ceil_div(a, b) * b;
}
static int64_t panel_width(int64_t n, int64_t j) {
    return FM_MIN(round_up(n - j * NR, VF_N), NR);
}
/* Bytes between slivers of packed A. */
static int64_t sliver_bytes(const gemm_plan *p, int64_t units) {
    return round_up((units * p->mr + VF_N) * 4, 64);
}

/* Panel j, units [u0, u0 + ks) of B into dst. */
static void pack_panel(bool bf16, int64_t n, int64_t k, const void *b, int64_t ldb, bool trans_b, int64_t j, int64_t u0,
                       int64_t ks, char *dst) {
    const int64_t es = bf16 ? 2 : 4, epu = bf16 ? 2 : 1;
    const int64_t k0 = u0 * epu, n_k = FM_MIN(k - k0, ks * epu);
    const int64_t cols = FM_MIN(n - j * NR, NR), width = panel_width(n, j);
    const char *src = b;
    if (trans_b) {
        gemm_pack_rows(src + (j * NR * ldb + k0) * es, ldb * es, cols, n_k * es, ks, width, dst);
    } else if (bf16) {
        gemm_pack_cols_as(true, src + (k0 * ldb + j * NR) * es, ldb * es, cols, n_k, ks, width,
                          (const char *)(const void *)zero_row, dst);
    } else {
        gemm_pack_cols_as(false, src + (k0 * ldb + j * NR) * es, ldb * es, cols, n_k, ks, width, NULL, dst);
    }
}

/* Rows [i0, i0 + rows), units [u0, u0 + ks) of A into dst. */
static void pack_a_block(const gemm_plan *p, int64_t i0, int64_t rows, int64_t u0, int64_t ks, char *dst) {
    const fm_matmul_args *g = p->g;
    const char *a = g->a;
    const int64_t k0 = u0 * p->epu, n_k = FM_MIN(g->k - k0, ks * p->epu);
    if (!g->trans_a) {
        for (int64_t i = 0; i < rows; i++) {
            char *row = dst + i * ks * 4;
            memcpy(row, a + ((i0 + i) * g->lda + k0) * p->es, (size_t)(n_k * p->es));
            memset(row + n_k * p->es, 0, (size_t)(ks * 4 - n_k * p->es));
        }
        return;
    }
    const char *src = a + (k0 * g->lda + i0) * p->es;
    if (p->bf16) {
        gemm_pack_slivers_as(true, src, g->lda * 2, rows, n_k, ks, BF16_MR, sliver_bytes(p, ks),
                             (const char *)(const void *)zero_row, dst);
    } else {
        gemm_pack_slivers_as(false, src, g->lda * 4, rows, n_k, ks, F32_MR, sliver_bytes(p, ks), NULL, dst);
    }
}

/* One panel: rows [i0, i0 + rows) of C, chunk c. */
static void run_panel(const gemm_plan *p, int64_t i0, int64_t rows, int64_t j, int64_t c, const char *a_block,
                      const char *panel, float *partial, int64_t partial_ld) {
    const fm_matmul_args *g = p->g;
    const int64_t u0 = c * p->chunk, ks = FM_MIN(p->chunk, p->ks - u0);
    const int64_t nv = panel_width(g->n, j) / VF_N;
    const bool last = c + 1 == p->n_chunks;
    const bool to_partial = p->partial && !last;
    const int64_t c_es = to_partial || g->c_dtype == FM_F32 ? 4 : 2;
    const bool sliver = p->pack_a && g->trans_a;
    gemm_tile t = {
        .ks = ks,
        .a_row = sliver      ? 4
                 : p->pack_a ? ks * 4
                             : g->lda * p->es,
        .a_step = sliver ? p->mr * 4 : 4,
        .b = panel,
        .add_ld = p->partial ? partial_ld : g->ldc,
        .bias = last && g->bias ? (const char *)g->bias + j * NR * p->es : NULL,
        .ldc = to_partial ? partial_ld : g->ldc,
        .cols = (int)FM_MIN(g->n - j * NR, NR),
        .c_bf16 = c_es == 2,
    };
    const bool add = c > 0 || (g->accumulate && !p->partial);
    char *out = to_partial ? (char *)partial : (char *)g->c + (i0 * g->ldc + j * NR) * c_es;
    const float *sums = p->partial ? partial : (const float *)(const void *)out;
    const char *a = p->pack_a ? a_block : (const char *)g->a + (i0 * g->lda + u0 * p->epu) * p->es;
    const int64_t a_tile = sliver ? sliver_bytes(p, ks) : t.a_row * p->mr;
    for (int64_t i = 0; i < rows; i += p->mr) {
        const int64_t n_rows = FM_MIN(rows - i, p->mr);
        t.a = a + i / p->mr * a_tile;
        t.c = out + i * t.ldc * c_es;
        t.add = add ? sums + i * t.add_ld : NULL;
        const gemm_tile_fn tile = p->bf16 ? bf16_tiles[n_rows - 1][nv - 1] : f32_tiles[n_rows - 1][nv - 1];
        tile(&t);
    }
}

static fm_status run_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    const gemm_plan *p = arg;
    const fm_matmul_args *g = p->g;
    FM_UNUSED(n_parts);
    int64_t m0, m1, p0, p1;
    fm_split(g->m, part / p->part_n, p->part_m, p->mr, &m0, &m1);
    fm_split(p->panels, part % p->part_n, p->part_n, 1, &p0, &p1);
    char *buffer = p->scratch ? p->scratch + thread * p->thread_bytes : NULL;
    char *a_block = p->pack_a ? buffer + p->a_off : NULL;
    float *partial = p->partial ? (float *)(void *)(buffer + p->partial_off) : NULL;
    for (int64_t i0 = m0; i0 < m1; i0 += p->block) {
        const int64_t rows = FM_MIN(m1 - i0, p->block);
        for (int64_t group = p0; group < p1; group += p->group) {
            const int64_t end = FM_MIN(group + p->group, p1);
            for (int64_t c = 0; c < p->n_chunks; c++) {
                const int64_t u0 = c * p->chunk, ks = FM_MIN(p->chunk, p->ks - u0);
                if (p->pack_a) {
                    pack_a_block(p, i0, rows, u0, ks, a_block);
                }
                for (int64_t j = group; j < end; j++) {
                    const int64_t at = panel_width(g->n, j) * u0; /* of the chunk in its panel */
                    const char *panel;
                    if (g->b_packed) {
                        panel = (const char *)g->b_packed + (j * NR * p->ks + at) * 4;
                    } else {
                        char *dst = buffer + (p->keep ? ((j - p0) * NR * p->ks + at) * 4 : 0);
                        if (!p->keep || i0 == m0) {
                            pack_panel(p->bf16, g->n, g->k, g->b, g->ldb, g->trans_b, j, u0, ks, dst);
                        }
                        panel = dst;
                    }
                    float *sums = p->partial ? partial + (j - group) * NR : NULL;
                    run_panel(p, i0, rows, j, c, a_block, panel, sums, p->group * NR);
                }
            }
        }
    }
    return FM_OK;
}

/* Splits C over the threads so that the largest part is smallest; the second term is packing. */
static void choose_parts(gemm_plan *p, int64_t threads) {
    const fm_matmul_args *g = p->g;
    const int64_t tiles = ceil_div(g->m, p->mr);
    const int64_t work = g->m * g->n * FM_MAX(g->k, 1);
    p->part_m = p->part_n = 1;
    if (work < INLINE_MACS && g->n * g->k * p->es < INLINE_BYTES) {
        return;
    }
    int64_t best = INT64_MAX;
    for (int64_t pm = 1; pm <= FM_MIN(threads, tiles); pm++) {
        const int64_t pn = FM_MIN(threads / pm, p->panels);
        const int64_t rows = ceil_div(tiles, pm) * p->mr, cols = ceil_div(p->panels, pn) * NR;
        const int64_t cost =
            rows * cols + (g->b_packed ? 0 : 8 * cols * ceil_div(rows, 2 * MIN_BLOCK)) + (g->trans_a ? 8 * rows : 0);
        if (cost < best) {
            best = cost;
            p->part_m = pm;
            p->part_n = pn;
        }
    }
}

static void make_plan(gemm_plan *p, const fm_matmul_args *g, bool bf16, int64_t threads) {
    *p = (gemm_plan){.g = g, .bf16 = bf16, .es = bf16 ? 2 : 4, .epu = bf16 ? 2 : 1, .mr = bf16 ? BF16_MR : F32_MR};
    p->ks = ceil_div(g->k, p->epu);
    p->n_chunks = FM_MAX(ceil_div(p->ks, KC), 1);
    p->chunk = ceil_div(p->ks, p->n_chunks);
    p->n_chunks = p->chunk ? ceil_div(p->ks, p->chunk) : 1;
    p->panels = ceil_div(g->n, NR);
    choose_parts(p, threads);

    const int64_t rows = ceil_div(ceil_div(g->m, p->mr), p->part_m) * p->mr;
    const int64_t cols = ceil_div(p->panels, p->part_n);
    const int64_t keep_bytes = cols * NR * p->ks * 4;
    const bool can_keep = !g->b_packed && keep_bytes <= KEEP_BYTES;
    const int64_t a_bytes_max = g->b_packed || can_keep ? A_BYTES : A_BYTES_LARGE;
    const int64_t fit = FM_MAX(a_bytes_max / FM_MAX(p->chunk * 4, 1), MIN_BLOCK);
    p->block = round_up(ceil_div(rows, ceil_div(rows, fit)), p->mr);
    p->keep = can_keep && p->block < rows;
    p->pack_a = g->trans_a || (bf16 && g->k % 2 != 0);
    p->partial = g->c_dtype != FM_F32 && p->n_chunks > 1;
    p->group = p->partial ? FM_MIN(FM_MAX(PARTIAL_MAX / (p->block * NR * 4), 1), cols) : cols;

    p->a_off = g->b_packed ? 0 : round_up(FM_MAX(p->keep ? keep_bytes : p->chunk * NR * 4, 1), 4096); /* k may be 0 */
    int64_t a_bytes = 0;
    if (p->pack_a) {
        a_bytes = g->trans_a ? p->block / p->mr * sliver_bytes(p, p->chunk) : p->block * p->chunk * 4;
    }
    p->partial_off = p->a_off + round_up(a_bytes, 64);
    p->thread_bytes = round_up(p->partial_off + (p->partial ? p->block * p->group * NR * 4 : 0), 4096);
}

static fm_status matmul(const fm_exec *x, const fm_matmul_args *g, bool bf16) {
    if (g->m <= 0 || g->n <= 0) {
        return FM_OK;
    }
    const int threads = fm_pool_threads(x->pool);
    gemm_plan p;
    make_plan(&p, g, bf16, threads);
    if (p.thread_bytes > 0) {
        p.scratch = fm_scratch_take(x, p.thread_bytes * threads);
        if (!p.scratch) {
            FM_FAIL(FM_ERR_NO_MEMORY, "matrix product %lld x %lld x %lld: no memory for %lld bytes of scratch",
                    (long long)g->m, (long long)g->n, (long long)g->k, (long long)(p.thread_bytes * threads));
        }
    }
    const int64_t parts = p.part_m * p.part_n;
    if (parts == 1) {
        return run_part(&p, 0, 1, 0);
    }
    return fm_pool_run(x->pool, parts, run_part, &p);
}

static fm_status matmul_f32(const fm_exec *x, const void *args) {
    return matmul(x, args, false);
}
static fm_status matmul_bf16(const fm_exec *x, const void *args) {
    return matmul(x, args, true);
}

int64_t FM_SIMD_FN(matmul_pack_bytes)(fm_dtype d, int64_t n, int64_t k) {
    if (d != FM_F32 && d != FM_BF16) {
        return 0;
    }
    return round_up(n, VF_N) * ceil_div(k, d == FM_BF16 ? 2 : 1) * 4;
}

typedef struct pack_job {
    bool bf16, trans_b;
    int64_t n, k, ldb;
    const void *b;
    char *packed;
} pack_job;

static fm_status pack_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    const pack_job *w = arg;
    FM_UNUSED(thread);
    int64_t j0, j1;
    const int64_t ks = ceil_div(w->k, w->bf16 ? 2 : 1);
    fm_split(ceil_div(w->n, NR), part, n_parts, 1, &j0, &j1);
    for (int64_t j = j0; j < j1; j++) {
        pack_panel(w->bf16, w->n, w->k, w->b, w->ldb, w->trans_b, j, 0, ks, w->packed + j * NR * ks * 4);
    }
    return FM_OK;
}

fm_status FM_SIMD_FN(matmul_pack)(const fm_exec *x, fm_dtype d, int64_t n, int64_t k, const void *b, int64_t ldb,
                                  bool trans_b, void *packed) {
    if (d != FM_F32 && d != FM_BF16) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "packing weights of type %s: only f32 and bf16 are packed", fm_dtype_get(d)->name);
    }
    pack_job w = {.bf16 = d == FM_BF16, .trans_b = trans_b, .n = n, .k = k, .ldb = ldb, .b = b, .packed = packed};
    if (n <= 0 || k <= 0) {
        return FM_OK;
    }
    const int64_t parts = n * k < INLINE_BYTES ? 1 : FM_MIN(fm_pool_threads(x->pool), ceil_div(n, NR));
    return fm_pool_run(x->pool, parts, pack_part, &w);
}

#include "backend/cpu/simd/gemm_grouped.h"

const fm_kernel_row FM_SIMD_FN(gemm_rows)[] = {
    {FM_K_matmul, FM_F32, matmul_f32},
    {FM_K_matmul, FM_BF16, matmul_bf16},
    {FM_K_grouped_matmul, FM_F32, grouped_matmul_f32},
    {FM_K_grouped_matmul, FM_BF16, grouped_matmul_bf16},
    {FM_K_grouped_outer, FM_F32, grouped_outer_f32},
    {FM_K_grouped_outer, FM_BF16, grouped_outer_bf16},
    {FM_KERNEL_COUNT, FM_DTYPE_COUNT, NULL},
};
