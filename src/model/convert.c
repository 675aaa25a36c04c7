/* fm_convert: see convert.h. */
#include "model/convert.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/quant.h"
#include "base/file.h"
#include "base/log.h"
#include "model/files.h"

/* ---- list ------------------------------------------------------------------------------------ */

void fm_out_list_free(fm_out_list *l) {
    for (size_t i = 0; i < l->n; i++) {
        fm_free(l->item[i].param);
    }
    fm_free(l->item);
    *l = (fm_out_list){0};
}

fm_status fm_out_list_add(fm_out_list *l, const char *name, int n_dims, const int64_t *dim, fm_out_tensor **out) {
    FM_TRY(fm_grow((void **)&l->item, &l->cap, l->n + 1, sizeof *l->item));
    fm_out_tensor *t = &l->item[l->n++];
    *t = (fm_out_tensor){.n_dims = n_dims, .rows = 1, .align = 1};
    snprintf(t->name, sizeof t->name, "%s", name);
    for (int i = 0; i < n_dims; i++) {
        t->dim[i] = dim[i];
        t->rows *= dim[i];
    }
    t->cols = n_dims > 1 ? dim[n_dims - 1] : 1;
    t->rows /= t->cols;
    *out = t;
    return FM_OK;
}

/* ---- rows ------------------------------------------------------------------------------------ */

fm_status fm_model_param_rows(const fm_model *m, int param, int64_t row, int64_t n, float *x) {
    const fm_param *p = fm_params_at(m->params, param);
    int64_t cols = p->n_dims > 1 ? p->numel / p->dim[0] : 1, from = row * cols, count = n * cols;
    const fm_gguf_source *s = m->gguf_sources ? &m->gguf_sources[param] : NULL;
    if (s && (s->w || s->k_b)) {
        float *scratch = fm_malloc((size_t)fm_gguf_source_scratch(s) * sizeof *scratch);
        if (!scratch) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory to read %s", p->name);
        }
        fm_gguf_source_rows(s, row, n, x, scratch);
        fm_free(scratch);
        return FM_OK;
    }
    if (!p->data) {
        FM_FAIL(FM_ERR_NOT_FOUND, "the file has no tensor for parameter %s", p->name);
    }
    if (fm_param_quantised(p)) {
        fm_exec here = {0};
        return fm_param_rows(fm_cpu_backend(), &here, p, row, n, FM_F32, x);
    }
    const uint8_t *data = p->data;
    switch (p->dtype) {
    case FM_F32:
        memcpy(x, data + from * 4, (size_t)count * 4);
        return FM_OK;
    case FM_BF16:
        for (int64_t i = 0; i < count; i++) {
            x[i] = fm_bf16_to_f32(((const uint16_t *)p->data)[from + i]);
        }
        return FM_OK;
    case FM_F16:
        for (int64_t i = 0; i < count; i++) {
            x[i] = fm_f16_to_f32(((const uint16_t *)p->data)[from + i]);
        }
        return FM_OK;
    default:
        for (int64_t i = 0; i < count; i++) {
            x[i] = (float)fm_load_as_f64(p->dtype, p->data, from + i);
        }
        return FM_OK;
    }
}

/* ---- encoding -------------------------------------------------------------------------------- */

#define BLOCK ((int64_t)1 << 22) /* elements between two writes */
#define PART  ((int64_t)1 << 16) /* elements a thread takes at a time */

typedef struct encode_job {
    const fm_out_tensor *t;
    fm_rows_fn rows;
    const void *user;
    int64_t row, n, per_part; /* rows of this block */
    uint8_t *out;
    _Atomic int64_t n_overflow;
} encode_job;

static fm_status check_finite(const fm_out_tensor *t, const float *x, int64_t n) {
    float sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += x[i] * 0; /* NaN once there is a NaN or an infinity */
    }
    if (sum == 0) {
        return FM_OK;
    }
    int64_t i = 0;
    while (isfinite(x[i])) {
        i++;
    }
    FM_FAIL(FM_ERR_NUMERIC, "tensor %s holds %g, which %s cannot hold", t->name, (double)x[i],
            fm_dtype_get(t->dtype)->name);
}

static fm_status encode(encode_job *j, const float *x, uint8_t *y, int64_t n) {
    const fm_quant_type *q = fm_quant_find(j->t->dtype);
    if (j->t->dtype == FM_I8) {
        FM_TRY(check_finite(j->t, x, n));
        for (int64_t r = 0; r < n; r += j->t->cols) {
            fm_int8_row(x + r, (int8_t *)y + r, j->t->cols);
        }
        return FM_OK;
    }
    if (q) {
        FM_TRY(check_finite(j->t, x, n));
        q->quantise(x, y, n / fm_dtype_get(j->t->dtype)->block);
        return FM_OK;
    }
    fm_gguf_encode(j->t->dtype, x, y, n);
    int64_t over = 0;
    for (int64_t i = 0; i < n && j->t->dtype == FM_F16; i++) {
        over += fabsf(x[i]) >= 65520.0F && !isinf(x[i]);
    }
    j->n_overflow += over;
    return FM_OK;
}

