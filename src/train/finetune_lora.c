/* Low-rank adapters beside frozen weights (Hu et al. 2021). */
#include "train/finetune.h"

static fm_status prepare(fm_model *m, const fm_train_config *c) {
    static const char *const all[] = {"all"};
    for (int i = 0; i < fm_params_count(m->params); i++) {
        fm_params_at(m->params, i)->frozen = true;
    }
    fm_adapter_config a = {.rank = c->lora_rank,
                           .alpha = c->lora_alpha > 0 ? c->lora_alpha : 2 * (double)c->lora_rank,
                           .dropout = c->lora_dropout,
                           .rslora = c->use_rslora,
                           .dora = c->use_dora,
                           .whole = (const char *const *)c->modules_to_save.item,
                           .n_whole = (int)c->modules_to_save.n,
                           .target = all,
                           .n_targets = 1};
    if (c->lora_target.n > 0) {
        a.target = (const char *const *)c->lora_target.item;
        a.n_targets = (int)c->lora_target.n;
    }
    return fm_adapter_new(m, &a);
}

extern const fm_finetune fm_finetune_lora;
const fm_finetune fm_finetune_lora = {
    .name = "lora", .help = "low-rank adapters", .needs_model = true, .rate = 2e-4, .prepare = prepare};
