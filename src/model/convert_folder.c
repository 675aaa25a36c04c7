/* To a Hugging Face folder: from a GGUF file, or from another folder. */
#include <stdio.h>
#include <string.h>

#include "backend/quant.h"
#include "base/file.h"
#include "base/log.h"
#include "io/safetensors.h"
#include "model/convert.h"
#include "model/files.h"
#include "model/weights.h"

#define DEFAULT_SHARD ((int64_t)5000000000) /* as transformers */

/* Factors of rows as int8. */
static fm_status factor_rows(const fm_model *m, int32_t param, int64_t row, int64_t n, float *x) {
    const fm_param *p = fm_params_at(m->params, param);
    int64_t cols = p->numel / p->dim[0];
    if (p->dtype == FM_I8 && p->row_scale) {
        memcpy(x, p->row_scale + row, (size_t)n * sizeof *x);
        return FM_OK;
    }
    float *one = fm_malloc((size_t)cols * sizeof *one);
    if (!one) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a row of %s", p->name);
    }
    fm_status s = FM_OK;
    for (int64_t i = 0; i < n && s == FM_OK; i++) {
        s = fm_model_param_rows(m, param, row + i, 1, one);
        x[i] = fm_int8_factor(one, cols);
    }
    fm_free(one);
    return s;
}

static fm_status folder_rows(const void *user, const fm_out_tensor *t, int64_t row, int64_t n, float *x) {
    const fm_model *m = user;
    const fm_param *p = fm_params_at(m->params, t->param[0]);
    if (t->is_scale) {
        return factor_rows(m, t->param[0], row, n, x);
    }
    if (!p->file_transposed) {
        return fm_model_param_rows(m, t->param[0], row, n, x);
    }
    FM_ASSERT(row == 0 && n == t->rows);
    float *whole = fm_malloc((size_t)p->numel * sizeof *whole);
    if (!whole) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to transpose %s", p->name);
    }
    fm_status s = fm_model_param_rows(m, t->param[0], 0, p->dim[0], whole);
    if (s == FM_OK) {
        fm_gather_2d(x, whole, (int)sizeof *x, p->dim[1], p->dim[0], 1, p->dim[1]);
    }
    fm_free(whole);
    return s;
}

static fm_status put_bytes(void *writer, const fm_out_tensor *t, int64_t at, const void *data, int64_t n) {
    return fm_st_writer_put(writer, t->name, at, data, n);
}

static fm_status choose_dtype(fm_dtype *out, const char *name, fm_dtype stored) {
    if (!name || strcmp(name, "auto") == 0) {
        *out = stored == FM_BF16 || stored == FM_F16 ? stored : FM_F32; /* blocks lose nothing in f32 */
        return FM_OK;
    }
    if (!fm_dtype_parse(out, name) || (*out != FM_F32 && *out != FM_BF16 && *out != FM_F16 && *out != FM_I8)) {
        (void)fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__,
                           "dtype: a folder holds f32, bf16, f16 or int8 weights, found \"%s\"", name);
        return fm_error_hint("other quantised files are GGUF: give an output name that ends in .gguf");
    }
    return FM_OK;
}

/* GGUF keeps vectors in f32. They become the folder's type where that loses nothing (they came from it), and stay f32
 * where it would. */
static fm_status fits(bool *out, const fm_model *m, const fm_out_tensor *t, fm_dtype d) {
    int64_t n = t->rows * t->cols;
    *out = true;
    if (d == FM_F32 || n > 1 << 20) {
        return FM_OK;
    }
    float *x = fm_malloc((size_t)n * sizeof *x);
    if (!x) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to read %s", t->name);
    }
    fm_status s = fm_model_param_rows(m, t->param[0], 0, t->rows, x);
    for (int64_t i = 0; i < n && s == FM_OK; i++) {
        float back = d == FM_BF16 ? fm_bf16_to_f32(fm_f32_to_bf16(x[i])) : fm_f16_to_f32(fm_f32_to_f16(x[i]));
        *out = *out && (back == x[i] || x[i] != x[i]);
    }
    fm_free(x);
    return s;
}

static bool has_source(const fm_model *m, int i) {
    const fm_gguf_source *s = m->gguf_sources ? &m->gguf_sources[i] : NULL;
    return (s && (s->w || s->k_b)) || fm_params_at(m->params, i)->data;
}

/* Matrices of products and embeddings. Routers decide by small differences and are small; what files hold transposed
 * has no rows of outputs. */
static bool becomes_int8(const fm_model *m, const fm_param *p) {
    size_t n = strlen(p->name), tail = strlen(".gate.weight");
    bool router = m->cfg.moe.n_experts > 0 && n > tail && strcmp(p->name + n - tail, ".gate.weight") == 0;
    return p->n_dims == 2 && !p->file_transposed && !p->state && !router;
}

