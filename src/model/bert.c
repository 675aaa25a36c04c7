/* BERT (Devlin et al. 2019): post-norm layers, learned positions and token types. */
#include <stdio.h>

#include "model/encoder.h"
#include "model/layers.h"

typedef struct layer {
    fm_attention_layer attn;
    fm_pair attn_norm, up, down, norm;
    char attn_stream[32], mlp_stream[32];
} layer;

typedef struct bert {
    fm_param *words, *positions, *types;
    fm_pair norm;
    layer layer[]; /* [n_layers] */
} bert;

static fm_status build_layer(fm_encoder_builder *b, layer *y, int32_t l) {
    int64_t d = b->cfg->d_model;
    char rest[48];
    snprintf(rest, sizeof rest, "encoder.layer.%d.", (int)l);
    fm_encoder_prefix(b, "bert.", rest);
    FM_TRY(fm_encoder_attention(b, &y->attn, "attention.self", "attention.output.dense", l, d, d));
    FM_TRY(fm_encoder_norm(b, &y->attn_norm, "attention.output.LayerNorm", d));
    FM_TRY(fm_encoder_dense(b, &y->up, "intermediate.dense", b->cfg->d_ff, d));
    FM_TRY(fm_encoder_dense(b, &y->down, "output.dense", d, b->cfg->d_ff));
    snprintf(y->attn_stream, sizeof y->attn_stream, "dropout.%d.attn", (int)l);
    snprintf(y->mlp_stream, sizeof y->mlp_stream, "dropout.%d.mlp", (int)l);
    return fm_encoder_norm(b, &y->norm, "output.LayerNorm", d);
}

static fm_status build(const fm_model_config *cfg, fm_params *ps, void **state) {
    bert *p = fm_calloc(1, sizeof *p + (size_t)cfg->n_layers * sizeof p->layer[0]);
    *state = p;
    if (!p) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %d layers", (int)cfg->n_layers);
    }
    fm_encoder_builder b = {.cfg = cfg, .ps = ps};
    int64_t d = cfg->d_model;
    fm_encoder_prefix(&b, "bert.", "embeddings.");
    FM_TRY(fm_encoder_add(&b, &p->words, "word_embeddings.weight", cfg->vocab_size, d, FM_INIT_NORMAL));
    FM_TRY(fm_encoder_add(&b, &p->positions, "position_embeddings.weight", cfg->max_position, d, FM_INIT_NORMAL));
    FM_TRY(fm_encoder_add(&b, &p->types, "token_type_embeddings.weight", cfg->n_types, d, FM_INIT_NORMAL));
    FM_TRY(fm_encoder_norm(&b, &p->norm, "LayerNorm", d));
    for (int32_t l = 0; l < cfg->n_layers; l++) {
        FM_TRY(build_layer(&b, &p->layer[l], l));
    }
    return FM_OK;
}

static fm_status build_lm(const fm_model_config *cfg, fm_params *ps, const void *state, fm_head *h) {
    const bert *p = state;
    return fm_encoder_build_lm(cfg, ps, p->words, h);
}

typedef struct layer_args {
    const bert *p;
    const fm_model_config *cfg;
    fm_batch b;
    int32_t layer;
} layer_args;

static fm_tensor *norm(fm_ctx *c, const fm_model_config *cfg, fm_pair p, fm_tensor *x) {
    return fm_layernorm(c, x, fm_leaf(c, p.w), fm_leaf(c, p.b), (float)cfg->norm_eps);
}

static fm_tensor *with_dropout(fm_ctx *c, fm_tensor *x, double p, const char *stream) {
    return p > 0 ? fm_dropout(c, x, p, stream) : x;
}

static fm_status whole_layer(fm_ctx *c, void *args, fm_tensor *const *in, fm_tensor **out) {
    const layer_args *a = args;
    const fm_model_config *cfg = a->cfg;
    const layer *y = &a->p->layer[a->layer];
    fm_tensor *h = in[0], *x = fm_attention_forward(c, &y->attn, &a->b, NULL, h);
    h = norm(c, cfg, y->attn_norm, fm_add(c, with_dropout(c, x, cfg->hidden_dropout, y->attn_stream), h));
    x = fm_pair_linear(c, y->down, fm_activation(c, fm_pair_linear(c, y->up, h), cfg->act));
    out[0] = norm(c, cfg, y->norm, fm_add(c, with_dropout(c, x, cfg->hidden_dropout, y->mlp_stream), h));
    return fm_ctx_status(c);
}

static fm_tensor *forward(fm_ctx *c, const fm_model *m, const fm_batch *b) {
    const bert *p = m->state;
    layer_args a = {.p = p, .cfg = &m->cfg, .b = *b};
    fm_tensor *h = norm(c, &m->cfg, p->norm, fm_embedding_sum(c, p->words, p->positions, p->types, b));
    h = fm_embedding_noise(c, h, b, m->cfg.neftune_alpha);
    h = with_dropout(c, h, m->cfg.embedding_dropout, "dropout.embed");
    fm_layer_run run = {.fn = whole_layer, .args = &a, .args_size = sizeof a, .layer = &a.layer};
    return fm_layers_run(c, m, &run, h);
}

static fm_status parse(fm_model_config *cfg, const fm_json *json) {
    FM_TRY(fm_encoder_parse(cfg, json));
    if (cfg->n_heads < 1 || cfg->d_model % cfg->n_heads != 0) {
        FM_FAIL(FM_ERR_CONFIG, "hidden_size %d: expected a multiple of num_attention_heads %d", (int)cfg->d_model,
                (int)cfg->n_heads);
    }
    cfg->head_dim = cfg->d_model / cfg->n_heads;
    return fm_config_act(&cfg->act, json, "hidden_act", "gelu");
}

static const char *const architectures[] = {"BertForMaskedLM", NULL};
static const char *const model_types[] = {"bert", NULL};
const fm_family fm_family_bert = {
    .name = "bert",
    .architectures = architectures,
    .model_types = model_types,
    .parse = parse,
    .write = fm_encoder_write,
    .build = build,
    .build_lm = build_lm,
    .forward = forward,
    .encoder = true,
    .trunk = "bert.",
    .token_head = "classifier",
};
