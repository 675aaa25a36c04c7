/* Reading tokenizer.json and tokenizer_config.json. */
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "text/bpe.h"
#include "text/gguf_vocab.h"

#define MAX_FILE ((size_t)512 << 20)

typedef struct loader {
    fm_tokenizer *t;
    const char *name; /* of the file, for messages */
    fm_strtab ids;    /* token text as written in the file -> id */
    fm_str scratch;
    int64_t max_id;    /* ids above are refused */
    bool has_template; /* the post-processor says what add_special adds */
} loader;

static const char *type_of(const fm_json *o) {
    const char *s = fm_json_str(fm_json_get(o, "type"), NULL);
    return s ? s : "";
}

static fm_status each_vocab(void *arg, const char *key, fm_json *value) {
    loader *l = arg;
    if (!fm_json_is_number(value)) {
        FM_FAIL(FM_ERR_FORMAT, "%s: model.vocab[\"%.80s\"] is not a number", l->name, key);
    }
    int64_t id = fm_json_int(value, -1);
    if (id < 0 || id > l->max_id) {
        FM_FAIL(FM_ERR_FORMAT, "%s: model.vocab[\"%.80s\"] has id %lld, expected 0 to %lld", l->name, key,
                (long long)id, (long long)l->max_id);
    }
    if ((size_t)id < l->t->n_ids && l->t->entry[id].flags) {
        FM_FAIL(FM_ERR_FORMAT, "%s: model.vocab[\"%.80s\"] has id %lld, which another token has", l->name, key,
                (long long)id);
    }
    size_t n = strlen(key);
    FM_TRY(fm_strtab_put(&l->ids, key, n, (uint32_t)id, NULL));
    fm_str_clear(&l->scratch);
    bool mapped = fm_mapped_to_bytes(&l->scratch, key, n);
    FM_TRY(fm_str_check(&l->scratch));
    return mapped ? fm_tok_put(l->t, id, l->scratch.data, l->scratch.len, FM_TOK_VOCAB)
                  : fm_tok_put(l->t, id, key, n, FM_TOK_VOCAB | FM_TOK_LITERAL);
}

static fm_status one_merge(loader *l, size_t i, const char *a, size_t na, const char *b, size_t nb) {
    uint32_t ida, idb, id;
    fm_str_clear(&l->scratch);
    fm_str_append(&l->scratch, a, na);
    fm_str_append(&l->scratch, b, nb);
    FM_TRY(fm_str_check(&l->scratch));
    if (!fm_strtab_get(&l->ids, a, na, &ida) || !fm_strtab_get(&l->ids, b, nb, &idb) ||
        !fm_strtab_get(&l->ids, l->scratch.data, l->scratch.len, &id)) {
        FM_FAIL(FM_ERR_FORMAT, "%s: model.merges[%zu] (\"%.*s\" \"%.*s\") names a token that is not in the vocabulary",
                l->name, i, (int)FM_MIN(na, (size_t)60), a, (int)FM_MIN(nb, (size_t)60), b);
    }
    return fm_tok_put_merge(l->t, ida, idb, id);
}

static fm_status load_merges(loader *l, const fm_json *merges) {
    if (!fm_json_is_array(merges)) {
        FM_FAIL(FM_ERR_FORMAT, "%s: model.merges is not a list", l->name);
    }
    for (size_t i = 0; i < fm_json_size(merges); i++) {
        const fm_json *m = fm_json_at(merges, i);
        size_t na = 0, nb = 0;
        if (fm_json_is_array(m)) {
            const char *a = fm_json_str(fm_json_at(m, 0), &na), *b = fm_json_str(fm_json_at(m, 1), &nb);
            if (!a || !b || fm_json_size(m) != 2) {
                FM_FAIL(FM_ERR_FORMAT, "%s: model.merges[%zu] is not a pair of strings", l->name, i);
            }
            FM_TRY(one_merge(l, i, a, na, b, nb));
            continue;
        }
        const char *s = fm_json_str(m, &na);
        const char *blank = s ? memchr(s, ' ', na) : NULL;
        if (!blank || memchr(blank + 1, ' ', (size_t)(s + na - blank - 1))) {
            FM_FAIL(FM_ERR_FORMAT, "%s: model.merges[%zu] is not two tokens with a blank between", l->name, i);
        }
        FM_TRY(one_merge(l, i, s, (size_t)(blank - s), blank + 1, (size_t)(s + na - blank - 1)));
    }
    return FM_OK;
}

