/* Quantised weights [n,k] as the kernels read them: repacked once from the rows of a file, so that one pass serves one
 * row of activations (decode, bound by memory) and many (prefill) with the same arithmetic.
 *
 * A panel is FM_QP_COLS output rows of W; missing ones are zero. It is a sequence of super-blocks of `per` blocks of 32
 * along k (k-quants 8, others 1): the head, then for each block its scales, high bits and quants.
 *   head    k-quants: f16 d[64], and f16 dmin[64] when there are minima
 *   scales  f16 s[64]; or k-quants u8 s[64], or int8 s[2][64] of halves of a block
 *   minima  as the scales: f16 m[64] or u8 m[64]; what is subtracted
 *   high    5 bits: u8 [64][4], bit g of byte (c,i) is that of element 4g+i
 *           6 bits: u8 [2][64][4], bits 2g and 2g+1 of byte (h,c,i) are those of element 16h+4g+i
 *   quants  8 bits: [8][64][4], element 4g+i of column c at (g,c,i); with the kernel set's VQ_FLIP
 *           fewer:  [4][64][4], low halves element 4g+i, high halves element 16+4g+i
 * A block's elements are q - off, with off of the row below (8 bits: none; what VQ_FLIP adds is the kernel's business).
 *
 * Groups of four elements of 64 columns lie together: a vector holds a group of VF_N columns, and one instruction
 * multiplies it by the four activations it broadcasts. Types that are not listed, but can be written exactly as one
 * that is, are: q3_k as q6_k, iq4_nl as q8_0. */
#ifndef FM_BACKEND_CPU_QUANT_LAYOUT_H
#define FM_BACKEND_CPU_QUANT_LAYOUT_H

#include "backend/backend.h"

#define FM_QP_COLS  64
#define FM_QP_BLOCK 32

typedef enum fm_qp_scale { FM_QP_NO_SCALE, FM_QP_F16, FM_QP_U8, FM_QP_I8X2, FM_QP_F32, FM_QP_F32X2 } fm_qp_scale;
typedef enum fm_qp_min { FM_QP_NO_MIN, FM_QP_MIN_F16, FM_QP_MIN_U8, FM_QP_MIN_F32 } fm_qp_min;

/* X(layout, dtype, bits, scale, min, off) */
#define FM_QP_LIST(X)                                                                                                  \
    X(i8, FM_I8, 8, FM_QP_NO_SCALE, FM_QP_NO_MIN, 0)                                                                   \
    X(q8_0, FM_Q8_0, 8, FM_QP_F16, FM_QP_NO_MIN, 0)                                                                    \
    X(q4_0, FM_Q4_0, 4, FM_QP_F16, FM_QP_NO_MIN, 8)                                                                    \
    X(q4_1, FM_Q4_1, 4, FM_QP_F16, FM_QP_MIN_F16, 0)                                                                   \
    X(q5_0, FM_Q5_0, 5, FM_QP_F16, FM_QP_NO_MIN, 16)                                                                   \
    X(q5_1, FM_Q5_1, 5, FM_QP_F16, FM_QP_MIN_F16, 0)                                                                   \
    X(q4_k, FM_Q4_K, 4, FM_QP_U8, FM_QP_MIN_U8, 0)                                                                     \
    X(q5_k, FM_Q5_K, 5, FM_QP_U8, FM_QP_MIN_U8, 0)                                                                     \
    X(q6_k, FM_Q6_K, 6, FM_QP_I8X2, FM_QP_NO_MIN, 32)

typedef enum fm_qp_id {
#define FM_X(name, dtype, bits, scale, min, off) FM_QP_##name,
    FM_QP_LIST(FM_X)
#undef FM_X
        FM_QP_COUNT
} fm_qp_id;

/* Sizes that follow from a row; constants once inlined. */
static inline int fm_qp_per(fm_qp_scale s) {
    return s == FM_QP_U8 || s == FM_QP_I8X2 ? 8 : 1;
}
static inline int fm_qp_head_bytes(fm_qp_scale s, fm_qp_min m) {
    return fm_qp_per(s) == 1 ? 0 : m == FM_QP_NO_MIN ? 2 * FM_QP_COLS : 4 * FM_QP_COLS;
}
static inline int fm_qp_scale_bytes(fm_qp_scale s) {
    return FM_QP_COLS * (s == FM_QP_NO_SCALE ? 0 : s == FM_QP_U8 ? 1 : s == FM_QP_F32 ? 4 : s == FM_QP_F32X2 ? 8 : 2);
}
static inline int fm_qp_min_bytes(fm_qp_min m) {
    return FM_QP_COLS * (m == FM_QP_NO_MIN ? 0 : m == FM_QP_MIN_U8 ? 1 : m == FM_QP_MIN_F32 ? 4 : 2);
}
static inline int fm_qp_high_bytes(int bits) {
    return bits == 5 ? 4 * FM_QP_COLS : bits == 6 ? 8 * FM_QP_COLS : 0;
}
static inline int fm_qp_quant_bytes(int bits) {
    return FM_QP_COLS * (bits >= 7 ? 32 : 16);
}
static inline int fm_qp_block_bytes(int bits, fm_qp_scale s, fm_qp_min m) {
    return fm_qp_scale_bytes(s) + fm_qp_min_bytes(m) + fm_qp_high_bytes(bits) + fm_qp_quant_bytes(bits);
}

typedef struct fm_qp_layout {
    fm_qp_id id;
    fm_dtype dtype;
    int bits;
    fm_qp_scale scale;
    fm_qp_min min;
    int off;
    int n_sub; /* scales of a block */
} fm_qp_layout;

/* NULL for types that quantised products cannot read. */
const fm_qp_layout *fm_qp_find(fm_dtype d);
/* Blocks of 32 along k. */
int64_t fm_qp_blocks(int64_t k);
int64_t fm_qp_panel_bytes(const fm_qp_layout *l, int64_t k);
/* Panel j of rows w [n,k] of type d into dst; the bits `flip` of 8-bit quants are turned. */
void fm_qp_pack_panel(fm_dtype d, int64_t n, int64_t k, const uint8_t *w, int64_t j, uint8_t flip, uint8_t *dst);
/* All panels, on the pool; the functions of fm_backend for one kernel set. */
int64_t fm_qp_bytes(fm_dtype d, int64_t n, int64_t k); /* 0 when d has no layout */
FM_MUST_CHECK fm_status fm_qp_pack(const fm_exec *x, fm_dtype d, int64_t n, int64_t k, const void *w, uint8_t flip,
                                   void *packed);

#endif
