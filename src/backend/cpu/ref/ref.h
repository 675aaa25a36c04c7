/* Reference kernels: the definition of every kernel. Elements are loaded as f64, all arithmetic is in f64, and
 * results are rounded once when they are stored. One thread, no tricks. */
#ifndef FM_BACKEND_CPU_REF_REF_H
#define FM_BACKEND_CPU_REF_REF_H

#include "backend/backend.h"
#include "base/error.h"

#define FM_X(name, args)                                                                                               \
    fm_status fm_ref_##name##_f64(const fm_exec *x, const void *p);                                                    \
    fm_status fm_ref_##name##_f32(const fm_exec *x, const void *p);                                                    \
    fm_status fm_ref_##name##_bf16(const fm_exec *x, const void *p);                                                   \
    fm_status fm_ref_##name##_f16(const fm_exec *x, const void *p);
FM_KERNEL_LIST(FM_X)
#undef FM_X
fm_status fm_ref_cast_e4m3(const fm_exec *x, const void *p);
fm_status fm_ref_cast_e5m2(const fm_exec *x, const void *p);

/* From `static fm_status name_any(fm_dtype d, const fm_exec *x, const <args> *a)`: the function of one dtype. */
#define FM_REF_ONE(name, args, suffix, dtype)                                                                          \
    fm_status fm_ref_##name##_##suffix(const fm_exec *x, const void *p) {                                              \
        return name##_any(dtype, x, (const args *)p);                                                                  \
    }
#define FM_REF_KERNEL(name, args)                                                                                      \
    FM_REF_ONE(name, args, f64, FM_F64)                                                                                \
    FM_REF_ONE(name, args, f32, FM_F32)                                                                                \
    FM_REF_ONE(name, args, bf16, FM_BF16)                                                                              \
    FM_REF_ONE(name, args, f16, FM_F16)

#define FM_LD fm_load_as_f64
/* p[i] = v, or p[i] += v */
static inline void fm_ref_put(fm_dtype d, void *p, int64_t i, double v, bool acc) {
    fm_store_from_f64(d, p, i, acc ? fm_load_as_f64(d, p, i) + v : v);
}

/* Key row r of segment s, counted in rows of the whole k and v. */
static inline int64_t fm_ref_kv_row(const fm_kv_view *kv, int64_t s, int64_t r) {
    if (kv->block_table) {
        return (int64_t)kv->block_table[s * kv->max_blocks + r / kv->block_tokens] * kv->block_tokens +
               r % kv->block_tokens;
    }
    return kv->kv_offsets[s] + r;
}

double fm_ref_act(fm_act act, double x);
double fm_ref_act_grad(fm_act act, double x);

#endif
