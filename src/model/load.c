/* Models from Hugging Face folders. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "model/adapter_files.h"
#include "model/columns.h"
#include "model/files.h"
#include "model/gguf.h"
#include "model/weights.h"

/* ---- config.json ----------------------------------------------------------------------------- */

static bool listed(const char *const *names, const char *name) {
    for (; name && *names; names++) {
        if (strcmp(*names, name) == 0) {
            return true;
        }
    }
    return false;
}

static fm_status find_family(const fm_family **out, fm_head_kind *kind, const fm_json *json) {
    const fm_json *arch = fm_json_at(fm_json_get(json, "architectures"), 0);
    const char *a = fm_json_is_string(arch) ? fm_json_str(arch, NULL) : NULL, *type;
    FM_TRY(fm_json_get_str(&type, json, "model_type", NULL));
    for (int i = 0; i < fm_n_families; i++) {
        const fm_family *f = fm_families[i];
        if (a ? listed(f->architectures, a) : listed(f->model_types, type)) {
            *out = f;
            *kind = FM_HEAD_LM;
            return FM_OK;
        }
    }
    if (a && fm_head_of_architecture(out, kind, a)) {
        return FM_OK;
    }
    fm_str known = {0};
    for (int i = 0; i < fm_n_families; i++) {
        fm_str_printf(&known, "%s%s", i ? ", " : "", fm_families[i]->architectures[0]);
    }
    (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
                       "architecture \"%s\" (model_type \"%s\") is not supported", a ? a : "", type ? type : "");
    if (!known.failed) {
        (void)fm_error_hint("supported: %s", known.data);
    }
    fm_str_free(&known);
    return FM_ERR_UNSUPPORTED;
}

fm_status fm_model_config_parse(fm_model_config *cfg, const fm_family **family, const fm_json *json) {
    if (!fm_json_is_object(json)) {
        FM_FAIL(FM_ERR_FORMAT, "expected an object");
    }
    fm_quant_config quant;
    fm_head_kind kind;
    FM_TRY(find_family(family, &kind, json));
    FM_TRY(fm_quant_config_parse(&quant, json));
    *cfg = (fm_model_config){.bos_id = -1, .eos_id = -1, .pad_id = -1, .head = {.kind = kind}};
    memcpy(cfg->family, (*family)->name, strlen((*family)->name) + 1);
    FM_TRY((*family)->parse(cfg, json));
    FM_TRY(fm_heads_parse(cfg, json));
    FM_TRY(fm_columns_parse(cfg, json));
    return fm_model_config_check(cfg);
}

int32_t fm_model_stored_mtp(const fm_model_config *cfg, const char *path) {
    fm_weights *ws;
    fm_weight w;
    char begin[64];
    int32_t n = 0;
    if (cfg->n_mtp == 0 || fm_gguf_is_file(path)) {
        return cfg->n_mtp;
    }
    if (fm_weights_open(&ws, path) != FM_OK) {
        fm_error_clear();
        return cfg->n_mtp;
    }
    for (bool there = true; n < cfg->n_mtp && there; n += there) {
        int len = snprintf(begin, sizeof begin, "model.layers.%d.", (int)(cfg->n_layers + n)), strip = 6;
        there = false;
        for (size_t i = 0; i < fm_weights_count(ws) && !there; i++) {
            fm_weights_at(&w, ws, i);
            there = strncmp(w.name, begin, (size_t)len) == 0 ||
                    strncmp(w.name, begin + strip, (size_t)(len - strip)) == 0; /* a base model */
        }
    }
    fm_weights_close(ws);
    return n;
}

/* An adapter's folder has weights of its own name. */
static fm_status refuse_adapter(const char *dir) {
    static const char *const files[] = {"adapter_config.json", "model.safetensors", "model.safetensors.index.json",
                                        "pytorch_model.bin", "pytorch_model.bin.index.json"};
    char path[4096];
    for (size_t i = 0; i < FM_ARRAY_LEN(files); i++) {
        FM_TRY(fm_path_join(path, sizeof path, dir, files[i]));
        if (fm_path_exists(path) != (i == 0)) {
            return FM_OK;
        }
    }
    (void)fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "%s is an adapter (PEFT), which is no model by itself",
                       dir);
    return fm_error_hint("open its base with --adapter %s, or make a model of both: fathom merge BASE %s OUT", dir,
                         dir);
}

