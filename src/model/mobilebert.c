/* MobileBERT (Sun et al. 2020): BERT with a body of a quarter of the width between bottlenecks, several feed-forward
 * networks a layer, and affine maps where BERT has norms. */
#include <stdio.h>
#include <string.h>

#include "model/encoder.h"
#include "model/layers.h"

typedef struct ffn {
    fm_pair up, down, norm;
} ffn;

typedef struct layer {
    fm_attention_layer attn;
    fm_pair attn_norm;
    fm_pair in, in_norm;         /* bottleneck of the residual: [body,D] */
    fm_pair shared, shared_norm; /* of query and key, with shared_key_query */
    ffn last;                    /* the last feed-forward network, before the way out */
    fm_pair out, out_norm;       /* way out: [D,body] */
    ffn *more;                   /* [n_ffn-1] those before it */
    char attn_stream[32], mlp_stream[32];
} layer;

typedef struct mobilebert {
    fm_param *words, *positions, *types;
    fm_pair widen, norm;
    layer layer[]; /* [n_layers], then the ffn of all layers */
} mobilebert;

/* The published code makes two norms without passing layer_norm_eps on. */
#define DEFAULT_EPS 1e-5

static fm_status build_ffn(const fm_encoder_builder *b, ffn *f, const char *at) {
    int64_t body = b->cfg->mobile.body;
    char name[64];
    snprintf(name, sizeof name, "%sintermediate.dense", at);
    FM_TRY(fm_encoder_dense(b, &f->up, name, b->cfg->d_ff, body));
    snprintf(name, sizeof name, "%soutput.dense", at);
    FM_TRY(fm_encoder_dense(b, &f->down, name, body, b->cfg->d_ff));
    snprintf(name, sizeof name, "%soutput.LayerNorm", at);
    return fm_encoder_norm(b, &f->norm, name, body);
}

static fm_status build_layer(fm_encoder_builder *b, layer *y, int32_t l) {
    const fm_mobile_config *mo = &b->cfg->mobile;
    int64_t d = b->cfg->d_model, body = mo->body;
    char name[64];
    snprintf(name, sizeof name, "encoder.layer.%d.", (int)l);
    fm_encoder_prefix(b, "mobilebert.", name);
    FM_TRY(fm_encoder_attention(b, &y->attn, "attention.self", "attention.output.dense", l, body,
                                mo->bottleneck_attention ? body : d));
    FM_TRY(fm_encoder_norm(b, &y->attn_norm, "attention.output.LayerNorm", body));
    FM_TRY(build_ffn(b, &y->last, ""));
    if (mo->bottleneck) {
        FM_TRY(fm_encoder_dense(b, &y->out, "output.bottleneck.dense", d, body));
        FM_TRY(fm_encoder_norm(b, &y->out_norm, "output.bottleneck.LayerNorm", d));
        FM_TRY(fm_encoder_dense(b, &y->in, "bottleneck.input.dense", body, d));
        FM_TRY(fm_encoder_norm(b, &y->in_norm, "bottleneck.input.LayerNorm", body));
        if (mo->shared_key_query) {
            FM_TRY(fm_encoder_dense(b, &y->shared, "bottleneck.attention.dense", body, d));
            FM_TRY(fm_encoder_norm(b, &y->shared_norm, "bottleneck.attention.LayerNorm", body));
        }
    }
    for (int32_t i = 0; i + 1 < mo->n_ffn; i++) {
        snprintf(name, sizeof name, "ffn.%d.", (int)i);
        FM_TRY(build_ffn(b, &y->more[i], name));
    }
    snprintf(y->attn_stream, sizeof y->attn_stream, "dropout.%d.attn", (int)l);
    snprintf(y->mlp_stream, sizeof y->mlp_stream, "dropout.%d.mlp", (int)l);
    return FM_OK;
}

static fm_status build(const fm_model_config *cfg, fm_params *ps, void **state) {
    const fm_mobile_config *mo = &cfg->mobile;
    size_t layers = (size_t)cfg->n_layers * sizeof(layer), more = (size_t)(mo->n_ffn - 1);
    mobilebert *p = fm_calloc(1, sizeof *p + layers + (size_t)cfg->n_layers * more * sizeof(ffn));
    *state = p;
    if (!p) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %d layers", (int)cfg->n_layers);
    }
    ffn *rest = (ffn *)(void *)((uint8_t *)p + sizeof *p + layers);
    fm_encoder_builder b = {.cfg = cfg, .ps = ps};
    int64_t d = cfg->d_model, e = mo->embedding_size;
    fm_encoder_prefix(&b, "mobilebert.", "embeddings.");
    FM_TRY(fm_encoder_add(&b, &p->words, "word_embeddings.weight", cfg->vocab_size, e, FM_INIT_NORMAL));
    FM_TRY(fm_encoder_add(&b, &p->positions, "position_embeddings.weight", cfg->max_position, d, FM_INIT_NORMAL));
    FM_TRY(fm_encoder_add(&b, &p->types, "token_type_embeddings.weight", cfg->n_types, d, FM_INIT_NORMAL));
    FM_TRY(fm_encoder_dense(&b, &p->widen, "embedding_transformation", d, mo->trigram ? 3 * e : e));
    FM_TRY(fm_encoder_norm(&b, &p->norm, "LayerNorm", d));
    for (int32_t l = 0; l < cfg->n_layers; l++) {
        p->layer[l].more = rest + (size_t)l * more;
        FM_TRY(build_layer(&b, &p->layer[l], l));
    }
    return FM_OK;
}

