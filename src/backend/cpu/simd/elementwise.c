/* Element by element: sums, products, fills, casts, dropout. */
#include "backend/cpu/ref/ref.h"
#include "backend/cpu/simd/kernel.h"

typedef struct ew_job {
    fm_dtype d;
    const void *args;
    int64_t n;
} ew_job;

FM_INLINE void add_range(fm_dtype d, const fm_binary_args *a, int64_t begin, int64_t end) {
    FM_VECTOR_LOOP(i, n, begin, end, vx_put(d, a->y, i, vf_add(vx_get(d, a->a, i, n), vx_get(d, a->b, i, n)), n););
}

FM_INLINE void mul_range(fm_dtype d, const fm_binary_args *a, int64_t begin, int64_t end) {
    FM_VECTOR_LOOP(i, n, begin, end, vx_put(d, a->y, i, vf_mul(vx_get(d, a->a, i, n), vx_get(d, a->b, i, n)), n););
}

FM_INLINE void axpby_range(fm_dtype d, const fm_axpby_args *a, int64_t begin, int64_t end) {
    vf alpha = vf_set1((float)a->alpha), beta = vf_set1((float)a->beta);
    bool read_y = a->beta != 0.0;
    FM_VECTOR_LOOP(i, n, begin, end, {
        vf x = vx_get(d, a->x, i, n);
        vf v = read_y ? vf_fma(alpha, x, vf_mul(beta, vx_get(d, a->y, i, n))) : vf_mul(alpha, x);
        vx_put(d, a->y, i, v, n);
    });
}

FM_INLINE void fill_range(fm_dtype d, const fm_fill_args *a, int64_t begin, int64_t end) {
    vf v = vf_set1((float)a->value);
    FM_VECTOR_LOOP(i, n, begin, end, vx_put(d, a->y, i, v, n););
}

FM_INLINE void cast_range_to(fm_dtype d, fm_dtype to, const fm_cast_args *a, int64_t begin, int64_t end) {
    FM_VECTOR_LOOP(i, n, begin, end, {
        vf v = vx_get(d, a->x, i, n);
        vx_put(to, a->y, i, a->acc_y ? vf_add(v, vx_get(to, a->y, i, n)) : v, n);
    });
}

FM_INLINE void cast_range(fm_dtype d, const fm_cast_args *a, int64_t begin, int64_t end) {
    if (a->to == FM_F32) {
        cast_range_to(d, FM_F32, a, begin, end);
    } else if (a->to == FM_BF16) {
        cast_range_to(d, FM_BF16, a, begin, end);
    } else {
        cast_range_to(d, FM_F16, a, begin, end);
    }
}

/* VF_N blocks of Philox4x32-10 from counter `first` on (see rng.c): w[0..3] hold their 4 * VF_N words in order.
 * Lane 4g+k computes block k * VF_N/4 + g, which makes the words of a vector neighbours after the transposition. */