static fm_status load_config(fm_model_config *cfg, const fm_family **family, fm_json **json, const char *dir) {
    char path[4096];
    *json = NULL;
    if (fm_gguf_is_file(dir)) {
        return fm_gguf_config_load(cfg, family, json, dir);
    }
    if (!fm_path_is_dir(dir)) {
        FM_FAIL(FM_ERR_NOT_FOUND, "model folder %s does not exist", dir);
    }
    FM_TRY(refuse_adapter(dir));
    FM_TRY(fm_path_join(path, sizeof path, dir, "config.json"));
    if (!fm_path_exists(path)) {
        (void)fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "%s does not exist", path);
        return fm_error_hint("a model is a Hugging Face folder: config.json, *.safetensors, tokenizer.json");
    }
    FM_TRY(fm_json_load(json, path));
    fm_status s = fm_model_config_parse(cfg, family, *json);
    if (s != FM_OK) {
        fm_json_free(*json);
        *json = NULL;
        return fm_error_context("%s", path);
    }
    return FM_OK;
}

fm_status fm_model_config_load(fm_model_config *cfg, const fm_family **family, const char *path) {
    fm_json *json;
    FM_TRY(load_config(cfg, family, &json, path));
    fm_json_free(json);
    return FM_OK;
}

int fm_eos_ids(int32_t *out, int cap, const fm_json *object) {
    const fm_json *e = fm_json_get(object, "eos_token_id");
    int n = 0;
    size_t items = fm_json_is_array(e) ? fm_json_size(e) : 1;
    for (size_t i = 0; i < items && n < cap; i++) {
        int64_t id = fm_json_int(fm_json_is_array(e) ? fm_json_at(e, i) : e, -1);
        if (id >= 0 && id <= INT32_MAX) {
            out[n++] = (int32_t)id;
        }
    }
    return n;
}

/* generation_config.json has the last word on what ends a text. */
static fm_status load_eos(fm_model *m, const char *dir) {
    char path[4096];
    int32_t ids[FM_MAX_EOS];
    FM_TRY(fm_path_join(path, sizeof path, dir, "generation_config.json"));
    int n = fm_eos_ids(m->eos, FM_MAX_EOS, m->json);
    m->n_eos = n;
    if (!fm_path_exists(path)) {
        return FM_OK;
    }
    fm_json *json;
    FM_TRY(fm_json_load(&json, path));
    n = fm_eos_ids(ids, FM_MAX_EOS, json);
    m->generation = json;
    if (n > 0) {
        memcpy(m->eos, ids, sizeof ids);
        m->n_eos = n;
    }
    return FM_OK;
}

char *fm_license_of(const char *dir) {
    char path[4096], *text = NULL, *found = NULL;
    size_t n;
    bool readme = fm_path_join(path, sizeof path, dir, "README.md") == FM_OK && fm_path_exists(path) &&
                  fm_file_read(&text, &n, path, (size_t)8 << 20) == FM_OK;
    if (readme && strncmp(text, "---\n", 4) == 0) {
        const char *end = strstr(text + 4, "\n---"), *at = strstr(text, "\nlicense:");
        if (at && end && at < end) {
            at += strlen("\nlicense:");
            at += strspn(at, " \"'");
            found = fm_strndup(at, strcspn(at, "\"'\r\n"));
        }
    }
    fm_free(text);
    text = NULL;
    if (!found && fm_path_join(path, sizeof path, dir, "LICENSE") == FM_OK && fm_path_exists(path) &&
        fm_file_read(&text, &n, path, (size_t)8 << 20) == FM_OK) {
        const char *at = text + strspn(text, " \t\r\n");
        found = fm_strndup(at, FM_MIN(strcspn(at, "\r\n"), 200));
        fm_free(text);
    }
    if (found && !*found) {
        fm_free(found);
        found = NULL;
    }
    fm_error_clear();
    return found;
}

