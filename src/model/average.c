/* One model from the weights of several that went on from the same one (model soups: Wortsman et al. 2022). */
#include <string.h>

#include "base/file.h"
#include "model/convert.h"
#include "model/model.h"

static fm_status fits(const fm_model *m, const char *first, const fm_model *other, const char *path) {
    if (fm_params_count(m->params) != fm_params_count(other->params)) {
        FM_FAIL(FM_ERR_CONFIG, "%s has %d tensors, %s has %d: expected models of one shape", first,
                fm_params_count(m->params), path, fm_params_count(other->params));
    }
    for (int i = 0; i < fm_params_count(m->params); i++) {
        const fm_param *p = fm_params_at(m->params, i), *q = fm_params_find(other->params, p->name);
        if (!q || q->n_dims != p->n_dims || memcmp(q->dim, p->dim, p->n_dims * sizeof *p->dim) != 0) {
            FM_FAIL(FM_ERR_CONFIG, "%s: %s %s: expected the shape that %s has", path, p->name,
                    q ? "has another shape" : "is missing", first);
        }
    }
    return FM_OK;
}

/* m = (m * n + the model of path) / (n + 1) */
static fm_status add(fm_model *m, const char *first, const char *path, int n) {
    fm_model *other;
    FM_TRY(fm_model_load_as(&other, path, FM_LOAD_COPY, FM_F32));
    fm_status s = fits(m, first, other, path);
    for (int i = 0; i < fm_params_count(m->params) && s == FM_OK; i++) {
        fm_param *p = fm_params_at(m->params, i);
        if (p->tie) {
            continue;
        }
        float *to = p->data;
        const float *from = fm_params_find(other->params, p->name)->data;
        for (int64_t k = 0; k < p->numel; k++) {
            to[k] += (from[k] - to[k]) / (float)(n + 1);
        }
    }
    fm_model_close(other);
    return s;
}

fm_status fm_model_average(const char *const *paths, int n, const char *out, const char *dtype) {
    fm_model *m;
    if (n < 2) {
        FM_FAIL(FM_ERR_ARGUMENT, "an average needs two models at least");
    }
    FM_TRY(fm_dir_check_empty(out));
    FM_TRY(fm_model_load_as(&m, paths[0], FM_LOAD_COPY, FM_F32));
    fm_status s = FM_OK;
    for (int i = 1; i < n && s == FM_OK; i++) {
        s = add(m, paths[0], paths[i], i);
    }
    s = s == FM_OK ? fm_model_write(m, out, dtype) : s;
    fm_model_close(m);
    return s;
}
