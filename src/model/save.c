/* Models to Hugging Face folders. */
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/file.h"
#include "io/safetensors.h"
#include "model/columns.h"
#include "model/convert.h"
#include "model/files.h"
#include "model/weights.h"

#define CHUNK ((int64_t)1 << 20) /* elements converted at a time */

static fm_status write_json(const fm_json *json, const char *dir, const char *name) {
    char path[4096];
    FM_TRY(fm_path_join(path, sizeof path, dir, name));
    fm_str text = {0};
    fm_status s = fm_json_dump(&text, json, 2);
    if (s == FM_OK) {
        fm_str_putc(&text, '\n');
        s = fm_str_check(&text);
    }
    if (s == FM_OK) {
        s = fm_file_write_atomic(path, text.data, text.len);
    }
    fm_str_free(&text);
    return s;
}

fm_dtype fm_model_plain_dtype(const fm_model *m) {
    static const fm_dtype plain[] = {FM_F32, FM_BF16, FM_F16};
    fm_dtype most = FM_F32;
    for (size_t i = 0; i < FM_ARRAY_LEN(plain); i++) {
        most = m->stored_bytes[plain[i]] > m->stored_bytes[most] ? plain[i] : most;
    }
    return most;
}

/* The config.json the model came from with its own values on top, so that keys unknown to us survive. */
static fm_status fill_config(const fm_model *m, fm_json *json, fm_dtype dtype) {
    fm_json *arch = fm_json_new_array();
    if (!arch) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for config.json");
    }
    fm_status s = fm_json_append(arch, fm_json_new_str(m->architecture));
    if (s != FM_OK) {
        fm_json_free(arch);
        return s;
    }
    FM_TRY(fm_json_set(json, "architectures", arch));
    FM_TRY(fm_json_set(json, "model_type", fm_json_new_str(m->family->model_types[0])));
    FM_TRY(m->family->write(&m->cfg, json));
    FM_TRY(fm_heads_write(&m->cfg, json));
    FM_TRY(fm_columns_write(&m->cfg, json));
    fm_json_remove(json, "quantization_config");
    if (dtype == FM_I8) {
        fm_json *quant;
        FM_TRY(fm_quant_config_int8(&quant));
        FM_TRY(fm_json_set(json, "quantization_config", quant));
        dtype = fm_model_plain_dtype(m); /* of what is no matrix */
    }
    const char *name = dtype == FM_BF16 ? "bfloat16" : dtype == FM_F16 ? "float16" : "float32";
    /* transformers before 4.56 knows torch_dtype only; dtype is its newer name. */
    return fm_json_set(json, fm_json_get(json, "dtype") ? "dtype" : "torch_dtype", fm_json_new_str(name));
}

/* A copy to change; of NULL an empty object. */
static fm_status copy_json(fm_json **out, const fm_json *from, const char *name) {
    fm_str text = {0};
    *out = NULL;
    if (!from) {
        *out = fm_json_new_object();
        if (!*out) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %s", name);
        }
        return FM_OK;
    }
    fm_status s = fm_json_dump(&text, from, 0);
    if (s == FM_OK) {
        s = fm_json_parse(out, text.data, text.len, name);
    }
    fm_str_free(&text);
    return s;
}

fm_status fm_model_write_config(const fm_model *m, const char *dir, fm_dtype dtype) {
    fm_json *json;
    FM_TRY(copy_json(&json, m->json, "config.json"));
    fm_status s = fill_config(m, json, dtype);
    if (s == FM_OK) {
        s = write_json(json, dir, "config.json");
    }
    fm_json_free(json);
    return s;
}