/* ---- weights --------------------------------------------------------------------------------- */

/* Mapped weights of at most this many bytes are searched for NaN at opening: it costs milliseconds. Those that are
 * copied or converted always are. */
#define CHECK_BYTES ((int64_t)64 << 20)

/* What holds a model's weights while it is open. */
struct fm_model_files {
    fm_weights *ws;
    struct block {
        void *data;
        size_t bytes;
    } * block; /* of mapped models: tensors that could not be used in place */
    size_t n_blocks, blocks_cap;
};

/* A parameter and where its elements come from. */
typedef struct weight_plan {
    fm_param *p;
    fm_weight w; /* as the parameter's shape */
    fm_weight_scale scale;
    bool scaled;
} weight_plan;

/* How the files name a parameter: base models leave the name of their own part out ("layers.0..." for
 * "model.layers.0..."), bigger ones put it before ("bert.encoder..." for "encoder..."). transformers reads both. */
typedef struct name_map {
    char strip[64]; /* at the beginning of our names, absent in the files */
    char add[64];   /* before our names in the files */
} name_map;

static const char *file_name(char *buf, size_t cap, const name_map *nm, const char *name) {
    size_t n = strlen(nm->strip);
    if (n && strncmp(name, nm->strip, n) == 0) {
        return name + n;
    }
    snprintf(buf, cap, "%s%s", nm->add, name);
    return *nm->add ? buf : name;
}

static const char *param_name(char *buf, size_t cap, const name_map *nm, const fm_params *ps, const char *name) {
    size_t n = strlen(nm->add);
    if (n && strncmp(name, nm->add, n) == 0) {
        return name + n;
    }
    if (!*nm->strip || fm_params_find(ps, name)) {
        return name;
    }
    snprintf(buf, cap, "%s%s", nm->strip, name);
    return buf;
}

/* The first releases of BERT call weight and bias of a layer norm gamma and beta. */
static const char *const norm_names[2][2] = {{"LayerNorm.weight", "LayerNorm.gamma"},
                                             {"LayerNorm.bias", "LayerNorm.beta"}};

static const char *swap_end(char *buf, size_t cap, const char *name, int from, int to) {
    size_t n = strlen(name);
    for (int i = 0; i < 2; i++) {
        size_t k = strlen(norm_names[i][from]);
        if (n >= k && strcmp(name + n - k, norm_names[i][from]) == 0) {
            snprintf(buf, cap, "%.*s%s", (int)(n - k), name, norm_names[i][to]);
            return buf;
        }
    }
    return name;
}
static const char *old_name(char *buf, size_t cap, const char *name) {
    return swap_end(buf, cap, name, 0, 1);
}

/* Decided by the first parameter. */
static void choose_names(name_map *nm, const fm_model *m, const fm_weights *ws) {
    static const char *const parts[] = {"model.", "module.", "transformer.", "bert.", "mobilebert."};
    const char *first = fm_params_at(m->params, 0)->name, *dot = strchr(first, '.');
    char buf[512];
    fm_weight w;
    *nm = (name_map){0};
    if (fm_weights_find(&w, ws, first)) {
        return;
    }
    if (dot && fm_weights_find(&w, ws, dot + 1) && (size_t)(dot - first) + 2 < sizeof nm->strip) {
        memcpy(nm->strip, first, (size_t)(dot - first) + 1);
        return;
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(parts); i++) {
        snprintf(nm->add, sizeof nm->add, "%s", parts[i]);
        if (fm_weights_find(&w, ws, file_name(buf, sizeof buf, nm, first))) {
            return;
        }
    }
    *nm = (name_map){0};
}

static bool usable_dtype(fm_dtype d) {
    return d == FM_F32 || d == FM_BF16 || d == FM_F16 || d == FM_F64;
}

