/* What the micro-kernels of gemm_tile.h share: their argument and how they write C. */
#ifndef FM_BACKEND_CPU_SIMD_GEMM_TILE_TYPES_H
#define FM_BACKEND_CPU_SIMD_GEMM_TILE_TYPES_H

#include "backend/cpu/simd/vec.h"

/* Bytes of the panel asked for ahead of use: far enough to cover a miss of the first-level cache. */
#define GEMM_AHEAD 1024

/* One tile over one block of k: sum = A B over ks units; v = sum [+ add] [+ bias]; C = v.
 * A unit is 32 bits: one f32 or two bf16 along k. */
typedef struct gemm_tile {
    int64_t ks;
    const char *a; /* unit 0 of row 0; rows a_row bytes apart, units a_step bytes apart */
    int64_t a_row, a_step;
    const char *b;    /* [ks][nv * VF_N] units */
    const float *add; /* [rows][cols] f32, row stride add_ld, or NULL; may be c */
    int64_t add_ld;
    const char *bias; /* [cols] f32 or bf16 as the inputs, or NULL */
    char *c;          /* [rows][cols] f32 or bf16, row stride ldc elements */
    int64_t ldc;
    int cols; /* valid columns: more than (nv-1) * VF_N, at most nv * VF_N */
    bool c_bf16;
} gemm_tile;
typedef void (*gemm_tile_fn)(const gemm_tile *t);

static inline vf gemm_set1(const char *p) {
    float f;
    memcpy(&f, p, sizeof f);
    return vf_set1(f);
}

static inline __attribute__((always_inline)) void gemm_prefetch_b(const char *p, int nv) {
    for (int i = 0; i < nv * VF_N * 4; i += 64) {
        __builtin_prefetch(p + i);
    }
}

/* Asks for the tile of C, which is needed when the sums are done. */
static inline __attribute__((always_inline)) void gemm_prefetch_c(const gemm_tile *t, int mr) {
    const int64_t es = t->c_bf16 ? 2 : 4;
    for (int i = 0; i < mr; i++) {
        const char *row = t->c + i * t->ldc * es;
        for (int64_t j = 0; j < t->cols * es; j += 64) {
            __builtin_prefetch(row + j, 1);
        }
    }
}

/* Bias of n columns as f32. */
static inline vf gemm_bias(const char *p, bool bf16, int n) {
    return bf16 ? vf_loadn_bf16((const fm_bf16 *)(const void *)p, n) : vf_loadn((const float *)(const void *)p, n);
}

static inline __attribute__((always_inline)) void gemm_finish_vec(const gemm_tile *t, int row, int v, int n,
                                                                  bool in_bf16, vf c) {
    const int j = v * VF_N;
    if (t->add) {
        const float *p = t->add + row * t->add_ld + j;
        c = vf_add(n == VF_N ? vf_load(p) : vf_loadn(p, n), c);
    }
    if (t->bias) {
        c = vf_add(c, gemm_bias(t->bias + (in_bf16 ? 2 : 4) * j, in_bf16, n));
    }
    if (t->c_bf16) {
        fm_bf16 *p = (fm_bf16 *)(void *)t->c + row * t->ldc + j;
        if (n == VF_N) {
            vf_store_bf16(p, c);
        } else {
            vf_storen_bf16(p, c, n);
        }
    } else {
        float *p = (float *)(void *)t->c + row * t->ldc + j;
        if (n == VF_N) {
            vf_store(p, c);
        } else {
            vf_storen(p, c, n);
        }
    }
}

/* Writes one row of the tile. Plain stores of full tiles take the short way. */
static inline __attribute__((always_inline)) void gemm_finish(const gemm_tile *t, int row, int nv, bool in_bf16, vf c0,
                                                              vf c1, vf c2, vf c3) {
    const int last = t->cols - (nv - 1) * VF_N;
    gemm_finish_vec(t, row, 0, nv > 1 ? VF_N : last, in_bf16, c0);
    if (nv > 1) {
        gemm_finish_vec(t, row, 1, nv > 2 ? VF_N : last, in_bf16, c1);
    }
    if (nv > 2) {
        gemm_finish_vec(t, row, 2, nv > 3 ? VF_N : last, in_bf16, c2);
    }
    if (nv > 3) {
        gemm_finish_vec(t, row, 3, last, in_bf16, c3);
    }
}

#endif
