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
    if (cfg->positions == FM_POS_ROPE) {
        m->rope_freq = fm_malloc((size_t)(cfg->rope.dim / 2) * sizeof(double));
        if (!m->rope_freq) {
            FM_FAIL_GOTO(s, fail, FM_ERR_NO_MEMORY, "no memory for rope frequencies");
        }
        FM_TRY_GOTO(s, fail, fm_rope_frequencies(&cfg->rope, m->rope_freq, &m->rope_mscale));
    }
    FM_TRY_GOTO(s, fail, family->build(&m->cfg, m->params, &m->state));
    FM_TRY_GOTO(s, fail, fm_heads_build(m));
    FM_TRY_GOTO(s, fail, fm_model_mtp_build(m));
    FM_TRY_GOTO(s, fail, fm_head_architecture(m->architecture, sizeof m->architecture, family, &m->cfg.head));
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
    fm_json_free(m->generation);
    fm_pool_free(m->pool);
    fm_free(m->rope_freq);
    fm_free(m->state);
    fm_free(m->path);
    fm_free(m->license);
    fm_free(m);
}

int64_t fm_model_params_active(const fm_model *m) {
    int64_t unused = fm_model_config_params(&m->cfg) - fm_model_config_params_active(&m->cfg);
    return fm_params_numel(m->params) - unused - fm_model_config_params_mtp(&m->cfg);
}

fm_tensor *fm_model_forward(fm_ctx *c, const fm_model *m, const fm_batch *b) {
    return m->family->forward(c, m, b);
}

fm_tensor *fm_model_head(fm_ctx *c, const fm_model *m, fm_tensor *hidden, fm_tensor *idx) {
    return fm_head_logits(c, m, idx ? fm_gather(c, hidden, idx) : hidden);
}

/* ---- losses ---------------------------------------------------------------------------------- */

static fm_tensor *refuse(fm_ctx *c, const char *what) {
    fm_ctx_fail(c, fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "a loss was asked for a batch without %s", what));
    return NULL;
}

static fm_tensor *lm_loss(fm_ctx *c, const fm_model *m, fm_tensor *h, const fm_batch *b, const fm_loss_options *o,
                          fm_tensor **token_loss) {
    const fm_head *head = &m->heads[0];
    int32_t n = b->rows ? b->n_rows : b->n_tokens;
    if (!b->targets && !fm_ctx_is_meta(c)) {
        return refuse(c, "targets");
    }
    if (b->rows) {
        h = fm_gather(c, h, fm_from_memory(c, FM_I32, 1, (int64_t[]){n}, (void *)(uintptr_t)b->rows));
    }
    fm_tensor *t = fm_from_memory(c, FM_I32, 1, (int64_t[]){n}, (void *)(uintptr_t)b->targets);
    if (head->side_w || head->b) { /* whole logits: such models mark the rows that carry loss */
        return fm_cross_entropy(c, fm_head_logits(c, m, h), t, o, token_loss);
    }
    return fm_linear_ce(c, fm_head_transform(c, head, h), fm_leaf(c, head->w), t, o, token_loss);
}

/* Loss of head b->head on hidden states h. */
static fm_tensor *head_loss(fm_ctx *c, const fm_model *m, fm_tensor *h, const fm_batch *b, const fm_loss_options *o,
                            fm_tensor **token_loss) {
    const fm_head_config *head = m->heads[b->head].cfg;
    if (head->kind == FM_HEAD_LM) {
        return lm_loss(c, m, h, b, o, token_loss);
    }
    if (head->kind == FM_HEAD_NONE) {
        fm_ctx_fail(c, fm_error_set(FM_ERR_STATE, __FILE__, __LINE__, "a model without a head has no loss"));
        return NULL;
    }
    bool token = head->kind == FM_HEAD_TOKEN;
    int64_t rows = token ? b->n_tokens : b->n_segments;
    fm_tensor *scores = fm_head_scores(c, m, b->head, h, b);
    if (head->problem == FM_PROBLEM_SINGLE) {
        const int32_t *labels = token ? b->targets : b->labels;
        if (!labels && !fm_ctx_is_meta(c)) {
            return refuse(c, token ? "targets" : "labels");
        }
        fm_tensor *t = fm_from_memory(c, FM_I32, 1, &rows, (void *)(uintptr_t)labels);
        return fm_cross_entropy(c, scores, t, o, token_loss);
    }
    if (!b->values && !fm_ctx_is_meta(c)) {
        return refuse(c, "values");
    }
    fm_pointwise_options po = {.kind = head->problem == FM_PROBLEM_MULTI ? FM_POINTWISE_BCE : FM_POINTWISE_MSE,
                               .target = b->values,
                               .weight = o->weight,
                               .scale = o->scale};
    return fm_pointwise_loss(c, scores, &po, token_loss);
}

/* The balance loss is a mean over tokens: it counts by the share of the step's trained rows that this batch has, so
 * that it does not depend on the size of micro-batches. */
static fm_tensor *add_balance(fm_ctx *c, const fm_model *m, const fm_batch *b, const fm_loss_options *o, fm_tensor *y) {
    int64_t trained = b->targets ? 0 : b->n_segments;
    for (int32_t t = 0; b->targets && t < (b->rows ? b->n_rows : b->n_tokens); t++) {
        trained += b->targets[t] != o->ignore_index;
    }
    fm_tensor *aux =
        fm_moe_balance_loss(c, &m->cfg.moe, m->cfg.n_layers + m->cfg.n_mtp, b->routing, b->n_segments, b->q_offsets);
    return fm_add(c, y, fm_scale(c, aux, o->scale * (double)trained));
}

fm_tensor *fm_model_loss(fm_ctx *c, const fm_model *m, const fm_batch *b, const fm_loss_options *o,
                         fm_tensor **token_loss) {
    FM_ASSERT(b->head >= 0 && b->head < m->n_heads);
    fm_loss_options lo = *o;
    fm_batch own = *b;
    lo.weight = lo.weight ? lo.weight : b->loss_weight;
    bool train = fm_ctx_training(c) && fm_tape_on(c);
    bool balance = train && m->cfg.moe.n_experts > 0 && m->cfg.moe.aux_alpha > 0;
    bool mtp = train && m->cfg.n_mtp > 0 && m->cfg.mtp_weight > 0 && m->heads[b->head].cfg->kind == FM_HEAD_LM;
    if (balance) {
        own.routing = fm_calloc((size_t)m->cfg.n_layers + (size_t)m->cfg.n_mtp, sizeof *own.routing);
        if (!own.routing) {
            fm_ctx_fail(c, fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for what routers did"));
            return NULL;
        }
    }
    fm_tensor *h = fm_model_forward(c, m, &own), *y = head_loss(c, m, h, &own, &lo, token_loss);
    if (mtp) {
        y = y ? fm_add(c, y, fm_model_mtp_loss(c, m, &own, &lo, h)) : NULL;
    }
    if (balance) {
        y = y ? add_balance(c, m, &own, o, y) : NULL;
        fm_free(own.routing);
    }
    return y;
}