/* The factors of the rows of an int8 matrix. */
static fm_status find_row_scale(weight_plan *out, const fm_weights *ws, const fm_quant_config *quant) {
    char name[512], have[128];
    const fm_weight *w = &out->w;
    fm_weight *t = &out->scale.t;
    snprintf(name, sizeof name, "%s_scale", w->name);
    if (!quant->int8 || w->n_dims != 2 || !w->dense || out->p->file_transposed) {
        (void)fm_error_set(FM_ERR_DTYPE, __FILE__, __LINE__, "tensor %s: element type %s without factors", w->name,
                           w->dtype_name);
        return fm_error_hint("int8 matrices need a quantization_config of format \"int-quantized\" in config.json");
    }
    if (!fm_weights_find(t, ws, name)) {
        FM_FAIL(FM_ERR_NOT_FOUND, "tensor %s is missing: %s is %s and needs its factors", name, w->name, w->dtype_name);
    }
    bool rows = (t->n_dims == 1 || (t->n_dims == 2 && t->dims[1] == 1)) && t->dims[0] == w->dims[0];
    bool one =
        t->n_dims == 0 || (t->n_dims == 1 && t->dims[0] == 1) || (t->n_dims == 2 && t->dims[0] == 1 && t->dims[1] == 1);
    if ((!rows && !one) || !t->dense) {
        FM_FAIL(FM_ERR_SHAPE, "tensor %s: expected a factor for each of %lld rows, found %s", name,
                (long long)w->dims[0], fm_weight_shape(have, sizeof have, t->n_dims, t->dims));
    }
    if (!usable_dtype(t->dtype)) {
        FM_FAIL(FM_ERR_DTYPE, "tensor %s: expected F32, BF16 or F16, found %s", name, t->dtype_name);
    }
    t->n_dims = 2;
    t->dims[0] = w->dims[0];
    t->dims[1] = 1;
    t->stride[0] = rows ? 1 : 0;
    t->stride[1] = 1;
    t->bytes = fm_dtype_bytes(t->dtype, w->dims[0]); /* as if each row had its own */
    t->dense = rows;
    out->scaled = true;
    out->scale.block_rows = 1;
    out->scale.block_cols = w->dims[1];
    return FM_OK;
}

/* The factors of an fp8 tensor. */
static fm_status find_scale(weight_plan *out, const fm_weights *ws, const fm_quant_config *quant) {
    char name[512], want[128], have[128];
    const fm_weight *w = &out->w;
    fm_weight *t = &out->scale.t;
    snprintf(name, sizeof name, "%s_scale_inv", w->name);
    if (!quant->fp8 || w->n_dims != 2 || !w->dense) {
        (void)fm_error_set(FM_ERR_DTYPE, __FILE__, __LINE__, "tensor %s: element type %s without factors", w->name,
                           w->dtype_name);
        return fm_error_hint("fp8 weights need a quantization_config with quant_method \"fp8\" in config.json");
    }
    if (!fm_weights_find(t, ws, name)) {
        FM_FAIL(FM_ERR_NOT_FOUND, "tensor %s is missing: %s is %s and needs its factors", name, w->name, w->dtype_name);
    }
    out->scaled = true;
    out->scale.block_rows = quant->block_rows ? quant->block_rows : w->dims[0];
    out->scale.block_cols = quant->block_cols ? quant->block_cols : w->dims[1];
    int64_t dims[2] = {(w->dims[0] + out->scale.block_rows - 1) / out->scale.block_rows,
                       (w->dims[1] + out->scale.block_cols - 1) / out->scale.block_cols};
    bool scalar = dims[0] == 1 && dims[1] == 1 && (t->n_dims == 0 || (t->n_dims == 1 && t->dims[0] == 1));
    if (!scalar && (t->n_dims != 2 || t->dims[0] != dims[0] || t->dims[1] != dims[1])) {
        FM_FAIL(FM_ERR_SHAPE, "tensor %s: expected %s, found %s", name, fm_weight_shape(want, sizeof want, 2, dims),
                fm_weight_shape(have, sizeof have, t->n_dims, t->dims));
    }
    t->n_dims = 2;
    t->dims[0] = dims[0];
    t->dims[1] = dims[1];
    t->stride[0] = scalar ? 1 : t->stride[0];
    t->stride[1] = scalar ? 1 : t->stride[1];
    bool e8m0 = t->dtype == FM_DTYPE_COUNT && strcmp(t->dtype_name, "F8_E8M0") == 0 && t->bytes == dims[0] * dims[1];
    if (!e8m0 && t->dtype != FM_F32 && t->dtype != FM_BF16) {
        FM_FAIL(FM_ERR_DTYPE, "tensor %s: expected F32, BF16 or F8_E8M0, found %s", name, t->dtype_name);
    }
    return FM_OK;
}