FM_INLINE void philox(fm_rng_key key, uint64_t first, vi w[4]) {
    uint32_t low[VF_N], high[VF_N];
    for (unsigned i = 0; i < VF_N; i++) {
        uint64_t counter = first + (i % 4) * (VF_N / 4) + i / 4;
        low[i] = (uint32_t)counter;
        high[i] = (uint32_t)(counter >> 32);
    }
    const vi m0 = vi_set1((int32_t)0xD2511F53u), m1 = vi_set1((int32_t)0xCD9E8D57u);
    vi c0 = vi_load(low), c1 = vi_load(high);
    vi c2 = vi_set1((int32_t)key.stream), c3 = vi_set1((int32_t)key.step);
    uint32_t k0 = (uint32_t)key.seed, k1 = (uint32_t)(key.seed >> 32);
    for (int round = 0; round < 10; round++) {
        vi hi0, lo0, hi1, lo1;
        vi_mul_wide(c0, m0, &hi0, &lo0);
        vi_mul_wide(c2, m1, &hi1, &lo1);
        c0 = vi_xor(vi_xor(hi1, c1), vi_set1((int32_t)k0));
        c1 = lo1;
        c2 = vi_xor(vi_xor(hi0, c3), vi_set1((int32_t)k1));
        c3 = lo0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    w[0] = c0;
    w[1] = c1;
    w[2] = c2;
    w[3] = c3;
    vi_transpose4(w);
}

/* factor[i] = 0 or scale for 4 * VF_N elements from word 4 * block on. */
FM_INLINE void dropout_factors(fm_rng_key key, uint64_t block, vi limit, vf scale, float *factor) {
    vi w[4];
    philox(key, block, w);
    for (int k = 0; k < 4; k++) {
        vf_store(factor + k * VF_N, vf_select(vi_ge_u32(w[k], limit), scale, vf_zero()));
    }
}

/* Element i is word `index` of the stream; ranges start anywhere, so the first and the last group may be partial. */
FM_INLINE void dropout_range(fm_dtype d, const fm_dropout_args *a, int64_t begin, int64_t end) {
    double limit = ceil(a->p * 4294967296.0);
    bool none = limit > 4294967295.0; /* p = 1 keeps nothing */
    vi limit32 = vi_set1((int32_t)(none ? 0u : (uint32_t)limit));
    vf scale = vf_set1(none ? 0.0F : (float)(1.0 / (1.0 - a->p)));
    float factor[4 * VF_N];
    uint64_t base = a->first_token * (uint64_t)a->dim;
    int64_t i = begin;
    while (i < end) {
        uint64_t index = base + (uint64_t)i;
        int64_t skip = (int64_t)(index % 4), stop = FM_MIN(end, i + 4 * VF_N - skip);
        dropout_factors(a->key, index / 4, limit32, scale, factor);
        const float *f = factor + skip - i;
        FM_VECTOR_LOOP(j, n, i, stop, {
            vf keep = vf_loadn(f + j, n);
            vf v = vf_mul(vx_get(d, a->x, j, n), keep);
            v = vf_select(vf_lt(vf_zero(), keep), v, vf_zero()); /* a dropped infinity is 0 too */
            vx_put(d, a->y, j, a->acc_y ? vf_add(v, vx_get(d, a->y, j, n)) : v, n);
        });
        i = stop;
    }
}

#define EW_PART(name, args_type)                                                                                       \
    static fm_status name##_part(void *arg, int64_t part, int64_t n_parts, int thread) {                               \
        FM_UNUSED(thread);                                                                                             \
        const ew_job *j = arg;                                                                                         \
        int64_t begin, end;                                                                                            \
        fm_split(j->n, part, n_parts, 64, &begin, &end);                                                               \
        if (j->d == FM_BF16) {                                                                                         \
            name##_range(FM_BF16, (const args_type *)j->args, begin, end);                                             \
        } else if (j->d == FM_F16) {                                                                                   \
            name##_range(FM_F16, (const args_type *)j->args, begin, end);                                              \
        } else {                                                                                                       \
            name##_range(FM_F32, (const args_type *)j->args, begin, end);                                              \
        }                                                                                                              \
        return FM_OK;                                                                                                  \
    }
#define EW_KERNEL(name, args_type, count, arrays)                                                                      \
    EW_PART(name, args_type)                                                                                           \
    FM_INLINE fm_status name##_run(fm_dtype d, const fm_exec *x, const args_type *a) {                                 \
        ew_job job = {d, a, count};                                                                                    \
        return fm_par_split(x, job.n * (arrays) * (d == FM_F32 ? 4 : 2), name##_part, &job);                           \
    }                                                                                                                  \
    FM_SIMD_KERNEL(name, args_type)                                                                                    \
    FM_SIMD_ONE(name, args_type, f16, FM_F16)

EW_KERNEL(add, fm_binary_args, a->n, 3)
EW_KERNEL(mul, fm_binary_args, a->n, 3)
EW_KERNEL(axpby, fm_axpby_args, a->n, 3)
EW_KERNEL(fill, fm_fill_args, a->n, 1)
EW_KERNEL(dropout, fm_dropout_args, a->n_tokens * a->dim, 3)

EW_PART(cast, fm_cast_args)

static fm_status cast_any(fm_dtype d, fm_kernel_fn ref, const fm_exec *x, const fm_cast_args *a) {
    if (a->to != FM_F32 && a->to != FM_BF16 && a->to != FM_F16) {
        return ref(x, a);
    }
    ew_job job = {d, a, a->n};
    return fm_par_split(x, a->n * 6, cast_part, &job);
}
static fm_status cast_f32(const fm_exec *x, const void *p) {
    return cast_any(FM_F32, fm_ref_cast_f32, x, p);
}
static fm_status cast_bf16(const fm_exec *x, const void *p) {
    return cast_any(FM_BF16, fm_ref_cast_bf16, x, p);
}
static fm_status cast_f16(const fm_exec *x, const void *p) {
    return cast_any(FM_F16, fm_ref_cast_f16, x, p);
}

#define ROWS3(name) FM_SIMD_ROWS(name), FM_SIMD_ROW(name, f16, FM_F16)

extern const fm_kernel_row FM_SIMD_FN(elementwise_rows)[];
const fm_kernel_row FM_SIMD_FN(elementwise_rows)[] = {ROWS3(add),  ROWS3(mul),     ROWS3(axpby), ROWS3(fill),
                                                      ROWS3(cast), ROWS3(dropout), FM_SIMD_END};
