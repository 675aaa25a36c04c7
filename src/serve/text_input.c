/* Texts and token ids of a request. */
#include "serve/text_input.h"

#include "base/mem.h"

void fm_text_input_free(fm_text_input *t) {
    fm_tokens_free(&t->ids);
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

static fm_status add_one(fm_text_input *t, const fm_serve *s, const fm_json *v, const char *key) {
    size_t n;
    const char *text = fm_json_str(v, &n);
    if (text) {
        fm_encode_options o = {.size = sizeof o, .allow_special = true, .add_special = true, .n_threads = 1};
        if (!s->tok) {
            FM_FAIL(FM_ERR_UNSUPPORTED, "%s: the model has no tokenizer: give token ids", key);
        }
        FM_TRY(fm_tokenizer_encode(&t->ids, s->tok, text, n, &o));
    } else if (fm_json_is_array(v)) {
        FM_TRY(add_ids(t, s, v, key));
    } else {
        return fm_bad_field(key, "a string, a list of token ids, or a list of these");
    }
    if (t->ids.n > INT32_MAX) {
        FM_FAIL(FM_ERR_ARGUMENT, "%s: too many tokens", key);
    }
    t->text[t->n] = text;
    t->offsets[++t->n] = (int32_t)t->ids.n;
    return FM_OK;
}

fm_status fm_text_input_read(fm_text_input *out, const fm_serve *s, const fm_json *body, const char *key) {
    const fm_json *v = fm_json_get(body, key);
    bool many = fm_json_is_array(v) && !fm_json_is_number(fm_json_at(v, 0));
    size_t n = many ? fm_json_size(v) : 1;
    *out = (fm_text_input){0};
    if (n < 1 || n > FM_MAX_INPUTS) {
        FM_FAIL(FM_ERR_ARGUMENT, "%s: expected 1 to %d texts, found %zu", key, FM_MAX_INPUTS, n);
    }
    out->offsets = fm_calloc(n + 1, sizeof *out->offsets);
    out->text = fm_calloc(n, sizeof *out->text);
    fm_status st = FM_OK;
    if (!out->offsets || !out->text) {
        st = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for %zu texts", n);
    }
    for (size_t i = 0; i < n && st == FM_OK; i++) {
        st = add_one(out, s, many ? fm_json_at(v, i) : v, key);
    }
    if (st != FM_OK) {
        fm_text_input_free(out);
    }
    return st;
}