static fm_status find_weight(weight_plan *out, const fm_weights *ws, fm_param *p, const name_map *nm,
                             const fm_quant_config *quant) {
    char want[128], have[128], buf[512], old[512];
    const char *name = file_name(buf, sizeof buf, nm, p->name);
    fm_weight *w = &out->w;
    int64_t dims[FM_ST_MAX_DIMS];
    *out = (weight_plan){.p = p};
    if (!fm_weights_find(w, ws, name) && !fm_weights_find(w, ws, old_name(old, sizeof old, name))) {
        (void)fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "tensor %s is missing among the %zu of the files",
                           name, fm_weights_count(ws));
        return strcmp(p->name, "lm_head.weight") == 0
                   ? fm_error_hint("a base model without its head? With tie_word_embeddings in config.json the "
                                   "embedding is used")
                   : fm_error_hint("config.json and the weight files do not belong together, or a file is missing");
    }
    memcpy(dims, p->dim, sizeof p->dim);
    if (p->file_transposed) {
        dims[0] = p->dim[1];
        dims[1] = p->dim[0];
    }
    bool same = w->n_dims == p->n_dims;
    for (int i = 0; i < p->n_dims; i++) {
        same = same && w->dims[i] == dims[i];
    }
    if (!same) {
        FM_FAIL(FM_ERR_SHAPE, "tensor %s: config.json makes it %s, the file has %s", name,
                fm_weight_shape(want, sizeof want, p->n_dims, dims),
                fm_weight_shape(have, sizeof have, w->n_dims, w->dims));
    }
    if (w->dtype == FM_E4M3) {
        return find_scale(out, ws, quant);
    }
    if (w->dtype == FM_I8) {
        return find_row_scale(out, ws, quant);
    }
    if (!usable_dtype(w->dtype)) {
        FM_FAIL(FM_ERR_DTYPE, "tensor %s: element type %s is not supported; expected F32, BF16, F16 or F64", name,
                w->dtype_name);
    }
    if (p->file_transposed) {
        fm_weight_transpose(w);
    }
    return FM_OK;
}

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

/* Constants that older files keep and no model needs: rope tables, causal masks, position numbers. */
static bool harmless(const fm_weight *t) {
    static const char *const tails[] = {"rotary_emb.inv_freq", "rotary_emb.cos_cached",  "rotary_emb.sin_cached",
                                        ".attn.masked_bias",   ".attention.masked_bias", "embeddings.position_ids"};
    for (size_t i = 0; i < FM_ARRAY_LEN(tails); i++) {
        if (ends_with(t->name, tails[i])) {
            return true;
        }
    }
    return ends_with(t->name, ".attn.bias") && t->n_dims == 4; /* GPT-2's mask [1,1,n,n] */
}

static bool is_scale(const fm_weights *ws, const char *name) {
    char base[512];
    fm_weight w;
    bool fp8 = ends_with(name, "_scale_inv");
    size_t n = strlen(name), tail = strlen(fp8 ? "_scale_inv" : "_scale");
    if ((!fp8 && !ends_with(name, "_scale")) || n - tail >= sizeof base) {
        return false;
    }
    memcpy(base, name, n - tail);
    base[n - tail] = '\0';
    return fm_weights_find(&w, ws, base) && w.dtype == (fp8 ? FM_E4M3 : FM_I8);
}

/* Heads that pretraining left in the files and that this model does not use, as transformers leaves them out too: those
 * of a masked language model and of the next sentence, the pooler, the head of a language model. */
static bool other_head(const fm_model *m, const char *name) {
    if (!m->family->encoder) {
        return m->cfg.head.kind != FM_HEAD_LM &&
               (strcmp(name, "lm_head.weight") == 0 || ends_with(name, ".shared_head.head.weight"));
    }
    return strncmp(name, "cls.", 4) == 0 || ends_with(name, "pooler.dense.weight") ||
           ends_with(name, "pooler.dense.bias");
}

