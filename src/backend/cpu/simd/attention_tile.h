/* Packed tiles and the matrix products over them, for one kind of tile element.
 *
 * Included by attention_f32.c (ATT_BF16 0) and attention_bf16.c (ATT_BF16 1). A "step" is one element of the
 * summed dimension in f32 tiles and a pair of neighbours in bf16 tiles; att_e holds one step, and all tile
 * addresses count in att_e. Three layouts:
 *   rows    A operand: [row][step]
 *   panels  B operand: [panel][step][ATT_W] with ATT_W = ATT_NV vectors of columns to a panel
 *   columns A operand read across: [step][row], which is one panel of a B operand
 * Sums run over the steps in order, one chain per output element, whatever the block sizes. */
#ifndef ATT_BF16
#error "define ATT_BF16 before including attention_tile.h"
#endif

#include "backend/cpu/simd/attention.h"
#include "backend/cpu/simd/vec_tile.h"

#if FM_SIMD_avx2
#define ATT_NV 2 /* 6 x 2 accumulators in 16 registers */
#else
#define ATT_NV 4 /* 6 x 4 accumulators in 32 registers */
#endif
#define ATT_W (ATT_NV * VF_N)

#if ATT_BF16
typedef uint32_t att_e;
typedef vu att_v;
#define ATT_STEP         2
#define ATT_FN(name)     FM_SIMD_FN(name##_bf16)
#define att_load(p)      vu_load(p)
#define att_store(p, v)  vu_store(p, v)
#define att_bcast(p)     vu_set1_pair(p)
#define att_vzero()      vu_zero()
#define att_transpose(t) vu_transpose(t)
#define att_mac(a, b, c) vf_dot_bf16(c, a, b)
#else
typedef float att_e;
typedef vf att_v;
#define ATT_STEP         1
#define ATT_FN(name)     FM_SIMD_FN(name##_f32)
#define att_load(p)      vf_load(p)
#define att_store(p, v)  vf_store(p, v)
#define att_bcast(p)     vf_set1(*(p))
#define att_vzero()      vf_zero()
#define att_transpose(t) vf_transpose(t)
#define att_mac(a, b, c) vf_fma(a, b, c)
#endif

#define ATT_INLINE static inline __attribute__((always_inline))

/* 2^t for t <= 0 and a little above; 0 from VF_EXP2_MIN down and for -inf, and exactly 1 for 0, so that a tile
 * without visible keys changes nothing. The polynomials are minimax fits of 2^r, |r| <= 1/2, with constant term
 * 1: relative error 4e-9 before rounding in f32 tiles, 5e-6 where the result is rounded to bf16. */
#define ATT_LOG2E 1.44269504F
#define ATT_LN2   0.693147181F
static inline vf att_exp2(vf t) {
    t = vf_max(vf_set1(VF_EXP2_MIN), t);
    vf n = vf_round(t);
    vf r = vf_sub(t, n);
#if ATT_BF16
    vf p = vf_set1(0.009676037098F);
    p = vf_fma(p, r, vf_set1(0.05600578835F));
    p = vf_fma(p, r, vf_set1(0.2402216778F));
    p = vf_fma(p, r, vf_set1(0.6931053341F));
#else
    vf p = vf_set1(0.0001546973198F);
    p = vf_fma(p, r, vf_set1(0.001341000097F));
    p = vf_fma(p, r, vf_set1(0.009618030783F));
    p = vf_fma(p, r, vf_set1(0.05550297314F));
    p = vf_fma(p, r, vf_set1(0.2402265108F));
    p = vf_fma(p, r, vf_set1(0.6931472254F));
#endif
    return vf_scale2(vf_fma(p, r, vf_set1(1.0F)), n);
}

/* Steps that hold n elements. */
static inline int64_t att_steps(int64_t n) {
    return (n + ATT_STEP - 1) / ATT_STEP;
}
static inline int64_t att_panels(int64_t n) {
    return (n + ATT_W - 1) / ATT_W;
}

/* ---- C[mr, nv*VF_N] = A B, or = C * alpha + A B ---- */

