/* Embeddings of tokens, learned positions and token types. */
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