static bool same_elements(const fm_weight *a, const fm_weight *b) {
    return a->bytes == b->bytes && (a->data == b->data || memcmp(a->data, b->data, (size_t)a->bytes) == 0);
}

/* A tensor that files hold twice: both must be equal. Large ones are not read for this. */
static fm_status check_copy(const fm_weights *ws, const name_map *nm, const fm_param *p) {
    fm_weight w, e;
    char a[512], b[512];
    if (fm_weights_find(&w, ws, file_name(a, sizeof a, nm, p->name)) &&
        fm_weights_find(&e, ws, file_name(b, sizeof b, nm, p->tie->name)) && w.bytes <= CHECK_BYTES && w.dense &&
        e.dense && !same_elements(&e, &w)) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "tensor %s differs from %s; the two are one in this family", w.name, e.name);
    }
    return FM_OK;
}

/* What the files hold and the model does not. */
static fm_status check_extra(const fm_model *m, const fm_weights *ws, const name_map *nm) {
    fm_weight t, e, first = {0};
    char buf[512], old[512];
    size_t n = 0;
    for (size_t i = 0; i < fm_weights_count(ws); i++) {
        fm_weights_at(&t, ws, i);
        const char *name = swap_end(old, sizeof old, t.name, 1, 0);
        if (fm_params_find(m->params, param_name(buf, sizeof buf, nm, m->params, name)) || harmless(&t) ||
            is_scale(ws, t.name) || other_head(m, name)) {
            continue;
        }
        if (m->cfg.tied && m->head && strcmp(t.name, "lm_head.weight") == 0) {
            if (fm_weights_find(&e, ws, file_name(buf, sizeof buf, nm, m->head->name)) && !same_elements(&e, &t)) {
                (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__,
                                   "config.json ties lm_head.weight to %s, but the file has two different tensors",
                                   e.name);
                return fm_error_hint("set tie_word_embeddings to false in config.json");
            }
            continue;
        }
        first = n++ ? first : t;
    }
    if (n) {
        FM_FAIL(FM_ERR_FORMAT, "%zu tensors have no place in a %s model, the first is %s %s", n, m->family->name,
                first.name, fm_weight_shape(buf, sizeof buf, first.n_dims, first.dims));
    }
    return FM_OK;
}

/* Memory of a tensor that cannot be used in the map. */
static fm_status own_block(void **out, struct fm_model_files *f, int64_t bytes) {
    void *p = f->block;
    FM_TRY(fm_grow(&p, &f->blocks_cap, f->n_blocks + 1, sizeof *f->block));
    f->block = p;
    FM_TRY(fm_pages_alloc(out, (size_t)bytes, FM_MEM_WEIGHTS));
    f->block[f->n_blocks++] = (struct block){*out, (size_t)bytes};
    return FM_OK;
}

/* An int8 matrix stays in the map; its factors become f32. */
static fm_status place_int8(fm_model *m, const weight_plan *q, fm_pool *pool) {
    fm_param *p = q->p;
    float *scale = fm_params_keep(m->params, (size_t)p->dim[0] * sizeof *scale);
    if (!scale) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the factors of %s", p->name);
    }
    FM_TRY(fm_weight_read(scale, FM_F32, &q->scale.t, NULL, pool));
    fm_param_set_external(p, FM_I8, (void *)q->w.data, FM_STORAGE_MAP);
    p->row_scale = scale;
    return FM_OK;
}

static fm_status place_mapped(struct fm_model_files *f, const weight_plan *q, fm_pool *pool, bool check) {
    fm_param *p = q->p;
    if (!q->scaled && fm_weight_in_place(&q->w)) {
        fm_param_set_external(p, q->w.dtype, (void *)q->w.data, FM_STORAGE_MAP);
        return check ? fm_weight_check_finite(&q->w, pool) : FM_OK;
    }
    fm_dtype d = usable_dtype(q->w.dtype) ? q->w.dtype : q->w.dtype == FM_I8 ? FM_F32 : FM_BF16;
    void *data;
    FM_TRY(own_block(&data, f, fm_dtype_bytes(d, p->numel)));
    FM_TRY(fm_weight_read(data, d, &q->w, q->scaled ? &q->scale : NULL, pool));
    fm_weight_release(&q->w);
    fm_param_set_external(p, d, data, FM_STORAGE_HEAP);
    return FM_OK;
}

