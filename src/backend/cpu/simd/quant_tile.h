/* Tiles of quantised products: `mr` rows of activations by `nv` vectors of columns of one panel (quant_layout.h).
 *
 * For each block of 32: exact integer sums of the products, then in f32, lane by lane,
 *   p = sum * d;  f += p * s   [halves of a block apart when they have factors of their own];   f -= d * sum(q) * m
 * in order of k. Nothing depends on mr, so that one row and many have the same bits. Every function here is inlined
 * with constant layout arguments; quant.c makes one tile per layout and number of rows. */
#ifndef FM_BACKEND_CPU_SIMD_QUANT_TILE_H
#define FM_BACKEND_CPU_SIMD_QUANT_TILE_H

#include "backend/cpu/quant_layout.h"
#include "backend/cpu/simd/kernel.h"

#if defined(FM_SIMD_avx512)
#define QT_NV       4 /* vectors of columns of a tile that unpacks weights as it goes */
#define QT_NV_FORMS 2 /* and over expanded weights: integer and float sums stay in registers */
#define QT_MR       6 /* rows over expanded weights */
#elif defined(FM_SIMD_avx2)
#define QT_NV       2
#define QT_NV_FORMS 2
#define QT_MR       4
#else
#define QT_NV       4
#define QT_NV_FORMS 2
#define QT_MR       4
#endif
#define QT_DIRECT 4 /* rows of a tile that unpacks weights as it goes */

/* A group of mr rows of activations (quant_act.h), side by side: what a tile needs next lies next. */
typedef struct qt_rows {
    const int8_t *q;     /* [blocks,8,mr,4] */
    const float *d;      /* [blocks,mr] */
    const float *ds;     /* [blocks,mr] d times the sum of q; layouts with minima only */
    const int32_t *init; /* [blocks,n_sub,mr] what integer sums begin with, - off * sum of q; or NULL */
} qt_rows;

typedef struct qt_args {
    const uint8_t *panel;
    int64_t blocks;
    qt_rows a;
    int64_t col0; /* of the tile in its panel */
    float *out;   /* [mr,nv*VF_N] */
} qt_args;

/* 32 low halves to bytes, and back together with what lies above them. h: which half of the elements. */
FM_INLINE vi qt_unpack(int bits, int g, int h, vi x, vi high) {
    vi low = vi_and(h ? vi_shr(x, 4) : x, vi_set1(0x0f0f0f0f));
    if (bits == 5) { /* bit g + 4h to bit 4 */
        int at = g + 4 * h;
        vi up = at == 0   ? vi_shl(high, 4)
                : at == 1 ? vi_shl(high, 3)
                : at == 2 ? vi_shl(high, 2)
                : at == 3 ? vi_shl(high, 1)
                : at == 4 ? high
                : at == 5 ? vi_shr(high, 1)
                : at == 6 ? vi_shr(high, 2)
                          : vi_shr(high, 3);
        low = vi_or(low, vi_and(up, vi_set1(0x10101010)));
    } else if (bits == 6) { /* bits 2g and 2g+1 to bits 4 and 5 */
        vi up = g == 0 ? vi_shl(high, 4) : g == 1 ? vi_shl(high, 2) : g == 2 ? high : vi_shr(high, 2);
        low = vi_or(low, vi_and(up, vi_set1(0x30303030)));
    }
    return low;
}

/* Scales of block parts: VF_N columns from c on; h is the half. `d` is the super-block's factor of these columns. */
FM_INLINE vf qt_scale(fm_qp_scale kind, const uint8_t *s, int64_t c, int h, vf d) {
    switch (kind) {
    case FM_QP_F16:
        return vx_load(FM_F16, s, c);
    case FM_QP_F32:
    case FM_QP_F32X2:
        return vx_load(FM_F32, s, h * FM_QP_COLS + c);
    case FM_QP_U8:
        return vf_mul(vi_to_float(vi_load_u8(s + c)), d);
    default:
        return vf_mul(vi_to_float(vi_load_i8((const int8_t *)s + h * FM_QP_COLS + c)), d);
    }
}
FM_INLINE vf qt_min(fm_qp_min kind, const uint8_t *m, int64_t c, vf d) {
    if (kind == FM_QP_MIN_U8) {
        return vf_mul(vi_to_float(vi_load_u8(m + c)), d);
    }
    return vx_load(kind == FM_QP_MIN_F16 ? FM_F16 : FM_F32, m, c);
}

FM_INLINE vi qt_dot(int bits, vi acc, vi w, vi a) {
    return bits == 8 ? vi_dot8(acc, w, a) : vi_dot7(acc, w, a);
}

/* Tiles of one row load weights in order of addresses. In a loop that is unrolled compilers gather the loads of one
 * sum, 256 bytes apart, and leave scales to the end; the processor's prefetcher does not follow that, and a row of q8_0
 * reads memory at 70% of its rate. So loops over groups stay loops, and scales are asked for first. Prefetching in
 * software costs more than it brings. */
