/* Reading tokenizer.json and tokenizer_config.json. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "text/bpe.h"

typedef struct loader {
    fm_tokenizer *t;
    const char *name; /* of the file, for messages */
    fm_strtab ids;    /* token text as written in the file -> id */
    fm_str scratch;
    int64_t max_id; /* ids above are refused */
} loader;

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
    if (!l->t->byte_level) {
        return fm_tok_put(l->t, id, key, n, FM_TOK_VOCAB);
    }
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
    /* The second half of a merge carries the prefix of subwords, the result does not. */
    size_t skip = l->t->continuing ? FM_MIN(strlen(l->t->continuing), nb) : 0;
    fm_str_append(&l->scratch, b + skip, nb - skip);
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

static fm_status copy_text(char **out, const fm_json *o, const char *key) {
    const char *s = fm_json_str(fm_json_get(o, key), NULL);
    if (s && *s && !(*out = fm_strdup(s))) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for model.%s", key);
    }
    return FM_OK;
}

static fm_status load_vocab(loader *l, fm_json *model) {
    fm_json *vocab = fm_json_get(model, "vocab");
    if (!fm_json_is_object(vocab)) {
        FM_FAIL(FM_ERR_FORMAT, "%s: model.vocab is not an object", l->name);
    }
    return fm_json_each(vocab, each_vocab, l);
}

static fm_status load_unk(loader *l, const fm_json *model) {
    uint32_t id;
    FM_TRY(copy_text(&l->t->unk_token, model, "unk_token"));
    if (l->t->unk_token && fm_strtab_get(&l->ids, l->t->unk_token, strlen(l->t->unk_token), &id)) {
        l->t->unk = (int32_t)id;
    }
    return FM_OK;
}

static fm_status load_bpe(loader *l, fm_json *model) {
    fm_tokenizer *t = l->t;
    if (fm_json_num(fm_json_get(model, "dropout"), 0) != 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: model.dropout is not supported", l->name);
    }
    t->ignore_merges = fm_json_bool(fm_json_get(model, "ignore_merges"), false);
    t->fuse_unk = fm_json_bool(fm_json_get(model, "fuse_unk"), false);
    t->byte_fallback = fm_json_bool(fm_json_get(model, "byte_fallback"), false);
    FM_TRY(copy_text(&t->continuing, model, "continuing_subword_prefix"));
    FM_TRY(copy_text(&t->ending, model, "end_of_word_suffix"));
    /* Bytes as characters are an inner matter of the file: the merges work on bytes. */
    t->byte_level = fm_pre_ends_in_bytes(&t->pre) && !t->byte_fallback && !t->continuing && !t->ending;
    t->stream = false;
    if (t->byte_level) {
        fm_pre_keep_bytes(&t->pre);
        t->stream = fm_pre_is_known_split(&t->pre, &t->split, &t->add_prefix_space);
        t->dec.none = false;
    } else {
        t->model = fm_bpe_chars_run;
    }
    FM_TRY(load_vocab(l, model));
    FM_TRY(load_merges(l, fm_json_get(model, "merges")));
    return load_unk(l, model);
}

static fm_status load_wordpiece(loader *l, fm_json *model) {
    l->t->model = fm_wordpiece_run;
    int64_t max = fm_json_int(fm_json_get(model, "max_input_chars_per_word"), 100);
    l->t->max_word_chars = max < 0 ? 0 : (size_t)max;
    const fm_json *prefix = fm_json_get(model, "continuing_subword_prefix");
    if (prefix) {
        FM_TRY(copy_text(&l->t->continuing, model, "continuing_subword_prefix"));
    } else if (!(l->t->continuing = fm_strdup("##"))) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the prefix of word pieces");
    }
    FM_TRY(load_vocab(l, model));
    return load_unk(l, model);
}

static fm_status load_wordlevel(loader *l, fm_json *model) {
    l->t->model = fm_wordlevel_run;
    FM_TRY(load_vocab(l, model));
    return load_unk(l, model);
}

/* The tokenizers library reads the digits of a score as an integer and divides it, rounding twice: for scores with 16
 * or 17 digits that may be the neighbour of the nearest double, and ties between ways to split fall accordingly. Files
 * have the shortest digits that tell a double from its neighbours. */