static fm_status fill_generation(const fm_model *m, fm_json *json) {
    if (!m->generation) {
        FM_TRY(fm_json_set(json, "_from_model_config", fm_json_new_bool(true)));
    }
    if (m->cfg.bos_id >= 0) {
        FM_TRY(fm_json_set(json, "bos_token_id", fm_json_new_int(m->cfg.bos_id)));
    }
    if (m->cfg.pad_id >= 0) {
        FM_TRY(fm_json_set(json, "pad_token_id", fm_json_new_int(m->cfg.pad_id)));
    }
    if (m->n_eos <= 1) {
        return m->n_eos == 1 ? fm_json_set(json, "eos_token_id", fm_json_new_int(m->eos[0])) : FM_OK;
    }
    fm_json *list = fm_json_new_array();
    if (!list) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for generation_config.json");
    }
    for (int i = 0; i < m->n_eos; i++) {
        fm_status s = fm_json_append(list, fm_json_new_int(m->eos[i]));
        if (s != FM_OK) {
            fm_json_free(list);
            return s;
        }
    }
    return fm_json_set(json, "eos_token_id", list);
}

static fm_status save_generation(const fm_model *m, const char *dir) {
    fm_json *json;
    FM_TRY(copy_json(&json, m->generation, "generation_config.json"));
    fm_status s = fill_generation(m, json);
    if (s == FM_OK) {
        s = write_json(json, dir, "generation_config.json");
    }
    fm_json_free(json);
    return s;
}

fm_status fm_model_save_config(const fm_model *m, const char *dir, fm_dtype dtype) {
    if (!m->family->encoder && m->cfg.head.kind == FM_HEAD_LM) {
        FM_TRY(save_generation(m, dir));
    }
    return fm_model_write_config(m, dir, dtype);
}

/* A trunk without a head is saved as transformers saves its base models: without the name of the trunk. */
static const char *file_name(const fm_model *m, const fm_param *p) {
    const char *trunk = m->family->trunk ? m->family->trunk : "model.";
    size_t n = strlen(trunk);
    return m->cfg.head.kind == FM_HEAD_NONE && strncmp(p->name, trunk, n) == 0 ? p->name + n : p->name;
}

/* n elements of a parameter, beginning at `from` of the file's tensor, as `dtype`. */
static fm_status put_elements(const fm_model *m, fm_st_writer *w, const fm_param *p, const void *src, int64_t from,
                              int64_t n, fm_dtype dtype, const fm_exec *x, void *buffer) {
    if (p->dtype != dtype) {
        fm_cast_args a = {.n = n, .to = dtype, .x = src, .y = buffer};
        FM_TRY(fm_kernel_run(fm_cpu_backend(), x, FM_K_cast, p->dtype, &a));
        src = buffer;
    }
    return fm_st_writer_put(w, file_name(m, p), fm_dtype_bytes(dtype, from), src, fm_dtype_bytes(dtype, n));
}

/* A row of the file is a column of the parameter. */
static fm_status put_transposed(const fm_model *m, fm_st_writer *w, const fm_param *p, fm_dtype dtype, const fm_exec *x,
                                void *buffer) {
    int64_t len = p->dim[0], step = FM_MAX(CHUNK / len, 1), size = fm_dtype_bytes(p->dtype, 1);
    fm_status s = FM_OK;
    uint8_t *rows = fm_malloc((size_t)(step * len * size));
    if (!rows) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to transpose %s", p->name);
    }
    for (int64_t r = 0; r < p->dim[1] && s == FM_OK; r += step) {
        int64_t n = FM_MIN(step, p->dim[1] - r);
        fm_gather_2d(rows, (const uint8_t *)p->data + r * size, (int)size, n, len, 1, p->dim[1]);
        for (int64_t i = 0; i < n * len && s == FM_OK; i += CHUNK) { /* one row may be longer than the buffer */
            s = put_elements(m, w, p, rows + i * size, r * len + i, FM_MIN(CHUNK, n * len - i), dtype, x, buffer);
        }
    }
    fm_free(rows);
    return s;
}

/* What is no weight keeps its precision: steps of a routing bias are lost in 8 bits. */
static fm_dtype file_dtype(const fm_param *p, fm_dtype dtype) {
    return p->state ? FM_F32 : dtype;
}

