/* Multi-token prediction (DeepSeek V3, arXiv 2412.19437, section 2.2): after the last layer, blocks that see the hidden
 * state of a token beside the embedding of a later one and predict the token after that. Embedding and head are the
 * model's own; the files hold copies of them.
 *
 * The input of a block is [embedding, hidden], in this order in all published programs (the paper writes the other
 * one), and the hidden state is the one after the final norm. */
#include <stdio.h>

#include "model/decoder.h"

static fm_status add_copy(const fm_model_config *cfg, fm_params *ps, int32_t layer, const char *name, fm_param *of) {
    char full[96];
    snprintf(full, sizeof full, "model.layers.%d.%s", (int)layer, name);
    fm_param *unused;
    fm_param_desc d = {.name = full, .n_dims = 2, .dim = {cfg->vocab_size, cfg->d_model}, .tie = of, .in_files = true};
    return fm_params_add(ps, &d, &unused);
}

fm_status fm_model_mtp_build(fm_model *m) {
    const fm_model_config *cfg = &m->cfg;
    int64_t d = cfg->d_model;
    if (cfg->n_mtp == 0) {
        return FM_OK;
    }
    fm_decoder *dec = m->state; /* families with prediction layers are decoders */
    dec->mtp = fm_params_keep(m->params, (size_t)cfg->n_mtp * sizeof *dec->mtp);
    if (!dec->mtp) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %d prediction layers", (int)cfg->n_mtp);
    }
    for (int32_t k = 0; k < cfg->n_mtp; k++) {
        fm_mtp_layer *y = &dec->mtp[k];
        fm_params *ps = m->params;
        int32_t l = cfg->n_layers + k;
        FM_TRY(fm_decoder_add(cfg, ps, l, &y->embed_norm, "enorm.weight", 0, d, FM_INIT_ONES));
        FM_TRY(fm_decoder_add(cfg, ps, l, &y->hidden_norm, "hnorm.weight", 0, d, FM_INIT_ONES));
        FM_TRY(fm_decoder_add(cfg, ps, l, &y->proj, "eh_proj.weight", d, 2 * d, FM_INIT_NORMAL));
        FM_TRY(fm_decoder_add(cfg, ps, l, &y->norm, "shared_head.norm.weight", 0, d, FM_INIT_ONES));
        FM_TRY(add_copy(cfg, ps, l, "embed_tokens.weight", dec->embed));
        if (m->head) {
            FM_TRY(add_copy(cfg, ps, l, "shared_head.head.weight", m->head));
        }
    }
    return FM_OK;
}

fm_tensor *fm_model_mtp_forward(fm_ctx *c, const fm_model *m, int32_t depth, const fm_batch *b, fm_tensor *hidden) {
    int32_t layer = m->cfg.n_layers + depth;
    if (!hidden) {
        return NULL;
    }
    if (depth < 0 || depth >= m->cfg.n_mtp) {
        fm_ctx_fail(c, fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__,
                                    "prediction layer %d: the model has %d of them", (int)depth, (int)m->cfg.n_mtp));
        return NULL;
    }
    if (b->kv && b->kv->n_layers <= layer) {
        fm_ctx_fail(c, fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__,
                                    "prediction layer %d: expected a cache of at least %d layers, found %d", (int)depth,
                                    (int)layer + 1, (int)b->kv->n_layers));
        return NULL;
    }
    const fm_decoder *d = m->state;
    const fm_mtp_layer *y = &d->mtp[depth];
    float eps = (float)m->cfg.norm_eps;
    fm_tensor *ids = fm_from_memory(c, FM_I32, 1, (int64_t[]){b->n_tokens}, (void *)b->ids);
    fm_tensor *e = fm_rmsnorm(c, fm_embedding(c, fm_leaf(c, d->embed), ids), fm_leaf(c, y->embed_norm), eps);
    fm_tensor *h = fm_rmsnorm(c, hidden, fm_leaf(c, y->hidden_norm), eps);
    h = fm_linear(c, fm_concat_cols(c, e, h), fm_leaf(c, y->proj), NULL);
    h = fm_decoder_block(c, m, layer, b, h);
    return fm_rmsnorm(c, h, fm_leaf(c, y->norm), eps);
}

/* ids and targets `shift` tokens later; past the end of its segment a row has no loss, and as the last rows of their
 * segment such rows are seen by nobody else. */
static fm_status shifted(fm_ctx *c, const fm_batch *b, int32_t shift, int32_t ignore, int32_t **ids,
                         int32_t **targets) {
    fm_tensor *t = fm_new(c, FM_I32, 2, (int64_t[]){2, b->n_tokens});
    *ids = t ? fm_data(c, t) : NULL;
    *targets = *ids ? *ids + b->n_tokens : NULL;
    if (!*ids) {
        return fm_ctx_status(c);
    }
    for (int32_t s = 0; s < b->n_segments; s++) {
        for (int32_t i = b->q_offsets[s], end = b->q_offsets[s + 1]; i < end; i++) {
            bool there = i + shift < end;
            (*ids)[i] = there ? b->ids[i + shift] : 0;
            (*targets)[i] = there ? b->targets[i + shift] : ignore;
        }
    }
    return FM_OK;
}

fm_tensor *fm_model_mtp_loss(fm_ctx *c, const fm_model *m, const fm_batch *b, const fm_loss_options *o,
                             fm_tensor *hidden) {
    fm_tensor *sum = NULL;
    fm_loss_options lo = *o;
    lo.scale *= m->cfg.mtp_weight / m->cfg.n_mtp;
    for (int32_t k = 0; k < m->cfg.n_mtp; k++) {
        int32_t *ids, *targets;
        fm_batch later = *b;
        fm_status s = shifted(c, b, k + 1, o->ignore_index, &ids, &targets);
        if (s != FM_OK) {
            fm_ctx_fail(c, s);
            return NULL;
        }
        later.ids = ids;
        later.targets = targets;
        hidden = fm_model_mtp_forward(c, m, k, &later, hidden);
        fm_tensor *t = fm_from_memory(c, FM_I32, 1, (int64_t[]){b->n_tokens}, targets);
        fm_tensor *loss = fm_linear_ce(c, hidden, fm_leaf(c, m->head), t, &lo, NULL);
        sum = k ? fm_add(c, sum, loss) : loss;
    }
    return sum;
}

int64_t fm_model_config_params_mtp(const fm_model_config *cfg) {
    int64_t d = cfg->d_model, n = 0;
    for (int32_t k = 0; k < cfg->n_mtp; k++) {
        n += 2 * d * d + 3 * d + fm_model_config_params_layer(cfg, cfg->n_layers + k, false);
    }
    return n;
}
