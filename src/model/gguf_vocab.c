/* The vocabulary and the small files of a Hugging Face folder as GGUF metadata. tokenizer.json is the source: its
 * strings already have the form GGUF wants. Beside llama.cpp's keys the file itself goes along
 * (tokenizer.huggingface.json, a key of the GGUF specification), so that a folder made from it has the same ids. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "model/convert.h"
#include "text/gguf_vocab.h"

/* tokenizer.ggml.token_type */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_USER = 4, TYPE_UNUSED = 5, TYPE_BYTE = 6 };

typedef struct entry {
    const char *text; /* NULL = no such id */
    size_t len;
    int32_t type;
    float score;
} entry;

typedef struct vocab {
    entry *item;
    int32_t n; /* rows of the embedding */
    fm_json *json;
    const fm_json *model;
} vocab;

/* llama.cpp's name of each split pattern of ours. */
static const char *const pre_names[][2] = {
    {"gpt2", "gpt-2"},
    {"llama3", "llama-bpe"},
    {"qwen2", "qwen2"},
    {"deepseek_v3", "deepseek-v3"},
    {"deepseek_llm", "deepseek-llm"},
    {"deepseek_coder", "deepseek-coder"},
};

static fm_status put_entry(vocab *v, const char *text, size_t len, int64_t id, int32_t type) {
    if (id < 0 || id >= v->n) {
        FM_FAIL(FM_ERR_CONFIG, "tokenizer.json: token \"%.*s\" has id %lld, but vocab_size is %d", (int)FM_MIN(len, 60),
                text, (long long)id, (int)v->n);
    }
    v->item[id] = (entry){text, len, type, 0};
    return FM_OK;
}

static fm_status put_vocab(void *arg, const char *key, fm_json *value) {
    /* key is the member's own storage, which lives as long as the document */
    return put_entry(arg, key, strlen(key), fm_json_int(value, -1), TYPE_NORMAL);
}

static fm_status put_added(vocab *v) {
    const fm_json *added = fm_json_get(v->json, "added_tokens");
    for (size_t i = 0; i < fm_json_size(added); i++) {
        const fm_json *t = fm_json_at(added, i);
        size_t len = 0;
        const char *text = fm_json_str(fm_json_get(t, "content"), &len);
        if (!text) {
            FM_FAIL(FM_ERR_FORMAT, "tokenizer.json: added_tokens[%zu] has no content", i);
        }
        bool special = fm_json_bool(fm_json_get(t, "special"), false);
        FM_TRY(put_entry(v, text, len, fm_json_int(fm_json_get(t, "id"), -1), special ? TYPE_CONTROL : TYPE_USER));
    }
    return FM_OK;
}

static bool is_byte_token(const entry *e) {
    return e->len == 6 && memcmp(e->text, "<0x", 3) == 0 && e->text[5] == '>';
}

/* ---- merges ---------------------------------------------------------------------------------- */

/* "a b" of a merge, which a file has as text or as a pair. */
static fm_status merge_text(fm_str *out, const fm_json *merge, size_t rank) {
    fm_str_clear(out);
    size_t n;
    const char *s = fm_json_str(merge, &n);
    if (s) {
        fm_str_append(out, s, n);
        return fm_str_check(out);
    }
    const char *a = fm_json_str(fm_json_at(merge, 0), NULL), *b = fm_json_str(fm_json_at(merge, 1), NULL);
    if (!a || !b) {
        FM_FAIL(FM_ERR_FORMAT, "tokenizer.json: model.merges[%zu]: expected two tokens", rank);
    }
    fm_str_printf(out, "%s %s", a, b);
    return fm_str_check(out);
}

