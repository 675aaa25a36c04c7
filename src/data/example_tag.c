/* Texts whose words have tags, for named entities and the like. A row is {"tokens": [...], "tags": [...]} (also
 * "words", "ner_tags", "labels"), or {"text": ..., "entities": [{"start": ..., "end": ..., "label": ...}]} with offsets
 * in characters, which become B-, I- and O tags.
 *
 * The first token of a word carries the word's tag, the others none (Devlin et al. 2019). Marks: 0 = none, else the id
 * of the tag plus one. Words are joined by a blank, but not at Chinese, Japanese or Korean characters. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/examples.h"
#include "data/label_names.h"
#include "data/tag_words.h"

#define MAX_TAGS 30000

typedef struct word {
    size_t at, len; /* in text */
    size_t tag_at, tag_len;
    int64_t first; /* character */
} word;

typedef struct fm_tag_words {
    const fm_examples_options *o;
    const fm_tokenizer *tok;
    fm_label_names names;
    bool fixed;
    fm_str text, tag; /* of all words */
    word *word;
    size_t n, cap;
    fm_tokens ids, around; /* around: BOS or [CLS], then EOS or [SEP] */
    size_t n_before;
} tags;

static fm_status open_tags(void **state, const fm_examples_options *o, const fm_tokenizer *t) {
    tags *k = fm_calloc(1, sizeof *k);
    *state = k;
    if (!k) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for tags");
    }
    k->o = o;
    k->tok = t;
    k->fixed = o && fm_json_size(o->labels) > 0;
    fm_encode_options eo = {.size = sizeof eo, .add_special = true, .n_threads = 1};
    FM_TRY(fm_tokenizer_encode(&k->around, t, "a", 1, &eo));
    while (k->n_before < k->around.n && fm_tokenizer_is_special(t, k->around.ids[k->n_before])) {
        k->n_before++;
    }
    return o && k->fixed ? fm_label_names_take(&k->names, o->labels) : FM_OK;
}

static void close_tags(void *state) {
    tags *k = state;
    if (k) {
        fm_label_names_free(&k->names);
        fm_str_free(&k->text);
        fm_str_free(&k->tag);
        fm_free(k->word);
        fm_tokens_free(&k->ids);
        fm_tokens_free(&k->around);
        fm_free(k);
    }
}

static fm_status add_word(tags *k, const char *p, size_t n, const char *tag, size_t n_tag, int64_t first) {
    void *q = k->word;
    FM_TRY(fm_grow(&q, &k->cap, k->n + 1, sizeof *k->word));
    k->word = q;
    k->word[k->n++] = (word){.at = k->text.len, .len = n, .tag_at = k->tag.len, .tag_len = n_tag, .first = first};
    fm_str_append(&k->text, p, n);
    fm_str_append(&k->tag, tag, n_tag);
    FM_TRY(fm_str_check(&k->tag));
    return fm_str_check(&k->text);
}

static bool is_cjk(uint32_t c) {
    return (c >= 0x2E80 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7AF) || (c >= 0xF900 && c <= 0xFAFF) ||
           (c >= 0xFF00 && c <= 0xFFEF) || (c >= 0x20000 && c <= 0x3FFFF);
}

static const fm_cell *first_of(const fm_rec *row, const char *const *names) {
    for (; *names; names++) {
        const fm_cell *c = fm_rec_get(row, *names);
        if (c && c->kind != FM_CELL_NULL) {
            return c;
        }
    }
    return NULL;
}