static fm_status encode_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(n_parts);
    FM_UNUSED(thread);
    encode_job *j = arg;
    int64_t begin = part * j->per_part, n = FM_MIN(j->per_part, j->n - begin), cols = j->t->cols;
    float *x = fm_malloc((size_t)(n * cols) * sizeof *x);
    if (!x) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %lld rows of %s", (long long)n, j->t->name);
    }
    fm_status s = j->rows(j->user, j->t, j->row + begin, n, x);
    if (s == FM_OK) {
        s = encode(j, x, j->out + fm_dtype_bytes(j->t->dtype, begin * cols), n * cols);
    }
    fm_free(x);
    return s;
}

static int64_t round_rows(int64_t elements, const fm_out_tensor *t) {
    int64_t rows = FM_MAX(1, elements / t->cols) / t->align * t->align;
    return FM_MIN(FM_MAX(rows, t->align), t->rows);
}

/* What was read will not be read again: it need not fill memory that others could use. */
static void release(const fm_conversion *c, const fm_out_tensor *t) {
    if (t->bytes) {
        fm_gguf_release_pages(t->bytes, fm_dtype_bytes(t->dtype, t->rows * t->cols));
    }
    for (int32_t i = 0; c->model && i < t->n_param; i++) {
        const fm_param *p = t->param[i] >= 0 ? fm_params_at(c->model->params, t->param[i]) : NULL;
        if (p && p->data && p->storage == FM_STORAGE_MAP) {
            fm_gguf_release_pages(p->data, fm_dtype_bytes(p->dtype, p->numel));
        } else if (p && p->source) {
            fm_gguf_release_pages(p->source, fm_dtype_bytes(p->source_dtype, p->numel));
        }
    }
}

static fm_status one_tensor(fm_conversion *c, encode_job *j, uint8_t **buffer, size_t *cap, fm_sink_fn sink,
                            void *sink_user) {
    const fm_out_tensor *t = j->t;
    int64_t bytes = fm_dtype_bytes(t->dtype, t->rows * t->cols), at = 0;
    int64_t block = t->bytes ? t->rows : round_rows(BLOCK, t);
    FM_ASSERT(bytes > 0);
    for (int64_t row = 0; row < t->rows; row += block) {
        if (fm_cancelled()) {
            FM_FAIL(FM_ERR_CANCELLED, "interrupted; nothing was written");
        }
        int64_t n = FM_MIN(block, t->rows - row), size = fm_dtype_bytes(t->dtype, n * t->cols);
        if (!t->bytes) {
            FM_TRY(fm_grow((void **)buffer, cap, (size_t)size, 1));
            j->row = row;
            j->n = n;
            j->per_part = round_rows(PART, t);
            j->out = *buffer;
            FM_TRY(fm_pool_run_dynamic(c->pool, (n + j->per_part - 1) / j->per_part, encode_part, j));
        }
        FM_TRY(sink(sink_user, t, at, t->bytes ? t->bytes : *buffer, size));
        at += size;
        c->done += (double)size;
        fm_meter_update(&c->meter, c->done, t->name);
    }
    release(c, t);
    c->report->n_tensors++;
    c->report->n_params += t->is_scale ? 0 : t->rows * t->cols;
    c->report->bytes_out += bytes;
    c->written_of[t->dtype] += (double)bytes;
    return FM_OK;
}

fm_status fm_convert_tensors(fm_conversion *c, const fm_out_list *list, fm_rows_fn rows, const void *user,
                             fm_sink_fn sink, void *sink_user) {
    uint8_t *buffer = NULL;
    size_t cap = 0;
    double total = 0;
    fm_status s = FM_OK;
    for (size_t i = 0; i < list->n; i++) {
        total += (double)fm_dtype_bytes(list->item[i].dtype, list->item[i].rows * list->item[i].cols);
    }
    fm_meter_start(&c->meter, "converting", "bytes", total);
    for (size_t i = 0; i < list->n && s == FM_OK; i++) {
        encode_job j = {.t = &list->item[i], .rows = rows, .user = user};
        s = one_tensor(c, &j, &buffer, &cap, sink, sink_user);
        c->report->n_overflow += j.n_overflow;
    }
    if (s == FM_OK) {
        fm_meter_end(&c->meter, c->done, "");
    }
    fm_free(buffer);
    return s;
}

fm_status fm_convert_gguf_sink(void *writer, const fm_out_tensor *t, int64_t at, const void *data, int64_t n) {
    FM_UNUSED(t);
    FM_UNUSED(at);
    return fm_gguf_writer_put(writer, data, n);
}

/* ---- directions ------------------------------------------------------------------------------ */

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), t = strlen(tail);
    return n >= t && strcmp(s + n - t, tail) == 0;
}