typedef void (*att_mk_fn)(const att_e *a, int64_t sa, const att_e *b, int64_t steps, float *c, int64_t ldc,
                          const float *alpha, bool add);

/* Named accumulators: gcc keeps an array of them in memory at the borders of the loop. Constant mr and nv leave only
 * the ones in use. */
#define ATT_EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5)
#define ATT_DECLARE(r)  vf c##r##0 = vf_zero(), c##r##1 = vf_zero(), c##r##2 = vf_zero(), c##r##3 = vf_zero();
#define ATT_EACH_VECTOR(r, X)                                                                                          \
    if (mr > r) {                                                                                                      \
        X(r, 0)                                                                                                        \
        if (nv > 1) {                                                                                                  \
            X(r, 1)                                                                                                    \
        }                                                                                                              \
        if (nv > 2) {                                                                                                  \
            X(r, 2)                                                                                                    \
        }                                                                                                              \
        if (nv > 3) {                                                                                                  \
            X(r, 3)                                                                                                    \
        }                                                                                                              \
    }
#define ATT_LOAD(r, v)   c##r##v = vf_load(c + r * ldc + v * VF_N);
#define ATT_SCALE(r, v)  c##r##v = vf_mul(vf_load(c + r * ldc + v * VF_N), vf_set1(alpha[r]));
#define ATT_STORE(r, v)  vf_store(c + r * ldc + v * VF_N, c##r##v);
#define ATT_MAC(r, v)    c##r##v = att_mac(av, b##v, c##r##v);
#define ATT_LOAD_ROW(r)  ATT_EACH_VECTOR(r, ATT_LOAD)
#define ATT_SCALE_ROW(r) ATT_EACH_VECTOR(r, ATT_SCALE)
#define ATT_STORE_ROW(r) ATT_EACH_VECTOR(r, ATT_STORE)
#define ATT_MAC_ROW(r)                                                                                                 \
    if (mr > r) {                                                                                                      \
        att_v av = att_bcast(across ? a + r : a + r * sa);                                                             \
        ATT_EACH_VECTOR(r, ATT_MAC)                                                                                    \
    }

ATT_INLINE void att_mk(const int mr, const int nv, const bool across, const att_e *a, int64_t sa, const att_e *b,
                       int64_t steps, float *c, int64_t ldc, const float *alpha, bool add) {
    ATT_EACH_ROW(ATT_DECLARE)
    if (alpha != NULL) {
        ATT_EACH_ROW(ATT_SCALE_ROW)
    } else if (add) {
        ATT_EACH_ROW(ATT_LOAD_ROW)
    }
    for (int64_t k = 0; k < steps; k++) {
        att_v b0 = att_load(b);
        att_v b1 = nv > 1 ? att_load(b + VF_N) : b0;
        att_v b2 = nv > 2 ? att_load(b + 2 * VF_N) : b0;
        att_v b3 = nv > 3 ? att_load(b + 3 * VF_N) : b0;
        ATT_EACH_ROW(ATT_MAC_ROW)
        a += across ? sa : 1;
        b += ATT_W;
    }
    ATT_EACH_ROW(ATT_STORE_ROW)
}

#define ATT_MK(kind, across, mr, nv)                                                                                   \
    static void att_mk_##kind##_##mr##_##nv(const att_e *a, int64_t sa, const att_e *b, int64_t steps, float *c,       \
                                            int64_t ldc, const float *alpha, bool add) {                               \
        att_mk(mr, nv, across, a, sa, b, steps, c, ldc, alpha, add);                                                   \
    }
#define ATT_MK_COLUMN(kind, across, nv)                                                                                \
    ATT_MK(kind, across, 1, nv)                                                                                        \
    ATT_MK(kind, across, 2, nv)                                                                                        \
    ATT_MK(kind, across, 3, nv)                                                                                        \
    ATT_MK(kind, across, 4, nv)                                                                                        \
    ATT_MK(kind, across, 5, nv)                                                                                        \
    ATT_MK(kind, across, 6, nv)
