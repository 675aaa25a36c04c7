/* The table of what can be trained. */
#include "train/finetune.h"

#include <string.h>

#define FM_FINETUNE(n) extern const fm_finetune fm_finetune_##n;
#include "train/finetunes.def"
#undef FM_FINETUNE

static const fm_finetune *const kinds[] = {
#define FM_FINETUNE(n) &fm_finetune_##n,
#include "train/finetunes.def"
#undef FM_FINETUNE
};

const fm_finetune *fm_finetune_find(const char *name) {
    for (size_t i = 0; i < FM_ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i]->name, name) == 0) {
            return kinds[i];
        }
    }
    return NULL;
}

void fm_finetune_names(fm_str *out) {
    for (size_t i = 0; i < FM_ARRAY_LEN(kinds); i++) {
        fm_str_printf(out, "%s%s", i ? ", " : "", kinds[i]->name);
    }
}

fm_params *fm_trained_params(const fm_model *m) {
    return m->adapter ? m->adapter->params : m->params;
}

int64_t fm_trained_numel(const fm_params *ps) {
    int64_t n = 0;
    for (int i = 0; i < fm_params_count(ps); i++) {
        const fm_param *p = fm_params_at(ps, i);
        n += p->tie || p->frozen ? 0 : p->numel;
    }
    return n;
}
