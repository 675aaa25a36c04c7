/* Columns: configuration, weights, forward. */
#include "model/columns.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/decoder.h"
#include "model/layers.h"

typedef struct lateral {
    fm_param *norm, *down, *up; /* [Dj] [R,Dj] [Dk,R] */
} lateral;

typedef struct column_layer {
    fm_decoder_layer y;
    lateral from[FM_MAX_COLUMNS]; /* of column j < k */
    int32_t after;                /* layer of the decoder that it follows */
} column_layer;

typedef struct column {
    fm_model_config cfg;                 /* as if the column were the decoder */
    fm_param *in_norm, *in, *norm, *out; /* [D] [Dk,D] [Dk] [D,Dk] */
    column_layer *layer;
} column;

struct fm_columns {
    fm_model_config still; /* the decoder's without dropout: what is not trained is the same in training */
    column column[FM_MAX_COLUMNS];
};

/* ---- configuration --------------------------------------------------------------------------- */

static const fm_family *family_of(const fm_model_config *cfg) {
    return fm_family_find(cfg->family);
}

static fm_status check_decoder(const fm_model_config *cfg) {
    const fm_family *f = family_of(cfg);
    const char *why = !f || f->forward != fm_decoder_forward ? "this family is none"
                      : cfg->mla.kv_rank > 0                 ? "this one has latent attention"
                      : cfg->moe.n_experts > 0               ? "this one has experts"
                      : cfg->n_mtp > 0                       ? "this one has prediction layers"
                      : cfg->head.kind != FM_HEAD_LM         ? "this one's main head is of another kind"
                                                             : NULL;
    if (why) {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "progressive columns stand beside dense decoders of the Llama kind with a language model head; %s (%s)",
                why, cfg->family);
    }
    return FM_OK;
}

fm_status fm_columns_check(const fm_model_config *cfg) {
    if (cfg->n_columns == 0) {
        return FM_OK;
    }
    FM_TRY(check_decoder(cfg));
    for (int32_t k = 0; k < cfg->n_columns; k++) {
        const fm_column_config *q = &cfg->column[k];
        const struct {
            const char *key;
            int32_t value, most;
        } sizes[] = {{"num_hidden_layers", q->n_layers, cfg->n_layers},
                     {"hidden_size", q->d_model, 1 << 20},
                     {"num_attention_heads", q->n_heads, 1 << 16},
                     {"intermediate_size", q->d_ff, 1 << 20},
                     {"lateral_size", q->lateral, 1 << 20}};
        for (size_t i = 0; i < FM_ARRAY_LEN(sizes); i++) {
            if (sizes[i].value < 1 || sizes[i].value > sizes[i].most) {
                FM_FAIL(FM_ERR_CONFIG, "column %d: %s: expected 1 to %d, found %d", (int)k + 2, sizes[i].key,
                        (int)sizes[i].most, (int)sizes[i].value);
            }
        }
        if (q->n_heads % cfg->n_kv_heads != 0) {
            FM_FAIL(FM_ERR_CONFIG,
                    "column %d: num_attention_heads: expected a multiple of num_key_value_heads %d, found %d",
                    (int)k + 2, (int)cfg->n_kv_heads, (int)q->n_heads);
        }
    }
    return FM_OK;
}

static const struct {
    const char *key;
    size_t offset;
} keys[] = {{"num_hidden_layers", offsetof(fm_column_config, n_layers)},
            {"hidden_size", offsetof(fm_column_config, d_model)},
            {"num_attention_heads", offsetof(fm_column_config, n_heads)},
            {"intermediate_size", offsetof(fm_column_config, d_ff)},
            {"lateral_size", offsetof(fm_column_config, lateral)}};

fm_status fm_columns_parse(fm_model_config *cfg, const fm_json *json) {
    const fm_json *list = fm_json_get(json, "fathom_columns");
    cfg->n_columns = 0;
    if (fm_json_is_null(list)) {
        return FM_OK;
    }
    if (!fm_json_is_array(list) || fm_json_size(list) > FM_MAX_COLUMNS) {
        FM_FAIL(FM_ERR_CONFIG, "fathom_columns: expected a list of at most %d columns", FM_MAX_COLUMNS);
    }
    for (size_t i = 0; i < fm_json_size(list); i++) {
        fm_column_config *q = &cfg->column[cfg->n_columns++];
        for (size_t k = 0; k < FM_ARRAY_LEN(keys); k++) {
            FM_TRY(fm_decoder_get_size((int32_t *)(void *)((char *)q + keys[k].offset), fm_json_at(list, i),
                                       keys[k].key, INT64_MIN));
        }
    }
    return FM_OK;
}