static fm_status load_model(loader *l, fm_json *model) {
    if (!fm_json_is_object(model)) {
        FM_FAIL(FM_ERR_FORMAT, "%s: there is no object \"model\"", l->name);
    }
    const char *type = fm_json_get(model, "type") ? type_of(model) : "BPE";
    if (strcmp(type, "BPE") != 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: model type \"%s\" is not supported, expected BPE", l->name, type);
    }
    static const char *const affix[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        const char *s = fm_json_str(fm_json_get(model, affix[i]), NULL);
        if (s && *s) {
            FM_FAIL(FM_ERR_UNSUPPORTED, "%s: model.%s \"%s\" is not supported with byte-level BPE", l->name, affix[i],
                    s);
        }
    }
    if (fm_json_num(fm_json_get(model, "dropout"), 0) != 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: model.dropout is not supported", l->name);
    }
    if (fm_json_bool(fm_json_get(model, "byte_fallback"), false)) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: model.byte_fallback is not supported with byte-level BPE", l->name);
    }
    l->t->ignore_merges = fm_json_bool(fm_json_get(model, "ignore_merges"), false);
    l->t->fuse_unk = fm_json_bool(fm_json_get(model, "fuse_unk"), false);
    fm_json *vocab = fm_json_get(model, "vocab");
    if (!fm_json_is_object(vocab)) {
        FM_FAIL(FM_ERR_FORMAT, "%s: model.vocab is not an object", l->name);
    }
    FM_TRY(fm_json_each(vocab, each_vocab, l));
    FM_TRY(load_merges(l, fm_json_get(model, "merges")));
    const char *unk = fm_json_str(fm_json_get(model, "unk_token"), NULL);
    uint32_t id;
    if (unk) {
        if (!(l->t->unk_token = fm_strdup(unk))) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the unknown token");
        }
        if (fm_strtab_get(&l->ids, unk, strlen(unk), &id)) {
            l->t->unk = (int32_t)id;
        }
    }
    return FM_OK;
}

static fm_status load_added(loader *l, const fm_json *list) {
    for (size_t i = 0; i < fm_json_size(list); i++) {
        const fm_json *o = fm_json_at(list, i);
        size_t n;
        const char *content = fm_json_str(fm_json_get(o, "content"), &n);
        int64_t id = fm_json_int(fm_json_get(o, "id"), -1);
        if (!content || id < 0 || id > l->max_id) {
            FM_FAIL(FM_ERR_FORMAT, "%s: added_tokens[%zu] has no content or no id in 0..%lld", l->name, i,
                    (long long)l->max_id);
        }
        /* A token that the vocabulary has keeps its id there, as in the Hugging Face library. */
        uint32_t known;
        if (fm_strtab_get(&l->ids, content, n, &known)) {
            id = known;
        }
        bool special = fm_json_bool(fm_json_get(o, "special"), false);
        fm_added_token a = {
            .id = (int32_t)id,
            .special = special,
            .single_word = fm_json_bool(fm_json_get(o, "single_word"), false),
            .lstrip = fm_json_bool(fm_json_get(o, "lstrip"), false),
            .rstrip = fm_json_bool(fm_json_get(o, "rstrip"), false),
            .normalized = fm_json_bool(fm_json_get(o, "normalized"), !special),
        };
        FM_TRY(fm_tok_put_added(l->t, content, n, a));
    }
    return FM_OK;
}

static fm_status load_normalizer(loader *l, const fm_json *o) {
    const char *type = type_of(o);
    if (fm_json_is_null(o)) {
        return FM_OK;
    }
    if (!strcmp(type, "NFC")) {
        l->t->nfc = true;
        return FM_OK;
    }
    if (!strcmp(type, "Sequence")) {
        const fm_json *list = fm_json_get(o, "normalizers");
        for (size_t i = 0; i < fm_json_size(list); i++) {
            const fm_json *item = fm_json_at(list, i);
            if (strcmp(type_of(item), "NFC") != 0) {
                FM_FAIL(FM_ERR_UNSUPPORTED, "%s: normalizer \"%s\" is not supported", l->name, type_of(item));
            }
            l->t->nfc = true;
        }
        return FM_OK;
    }
    FM_FAIL(FM_ERR_UNSUPPORTED, "%s: normalizer \"%s\" is not supported, expected null or NFC", l->name, type);
}

