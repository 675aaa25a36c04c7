/* Opening a tokenizer by path: a folder, tokenizer.json, a SentencePiece model, a GGUF file, or the vocabulary files
 * from before tokenizer.json. */
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "text/bpe.h"
#include "text/gguf_vocab.h"

#define MAX_FILE ((size_t)512 << 20)

/* Reads dir/name when it is there; *text stays NULL otherwise. */
static fm_status read_beside(char **text, size_t *n, const char *dir, const char *name) {
    char path[4096];
    FM_TRY(fm_path_join(path, sizeof(path), dir, name));
    return fm_path_exists(path) ? fm_file_read(text, n, path, MAX_FILE) : FM_OK;
}

static fm_status json_beside(fm_json **out, const char *dir, const char *name) {
    char path[4096];
    FM_TRY(fm_path_join(path, sizeof(path), dir, name));
    return fm_path_exists(path) ? fm_json_load(out, path) : FM_OK;
}

/* tokenizer_config.json, completed by special_tokens_map.json; NULL when there is neither. */
static fm_status read_config(fm_json **out, const char *dir) {
    static const char *const keys[] = {"bos_token", "eos_token", "pad_token", "unk_token",
                                       "cls_token", "sep_token", "mask_token"};
    fm_json *map = NULL;
    FM_TRY(json_beside(out, dir, "tokenizer_config.json"));
    fm_status s = json_beside(&map, dir, "special_tokens_map.json");
    if (s == FM_OK && !*out && map && !(*out = fm_json_new_object())) {
        s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for the special tokens");
    }
    for (size_t i = 0; s == FM_OK && i < FM_ARRAY_LEN(keys); i++) {
        const fm_json *v = fm_json_get(map, keys[i]);
        const char *text = fm_json_str(fm_json_is_object(v) ? fm_json_get(v, "content") : v, NULL);
        if (text && fm_json_is_object(*out) && fm_json_is_null(fm_json_get(*out, keys[i]))) {
            s = fm_json_set(*out, keys[i], fm_json_new_str(text));
        }
    }
    fm_json_free(map);
    if (s != FM_OK) {
        fm_json_free(*out);
        *out = NULL;
    }
    return s;
}

/* Scores rank the merges of SentencePiece vocabularies; *score stays NULL for others. */
static fm_status gguf_scores(float **score, size_t *n, const fm_gguf *g) {
    fm_gguf_text model;
    FM_TRY(fm_gguf_get_text(&model, g, "tokenizer.ggml.model"));
    const fm_gguf_kv *kv = fm_gguf_find(g, "tokenizer.ggml.scores");
    bool ranked =
        model.len == 5 && memcmp(model.ptr, "llama", 5) == 0 && !fm_gguf_find(g, "tokenizer.huggingface.json");
    if (!ranked || !kv || kv->type != FM_GGUF_ARRAY || kv->item == FM_GGUF_STRING || !kv->n) {
        return FM_OK;
    }
    *n = (size_t)kv->n;
    *score = fm_malloc(*n * sizeof(**score));
    if (!*score) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu scores", *n);
    }
    for (size_t i = 0; i < *n; i++) {
        (*score)[i] = (float)fm_gguf_item_num(kv, i);
    }
    return FM_OK;
}

/* The vocabulary inside a GGUF file. */
static fm_status open_gguf(fm_tokenizer **out, const char *path) {
    fm_gguf *g;
    fm_str json = {0}, config = {0};
    fm_json *conf = NULL;
    FM_TRY(fm_gguf_open(&g, path));
    fm_status s = fm_gguf_tokenizer_json(&json, &config, g);
    if (s == FM_OK) {
        s = fm_json_parse(&conf, config.data, config.len, "tokenizer_config.json");
    } else {
        s = fm_error_context("%s", path);
    }
    fm_tok_extras extras = {0};
    float *score = NULL;
    if (s == FM_OK) {
        s = gguf_scores(&score, &extras.n_score, g);
    }
    if (s == FM_OK) {
        extras.score = score;
        s = fm_tok_parse(out, json.data, json.len, conf, path, &extras);
        conf = NULL;
    }
    fm_free(score);
    fm_gguf_text t = {NULL, 0};
    if (s == FM_OK && !(*out)->chat_template) {
        s = fm_gguf_get_text(&t, g, "tokenizer.chat_template");
    }
    char *template = s == FM_OK && t.ptr ? fm_strndup(t.ptr, t.len) : NULL;
    if (template) {
        s = fm_tokenizer_set_chat_template(*out, template);
    }
    if (s != FM_OK) {
        fm_tokenizer_free(*out);
        *out = NULL;
    }
    fm_free(template);
    fm_json_free(conf);
    fm_str_free(&json);
    fm_str_free(&config);
    fm_gguf_close(g);
    return s;
}

