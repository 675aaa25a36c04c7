/* Adapters as PEFT folders: adapter_config.json and adapter_model.safetensors. */
#include "model/adapter_files.h"

#include <stdio.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/file.h"
#include "io/safetensors.h"
#include "model/files.h"
#include "model/weights.h"

#define TIED_HEAD "base_model.model.lm_head.weight" /* as PEFT names a head that is tied to a table */

/* ---- reading --------------------------------------------------------------------------------- */

/* Keys that change what the adapter computes and that we do not compute. */
static fm_status refuse(const fm_json *j) {
    static const char *const off[] = {"fan_in_fan_out",    "lora_bias",       "alora_invocation_tokens",
                                      "layers_pattern",    "megatron_config", "trainable_token_indices",
                                      "target_parameters", "use_qalora",      "use_bdlora"};
    const char *type, *bias;
    FM_TRY(fm_json_get_str(&type, j, "peft_type", "LORA"));
    FM_TRY(fm_json_get_str(&bias, j, "bias", "none"));
    if (strcmp(type, "LORA") != 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "peft_type: expected LORA, found %s", type);
    }
    if (strcmp(bias, "none") != 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "bias: adapters that train biases are not supported, found \"%s\"", bias);
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(off); i++) {
        const fm_json *v = fm_json_get(j, off[i]);
        if (!fm_json_is_null(v) && !(fm_json_is_bool(v) && !fm_json_bool(v, false)) &&
            !((fm_json_is_array(v) || fm_json_is_object(v)) && fm_json_size(v) == 0)) {
            FM_FAIL(FM_ERR_UNSUPPORTED, "%s: this form of adapter is not supported", off[i]);
        }
    }
    const fm_json *alphas = fm_json_get(j, "alpha_pattern");
    if (fm_json_is_object(alphas) && fm_json_size(alphas) > 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "alpha_pattern: one lora_alpha for all modules is supported");
    }
    return FM_OK;
}

static fm_status read_config(fm_adapter *a, const char *dir) {
    char path[4096];
    FM_TRY(fm_path_join(path, sizeof path, dir, "adapter_config.json"));
    if (!fm_path_exists(path)) {
        (void)fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "%s does not exist", path);
        return fm_error_hint("an adapter is a PEFT folder: adapter_config.json and adapter_model.safetensors");
    }
    fm_json *j;
    FM_TRY(fm_json_load(&j, path));
    fm_status s =
        fm_json_is_object(j) ? refuse(j) : fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "expected an object");
    s = s == FM_OK ? fm_json_get_i64(&a->rank, j, "r", 8) : s;
    s = s == FM_OK ? fm_json_get_f64(&a->alpha, j, "lora_alpha", 8) : s;
    s = s == FM_OK ? fm_json_get_f64(&a->dropout, j, "lora_dropout", 0) : s;
    s = s == FM_OK ? fm_json_get_bool(&a->rslora, j, "use_rslora", false) : s;
    s = s == FM_OK ? fm_json_get_bool(&a->dora, j, "use_dora", false) : s;
    fm_json_free(j);
    return s == FM_OK ? FM_OK : fm_error_context("%s", path);
}

static fm_status open_weights(fm_safetensors **st, const char *dir) {
    char path[4096];
    FM_TRY(fm_path_join(path, sizeof path, dir, "adapter_model.safetensors"));
    if (!fm_path_exists(path)) {
        FM_FAIL(FM_ERR_NOT_FOUND, "%s does not exist", path);
    }
    return fm_safetensors_open(st, path);
}

/* The weight that "base_model.model.<module>.lora_A.weight" adapts. */
static fm_status adapted(fm_param **out, const fm_model *m, const char *name) {
    static const char head[] = "base_model.model.", tail[] = ".lora_A.weight";
    char want[512];
    size_t n = strlen(name), h = sizeof head - 1, t = sizeof tail - 1;
    *out = NULL;
    if (n <= h + t || strncmp(name, head, h) != 0) {
        FM_FAIL(FM_ERR_FORMAT, "tensor %s: expected a name that begins with %s", name, head);
    }
    snprintf(want, sizeof want, "%.*s.weight", (int)(n - h - t), name + h);
    *out = fm_params_find(m->params, want);
    if (!*out) {
        FM_FAIL(FM_ERR_CONFIG, "tensor %s: the base model has no weight %s", name, want);
    }
    return FM_OK;
}

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), t = strlen(tail);
    return n >= t && strcmp(s + n - t, tail) == 0;
}