static double as_library(double v) {
    char text[40];
    int digits = 15;
    do {
        (void)snprintf(text, sizeof(text), "%.*e", digits - 1, v);
    } while (digits++ < 17 && strtod(text, NULL) != v);
    uint64_t whole = 0;
    int after = 0;
    bool fraction = false;
    char *p = text + (text[0] == '-');
    char *last = strchr(p, 'e');
    if (!last) {
        return v;
    }
    int exponent = (int)strtol(last + 1, NULL, 10);
    while (last > p && last[-1] == '0') { /* zeros at the end are not written */
        last--;
    }
    for (; p < last; p++) {
        if (*p == '.') {
            fraction = true;
        } else {
            whole = whole * 10 + (uint64_t)(*p - '0');
            after += fraction;
        }
    }
    exponent -= after;
    double out = (double)whole, power = 1;
    int n = exponent < 0 ? -exponent : exponent;
    if (n > 22) { /* powers beyond are not exact; no score has them */
        return v;
    }
    for (int i = 0; i < n; i++) {
        power *= 10;
    }
    out = exponent < 0 ? out / power : out * power;
    return text[0] == '-' ? -out : out;
}

static fm_status load_unigram(loader *l, fm_json *model) {
    fm_tokenizer *t = l->t;
    const fm_json *vocab = fm_json_get(model, "vocab"), *unk = fm_json_get(model, "unk_id");
    size_t n = fm_json_size(vocab);
    if (!fm_json_is_array(vocab)) {
        FM_FAIL(FM_ERR_FORMAT, "%s: model.vocab of Unigram is not a list", l->name);
    }
    t->model = fm_unigram_run;
    t->fuse_unk = true;
    t->byte_fallback = fm_json_bool(fm_json_get(model, "byte_fallback"), false);
    t->score = fm_calloc(FM_MAX(n, (size_t)1), sizeof(*t->score));
    if (!t->score) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu scores", n);
    }
    for (size_t i = n; i-- > 0;) { /* of equal texts the last one counts */
        const fm_json *pair = fm_json_at(vocab, i);
        size_t len;
        const char *text = fm_json_str(fm_json_at(pair, 0), &len);
        if (!text || !fm_json_is_number(fm_json_at(pair, 1))) {
            FM_FAIL(FM_ERR_FORMAT, "%s: model.vocab[%zu] is not a token with a score", l->name, i);
        }
        double score = fm_json_num(fm_json_at(pair, 1), 0);
        t->score[i] = t->spm ? score : as_library(score);
        FM_TRY(fm_strtab_put(&l->ids, text, len, (uint32_t)i, NULL));
        FM_TRY(fm_tok_put(t, (int64_t)i, text, len, FM_TOK_VOCAB));
    }
    int64_t id = fm_json_int(unk, -1);
    if (!fm_json_is_null(unk) && (id < 0 || (size_t)id >= n)) {
        FM_FAIL(FM_ERR_FORMAT, "%s: model.unk_id %lld is outside the vocabulary of %zu", l->name, (long long)id, n);
    }
    t->unk = (int32_t)id;
    return FM_OK;
}

static const struct {
    const char *type;
    fm_status (*load)(loader *l, fm_json *model);
    fm_status (*build)(fm_tokenizer *t); /* after all tokens are known */
} models[] = {
    {"BPE", load_bpe, NULL},
    {"WordPiece", load_wordpiece, fm_wordpiece_build},
    {"WordLevel", load_wordlevel, NULL},
    {"Unigram", load_unigram, fm_unigram_build},
};

/* Old files do not name the type. */
static const char *model_type(const fm_json *model) {
    if (fm_json_get(model, "type")) {
        return fm_part_type(model);
    }
    return fm_json_get(model, "merges") || !fm_json_get(model, "vocab") ? "BPE"
           : fm_json_is_array(fm_json_get(model, "vocab"))              ? "Unigram"
           : fm_json_get(model, "max_input_chars_per_word")             ? "WordPiece"
                                                                        : "WordLevel";
}