fm_status fm_columns_write(const fm_model_config *cfg, fm_json *json) {
    fm_json_remove(json, "fathom_columns");
    if (cfg->n_columns == 0) {
        return FM_OK;
    }
    FM_TRY(fm_json_set(json, "fathom_columns", fm_json_new_array()));
    fm_json *list = fm_json_get(json, "fathom_columns");
    for (int32_t i = 0; i < cfg->n_columns; i++) {
        FM_TRY(fm_json_append(list, fm_json_new_object()));
        for (size_t k = 0; k < FM_ARRAY_LEN(keys); k++) {
            int32_t v = *(const int32_t *)(const void *)((const char *)&cfg->column[i] + keys[k].offset);
            FM_TRY(fm_json_set(fm_json_at(list, (size_t)i), keys[k].key, fm_json_new_int(v)));
        }
    }
    return FM_OK;
}

fm_status fm_columns_add(fm_model_config *cfg, int32_t width, int32_t layers, int32_t lateral_width) {
    FM_TRY(check_decoder(cfg));
    if (cfg->n_columns == FM_MAX_COLUMNS) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "the model has %d columns already, the most there can be", FM_MAX_COLUMNS + 1);
    }
    width = width > 0 ? width : FM_MAX(cfg->d_model / 2, 1);
    double share = (double)width / cfg->d_model;
    int32_t groups = (int32_t)lround(share * cfg->n_heads / cfg->n_kv_heads);
    fm_column_config q = {.n_layers = layers > 0 ? layers : cfg->n_layers,
                          .d_model = width,
                          .n_heads = cfg->n_kv_heads * FM_MAX(groups, 1),
                          .d_ff = FM_MAX((int32_t)lround(share * cfg->d_ff / 8) * 8, 8),
                          .lateral = lateral_width > 0 ? lateral_width : FM_MAX(width / 4, 1)};
    if (q.n_layers > cfg->n_layers) {
        FM_FAIL(FM_ERR_CONFIG, "progressive_layers: the model has %d layers, found %d", (int)cfg->n_layers,
                (int)q.n_layers);
    }
    cfg->column[cfg->n_columns++] = q;
    return fm_columns_check(cfg);
}

bool fm_is_column_param(const fm_param *p, int32_t k) {
    char prefix[32];
    int n = snprintf(prefix, sizeof prefix, "columns.%d.", (int)k - 1);
    return strncmp(p->name, prefix, (size_t)n) == 0;
}

/* ---- weights --------------------------------------------------------------------------------- */

static int32_t width_of(const fm_model_config *cfg, int32_t k) {
    return k == 0 ? cfg->d_model : cfg->column[k - 1].d_model;
}

static fm_status add(fm_model *m, fm_param **out, int32_t k, const char *name, int64_t rows, int64_t cols,
                     fm_init_kind init) {
    char full[96];
    snprintf(full, sizeof full, "columns.%d.%s", (int)k - 1, name);
    return fm_decoder_add_named(&m->cfg, m->params, out, full, rows, cols, init);
}

static fm_status build_layer(fm_model *m, int32_t k, int32_t l, int32_t cache, column_layer *y) {
    const column *q = &m->columns->column[k - 1];
    int32_t n = m->cfg.column[k - 1].n_layers, d = width_of(&m->cfg, k), r = m->cfg.column[k - 1].lateral;
    char prefix[48], name[64];
    snprintf(prefix, sizeof prefix, "columns.%d.layers", (int)k - 1);
    FM_TRY(fm_decoder_build_layer(&q->cfg, m->params, prefix, l, cache, &y->y));
    y->after = (int32_t)(((int64_t)(l + 1) * m->cfg.n_layers + n - 1) / n) - 1;
    y->y.attn.window = fm_layer_window(&m->cfg, y->after);
    for (int32_t j = 0; j < k; j++) {
        int32_t from = width_of(&m->cfg, j);
        snprintf(name, sizeof name, "layers.%d.lateral.%d.norm.weight", (int)l, (int)j);
        FM_TRY(add(m, &y->from[j].norm, k, name, 0, from, FM_INIT_ONES));
        snprintf(name, sizeof name, "layers.%d.lateral.%d.down_proj.weight", (int)l, (int)j);
        FM_TRY(add(m, &y->from[j].down, k, name, r, from, FM_INIT_NORMAL));
        snprintf(name, sizeof name, "layers.%d.lateral.%d.up_proj.weight", (int)l, (int)j);
        FM_TRY(add(m, &y->from[j].up, k, name, d, r, FM_INIT_NORMAL));
    }
    return FM_OK;
}