/* A list of words and one of tags; numbers are names too. */
static fm_status from_lists(tags *k, const fm_cell *words, const fm_cell *labels, const char **reason) {
    fm_json *w = NULL, *t = NULL;
    fm_status s = fm_json_parse(&w, words->text.ptr, words->text.len, "tokens");
    s = s == FM_OK ? fm_json_parse(&t, labels->text.ptr, labels->text.len, "tags") : s;
    size_t n = fm_json_size(w);
    if (s != FM_OK || !fm_json_is_array(w) || !fm_json_is_array(t) || fm_json_size(t) != n) {
        *reason = "it has not as many tags as words";
        n = 0;
        s = FM_OK;
    }
    for (size_t i = 0; i < n && s == FM_OK && !*reason; i++) {
        size_t len = 0, n_tag = 0;
        char number[32];
        const char *text = fm_json_str(fm_json_at(w, i), &len), *tag = fm_json_str(fm_json_at(t, i), &n_tag);
        if (!tag && fm_json_is_number(fm_json_at(t, i))) {
            snprintf(number, sizeof number, "%lld", (long long)fm_json_int(fm_json_at(t, i), 0));
            tag = number;
            n_tag = strlen(number);
        }
        if (!text || !tag || n_tag == 0) {
            *reason = "a word or tag is no text";
        } else if (len > 0) {
            s = add_word(k, text, len, tag, n_tag, 0);
        }
    }
    fm_json_free(w);
    fm_json_free(t);
    return s;
}

/* Words between blanks; a Chinese, Japanese or Korean character is one of its own. Punctuation stands alone. */
static fm_status cut_words(tags *k, fm_sv text) {
    const char *p = text.ptr, *end = p + text.len, *begin = NULL;
    int64_t at = 0, first = 0;
    while (p < end) {
        uint32_t c = 0;
        int n = fm_utf8_decode(&c, p, end);
        n = n > 0 ? n : 1;
        bool blank = c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == 0xA0 || c == 0x3000;
        bool alone = is_cjk(c) || (c < 128 && c > ' ' && strchr("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", (int)c));
        if (begin && (blank || alone)) {
            FM_TRY(add_word(k, begin, (size_t)(p - begin), "O", 1, first));
            begin = NULL;
        }
        if (alone && !blank) {
            FM_TRY(add_word(k, p, (size_t)n, "O", 1, at));
        } else if (!blank && !begin) {
            begin = p;
            first = at;
        }
        p += n;
        at++;
    }
    return begin ? add_word(k, begin, (size_t)(end - begin), "O", 1, first) : FM_OK;
}

static fm_status tag_entity(tags *k, const fm_json *e, const char **reason) {
    size_t n = 0;
    const char *label = fm_json_str(fm_json_get(e, "label"), &n);
    int64_t begin = fm_json_int(fm_json_get(e, "start"), -1), end = fm_json_int(fm_json_get(e, "end"), -1);
    if (!label || n == 0 || begin < 0 || end <= begin) {
        *reason = "an entity has no start, end or label";
        return FM_OK;
    }
    bool inside = false;
    for (size_t i = 0; i < k->n; i++) {
        word *w = &k->word[i];
        if (w->first < begin || w->first >= end) {
            continue;
        }
        w->tag_at = k->tag.len;
        w->tag_len = n + 2;
        fm_str_puts(&k->tag, inside ? "I-" : "B-");
        fm_str_append(&k->tag, label, n);
        inside = true;
    }
    if (!inside) {
        *reason = "an entity covers no word";
    }
    return fm_str_check(&k->tag);
}

static fm_status from_entities(tags *k, const fm_cell *text, const fm_cell *list, const char **reason) {
    fm_json *e = NULL;
    fm_status s = fm_json_parse(&e, list->text.ptr, list->text.len, "entities");
    if (s != FM_OK || !fm_json_is_array(e)) {
        *reason = "its entities are no list";
        fm_json_free(e);
        return FM_OK;
    }
    s = cut_words(k, text->text);
    for (size_t i = 0; i < fm_json_size(e) && s == FM_OK && !*reason; i++) {
        s = tag_entity(k, fm_json_at(e, i), reason);
    }
    fm_json_free(e);
    return s;
}

