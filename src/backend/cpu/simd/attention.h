/* What the attention sources share: shapes of tiles, visibility, row addresses, scratch carving.
 *
 * Both directions work on "rows": the queries of one segment that read one kv head, position-major, so that
 * row r is position r / group of head kv_head * group + r % group. Rows see keys [lo, hi), and both borders
 * never fall as r grows. Keys come in tiles of ATT_KT counted from key 0 of the segment.
 *
 * Why a row has the same bits in decode, prefill and training: each score is one chain of products over the
 * head dimension; each output is one chain over the keys from key 0, interrupted at tile borders only by the
 * rescaling of the online softmax; keys that are not visible enter as an exact 0. None of this
 * depends on how many rows are in flight. */
#ifndef FM_BACKEND_CPU_SIMD_ATTENTION_H
#define FM_BACKEND_CPU_SIMD_ATTENTION_H

#include <string.h>

#include "backend/cpu/simd/simd.h"

#define ATT_KT 64 /* keys in a tile */
#define ATT_MR 6  /* rows of the micro-kernel */

/* Products of one element below which waking the pool costs more than it saves. */
#define ATT_INLINE_WORK 262144.0

/* The engines: tiles of f32 (sources f32 or bf16, converted while packing) and of bf16 pairs. */
fm_status FM_SIMD_FN(attention_fwd_f32)(const fm_exec *x, const fm_attention_args *f, fm_dtype d);
fm_status FM_SIMD_FN(attention_bwd_f32)(const fm_exec *x, const fm_attention_bwd_args *b, fm_dtype d);
#if FM_SIMD_avx512
fm_status FM_SIMD_FN(attention_fwd_bf16)(const fm_exec *x, const fm_attention_args *f, fm_dtype d);
fm_status FM_SIMD_FN(attention_bwd_bf16)(const fm_exec *x, const fm_attention_bwd_args *b, fm_dtype d);
#endif

static inline int64_t att_round_up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}
static inline int64_t att_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t att_max(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Heads of one kv head lie a whole token apart: too far for the hardware to see the pattern. */
static inline void att_prefetch(const void *p, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch((const char *)p + i);
    }
    __builtin_prefetch((const char *)p + bytes - 1);
}

/* Takes `bytes` from a block, keeping 64-byte alignment. With base NULL only the size is counted. */
typedef struct att_carver {
    char *base;
    int64_t used;
} att_carver;
static inline void *att_carve(att_carver *c, int64_t bytes) {
    int64_t at = c->used;
    c->used += att_round_up(bytes, 64);
    return c->base == NULL ? NULL : c->base + at;
}

/* One segment seen from one kv head. */
typedef struct att_seg {
    const fm_attention_args *f;
    int32_t s, kv_head, group;
    int64_t nq, nk, q0; /* q0: first row of q */
} att_seg;

static inline att_seg att_seg_at(const fm_attention_args *f, int32_t s, int32_t kv_head) {
    att_seg g = {f, s, kv_head, f->n_heads / f->n_kv_heads, 0, 0, 0};
    g.q0 = f->q_offsets[s];
    g.nq = f->q_offsets[s + 1] - g.q0;
    g.nk = f->kv.kv_offsets[s + 1] - f->kv.kv_offsets[s];
    return g;
}
static inline int64_t att_n_rows(const att_seg *g) {
    return g->nq * g->group;
}
/* Index of (token, head) of row r in a [n_tokens,n_heads] array. */
static inline int64_t att_row_index(const att_seg *g, int64_t r) {
    return (g->q0 + r / g->group) * g->f->n_heads + (int64_t)g->kv_head * g->group + r % g->group;
}
static inline int32_t att_row_head(const att_seg *g, int64_t r) {
    return g->kv_head * g->group + (int32_t)(r % g->group);
}
static inline int64_t att_row_pos(const att_seg *g, int64_t r) {
    return g->nk - g->nq + r / g->group;
}
static inline int64_t att_row_hi(const att_seg *g, int64_t r) {
    return g->f->mask == FM_MASK_CAUSAL ? att_max(0, att_min(g->nk, att_row_pos(g, r) + 1)) : g->nk;
}
static inline int64_t att_row_lo(const att_seg *g, int64_t r) {
    return g->f->window > 0 ? att_max(0, att_row_pos(g, r) - g->f->window + 1) : 0;
}
/* Row of the key/value arrays that holds key j of the segment. */
static inline int64_t att_kv_row(const att_seg *g, int64_t j) {
    const fm_kv_view *kv = &g->f->kv;
    if (kv->block_table == NULL) {
        return kv->kv_offsets[g->s] + j;
    }
    int64_t block = kv->block_table[(int64_t)g->s * kv->max_blocks + j / kv->block_tokens];
    return block * kv->block_tokens + j % kv->block_tokens;
}