#if defined(__clang__)
#define QT_ROLLED _Pragma("nounroll")
#else
#define QT_ROLLED _Pragma("GCC unroll 1")
#endif
#define QT_IN_ORDER() __asm__ volatile("" ::: "memory")

/* Group g of a block of bytes. */
FM_INLINE void qt_group(int bits, int g, int mr, int nv, const uint8_t *quant, const int8_t *q, vi acc[][QT_NV]) {
    vi w[QT_NV];
    FM_UNROLL for (int v = 0; v < nv; v++) {
        w[v] = vi_load(quant + (g * FM_QP_COLS + v * VF_N) * 4);
    }
    FM_UNROLL for (int r = 0; r < mr; r++) {
        const vi a = vi_set1_quad(q + (g * mr + r) * 4);
        FM_UNROLL for (int v = 0; v < nv; v++) {
            acc[r][v] = qt_dot(bits, acc[r][v], w[v], a);
        }
    }
}

/* Group g of a half of a block of fewer bits. */
FM_INLINE void qt_half_group(int bits, int g, int half, int mr, int nv, const uint8_t *quant, const uint8_t *high,
                             const int8_t *q, vi acc[][QT_NV]) {
    vi w[QT_NV];
    FM_UNROLL for (int v = 0; v < nv; v++) {
        const vi x = vi_load(quant + (g * FM_QP_COLS + v * VF_N) * 4);
        vi up = x;
        if (bits == 5) {
            up = vi_load(high + v * VF_N * 4);
        } else if (bits == 6) {
            up = vi_load(high + (half * FM_QP_COLS + v * VF_N) * 4);
        }
        w[v] = qt_unpack(bits, g, half, x, up);
    }
    FM_UNROLL for (int r = 0; r < mr; r++) {
        const vi a = vi_set1_quad(q + ((4 * half + g) * mr + r) * 4);
        FM_UNROLL for (int v = 0; v < nv; v++) {
            acc[r][v] = qt_dot(bits, acc[r][v], w[v], a);
        }
    }
}

/* Integer sums of half h (n_sub 2) or all of a block. */
FM_INLINE void qt_sums(bool ordered, int bits, int n_sub, int h, int mr, int nv, const uint8_t *quant,
                       const uint8_t *high, const int8_t *q, vi acc[][QT_NV]) {
    if (bits >= 7) {
        const int g0 = n_sub == 2 ? 4 * h : 0, g1 = n_sub == 2 ? g0 + 4 : 8;
        if (ordered) {
            QT_ROLLED for (int g = g0; g < g1; g++) {
                qt_group(bits, g, mr, nv, quant, q, acc);
            }
            return;
        }
        FM_UNROLL for (int g = g0; g < g1; g++) {
            qt_group(bits, g, mr, nv, quant, q, acc);
        }
        return;
    }
    const int h0 = n_sub == 2 ? h : 0, h1 = n_sub == 2 ? h + 1 : 2;
    if (ordered && bits == 4) {
        QT_ROLLED for (int g = 0; g < 4; g++) {
            FM_UNROLL for (int half = h0; half < h1; half++) {
                qt_half_group(bits, g, half, mr, nv, quant, high, q, acc);
            }
        }
        return;
    }
    FM_UNROLL for (int g = 0; g < 4; g++) {
        FM_UNROLL for (int half = h0; half < h1; half++) {
            qt_half_group(bits, g, half, mr, nv, quant, high, q, acc);
        }
        if (ordered) {
            QT_IN_ORDER();
        }
    }
}