/* Line ends inside a pattern may be written as characters or as escapes. */
static bool same_regex(const char *known, const char *s) {
    for (; *s; s++) {
        if (*s == '\r' || *s == '\n') {
            if (known[0] != '\\' || known[1] != (*s == '\r' ? 'r' : 'n')) {
                return false;
            }
            known += 2;
        } else if (*known++ != *s) {
            return false;
        }
    }
    return *known == 0;
}

static fm_status load_pre_tokenizer(loader *l, const fm_json *o) {
    const char *regex[4] = {0};
    int n_regex = 0;
    const fm_json *list = !strcmp(type_of(o), "Sequence") ? fm_json_get(o, "pretokenizers") : NULL;
    size_t n = list ? fm_json_size(list) : !fm_json_is_null(o);
    bool byte_level = false, use_regex = true;
    for (size_t i = 0; i < n; i++) {
        const fm_json *item = list ? fm_json_at(list, i) : o;
        const char *type = type_of(item);
        if (!strcmp(type, "ByteLevel") && i + 1 == n) {
            byte_level = true;
            use_regex = fm_json_bool(fm_json_get(item, "use_regex"), true);
            l->t->add_prefix_space = fm_json_bool(fm_json_get(item, "add_prefix_space"), true);
            continue;
        }
        const char *behavior = fm_json_str(fm_json_get(item, "behavior"), NULL);
        const char *pattern = fm_json_str(fm_json_get(fm_json_get(item, "pattern"), "Regex"), NULL);
        if (strcmp(type, "Split") != 0 || !pattern || !behavior || strcmp(behavior, "Isolated") != 0 ||
            fm_json_bool(fm_json_get(item, "invert"), false) || n_regex == 4) {
            FM_FAIL(FM_ERR_UNSUPPORTED,
                    "%s: pre_tokenizer part %zu (\"%s\", behavior \"%s\", pattern \"%.200s\") is not supported",
                    l->name, i, type, behavior ? behavior : "", pattern ? pattern : "");
        }
        regex[n_regex++] = pattern;
    }
    if (!byte_level) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: pre_tokenizer \"%s\" has no ByteLevel part, so this is not byte-level BPE",
                l->name, type_of(o));
    }
    if (use_regex && n_regex == 0) {
        l->t->split = FM_SPLIT_GPT2;
        return FM_OK;
    }
    for (int k = 0; k < FM_SPLIT_COUNT && !use_regex; k++) {
        int i = 0;
        const char *known;
        while ((known = fm_split_regex((fm_split_kind)k, i)) && i < n_regex && same_regex(known, regex[i])) {
            i++;
        }
        /* A blank in front of each piece, not of the text, is something no published file asks for. */
        if (!known && i == n_regex && !(l->t->add_prefix_space && n_regex)) {
            l->t->split = (fm_split_kind)k;
            return FM_OK;
        }
    }
    (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
                       "%s: the splitting pattern of the pre_tokenizer is not known: \"%.400s\"", l->name,
                       n_regex ? regex[0] : "(none)");
    return fm_error_hint("known patterns are those of GPT-2, Llama 3, Qwen 2 and DeepSeek V3");
}

static fm_status load_decoder(loader *l, const fm_json *o) {
    const char *type = type_of(o);
    if (fm_json_is_null(o) || !strcmp(type, "ByteLevel")) {
        return FM_OK;
    }
    const fm_json *list = fm_json_get(o, "decoders");
    if (!strcmp(type, "Sequence") && fm_json_size(list) == 1 && !strcmp(type_of(fm_json_at(list, 0)), "ByteLevel")) {
        return FM_OK;
    }
    FM_FAIL(FM_ERR_UNSUPPORTED, "%s: decoder \"%s\" is not supported, expected ByteLevel", l->name, type);
}