static fm_status build_column(fm_model *m, int32_t k, int32_t *cache) {
    const fm_column_config *size = &m->cfg.column[k - 1];
    column *q = &m->columns->column[k - 1];
    int64_t d = m->cfg.d_model, own = size->d_model;
    q->cfg = k == m->cfg.n_columns ? m->cfg : m->columns->still;
    q->cfg.d_model = size->d_model;
    q->cfg.n_heads = size->n_heads;
    q->cfg.d_ff = size->d_ff;
    q->layer = fm_params_keep(m->params, (size_t)size->n_layers * sizeof *q->layer);
    if (!q->layer) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %d layers of a column", (int)size->n_layers);
    }
    FM_TRY(add(m, &q->in_norm, k, "input_norm.weight", 0, d, FM_INIT_ONES));
    FM_TRY(add(m, &q->in, k, "input_proj.weight", own, d, FM_INIT_NORMAL));
    for (int32_t l = 0; l < size->n_layers; l++) {
        FM_TRY(build_layer(m, k, l, (*cache)++, &q->layer[l]));
    }
    FM_TRY(add(m, &q->norm, k, "norm.weight", 0, own, FM_INIT_ONES));
    return add(m, &q->out, k, "output_proj.weight", d, own, FM_INIT_ZEROS);
}

fm_status fm_model_columns_build(fm_model *m) {
    int32_t cache = m->cfg.n_layers;
    if (m->cfg.n_columns == 0) {
        return FM_OK;
    }
    m->columns = fm_params_keep(m->params, sizeof *m->columns);
    if (!m->columns) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for columns");
    }
    m->columns->still = m->cfg;
    m->columns->still.hidden_dropout = m->columns->still.attention_dropout = 0;
    fm_decoder *d = m->state;
    for (int32_t l = 0; l < m->cfg.n_layers; l++) {
        d->layer[l].attn.dropout = 0;
    }
    for (int32_t k = 1; k <= m->cfg.n_columns; k++) {
        FM_TRY(build_column(m, k, &cache));
    }
    m->column = m->cfg.n_columns;
    return FM_OK;
}

/* ---- forward --------------------------------------------------------------------------------- */

typedef struct layer_args {
    const fm_decoder_layer *y;
    const column_layer *of; /* NULL: a layer of the decoder */
    const fm_model_config *cfg;
    int32_t k; /* column */
    fm_batch b;
    fm_rope_state rope;
} layer_args;

/* in: the streams of columns 0 .. k-1, then its own. */
static fm_status layer_forward(fm_ctx *c, void *args, fm_tensor *const *in, fm_tensor **out) {
    const layer_args *a = args;
    float eps = (float)a->cfg->norm_eps;
    fm_tensor *h = in[a->k];
    for (int32_t j = 0; j < a->k && h; j++) {
        const lateral *y = &a->of->from[j];
        fm_tensor *x = fm_linear(c, fm_rmsnorm(c, in[j], fm_leaf(c, y->norm), eps), fm_leaf(c, y->down), NULL);
        h = fm_add(c, h, fm_linear(c, fm_activation(c, x, FM_ACT_SILU), fm_leaf(c, y->up), NULL));
    }
    *out = fm_decoder_layer_forward(c, a->y, a->cfg, &a->b, &a->rope, h);
    return fm_ctx_status(c);
}

/* A copy that later layers of the stream do not overwrite. */
static fm_tensor *copy_of(fm_ctx *c, const fm_tensor *x) {
    fm_tensor *y = x ? fm_new(c, x->dtype, x->n_dims, x->dim) : NULL;
    if (!y) {
        return NULL;
    }
    fm_axpby_args a = {.n = fm_numel(x), .alpha = 1, .beta = 0, .x = fm_data(c, x), .y = fm_data(c, y)};
    fm_status s = fm_run(c, FM_K_axpby, x->dtype, &a);
    if (s != FM_OK) {
        fm_ctx_fail(c, s);
        return NULL;
    }
    return y;
}