static fm_status load_model(loader *l, fm_json *model, size_t *kind) {
    if (!fm_json_is_object(model)) {
        FM_FAIL(FM_ERR_FORMAT, "%s: there is no object \"model\"", l->name);
    }
    const char *type = model_type(model);
    for (*kind = 0; *kind < FM_ARRAY_LEN(models); ++*kind) {
        if (!strcmp(type, models[*kind].type)) {
            l->t->byte_level = l->t->stream = false;
            return models[*kind].load(l, model);
        }
    }
    FM_FAIL(FM_ERR_UNSUPPORTED,
            "%s: model type \"%.80s\" is not supported; known are BPE, WordPiece, WordLevel, Unigram", l->name, type);
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
        bool user = l->t->spm && (size_t)id < l->t->spm->n_types && l->t->spm->type[id] == FM_TOKEN_USER;
        fm_added_token a = {
            .id = (int32_t)id,
            .special = special,
            .single_word = fm_json_bool(fm_json_get(o, "single_word"), false),
            .lstrip = fm_json_bool(fm_json_get(o, "lstrip"), false),
            .rstrip = fm_json_bool(fm_json_get(o, "rstrip"), false),
            .normalized = fm_json_bool(fm_json_get(o, "normalized"), !special) || user,
        };
        FM_TRY(fm_tok_put_added(l->t, content, n, a));
    }
    return FM_OK;
}

/* ---- post-processors ---- */

static fm_status put_item(fm_post_template *m, int32_t id, int32_t type) {
    void *p = m->item;
    FM_TRY(fm_grow(&p, &m->cap, m->n + 1, sizeof(*m->item)));
    m->item = p;
    m->item[m->n++] = (fm_template_item){id, type};
    return FM_OK;
}

static fm_status put_token_item(loader *l, fm_post_template *m, int64_t id, int32_t type) {
    if (id < 0 || (uint64_t)id >= l->t->n_ids || !l->t->entry[id].flags) {
        FM_FAIL(FM_ERR_FORMAT, "%s: the post_processor names id %lld, which the vocabulary of %zu lacks", l->name,
                (long long)id, l->t->n_ids);
    }
    return put_item(m, (int32_t)id, type);
}

/* One list of a TemplateProcessing. */
static fm_status load_list(loader *l, fm_post_template *m, const fm_json *o, const char *key) {
    const fm_json *list = fm_json_get(o, key);
    for (size_t i = 0; i < fm_json_size(list); i++) {
        const fm_json *part = fm_json_at(list, i);
        const fm_json *text = fm_json_get(part, "Sequence"), *token = fm_json_get(part, "SpecialToken");
        int64_t type = fm_json_int(fm_json_get(text ? text : token, "type_id"), 0);
        if (type < 0 || type > 1 << 20) {
            FM_FAIL(FM_ERR_FORMAT, "%s: post_processor.%s[%zu] has type_id %lld", l->name, key, i, (long long)type);
        }
        const char *name = fm_json_str(fm_json_get(text ? text : token, "id"), NULL);
        if (text) {
            FM_TRY(put_item(m, name && !strcmp(name, "B") ? -2 : -1, (int32_t)type));
            continue;
        }
        const fm_json *ids = name ? fm_json_get(fm_json_get(fm_json_get(o, "special_tokens"), name), "ids") : NULL;
        if (!fm_json_size(ids)) {
            FM_FAIL(FM_ERR_FORMAT, "%s: the template of the post_processor names \"%s\", which special_tokens lacks",
                    l->name, name ? name : "?");
        }
        for (size_t k = 0; k < fm_json_size(ids); k++) {
            FM_TRY(put_token_item(l, m, fm_json_int(fm_json_at(ids, k), -1), (int32_t)type));
        }
    }
    return FM_OK;
}

static fm_status load_template(loader *l, const fm_json *o) {
    FM_TRY(load_list(l, &l->t->single, o, "single"));
    FM_TRY(load_list(l, &l->t->pair, o, "pair"));
    for (size_t i = 0; i < l->t->single.n; i++) {
        if (l->t->single.item[i].id == -2) {
            FM_FAIL(FM_ERR_FORMAT, "%s: post_processor.single names the second text", l->name);
        }
    }
    return FM_OK;
}