/* A tensor that is no low-rank part: a module trained whole. */
static fm_status describe_whole(fm_adapter *a, const fm_st_tensor *t) {
    static const char head[] = "base_model.model.";
    fm_param *w =
        strncmp(t->name, head, sizeof head - 1) == 0 ? fm_params_find(a->m->params, t->name + sizeof head - 1) : NULL;
    if (!w && a->m->cfg.tied && strcmp(t->name, TIED_HEAD) == 0) {
        return FM_OK; /* compared with its table by check_ties */
    }
    if (!w) {
        (void)fm_error_set(
            FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
            "tensor %s: expected lora_A, lora_B and lora_magnitude_vector, or a parameter of the base model", t->name);
        return fm_error_hint("was it trained on another base? An adapter with a head of its own is opened together "
                             "with its base (--adapter DIR), or merged into it (fathom merge BASE DIR OUT)");
    }
    return w->tie ? FM_OK : fm_adapter_add_whole(a, w);
}

static bool is_part(const char *name) {
    return ends_with(name, ".lora_B.weight") || ends_with(name, ".lora_magnitude_vector");
}

static fm_status describe(fm_adapter *a, const fm_safetensors *st) {
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < fm_safetensors_count(st); i++) {
            const fm_st_tensor *t = fm_safetensors_at(st, i);
            bool low = ends_with(t->name, ".lora_A.weight");
            if (is_part(t->name) || low == (pass == 1)) {
                continue;
            }
            if (pass == 1) {
                FM_TRY(describe_whole(a, t));
                continue;
            }
            if (t->n_dims != 2) {
                FM_FAIL(FM_ERR_SHAPE, "tensor %s: expected 2 dimensions, found %d", t->name, t->n_dims);
            }
            fm_param *w;
            FM_TRY(adapted(&w, a->m, t->name));
            FM_TRY(fm_adapter_add(a, w, t->dims[0]));
        }
    }
    if (a->n == 0) {
        FM_FAIL(FM_ERR_FORMAT, "there are no lora_A weights");
    }
    return FM_OK;
}

/* Which of the whole modules is a table with a head tied to it, or -1. */
static int tied_table(const fm_adapter *a) {
    for (int i = 0; i < a->n_whole && a->m->cfg.tied; i++) {
        if (a->replaced[i] == a->m->head) {
            return i;
        }
    }
    return -1;
}

/* PEFT trains a table and the head that is tied to it apart; here they are one. */
static fm_status check_ties(const fm_adapter *a, const fm_safetensors *st) {
    int i = tied_table(a);
    const fm_st_tensor *head = fm_safetensors_find(st, TIED_HEAD);
    const fm_st_tensor *own = i >= 0 ? fm_safetensors_find(st, a->whole[i]->name) : NULL;
    bool same = head && own && head->bytes == own->bytes && memcmp(head->data, own->data, (size_t)own->bytes) == 0;
    if (a->m->cfg.tied && (head || own) && !same) {
        FM_FAIL(
            FM_ERR_UNSUPPORTED,
            "modules_to_save: the base model ties its table of embeddings to its head, but the adapter has them apart");
    }
    return FM_OK;
}

static fm_status check_tensor(const fm_st_tensor **out, const fm_safetensors *st, const fm_param *p) {
    FM_TRY(fm_safetensors_get(out, st, p->name));
    const fm_st_tensor *t = *out;
    bool same = t->n_dims == p->n_dims;
    for (int i = 0; i < p->n_dims && same; i++) {
        same = t->dims[i] == p->dim[i];
    }
    if (!same) {
        char want[128], have[128];
        (void)fm_error_set(FM_ERR_SHAPE, __FILE__, __LINE__,
                           "tensor %s: the base model makes it %s, the adapter has %s", p->name,
                           fm_weight_shape(want, sizeof want, p->n_dims, p->dim),
                           fm_weight_shape(have, sizeof have, t->n_dims, t->dims));
        return fm_error_hint(
            "was it trained on another base? base_model_name_or_path in its adapter_config.json names it");
    }
    if (t->dtype != FM_F32 && t->dtype != FM_BF16 && t->dtype != FM_F16) {
        FM_FAIL(FM_ERR_DTYPE, "tensor %s: element type %s is not supported; expected F32, BF16 or F16", p->name,
                t->dtype_name);
    }
    return FM_OK;
}