static fm_status add_factors(fm_out_list *list, const fm_param *p, int32_t index) {
    char name[sizeof((fm_out_tensor *)0)->name];
    fm_out_tensor *t;
    snprintf(name, sizeof name, "%s_scale", p->name);
    FM_TRY(fm_out_list_add(list, name, 2, (int64_t[]){p->dim[0], 1}, &t));
    t->param = fm_malloc(sizeof *t->param);
    if (!t->param) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for tensor %s", name);
    }
    t->param[0] = index;
    t->n_param = 1;
    t->align = 1;
    t->dtype = FM_F32;
    t->is_scale = true;
    return FM_OK;
}

static fm_status make_list(fm_out_list *list, const fm_model *m, fm_dtype dtype, bool asked) {
    for (int i = 0; i < fm_params_count(m->params); i++) {
        const fm_param *p = fm_params_at(m->params, i);
        fm_out_tensor *t;
        if (p->tie) {
            continue;
        }
        if (!has_source(m, i)) {
            fm_warn("%s is not in the file and is left out", p->name);
            continue;
        }
        const int64_t turned[2] = {p->dim[1], p->dim[0]};
        FM_TRY(fm_out_list_add(list, p->name, p->n_dims, p->file_transposed ? turned : p->dim, &t));
        t->param = fm_malloc(sizeof *t->param);
        if (!t->param) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for tensor %s", p->name);
        }
        t->param[0] = i;
        t->n_param = 1;
        bool same = true, int8 = dtype == FM_I8 && becomes_int8(m, p);
        fm_dtype plain = dtype == FM_I8 ? fm_model_plain_dtype(m) : dtype;
        if (p->n_dims < 2 && (!asked || dtype == FM_I8)) {
            FM_TRY(fits(&same, m, t, plain));
        }
        t->dtype = int8 ? FM_I8 : same ? plain : FM_F32;
        const fm_gguf_source *s = m->gguf_sources ? &m->gguf_sources[i] : NULL;
        t->align = p->file_transposed ? t->rows : s && s->k_b ? s->nope + s->v_dim : 1;
        /* Stored bytes as they are, when they need no change. */
        if (!p->file_transposed && p->data && p->dtype == t->dtype) {
            t->bytes = p->data;
        } else if (!p->file_transposed && p->source && p->source_dtype == t->dtype) {
            t->bytes = p->source;
        }
        if (int8) {
            FM_TRY(add_factors(list, p, i));
        }
    }
    return FM_OK;
}

static fm_status check_room(const fm_out_list *list, const char *dir) {
    int64_t need = 0, room = fm_disk_free(dir);
    for (size_t i = 0; i < list->n; i++) {
        need += fm_dtype_bytes(list->item[i].dtype, list->item[i].rows * list->item[i].cols);
    }
    if (room >= 0 && room < need) {
        char a[32], b[32];
        FM_FAIL(FM_ERR_IO, "%s needs %s, the disk has %s free", dir, fm_format_bytes(a, sizeof a, (double)need),
                fm_format_bytes(b, sizeof b, (double)room));
    }
    return FM_OK;
}

static fm_status write_weights(fm_conversion *c, const fm_model *m, const fm_out_list *list, fm_st_writer *w) {
    FM_TRY(fm_st_writer_metadata(w, "format", "pt")); /* transformers asks for it */
    for (size_t i = 0; i < list->n; i++) {
        const fm_out_tensor *t = &list->item[i];
        FM_TRY(fm_st_writer_declare(w, t->name, t->dtype, t->n_dims, t->dim));
    }
    FM_TRY(fm_st_writer_begin(w));
    FM_TRY(fm_convert_tensors(c, list, folder_rows, m, put_bytes, w));
    return fm_st_writer_finish(w);
}

fm_status fm_convert_to_folder(fm_conversion *c, fm_model *m, const char *out) {
    fm_dtype dtype;
    fm_out_list list = {0};
    fm_st_writer *w = NULL;
    bool asked = c->options->dtype && strcmp(c->options->dtype, "auto") != 0;
    FM_TRY(choose_dtype(&dtype, c->options->dtype, m->stored));
    fm_status s = make_list(&list, m, dtype, asked);
    if (s == FM_OK) {
        s = check_room(&list, out);
    }
    if (s == FM_OK) {
        int64_t shard = c->options->max_shard > 0 ? c->options->max_shard : DEFAULT_SHARD;
        s = fm_st_writer_new(&w, out, &(fm_st_writer_options){.max_shard_bytes = shard});
    }
    if (s == FM_OK) {
        s = write_weights(c, m, &list, w);
    }
    fm_st_writer_free(w);
    fm_out_list_free(&list);
    if (s == FM_OK) {
        s = fm_model_save_config(m, out, dtype);
    }
    return s == FM_OK ? fm_model_copy_files(m, out) : s;
}