static fm_status put_param(const fm_model *m, fm_st_writer *w, const fm_param *p, fm_dtype dtype, const fm_exec *x,
                           void *buffer) {
    if (!p->data) {
        FM_FAIL(FM_ERR_STATE, "parameter %s has no data to save", p->name);
    }
    if (p->file_transposed) {
        return put_transposed(m, w, p, dtype, x, buffer);
    }
    for (int64_t i = 0; i < p->numel; i += CHUNK) {
        const void *src = (const uint8_t *)p->data + fm_dtype_bytes(p->dtype, i);
        FM_TRY(put_elements(m, w, p, src, i, FM_MIN(CHUNK, p->numel - i), dtype, x, buffer));
    }
    return FM_OK;
}

static fm_status write_weights(const fm_model *m, fm_st_writer *w, fm_dtype dtype, const fm_exec *x, void *buffer) {
    int n = fm_params_count(m->params);
    FM_TRY(fm_st_writer_metadata(w, "format", "pt")); /* transformers asks for it */
    for (int i = 0; i < n; i++) {
        const fm_param *p = fm_params_at(m->params, i);
        if (!p->tie || p->in_files) {
            const int64_t turned[2] = {p->dim[1], p->dim[0]};
            FM_TRY(fm_st_writer_declare(w, file_name(m, p), file_dtype(p, dtype), p->n_dims,
                                        p->file_transposed ? turned : p->dim));
        }
    }
    FM_TRY(fm_st_writer_begin(w));
    for (int i = 0; i < n; i++) {
        const fm_param *p = fm_params_at(m->params, i);
        if (!p->tie || p->in_files) {
            fm_param q = p->tie ? *p->tie : *p; /* a second copy in the files has a name of its own */
            q.name = p->name;
            FM_TRY(put_param(m, w, &q, file_dtype(p, dtype), x, buffer));
        }
    }
    return fm_st_writer_finish(w);
}

fm_status fm_model_save(const fm_model *m, const char *dir, fm_dtype dtype, int64_t max_shard) {
    if (dtype != FM_F32 && dtype != FM_BF16 && dtype != FM_F16) {
        FM_FAIL(FM_ERR_DTYPE, "models are saved as f32, bf16 or f16, not as %s", fm_dtype_get(dtype)->name);
    }
    fm_st_writer *w = NULL;
    fm_scratch *scratch = NULL;
    void *buffer = fm_malloc((size_t)fm_dtype_bytes(FM_F32, CHUNK));
    fm_status s;
    if (!buffer) {
        FM_FAIL_GOTO(s, done, FM_ERR_NO_MEMORY, "no memory to convert weights");
    }
    FM_TRY_GOTO(s, done, fm_scratch_new(&scratch));
    FM_TRY_GOTO(s, done, fm_st_writer_new(&w, dir, &(fm_st_writer_options){.max_shard_bytes = max_shard}));
    fm_exec x = {.pool = m->pool, .scratch = scratch};
    FM_TRY_GOTO(s, done, write_weights(m, w, dtype, &x, buffer));
    s = fm_model_save_config(m, dir, dtype); /* last: a folder with config.json is whole */
done:
    fm_st_writer_free(w);
    fm_scratch_free(scratch);
    fm_free(buffer);
    return s;
}

fm_status fm_model_write(const fm_model *m, const char *dir, const char *dtype) {
    fm_dtype d = m->stored == FM_BF16 || m->stored == FM_F16 ? m->stored : FM_F32;
    if (dtype && (!fm_dtype_parse(&d, dtype) || (d != FM_F32 && d != FM_BF16 && d != FM_F16))) {
        FM_FAIL(FM_ERR_ARGUMENT, "dtype: expected f32, bf16 or f16, found \"%s\"", dtype);
    }
    FM_TRY(fm_mkdirs(dir));
    FM_TRY(fm_model_save(m, dir, d, 0));
    return fm_model_copy_files(m, dir);
}
