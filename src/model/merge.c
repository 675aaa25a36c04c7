/* An adapter added to the weights for good. */
#include <math.h>

#include "base/file.h"
#include "model/adapter.h"
#include "model/convert.h"
#include "model/files.h"
#include "model/quant_base.h"

#define TEXT 64 /* tokens of the made-up text */

static fm_status no_memory(const char *what) {
    FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %s", what);
}

/* The base in f32 memory with the heads of the adapter, its linear weights rounded where a type is given. */
static fm_status load_base(fm_model **out, const char *base, const char *adapter, const fm_quant_base *round) {
    fm_model *m;
    fm_scratch *scratch = NULL;
    *out = NULL;
    FM_TRY(fm_model_load_adapted(&m, base, adapter, FM_LOAD_COPY, FM_F32));
    fm_status s = fm_scratch_new(&scratch);
    if (s == FM_OK && !m->pool) {
        s = fm_pool_new(&m->pool, 0);
    }
    fm_exec x = {.pool = m->pool, .scratch = scratch};
    s = s == FM_OK && round ? fm_quant_base_round(m, round, &x) : s;
    fm_scratch_free(scratch);
    if (s != FM_OK) {
        fm_model_close(m);
        return s;
    }
    m->compute = FM_F32;
    *out = m;
    return FM_OK;
}

/* Outputs of a head for a text of this length. */
static int64_t outputs(const fm_model *m, int head, int32_t length) {
    fm_head_kind kind = m->heads[head].cfg->kind;
    int64_t n = m->heads[head].cfg->n_labels;
    return kind == FM_HEAD_LM     ? (int64_t)length * m->cfg.vocab_size
           : kind == FM_HEAD_NONE ? (int64_t)length * m->cfg.d_model
           : kind == FM_HEAD_TEXT ? n
                                  : length * n;
}

/* What all heads say of one text, one after the other. */
static fm_status all_outputs(fm_model *m, const int32_t *ids, int32_t length, float *out) {
    const int32_t offsets[2] = {0, length};
    fm_texts t = {.size = sizeof t, .n = 1, .ids = ids, .offsets = offsets};
    for (int i = 0; i < m->n_heads; i++) {
        fm_head_kind kind = m->heads[i].cfg->kind;
        FM_TRY(kind == FM_HEAD_LM     ? fm_model_logits(m, ids, length, out)
               : kind == FM_HEAD_NONE ? fm_model_hidden(m, &t, out)
                                      : fm_model_scores(m, i, &t, out));
        out += outputs(m, i, length);
    }
    return FM_OK;
}

static fm_status logits_of(float **out, int64_t *n, const char *path, const char *adapter, const fm_quant_base *round) {
    int32_t ids[TEXT];
    fm_model *m;
    *out = NULL;
    fm_model_options o = {.size = sizeof o, .dtype = "f32", .adapter = adapter};
    FM_TRY(round ? load_base(&m, path, adapter, round) : fm_model_open(&m, path, &o));
    fm_status s = round && adapter ? fm_adapter_open(m, adapter) : FM_OK;
    int32_t v = m->cfg.vocab_size, length = (int32_t)FM_MIN(TEXT, m->cfg.max_position);
    uint32_t x = 12345;
    for (int i = 0; i < length; i++) {
        x = x * 1664525u + 1013904223u;
        ids[i] = (int32_t)((x >> 8) % (uint32_t)v);
    }
    *n = 0;
    for (int i = 0; i < m->n_heads; i++) {
        *n += outputs(m, i, length);
    }
    *out = s == FM_OK ? fm_malloc((size_t)*n * sizeof **out) : NULL;
    s = s == FM_OK && !*out ? no_memory("the logits of a text") : s;
    s = s == FM_OK ? all_outputs(m, ids, length, *out) : s;
    fm_model_close(m);
    return s;
}

static double difference(const float *a, const float *b, int64_t n) {
    double most = 0;
    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
    }
    return most;
}

static fm_status compare(fm_merge_report *r, const char *base, const char *adapter, const char *out,
                         const fm_quant_base *round) {
    float *merged = NULL, *full = NULL, *rounded = NULL;
    int64_t n = 0;
    fm_status s = logits_of(&merged, &n, out, NULL, NULL);
    s = s == FM_OK ? logits_of(&full, &n, base, adapter, NULL) : s;
    if (s == FM_OK) {
        r->max_difference = difference(full, merged, n);
        for (int64_t i = 0; i < n; i++) {
            r->max_logit = fmax(r->max_logit, fabs((double)full[i]));
        }
    }
    if (s == FM_OK && round) {
        s = logits_of(&rounded, &n, base, adapter, round);
        r->max_difference_quantised = s == FM_OK ? difference(rounded, merged, n) : NAN;
    }
    fm_free(merged);
    fm_free(full);
    fm_free(rounded);
    return s;
}

static fm_status write_merged(fm_merge_report *r, const char *base, const char *adapter, const char *out,
                              const char *dtype, const fm_quant_base *round) {
    fm_model *m;
    FM_TRY(load_base(&m, base, adapter, round));
    fm_status s = fm_adapter_open(m, adapter);
    if (s == FM_OK) {
        r->n_weights = m->adapter->n;
        r->rank = m->adapter->rank;
        s = fm_adapter_merge(m);
    }
    s = s == FM_OK ? fm_model_write(m, out, dtype) : s;
    fm_model_close(m);
    return s;
}

fm_status fm_model_merge_with(fm_merge_report *report, const char *base, const char *adapter, const char *out,
                              const fm_merge_options *o) {
    fm_merge_report r = {.size = sizeof r, .max_difference_quantised = NAN};
    if ((report && report->size != sizeof *report) || o->size != sizeof *o) {
        FM_FAIL(FM_ERR_ARGUMENT, "fm_merge_report, fm_merge_options: expected sizes %zu, %zu", sizeof *report,
                sizeof *o);
    }
    fm_quant_base q = {.twice = !o->single_quantization};
    const fm_quant_base *round = o->quantization ? &q : NULL;
    if (round) {
        FM_TRY(fm_quant_base_parse(&q.type, o->quantization));
    } else if (o->dequantised) {
        FM_FAIL(FM_ERR_ARGUMENT, "merging into dequantised weights needs the type that they were held in");
    }
    FM_TRY(fm_dir_check_empty(out));
    FM_TRY(write_merged(&r, base, adapter, out, o->dtype, o->dequantised ? round : NULL));
    FM_TRY(compare(&r, base, adapter, out, round));
    if (report) {
        *report = r;
    }
    return FM_OK;
}

fm_status fm_model_merge(fm_merge_report *report, const char *base, const char *adapter, const char *out,
                         const char *dtype) {
    return fm_model_merge_with(report, base, adapter, out,
                               &(fm_merge_options){.size = sizeof(fm_merge_options), .dtype = dtype});
}