/* "single" of a TemplateProcessing: special tokens before and after the text. */
static fm_status load_template(loader *l, const fm_json *o) {
    const fm_json *single = fm_json_get(o, "single");
    bool after = false;
    l->has_template = true;
    for (size_t i = 0; i < fm_json_size(single); i++) {
        const fm_json *item = fm_json_at(single, i);
        if (fm_json_get(item, "Sequence")) {
            after = true;
            continue;
        }
        const char *name = fm_json_str(fm_json_get(fm_json_get(item, "SpecialToken"), "id"), NULL);
        const fm_json *ids = name ? fm_json_get(fm_json_get(fm_json_get(o, "special_tokens"), name), "ids") : NULL;
        int *n = after ? &l->t->n_suffix : &l->t->n_prefix;
        int32_t *to = after ? l->t->suffix : l->t->prefix;
        for (size_t k = 0; k < fm_json_size(ids); k++) {
            int64_t id = fm_json_int(fm_json_at(ids, k), -1);
            if (*n == FM_MAX_TEMPLATE || id < 0 || (uint64_t)id >= l->t->n_ids || !l->t->entry[id].flags) {
                FM_FAIL(FM_ERR_FORMAT,
                        "%s: the template of the post_processor names id %lld (vocabulary %zu) or has more than %d",
                        l->name, (long long)id, l->t->n_ids, FM_MAX_TEMPLATE);
            }
            to[(*n)++] = (int32_t)id;
        }
        if (!fm_json_size(ids)) {
            FM_FAIL(FM_ERR_FORMAT, "%s: the template of the post_processor names \"%s\", which special_tokens lacks",
                    l->name, name ? name : "?");
        }
    }
    return FM_OK;
}

static fm_status load_post_processor(loader *l, const fm_json *o) {
    const fm_json *list = !strcmp(type_of(o), "Sequence") ? fm_json_get(o, "processors") : NULL;
    size_t n = list ? fm_json_size(list) : !fm_json_is_null(o);
    for (size_t i = 0; i < n; i++) {
        const fm_json *item = list ? fm_json_at(list, i) : o;
        const char *type = type_of(item);
        if (!strcmp(type, "TemplateProcessing")) {
            FM_TRY(load_template(l, item));
        } else if (strcmp(type, "ByteLevel") != 0) {
            FM_FAIL(FM_ERR_UNSUPPORTED, "%s: post_processor \"%s\" is not supported", l->name, type);
        }
    }
    return FM_OK;
}

static int32_t config_token(const loader *l, const fm_json *config, const char *key, int32_t def) {
    const fm_json *v = fm_json_get(config, key);
    size_t n;
    const char *s = fm_json_str(fm_json_is_object(v) ? fm_json_get(v, "content") : v, &n);
    int32_t id = s ? fm_tokenizer_find(l->t, s, n) : -1;
    return id >= 0 ? id : def;
}

static fm_status load_config(loader *l, const fm_json *config) {
    fm_tokenizer *t = l->t;
    t->bos = config_token(l, config, "bos_token", t->bos);
    t->eos = config_token(l, config, "eos_token", t->eos);
    t->pad = config_token(l, config, "pad_token", t->pad);
    if (!t->unk_token) {
        t->unk = config_token(l, config, "unk_token", t->unk);
    }
    t->add_bos = fm_json_bool(fm_json_get(config, "add_bos_token"), false);
    t->add_eos = fm_json_bool(fm_json_get(config, "add_eos_token"), false);
    if (!l->has_template) {
        if (t->add_bos && t->bos >= 0) {
            t->prefix[t->n_prefix++] = t->bos;
        }
        if (t->add_eos && t->eos >= 0) {
            t->suffix[t->n_suffix++] = t->eos;
        }
    }
    /* One template, or a list of {name, template}. */
    const fm_json *ct = fm_json_get(config, "chat_template");
    const char *text = fm_json_str(ct, NULL);
    for (size_t i = 0; !fm_json_is_string(ct) && i < fm_json_size(ct); i++) {
        const fm_json *o = fm_json_at(ct, i);
        const char *name = fm_json_str(fm_json_get(o, "name"), NULL);
        if (!text || (name && !strcmp(name, "default"))) {
            text = fm_json_str(fm_json_get(o, "template"), NULL);
        }
    }
    return text ? fm_tokenizer_set_chat_template(t, text) : FM_OK;
}

static fm_status load_all(loader *l, const fm_json *root) {
    if (!fm_json_is_object(root)) {
        FM_FAIL(FM_ERR_FORMAT, "%s: not a JSON object", l->name);
    }
    fm_json *model = fm_json_get(root, "model");
    const fm_json *added = fm_json_get(root, "added_tokens");
    /* Ids may have holes, but a stray huge one must not size the tables. */
    l->max_id = (int64_t)(4 * (fm_json_size(fm_json_get(model, "vocab")) + fm_json_size(added)) + 65536);
    FM_TRY(load_model(l, model));
    FM_TRY(load_added(l, added));
    FM_TRY(load_normalizer(l, fm_json_get(root, "normalizer")));
    FM_TRY(load_pre_tokenizer(l, fm_json_get(root, "pre_tokenizer")));
    FM_TRY(load_decoder(l, fm_json_get(root, "decoder")));
    FM_TRY(fm_tok_finish(l->t));
    return load_post_processor(l, fm_json_get(root, "post_processor"));
}

