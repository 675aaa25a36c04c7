/* An adapter added to the weights for good. */
#include <math.h>

#include "base/file.h"
#include "model/adapter.h"
#include "model/convert.h"
#include "model/files.h"

#define TEXT 64 /* tokens of the made-up text */

static fm_status logits_of(float **out, int64_t *n, const char *path, const char *adapter) {
    fm_model_options o = {.size = sizeof o, .dtype = "f32", .adapter = adapter};
    int32_t ids[TEXT];
    fm_model *m;
    *out = NULL;
    FM_TRY(fm_model_open(&m, path, &o));
    int32_t v = m->cfg.vocab_size, length = (int32_t)FM_MIN(TEXT, m->cfg.max_position);
    uint32_t x = 12345;
    for (int i = 0; i < length; i++) {
        x = x * 1664525u + 1013904223u;
        ids[i] = (int32_t)((x >> 8) % (uint32_t)v);
    }
    *n = (int64_t)length * v;
    *out = fm_malloc((size_t)*n * sizeof **out);
    fm_status s =
        *out ? fm_model_logits(m, ids, length, *out)
             : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for the logits of %d tokens", (int)length);
    fm_model_close(m);
    return s;
}

static fm_status compare(fm_merge_report *r, const char *base, const char *adapter, const char *out) {
    float *a = NULL, *b = NULL;
    int64_t n, n_b;
    fm_status s = logits_of(&a, &n, base, adapter);
    s = s == FM_OK ? logits_of(&b, &n_b, out, NULL) : s;
    for (int64_t i = 0; s == FM_OK && i < n; i++) {
        r->max_difference = fmax(r->max_difference, fabs((double)a[i] - (double)b[i]));
        r->max_logit = fmax(r->max_logit, fabs((double)a[i]));
    }
    fm_free(a);
    fm_free(b);
    return s;
}

static fm_status write_merged(fm_merge_report *r, const char *base, const char *adapter, const char *out,
                              const char *dtype) {
    fm_model *m;
    FM_TRY(fm_model_load(&m, base, false, FM_F32));
    fm_dtype d = m->stored == FM_BF16 || m->stored == FM_F16 ? m->stored : FM_F32;
    fm_status s = FM_OK;
    if (dtype && (!fm_dtype_parse(&d, dtype) || (d != FM_F32 && d != FM_BF16 && d != FM_F16))) {
        s = fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "dtype: expected f32, bf16 or f16, found \"%s\"", dtype);
    }
    s = s == FM_OK ? fm_adapter_open(m, adapter) : s;
    if (s == FM_OK) {
        r->n_weights = m->adapter->n;
        r->rank = m->adapter->rank;
        s = fm_adapter_merge(m);
    }
    s = s == FM_OK ? fm_mkdirs(out) : s;
    s = s == FM_OK ? fm_model_save(m, out, d, 0) : s;
    s = s == FM_OK ? fm_model_copy_files(m, out) : s;
    fm_model_close(m);
    return s;
}

fm_status fm_model_merge(fm_merge_report *report, const char *base, const char *adapter, const char *out,
                         const char *dtype) {
    fm_merge_report r = {.size = sizeof r};
    if (report && report->size != sizeof *report) {
        FM_FAIL(FM_ERR_ARGUMENT, "fm_merge_report: expected size %zu, found %zu", sizeof *report, report->size);
    }
    if (fm_path_exists(out)) {
        char **names;
        size_t n;
        FM_TRY(fm_dir_list(&names, &n, out));
        fm_names_free(names, n);
        if (n > 0) {
            FM_FAIL(FM_ERR_EXISTS, "%s exists and is not empty", out);
        }
    }
    FM_TRY(write_merged(&r, base, adapter, out, dtype));
    FM_TRY(compare(&r, base, adapter, out));
    if (report) {
        *report = r;
    }
    return FM_OK;
}