static inline int64_t att_elem_bytes(fm_dtype d) {
    return d == FM_Q8_0 ? 1 : d == FM_BF16 ? 2 : 4; /* of blocks about, for prefetching */
}
/* Of blocks the one that begins with element i. */
static inline const void *att_elem(const void *base, fm_dtype d, int64_t i) {
    if (d == FM_Q8_0) {
        return (const char *)base + i / 32 * 34;
    }
    return (const char *)base + i * att_elem_bytes(d);
}
static inline const void *att_k_row(const att_seg *g, int64_t j) {
    const fm_attention_args *f = g->f;
    return att_elem(f->kv.k, f->kv.dtype, att_kv_row(g, j) * f->kv.k_stride + (int64_t)g->kv_head * f->head_dim);
}
static inline const void *att_v_row(const att_seg *g, int64_t j) {
    const fm_attention_args *f = g->f;
    return att_elem(f->kv.v, f->kv.dtype, att_kv_row(g, j) * f->kv.v_stride + (int64_t)g->kv_head * f->v_dim);
}
/* n rows of q8_0 blocks as numbers: x [n,dim], and src becomes its rows. */
static inline void att_expand(float *x, const void **src, int64_t n, int64_t dim) {
    for (int64_t j = 0; j < n; j++) {
        const uint8_t *b = src[j];
        float *row = x + j * dim;
        for (int64_t i = 0; i < dim; i += 32, b += 34) {
            const int8_t *q = (const int8_t *)b + 2;
            uint16_t h;
            memcpy(&h, b, sizeof h);
            float scale = fm_f16_to_f32(h);
            for (int k = 0; k < 32; k++) {
                row[i + k] = scale * (float)q[k];
            }
        }
        src[j] = row;
    }
}
/* Keys [begin, end) of one kv head. */
static inline void att_prefetch_keys(const att_seg *g, int64_t begin, int64_t end) {
    int64_t es = att_elem_bytes(g->f->kv.dtype);
    for (int64_t j = begin; j < end; j++) {
        att_prefetch(att_k_row(g, j), g->f->head_dim * es);
        att_prefetch(att_v_row(g, j), g->f->v_dim * es);
    }
}

/* Walks over the keys and values that will be needed next, for a range of kv heads, one cache line at a step. Packing
 * takes a step for each line it reads: a burst would fill the queue of misses and stall. Into L2: twice as fast as into
 * L1 in decode, which then reads memory at full speed. */
typedef struct att_ahead {
    att_seg g; /* kv_head: the first of the range */
    int64_t key, end;
    int64_t k_bytes, v_bytes; /* of all heads of the range */
    bool in_v;
    uintptr_t at, stop; /* addresses, as a step may pass the end of a row */
} att_ahead;

static inline void att_ahead_row(att_ahead *a) {
    if (a->key < a->end) {
        a->at = (uintptr_t)(a->in_v ? att_v_row(&a->g, a->key) : att_k_row(&a->g, a->key));
        a->stop = a->at + (uintptr_t)(a->in_v ? a->v_bytes : a->k_bytes);
    } else {
        a->at = a->stop = 0;
    }
}
static inline att_ahead att_ahead_begin(const att_seg *g, int32_t n_heads, int64_t key, int64_t end) {
    int64_t es = att_elem_bytes(g->f->kv.dtype) * n_heads;
    att_ahead a = {*g, key, end, g->f->head_dim * es, g->f->v_dim * es, false, 0, 0};
    att_ahead_row(&a);
    return a;
}
static inline void att_ahead_step(att_ahead *a) {
    __builtin_prefetch((const void *)a->at, 0, 2);
    a->at += 64;
    if (a->at >= a->stop) {
        a->key += a->in_v;
        a->in_v = !a->in_v;
        att_ahead_row(a);
    }
}

#endif