static fm_status read_row(tags *k, const fm_rec *row, const char **reason) {
    static const char *const words[] = {"tokens", "words", NULL}, *const lists[] = {"tags", "ner_tags", "labels", NULL};
    static const char *const texts[] = {"text", "sentence", NULL}, *const spans[] = {"entities", "spans", NULL};
    const fm_columns *col = k->o->columns;
    const fm_cell *label = col->label ? fm_rec_get(row, col->label) : NULL;
    const fm_cell *w = first_of(row, words), *t = label ? label : first_of(row, lists);
    const fm_cell *text = col->text ? fm_rec_get(row, col->text) : NULL, *e = label ? label : first_of(row, spans);
    text = text ? text : first_of(row, texts);
    k->n = 0;
    fm_str_clear(&k->text);
    fm_str_clear(&k->tag);
    *reason = NULL;
    if (w && t && w->kind == FM_CELL_JSON && t->kind == FM_CELL_JSON) {
        return from_lists(k, w, t, reason);
    }
    if (text && e && e->kind == FM_CELL_JSON) {
        return from_entities(k, text, e, reason);
    }
    *reason = "it has no tokens with tags, nor a text with entities";
    return FM_OK;
}

static fm_status scan(void *state, const fm_rec *row) {
    tags *k = state;
    const char *reason;
    FM_TRY(read_row(k, row, &reason));
    for (size_t i = 0; i < k->n && !reason && !k->fixed; i++) {
        FM_TRY(fm_label_names_add(&k->names, k->tag.data + k->word[i].tag_at, k->word[i].tag_len, MAX_TAGS));
    }
    return FM_OK;
}

static fm_status ready(void *state, uint32_t *n_values) {
    tags *k = state;
    *n_values = 0;
    if (!k->fixed) {
        fm_label_names_sort(&k->names);
    }
    if (k->names.n < 2) {
        fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "%zu different tags were found", k->names.n);
        return fm_error_hint("rows have tokens and tags, or text and entities (label_column names another column)");
    }
    return FM_OK;
}

/* The tokens of word i, behind a blank where the words before it ask for one; the first carries the mark. */
static fm_status add_tokens(tags *k, fm_example *e, size_t i, int16_t mark) {
    fm_encode_options eo = {.size = sizeof eo, .n_threads = 1};
    uint32_t c = 0, before = 0;
    char text[512];
    const char *p = k->text.data + k->word[i].at;
    size_t n = k->word[i].len;
    (void)fm_utf8_decode(&c, p, p + n);
    if (i > 0) {
        const char *q = k->text.data + k->word[i - 1].at;
        (void)fm_utf8_decode(&before, q, q + k->word[i - 1].len);
    }
    if (i > 0 && !is_cjk(c) && !is_cjk(before) && n + 1 < sizeof text) {
        text[0] = ' ';
        memcpy(text + 1, p, n);
        p = text;
        n++;
    }
    k->ids.n = 0;
    FM_TRY(fm_tokenizer_encode(&k->ids, k->tok, p, n, &eo));
    if (k->ids.n == 0) {
        return FM_OK;
    }
    FM_TRY(fm_example_add(e, k->ids.ids, 1, mark));
    return fm_example_add(e, k->ids.ids + 1, k->ids.n - 1, 0);
}

/* EOS or [SEP]; they stay when the end is cut. */
static fm_status add_end(const tags *k, fm_example *e) {
    size_t after = k->around.n;
    while (after > k->n_before && fm_tokenizer_is_special(k->tok, k->around.ids[after - 1])) {
        after--;
    }
    e->may_cut = true;
    e->keep_at_end = k->around.n - after;
    e->n_bytes = (int64_t)k->text.len;
    return fm_example_add(e, k->around.ids + after, k->around.n - after, 0);
}

static fm_status make(void *state, fm_example *e, const fm_rec *row) {
    tags *k = state;
    FM_TRY(read_row(k, row, &e->reason));
    if (e->reason) {
        return FM_OK;
    }
    FM_TRY(fm_example_add(e, k->around.ids, k->n_before, 0));
    for (size_t i = 0; i < k->n; i++) {
        const word *w = &k->word[i];
        int id = fm_label_names_find(&k->names, k->tag.data + w->tag_at, w->tag_len);
        if (id < 0) {
            e->reason = "a tag is not among those that are learned";
            return FM_OK;
        }
        FM_TRY(add_tokens(k, e, i, (int16_t)(id + 1)));
    }
    return add_end(k, e);
}

