/* Weights and forward of the decoders with layer norm. */
#include "model/prenorm.h"

#include <math.h>
#include <stdio.h>

#include "model/layers.h"

typedef struct block {
    fm_param *norm1_w, *norm1_b, *norm2_w, *norm2_b;
    fm_attention_layer attn;
    fm_param *up_w, *up_b, *down_w, *down_b;
    char attn_stream[32], mlp_stream[32];
} block;

typedef struct prenorm {
    fm_param *embed, *positions, *embed_norm_w, *embed_norm_b, *norm_w, *norm_b;
    float *slopes; /* [H] of ALiBi, behind the layers, or NULL */
    block layer[]; /* [n_layers] */
} prenorm;

typedef struct builder {
    const fm_prenorm_layout *layout;
    const fm_model_config *cfg;
    fm_params *ps;
    int32_t layer; /* -1: outside layers */
} builder;

static fm_status add(const builder *b, fm_param **out, const char *name, const char *what, int64_t rows, int64_t cols,
                     fm_init_kind init, bool transposed) {
    char full[128];
    if (b->layer >= 0) {
        snprintf(full, sizeof full, "%s.%d.%s.%s", b->layout->layers, (int)b->layer, name, what);
    } else {
        snprintf(full, sizeof full, "%s.%s", name, what);
    }
    fm_param_desc d = {.name = full,
                       .n_dims = rows > 0 ? 2 : 1,
                       .dim = {rows > 0 ? rows : cols, cols},
                       .init = init,
                       .init_std = b->cfg->init_std,
                       .no_decay = rows == 0,
                       .file_transposed = transposed};
    return fm_params_add(b->ps, &d, out);
}

static fm_status add_linear(const builder *b, fm_param **w, fm_param **bias, const char *name, int64_t n, int64_t k) {
    FM_TRY(add(b, w, name, "weight", n, k, FM_INIT_NORMAL, b->layout->transposed));
    return b->layout->biases ? add(b, bias, name, "bias", 0, n, FM_INIT_ZEROS, false) : FM_OK;
}

static fm_status add_norm(const builder *b, fm_param **w, fm_param **bias, const char *name) {
    FM_TRY(add(b, w, name, "weight", 0, b->cfg->d_model, FM_INIT_ONES, false));
    return b->layout->biases ? add(b, bias, name, "bias", 0, b->cfg->d_model, FM_INIT_ZEROS, false) : FM_OK;
}

static fm_status build_block(const builder *b, const prenorm *p, block *y) {
    const fm_prenorm_layout *n = b->layout;
    const fm_model_config *cfg = b->cfg;
    int64_t d = cfg->d_model, q = (int64_t)cfg->n_heads * cfg->head_dim;
    fm_attention_layer *a = &y->attn;
    FM_TRY(add_norm(b, &y->norm1_w, &y->norm1_b, n->norm1));
    FM_TRY(add_linear(b, &a->qkv_w, &a->qkv_b, n->qkv, 3 * q, d));
    FM_TRY(add_linear(b, &a->o_w, &a->o_b, n->out, d, q));
    FM_TRY(add_norm(b, &y->norm2_w, &y->norm2_b, n->norm2));
    FM_TRY(add_linear(b, &y->up_w, &y->up_b, n->up, cfg->d_ff, d));
    FM_TRY(add_linear(b, &y->down_w, &y->down_b, n->down, d, cfg->d_ff));
    a->qkv_by_head = n->by_head;
    a->n_heads = a->n_kv_heads = cfg->n_heads;
    a->head_dim = cfg->head_dim;
    a->layer = b->layer;
    a->window = fm_layer_window(cfg, b->layer);
    a->alibi = p->slopes;
    double scale = cfg->attn_unscaled ? 1 : 1 / sqrt((double)cfg->head_dim);
    a->scale = (float)(cfg->attn_scale_by_layer ? scale / (b->layer + 1) : scale);
    a->dropout = cfg->attention_dropout;
    snprintf(a->dropout_stream, sizeof a->dropout_stream, "dropout.%d.heads", (int)b->layer);
    snprintf(y->attn_stream, sizeof y->attn_stream, "dropout.%d.attn", (int)b->layer);
    snprintf(y->mlp_stream, sizeof y->mlp_stream, "dropout.%d.mlp", (int)b->layer);
    return FM_OK;
}

