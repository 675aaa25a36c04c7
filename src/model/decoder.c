/* Weights and forward of the dense decoder. */
#include "model/columns.h"
#include "model/decoder.h"
#include "model/layers.h"

#include <stdio.h>
#include <string.h>

/* ---- weights --------------------------------------------------------------------------------- */

typedef struct builder {
    const fm_model_config *cfg;
    fm_params *ps;
    int32_t layer;
    const char *prefix; /* of the names of a layer beside those of the decoder, or NULL */
    int32_t name;       /* its number there; `layer` is its place in the cache */
} builder;

/* Adds "model.layers.<l>.<name>". rows 0: a vector of `cols`. */
fm_status fm_decoder_add(const fm_model_config *cfg, fm_params *ps, int32_t layer, fm_param **out, const char *name,
                         int64_t rows, int64_t cols, fm_init_kind init) {
    char full[96];
    snprintf(full, sizeof full, "model.layers.%d.%s", (int)layer, name);
    return fm_decoder_add_named(cfg, ps, out, full, rows, cols, init);
}

fm_status fm_decoder_add_named(const fm_model_config *cfg, fm_params *ps, fm_param **out, const char *full,
                               int64_t rows, int64_t cols, fm_init_kind init) {
    fm_param_desc d = {.name = full, .init = init, .init_std = cfg->init_std, .no_decay = rows == 0};
    d.n_dims = rows > 0 ? 2 : 1;
    d.dim[0] = rows > 0 ? rows : cols;
    d.dim[1] = cols;
    return fm_params_add(ps, &d, out);
}

static fm_status add(const builder *b, fm_param **out, const char *name, int64_t rows, int64_t cols,
                     fm_init_kind init) {
    if (!b->prefix) {
        return fm_decoder_add(b->cfg, b->ps, b->layer, out, name, rows, cols, init);
    }
    char full[128];
    snprintf(full, sizeof full, "%s.%d.%s", b->prefix, (int)b->name, name);
    return fm_decoder_add_named(b->cfg, b->ps, out, full, rows, cols, init);
}

static fm_status add_linear(const builder *b, fm_param **w, fm_param **bias, const char *name, int64_t n, int64_t k,
                            bool has_bias) {
    char full[64];
    snprintf(full, sizeof full, "%s.weight", name);
    FM_TRY(add(b, w, full, n, k, FM_INIT_NORMAL));
    if (has_bias) {
        snprintf(full, sizeof full, "%s.bias", name);
        FM_TRY(add(b, bias, full, 0, n, FM_INIT_ZEROS));
    }
    return FM_OK;
}

static fm_status build_attention(const builder *b, fm_attention_layer *a) {
    const fm_model_config *cfg = b->cfg;
    int64_t d = cfg->d_model, q = (int64_t)cfg->n_heads * cfg->head_dim, kv = (int64_t)cfg->n_kv_heads * cfg->head_dim;
    FM_TRY(add_linear(b, &a->q_w, &a->q_b, "self_attn.q_proj", q, d, cfg->qkv_bias));
    FM_TRY(add_linear(b, &a->k_w, &a->k_b, "self_attn.k_proj", kv, d, cfg->qkv_bias));
    FM_TRY(add_linear(b, &a->v_w, &a->v_b, "self_attn.v_proj", kv, d, cfg->qkv_bias));
    FM_TRY(add_linear(b, &a->o_w, &a->o_b, "self_attn.o_proj", d, q, cfg->o_bias));
    if (cfg->qk_norm) {
        FM_TRY(add(b, &a->q_norm, "self_attn.q_norm.weight", 0, cfg->head_dim, FM_INIT_ONES));
        FM_TRY(add(b, &a->k_norm, "self_attn.k_norm.weight", 0, cfg->head_dim, FM_INIT_ONES));
    }
    a->n_heads = cfg->n_heads;
    a->n_kv_heads = cfg->n_kv_heads;
    a->head_dim = cfg->head_dim;
    a->layer = b->layer;
    a->window = fm_layer_window(cfg, b->layer);
    a->norm_eps = cfg->norm_eps;
    a->dropout = cfg->attention_dropout;
    snprintf(a->dropout_stream, sizeof a->dropout_stream, "dropout.%d.heads", (int)b->layer);
    return FM_OK;
}

