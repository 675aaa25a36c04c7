/* Building, head and loss of models. */
#include "model/model.h"

#include <string.h>

#include "model/adapter.h"
#include "model/columns.h"
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
    FM_TRY_GOTO(s, fail, fm_model_columns_build(m));
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

fm_tensor *fm_head_loss(fm_ctx *c, const fm_model *m, fm_tensor *h, const fm_batch *b, const fm_loss_options *o,
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
    if (head->problem == FM_PROBLEM_SPAN) {
        return b->values || fm_ctx_is_meta(c) ? fm_span_loss(c, scores, b, o, token_loss) : refuse(c, "values");
    }
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
static double trained_share(const fm_batch *b, const fm_loss_options *o) {
    int64_t trained = b->targets ? 0 : b->n_segments;
    for (int32_t t = 0; b->targets && t < (b->rows ? b->n_rows : b->n_tokens); t++) {
        trained += b->targets[t] != o->ignore_index;
    }
    return o->scale * (double)trained;
}

/* Hidden states; *aux is the balance loss of the experts times `share`, or NULL when none is learned. */
static fm_tensor *forward_balanced(fm_ctx *c, const fm_model *m, fm_batch *b, double share, fm_tensor **aux) {
    *aux = NULL;
    if (!fm_ctx_training(c) || !fm_tape_on(c) || m->cfg.moe.n_experts == 0 || !(m->cfg.moe.aux_alpha > 0)) {
        return fm_model_forward(c, m, b);
    }
    b->routing = fm_calloc((size_t)m->cfg.n_layers + (size_t)m->cfg.n_mtp, sizeof *b->routing);
    if (!b->routing) {
        fm_ctx_fail(c, fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for what routers did"));
        return NULL;
    }
    fm_tensor *h = fm_model_forward(c, m, b);
    if (h) {
        *aux = fm_moe_balance_loss(c, &m->cfg.moe, m->cfg.n_layers + m->cfg.n_mtp, b->routing, b->n_segments,
                                   b->q_offsets);
        *aux = fm_scale(c, *aux, share);
    }
    fm_free(b->routing);
    b->routing = NULL;
    return h;
}

fm_tensor *fm_model_loss(fm_ctx *c, const fm_model *m, const fm_batch *b, const fm_loss_options *o,
                         fm_tensor **token_loss) {
    FM_ASSERT(b->head >= 0 && b->head < m->n_heads);
    fm_loss_options lo = *o;
    fm_batch own = *b;
    lo.weight = lo.weight ? lo.weight : b->loss_weight;
    bool mtp = fm_ctx_training(c) && fm_tape_on(c) && m->cfg.n_mtp > 0 && m->cfg.mtp_weight > 0 &&
               m->heads[b->head].cfg->kind == FM_HEAD_LM;
    fm_tensor *aux, *h = forward_balanced(c, m, &own, trained_share(b, o), &aux);
    fm_tensor *y = fm_head_loss(c, m, h, &own, &lo, token_loss);
    if (mtp) {
        y = y ? fm_add(c, y, fm_model_mtp_loss(c, m, &own, &lo, h)) : NULL;
    }
    return y && aux ? fm_add(c, y, aux) : y;
}

bool fm_model_losses(fm_ctx *c, const fm_model *m, int n, const fm_batch *part, const fm_loss_options *o, double share,
                     fm_tensor **loss, fm_tensor **aux) {
    FM_ASSERT(n > 0);
    fm_batch trunk = part[0];
    fm_tensor *h = forward_balanced(c, m, &trunk, share, aux);
    for (int i = 0; i < n; i++) {
        loss[i] = h ? fm_head_loss(c, m, h, &part[i], &o[i], NULL) : NULL;
    }
    return fm_ctx_status(c) == FM_OK;
}
