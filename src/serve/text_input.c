/* Texts and token ids of a request. */
#include "serve/text_input.h"

#include "base/mem.h"

void fm_text_input_free(fm_text_input *t) {
    fm_tokens_free(&t->ids);
    fm_tokens_free(&t->types);
    fm_free(t->offsets);
    fm_free(t->text);
    *t = (fm_text_input){0};
}

static fm_status add_ids(fm_text_input *t, const fm_serve *s, const fm_json *list, const char *key) {
    size_t n = fm_json_size(list);
    FM_TRY(fm_grow((void **)&t->ids.ids, &t->ids.cap, t->ids.n + n, sizeof *t->ids.ids));
    for (size_t i = 0; i < n; i++) {
        int64_t id = fm_json_int(fm_json_at(list, i), -1);
        if (id < 0 || id >= s->info.vocab_size) {
            FM_FAIL(FM_ERR_ARGUMENT, "%s: expected token ids from 0 to %d", key, (int)s->info.vocab_size - 1);
        }
        t->ids.ids[t->ids.n++] = (int32_t)id;
    }
    return FM_OK;
}

static fm_status need_tokenizer(const fm_serve *s, const char *key) {
    if (!s->tok) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s: the model has no tokenizer: give token ids", key);
    }
    return FM_OK;
}

/* The ids that were appended are the next text. */
static fm_status close_text(fm_text_input *t, const char *text) {
    if (t->ids.n > INT32_MAX) {
        FM_FAIL(FM_ERR_ARGUMENT, "too many tokens");
    }
    t->text[t->n] = text;
    t->offsets[++t->n] = (int32_t)t->ids.n;
    return FM_OK;
}

static fm_status add_one(fm_text_input *t, const fm_serve *s, const fm_json *v, const char *key, bool special) {
    size_t n;
    const char *text = fm_json_str(v, &n);
    if (text) {
        fm_encode_options o = {.size = sizeof o, .allow_special = special, .add_special = true, .n_threads = 1};
        FM_TRY(need_tokenizer(s, key));
        FM_TRY(fm_tokenizer_encode(&t->ids, s->tok, text, n, &o));
    } else if (fm_json_is_array(v)) {
        FM_TRY(add_ids(t, s, v, key));
    } else {
        return fm_bad_field(key, "a string, a list of token ids, or a list of these");
    }
    return close_text(t, text);
}

fm_status fm_text_input_room(fm_text_input *t, size_t n, const char *key) {
    *t = (fm_text_input){0};
    if (n < 1 || n > FM_MAX_INPUTS) {
        FM_FAIL(FM_ERR_ARGUMENT, "%s: expected 1 to %d texts, found %zu", key, FM_MAX_INPUTS, n);
    }
    t->offsets = fm_calloc(n + 1, sizeof *t->offsets);
    t->text = fm_calloc(n, sizeof *t->text);
    if (!t->offsets || !t->text) {
        fm_text_input_free(t);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu texts", n);
    }
    return FM_OK;
}

fm_status fm_text_input_add(fm_text_input *t, const fm_serve *s, fm_text a, const fm_text *b) {
    fm_encode_options o = {.size = sizeof o, .add_special = true, .n_threads = 1};
    FM_TRY(need_tokenizer(s, "text"));
    if (b) {
        FM_TRY(fm_tokenizer_encode_pair(&t->ids, &t->types, s->tok, a, *b, &o));
    } else {
        FM_TRY(fm_tokenizer_encode(&t->ids, s->tok, a.ptr, a.len, &o));
    }
    return close_text(t, a.ptr);
}

static fm_status read_all(fm_text_input *out, const fm_serve *s, const fm_json *body, const char *key, bool special) {
    const fm_json *v = fm_json_get(body, key);
    bool many = fm_json_is_array(v) && !fm_json_is_number(fm_json_at(v, 0));
    size_t n = many ? fm_json_size(v) : 1;
    FM_TRY(fm_text_input_room(out, n, key));
    fm_status st = FM_OK;
    for (size_t i = 0; i < n && st == FM_OK; i++) {
        st = add_one(out, s, many ? fm_json_at(v, i) : v, key, special);
    }
    if (st != FM_OK) {
        fm_text_input_free(out);
    }
    return st;
}

fm_status fm_text_input_read(fm_text_input *out, const fm_serve *s, const fm_json *body, const char *key) {
    return read_all(out, s, body, key, true);
}

fm_status fm_text_input_read_plain(fm_text_input *out, const fm_serve *s, const fm_json *body, const char *key,
                                   const char *pair) {
    *out = (fm_text_input){0};
    if (!pair || fm_json_is_null(fm_json_get(body, pair))) {
        return read_all(out, s, body, key, false);
    }
    fm_text a = {0}, b = {0};
    a.ptr = fm_json_str(fm_json_get(body, key), &a.len);
    b.ptr = fm_json_str(fm_json_get(body, pair), &b.len);
    if (!a.ptr || !b.ptr) {
        return fm_bad_field(a.ptr ? pair : key, "a string, as the two texts make one");
    }
    FM_TRY(fm_text_input_room(out, 1, key));
    fm_status st = fm_text_input_add(out, s, a, &b);
    if (st != FM_OK) {
        fm_text_input_free(out);
    }
    return st;
}
