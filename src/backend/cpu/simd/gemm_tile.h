/* Micro-kernels: a tile of up to GT_MR rows x GT_NV vectors of C kept in registers over one block of k.
 *
 * A template: include with GT_NAME(x) (names of this instance), GT_MR (2..8), GT_NV (1..4), GT_BF16 (0 or 1).
 * It defines  static const gemm_tile_fn GT_NAME(tiles)[GT_MR][GT_NV].
 *
 * Accumulators are named variables and not arrays because gcc 12 keeps only those in registers
 * with certainty. A row's sums run over k in order, in one accumulator per element, whatever the
 * tile: bits of a row do not depend on the rows computed beside it. */
#include "backend/cpu/simd/gemm_tile_types.h"

#if GT_BF16
#define GT_A(p)         vu_set1_pair(p)
#define GT_B(p)         vu_load(p)
#define GT_MAC(c, a, b) vf_dot_bf16(c, a, b)
#define GT_AT           vu
#else
#define GT_A(p)         gemm_set1(p)
#define GT_B(p)         vf_load((const float *)(const void *)(p))
#define GT_MAC(c, a, b) vf_fma(a, b, c)
#define GT_AT           vf
#endif

#if GT_MR > 8 || GT_NV > 4
#error "a tile has at most 8 rows and 4 vectors"
#endif

static inline __attribute__((always_inline)) void GT_NAME(tile_body)(int mr, int nv, const gemm_tile *t) {
    const char *a0 = t->a;
    const int64_t rs = t->a_row;
    const int64_t as = t->a_step;
    const char *a3 = a0 + 3 * rs;
    const char *a6 = a0 + 6 * rs;
    const char *b = t->b;
    const int64_t bs = (int64_t)nv * VF_N * 4;
    gemm_prefetch_c(t, mr);
#define GT_ROW(r) vf c##r##0 = vf_zero(), c##r##1 = vf_zero(), c##r##2 = vf_zero(), c##r##3 = vf_zero()
    GT_ROW(0);
    GT_ROW(1);
    GT_ROW(2);
    GT_ROW(3);
    GT_ROW(4);
    GT_ROW(5);
    GT_ROW(6);
    GT_ROW(7);
#undef GT_ROW
#define GT_ROW(r, p)                                                                                                   \
    do {                                                                                                               \
        if (mr > r) {                                                                                                  \
            GT_AT a = GT_A(p);                                                                                         \
            c##r##0 = GT_MAC(c##r##0, a, b0);                                                                          \
            c##r##1 = nv > 1 ? GT_MAC(c##r##1, a, b1) : c##r##1;                                                       \
            c##r##2 = nv > 2 ? GT_MAC(c##r##2, a, b2) : c##r##2;                                                       \
            c##r##3 = nv > 3 ? GT_MAC(c##r##3, a, b3) : c##r##3;                                                       \
        }                                                                                                              \
    } while (0)
    for (int64_t s = t->ks; s > 0; s--) {
        GT_AT b0 = GT_B(b);
        GT_AT b1 = nv > 1 ? GT_B(b + 4 * VF_N) : b0;
        GT_AT b2 = nv > 2 ? GT_B(b + 8 * VF_N) : b0;
        GT_AT b3 = nv > 3 ? GT_B(b + 12 * VF_N) : b0;
        if (mr > 1) { /* one row reads memory: the hardware's prefetch is faster by itself */
            gemm_prefetch_b(b + GEMM_AHEAD, nv);
        }
        GT_ROW(0, a0);
        GT_ROW(1, a0 + rs);
        GT_ROW(2, a0 + 2 * rs);
        GT_ROW(3, a3);
        GT_ROW(4, a3 + rs);
        GT_ROW(5, a3 + 2 * rs);
        GT_ROW(6, a6);
        GT_ROW(7, a6 + rs);
        a0 += as;
        a3 += as;
        a6 += as;
        b += bs;
    }
#undef GT_ROW
#define GT_ROW(r)                                                                                                      \
    do {                                                                                                               \
        if (mr > r) {                                                                                                  \
            gemm_finish(t, r, nv, GT_BF16, c##r##0, c##r##1, c##r##2, c##r##3);                                        \
        }                                                                                                              \
    } while (0)
    GT_ROW(0);
    GT_ROW(1);
    GT_ROW(2);
    GT_ROW(3);
    GT_ROW(4);
    GT_ROW(5);
    GT_ROW(6);
    GT_ROW(7);
#undef GT_ROW
}

#define GT_DEF(mr, nv)                                                                                                 \
    static void GT_NAME(tile_##mr##_##nv)(const gemm_tile *t) {                                                        \
        GT_NAME(tile_body)(mr, nv, t);                                                                                 \
    }
#if GT_NV == 4
#define GT_DEFS(mr) GT_DEF(mr, 1) GT_DEF(mr, 2) GT_DEF(mr, 3) GT_DEF(mr, 4)
#define GT_REFS(mr)                                                                                                    \
    { GT_NAME(tile_##mr##_1), GT_NAME(tile_##mr##_2), GT_NAME(tile_##mr##_3), GT_NAME(tile_##mr##_4) }
#elif GT_NV == 3
#define GT_DEFS(mr) GT_DEF(mr, 1) GT_DEF(mr, 2) GT_DEF(mr, 3)
#define GT_REFS(mr)                                                                                                    \
    { GT_NAME(tile_##mr##_1), GT_NAME(tile_##mr##_2), GT_NAME(tile_##mr##_3) }
#else
#define GT_DEFS(mr) GT_DEF(mr, 1) GT_DEF(mr, 2)
#define GT_REFS(mr)                                                                                                    \
    { GT_NAME(tile_##mr##_1), GT_NAME(tile_##mr##_2) }
#endif

GT_DEFS(1)
GT_DEFS(2)
GT_DEFS(3)
GT_DEFS(4)
#if GT_MR > 4
GT_DEFS(5)
GT_DEFS(6)
#endif
#if GT_MR > 6
GT_DEFS(7)
GT_DEFS(8)
#endif

static const gemm_tile_fn GT_NAME(tiles)[GT_MR][GT_NV] = {
    GT_REFS(1), GT_REFS(2), GT_REFS(3), GT_REFS(4),
#if GT_MR > 4
    GT_REFS(5), GT_REFS(6),
#endif
#if GT_MR > 6
    GT_REFS(7), GT_REFS(8),
#endif
};

#undef GT_DEF
#undef GT_DEFS
#undef GT_REFS
#undef GT_A
#undef GT_B
#undef GT_MAC
#undef GT_AT
#undef GT_NAME
#undef GT_MR
#undef GT_NV
#undef GT_BF16
