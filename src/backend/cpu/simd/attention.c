/* Attention kernels: which engine runs a call. */
#include "backend/cpu/simd/attention.h"

#include "backend/cpu/cpu.h"

/* The reference kernel, for what the tiles do not cover: caches of other types, position biases of selected keys. */
static fm_status run_reference(const fm_exec *x, fm_kernel k, fm_dtype d, const void *args) {
    for (const fm_kernel_row *row = fm_ref_rows; row->fn != NULL; row++) {
        if (row->kernel == k && row->dtype == d) {
            return row->fn(x, args);
        }
    }
    FM_FAIL(FM_ERR_UNSUPPORTED, "%s on %s: no reference kernel", fm_kernel_name(k), fm_dtype_get(d)->name);
}

static bool tiles_cover(const fm_attention_args *f) {
    bool blocks = f->kv.dtype == FM_Q8_0 && f->head_dim % 32 == 0 && f->v_dim % 32 == 0 && f->kv.k_stride % 32 == 0 &&
                  f->kv.v_stride % 32 == 0;
    return (f->selected == NULL || f->alibi == NULL) && (f->kv.dtype == FM_F32 || f->kv.dtype == FM_BF16 || blocks);
}

/* Lists of keys are pages of one token: each query becomes a segment of its own, whose table has the keys that it
 * sees. Keys keep their order, so a list of all keys gives the bits of none. */
static fm_status spread_selected(const fm_exec *x, const fm_attention_args *f, fm_attention_args *out) {
    int64_t tokens = f->n_segments > 0 ? f->q_offsets[f->n_segments] : 0, width = f->max_selected;
    if (tokens * width > INT32_MAX) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "attention: %lld queries with %lld keys each are too many for one call",
                (long long)tokens, (long long)width);
    }
    int32_t *block = fm_scratch_take(x, (2 * (tokens + 1) + tokens * width) * (int64_t)sizeof *block);
    if (block == NULL) {
        FM_FAIL(FM_ERR_NO_MEMORY, "attention: no memory for the lists of %lld queries", (long long)tokens);
    }
    int32_t *q_offsets = block, *kv_offsets = block + tokens + 1, *table = kv_offsets + tokens + 1;
    q_offsets[0] = kv_offsets[0] = 0;
    for (int32_t s = 0; s < f->n_segments; s++) {
        att_seg g = att_seg_at(f, s, 0);
        for (int64_t i = 0; i < g.nq; i++) {
            int64_t t = g.q0 + i, r = i * g.group, lo = att_row_lo(&g, r), hi = att_row_hi(&g, r);
            const int32_t *list = f->selected + t * width;
            int32_t n = 0;
            for (int64_t k = 0; k < width && list[k] >= 0; k++) {
                if (list[k] >= lo && list[k] < hi) {
                    table[t * width + n++] = (int32_t)att_kv_row(&g, list[k]);
                }
            }
            q_offsets[t + 1] = (int32_t)t + 1;
            kv_offsets[t + 1] = kv_offsets[t] + n;
        }
    }
    *out = *f;
    out->n_segments = (int32_t)tokens;
    out->q_offsets = q_offsets;
    out->kv.kv_offsets = kv_offsets;
    out->kv.block_table = table;
    out->kv.block_tokens = 1;
    out->kv.max_blocks = (int32_t)width;
    out->mask = FM_MASK_FULL;
    out->window = 0;
    out->selected = NULL;
    return FM_OK;
}

static fm_status fwd_f32(const fm_exec *x, const void *args) {
    const fm_attention_args *f = args;
    if (!tiles_cover(f)) {
        return run_reference(x, FM_K_attention_fwd, FM_F32, args);
    }
    fm_attention_args spread;
    if (f->selected != NULL) {
        FM_TRY(spread_selected(x, f, &spread));
        f = &spread;
    }
    return FM_SIMD_FN(attention_fwd_f32)(x, f, FM_F32);
}

static fm_status fwd_bf16(const fm_exec *x, const void *args) {
    const fm_attention_args *f = args;
    if (!tiles_cover(f)) {
        return run_reference(x, FM_K_attention_fwd, FM_BF16, args);
    }
    fm_attention_args spread;
    if (f->selected != NULL) {
        FM_TRY(spread_selected(x, f, &spread));
        f = &spread;
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