static fm_status build_layer(const builder *b, fm_decoder_layer *y) {
    const fm_model_config *cfg = b->cfg;
    int64_t d = cfg->d_model;
    FM_TRY(add(b, &y->attn_norm, "input_layernorm.weight", 0, d, FM_INIT_ONES));
    if (cfg->mla.kv_rank > 0) {
        FM_TRY(fm_decoder_build_mla(cfg, b->ps, b->layer, &y->mla));
    } else {
        FM_TRY(build_attention(b, &y->attn));
    }
    FM_TRY(add(b, &y->mlp_norm, "post_attention_layernorm.weight", 0, d, FM_INIT_ONES));
    if (fm_moe_layer_is_moe(&cfg->moe, b->layer)) {
        FM_TRY(fm_decoder_build_moe(cfg, b->ps, b->layer, &y->moe));
    } else {
        FM_TRY(add_linear(b, &y->mlp.gate_w, &y->mlp.gate_b, "mlp.gate_proj", cfg->d_ff, d, cfg->mlp_bias));
        FM_TRY(add_linear(b, &y->mlp.up_w, &y->mlp.up_b, "mlp.up_proj", cfg->d_ff, d, cfg->mlp_bias));
        FM_TRY(add_linear(b, &y->mlp.down_w, &y->mlp.down_b, "mlp.down_proj", d, cfg->d_ff, cfg->mlp_bias));
        y->mlp.act = cfg->act;
    }
    snprintf(y->attn_stream, sizeof y->attn_stream, "dropout.%d.attn", (int)b->layer);
    snprintf(y->mlp_stream, sizeof y->mlp_stream, "dropout.%d.mlp", (int)b->layer);
    return FM_OK;
}

fm_status fm_decoder_build_layer(const fm_model_config *cfg, fm_params *ps, const char *prefix, int32_t l,
                                 int32_t cache, fm_decoder_layer *y) {
    builder b = {.cfg = cfg, .ps = ps, .layer = cache, .prefix = prefix, .name = l};
    return build_layer(&b, y);
}

fm_status fm_decoder_build(const fm_model_config *cfg, fm_params *ps, void **state) {
    fm_decoder *d = fm_calloc(1, sizeof *d + (size_t)(cfg->n_layers + cfg->n_mtp) * sizeof d->layer[0]);
    *state = d;
    if (!d) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %d layers", (int)cfg->n_layers);
    }
    FM_TRY(fm_params_add(ps,
                         &(fm_param_desc){.name = "model.embed_tokens.weight",
                                          .n_dims = 2,
                                          .dim = {cfg->vocab_size, cfg->d_model},
                                          .init = FM_INIT_NORMAL,
                                          .init_std = cfg->init_std},
                         &d->embed));
    for (int32_t l = 0; l < cfg->n_layers + cfg->n_mtp; l++) {
        builder b = {.cfg = cfg, .ps = ps, .layer = l};
        FM_TRY(build_layer(&b, &d->layer[l]));
    }
    return fm_params_add(
        ps,
        &(fm_param_desc){
            .name = "model.norm.weight", .n_dims = 1, .dim = {cfg->d_model}, .init = FM_INIT_ONES, .no_decay = true},
        &d->norm);
}

/* ---- forward --------------------------------------------------------------------------------- */

/* What a layer needs besides its input; copied into the tape when layers are recomputed. */
typedef struct layer_args {
    const fm_decoder_layer *y;
    const fm_decoder *d; /* whole_layer: y is d->layer[layer]; NULL: y is given */
    int32_t layer;
    const fm_model_config *cfg;
    fm_batch b;
    fm_rope_state rope;
    bool traced; /* the layer's routing is an output */
} layer_args;