static fm_status put_merges(fm_gguf_writer *w, const vocab *v) {
    const fm_json *merges = fm_json_get(v->model, "merges");
    fm_str text = {0};
    fm_status s = FM_OK;
    fm_gguf_put_array(w, "tokenizer.ggml.merges", FM_GGUF_STRING, fm_json_size(merges));
    for (size_t i = 0; i < fm_json_size(merges) && s == FM_OK; i++) {
        s = merge_text(&text, fm_json_at(merges, i), i);
        fm_gguf_item_text(w, text.data ? text.data : "", text.len);
    }
    fm_str_free(&text);
    return s;
}

/* SentencePiece vocabularies have no merges: the token with the best score is merged first, so the score of what a
 * merge makes is its rank, negated. */
static fm_status put_ranks(vocab *v) {
    const fm_json *merges = fm_json_get(v->model, "merges"), *ids = fm_json_get(v->model, "vocab");
    fm_str text = {0};
    fm_status s = FM_OK;
    for (size_t i = 0; i < fm_json_size(merges) && s == FM_OK; i++) {
        s = merge_text(&text, fm_json_at(merges, i), i);
        char *space = s == FM_OK ? strchr(text.data, ' ') : NULL;
        if (space) {
            memmove(space, space + 1, strlen(space)); /* both halves joined */
            int64_t id = fm_json_int(fm_json_get(ids, text.data), -1);
            if (id >= 0 && id < v->n && v->item[id].score == 0) {
                v->item[id].score = -(float)(i + 1);
            }
        }
    }
    fm_str_free(&text);
    return s;
}

/* ---- kinds ----------------------------------------------------------------------------------- */

static void put_tokens(fm_gguf_writer *w, const vocab *v, bool scores, bool word_pieces) {
    char pad[24];
    fm_gguf_put_array(w, "tokenizer.ggml.tokens", FM_GGUF_STRING, (uint64_t)v->n);
    for (int32_t i = 0; i < v->n; i++) {
        const entry *e = &v->item[i];
        if (!e->text) {
            int n = snprintf(pad, sizeof pad, "[PAD%d]", (int)i);
            fm_gguf_item_text(w, pad, (size_t)n);
        } else if (word_pieces && e->type != TYPE_CONTROL) {
            /* llama.cpp marks beginnings of words, not continuations */
            fm_str t = {0};
            bool rest = e->len > 2 && memcmp(e->text, "##", 2) == 0;
            fm_str_puts(&t, rest ? "" : "\xe2\x96\x81");
            fm_str_append(&t, e->text + (rest ? 2 : 0), e->len - (rest ? 2 : 0));
            fm_gguf_item_text(w, t.data ? t.data : "", t.len);
            fm_str_free(&t);
        } else {
            fm_gguf_item_text(w, e->text, e->len);
        }
    }
    fm_gguf_put_array(w, "tokenizer.ggml.token_type", FM_GGUF_I32, (uint64_t)v->n);
    for (int32_t i = 0; i < v->n; i++) {
        fm_gguf_item_i32(w, v->item[i].text ? v->item[i].type : TYPE_UNUSED);
    }
    if (scores) {
        fm_gguf_put_array(w, "tokenizer.ggml.scores", FM_GGUF_F32, (uint64_t)v->n);
        for (int32_t i = 0; i < v->n; i++) {
            fm_gguf_item_f32(w, v->item[i].text ? v->item[i].score : -10000.0F);
        }
    }
}

static void put_model(fm_gguf_writer *w, const char *model, const char *pre) {
    fm_gguf_put_text(w, "tokenizer.ggml.model", model, strlen(model));
    fm_gguf_put_text(w, "tokenizer.ggml.pre", pre, strlen(pre));
}

static fm_status put_byte_level(fm_gguf_writer *w, const vocab *v, const fm_tokenizer *t) {
    const char *pattern = fm_tokenizer_pattern(t), *pre = NULL;
    for (size_t i = 0; i < FM_ARRAY_LEN(pre_names); i++) {
        pre = pattern && strcmp(pattern, pre_names[i][0]) == 0 ? pre_names[i][1] : pre;
    }
    if (!pre) {
        fm_warn("llama.cpp has no name for the way tokenizer.json splits words (%s); text may be cut differently there",
                pattern ? pattern : "no pattern");
        pre = "default";
    }
    put_model(w, "gpt2", pre);
    put_tokens(w, v, false, false);
    return put_merges(w, v);
}

