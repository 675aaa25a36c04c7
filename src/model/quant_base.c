/* Quantised bases. */
#include "model/quant_base.h"

#include <string.h>

#include "backend/cpu/cpu.h"
#include "model/adapter_files.h"

static const fm_dtype types[] = {FM_NF4, FM_I8, FM_Q8_0, FM_Q4_0, FM_Q4_1, FM_Q5_0, FM_Q5_1, FM_Q4_K, FM_Q5_K, FM_Q6_K};

fm_status fm_quant_base_parse(fm_dtype *out, const char *name) {
    fm_str known = {0};
    bool named = fm_dtype_parse(out, name);
    for (size_t i = 0; i < FM_ARRAY_LEN(types); i++) {
        if (named && types[i] == *out) {
            fm_str_free(&known);
            return FM_OK;
        }
        fm_str_printf(&known, "%s%s", i ? ", " : "", fm_dtype_get(types[i])->name);
    }
    (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "quantization_type: weights cannot be held in \"%s\"", name);
    fm_status s =
        fm_error_hint("known: %s; stored = as the files of the model have them", known.data ? known.data : "");
    fm_str_free(&known);
    return s;
}

static bool wanted(const fm_model *m, const fm_param *p) {
    return fm_is_linear(m, p) && !p->instead && !strstr(p->name, ".gate.weight");
}

/* Types of the files, looked at without reading them. */
static fm_status open_stored(fm_model **out, const fm_quant_base *q) {
    *out = NULL;
    return q->stored ? fm_model_load_as(out, q->stored, FM_LOAD_KEEP, FM_F32) : FM_OK;
}

fm_status fm_quant_base_describe(fm_model *m, const fm_quant_base *q) {
    fm_model *file;
    int n = 0, n_linear = 0;
    FM_TRY(open_stored(&file, q));
    for (int i = 0; i < fm_params_count(m->params); i++) {
        fm_param *p = fm_params_at(m->params, i);
        const fm_param *f = file ? fm_params_find(file->params, p->name) : NULL;
        fm_dtype d = file ? (f && fm_param_quantised(f) ? f->dtype : FM_F32) : q->type;
        /* Blocks of types that are only read can be kept too. */
        if (wanted(m, p) && (fm_param_quantisable(p, d) || (f && d != FM_F32 && d != FM_I8))) {
            p->dtype = d;
            p->own_dtype = true;
            p->nf4_twice = q->twice;
            n++;
        }
        n_linear += wanted(m, p);
    }
    fm_model_close(file);
    if (n == 0) {
        FM_FAIL(FM_ERR_CONFIG, "quantization_type: none of the %d linear weights can be held in %s", n_linear,
                q->stored ? "what the files have: they are not quantised" : fm_dtype_get(q->type)->name);
    }
    return FM_OK;
}

static fm_status round_one(fm_param *p, const fm_quant_base *q, const fm_exec *x) {
    fm_params *ps;
    fm_param *t = NULL;
    fm_param_desc d = {.name = p->name, .n_dims = p->n_dims};
    memcpy(d.dim, p->dim, sizeof d.dim);
    FM_TRY(fm_params_new(&ps));
    fm_status s = fm_params_add(ps, &d, &t);
    if (s == FM_OK) {
        t->dtype = q->type;
        t->own_dtype = true;
        t->nf4_twice = q->twice;
        s = fm_params_alloc(ps, FM_F32);
    }
    s = s == FM_OK ? fm_param_quantise(fm_cpu_backend(), x, t, p) : s;
    s = s == FM_OK ? fm_param_rows(fm_cpu_backend(), x, t, 0, p->dim[0], FM_F32, p->data) : s;
    fm_params_free(ps);
    fm_param_changed(p);
    return s;
}

fm_status fm_quant_base_round(fm_model *m, const fm_quant_base *q, const fm_exec *x) {
    for (int i = 0; i < fm_params_count(m->params); i++) {
        fm_param *p = fm_params_at(m->params, i);
        if (wanted(m, p) && fm_param_quantisable(p, q->type)) {
            FM_ASSERT(p->dtype == FM_F32 && p->storage == FM_STORAGE_HEAP);
            FM_TRY(round_one(p, q, x));
        }
    }
    return FM_OK;
}