static fm_status place_weights(fm_model *m, const weight_plan *plan, int n, fm_load_mode mode, fm_dtype master,
                               fm_pool *pool) {
    if (mode == FM_LOAD_COPY) {
        FM_TRY(fm_params_alloc(m->params, master));
    }
    bool check = m->file_bytes <= CHECK_BYTES;
    for (int i = 0; i < n; i++) {
        const weight_plan *q = &plan[i];
        if (mode == FM_LOAD_KEEP && q->w.dtype == FM_I8) {
            FM_TRY(place_int8(m, q, pool));
            continue;
        }
        if (mode != FM_LOAD_COPY) {
            FM_TRY(place_mapped(m->files, q, pool, check));
            continue;
        }
        FM_TRY(fm_weight_read(q->p->data, master, &q->w, q->scaled ? &q->scale : NULL, pool));
        fm_weight_release(&q->w);
        fm_param_changed(q->p);
    }
    return FM_OK;
}

/* Whether the files have it, in this shape: a head of another size is the base's own. */
static bool has_weight(const fm_weights *ws, const fm_param *p, const name_map *nm) {
    fm_weight w;
    char buf[512];
    bool same = fm_weights_find(&w, ws, file_name(buf, sizeof buf, nm, p->name)) && w.n_dims == p->n_dims;
    for (int i = 0; i < p->n_dims && same; i++) {
        same = w.dims[i] == p->dim[i];
    }
    return same;
}

static fm_status plan_weights(fm_model *m, weight_plan *plan, int *n_plan) {
    const fm_weights *ws = m->files->ws;
    fm_quant_config quant;
    name_map nm;
    FM_TRY(fm_quant_config_parse(&quant, m->json));
    choose_names(&nm, m, ws);
    for (int i = 0; i < fm_params_count(m->params); i++) {
        fm_param *p = fm_params_at(m->params, i);
        if (m->head_from_adapter && fm_is_task_head(m, p) && !has_weight(ws, p, &nm)) {
            p->missing = true;
        } else if (!p->tie) {
            FM_TRY(find_weight(&plan[*n_plan], ws, p, &nm, &quant));
            m->stored_bytes[plan[*n_plan].w.dtype] += plan[*n_plan].w.bytes;
            ++*n_plan;
        } else if (p->in_files) {
            FM_TRY(check_copy(ws, &nm, p));
        }
    }
    FM_TRY(check_extra(m, ws, &nm));
    for (int d = 0; d < FM_DTYPE_COUNT; d++) {
        m->stored = m->stored_bytes[d] > m->stored_bytes[m->stored] ? (fm_dtype)d : m->stored;
    }
    m->n_files = (int32_t)fm_weights_n_files(ws);
    for (int32_t i = 0; i < m->n_files; i++) {
        m->file_bytes += FM_MAX(fm_file_size(fm_weights_file(ws, (size_t)i)), 0);
    }
    return FM_OK;
}

static fm_status load_weights(fm_model *m, const char *dir, fm_load_mode mode, fm_dtype master) {
    fm_pool *pool = NULL;
    int n = 0;
    fm_status s;
    weight_plan *plan = fm_calloc((size_t)fm_params_count(m->params), sizeof *plan);
    m->files = fm_calloc(1, sizeof *m->files);
    if (!plan || !m->files) {
        FM_FAIL_GOTO(s, done, FM_ERR_NO_MEMORY, "no memory for the weight files of %s", dir);
    }
    FM_TRY_GOTO(s, done, fm_weights_open(&m->files->ws, dir));
    FM_TRY_GOTO(s, done, plan_weights(m, plan, &n));
    FM_TRY_GOTO(s, done, fm_pool_new(&pool, 0));
    s = place_weights(m, plan, n, mode, master, pool);
    if (s == FM_OK && mode == FM_LOAD_COPY) {
        fm_model_files_close(m);
    }
done:
    fm_pool_free(pool);
    fm_free(plan);
    return s;
}

