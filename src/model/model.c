/* Building, head and loss of models. */
#include "model/model.h"

#include <string.h>

#include "model/adapter.h"
#include "model/files.h"

fm_status fm_model_build(fm_model **out, const fm_model_config *cfg) {
    *out = NULL;
    FM_TRY(fm_model_config_check(cfg));
    const fm_family *family = fm_family_find(cfg->family);
    if (!family) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "model family \"%s\" is not known", cfg->family);
    }
    fm_model *m = fm_calloc(1, sizeof *m);
    if (!m) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a model");
    }
    m->cfg = *cfg;
    m->family = family;
    m->compute = FM_F32;
    m->stored = FM_F32;
    if (cfg->eos_id >= 0) {
        m->eos[m->n_eos++] = cfg->eos_id;
    }
    fm_status s = fm_params_new(&m->params);
    if (s != FM_OK) {
        goto fail;
    }
    m->rope_freq = fm_malloc((size_t)(cfg->rope.dim / 2) * sizeof(double));
    if (!m->rope_freq) {
        FM_FAIL_GOTO(s, fail, FM_ERR_NO_MEMORY, "no memory for rope frequencies");
    }
    FM_TRY_GOTO(s, fail, fm_rope_frequencies(&cfg->rope, m->rope_freq, &m->rope_mscale));
    FM_TRY_GOTO(s, fail, family->build(&m->cfg, m->params, &m->state));
    if (cfg->tied) {
        m->head = fm_params_find(m->params, "model.embed_tokens.weight");
        FM_ASSERT(m->head);
    } else {
        FM_TRY_GOTO(s, fail,
                    fm_params_add(m->params,
                                  &(fm_param_desc){.name = "lm_head.weight",
                                                   .n_dims = 2,
                                                   .dim = {cfg->vocab_size, cfg->d_model},
                                                   .init = FM_INIT_NORMAL,
                                                   .init_std = cfg->init_std},
                                  &m->head));
    }
    *out = m;
    return FM_OK;
fail:
    fm_model_close(m);
    return s;
}

void fm_model_close(fm_model *m) {
    if (!m) {
        return;
    }
    fm_adapter_free(m->adapter);
    fm_params_free(m->params);
    fm_model_files_close(m);
    fm_model_gguf_close(m);
    fm_tokenizer_free(m->tokenizer);
    fm_json_free(m->json);
    fm_pool_free(m->pool);
    fm_free(m->rope_freq);
    fm_free(m->state);
    fm_free(m->path);
    fm_free(m->license);
    fm_free(m);
}

int64_t fm_model_params_active(const fm_model *m) {
    int64_t unused = fm_model_config_params(&m->cfg) - fm_model_config_params_active(&m->cfg);
    return fm_params_numel(m->params) - unused;
}

fm_tensor *fm_model_forward(fm_ctx *c, const fm_model *m, const fm_batch *b) {
    return m->family->forward(c, m, b);
}

/* The product straight into the accumulation type. */
static fm_tensor *head_wide(fm_ctx *c, const fm_model *m, fm_tensor *x) {
    fm_dtype d = x->dtype, wide = fm_dtype_acc(d);
    int64_t rows = fm_rows(x), v = m->head->dim[0], k = m->head->dim[1];
    fm_tensor *w = fm_leaf(c, m->head), *y = fm_new(c, wide, 2, (int64_t[]){rows, v});
    if (!w || !y) {
        return NULL;
    }
    fm_matmul_args a = {.m = rows,
                        .n = v,
                        .k = k,
                        .a = fm_data(c, x),
                        .lda = k,
                        .ldb = k,
                        .trans_b = true,
                        .c = fm_data(c, y),
                        .ldc = v,
                        .c_dtype = wide};
    fm_status s = FM_OK;
    if (fm_ctx_pack(c) && !fm_ctx_is_meta(c)) {
        void *packed = NULL;
        s = fm_param_packed(fm_ctx_backend(c), fm_ctx_exec(c), m->head, d, &packed);
        a.b_packed = packed;
    }
    if (s == FM_OK && !a.b_packed) {
        a.b = fm_data(c, w);
        s = fm_ctx_status(c);
    }
    if (s == FM_OK) {
        s = fm_run(c, FM_K_matmul, d, &a);
    }
    if (s != FM_OK) {
        fm_ctx_fail(c, s);
        return NULL;
    }
    return y;
}

fm_tensor *fm_model_head(fm_ctx *c, const fm_model *m, fm_tensor *hidden, fm_tensor *idx) {
    fm_tensor *x = idx ? fm_gather(c, hidden, idx) : hidden;
    if (!x) {
        return NULL;
    }
    if (!fm_tape_on(c)) {
        return head_wide(c, m, x);
    }
    fm_tensor *y = fm_linear(c, x, fm_leaf(c, m->head), NULL);
    return y && y->dtype != fm_dtype_acc(y->dtype) ? fm_cast(c, y, fm_dtype_acc(y->dtype)) : y;
}

/* The balance loss is a mean over tokens: it counts by the share of the step's trained tokens that this batch has, so
 * that it does not depend on the size of micro-batches. */
static fm_tensor *add_balance(fm_ctx *c, const fm_model *m, const fm_batch *b, const fm_loss_options *o, fm_tensor *y) {
    int64_t trained = 0;
    for (int32_t t = 0; b->targets && t < b->n_tokens; t++) {
        trained += b->targets[t] != o->ignore_index;
    }
    fm_tensor *aux = fm_moe_balance_loss(c, &m->cfg.moe, m->cfg.n_layers, b->routing, b->n_segments, b->q_offsets);
    return fm_add(c, y, fm_scale(c, aux, o->scale * (double)trained));
}

fm_tensor *fm_model_loss(fm_ctx *c, const fm_model *m, const fm_batch *b, const fm_loss_options *o,
                         fm_tensor **token_loss) {
    if (!b->targets && !fm_ctx_is_meta(c)) {
        fm_ctx_fail(c,
                    fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "a loss was asked for a batch without targets"));
        return NULL;
    }
    fm_loss_options lo = *o;
    fm_batch own = *b;
    lo.weight = lo.weight ? lo.weight : b->loss_weight;
    bool balance = m->cfg.moe.n_experts > 0 && m->cfg.moe.aux_alpha > 0 && fm_ctx_training(c) && fm_tape_on(c);
    if (balance) {
        own.routing = fm_calloc((size_t)m->cfg.n_layers, sizeof *own.routing);
        if (!own.routing) {
            fm_ctx_fail(c, fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for what routers did"));
            return NULL;
        }
    }
    fm_tensor *h = fm_model_forward(c, m, &own);
    fm_tensor *t = fm_from_memory(c, FM_I32, 1, (int64_t[]){b->n_tokens}, (void *)b->targets);
    fm_tensor *y = fm_linear_ce(c, h, fm_leaf(c, m->head), t, &lo, token_loss);
    if (balance) {
        y = y ? add_balance(c, m, &own, o, y) : NULL;
        fm_free(own.routing);
    }
    return y;
}