static fm_tensor *residual_dropout(fm_ctx *c, fm_tensor *x, double p, const char *stream) {
    return p > 0 ? fm_dropout(c, x, p, stream) : x;
}

static fm_tensor *attention_part(fm_ctx *c, const layer_args *a, fm_tensor *normed) {
    fm_tensor *x = a->cfg->mla.kv_rank > 0 ? fm_mla_forward(c, &a->y->mla, &a->b, &a->rope, normed)
                                           : fm_attention_forward(c, &a->y->attn, &a->b, &a->rope, normed);
    return residual_dropout(c, x, a->cfg->hidden_dropout, a->y->attn_stream);
}

static fm_tensor *mlp_part(fm_ctx *c, const layer_args *a, fm_tensor *normed, fm_moe_routing *routing) {
    fm_tensor *x =
        a->y->moe.gate ? fm_moe_forward(c, &a->y->moe, normed, routing) : fm_gated_mlp_forward(c, &a->y->mlp, normed);
    return residual_dropout(c, x, a->cfg->hidden_dropout, a->y->mlp_stream);
}

/* One layer with one tensor in and out: [T,D] is all that stays of a recomputed layer, and what its router did when
 * that is asked for (out[1], out[2]). */
static fm_status whole_layer(fm_ctx *c, void *args, fm_tensor *const *in, fm_tensor **out) {
    layer_args *a = args;
    a->y = a->d ? &a->d->layer[a->layer] : a->y;
    FM_ASSERT(a->y);
    float eps = (float)a->cfg->norm_eps;
    fm_tensor *h = in[0], *n = fm_rmsnorm(c, h, fm_leaf(c, a->y->attn_norm), eps);
    fm_tensor *x = attention_part(c, a, n);
    n = fm_add_rmsnorm(c, h, x, fm_leaf(c, a->y->mlp_norm), eps, &h);
    fm_moe_routing r = {0};
    x = mlp_part(c, a, n, &r);
    out[0] = fm_add(c, h, x);
    if (a->traced) {
        out[1] = r.scores;
        out[2] = r.ids;
    }
    return fm_ctx_status(c);
}

/* Training without recomputation: the residual add is fused with the next norm, across layers. */
static fm_tensor *layers_fused(fm_ctx *c, const fm_model *m, layer_args *a, fm_tensor *h) {
    const fm_decoder *d = m->state;
    float eps = (float)m->cfg.norm_eps;
    fm_tensor *x = NULL, *n;
    for (int32_t l = 0; l < m->cfg.n_layers; l++) {
        a->y = &d->layer[l];
        fm_tensor *w = fm_leaf(c, a->y->attn_norm);
        n = l == 0 ? fm_rmsnorm(c, h, w, eps) : fm_add_rmsnorm(c, h, x, w, eps, &h);
        x = attention_part(c, a, n);
        n = fm_add_rmsnorm(c, h, x, fm_leaf(c, a->y->mlp_norm), eps, &h);
        x = mlp_part(c, a, n, a->b.routing ? &a->b.routing[l] : NULL);
    }
    return fm_add_rmsnorm(c, h, x, fm_leaf(c, d->norm), eps, &h);
}

/* Layer l by itself; with `recompute` only its input and output stay until backward. */
static fm_tensor *one_layer(fm_ctx *c, layer_args *a, int32_t l, bool recompute, fm_tensor *h) {
    fm_tensor *out[3] = {NULL};
    a->layer = l;
    a->traced = a->b.routing && a->d->layer[l].moe.gate;
    int n_out = a->traced ? 3 : 1;
    fm_status s = recompute ? fm_checkpoint(fm_at(c, __FILE__, __LINE__), whole_layer, a, sizeof *a, 1, &h, n_out, out)
                            : whole_layer(c, a, &h, out);
    if (s != FM_OK) {
        return NULL;
    }
    if (a->traced) {
        a->b.routing[l] = (fm_moe_routing){.scores = out[1], .ids = out[2]};
    }
    return out[0];
}

