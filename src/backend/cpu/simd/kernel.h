/* What the memory-bound kernels share: loads and stores by element type, splitting over threads, fixed-order sums.
 *
 * A kernel body is an FM_INLINE function with the element type as a constant argument; the row functions call it
 * with FM_F32 and FM_BF16, so each is compiled once per type. */
#ifndef FM_BACKEND_CPU_SIMD_KERNEL_H
#define FM_BACKEND_CPU_SIMD_KERNEL_H

#include "backend/cpu/simd/simd.h"
#include "backend/cpu/simd/vec.h"

#define FM_INLINE static inline __attribute__((always_inline))
/* Before a short loop over registers: all of its rounds in a row. */
#ifdef __clang__
#define FM_UNROLL _Pragma("unroll")
#else
#define FM_UNROLL _Pragma("GCC unroll 8")
#endif

/* Element i of p as f32: VF_N elements, or the first n of them. d is FM_F32, FM_BF16 or FM_F16. */
FM_INLINE vf vx_load(fm_dtype d, const void *p, int64_t i) {
    if (d == FM_BF16) {
        return vf_load_bf16((const fm_bf16 *)p + i);
    }
    return d == FM_F16 ? vf_load_f16((const uint16_t *)p + i) : vf_load((const float *)p + i);
}
FM_INLINE vf vx_loadn(fm_dtype d, const void *p, int64_t i, int n) {
    if (d == FM_BF16) {
        return vf_loadn_bf16((const fm_bf16 *)p + i, n);
    }
    return d == FM_F16 ? vf_loadn_f16((const uint16_t *)p + i, n) : vf_loadn((const float *)p + i, n);
}
FM_INLINE void vx_store(fm_dtype d, void *p, int64_t i, vf v) {
    if (d == FM_BF16) {
        vf_store_bf16((fm_bf16 *)p + i, v);
    } else if (d == FM_F16) {
        vf_store_f16((uint16_t *)p + i, v);
    } else {
        vf_store((float *)p + i, v);
    }
}
FM_INLINE void vx_storen(fm_dtype d, void *p, int64_t i, vf v, int n) {
    if (d == FM_BF16) {
        vf_storen_bf16((fm_bf16 *)p + i, v, n);
    } else if (d == FM_F16) {
        vf_storen_f16((uint16_t *)p + i, v, n);
    } else {
        vf_storen((float *)p + i, v, n);
    }
}
/* As vx_loadn and vx_storen; n == VF_N takes the unmasked form. */
FM_INLINE vf vx_get(fm_dtype d, const void *p, int64_t i, int n) {
    return n == VF_N ? vx_load(d, p, i) : vx_loadn(d, p, i, n);
}
FM_INLINE void vx_put(fm_dtype d, void *p, int64_t i, vf v, int n) {
    if (n == VF_N) {
        vx_store(d, p, i, v);
    } else {
        vx_storen(d, p, i, v, n);
    }
}
FM_INLINE float vx_scalar(fm_dtype d, const void *p, int64_t i) {
    if (d == FM_BF16) {
        return fm_bf16_to_f32(((const fm_bf16 *)p)[i]);
    }
    return d == FM_F16 ? fm_f16_to_f32(((const uint16_t *)p)[i]) : ((const float *)p)[i];
}
/* Address of element i. */
FM_INLINE void *vx_at(fm_dtype d, const void *p, int64_t i) {
    return (char *)(uintptr_t)p + i * (d == FM_F32 ? 4 : 2);
}

