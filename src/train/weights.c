/* Reading weights into masters. */
#include "train/weights.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

static fm_status copy(fm_param *p, const fm_param *q, const char *path, const fm_backend *b, const fm_exec *x) {
    FM_ASSERT(p->data && p->storage != FM_STORAGE_MAP);
    bool same = q->data && q->n_dims == p->n_dims;
    for (int i = 0; i < p->n_dims && same; i++) {
        same = q->dim[i] == p->dim[i];
    }
    if (!same) {
        FM_FAIL(FM_ERR_SHAPE, "%s: tensor %s has %d dimensions, first %lld; expected %d, first %lld", path, p->name,
                q->n_dims, (long long)q->dim[0], p->n_dims, (long long)p->dim[0]);
    }
    if (fm_param_quantised(p)) {
        return fm_param_quantise(b, x, p, q);
    }
    if (fm_param_quantised(q)) {
        FM_TRY(fm_param_rows(b, x, q, 0, q->dim[0], p->dtype, p->data));
    } else if (q->dtype == p->dtype) {
        memcpy(p->data, q->data, (size_t)fm_dtype_bytes(p->dtype, p->numel));
    } else if (q->dtype == FM_F16) {
        for (int64_t k = 0; k < p->numel; k++) {
            fm_store_from_f64(p->dtype, p->data, k, fm_load_as_f64(FM_F16, q->data, k));
        }
    } else {
        fm_cast_args a = {.n = p->numel, .to = p->dtype, .x = q->data, .y = p->data};
        FM_TRY(fm_kernel_run(b, x, FM_K_cast, q->dtype, &a));
    }
    fm_param_changed(p);
    return FM_OK;
}

/* A trunk without a head leaves its own name out of the names of its parts. */
static const fm_param *find(const fm_model *file, const fm_model *m, const char *name) {
    const fm_param *q = fm_params_find(file->params, name);
    const char *trunk = m->family->trunk ? m->family->trunk : "model.";
    size_t n = strlen(trunk);
    char full[512];
    if (q) {
        return q;
    }
    if (strncmp(name, trunk, n) == 0) {
        return fm_params_find(file->params, name + n);
    }
    snprintf(full, sizeof full, "%s%s", trunk, name);
    return fm_params_find(file->params, full);
}

static bool of_prediction_layer(const fm_model *m, const fm_param *p) {
    int layer;
    return sscanf(p->name, "model.layers.%d.", &layer) == 1 && layer >= m->cfg.n_layers;
}

static fm_status missing(const fm_model *m, const fm_param *p, const char *path) {
    (void)fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "%s has no tensor for %s", path, p->name);
    return of_prediction_layer(m, p)
               ? fm_error_hint("num_nextn_predict_layers in its config.json promises prediction layers. "
                               "mtp_from_scratch=true begins them at random, mtp_loss_weight=0 goes without")
               : FM_ERR_NOT_FOUND;
}

fm_status fm_weights_read(fm_model *m, const char *path, uint64_t seed, bool fresh_mtp, const fm_backend *b,
                          const fm_exec *x) {
    fm_model *file;
    FM_TRY(fm_model_load_as(&file, path, FM_LOAD_KEEP, FM_F32));
    fm_status s = FM_OK;
    int fresh = 0, fresh_layers = 0;
    for (int i = 0; s == FM_OK && i < fm_params_count(m->params); i++) {
        fm_param *p = fm_params_at(m->params, i);
        if (p->tie) {
            continue;
        }
        const fm_param *q = find(file, m, p->name);
        bool predicts = of_prediction_layer(m, p);
        fm_param *to = p->instead ? p->instead : p;
        if (q && q->tie) {
            q = q->tie;
        }
        if (q) {
            s = copy(to, q, path, b, x);
        } else if (predicts ? fresh_mtp : i >= m->n_trunk) {
            s = fm_param_init(to, seed, x->pool);
            fresh += s == FM_OK && !predicts && strncmp(p->name, "columns.", 8) != 0;
            fresh_layers += s == FM_OK && predicts;
        } else {
            s = missing(m, p, path);
        }
    }
    if (s == FM_OK && fresh > 0) {
        fm_info("%s has no weights for %d tensors of the head: they begin at random", path, fresh);
    }
    if (s == FM_OK && fresh_layers > 0) {
        fm_info("%s has no weights for %d tensors of the prediction layers: they begin at random", path, fresh_layers);
    }
    fm_model_close(file);
    return s;
}