/* The product with the thin embedding is widened by a matrix of its own, which files hold as [D-E,V]. */
static fm_status build_lm(const fm_model_config *cfg, fm_params *ps, const void *state, fm_head *h) {
    const mobilebert *p = state;
    int64_t rest = cfg->d_model - cfg->mobile.embedding_size;
    FM_TRY(fm_encoder_build_lm(cfg, ps, p->words, h));
    if (rest == 0) {
        return FM_OK;
    }
    return fm_params_add(ps,
                         &(fm_param_desc){.name = "cls.predictions.dense.weight",
                                          .n_dims = 2,
                                          .dim = {cfg->vocab_size, rest},
                                          .init = FM_INIT_NORMAL,
                                          .init_std = cfg->init_std,
                                          .file_transposed = true},
                         &h->side_w);
}

/* ---- forward --------------------------------------------------------------------------------- */

typedef struct layer_args {
    const mobilebert *p;
    const fm_model_config *cfg;
    fm_batch b;
    int32_t layer;
} layer_args;

static fm_tensor *norm_eps(fm_ctx *c, const fm_model_config *cfg, fm_pair p, double eps, fm_tensor *x) {
    return cfg->mobile.layer_norm ? fm_layernorm(c, x, fm_leaf(c, p.w), fm_leaf(c, p.b), (float)eps)
                                  : fm_affine(c, x, fm_leaf(c, p.w), fm_leaf(c, p.b));
}

static fm_tensor *norm(fm_ctx *c, const fm_model_config *cfg, fm_pair p, fm_tensor *x) {
    return norm_eps(c, cfg, p, cfg->norm_eps, x);
}

static fm_tensor *dropout(fm_ctx *c, const fm_model_config *cfg, fm_tensor *x, const char *stream) {
    return cfg->hidden_dropout > 0 ? fm_dropout(c, x, cfg->hidden_dropout, stream) : x;
}

static fm_tensor *ffn_of(fm_ctx *c, const fm_model_config *cfg, const ffn *f, fm_tensor *x) {
    return fm_pair_linear(c, f->down, fm_activation(c, fm_pair_linear(c, f->up, x), cfg->act));
}

static fm_tensor *attention(fm_ctx *c, const layer_args *a, const layer *y, fm_tensor *h, fm_tensor *thin) {
    const fm_mobile_config *mo = &a->cfg->mobile;
    fm_tensor *qk = thin, *v = mo->bottleneck_attention ? thin : h;
    if (mo->bottleneck && !mo->bottleneck_attention) {
        qk = mo->shared_key_query ? norm(c, a->cfg, y->shared_norm, fm_pair_linear(c, y->shared, h)) : h;
    }
    return fm_attention_forward_from(c, &y->attn, &a->b, NULL, qk, qk, v);
}

static fm_status whole_layer(fm_ctx *c, void *args, fm_tensor *const *in, fm_tensor **out) {
    const layer_args *a = args;
    const fm_model_config *cfg = a->cfg;
    const layer *y = &a->p->layer[a->layer];
    bool bottleneck = cfg->mobile.bottleneck;
    fm_tensor *h = in[0], *thin = h;
    if (bottleneck) {
        thin = norm(c, cfg, y->in_norm, fm_pair_linear(c, y->in, h));
    }
    fm_tensor *x = attention(c, a, y, h, thin);
    x = norm(c, cfg, y->attn_norm, fm_add(c, bottleneck ? x : dropout(c, cfg, x, y->attn_stream), thin));
    for (int32_t i = 0; i + 1 < cfg->mobile.n_ffn; i++) {
        x = norm(c, cfg, y->more[i].norm, fm_add(c, ffn_of(c, cfg, &y->more[i], x), x));
    }
    fm_tensor *last = ffn_of(c, cfg, &y->last, x);
    last = bottleneck ? last : dropout(c, cfg, last, y->mlp_stream);
    x = norm_eps(c, cfg, y->last.norm, DEFAULT_EPS, fm_add(c, last, x));
    if (bottleneck) {
        x = dropout(c, cfg, fm_pair_linear(c, y->out, x), y->mlp_stream);
        x = norm(c, cfg, y->out_norm, fm_add(c, x, h));
    }
    out[0] = x;
    return fm_ctx_status(c);
}