fm_status fm_tokenizer_parse(fm_tokenizer **out, const char *json, size_t n, const char *config, size_t n_config,
                             const char *name) {
    loader l = {.name = name};
    fm_json *root = NULL, *conf = NULL;
    fm_status s;
    FM_TRY_GOTO(s, done, fm_json_parse(&root, json, n, name));
    FM_TRY_GOTO(s, done, fm_tok_new(&l.t));
    FM_TRY_GOTO(s, done, load_all(&l, root));
    if (config) {
        FM_TRY_GOTO(s, done, fm_json_parse(&conf, config, n_config, "tokenizer_config.json"));
        FM_TRY_GOTO(s, done, load_config(&l, conf));
    }
    *out = l.t;
    l.t = NULL;
done:
    fm_json_free(root);
    fm_json_free(conf);
    fm_strtab_free(&l.ids);
    fm_str_free(&l.scratch);
    fm_tokenizer_free(l.t);
    return s;
}

/* Reads dir/name when it is there; *text stays NULL otherwise. */
static fm_status read_beside(char **text, size_t *n, const char *dir, const char *name) {
    char path[4096];
    FM_TRY(fm_path_join(path, sizeof(path), dir, name));
    return fm_path_exists(path) ? fm_file_read(text, n, path, MAX_FILE) : FM_OK;
}

/* The vocabulary inside a GGUF file. */
static fm_status open_gguf(fm_tokenizer **out, const char *path) {
    fm_gguf *g;
    fm_str json = {0}, config = {0};
    *out = NULL;
    FM_TRY(fm_gguf_open(&g, path));
    fm_status s = fm_gguf_tokenizer_json(&json, &config, g);
    if (s == FM_OK) {
        s = fm_tokenizer_parse(out, json.data, json.len, config.data, config.len, path);
    } else {
        s = fm_error_context("%s", path);
    }
    fm_gguf_text t = {NULL, 0};
    if (s == FM_OK && *out && !(*out)->chat_template) {
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
    fm_str_free(&json);
    fm_str_free(&config);
    fm_gguf_close(g);
    return s;
}

fm_status fm_tokenizer_open(fm_tokenizer **out, const char *path) {
    *out = NULL;
    if (fm_gguf_is_file(path)) {
        return open_gguf(out, path);
    }
    char file[4096], dir[4096] = ".";
    char *json = NULL, *config = NULL, *jinja = NULL;
    size_t n = 0, n_config = 0, n_jinja = 0;
    fm_tokenizer *t = NULL;
    fm_status s;
    if (fm_path_is_dir(path)) {
        FM_TRY(fm_path_join(file, sizeof(file), path, "tokenizer.json"));
        memcpy(dir, path, strlen(path) + 1); /* shorter than file */
    } else {
        size_t len = strlen(path);
        if (len >= sizeof(file)) {
            FM_FAIL(FM_ERR_ARGUMENT, "path of %zu bytes is too long", len);
        }
        memcpy(file, path, len + 1);
        const char *slash = strrchr(path, '/');
        if (slash) {
            memcpy(dir, path, (size_t)(slash - path));
            dir[slash == path ? 0 : slash - path] = 0;
            if (slash == path) {
                memcpy(dir, "/", 2);
            }
        }
    }
    FM_TRY_GOTO(s, done, fm_file_read(&json, &n, file, MAX_FILE));
    FM_TRY_GOTO(s, done, read_beside(&config, &n_config, dir, "tokenizer_config.json"));
    FM_TRY_GOTO(s, done, fm_tokenizer_parse(&t, json, n, config, n_config, file));
    if (!t->chat_template) {
        FM_TRY_GOTO(s, done, read_beside(&jinja, &n_jinja, dir, "chat_template.jinja"));
        if (jinja) {
            FM_TRY_GOTO(s, done, fm_tokenizer_set_chat_template(t, jinja));
        }
    }
    *out = t;
    t = NULL;
done:
    fm_free(json);
    fm_free(config);
    fm_free(jinja);
    fm_tokenizer_free(t);
    return s;
}
