/* Experts of a decoder layer: the weight map. */
#include "model/decoder.h"

#include <stdio.h>

/* Names of the parts of one gated MLP under `prefix`. */
static fm_status add_mlp(const fm_model_config *cfg, fm_params *ps, int32_t layer, const char *prefix, bool short_names,
                         int64_t d_ff, fm_gated_mlp *y) {
    static const char *const names[2][3] = {{"gate_proj", "up_proj", "down_proj"}, {"w1", "w3", "w2"}};
    fm_param **const w[3] = {&y->gate_w, &y->up_w, &y->down_w};
    for (int i = 0; i < 3; i++) {
        char name[80];
        snprintf(name, sizeof name, "%s.%s.weight", prefix, names[short_names][i]);
        int64_t rows = i < 2 ? d_ff : cfg->d_model, cols = i < 2 ? cfg->d_model : d_ff;
        FM_TRY(fm_decoder_add(cfg, ps, layer, w[i], name, rows, cols, FM_INIT_NORMAL));
    }
    y->act = cfg->act;
    return FM_OK;
}

/* e_score_correction_bias: starts at 0 and is moved by fm_moe_update_bias. */
static fm_status add_bias(const fm_model_config *cfg, fm_params *ps, int32_t layer, fm_param **out) {
    char name[96];
    snprintf(name, sizeof name, "model.layers.%d.mlp.gate.e_score_correction_bias", (int)layer);
    fm_param_desc d = {
        .name = name, .n_dims = 1, .dim = {cfg->moe.n_experts}, .init = FM_INIT_ZEROS, .no_decay = true, .state = true};
    return fm_params_add(ps, &d, out);
}

fm_status fm_decoder_build_moe(const fm_model_config *cfg, fm_params *ps, int32_t layer, fm_moe_layer *y) {
    const fm_moe_config *moe = &cfg->moe;
    const char *block = moe->mixtral_names ? "block_sparse_moe" : "mlp";
    char name[64];
    y->cfg = moe;
    y->layer = layer;
    y->expert = fm_params_keep(ps, (size_t)moe->n_experts * sizeof *y->expert);
    y->load = fm_params_keep(ps, (size_t)moe->n_experts * sizeof *y->load);
    if (!y->expert || !y->load) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the handles of %d experts", (int)moe->n_experts);
    }
    snprintf(name, sizeof name, "%s.gate.weight", block);
    FM_TRY(fm_decoder_add(cfg, ps, layer, &y->gate, name, moe->n_experts, cfg->d_model, FM_INIT_NORMAL));
    if (moe->correction_bias) {
        FM_TRY(add_bias(cfg, ps, layer, &y->bias));
    }
    for (int32_t e = 0; e < moe->n_experts; e++) {
        snprintf(name, sizeof name, "%s.experts.%d", block, (int)e);
        FM_TRY(add_mlp(cfg, ps, layer, name, moe->mixtral_names, moe->d_ff, &y->expert[e]));
    }
    if (moe->n_shared > 0) {
        int64_t width = (int64_t)moe->n_shared * moe->d_ff;
        FM_TRY(add_mlp(cfg, ps, layer, "mlp.shared_experts", false, width, &y->shared));
    }
    return FM_OK;
}

fm_moe_layer *fm_model_moe_layer(const fm_model *m, int32_t layer) {
    if (m->cfg.moe.n_experts == 0 || layer < 0 || layer >= m->cfg.n_layers + m->cfg.n_mtp) {
        return NULL; /* families with experts are decoders */
    }
    fm_decoder *d = m->state;
    return d->layer[layer].moe.gate ? &d->layer[layer].moe : NULL;
}