static fm_status describe(const void *state, fm_json *o) {
    return fm_label_names_put(&((const tags *)state)->names, o, "labels");
}

/* ---- answers that are parts of texts ----------------------------------------------------------- */

/* Characters of UTF-8. */
static int64_t n_chars(const char *p, size_t n) {
    int64_t count = 0;
    for (size_t i = 0; i < n; i++) {
        count += ((unsigned char)p[i] & 0xC0) != 0x80;
    }
    return count;
}

static const char *find_text(fm_sv text, const char *p, size_t n) {
    for (size_t i = 0; n > 0 && i + n <= text.len; i++) {
        if (memcmp(text.ptr + i, p, n) == 0) {
            return text.ptr + i;
        }
    }
    return NULL;
}

/* The first answer of a row as characters [*begin, *end) of the context: {"answers": {"text": [...], "answer_start":
 * [...]}} as SQuAD has it, or answer (and answer_start). Without a place it is the first occurrence. */
static bool find_answer(const tags *k, const fm_rec *row, fm_sv context, int64_t *begin, int64_t *end) {
    static const char *const plain[] = {"answer", "answer_text", NULL}, *const all[] = {"answers", NULL};
    static const char *const starts[] = {"answer_start", "start", NULL};
    const fm_cell *label = k->o->columns->label ? fm_rec_get(row, k->o->columns->label) : NULL;
    const fm_cell *a = label ? label : first_of(row, plain), *start = first_of(row, starts);
    fm_json *j = NULL;
    a = a ? a : first_of(row, all);
    if (!a) {
        return false;
    }
    const char *text = a->text.ptr;
    size_t n = a->text.len;
    double at = -1;
    bool has_place = start && fm_cell_number(start, &at);
    if (a->kind == FM_CELL_JSON && fm_json_parse(&j, a->text.ptr, a->text.len, "answers") == FM_OK) {
        const fm_json *o = fm_json_is_array(j) ? fm_json_at(j, 0) : j, *t = fm_json_get(o, "text");
        const fm_json *p = fm_json_get(o, "answer_start");
        t = fm_json_is_array(t) ? fm_json_at(t, 0) : fm_json_is_string(o) ? o : t;
        p = fm_json_is_array(p) ? fm_json_at(p, 0) : p;
        text = fm_json_str(t, &n);
        has_place = fm_json_is_number(p);
        at = fm_json_num(p, -1);
    }
    fm_error_clear();
    int64_t length = text ? n_chars(text, n) : 0, all_chars = n_chars(context.ptr, context.len);
    if (length > 0 && !has_place) {
        const char *found = find_text(context, text, n);
        at = found ? (double)n_chars(context.ptr, (size_t)(found - context.ptr)) : -1;
    }
    fm_json_free(j);
    *begin = at >= 0 && at < (double)all_chars ? (int64_t)at : -1;
    *end = *begin + length;
    return length > 0 && *begin >= 0 && *end <= all_chars;
}