const char *fm_model_file(const fm_model *m, int32_t i, int64_t *bytes) {
    const char *path = m->files && i >= 0 && (size_t)i < fm_weights_n_files(m->files->ws)
                           ? fm_weights_file(m->files->ws, (size_t)i)
                           : NULL;
    *bytes = path ? fm_file_size(path) : 0;
    return path;
}

fm_status fm_model_check(fm_model *m, int64_t *n) {
    *n = 0;
    for (int i = 0; i < fm_params_count(m->params); i++) {
        const fm_param *p = fm_params_at(m->params, i);
        if (p->tie || !p->data || !usable_dtype(p->dtype)) {
            continue;
        }
        fm_weight w = {.name = p->name,
                       .dtype = p->dtype,
                       .n_dims = p->n_dims,
                       .dense = true,
                       .data = p->data,
                       .bytes = fm_dtype_bytes(p->dtype, p->numel)};
        memcpy(w.dims, p->dim, sizeof p->dim);
        FM_TRY(fm_weight_check_finite(&w, m->pool));
        if (p->storage == FM_STORAGE_MAP) {
            fm_weight_release(&w);
        }
        *n += p->numel;
    }
    return FM_OK;
}

void fm_model_files_close(fm_model *m) {
    struct fm_model_files *f = m->files;
    m->files = NULL;
    if (!f) {
        return;
    }
    for (size_t i = 0; i < f->n_blocks; i++) {
        fm_pages_free(f->block[i].data, f->block[i].bytes, FM_MEM_WEIGHTS);
    }
    fm_free(f->block);
    fm_weights_close(f->ws);
    fm_free(f);
}

fm_status fm_model_load(fm_model **out, const char *path, bool map, fm_dtype master) {
    return fm_model_load_as(out, path, map ? FM_LOAD_MAP : FM_LOAD_COPY, master);
}

fm_status fm_model_load_as(fm_model **out, const char *path, fm_load_mode mode, fm_dtype master) {
    return fm_model_load_adapted(out, path, NULL, mode, master);
}

fm_status fm_model_load_adapted(fm_model **out, const char *path, const char *adapter, fm_load_mode mode,
                                fm_dtype master) {
    *out = NULL;
    FM_ASSERT(usable_dtype(master));
    if (fm_gguf_is_file(path)) {
        return fm_model_load_gguf(out, path, adapter, mode, master);
    }
    FM_ASSERT(mode != FM_LOAD_LAZY);
    fm_model_config cfg = {0};
    const fm_family *family;
    fm_json *json;
    fm_model *m = NULL;
    FM_TRY(load_config(&cfg, &family, &json, path));
    if (fm_model_stored_mtp(&cfg, path) == 0 && cfg.n_mtp > 0) {
        fm_warn("%s: no tensor of the prediction layers, such as model.layers.%d.eh_proj.weight: the model is used "
                "without them",
                path, (int)cfg.n_layers);
        cfg.n_mtp = 0;
    }
    bool brings = false;
    fm_status s = adapter ? fm_adapter_heads(&cfg, family, json, adapter, &brings) : FM_OK;
    s = s == FM_OK ? fm_model_build(&m, &cfg) : s;
    if (s != FM_OK) {
        fm_json_free(json);
        return s;
    }
    m->json = json;
    m->head_from_adapter = brings;
    m->path = fm_strdup(path);
    if (!m->path) {
        FM_FAIL_GOTO(s, fail, FM_ERR_NO_MEMORY, "no memory for the path of a model");
    }
    FM_TRY_GOTO(s, fail, load_eos(m, path));
    s = load_weights(m, path, mode, master);
    if (s != FM_OK) {
        s = fm_error_context("loading %s", path);
        goto fail;
    }
    m->license = fm_license_of(path);
    *out = m;
    return FM_OK;
fail:
    fm_model_close(m);
    return s;
}