/* cls A sep, cls A sep B sep; RoBERTa has two separators between and no types. */
static fm_status load_bert_template(loader *l, const fm_json *o) {
    fm_tokenizer *t = l->t;
    bool roberta = !strcmp(fm_part_type(o), "RobertaProcessing");
    int64_t cls = fm_json_int(fm_json_at(fm_json_get(o, "cls"), 1), -1);
    int64_t sep = fm_json_int(fm_json_at(fm_json_get(o, "sep"), 1), -1);
    for (int k = 0; k < 2; k++) {
        fm_post_template *m = k ? &t->pair : &t->single;
        FM_TRY(put_token_item(l, m, cls, 0));
        FM_TRY(put_item(m, -1, 0));
        FM_TRY(put_token_item(l, m, sep, 0));
    }
    if (roberta) {
        FM_TRY(put_token_item(l, &t->pair, sep, 0));
    }
    FM_TRY(put_item(&t->pair, -2, roberta ? 0 : 1));
    return put_token_item(l, &t->pair, sep, roberta ? 0 : 1);
}

static fm_status load_post_processor(loader *l, const fm_json *o, int depth) {
    static const struct {
        const char *type;
        fm_status (*load)(loader *l, const fm_json *o);
    } kinds[] = {{"TemplateProcessing", load_template},
                 {"BertProcessing", load_bert_template},
                 {"RobertaProcessing", load_bert_template},
                 {"ByteLevel", NULL}}; /* offsets only */
    if (fm_json_is_null(o)) {
        return FM_OK;
    }
    const char *type = fm_part_type(o);
    if (!strcmp(type, "Sequence") && depth < 8) {
        const fm_json *list = fm_json_get(o, "processors");
        for (size_t i = 0; i < fm_json_size(list); i++) {
            FM_TRY(load_post_processor(l, fm_json_at(list, i), depth + 1));
        }
        return FM_OK;
    }
    for (size_t k = 0; k < FM_ARRAY_LEN(kinds); k++) {
        if (strcmp(type, kinds[k].type) != 0) {
            continue;
        }
        if (kinds[k].load && l->t->has_template) {
            FM_FAIL(FM_ERR_UNSUPPORTED, "%s: two post_processors that add tokens are not supported", l->name);
        }
        l->t->has_template |= kinds[k].load != NULL;
        return kinds[k].load ? kinds[k].load(l, o) : FM_OK;
    }
    FM_FAIL(FM_ERR_UNSUPPORTED, "%s: post_processor \"%.80s\" is not supported", l->name, type);
}

static int32_t config_token(const loader *l, const fm_json *config, const char *key, int32_t def) {
    const fm_json *v = fm_json_get(config, key);
    size_t n;
    const char *s = fm_json_str(fm_json_is_object(v) ? fm_json_get(v, "content") : v, &n);
    int32_t id = s ? fm_tokenizer_find(l->t, s, n) : -1;
    return id >= 0 ? id : def;
}

fm_status fm_tok_set_tool_template(fm_tokenizer *t, const char *text) {
    char *copy = fm_strdup(text);
    if (!copy) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the chat template");
    }
    fm_free(t->tool_template);
    t->tool_template = copy;
    t->template_changed = true;
    return FM_OK;
}

/* One template, or a list of {name, template}: "default" (else the first) and "tool_use". */
static fm_status load_templates(fm_tokenizer *t, const fm_json *ct) {
    const char *text = fm_json_str(ct, NULL), *tools = NULL;
    for (size_t i = 0; !fm_json_is_string(ct) && i < fm_json_size(ct); i++) {
        const fm_json *o = fm_json_at(ct, i);
        const char *name = fm_json_str(fm_json_get(o, "name"), NULL);
        const char *template = fm_json_str(fm_json_get(o, "template"), NULL);
        if (!text || (name && !strcmp(name, "default"))) {
            text = template;
        }
        if (name && !strcmp(name, "tool_use")) {
            tools = template;
        }
    }
    FM_TRY(text ? fm_tokenizer_set_chat_template(t, text) : FM_OK);
    return text && tools && tools != text ? fm_tok_set_tool_template(t, tools) : FM_OK;
}