fm_status fm_adapter_open_apart(fm_adapter **out, fm_model *m, const char *dir) {
    fm_adapter *a;
    *out = NULL;
    FM_TRY(fm_adapter_begin(&a, m));
    fm_safetensors *st = NULL;
    fm_status s = read_config(a, dir);
    a->dropout = 0; /* of training */
    s = s == FM_OK ? open_weights(&st, dir) : s;
    a->files = st;
    s = s == FM_OK ? describe(a, st) : s;
    s = s == FM_OK ? check_ties(a, st) : s;
    for (int i = 0; i < fm_params_count(a->params) && s == FM_OK; i++) {
        fm_param *p = fm_params_at(a->params, i);
        const fm_st_tensor *t;
        s = check_tensor(&t, st, p);
        if (s == FM_OK && !fm_st_aligned(t)) {
            s = fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "tensor %s is not aligned in the file", p->name);
        }
        if (s == FM_OK) {
            fm_param_set_external(p, t->dtype, (void *)t->data, FM_STORAGE_MAP);
        }
    }
    if (s != FM_OK) {
        fm_adapter_free(a);
        return fm_error_context("adapter %s", dir);
    }
    *out = a;
    return FM_OK;
}

fm_status fm_adapter_open(fm_model *m, const char *dir) {
    fm_adapter *a;
    FM_TRY(fm_adapter_open_apart(&a, m, dir));
    fm_adapter_attach(a);
    for (int i = 0; i < fm_params_count(m->params); i++) {
        const fm_param *p = fm_params_at(m->params, i);
        if (p->missing && !p->instead) {
            (void)fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__,
                               "adapter %s has no tensor base_model.model.%s, and its base has none either", dir,
                               p->name);
            fm_adapter_free(a);
            return FM_ERR_FORMAT;
        }
    }
    return FM_OK;
}

fm_status fm_adapter_read(fm_model *m, const char *dir) {
    fm_adapter *a = m->adapter;
    fm_safetensors *st;
    FM_ASSERT(a);
    FM_TRY(open_weights(&st, dir));
    fm_status s = FM_OK;
    size_t expected = (size_t)fm_params_count(a->params) + (size_t)(tied_table(a) >= 0);
    if (fm_safetensors_count(st) != expected) {
        s = fm_error_set(FM_ERR_SHAPE, __FILE__, __LINE__, "adapter %s has %zu tensors, expected %zu", dir,
                         fm_safetensors_count(st), expected);
    }
    for (int i = 0; i < fm_params_count(a->params) && s == FM_OK; i++) {
        fm_param *p = fm_params_at(a->params, i);
        const fm_st_tensor *t;
        s = check_tensor(&t, st, p);
        for (int64_t k = 0; k < p->numel && s == FM_OK; k++) {
            fm_store_from_f64(p->dtype, p->data, k, fm_load_as_f64(t->dtype, t->data, k));
        }
        fm_param_changed(p);
    }
    fm_safetensors_close(st);
    return s;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* The last parts of the modules' names, each once. */
static fm_status add_targets(const fm_adapter *a, fm_json *list) {
    for (int i = 0; i < a->n; i++) {
        char name[128];
        const char *end = a->weight[i]->name + strlen(a->weight[i]->name) - strlen(".weight"), *from = end;
        while (from > a->weight[i]->name && from[-1] != '.') {
            from--;
        }
        snprintf(name, sizeof name, "%.*s", (int)(end - from), from);
        bool there = false;
        for (size_t k = 0; k < fm_json_size(list); k++) {
            there = there || strcmp(fm_json_str(fm_json_at(list, k), NULL), name) == 0;
        }
        if (!there) {
            FM_TRY(fm_json_append(list, fm_json_new_str(name)));
        }
    }
    return FM_OK;
}

/* Names of the modules trained whole, in full: PEFT compares ends of names. A tied head is named too, so that PEFT
 * trains and loads the pair. */
static fm_status add_whole_names(const fm_adapter *a, fm_json *list) {
    for (int i = 0; i < a->n_whole; i++) {
        char name[512];
        const char *full = a->replaced[i]->name, *dot = strrchr(full, '.');
        snprintf(name, sizeof name, "%.*s", (int)(dot ? dot - full : (long)strlen(full)), full);
        bool there = false;
        for (size_t k = 0; k < fm_json_size(list); k++) {
            there = there || strcmp(fm_json_str(fm_json_at(list, k), NULL), name) == 0;
        }
        FM_TRY(there ? FM_OK : fm_json_append(list, fm_json_new_str(name)));
    }
    return tied_table(a) >= 0 ? fm_json_append(list, fm_json_new_str("lm_head")) : FM_OK;
}

/* PEFT's name of what the main head is for; it has none for masked language models. */
static fm_json *task_type(const fm_model *m) {
    static const char *const names[] = {[FM_HEAD_LM] = "CAUSAL_LM",
                                        [FM_HEAD_NONE] = "FEATURE_EXTRACTION",
                                        [FM_HEAD_TEXT] = "SEQ_CLS",
                                        [FM_HEAD_TOKEN] = "TOKEN_CLS"};
    fm_head_kind kind = m->cfg.head.kind;
    return kind == FM_HEAD_LM && m->family->encoder ? fm_json_new_null() : fm_json_new_str(names[kind]);
}

static fm_status fill_config(const fm_adapter *a, fm_json *j, const char *base) {
    fm_json *targets = fm_json_new_array();
    if (!targets) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for adapter_config.json");
    }
    fm_status s = add_targets(a, targets);
    if (s != FM_OK) {
        fm_json_free(targets);
        return s;
    }
    FM_TRY(fm_json_set(j, "target_modules", targets));
    if (a->n_whole > 0) {
        FM_TRY(fm_json_set(j, "modules_to_save", fm_json_new_array()));
        FM_TRY(add_whole_names(a, fm_json_get(j, "modules_to_save")));
    }
    FM_TRY(fm_json_set(j, "peft_type", fm_json_new_str("LORA")));
    FM_TRY(fm_json_set(j, "task_type", task_type(a->m)));
    FM_TRY(fm_json_set(j, "base_model_name_or_path", base ? fm_json_new_str(base) : fm_json_new_null()));
    FM_TRY(fm_json_set(j, "r", fm_json_new_int(a->rank)));
    FM_TRY(fm_json_set(j, "lora_alpha", fm_json_new_num(a->alpha)));
    FM_TRY(fm_json_set(j, "lora_dropout", fm_json_new_num(a->dropout)));
    FM_TRY(fm_json_set(j, "use_rslora", fm_json_new_bool(a->rslora)));
    FM_TRY(fm_json_set(j, "use_dora", fm_json_new_bool(a->dora)));
    FM_TRY(fm_json_set(j, "bias", fm_json_new_str("none")));
    FM_TRY(fm_json_set(j, "fan_in_fan_out", fm_json_new_bool(false)));
    FM_TRY(fm_json_set(j, "inference_mode", fm_json_new_bool(true)));
    return fm_json_set(j, "init_lora_weights", fm_json_new_bool(true));
}