#define ATT_MK_NAMES(kind, nv)                                                                                         \
    {                                                                                                                  \
        att_mk_##kind##_1_##nv, att_mk_##kind##_2_##nv, att_mk_##kind##_3_##nv, att_mk_##kind##_4_##nv,                \
            att_mk_##kind##_5_##nv, att_mk_##kind##_6_##nv                                                             \
    }
ATT_MK_COLUMN(rows, false, 1)
ATT_MK_COLUMN(rows, false, 2)
ATT_MK_COLUMN(cols, true, 1)
ATT_MK_COLUMN(cols, true, 2)
#if ATT_NV > 2
ATT_MK_COLUMN(rows, false, 3)
ATT_MK_COLUMN(rows, false, 4)
ATT_MK_COLUMN(cols, true, 3)
ATT_MK_COLUMN(cols, true, 4)
#endif

/* [vectors - 1][rows - 1] */
static const att_mk_fn att_mk_rows[ATT_NV][ATT_MR] = {
    ATT_MK_NAMES(rows, 1),
    ATT_MK_NAMES(rows, 2),
#if ATT_NV > 2
    ATT_MK_NAMES(rows, 3),
    ATT_MK_NAMES(rows, 4),
#endif
};
static const att_mk_fn att_mk_cols[ATT_NV][ATT_MR] = {
    ATT_MK_NAMES(cols, 1),
    ATT_MK_NAMES(cols, 2),
#if ATT_NV > 2
    ATT_MK_NAMES(cols, 3),
    ATT_MK_NAMES(cols, 4),
#endif
};

/* C[m, vectors v0..v1 of the columns] for m <= ATT_MR rows. b: panels that are `panel` att_e apart, entered at the
 * step the sum begins with. */
static inline void att_product(const att_mk_fn mk[ATT_NV][ATT_MR], int64_t m, const att_e *a, int64_t sa,
                               const att_e *b, int64_t panel, int64_t steps, int64_t v0, int64_t v1, float *c,
                               int64_t ldc, const float *alpha, bool add) {
    for (int64_t v = v0; v < v1;) {
        int64_t in = v % ATT_NV;
        int64_t nv = att_min(ATT_NV - in, v1 - v);
        mk[nv - 1][m - 1](a, sa, b + v / ATT_NV * panel + in * VF_N, steps, c + v * VF_N, ldc, alpha, add);
        v += nv;
    }
}

/* ---- packing. `rows` points at the first element of each source row; missing rows and the half step at the
 * end of an odd count are zeros. is_bf16: the sources are bf16 (always so for bf16 tiles). ahead: what to
 * prefetch meanwhile, or NULL. ---- */

#if ATT_BF16
static inline att_v att_src(const void *row, int64_t i, int64_t n, bool is_bf16) {
    (void)is_bf16;
    const uint16_t *p = (const uint16_t *)row + i;
    if (n >= 2 * VF_N) {
        return vu_load(p);
    }
    uint16_t tail[2 * VF_N] = {0};
    memcpy(tail, p, (size_t)n * 2);
    return vu_load(tail);
}
#else
static inline att_v att_src(const void *row, int64_t i, int64_t n, bool is_bf16) {
    if (n >= VF_N) {
        return is_bf16 ? vf_load_bf16((const uint16_t *)row + i) : vf_load((const float *)row + i);
    }
    int m = (int)n;
    return is_bf16 ? vf_loadn_bf16((const uint16_t *)row + i, m) : vf_loadn((const float *)row + i, m);
}
#endif

/* rows layout: dst[n][ld], ld >= steps of d rounded up to a vector. */
static inline void att_pack_rows(att_e *dst, int64_t ld, const void *const *rows, int64_t n, int64_t d, bool is_bf16) {
    for (int64_t r = 0; r < n; r++) {
        for (int64_t i = 0; i < d; i += VF_N * ATT_STEP) {
            att_store(dst + r * ld + i / ATT_STEP, att_src(rows[r], i, d - i, is_bf16));
        }
    }
}