/* for (i = begin; i < end; i += VF_N) with n = number of valid lanes; the body is compiled twice, whole and tail. */
#define FM_VECTOR_LOOP(i, n, begin, end, ...)                                                                          \
    do {                                                                                                               \
        int64_t i = (begin);                                                                                           \
        for (int64_t fm_end_ = (end)-VF_N; i <= fm_end_; i += VF_N) {                                                  \
            const int n = VF_N;                                                                                        \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
        if (i < (end)) {                                                                                               \
            const int n = (int)((end)-i);                                                                              \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    } while (0)

/* result = sum over [0, dim): the body adds n lanes at i to `acc`. Four accumulators, because one would wait for its
 * own latency; which one an element goes to depends on i and dim alone. */
#define FM_ROW_SUM(result, dim, ...)                                                                                   \
    do {                                                                                                               \
        vf fm_s_[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};                                                    \
        int64_t i = 0;                                                                                                 \
        while (i + 4 * VF_N <= (dim)) {                                                                                \
            for (int fm_k_ = 0; fm_k_ < 4; fm_k_++) {                                                                  \
                const int n = VF_N;                                                                                    \
                vf acc = fm_s_[fm_k_];                                                                                 \
                __VA_ARGS__                                                                                            \
                fm_s_[fm_k_] = acc;                                                                                    \
                i += VF_N;                                                                                             \
            }                                                                                                          \
        }                                                                                                              \
        while (i < (dim)) {                                                                                            \
            const int n = (int)FM_MIN((int64_t)VF_N, (dim)-i);                                                         \
            vf acc = fm_s_[0];                                                                                         \
            __VA_ARGS__                                                                                                \
            fm_s_[0] = acc;                                                                                            \
            i += VF_N;                                                                                                 \
        }                                                                                                              \
        (result) = vf_hsum(vf_add(vf_add(fm_s_[0], fm_s_[1]), vf_add(fm_s_[2], fm_s_[3])));                            \
    } while (0)

/* Below this many bytes of traffic a hand-over to the pool costs more than it saves. */
#define FM_PAR_MIN_BYTES ((int64_t)1 << 17)

/* Pool to use for work that touches `bytes` of memory: NULL runs inline. */
static inline fm_pool *fm_par_pool(const fm_exec *x, int64_t bytes) {
    return bytes < FM_PAR_MIN_BYTES ? NULL : x->pool;
}
/* Runs fn over as many parts as there are threads. For results that do not depend on the split. */
static inline fm_status fm_par_split(const fm_exec *x, int64_t bytes, fm_part_fn fn, const void *arg) {
    fm_pool *pool = fm_par_pool(x, bytes);
    return fm_pool_run(pool, fm_pool_threads(pool), fn, (void *)(uintptr_t)arg);
}

/* Sums over rows: each chunk of FM_ROW_CHUNK rows is summed by itself and the chunks are added in order, so that the
 * result does not depend on the number of threads. */
#define FM_ROW_CHUNK 64
static inline int64_t fm_row_chunks(int64_t n_rows) {
    return (n_rows + FM_ROW_CHUNK - 1) / FM_ROW_CHUNK;
}

/* out[j] (+)= sum over c of parts[c * stride + j], j in [begin, end). */
FM_INLINE void fm_add_chunks(float *out, const float *parts, int64_t n_chunks, int64_t stride, int64_t begin,
                             int64_t end, bool acc) {
    FM_VECTOR_LOOP(j, n, begin, end, {
        vf sum = vf_zero();
        for (int64_t c = 0; c < n_chunks; c++) {
            sum = vf_add(sum, vx_get(FM_F32, parts, c * stride + j, n));
        }
        if (acc) {
            sum = vf_add(sum, vx_get(FM_F32, out, j, n));
        }
        vx_put(FM_F32, out, j, sum, n);
    });
}

/* The kernel of one type: name_run(FM_F32 or FM_BF16, x, args). */
#define FM_SIMD_ONE(name, args, suffix, dtype)                                                                         \
    static fm_status name##_##suffix(const fm_exec *x, const void *p) {                                                \
        return name##_run(dtype, x, (const args *)p);                                                                  \
    }
#define FM_SIMD_KERNEL(name, args)                                                                                     \
    FM_SIMD_ONE(name, args, f32, FM_F32)                                                                               \
    FM_SIMD_ONE(name, args, bf16, FM_BF16)
#define FM_SIMD_ROW(name, suffix, dtype)                                                                               \
    { FM_K_##name, dtype, name##_##suffix }
#define FM_SIMD_ROWS(name) FM_SIMD_ROW(name, f32, FM_F32), FM_SIMD_ROW(name, bf16, FM_BF16)
#define FM_SIMD_END                                                                                                    \
    { FM_KERNEL_COUNT, FM_DTYPE_COUNT, NULL }

#endif
