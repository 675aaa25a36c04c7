/* Which element type each tensor of a GGUF file gets: llama.cpp's rules (src/llama-quant.cpp,
 * tensor_allows_quantization and llama_tensor_get_type, without an importance matrix), so that a file has the mixture
 * its name promises. */
#include <stdio.h>
#include <string.h>

#include "model/gguf.h"

static const fm_gguf_file_type file_types[] = {
    {"f32", FM_F32, false, 0},     {"f16", FM_F16, false, 1},   {"bf16", FM_BF16, false, 32},
    {"q8_0", FM_Q8_0, false, 7},   {"q4_0", FM_Q4_0, false, 2}, {"q6_k", FM_Q6_K, false, 18},
    {"q4_k_m", FM_Q4_K, true, 15},
};
const char fm_gguf_file_type_names[] = "f32, f16, bf16, q8_0, q4_0, q4_k_m, q6_k";

const fm_gguf_file_type *fm_gguf_file_type_find(const char *name) {
    for (size_t i = 0; i < FM_ARRAY_LEN(file_types); i++) {
        if (strcmp(file_types[i].name, name) == 0) {
            return &file_types[i];
        }
    }
    return NULL;
}

static bool has(const char *name, const char *part) {
    return strstr(name, part) != NULL;
}

bool fm_gguf_counts_as_v(const char *name) {
    return has(name, "attn_v.weight") || has(name, "attn_qkv.weight") || has(name, "attn_kv_b.weight");
}

/* Small or sensitive: f32 in every file. */
static bool stays_f32(const char *name, int n_dims) {
    size_t n = strlen(name);
    return n_dims < 2 || n < 6 || strcmp(name + n - 6, "weight") != 0 || has(name, "_norm.weight") ||
           has(name, "ffn_gate_inp.weight") || strcmp(name, "position_embd.weight") == 0 ||
           strcmp(name, "token_types.weight") == 0 || strcmp(name, "rope_freqs.weight") == 0;
}

/* The first and last eighth of the layers, and every third between. */
static bool more_bits(int32_t i, int32_t n) {
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

/* By what the tensor does in the model. */
static fm_dtype by_role(fm_gguf_mix *m, const char *name) {
    bool eight_experts = m->n_experts == 8; /* Mixtral: the attention is a small part, so it gets more */
    fm_dtype d = m->base;
    if (fm_gguf_counts_as_v(name)) {
        d = m->k_m && more_bits(m->i_v, m->n_v) ? FM_Q6_K : d;
        d = m->is_70b && d == FM_Q4_K ? FM_Q5_K : d;
        m->i_v++;
        return eight_experts ? FM_Q8_0 : d;
    }
    if (has(name, "attn_k.weight")) {
        return eight_experts ? FM_Q8_0 : d;
    }
    if (has(name, "attn_output.weight")) {
        return m->k_m && eight_experts ? FM_Q5_K : d;
    }
    if (m->k_m && has(name, "ffn_down")) {
        int layer = m->i_down++;
        if (m->n_experts > 1) {
            (void)sscanf(name, "blk.%d.", &layer);
        }
        return more_bits(layer, m->n_layers) ? FM_Q6_K : d;
    }
    return d;
}

/* The largest type that fits rows of `cols` elements. */
static fm_dtype fit(fm_gguf_mix *m, fm_dtype d, int64_t cols) {
    if (cols % fm_dtype_get(d)->block == 0) {
        return d;
    }
    m->n_fallback++;
    fm_dtype small = d == FM_Q4_K ? FM_Q5_0 : d == FM_Q5_K ? FM_Q5_1 : d == FM_Q6_K ? FM_Q8_0 : d;
    return cols % fm_dtype_get(small)->block == 0 ? small : FM_F16;
}

fm_dtype fm_gguf_mix_next(fm_gguf_mix *m, const char *name, int n_dims, const int64_t *dim) {
    if (stays_f32(name, n_dims)) {
        return FM_F32;
    }
    int64_t cols = dim[n_dims - 1];
    if (fm_dtype_get(m->base)->block == 1) {
        return m->base;
    }
    if (strcmp(name, "output.weight") == 0 || (m->tied && strcmp(name, "token_embd.weight") == 0)) {
        bool fits = cols % fm_dtype_get(m->base)->block == 0;
        return fit(m, m->base == FM_Q8_0 || !fits ? FM_Q8_0 : FM_Q6_K, cols);
    }
    return fit(m, by_role(m, name), cols);
}