/* Steps k.. of VF_N rows, n of them there, to one vector of columns of a panel. */
ATT_INLINE void att_pack_square(att_e *dst, const void *const *rows, int64_t n, int64_t k, int64_t d, int64_t steps,
                                bool is_bf16, att_ahead *ahead) {
    att_v t[VF_N];
    for (int64_t r = 0; r < VF_N; r++) {
        if (ahead != NULL) {
            att_ahead_step(ahead);
        }
        t[r] = r < n ? att_src(rows[r], k * ATT_STEP, d - k * ATT_STEP, is_bf16) : att_vzero();
    }
    att_transpose(t);
    for (int64_t i = 0; i < att_min(VF_N, steps - k); i++) {
        att_store(dst + (k + i) * ATT_W, t[i]);
    }
}

/* panels layout with the rows as columns (dst = transpose of the rows), for ATT_KT columns and d summed. */
static inline void att_pack_across(att_e *dst, const void *const *rows, int64_t n, int64_t d, bool is_bf16,
                                   att_ahead *ahead) {
    int64_t steps = att_steps(d);
    for (int64_t r0 = 0; r0 < ATT_KT; r0 += VF_N) {
        att_e *panel = dst + r0 / ATT_W * steps * ATT_W + r0 % ATT_W;
        const void *const *from = rows + r0;
        int64_t whole = r0 + VF_N <= n ? d / (VF_N * ATT_STEP) * VF_N : 0; /* steps without tails */
        for (int64_t k = 0; k < whole; k += VF_N) {
            if (is_bf16) {
                att_pack_square(panel, from, VF_N, k, VF_N * ATT_STEP + k * ATT_STEP, k + VF_N, true, ahead);
            } else {
                att_pack_square(panel, from, VF_N, k, VF_N * ATT_STEP + k * ATT_STEP, k + VF_N, false, ahead);
            }
        }
        for (int64_t k = whole; k < steps; k += VF_N) {
            att_pack_square(panel, from, n - r0, k, d, steps, is_bf16, ahead);
        }
    }
}

/* panels layout with the rows summed over: d columns, panels of ATT_KT / ATT_STEP steps. */
static inline void att_pack_along(att_e *dst, const void *const *rows, int64_t n, int64_t d, bool is_bf16,
                                  att_ahead *ahead) {
    const int64_t panel = ATT_KT / ATT_STEP * ATT_W;
    for (int64_t k = 0; k < att_steps(n); k++) {
        for (int64_t i = 0; i < d; i += VF_N) {
            att_e *p = dst + i / ATT_W * panel + k * ATT_W + i % ATT_W;
            if (ahead != NULL) {
                att_ahead_step(ahead);
            }
#if ATT_BF16
            static const uint16_t zeros[VF_N];
            const uint16_t *p0 = (const uint16_t *)rows[2 * k] + i;
            const uint16_t *p1 = 2 * k + 1 < n ? (const uint16_t *)rows[2 * k + 1] + i : zeros;
            (void)is_bf16;
            att_store(p, d - i >= VF_N ? vu_zip(p0, p1) : vu_zipn(p0, p1, (int)(d - i)));
#else
            att_store(p, att_src(rows[k], i, d - i, is_bf16));
#endif
        }
    }
}

/* dst[i] (type d) = or += src[i] * scale. */
static inline void att_store_row(void *dst, fm_dtype d, int64_t at, bool add, const float *src, int64_t n,
                                 float scale) {
    vf s = vf_set1(scale);
    for (int64_t i = 0; i < n; i += VF_N) {
        int m = (int)att_min(VF_N, n - i);
        vf v = vf_mul(vf_load(src + i), s);
        if (d == FM_BF16) {
            uint16_t *p = (uint16_t *)dst + at + i;
            v = add ? vf_add(v, vf_loadn_bf16(p, m)) : v;
            vf_storen_bf16(p, v, m);
        } else {
            float *p = (float *)dst + at + i;
            v = add ? vf_add(v, vf_loadn(p, m)) : v;
            vf_storen(p, v, m);
        }
    }
}
