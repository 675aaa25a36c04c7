/* Gradient norm of each layer. */
#include "train/layer_norms.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

int fm_layer_of(const char *name) {
    static const char *const marks[] = {"layers.", "layer.", ".h.", "blocks."};
    for (size_t i = 0; i < FM_ARRAY_LEN(marks); i++) {
        const char *p = strstr(name, marks[i]);
        char *end;
        long v = p ? strtol(p + strlen(marks[i]), &end, 10) : -1;
        if (p && end != p + strlen(marks[i]) && *end == '.' && v >= 0 && v < 100000) {
            return (int)v;
        }
    }
    return -1;
}

fm_status fm_layer_norms_init(fm_layer_norms *l, const fm_params *ps) {
    memset(l, 0, sizeof *l);
    l->n_params = fm_params_count(ps);
    for (int i = 0; i < l->n_params; i++) {
        l->n_layers = FM_MAX(l->n_layers, fm_layer_of(fm_params_at(ps, i)->name) + 1);
    }
    l->group = fm_calloc((size_t)l->n_params + 1, sizeof *l->group);
    l->sum = fm_calloc((size_t)l->n_params + 1, sizeof *l->sum);
    l->norm = fm_calloc((size_t)l->n_layers + 1, sizeof *l->norm);
    if (!l->group || !l->sum || !l->norm) {
        fm_layer_norms_deinit(l);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the gradient norms of %d layers", l->n_layers);
    }
    for (int i = 0; i < l->n_params; i++) {
        int g = fm_layer_of(fm_params_at(ps, i)->name);
        l->group[i] = g < 0 ? l->n_layers : g;
    }
    return FM_OK;
}

void fm_layer_norms_deinit(fm_layer_norms *l) {
    fm_free(l->group);
    fm_free(l->sum);
    fm_free(l->norm);
    memset(l, 0, sizeof *l);
}

void fm_layer_norms_update(fm_layer_norms *l) {
    memset(l->norm, 0, ((size_t)l->n_layers + 1) * sizeof *l->norm);
    for (int i = 0; i < l->n_params; i++) {
        l->norm[l->group[i]] += l->sum[i];
    }
    for (int i = 0; i <= l->n_layers; i++) {
        l->norm[i] = sqrt(l->norm[i]);
    }
}