FM_INLINE void qt_tile(int bits, fm_qp_scale scale, fm_qp_min min, bool init, const int mr, const int nv,
                       const qt_args *t) {
    const int per = fm_qp_per(scale), n_sub = scale == FM_QP_I8X2 || scale == FM_QP_F32X2 ? 2 : 1;
    const int64_t blocks = t->blocks, col0 = t->col0;
    const bool ordered = mr == 1 && !(bits == 4 && scale == FM_QP_U8); /* more rows: registers are short */
    const bool early = ordered && scale != FM_QP_NO_SCALE;
    qt_rows a = t->a;
    const uint8_t *at = t->panel;
    vf f[QT_MR][QT_NV];
    FM_UNROLL for (int r = 0; r < mr; r++) {
        FM_UNROLL for (int v = 0; v < nv; v++) {
            f[r][v] = vf_zero();
        }
    }
    for (int64_t kb = 0; kb < blocks;) {
        vf dv[QT_NV], mv[QT_NV];
        FM_UNROLL for (int v = 0; v < nv; v++) {
            dv[v] = per > 1 ? vx_load(FM_F16, at, col0 + v * VF_N) : vf_zero();
            mv[v] = per > 1 && min != FM_QP_NO_MIN ? vx_load(FM_F16, at, FM_QP_COLS + col0 + v * VF_N) : vf_zero();
        }
        at += fm_qp_head_bytes(scale, min);
        for (int u = 0; u < per; u++, kb++, at += fm_qp_block_bytes(bits, scale, min)) {
            const uint8_t *mins = at + fm_qp_scale_bytes(scale), *high = mins + fm_qp_min_bytes(min) + col0 * 4;
            const uint8_t *quant = high + fm_qp_high_bytes(bits);
            FM_UNROLL for (int h = 0; h < n_sub; h++) {
                vi acc[QT_MR][QT_NV];
                vf s[QT_NV];
                FM_UNROLL for (int v = 0; early && v < nv; v++) {
                    s[v] = qt_scale(scale, at, col0 + v * VF_N, h, dv[v]);
                }
                if (early) {
                    QT_IN_ORDER();
                }
                FM_UNROLL for (int r = 0; r < mr; r++) {
                    const vi begin = vi_set1(init ? a.init[h * mr + r] : 0);
                    FM_UNROLL for (int v = 0; v < nv; v++) {
                        acc[r][v] = begin;
                    }
                }
                qt_sums(ordered, bits, n_sub, h, mr, nv, quant, high, a.q, acc);
                FM_UNROLL for (int v = 0; !early && v < nv; v++) {
                    s[v] = scale == FM_QP_NO_SCALE ? vf_zero() : qt_scale(scale, at, col0 + v * VF_N, h, dv[v]);
                }
                FM_UNROLL for (int r = 0; r < mr; r++) {
                    const vf d = vf_set1(a.d[r]);
                    FM_UNROLL for (int v = 0; v < nv; v++) {
                        const vf p = vf_mul(vi_to_float(acc[r][v]), d);
                        f[r][v] = scale == FM_QP_NO_SCALE ? vf_add(f[r][v], p) : vf_fma(p, s[v], f[r][v]);
                    }
                }
            }
            if (min != FM_QP_NO_MIN) {
                vf m[QT_NV];
                FM_UNROLL for (int v = 0; v < nv; v++) {
                    m[v] = qt_min(min, mins, col0 + v * VF_N, mv[v]);
                }
                FM_UNROLL for (int r = 0; r < mr; r++) {
                    const vf ds = vf_set1(a.ds[r]);
                    FM_UNROLL for (int v = 0; v < nv; v++) {
                        f[r][v] = vf_fnma(ds, m[v], f[r][v]);
                    }
                }
                a.ds += mr;
            }
            a.q += FM_QP_BLOCK * mr;
            a.d += mr;
            a.init += init ? n_sub * mr : 0;
        }
    }
    FM_UNROLL for (int r = 0; r < mr; r++) {
        FM_UNROLL for (int v = 0; v < nv; v++) {
            vf_store(t->out + (r * nv + v) * VF_N, f[r][v]);
        }
    }
}

/* A panel with plain bytes and f32 factors: [blocks] of scales, minima, quants. */
FM_INLINE void qt_expand(int bits, fm_qp_scale scale, fm_qp_min min, int64_t blocks, const uint8_t *at, uint8_t *to) {
    const int per = fm_qp_per(scale), n_sub = scale == FM_QP_I8X2 ? 2 : 1;
    const int scale_bytes = scale == FM_QP_NO_SCALE ? 0 : 4 * n_sub * FM_QP_COLS;
    const int min_bytes = min == FM_QP_NO_MIN ? 0 : 4 * FM_QP_COLS;
    for (int64_t kb = 0; kb < blocks;) {
        const uint8_t *head = at;
        at += fm_qp_head_bytes(scale, min);
        for (int u = 0; u < per; u++, kb++, at += fm_qp_block_bytes(bits, scale, min)) {
            const uint8_t *mins = at + fm_qp_scale_bytes(scale), *high = mins + fm_qp_min_bytes(min);
            const uint8_t *quant = high + fm_qp_high_bytes(bits);
            uint8_t *quants = to + scale_bytes + min_bytes;
            for (int64_t c = 0; c < FM_QP_COLS; c += VF_N) {
                const vf d = per > 1 ? vx_load(FM_F16, head, c) : vf_zero();
                for (int h = 0; h < n_sub && scale != FM_QP_NO_SCALE; h++) {
                    vx_store(FM_F32, to, h * FM_QP_COLS + c, qt_scale(scale, at, c, h, d));
                }
                if (min != FM_QP_NO_MIN) {
                    const vf m = per > 1 ? vx_load(FM_F16, head, FM_QP_COLS + c) : vf_zero();
                    vx_store(FM_F32, to + scale_bytes, c, qt_min(min, mins, c, m));
                }
                for (int g = 0; g < (bits == 8 ? 8 : 4); g++) {
                    const vi x = vi_load(quant + (g * FM_QP_COLS + c) * 4);
                    if (bits == 8) {
                        vi_store(quants + (g * FM_QP_COLS + c) * 4, x);
                        continue;
                    }
                    for (int h = 0; h < 2; h++) {
                        vi up = x;
                        if (bits > 4) {
                            up = vi_load(high + ((bits == 6 ? h : 0) * FM_QP_COLS + c) * 4);
                        }
                        vi_store(quants + ((4 * h + g) * FM_QP_COLS + c) * 4, qt_unpack(bits, g, h, x, up));
                    }
                }
            }
            to = quants + 32 * FM_QP_COLS;
        }
    }
}

#endif
