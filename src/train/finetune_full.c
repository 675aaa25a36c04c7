/* All weights. */
#include "train/finetune.h"

static fm_status prepare(fm_model *m, const fm_train_config *c) {
    FM_UNUSED(m);
    FM_UNUSED(c);
    return FM_OK;
}

extern const fm_finetune fm_finetune_full;
const fm_finetune fm_finetune_full = {.name = "full", .help = "all weights", .prepare = prepare};