static fm_tensor *layers_recomputed(fm_ctx *c, const fm_model *m, layer_args *a, fm_tensor *h) {
    const fm_decoder *d = m->state;
    for (int32_t l = 0; l < m->cfg.n_layers && h; l++) {
        h = one_layer(c, a, l, true, h);
    }
    return fm_rmsnorm(c, h, fm_leaf(c, d->norm), (float)m->cfg.norm_eps);
}

fm_status fm_decoder_rope(fm_ctx *c, const fm_model *m, const fm_batch *b, fm_rope_state *out) {
    const fm_rope_config *r = &m->cfg.rope;
    *out = (fm_rope_state){
        .freq = m->rope_freq, .n_freqs = r->dim / 2, .interleaved = r->interleaved, .mscale = m->rope_mscale};
    if (r->kind != FM_ROPE_DYNAMIC) {
        return FM_OK;
    }
    fm_tensor *t = fm_new(c, FM_F64, 1, (int64_t[]){r->dim / 2});
    if (!t || fm_ctx_is_meta(c)) {
        return fm_ctx_status(c);
    }
    int32_t longest = 0;
    for (int32_t i = 0; i < b->n_tokens; i++) {
        longest = FM_MAX(longest, b->pos[i]);
    }
    if (fm_rope_depends_on_length(r, (int64_t)longest + 1)) {
        double *freq = fm_data(c, t);
        out->freq = freq;
        return fm_rope_frequencies_at(r, (int64_t)longest + 1, freq, &out->mscale);
    }
    return FM_OK;
}

fm_tensor *fm_decoder_forward(fm_ctx *c, const fm_model *m, const fm_batch *b) {
    const fm_decoder *d = m->state;
    layer_args a = {.d = d, .cfg = &m->cfg, .b = *b};
    if (m->column > 0) {
        return fm_columns_forward(c, m, b);
    }
    fm_status s = fm_decoder_rope(c, m, b, &a.rope);
    if (s != FM_OK) {
        fm_ctx_fail(c, s);
        return NULL;
    }
    fm_tensor *ids = fm_from_memory(c, FM_I32, 1, (int64_t[]){b->n_tokens}, (void *)b->ids);
    fm_tensor *h = fm_embedding(c, fm_leaf(c, d->embed), ids);
    h = fm_embedding_noise(c, h, b, m->cfg.neftune_alpha);
    h = residual_dropout(c, h, m->cfg.embedding_dropout, "dropout.embed");
    if (fm_tape_on(c)) {
        return m->checkpoint_layers ? layers_recomputed(c, m, &a, h) : layers_fused(c, m, &a, h);
    }
    fm_layer_run run = {.fn = whole_layer, .args = &a, .args_size = sizeof a, .layer = &a.layer};
    h = fm_layers_run(c, m, &run, h);
    return h ? fm_rmsnorm(c, h, fm_leaf(c, d->norm), (float)m->cfg.norm_eps) : NULL;
}

fm_tensor *fm_decoder_block(fm_ctx *c, const fm_model *m, int32_t layer, const fm_batch *b, fm_tensor *h) {
    layer_args a = {.d = m->state, .cfg = &m->cfg, .b = *b};
    fm_status s = fm_decoder_rope(c, m, b, &a.rope);
    if (s != FM_OK) {
        fm_ctx_fail(c, s);
        return NULL;
    }
    return h ? one_layer(c, &a, layer, m->checkpoint_layers && fm_tape_on(c), h) : NULL;
}

fm_tensor *fm_decoder_layer_forward(fm_ctx *c, const fm_decoder_layer *y, const fm_model_config *cfg, const fm_batch *b,
                                    const fm_rope_state *rope, fm_tensor *h) {
    layer_args a = {.y = y, .cfg = cfg, .b = *b, .rope = *rope};
    fm_tensor *out = NULL;
    return h && whole_layer(c, &a, &h, &out) == FM_OK ? out : NULL;
}