static fm_status set_missing(void *arg, const char *key, fm_json *value) {
    fm_json *config = arg;
    size_t n;
    const char *text = fm_json_str(value, &n);
    if (fm_json_get(config, key)) {
        return FM_OK;
    }
    return fm_json_set(config, key, text ? fm_json_new_strn(text, n) : fm_json_new_bool(fm_json_bool(value, false)));
}

static fm_status open_spm(fm_tokenizer **out, const char *data, size_t n, fm_json *config, const char *name) {
    fm_str json = {0}, own = {0};
    fm_json *defaults = NULL;
    fm_tok_extras extras = {0};
    fm_status s;
    FM_TRY_GOTO(s, done, fm_spm_read(&json, &own, &extras.spm, data, n, name));
    FM_TRY_GOTO(s, done, fm_json_parse(&defaults, own.data, own.len, name));
    if (fm_json_is_object(config)) {
        FM_TRY_GOTO(s, done, fm_json_each(defaults, set_missing, config));
    } else {
        fm_json_free(config);
        config = defaults;
        defaults = NULL;
    }
    extras.score = extras.spm->score;
    extras.n_score = extras.spm->n_types;
    s = fm_tok_parse(out, json.data, json.len, config, name, &extras);
    config = NULL;
    extras.spm = NULL;
done:
    fm_spm_free(extras.spm);
    fm_json_free(config);
    fm_json_free(defaults);
    fm_str_free(&json);
    fm_str_free(&own);
    return s;
}

/* A file's bytes as a tokenizer. config is taken. */
static fm_status open_bytes(fm_tokenizer **out, const char *data, size_t n, fm_json *config, const char *name) {
    return fm_spm_is_model(data, n) ? open_spm(out, data, n, config, name)
                                    : fm_tok_parse(out, data, n, config, name, NULL);
}

/* Templates in files of their own, which win over those of tokenizer_config.json as in transformers. */
static fm_status read_templates(fm_tokenizer *t, const char *dir) {
    char *main = NULL, *tools = NULL;
    size_t n;
    fm_status s = read_beside(&main, &n, dir, "chat_template.jinja");
    s = s == FM_OK ? read_beside(&tools, &n, dir, "additional_chat_templates/tool_use.jinja") : s;
    s = s == FM_OK && main ? fm_tokenizer_set_chat_template(t, main) : s;
    s = s == FM_OK && tools && t->chat_template ? fm_tok_set_tool_template(t, tools) : s;
    fm_free(main);
    fm_free(tools);
    return s;
}

static fm_status open_in_dir(fm_tokenizer **out, const char *dir, const char *file) {
    fm_json *config = NULL;
    char *data = NULL;
    fm_str slow = {0};
    size_t n = 0;
    fm_status s;
    FM_TRY_GOTO(s, done, read_config(&config, dir));
    if (file) {
        FM_TRY_GOTO(s, done, fm_file_read(&data, &n, file, MAX_FILE));
        s = open_bytes(out, data, n, config, file);
    } else {
        FM_TRY_GOTO(s, done, fm_slow_vocab_read(&slow, dir, config));
        s = fm_tok_parse(out, slow.data, slow.len, config, dir, NULL);
    }
    config = NULL;
    if (s == FM_OK) {
        s = read_templates(*out, dir);
    }
    if (s != FM_OK) {
        fm_tokenizer_free(*out);
        *out = NULL;
    }
done:
    fm_json_free(config);
    fm_free(data);
    fm_str_free(&slow);
    return s;
}

fm_status fm_tokenizer_open(fm_tokenizer **out, const char *path) {
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"};
    *out = NULL;
    if (fm_gguf_is_file(path)) {
        return open_gguf(out, path);
    }
    char file[4096], dir[4096] = ".";
    if (fm_path_is_dir(path)) {
        for (size_t i = 0; i < FM_ARRAY_LEN(names); i++) {
            FM_TRY(fm_path_join(file, sizeof(file), path, names[i]));
            if (fm_path_exists(file)) {
                return open_in_dir(out, path, file);
            }
        }
        return open_in_dir(out, path, NULL);
    }
    size_t len = strlen(path);
    if (len >= sizeof(file)) {
        FM_FAIL(FM_ERR_ARGUMENT, "path of %zu bytes is too long", len);
    }
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    if (slash) {
        size_t n = slash == path ? 1 : (size_t)(slash - path);
        memcpy(dir, path, n);
        dir[n] = 0;
    }
    /* The parts of an old vocabulary name their folder. */
    bool part = !strcmp(base, "vocab.txt") || !strcmp(base, "vocab.json") || !strcmp(base, "merges.txt");
    return open_in_dir(out, dir, part ? NULL : path);
}
