/* Some layers, and what is named besides: the rest is frozen, in the compute type and without gradients or optimizer
 * state. */
#include <string.h>

#include "train/finetune.h"
#include "train/layer_norms.h"

static bool in_layers(int32_t layer, int32_t n_layers, int64_t n) {
    return layer >= 0 && (n >= 0 ? layer >= n_layers - n : layer < -n);
}

static fm_status prepare(fm_model *m, const fm_train_config *c) {
    int64_t n = c->freeze_trainable_layers;
    if (n > m->cfg.n_layers || -n > m->cfg.n_layers) {
        FM_FAIL(FM_ERR_CONFIG, "freeze_trainable_layers: the model has %d layers, found %lld", (int)m->cfg.n_layers,
                (long long)n);
    }
    bool *hit = fm_calloc(c->freeze_trainable_modules.n + 1, sizeof *hit);
    if (!hit) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu names", c->freeze_trainable_modules.n);
    }
    int64_t trained = 0;
    for (int i = 0; i < fm_params_count(m->params); i++) {
        fm_param *p = fm_params_at(m->params, i);
        bool train = in_layers(fm_layer_of(p->name), m->cfg.n_layers, n) ||
                     (i >= m->n_trunk && (m->cfg.head.kind != FM_HEAD_LM ||
                                          strncmp(p->name, "heads.", 6) == 0)); /* a task's own head begins at random */
        for (size_t k = 0; k < c->freeze_trainable_modules.n; k++) {
            if (strstr(p->name, c->freeze_trainable_modules.item[k])) {
                hit[k] = train = true;
            }
        }
        p->frozen = !train;
        trained += train && !p->tie ? p->numel : 0;
    }
    fm_status s = FM_OK;
    for (size_t k = 0; k < c->freeze_trainable_modules.n && s == FM_OK; k++) {
        if (!hit[k]) {
            (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__,
                               "freeze_trainable_modules: no parameter's name has \"%s\"",
                               c->freeze_trainable_modules.item[k]);
            s = fm_error_hint("parts of names such as embed_tokens, lm_head, layers.3.mlp");
        }
    }
    fm_free(hit);
    FM_TRY(s);
    if (trained == 0) {
        FM_FAIL(FM_ERR_CONFIG,
                "finetuning_type freeze: nothing would be trained; set freeze_trainable_layers (last n, or "
                "first -n) or freeze_trainable_modules");
    }
    return FM_OK;
}

extern const fm_finetune fm_finetune_freeze;
const fm_finetune fm_finetune_freeze = {
    .name = "freeze", .help = "the last or first layers", .needs_model = true, .prepare = prepare};