/* Question, then the words of the context; values are the places of the answer's first and last token. */
static fm_status make_span(void *state, fm_example *e, const fm_rec *row) {
    static const char *const texts[] = {"context", "text", "passage", NULL};
    static const char *const questions[] = {"question", "prompt", NULL};
    tags *k = state;
    const fm_columns *col = k->o->columns;
    const fm_cell *context = col->text && strcmp(col->text, "text") != 0 ? fm_rec_get(row, col->text) : NULL;
    const fm_cell *q = col->prompt ? fm_rec_get(row, col->prompt) : first_of(row, questions);
    fm_encode_options eo = {.size = sizeof eo, .n_threads = 1};
    int64_t begin, end;
    context = context ? context : first_of(row, texts);
    if (!context || !q || q->text.len == 0) {
        e->reason = "it has no question, or no context";
        return FM_OK;
    }
    if (!find_answer(k, row, context->text, &begin, &end)) {
        e->reason = "its answer is not in its context";
        return FM_OK;
    }
    k->n = 0;
    fm_str_clear(&k->text);
    fm_str_clear(&k->tag);
    FM_TRY(cut_words(k, context->text));
    FM_TRY(fm_example_add(e, k->around.ids, k->n_before, 0));
    k->ids.n = 0;
    FM_TRY(fm_tokenizer_encode(&k->ids, k->tok, q->text.ptr, q->text.len, &eo));
    FM_TRY(fm_tokenizer_encode(&k->ids, k->tok, "\n", 1, &eo));
    FM_TRY(fm_example_add(e, k->ids.ids, k->ids.n, 0));
    e->values[0] = e->values[1] = -1;
    for (size_t i = 0; i < k->n; i++) {
        const word *w = &k->word[i];
        int64_t past = w->first + n_chars(k->text.data + w->at, w->len);
        bool in = w->first < end && past > begin;
        size_t at = e->n;
        FM_TRY(add_tokens(k, e, i, 1));
        if (in && e->n > at) {
            e->values[0] = e->values[0] < 0 ? (float)at : e->values[0];
            e->values[1] = (float)(e->n - 1);
        }
    }
    FM_TRY(add_end(k, e));
    int64_t limit = k->o->cutoff_len - (int64_t)e->keep_at_end;
    if (e->values[0] < 0) {
        e->reason = "its answer is no word of its context";
    } else if ((int64_t)e->n > k->o->cutoff_len && (int64_t)e->values[1] >= limit) {
        e->reason = "its answer lies behind cutoff_len";
    }
    return FM_OK;
}

static fm_status ready_span(void *state, uint32_t *n_values) {
    FM_UNUSED(state);
    *n_values = 2;
    return FM_OK;
}

extern const fm_example_task fm_example_task_tag, fm_example_task_span;
const fm_example_task fm_example_task_span = {
    .name = "span",
    .summary = "questions whose answers are parts of a text",
    .marks = true,
    .open = open_tags,
    .close = close_tags,
    .ready = ready_span,
    .make = make_span,
};
const fm_example_task fm_example_task_tag = {
    .name = "tag",
    .summary = "words with tags",
    .marks = true,
    .needs_scan = true,
    .open = open_tags,
    .close = close_tags,
    .scan = scan,
    .ready = ready,
    .make = make,
    .describe = describe,
};

/* ---- for models that are trained (tag_words.h) -------------------------------------------------- */

fm_status fm_tag_words_new(fm_tag_words **out, const fm_tokenizer *t) {
    void *k = NULL;
    fm_status s = open_tags(&k, NULL, t);
    if (s != FM_OK) {
        close_tags(k);
        k = NULL;
    }
    *out = k;
    return s;
}

void fm_tag_words_free(fm_tag_words *k) {
    close_tags(k);
}

fm_status fm_tag_words_cut(fm_tag_words *k, fm_sv text, size_t *n_words) {
    k->n = 0;
    fm_str_clear(&k->text);
    fm_str_clear(&k->tag);
    fm_status s = cut_words(k, text);
    *n_words = k->n;
    return s;
}

fm_status fm_tag_words_encode(fm_tag_words *k, fm_example *e, size_t from, size_t most, size_t *past) {
    const size_t end = k->around.n > k->n_before ? k->around.n - k->n_before - 1 : 0; /* tokens behind the words */
    size_t kept;
    e->n = 0;
    FM_TRY(fm_example_add(e, k->around.ids, k->n_before, 0));
    kept = e->n;
    for (*past = from; *past < k->n && *past - from < INT16_MAX - 1; ++*past) {
        const size_t before = e->n;
        FM_TRY(add_tokens(k, e, *past, (int16_t)(*past - from + 1)));
        if (e->n + end > most) {
            e->n = before;
            if (before > kept) {
                break;
            }
        }
    }
    if (e->n == kept) {
        e->n = 0;
        return FM_OK;
    }
    return add_end(k, e);
}

void fm_tag_words_place(const fm_tag_words *k, size_t i, int64_t *begin, int64_t *end) {
    const word *w = &k->word[i];
    *begin = w->first;
    *end = w->first + n_chars(k->text.data + w->at, w->len);
}