static fm_status save_config(const fm_adapter *a, const char *dir, const char *base) {
    char path[4096];
    fm_str text = {0};
    FM_TRY(fm_path_join(path, sizeof path, dir, "adapter_config.json"));
    fm_json *j = fm_json_new_object();
    if (!j) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for adapter_config.json");
    }
    fm_status s = fill_config(a, j, base);
    s = s == FM_OK ? fm_json_dump(&text, j, 2) : s;
    fm_str_putc(&text, '\n');
    s = s == FM_OK ? fm_str_check(&text) : s;
    s = s == FM_OK ? fm_file_write_atomic(path, text.data, text.len) : s;
    fm_json_free(j);
    fm_str_free(&text);
    return s;
}

fm_status fm_adapter_save(const fm_model *m, const char *dir, const char *base) {
    const fm_adapter *a = m->adapter;
    FM_ASSERT(a);
    bool head = false;
    FM_TRY(save_config(a, dir, base));
    for (int i = 0; i < a->n_whole; i++) {
        head = head || fm_is_task_head(m, a->replaced[i]);
    }
    FM_TRY(head ? fm_model_write_config(m, dir, fm_model_plain_dtype(m)) : FM_OK);
    fm_st_writer *w;
    fm_st_writer_options o = {.base = "adapter_model"};
    FM_TRY(fm_st_writer_new(&w, dir, &o));
    fm_status s = fm_st_writer_metadata(w, "format", "pt");
    int tied = tied_table(a), n = fm_params_count(a->params);
    for (int i = 0; i < n + (tied >= 0) && s == FM_OK; i++) {
        const fm_param *p = i < n ? fm_params_at(a->params, i) : a->whole[tied];
        s = fm_st_writer_declare(w, i < n ? p->name : TIED_HEAD, p->dtype, p->n_dims, p->dim);
    }
    s = s == FM_OK ? fm_st_writer_begin(w) : s;
    for (int i = 0; i < n + (tied >= 0) && s == FM_OK; i++) {
        const fm_param *p = i < n ? fm_params_at(a->params, i) : a->whole[tied];
        s = fm_st_writer_put(w, i < n ? p->name : TIED_HEAD, 0, p->data, fm_dtype_bytes(p->dtype, p->numel));
    }
    s = s == FM_OK ? fm_st_writer_finish(w) : s;
    fm_st_writer_free(w);
    return s;
}