static fm_status put_sentencepiece(fm_gguf_writer *w, vocab *v) {
    size_t n;
    const char *unk = fm_json_str(fm_json_get(v->model, "unk_token"), &n);
    for (int32_t i = 0; i < v->n; i++) {
        entry *e = &v->item[i];
        if (e->text && is_byte_token(e)) {
            e->type = TYPE_BYTE;
        } else if (e->text && unk && e->len == n && memcmp(e->text, unk, n) == 0) {
            e->type = TYPE_UNKNOWN;
        }
    }
    FM_TRY(put_ranks(v));
    put_model(w, "llama", "default");
    put_tokens(w, v, true, false);
    return FM_OK;
}

static void put_named_id(fm_gguf_writer *w, const vocab *v, const char *token, const char *key) {
    const fm_json *id = fm_json_get(fm_json_get(v->model, "vocab"), token);
    if (id) {
        fm_gguf_put_u32(w, key, FM_MAX(fm_json_int(id, 0), 0));
    }
}

static void put_word_pieces(fm_gguf_writer *w, const vocab *v) {
    put_model(w, "bert", "default");
    put_tokens(w, v, false, true);
    put_named_id(w, v, "[CLS]", "tokenizer.ggml.cls_token_id");
    put_named_id(w, v, "[CLS]", "tokenizer.ggml.bos_token_id"); /* what newer versions read */
    put_named_id(w, v, "[SEP]", "tokenizer.ggml.eos_token_id");
    put_named_id(w, v, "[SEP]", "tokenizer.ggml.seperator_token_id"); /* llama.cpp's spelling */
    put_named_id(w, v, "[UNK]", "tokenizer.ggml.unknown_token_id");
    put_named_id(w, v, "[PAD]", "tokenizer.ggml.padding_token_id");
    put_named_id(w, v, "[MASK]", "tokenizer.ggml.mask_token_id");
}

/* ---- ids ------------------------------------------------------------------------------------- */

static bool ends_text(const fm_model *m, int32_t id) {
    for (int i = 0; i < m->n_eos; i++) {
        if (m->eos[i] == id) {
            return true;
        }
    }
    return false;
}

static void put_id(fm_gguf_writer *w, const char *key, int32_t id) {
    if (id >= 0) {
        fm_gguf_put_u32(w, key, id);
    }
}

/* Whether an encoded empty text has the token at its beginning or end. */
static fm_status put_added_flags(fm_gguf_writer *w, const fm_tokenizer *t, int32_t bos, int32_t eos) {
    fm_tokens ids = {0};
    fm_encode_options o = {.size = sizeof o, .add_special = true};
    FM_TRY(fm_tokenizer_encode(&ids, t, "", 0, &o));
    fm_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", bos >= 0 && ids.n > 0 && ids.ids[0] == bos);
    fm_gguf_put_bool(w, "tokenizer.ggml.add_eos_token", eos >= 0 && ids.n > 1 && ids.ids[ids.n - 1] == eos);
    fm_tokens_free(&ids);
    return FM_OK;
}