static fm_status check_out(const char *out, bool to_gguf, bool overwrite) {
    if (!to_gguf && (ends_with(out, ".onnx") || ends_with(out, ".bin") || ends_with(out, ".safetensors"))) {
        (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "cannot write %s", out);
        return fm_error_hint("the output is a name that ends in .gguf, or a folder (Hugging Face)");
    }
    if (fm_path_exists(out) && !overwrite) {
        (void)fm_error_set(FM_ERR_EXISTS, __FILE__, __LINE__, "%s already exists", out);
        return fm_error_hint("--overwrite replaces it");
    }
    if (fm_path_exists(out) && fm_path_is_dir(out) == to_gguf) {
        FM_FAIL(FM_ERR_EXISTS, "%s is a %s", out, to_gguf ? "folder" : "file");
    }
    return FM_OK;
}

/* The folder takes its place when it is whole; an old one goes aside first. */
static fm_status put_in_place(const char *temp, const char *out) {
    fm_str old = {0};
    fm_str_append(&old, temp, strlen(temp) - strlen(".tmp"));
    fm_str_puts(&old, ".old");
    fm_status s = fm_str_check(&old);
    bool replace = fm_path_exists(out);
    if (s == FM_OK && replace) {
        s = fm_remove_tree(old.data);
        if (s == FM_OK) {
            s = fm_rename_dir(out, old.data);
        }
    }
    if (s == FM_OK) {
        s = fm_rename_dir(temp, out);
    }
    if (s == FM_OK && replace) {
        s = fm_remove_tree(old.data);
    }
    fm_str_free(&old);
    return s;
}

static fm_status to_folder(fm_conversion *c, fm_model *m, const char *out) {
    fm_str temp = {0};
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/') {
        n--;
    }
    fm_str_append(&temp, out, n);
    fm_str_puts(&temp, ".tmp");
    fm_status s = fm_str_check(&temp);
    if (s == FM_OK) {
        s = fm_remove_tree(temp.data);
    }
    if (s == FM_OK) {
        s = fm_mkdirs(temp.data);
    }
    if (s == FM_OK) {
        s = fm_convert_to_folder(c, m, temp.data);
    }
    if (s == FM_OK) {
        s = put_in_place(temp.data, out);
    }
    if (s != FM_OK && temp.data) {
        fm_error_record e;
        fm_error_save(&e);
        if (fm_remove_tree(temp.data) != FM_OK) {
            fm_warn("%s could not be removed", temp.data);
        }
        fm_error_restore(&e);
    }
    fm_str_free(&temp);
    return s;
}

static fm_status run(fm_conversion *c, const char *in, const char *out) {
    bool from_gguf = fm_gguf_is_file(in), to_gguf = ends_with(out, ".gguf");
    c->report->from = from_gguf ? "gguf" : "huggingface";
    c->report->to = to_gguf ? "gguf" : "huggingface";
    FM_TRY(check_out(out, to_gguf, c->options->overwrite));
    if (from_gguf && to_gguf) {
        return fm_convert_gguf_to_gguf(c, in, out);
    }
    fm_model *m;
    FM_TRY(from_gguf ? fm_model_load_gguf(&m, in, NULL, FM_LOAD_LAZY, FM_F32)
                     : fm_model_load_as(&m, in, FM_LOAD_KEEP, FM_F32));
    c->report->bytes_in = m->file_bytes;
    c->model = m;
    fm_status s = to_gguf ? fm_convert_to_gguf(c, m, out) : to_folder(c, m, out);
    c->model = NULL;
    fm_model_close(m);
    return s;
}

fm_status fm_convert(fm_convert_report *report, const char *in, const char *out, const fm_convert_options *options) {
    static const fm_convert_options none = {.size = sizeof none};
    fm_convert_report scratch = {.size = sizeof scratch};
    const fm_convert_options *o = options ? options : &none;
    fm_convert_report *r = report ? report : &scratch;
    if (o->size != sizeof *o || r->size != sizeof *r) {
        FM_FAIL(FM_ERR_ARGUMENT, "fm_convert: size of the options %zu or of the report %zu is not this library's",
                o->size, r->size);
    }
    *r = (fm_convert_report){.size = sizeof *r};
    double start = fm_now();
    fm_conversion c = {.options = o, .report = r};
    FM_TRY(fm_pool_new(&c.pool, o->threads));
    fm_status s = run(&c, in, out);
    fm_pool_free(c.pool);
    int most = FM_F32;
    for (int d = 0; d < FM_DTYPE_COUNT; d++) {
        most = c.written_of[d] > c.written_of[most] ? d : most;
    }
    r->dtype = fm_dtype_get((fm_dtype)most)->name;
    r->seconds = fm_now() - start;
    if (s == FM_OK && r->n_overflow > 0) {
        fm_warn("%lld numbers are too large for f16 and became infinite: use bf16", (long long)r->n_overflow);
    }
    return s;
}
