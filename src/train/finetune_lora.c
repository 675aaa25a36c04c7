/* Low-rank adapters beside frozen weights (Hu et al. 2021), which may be quantised (Dettmers et al. 2023). */
#include "model/quant_base.h"
#include "train/finetune.h"

#include <string.h>

/* quantization_bit alone stands for its usual type. */
static fm_status quantise(fm_model *m, const fm_train_config *c) {
    const char *type = c->quantization_type;
    fm_quant_base q = {.twice = c->double_quantization};
    if (!type && c->quantization_bit == 0) {
        return FM_OK;
    }
    if (c->quantization_bit != 0 && c->quantization_bit != 4 && c->quantization_bit != 8) {
        FM_FAIL(FM_ERR_CONFIG, "quantization_bit: expected 4 or 8, found %lld", (long long)c->quantization_bit);
    }
    if (type && strcmp(type, "stored") == 0) {
        q.stored = c->model_name_or_path;
    } else {
        FM_TRY(fm_quant_base_parse(&q.type, type ? type : c->quantization_bit == 4 ? "nf4" : "int8"));
        if (c->quantization_bit == 8 && q.type != FM_I8 && q.type != FM_Q8_0) {
            FM_FAIL(FM_ERR_CONFIG, "quantization_bit is 8 and quantization_type %s: set one of them", type);
        }
    }
    return fm_quant_base_describe(m, &q);
}

static fm_status prepare(fm_model *m, const fm_train_config *c) {
    static const char *const all[] = {"all"};
    const fm_objective *o = fm_objective_find(c->stage ? c->stage : "");
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
                           .heads = o && o->configure, /* a stage with a head of its own */
                           .target = all,
                           .n_targets = 1};
    if (c->lora_target.n > 0) {
        a.target = (const char *const *)c->lora_target.item;
        a.n_targets = (int)c->lora_target.n;
    }
    FM_TRY(fm_adapter_new(m, &a));
    return quantise(m, c);
}

extern const fm_finetune fm_finetune_lora;
const fm_finetune fm_finetune_lora = {
    .name = "lora", .help = "low-rank adapters", .needs_model = true, .rate = 2e-4, .prepare = prepare};
