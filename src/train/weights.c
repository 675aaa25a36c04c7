/* Reading weights into masters. */
#include "train/weights.h"

#include <string.h>

#include "base/gguf.h"
#include "io/safetensors.h"

static fm_status read_one(fm_param *p, const fm_st_tensor *t, const char *dir, const fm_backend *b, const fm_exec *x) {
    bool same = t->n_dims == p->n_dims;
    for (int i = 0; i < t->n_dims && same; i++) {
        same = t->dims[i] == p->dim[i];
    }
    if (!same) {
        FM_FAIL(FM_ERR_SHAPE, "%s: tensor %s has %d dimensions, first %lld; expected %d, first %lld", dir, p->name,
                t->n_dims, (long long)(t->n_dims > 0 ? t->dims[0] : 0), p->n_dims, (long long)p->dim[0]);
    }
    if (t->dtype != FM_F32 && t->dtype != FM_BF16 && t->dtype != FM_F16) {
        FM_FAIL(FM_ERR_DTYPE, "%s: tensor %s is %s; training starts from F32, BF16 or F16", dir, p->name,
                t->dtype_name);
    }
    if (t->dtype == p->dtype) {
        memcpy(p->data, t->data, (size_t)t->bytes);
    } else if (t->dtype == FM_F16 || !fm_st_aligned(t)) {
        int64_t size = fm_dtype_bytes(t->dtype, 1);
        for (int64_t i = 0; i < p->numel; i++) {
            uint32_t v; /* aligned */
            memcpy(&v, t->data + size * i, (size_t)size);
            fm_store_from_f64(p->dtype, p->data, i, fm_load_as_f64(t->dtype, &v, 0));
        }
    } else {
        fm_cast_args a = {.n = p->numel, .to = p->dtype, .x = t->data, .y = p->data};
        FM_TRY(fm_kernel_run(b, x, FM_K_cast, t->dtype, &a));
    }
    fm_st_release_pages(t);
    fm_param_changed(p);
    return FM_OK;
}

static fm_status read_gguf(fm_model *m, const char *path, const fm_backend *b, const fm_exec *x) {
    fm_model *file;
    FM_TRY(fm_model_load(&file, path, true, FM_F32));
    fm_status s = FM_OK;
    for (int i = 0; s == FM_OK && i < fm_params_count(m->params); i++) {
        fm_param *p = fm_params_at(m->params, i);
        const fm_param *q = p->tie ? NULL : fm_params_find(file->params, p->name);
        if (p->tie) {
            continue;
        }
        if (!q || !q->data || q->numel != p->numel) {
            s = fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "%s has no tensor for %s", path, p->name);
        } else if (q->dtype == p->dtype) {
            memcpy(p->data, q->data, (size_t)fm_dtype_bytes(p->dtype, p->numel));
        } else if (q->dtype == FM_F16) {
            for (int64_t k = 0; k < p->numel; k++) {
                fm_store_from_f64(p->dtype, p->data, k, fm_load_as_f64(FM_F16, q->data, k));
            }
        } else {
            fm_cast_args a = {.n = p->numel, .to = p->dtype, .x = q->data, .y = p->data};
            s = fm_kernel_run(b, x, FM_K_cast, q->dtype, &a);
        }
        fm_param_changed(p);
    }
    fm_model_close(file);
    return s;
}

fm_status fm_weights_read(fm_model *m, const char *dir, const fm_backend *b, const fm_exec *x) {
    if (fm_gguf_is_file(dir)) {
        return read_gguf(m, dir, b, x);
    }
    fm_safetensors *st;
    FM_TRY(fm_safetensors_open(&st, dir));
    fm_status s = FM_OK;
    for (int i = 0; s == FM_OK && i < fm_params_count(m->params); i++) {
        fm_param *p = fm_params_at(m->params, i);
        if (p->tie) {
            continue;
        }
        FM_ASSERT(p->data && p->storage != FM_STORAGE_MAP);
        const fm_st_tensor *t = NULL;
        s = fm_safetensors_get(&t, st, p->name);
        s = s == FM_OK ? read_one(p, t, dir, b, x) : s;
    }
    fm_safetensors_close(st);
    return s;
}
