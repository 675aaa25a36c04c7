/* The table of objectives. */
#include "train/objective.h"

#include <string.h>

#define FM_OBJECTIVE(n) extern const fm_objective fm_objective_##n;
#include "train/objectives.def"
#undef FM_OBJECTIVE

static const fm_objective *const types[] = {
#define FM_OBJECTIVE(n) &fm_objective_##n,
#include "train/objectives.def"
#undef FM_OBJECTIVE
};

const fm_objective *fm_objective_find(const char *name) {
    for (size_t i = 0; i < FM_ARRAY_LEN(types); i++) {
        if (strcmp(types[i]->name, name) == 0) {
            return types[i];
        }
    }
    return NULL;
}

void fm_objective_names(fm_str *out) {
    for (size_t i = 0; i < FM_ARRAY_LEN(types); i++) {
        fm_str_printf(out, "%s%s", i ? ", " : "", types[i]->name);
    }
}