/* The layers of column k that follow layer l of the decoder. With `tape` they are recorded, else done in place. */
static fm_tensor *follow(fm_ctx *c, const fm_model *m, layer_args *a, int32_t k, int32_t l, bool tape, fm_tensor **h) {
    const column *q = &m->columns->column[k - 1];
    a->cfg = &q->cfg;
    a->k = k;
    for (int32_t i = 0; i < m->cfg.column[k - 1].n_layers && h[k]; i++) {
        fm_tensor *in[1 + FM_MAX_COLUMNS], *out = NULL;
        if (q->layer[i].after != l) {
            continue;
        }
        a->of = &q->layer[i];
        a->y = &q->layer[i].y;
        if (!tape) {
            h[k] = fm_layer_in_place(c, layer_forward, a, h, h[k]);
            continue;
        }
        for (int32_t j = 0; j < k; j++) {
            in[j] = copy_of(c, h[j]);
        }
        in[k] = h[k];
        fm_status s = fm_ctx_status(c);
        if (s == FM_OK) {
            s = m->checkpoint_layers
                    ? fm_checkpoint(fm_at(c, __FILE__, __LINE__), layer_forward, a, sizeof *a, k + 1, in, 1, &out)
                    : layer_forward(c, a, in, &out);
        }
        h[k] = s == FM_OK ? out : NULL;
    }
    return h[k];
}

static void record(fm_ctx *c, bool on) {
    if (on) {
        fm_tape_resume(c);
    } else {
        fm_tape_off(c);
    }
}

static fm_tensor *enter(fm_ctx *c, const fm_model *m, int32_t k, fm_tensor *embedding) {
    const column *q = &m->columns->column[k - 1];
    fm_tensor *n = fm_rmsnorm(c, embedding, fm_leaf(c, q->in_norm), (float)m->cfg.norm_eps);
    return fm_linear(c, n, fm_leaf(c, q->in), NULL);
}

fm_tensor *fm_columns_forward(fm_ctx *c, const fm_model *m, const fm_batch *b) {
    const fm_decoder *d = m->state;
    int32_t last = m->column;
    bool tape = fm_tape_on(c);
    float eps = (float)m->cfg.norm_eps;
    fm_tensor *h[1 + FM_MAX_COLUMNS] = {NULL};
    layer_args a = {.b = *b};
    FM_ASSERT(last >= 1 && last <= m->cfg.n_columns);
    record(c, false);
    fm_status s = fm_decoder_rope(c, m, b, &a.rope);
    if (s != FM_OK) {
        fm_ctx_fail(c, s);
        return NULL;
    }
    fm_tensor *ids = fm_from_memory(c, FM_I32, 1, (int64_t[]){b->n_tokens}, (void *)b->ids);
    h[0] = fm_embedding(c, fm_leaf(c, d->embed), ids);
    for (int32_t k = 1; k < last; k++) {
        h[k] = enter(c, m, k, h[0]);
    }
    record(c, tape);
    h[last] = enter(c, m, last, tape ? copy_of(c, h[0]) : h[0]);
    for (int32_t l = 0; l < m->cfg.n_layers && h[last]; l++) {
        record(c, false);
        a.y = &d->layer[l];
        a.cfg = &m->columns->still;
        a.k = 0;
        h[0] = fm_layer_in_place(c, layer_forward, &a, h, h[0]);
        for (int32_t k = 1; k < last && h[0]; k++) {
            if (!follow(c, m, &a, k, l, false, h)) {
                return NULL;
            }
        }
        record(c, tape);
        h[last] = h[0] ? follow(c, m, &a, last, l, tape, h) : NULL;
    }
    if (!h[last]) {
        record(c, tape);
        return NULL;
    }
    record(c, false);
    fm_tensor *before = fm_rmsnorm(c, h[0], fm_leaf(c, d->norm), eps);
    record(c, tape);
    const column *q = &m->columns->column[last - 1];
    fm_tensor *own = fm_rmsnorm(c, h[last], fm_leaf(c, q->norm), eps);
    return fm_add(c, before, fm_linear(c, own, fm_leaf(c, q->out), NULL));
}
