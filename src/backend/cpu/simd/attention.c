/* Attention kernels: which engine runs a call. */
#include "backend/cpu/simd/attention.h"

#include "backend/cpu/cpu.h"

/* The reference kernel, for what the tiles do not cover: lists of selected keys, caches of other types. */
static fm_status run_reference(const fm_exec *x, fm_kernel k, fm_dtype d, const void *args) {
    for (const fm_kernel_row *row = fm_ref_rows; row->fn != NULL; row++) {
        if (row->kernel == k && row->dtype == d) {
            return row->fn(x, args);
        }
    }
    FM_FAIL(FM_ERR_UNSUPPORTED, "%s on %s: no reference kernel", fm_kernel_name(k), fm_dtype_get(d)->name);
}

static bool tiles_cover(const fm_attention_args *f) {
    return f->selected == NULL && (f->kv.dtype == FM_F32 || f->kv.dtype == FM_BF16);
}

static fm_status fwd_f32(const fm_exec *x, const void *args) {
    const fm_attention_args *f = args;
    if (!tiles_cover(f)) {
        return run_reference(x, FM_K_attention_fwd, FM_F32, args);
    }
    return FM_SIMD_FN(attention_fwd_f32)(x, f, FM_F32);
}

static fm_status fwd_bf16(const fm_exec *x, const void *args) {
    const fm_attention_args *f = args;
    if (!tiles_cover(f)) {
        return run_reference(x, FM_K_attention_fwd, FM_BF16, args);
    }
#if FM_SIMD_avx512
    if (f->kv.dtype == FM_BF16) {
        return FM_SIMD_FN(attention_fwd_bf16)(x, f, FM_BF16);
    }
#endif
    return FM_SIMD_FN(attention_fwd_f32)(x, f, FM_BF16);
}

static fm_status bwd_f32(const fm_exec *x, const void *args) {
    const fm_attention_bwd_args *b = args;
    if (!tiles_cover(&b->f)) {
        return run_reference(x, FM_K_attention_bwd, FM_F32, args);
    }
    return FM_SIMD_FN(attention_bwd_f32)(x, b, FM_F32);
}

static fm_status bwd_bf16(const fm_exec *x, const void *args) {
    const fm_attention_bwd_args *b = args;
    if (!tiles_cover(&b->f)) {
        return run_reference(x, FM_K_attention_bwd, FM_BF16, args);
    }
#if FM_SIMD_avx512
    return FM_SIMD_FN(attention_bwd_bf16)(x, b, FM_BF16);
#else
    return FM_SIMD_FN(attention_bwd_f32)(x, b, FM_BF16);
#endif
}

extern const fm_kernel_row FM_SIMD_FN(attention_rows)[];
const fm_kernel_row FM_SIMD_FN(attention_rows)[] = {
    {FM_K_attention_fwd, FM_F32, fwd_f32}, {FM_K_attention_fwd, FM_BF16, fwd_bf16},
    {FM_K_attention_bwd, FM_F32, bwd_f32}, {FM_K_attention_bwd, FM_BF16, bwd_bf16},
    {FM_K_attention_fwd, FM_F32, NULL},
};