static fm_status put_special(fm_gguf_writer *w, const fm_model *m, const fm_tokenizer *t) {
    int32_t bos = fm_tokenizer_bos(t) >= 0 ? fm_tokenizer_bos(t) : m->cfg.bos_id, eos = fm_tokenizer_eos(t);
    if (eos < 0 || (m->n_eos > 0 && !ends_text(m, eos))) {
        eos = m->n_eos > 0 ? m->eos[0] : -1;
    }
    put_id(w, "tokenizer.ggml.bos_token_id", bos);
    put_id(w, "tokenizer.ggml.eos_token_id", eos);
    put_id(w, "tokenizer.ggml.padding_token_id", fm_tokenizer_pad(t) >= 0 ? fm_tokenizer_pad(t) : m->cfg.pad_id);
    put_id(w, "tokenizer.ggml.unknown_token_id", fm_tokenizer_unk(t));
    for (int i = 0; i < m->n_eos; i++) {
        if (m->eos[i] != eos) {
            put_id(w, "tokenizer.ggml.eot_token_id", m->eos[i]);
            break;
        }
    }
    FM_TRY(put_added_flags(w, t, bos, eos));
    const char *template = fm_tokenizer_chat_template(t);
    if (template) {
        fm_gguf_put_text(w, "tokenizer.chat_template", template, strlen(template));
    }
    const char *tools = fm_tokenizer_tool_template(t);
    if (tools) {
        fm_gguf_put_text(w, "tokenizer.chat_template.tool_use", tools, strlen(tools));
    }
    return FM_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void put_no_vocab(fm_gguf_writer *w, const fm_model *m) {
    fm_gguf_put_text(w, "tokenizer.ggml.model", "no_vocab", 8);
    put_id(w, "tokenizer.ggml.bos_token_id", m->cfg.bos_id);
    put_id(w, "tokenizer.ggml.eos_token_id", m->n_eos > 0 ? m->eos[0] : -1);
    put_id(w, "tokenizer.ggml.padding_token_id", m->cfg.pad_id);
}

static fm_status put_vocabulary(fm_gguf_writer *w, vocab *v, const fm_model *m) {
    v->model = fm_json_get(v->json, "model");
    const char *type = fm_json_str(fm_json_get(v->model, "type"), NULL);
    fm_json *ids = fm_json_get(v->model, "vocab");
    bool bpe = type && strcmp(type, "BPE") == 0, pieces = type && strcmp(type, "WordPiece") == 0;
    if (!fm_json_is_object(ids) || (!bpe && !pieces)) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "tokenizer.json: model.type \"%s\" cannot be exported to GGUF", type ? type : "");
    }
    FM_TRY(fm_json_each(ids, put_vocab, v));
    FM_TRY(put_added(v));
    if (pieces) {
        put_word_pieces(w, v);
        return FM_OK;
    }
    fm_tokenizer *t;
    FM_TRY(fm_tokenizer_open(&t, m->path));
    bool bytes = fm_json_bool(fm_json_get(v->model, "byte_fallback"), false);
    fm_status s = bytes ? put_sentencepiece(w, v) : put_byte_level(w, v, t);
    s = s == FM_OK ? put_special(w, m, t) : s;
    fm_tokenizer_free(t);
    return s;
}

fm_status fm_gguf_vocab_write(fm_gguf_writer *w, const fm_model *m) {
    char path[4096];
    FM_TRY(fm_path_join(path, sizeof path, m->path ? m->path : ".", "tokenizer.json"));
    if (!m->path || !fm_path_exists(path)) {
        fm_warn("the model has no tokenizer.json: the file gets no vocabulary");
        put_no_vocab(w, m);
        return FM_OK;
    }
    vocab v = {.n = m->cfg.vocab_size};
    FM_TRY(fm_json_load(&v.json, path));
    v.item = fm_calloc((size_t)v.n, sizeof *v.item);
    fm_status s = v.item ? FM_OK : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for a vocabulary");
    s = s == FM_OK ? put_vocabulary(w, &v, m) : s;
    fm_free(v.item);
    fm_json_free(v.json);
    return s;
}

/* ---- small files ----------------------------------------------------------------------------- */

#define HF_TOKENIZER "tokenizer.huggingface.json"
#define MAX_FILE     ((size_t)64 << 20)