static fm_status load_config(loader *l, const fm_json *config) {
    fm_tokenizer *t = l->t;
    t->bos = config_token(l, config, "bos_token", t->bos);
    t->eos = config_token(l, config, "eos_token", t->eos);
    t->pad = config_token(l, config, "pad_token", t->pad);
    if (t->byte_level && !t->unk_token) {
        t->unk = config_token(l, config, "unk_token", t->unk);
    }
    t->add_bos = fm_json_bool(fm_json_get(config, "add_bos_token"), false);
    t->add_eos = fm_json_bool(fm_json_get(config, "add_eos_token"), false);
    if (!t->has_template) {
        if (t->add_bos && t->bos >= 0) {
            t->prefix[t->n_prefix++] = t->bos;
        }
        if (t->add_eos && t->eos >= 0) {
            t->suffix[t->n_suffix++] = t->eos;
        }
    }
    return load_templates(t, fm_json_get(config, "chat_template"));
}

static fm_status load_all(loader *l, const fm_json *root) {
    if (!fm_json_is_object(root)) {
        FM_FAIL(FM_ERR_FORMAT, "%s: not a JSON object", l->name);
    }
    fm_json *model = fm_json_get(root, "model");
    const fm_json *added = fm_json_get(root, "added_tokens");
    size_t kind;
    /* Ids may have holes, but a stray huge one must not size the tables. */
    l->max_id = (int64_t)(4 * (fm_json_size(fm_json_get(model, "vocab")) + fm_json_size(added)) + 65536);
    FM_TRY(fm_norm_load(&l->t->norm, fm_json_get(root, "normalizer"), l->name));
    FM_TRY(fm_pre_load(&l->t->pre, fm_json_get(root, "pre_tokenizer"), l->name));
    FM_TRY(fm_dec_load(&l->t->dec, fm_json_get(root, "decoder"), l->name));
    FM_TRY(load_model(l, model, &kind));
    FM_TRY(load_added(l, added));
    FM_TRY(fm_tok_finish(l->t));
    if (l->t->model == fm_bpe_chars_run) {
        FM_TRY(fm_bpe_chars_build(l->t));
    }
    if (models[kind].build) {
        FM_TRY(models[kind].build(l->t));
    }
    return load_post_processor(l, fm_json_get(root, "post_processor"), 0);
}

fm_status fm_tok_parse(fm_tokenizer **out, const char *json, size_t n, fm_json *config, const char *name,
                       const fm_tok_extras *extras) {
    loader l = {.name = name};
    fm_json *root = NULL;
    fm_spm *spm = extras ? extras->spm : NULL;
    fm_status s;
    FM_TRY_GOTO(s, done, fm_json_parse(&root, json, n, name));
    FM_TRY_GOTO(s, done, fm_tok_new(&l.t));
    l.t->spm = spm;
    spm = NULL;
    l.t->rank_score = extras ? extras->score : NULL;
    l.t->n_rank_score = extras ? extras->n_score : 0;
    FM_TRY_GOTO(s, done, load_all(&l, root));
    l.t->rank_score = NULL;
    l.t->n_rank_score = 0;
    fm_str_append(&l.t->source, json, n);
    FM_TRY_GOTO(s, done, fm_text_end(&l.t->source));
    if (config) {
        FM_TRY_GOTO(s, done, load_config(&l, config));
        l.t->template_changed = false;
        l.t->config = config;
        config = NULL;
    }
    *out = l.t;
    l.t = NULL;
done:
    fm_spm_free(spm);
    fm_json_free(root);
    fm_json_free(config);
    fm_strtab_free(&l.ids);
    fm_str_free(&l.scratch);
    fm_tokenizer_free(l.t);
    return s;
}

fm_status fm_tokenizer_parse(fm_tokenizer **out, const char *json, size_t n, const char *config, size_t n_config,
                             const char *name) {
    fm_json *conf = NULL;
    if (config) {
        FM_TRY(fm_json_parse(&conf, config, n_config, "tokenizer_config.json"));
    }
    return fm_tok_parse(out, json, n, conf, name, NULL);
}