fm_status fm_prenorm_build(const fm_prenorm_layout *layout, const fm_model_config *cfg, fm_params *ps, void **state) {
    bool alibi = cfg->positions == FM_POS_ALIBI;
    size_t layers = (size_t)cfg->n_layers * sizeof(block);
    prenorm *p = fm_calloc(1, sizeof *p + layers + (alibi ? (size_t)cfg->n_heads * sizeof(float) : 0));
    *state = p;
    if (!p) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %d layers", (int)cfg->n_layers);
    }
    if (alibi) {
        p->slopes = (float *)(void *)((uint8_t *)p + sizeof *p + layers);
        fm_alibi_slopes(p->slopes, cfg->n_heads);
    }
    builder b = {.layout = layout, .cfg = cfg, .ps = ps, .layer = -1};
    FM_TRY(add(&b, &p->embed, layout->embed, "weight", cfg->vocab_size, cfg->d_model, FM_INIT_NORMAL, false));
    if (layout->positions) {
        FM_TRY(add(&b, &p->positions, layout->positions, "weight", cfg->max_position, cfg->d_model, FM_INIT_NORMAL,
                   false));
    }
    if (layout->embed_norm) {
        FM_TRY(add_norm(&b, &p->embed_norm_w, &p->embed_norm_b, layout->embed_norm));
    }
    for (int32_t l = 0; l < cfg->n_layers; l++) {
        b.layer = l;
        FM_TRY(build_block(&b, p, &p->layer[l]));
    }
    b.layer = -1;
    return add_norm(&b, &p->norm_w, &p->norm_b, layout->final_norm);
}

/* ---- forward --------------------------------------------------------------------------------- */

typedef struct layer_args {
    const prenorm *p;
    const fm_model_config *cfg;
    fm_batch b;
    int32_t layer;
} layer_args;

static fm_tensor *norm(fm_ctx *c, const fm_model_config *cfg, fm_tensor *x, fm_param *w, fm_param *b) {
    return fm_layernorm(c, x, fm_leaf(c, w), fm_leaf_or_null(c, b), (float)cfg->norm_eps);
}

static fm_tensor *with_dropout(fm_ctx *c, fm_tensor *x, double p, const char *stream) {
    return p > 0 ? fm_dropout(c, x, p, stream) : x;
}

static fm_status whole_layer(fm_ctx *c, void *args, fm_tensor *const *in, fm_tensor **out) {
    const layer_args *a = args;
    const block *y = &a->p->layer[a->layer];
    const fm_model_config *cfg = a->cfg;
    fm_tensor *h = in[0];
    fm_tensor *x = fm_attention_forward(c, &y->attn, &a->b, NULL, norm(c, cfg, h, y->norm1_w, y->norm1_b));
    h = fm_add(c, h, with_dropout(c, x, cfg->hidden_dropout, y->attn_stream));
    x = norm(c, cfg, h, y->norm2_w, y->norm2_b);
    x = fm_activation(c, fm_linear(c, x, fm_leaf(c, y->up_w), fm_leaf_or_null(c, y->up_b)), cfg->act);
    x = fm_linear(c, x, fm_leaf(c, y->down_w), fm_leaf_or_null(c, y->down_b));
    out[0] = fm_add(c, h, with_dropout(c, x, cfg->hidden_dropout, y->mlp_stream));
    return fm_ctx_status(c);
}

fm_tensor *fm_prenorm_forward(fm_ctx *c, const fm_model *m, const fm_batch *b) {
    const prenorm *p = m->state;
    layer_args a = {.p = p, .cfg = &m->cfg, .b = *b};
    fm_tensor *h = fm_embedding_sum(c, p->embed, p->positions, NULL, b);
    if (p->embed_norm_w) {
        h = norm(c, &m->cfg, h, p->embed_norm_w, p->embed_norm_b);
    }
    h = fm_embedding_noise(c, h, b, m->cfg.neftune_alpha);
    h = with_dropout(c, h, m->cfg.embedding_dropout, "dropout.embed");
    fm_layer_run run = {.fn = whole_layer, .args = &a, .args_size = sizeof a, .layer = &a.layer};
    h = fm_layers_run(c, m, &run, h);
    return h ? norm(c, &m->cfg, h, p->norm_w, p->norm_b) : NULL;
}

/* ---- configuration --------------------------------------------------------------------------- */

fm_status fm_prenorm_sizes(fm_model_config *cfg) {
    if (cfg->n_heads < 1 || cfg->d_model % cfg->n_heads != 0) {
        FM_FAIL(FM_ERR_CONFIG, "width %d: expected a multiple of %d heads", (int)cfg->d_model, (int)cfg->n_heads);
    }
    if (cfg->d_ff == 0 && cfg->d_model > INT32_MAX / 4) {
        FM_FAIL(FM_ERR_CONFIG, "width %d is too large", (int)cfg->d_model);
    }
    cfg->n_kv_heads = cfg->n_heads;
    cfg->head_dim = cfg->d_model / cfg->n_heads;
    cfg->d_ff = cfg->d_ff ? cfg->d_ff : 4 * cfg->d_model;
    return FM_OK;
}

fm_status fm_prenorm_check_write(const fm_model_config *cfg, fm_positions positions) {
    if (cfg->positions != positions || cfg->qk_norm || cfg->window > 0 || cfg->n_kv_heads != cfg->n_heads ||
        (int64_t)cfg->head_dim * cfg->n_heads != cfg->d_model) {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "family %s has %s positions, as many key-value heads as heads, heads that fill the width, no query and "
                "key norms and no window",
                cfg->family, positions == FM_POS_LEARNED ? "learned" : "ALiBi");
    }
    return FM_OK;
}