/* Files a model is not complete without. Those in GGUF are text; config.json is written anew in folders. */
typedef struct side_file {
    const char *name, *key; /* in GGUF; NULL = not carried */
    bool in_folders;        /* copied from folder to folder, too */
} side_file;
static const side_file side_files[] = {
    {"config.json", FM_GGUF_FILE_KEY "config.json", false},
    {"generation_config.json", FM_GGUF_FILE_KEY "generation_config.json", true},
    {"tokenizer.json", HF_TOKENIZER, true},
    {"tokenizer_config.json", FM_GGUF_FILE_KEY "tokenizer_config.json", true},
    {"special_tokens_map.json", FM_GGUF_FILE_KEY "special_tokens_map.json", true},
    {"added_tokens.json", FM_GGUF_FILE_KEY "added_tokens.json", true},
    {"chat_template.jinja", FM_GGUF_FILE_KEY "chat_template.jinja", true},
    {"vocab.txt", FM_GGUF_FILE_KEY "vocab.txt", true},
    {"vocab.json", NULL, true},
    {"merges.txt", NULL, true},
    {"tokenizer.model", NULL, true},
    {"README.md", NULL, true},
    {"LICENSE", NULL, true},
};

static fm_status read_side(char **data, size_t *n, const fm_model *m, const char *name) {
    char path[4096];
    *data = NULL;
    *n = 0;
    FM_TRY(fm_path_join(path, sizeof path, m->path, name));
    return fm_path_exists(path) ? fm_file_read(data, n, path, MAX_FILE) : FM_OK;
}

fm_status fm_gguf_files_write(fm_gguf_writer *w, const fm_model *m) {
    for (size_t i = 0; i < FM_ARRAY_LEN(side_files) && m->path; i++) {
        char *data;
        size_t n;
        if (!side_files[i].key) {
            continue;
        }
        FM_TRY(read_side(&data, &n, m, side_files[i].name));
        if (data && fm_utf8_valid(data, n)) {
            fm_gguf_put_text(w, side_files[i].key, data, n);
        }
        fm_free(data);
    }
    return FM_OK;
}

/* A vocabulary in llama.cpp's keys alone, as tokenizer.json. */
static fm_status compose_tokenizer(const fm_model *m, const char *dir) {
    const fm_gguf *g = fm_gguf_set_meta(m->gguf);
    char path[4096];
    fm_str json = {0}, config = {0};
    if (fm_gguf_find(g, HF_TOKENIZER) || !fm_gguf_find(g, "tokenizer.ggml.tokens")) {
        return FM_OK;
    }
    fm_status s = fm_gguf_tokenizer_json(&json, &config, g);
    if (s == FM_ERR_UNSUPPORTED) {
        fm_warn("the folder gets no tokenizer: %s", fm_error_get().message);
        s = FM_OK;
    } else if (s == FM_OK) {
        s = fm_path_join(path, sizeof path, dir, "tokenizer.json");
        if (s == FM_OK) {
            s = fm_file_write_atomic(path, json.data, json.len);
        }
        if (s == FM_OK) {
            s = fm_path_join(path, sizeof path, dir, "tokenizer_config.json");
        }
        if (s == FM_OK) {
            s = fm_file_write_atomic(path, config.data, config.len);
        }
    }
    fm_str_free(&json);
    fm_str_free(&config);
    return s;
}

fm_status fm_model_copy_files(const fm_model *m, const char *dir) {
    if (m->gguf) {
        FM_TRY(compose_tokenizer(m, dir));
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(side_files) && m->path; i++) {
        const side_file *f = &side_files[i];
        char path[4096], *data = NULL;
        fm_gguf_text t = {NULL, 0};
        if (!f->in_folders) {
            continue;
        }
        FM_TRY(fm_path_join(path, sizeof path, dir, f->name));
        if (m->gguf && f->key) {
            FM_TRY(fm_gguf_get_text(&t, fm_gguf_set_meta(m->gguf), f->key));
        } else if (!m->gguf) {
            FM_TRY(read_side(&data, &t.len, m, f->name));
            t.ptr = data;
        }
        fm_status s = t.ptr ? fm_file_write_atomic(path, t.ptr, t.len) : FM_OK;
        fm_free(data);
        FM_TRY(s);
    }
    return FM_OK;
}
