/* Packing of operands into the layouts the micro-kernels read. A unit is 32 bits: one f32 or a pair of
 * bf16 along k; an odd last element is paired with 0. */
#ifndef FM_BACKEND_CPU_SIMD_GEMM_PACK_H
#define FM_BACKEND_CPU_SIMD_GEMM_PACK_H

#include "backend/cpu/simd/vec.h"
#include "backend/cpu/simd/vec_tile.h"
#include "base/error.h"

static inline vf gemm_load_units(const char *p) {
    return vf_load((const float *)(const void *)p);
}
static inline void gemm_store_units(char *p, vf v) {
    vf_store((float *)(void *)p, v);
}

/* Operands stored along their columns are read in short runs of far apart rows, which hardware prefetch does
 * not follow: the runs this many rows ahead are asked for. A prefetch past the end of an operand does nothing. */
#define GEMM_PACK_AHEAD_ROWS 8

static inline void gemm_prefetch_run(const char *p, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch(p + i);
    }
}

/* VF_N rows of VF_N units (row stride row_bytes) to dst [units][...], dst_bytes between units; the first
 * n_units are written. */
static inline void gemm_transpose(const char *src, int64_t row_bytes, char *dst, int64_t dst_bytes, int n_units) {
    vf t[VF_N];
    for (int i = 0; i < VF_N; i++) {
        t[i] = gemm_load_units(src + i * row_bytes);
    }
    vf_transpose(t);
    if (n_units == VF_N) {
        for (int i = 0; i < VF_N; i++) {
            gemm_store_units(dst + i * dst_bytes, t[i]);
        }
        return;
    }
    char tmp[VF_N * VF_N * 4];
    for (int i = 0; i < VF_N; i++) {
        gemm_store_units(tmp + i * VF_N * 4, t[i]);
    }
    for (int i = 0; i < n_units; i++) {
        memcpy(dst + i * dst_bytes, tmp + i * VF_N * 4, VF_N * 4);
    }
}

/* Columns stored as rows (a weight [n,k]): src is [n_cols][k_bytes], row stride row_bytes. dst is
 * [ks][width] units, width a multiple of VF_N; columns from n_cols on become 0. */
static inline void gemm_pack_rows(const char *src, int64_t row_bytes, int64_t n_cols, int64_t k_bytes, int64_t ks,
                                  int64_t width, char *dst) {
    for (int64_t j = 0; j < width; j += VF_N) {
        const char *rows = src + j * row_bytes;
        for (int64_t u = 0; u < ks; u += VF_N) {
            char *out = dst + (u * width + j) * 4;
            const int n_units = (int)FM_MIN(ks - u, VF_N);
            const int64_t have = FM_MIN(k_bytes - u * 4, (int64_t)VF_N * 4);
            if (j + VF_N <= n_cols && have == VF_N * 4) {
                gemm_transpose(rows + u * 4, row_bytes, out, width * 4, n_units);
                continue;
            }
            char edge[VF_N * VF_N * 4] = {0};
            for (int64_t i = 0; i < VF_N && j + i < n_cols; i++) {
                memcpy(edge + i * VF_N * 4, rows + i * row_bytes + u * 4, (size_t)have);
            }
            gemm_transpose(edge, VF_N * 4, out, width * 4, n_units);
        }
    }
}

/* One unit row of n <= VF_N columns (others 0) from rows p0 and (bf16 only) p1 of an operand stored [k][columns]. */
static inline __attribute__((always_inline)) void gemm_put_units(bool bf16, char *dst, const char *p0, const char *p1,
                                                                 int n) {
    if (bf16) {
        const fm_bf16 *h0 = (const fm_bf16 *)(const void *)p0;
        const fm_bf16 *h1 = (const fm_bf16 *)(const void *)p1;
        vu_store(dst, n == VF_N ? vu_zip(h0, h1) : vu_zipn(h0, h1, n));
    } else {
        gemm_store_units(dst, n == VF_N ? gemm_load_units(p0) : vf_loadn((const float *)(const void *)p0, n));
    }
}

/* Columns stored as columns ([k,n]): src has n_k rows of n_cols, row stride row_bytes. dst as above. */
static inline __attribute__((always_inline)) void gemm_pack_cols_as(bool bf16, const char *src, int64_t row_bytes,
                                                                    int64_t n_cols, int64_t n_k, int64_t ks,
                                                                    int64_t width, const char *zeros, char *dst) {
    const int64_t es = bf16 ? 2 : 4, step = bf16 ? 2 : 1;
    for (int64_t u = 0; u < ks; u++) {
        const char *p0 = src + u * step * row_bytes;
        for (int64_t r = 0; r < step; r++) {
            gemm_prefetch_run(p0 + (GEMM_PACK_AHEAD_ROWS + r) * row_bytes, n_cols * es);
        }
        for (int64_t j = 0; j < width; j += VF_N) {
            const int n = (int)FM_MAX(FM_MIN(n_cols - j, VF_N), 0);
            const char *p1 = u * step + 1 < n_k ? p0 + row_bytes + j * es : zeros;
            gemm_put_units(bf16, dst + (u * width + j) * 4, p0 + j * es, p1, n);
        }
    }
}

/* A stored [k,m]: n_k rows of n_rows, to slivers of mr rows, each [ks][mr] units, `sliver` bytes apart. A
 * store may write up to VF_N units past a step: into later steps, written after, or into the gap between
 * slivers. */
static inline __attribute__((always_inline)) void gemm_pack_slivers_as(bool bf16, const char *src, int64_t row_bytes,
                                                                       int64_t n_rows, int64_t n_k, int64_t ks, int mr,
                                                                       int64_t sliver, const char *zeros, char *dst) {
    const int64_t es = bf16 ? 2 : 4, step = bf16 ? 2 : 1;
    for (int64_t u = 0; u < ks; u++) {
        const char *p0 = src + u * step * row_bytes;
        const bool pair = u * step + 1 < n_k;
        char *out = dst + u * mr * 4;
        for (int64_t r = 0; r < step; r++) {
            gemm_prefetch_run(p0 + (GEMM_PACK_AHEAD_ROWS + r) * row_bytes, n_rows * es);
        }
        for (int64_t i = 0; i < n_rows; i += mr, out += sliver) {
            for (int64_t e = 0; e < mr; e += VF_N) {
                const int64_t at = i + e;
                const int n = (int)FM_MAX(FM_MIN(n_rows - at, VF_N), 0);
                gemm_put_units(bf16, out + e * 4, p0 + at * es, pair ? p0 + row_bytes + at * es : zeros, n);
            }
        }
    }
}

#endif