static fm_tensor *forward(fm_ctx *c, const fm_model *m, const fm_batch *b) {
    const mobilebert *p = m->state;
    layer_args a = {.p = p, .cfg = &m->cfg, .b = *b};
    fm_tensor *h = fm_embedding_sum(c, p->words, NULL, NULL, b);
    if (m->cfg.mobile.trigram) {
        h = fm_trigram(c, h, b->n_segments, b->q_offsets);
    }
    if (m->cfg.mobile.trigram || m->cfg.mobile.embedding_size != m->cfg.d_model) {
        h = fm_pair_linear(c, p->widen, h);
    }
    h = norm_eps(c, &m->cfg, p->norm, DEFAULT_EPS, fm_embedding_add(c, h, p->positions, p->types, b));
    h = fm_embedding_noise(c, h, b, m->cfg.neftune_alpha);
    h = m->cfg.embedding_dropout > 0 ? fm_dropout(c, h, m->cfg.embedding_dropout, "dropout.embed") : h;
    fm_layer_run run = {.fn = whole_layer, .args = &a, .args_size = sizeof a, .layer = &a.layer};
    return fm_layers_run(c, m, &run, h);
}

/* ---- configuration --------------------------------------------------------------------------- */

static const fm_config_key keys[] = {
    FM_KEY("embedding_size", NULL, FM_KEY_SIZE, mobile.embedding_size, 128),
    FM_KEY("num_feedforward_networks", NULL, FM_KEY_SIZE, mobile.n_ffn, 4),
    FM_KEY("trigram_input", NULL, FM_KEY_BOOL, mobile.trigram, 1),
    FM_KEY("use_bottleneck", NULL, FM_KEY_BOOL, mobile.bottleneck, 1),
    FM_KEY("use_bottleneck_attention", NULL, FM_KEY_BOOL, mobile.bottleneck_attention, 0),
    FM_KEY("key_query_shared_bottleneck", NULL, FM_KEY_BOOL, mobile.shared_key_query, 1),
    FM_KEY("classifier_activation", NULL, FM_KEY_BOOL, mobile.activated, 1),
    {0},
};

static fm_status check(const fm_model_config *cfg) {
    const fm_mobile_config *mo = &cfg->mobile;
    if (mo->embedding_size < 1 || mo->embedding_size > cfg->d_model) {
        FM_FAIL(FM_ERR_CONFIG, "embedding_size: expected 1 to hidden_size %d, found %d", (int)cfg->d_model,
                (int)mo->embedding_size);
    }
    if (mo->n_ffn < 1 || mo->n_ffn > 64) {
        FM_FAIL(FM_ERR_CONFIG, "num_feedforward_networks: expected 1 to 64, found %d", (int)mo->n_ffn);
    }
    if (mo->body < 1 || mo->body > cfg->d_model || cfg->n_heads < 1 || mo->body % cfg->n_heads != 0) {
        FM_FAIL(FM_ERR_CONFIG,
                "intra_bottleneck_size: expected a multiple of num_attention_heads %d up to hidden_size %d, found %d",
                (int)cfg->n_heads, (int)cfg->d_model, (int)mo->body);
    }
    /* Query and key are made of the body's width: without a shared bottleneck they would get the model's. */
    if (mo->bottleneck && !mo->bottleneck_attention && !mo->shared_key_query && mo->body != cfg->d_model) {
        FM_FAIL(FM_ERR_CONFIG, "key_query_shared_bottleneck false needs use_bottleneck_attention true");
    }
    return FM_OK;
}

static fm_status parse(fm_model_config *cfg, const fm_json *json) {
    fm_mobile_config *mo = &cfg->mobile;
    const char *type;
    FM_TRY(fm_encoder_parse(cfg, json));
    FM_TRY(fm_config_read_keys(cfg, json, keys));
    FM_TRY(fm_decoder_get_size(&mo->body, json, "intra_bottleneck_size", 128));
    FM_TRY(fm_json_get_str(&type, json, "normalization_type", "no_norm"));
    mo->layer_norm = strcmp(type, "layer_norm") == 0;
    if (!mo->layer_norm && strcmp(type, "no_norm") != 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "normalization_type: expected no_norm or layer_norm, found %s", type);
    }
    mo->body = mo->bottleneck ? mo->body : cfg->d_model;
    FM_TRY(check(cfg));
    cfg->head_dim = mo->body / cfg->n_heads;
    return fm_config_act(&cfg->act, json, "hidden_act", "relu");
}

static fm_status write(const fm_model_config *cfg, fm_json *json) {
    FM_TRY(check(cfg));
    FM_TRY(fm_encoder_write(cfg, json));
    FM_TRY(fm_config_write_keys(cfg, json, keys));
    if (cfg->mobile.bottleneck) {
        FM_TRY(fm_json_set(json, "intra_bottleneck_size", fm_json_new_int(cfg->mobile.body)));
    }
    return fm_json_set(json, "normalization_type", fm_json_new_str(cfg->mobile.layer_norm ? "layer_norm" : "no_norm"));
}

static const char *const architectures[] = {"MobileBertForMaskedLM", NULL};
static const char *const model_types[] = {"mobilebert", NULL};
const fm_family fm_family_mobilebert = {
    .name = "mobilebert",
    .architectures = architectures,
    .model_types = model_types,
    .parse = parse,
    .write = write,
    .build = build,
    .build_lm = build_lm,
    .forward = forward,
    .encoder = true,
    .trunk = "mobilebert.",
    .token_head = "classifier",
};
