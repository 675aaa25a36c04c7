/* Embeddings of tokens, learned positions and token types; noise on them. */
#include <math.h>

#include "nn/nn.h"

static fm_tensor *ints(fm_ctx *c, const fm_batch *b, const int32_t *v) {
    return fm_from_memory(c, FM_I32, 1, (int64_t[]){b->n_tokens}, (void *)(uintptr_t)v);
}

/* The operation would speak of ids. */
static fm_status check_positions(const fm_batch *b, int64_t n) {
    for (int32_t t = 0; t < b->n_tokens; t++) {
        if (b->pos[t] >= n) {
            FM_FAIL(FM_ERR_ARGUMENT, "position %d: the model has a table of %lld positions and reads no longer text",
                    (int)b->pos[t], (long long)n);
        }
    }
    return FM_OK;
}

fm_tensor *fm_embedding_add(fm_ctx *c, fm_tensor *x, fm_param *positions, fm_param *types, const fm_batch *b) {
    if (positions) {
        fm_status s = fm_ctx_is_meta(c) ? FM_OK : check_positions(b, positions->dim[0]);
        if (s != FM_OK) {
            fm_ctx_fail(c, s);
            return NULL;
        }
        x = fm_add(c, x, fm_embedding(c, fm_leaf(c, positions), ints(c, b, b->pos)));
    }
    if (types) {
        fm_tensor *ids = b->types ? ints(c, b, b->types) : fm_new(c, FM_I32, 1, (int64_t[]){b->n_tokens});
        int32_t *zero = ids && !b->types ? fm_data(c, ids) : NULL;
        for (int32_t t = 0; zero && t < b->n_tokens; t++) {
            zero[t] = 0;
        }
        x = fm_add(c, x, fm_embedding(c, fm_leaf(c, types), ids));
    }
    return x;
}

fm_tensor *fm_embedding_sum(fm_ctx *c, fm_param *words, fm_param *positions, fm_param *types, const fm_batch *b) {
    return fm_embedding_add(c, fm_embedding(c, fm_leaf(c, words), ints(c, b, b->ids)), positions, types, b);
}

/* ---- noise ----------------------------------------------------------------------------------- */

typedef struct noise_job {
    const fm_batch *b;
    fm_rng_key key;
    uint64_t first_token;
    double alpha;
    int64_t dim;
    fm_dtype dtype;
    void *out;
} noise_job;

static fm_status noise_segment(void *arg, int64_t segment, int64_t n_parts, int thread) {
    const noise_job *j = arg;
    int32_t begin = j->b->q_offsets[segment], end = j->b->q_offsets[segment + 1];
    double most = j->alpha / sqrt((double)FM_MAX(end - begin, 1) * (double)j->dim);
    FM_UNUSED(n_parts);
    FM_UNUSED(thread);
    for (int64_t i = (int64_t)begin * j->dim; i < (int64_t)end * j->dim; i++) {
        uint64_t at = j->first_token * (uint64_t)j->dim + (uint64_t)i;
        double u = ((double)fm_rng_u32(j->key, at) + 0.5) * 0x1p-31 - 1; /* in (-1, 1) */
        fm_store_from_f64(j->dtype, j->out, i, u * most);
    }
    return FM_OK;
}

fm_tensor *fm_embedding_noise(fm_ctx *c, fm_tensor *x, const fm_batch *b, double alpha) {
    if (!x || alpha <= 0 || !fm_ctx_training(c)) {
        return x;
    }
    fm_tensor *noise = fm_new_like(c, x);
    if (noise && !fm_ctx_is_meta(c)) {
        noise_job j = {.b = b,
                       .key = fm_ctx_rng(c, "neftune"),
                       .first_token = fm_ctx_first_token(c),
                       .alpha = alpha,
                       .dim = fm_last(x),
                       .dtype = x->dtype,
                       .out = fm_data(c, noise)};
        fm_status s = fm_pool_run(fm_ctx_pool(c), b->n_segments, noise_segment, &j);
        if (s != FM_OK) {
            fm_ctx_fail(c, s);
            return NULL;
        }
    }
    return fm_add(c, x, noise);
}
