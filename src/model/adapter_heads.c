/* Heads that come with an adapter: its base is a language model, say, and the adapter makes a classifier of it. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "io/safetensors.h"
#include "model/adapter_files.h"
#include "model/files.h"

/* Members of config.json that say what heads a model has. */
static const char *const head_keys[] = {"architectures", "id2label",     "label2id",       "num_labels",
                                        "problem_type",  "fathom_heads", "fathom_log_vars"};

static fm_status move_keys(fm_json *to, const fm_json *from) {
    for (size_t i = 0; i < FM_ARRAY_LEN(head_keys); i++) {
        const fm_json *v = fm_json_get(from, head_keys[i]);
        fm_json_remove(to, head_keys[i]);
        if (fm_json_is_null(v)) {
            continue;
        }
        fm_str text = {0};
        fm_json *copy = NULL;
        fm_status s = fm_json_dump(&text, v, 0);
        s = s == FM_OK ? fm_json_parse(&copy, text.data, text.len, head_keys[i]) : s;
        fm_str_free(&text);
        FM_TRY(s == FM_OK ? fm_json_set(to, head_keys[i], copy) : s);
    }
    return FM_OK;
}

/* config.json beside the adapter is that of its base with the heads it was trained with. */
static fm_status from_config(fm_model_config *cfg, const fm_family *family, fm_json *json, const fm_json *own,
                             const char *dir) {
    fm_model_config with;
    const fm_family *other;
    FM_TRY(fm_model_config_parse(&with, &other, own));
    if (other != family || with.d_model != cfg->d_model || with.n_layers != cfg->n_layers ||
        with.vocab_size != cfg->vocab_size) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__,
                           "the adapter %s was trained on another base: a %s of %d layers, width %d and %d token ids; "
                           "this model is a %s of %d layers, width %d and %d token ids",
                           dir, other->name, (int)with.n_layers, (int)with.d_model, (int)with.vocab_size, family->name,
                           (int)cfg->n_layers, (int)cfg->d_model, (int)cfg->vocab_size);
        return fm_error_hint("base_model_name_or_path in its adapter_config.json names the base");
    }
    cfg->head = with.head;
    memcpy(cfg->more_heads, with.more_heads, sizeof cfg->more_heads);
    cfg->n_more_heads = with.n_more_heads;
    cfg->n_log_vars = with.n_log_vars;
    return move_keys(json, own);
}

/* Labels of the main head of an adapter that PEFT wrote, by the shape of its weight; 0 when it has none. */
static fm_status count_labels(int32_t *out, const fm_family *family, fm_head_kind kind, const char *dir) {
    char path[4096], name[128];
    fm_safetensors *st;
    *out = 0;
    FM_TRY(fm_path_join(path, sizeof path, dir, "adapter_model.safetensors"));
    if (!fm_path_exists(path)) {
        return FM_OK; /* told of by those who read it */
    }
    const char *head = kind == FM_HEAD_TEXT ? (family->encoder ? "classifier" : "score")
                                            : (family->token_head ? family->token_head : "score");
    snprintf(name, sizeof name, "base_model.model.%s.weight", head);
    FM_TRY(fm_safetensors_open(&st, path));
    const fm_st_tensor *t = fm_safetensors_find(st, name);
    if (t && t->n_dims == 2 && t->dims[0] >= 1 && t->dims[0] <= FM_MAX_LABELS) {
        *out = (int32_t)t->dims[0];
    }
    fm_safetensors_close(st);
    return FM_OK;
}

static fm_status from_task(fm_model_config *cfg, const fm_family *family, fm_json *json, const char *type,
                           const char *dir, bool *brings) {
    int32_t n;
    fm_head_kind kind = strcmp(type, "SEQ_CLS") == 0     ? FM_HEAD_TEXT
                        : strcmp(type, "TOKEN_CLS") == 0 ? FM_HEAD_TOKEN
                                                         : FM_HEAD_LM;
    if (kind == FM_HEAD_LM) {
        return FM_OK;
    }
    FM_TRY(count_labels(&n, family, kind, dir));
    if (n == 0 || (cfg->head.kind == kind && cfg->head.n_labels == n)) {
        return FM_OK;
    }
    cfg->head =
        (fm_head_config){.kind = kind, .n_labels = n, .problem = n == 1 ? FM_PROBLEM_REGRESSION : FM_PROBLEM_SINGLE};
    fm_json_remove(json, "id2label"); /* of another head */
    fm_json_remove(json, "label2id");
    *brings = true;
    return FM_OK;
}

static fm_status read_object(fm_json **out, const char *dir, const char *name) {
    char path[4096];
    *out = NULL;
    FM_TRY(fm_path_join(path, sizeof path, dir, name));
    if (!fm_path_exists(path)) {
        return FM_OK;
    }
    FM_TRY(fm_json_load(out, path));
    if (!fm_json_is_object(*out)) {
        fm_json_free(*out);
        *out = NULL;
        FM_FAIL(FM_ERR_FORMAT, "%s: expected an object", path);
    }
    return FM_OK;
}

fm_status fm_adapter_heads(fm_model_config *cfg, const fm_family *family, fm_json *json, const char *dir,
                           bool *brings) {
    fm_json *adapter, *own;
    const char *type = NULL;
    *brings = false;
    FM_TRY(read_object(&adapter, dir, "adapter_config.json"));
    fm_status s = read_object(&own, dir, "config.json");
    if (s == FM_OK && adapter && own) {
        *brings = true;
        s = from_config(cfg, family, json, own, dir);
    } else if (s == FM_OK && adapter) {
        s = fm_json_get_str(&type, adapter, "task_type", "");
        s = s == FM_OK ? from_task(cfg, family, json, type, dir, brings) : s;
    }
    fm_json_free(adapter);
    fm_json_free(own);
    return s == FM_OK ? FM_OK : fm_error_context("adapter %s", dir);
}
