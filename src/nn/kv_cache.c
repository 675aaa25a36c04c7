/* Cache of keys and values. */
#include <math.h>
#include <string.h>

#include "backend/quant.h"
#include "nn/nn.h"

fm_status fm_kv_cache_new(fm_kv_cache **out, int32_t n_layers, int32_t n_kv_heads, int32_t k_dim, int32_t v_dim,
                          fm_dtype dtype, int64_t n_rows, int32_t block_tokens) {
    *out = NULL;
    FM_ASSERT(n_layers > 0 && n_kv_heads > 0 && k_dim > 0 && v_dim >= 0 && n_rows > 0 && block_tokens >= 0);
    FM_ASSERT(dtype == FM_Q8_0 || fm_dtype_get(dtype)->block == 1);
    if (dtype == FM_Q8_0 && (k_dim % 32 != 0 || v_dim % 32 != 0)) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "a q8_0 cache has blocks of 32: heads of %d and %d do not fit", (int)k_dim,
                (int)v_dim);
    }
    int64_t wide = (int64_t)n_kv_heads * FM_MAX(k_dim, v_dim);
    if (n_rows > INT32_MAX || n_rows > INT64_MAX / 64 / n_layers / wide) {
        FM_FAIL(FM_ERR_ARGUMENT, "a KV cache of %lld rows in %d layers is too large", (long long)n_rows, (int)n_layers);
    }
    fm_kv_cache *kv = fm_calloc(1, sizeof *kv);
    if (!kv) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a KV cache");
    }
    *kv = (fm_kv_cache){.n_layers = n_layers,
                        .n_kv_heads = n_kv_heads,
                        .k_dim = k_dim,
                        .v_dim = v_dim,
                        .dtype = dtype,
                        .n_rows = n_rows,
                        .block_tokens = block_tokens};
    int64_t row = (int64_t)n_layers * n_rows * n_kv_heads;
    fm_status s = fm_pages_alloc((void **)&kv->k, (size_t)fm_dtype_bytes(dtype, row * k_dim), FM_MEM_KV);
    if (s == FM_OK && v_dim > 0) {
        s = fm_pages_alloc((void **)&kv->v, (size_t)fm_dtype_bytes(dtype, row * v_dim), FM_MEM_KV);
    }
    if (s != FM_OK) {
        fm_kv_cache_free(kv);
        return s;
    }
    *out = kv;
    return FM_OK;
}

static int64_t part_bytes(const fm_kv_cache *kv, int32_t dim) {
    return fm_dtype_bytes(kv->dtype, kv->n_layers * kv->n_rows * kv->n_kv_heads * dim);
}

int64_t fm_kv_cache_bytes(const fm_kv_cache *kv) {
    return part_bytes(kv, kv->k_dim) + part_bytes(kv, kv->v_dim);
}

void fm_kv_cache_free(fm_kv_cache *kv) {
    if (!kv) {
        return;
    }
    if (kv->k) {
        fm_pages_free(kv->k, (size_t)part_bytes(kv, kv->k_dim), FM_MEM_KV);
    }
    if (kv->v) {
        fm_pages_free(kv->v, (size_t)part_bytes(kv, kv->v_dim), FM_MEM_KV);
    }
    fm_free(kv);
}

typedef struct put_job {
    const fm_kv_cache *kv;
    int32_t layer, n;
    const int32_t *slots;
    fm_dtype dtype;
    const void *k, *v;
} put_job;

static void put_blocks(const put_job *j, uint8_t *to, const uint8_t *from, int64_t at, int64_t n) {
    const fm_quant_type *q = fm_quant_find(FM_Q8_0);
    float x[32];
    for (int64_t i = 0; i < n; i += 32, to += 34) {
        for (int64_t k = 0; k < 32; k++) {
            x[k] = (float)fm_load_as_f64(j->dtype, from, at + i + k);
            x[k] = isfinite(x[k]) ? x[k] : 0; /* a block has no place for others */
        }
        q->quantise(x, to, 1);
    }
}

static void put_row(const put_job *j, uint8_t *base, int32_t dim, const void *from, int32_t t) {
    const fm_kv_cache *kv = j->kv;
    int64_t width = (int64_t)kv->n_kv_heads * dim;
    int64_t to = ((int64_t)j->layer * kv->n_rows + j->slots[t]) * width;
    if (kv->dtype == FM_Q8_0) {
        put_blocks(j, base + fm_dtype_bytes(FM_Q8_0, to), (const uint8_t *)from, t * width, width);
        return;
    }
    int64_t size = fm_dtype_get(kv->dtype)->block_bytes, from_size = fm_dtype_get(j->dtype)->block_bytes;
    const uint8_t *src = (const uint8_t *)from + t * width * from_size;
    if (kv->dtype == j->dtype) {
        memcpy(base + to * size, src, (size_t)(width * size));
        return;
    }
    for (int64_t i = 0; i < width; i++) {
        fm_store_from_f64(kv->dtype, base, to + i, fm_load_as_f64(j->dtype, src, i));
    }
}

static fm_status put_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(thread);
    const put_job *j = arg;
    int64_t begin, end;
    fm_split(j->n, part, n_parts, 1, &begin, &end);
    for (int64_t t = begin; t < end; t++) {
        put_row(j, j->kv->k, j->kv->k_dim, j->k, (int32_t)t);
        if (j->kv->v_dim > 0) {
            put_row(j, j->kv->v, j->kv->v_dim, j->v, (int32_t)t);
        }
    }
    return FM_OK;
}

fm_status fm_kv_cache_put(fm_kv_cache *kv, fm_pool *pool, int32_t layer, int32_t n, const int32_t *slots,
                          fm_dtype dtype, const void *k, const void *v) {
    FM_ASSERT(layer >= 0 && layer < kv->n_layers);
    for (int32_t t = 0; t < n; t++) {
        if (slots[t] < 0 || slots[t] >= kv->n_rows) {
            FM_FAIL(FM_ERR_ARGUMENT, "KV cache: slot %d of token %d is outside the cache of %lld rows", (int)slots[t],
                    (int)t, (long long)kv->n_rows);
        }
    }
    put_job j = {.kv = kv, .layer = layer, .n = n, .slots = slots, .dtype = dtype, .k = k, .v = v};
    return fm_pool_run(n >= 32 ? pool : NULL, n >= 32 ? fm_pool_threads(pool) : 1, put_part, &j);
}
