/* Drawing and freezing test sets; frozen_guard.c keeps them out of training. */
#include "data/frozen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/records.h"

#define N_LENGTHS 4

/* ---- keys ------------------------------------------------------------------------------------- */

/* What a row of a conversation asks: the text of its first turn that is not the system's. NULL: not such a cell. */
static const char *first_turn(fm_json **j, fm_sv text, size_t *n) {
    static const char *const who[] = {"role", "from"}, *const said[] = {"content", "value"};
    if (fm_json_parse(j, text.ptr, text.len, "messages") != FM_OK) {
        fm_error_clear();
        return NULL;
    }
    for (size_t i = 0; i < fm_json_size(*j); i++) {
        for (size_t k = 0; k < FM_ARRAY_LEN(who); k++) {
            const fm_json *turn = fm_json_at(*j, i);
            const char *role = fm_json_str(fm_json_get(turn, who[k]), NULL),
                       *content = fm_json_str(fm_json_get(turn, said[k]), n);
            if (role && content && strcmp(role, "system") != 0) {
                return content;
            }
        }
    }
    return NULL;
}

static const fm_cell *question_of(const fm_rec *row, const char *named) {
    static const char *const usual[] = {"question", "prompt",   "instruction", "query",
                                        "text",     "sentence", "messages",    "conversations"};
    const fm_cell *c = named ? fm_rec_get(row, named) : NULL;
    for (size_t i = 0; (!named || !c) && i < FM_ARRAY_LEN(usual) && (!c || fm_cell_is_empty(c)); i++) {
        c = fm_rec_get(row, usual[i]);
    }
    return c && !fm_cell_is_empty(c) ? c : NULL;
}

static bool key_of_text(uint64_t *key, fm_sv text, fm_str *scratch) {
    fm_str_clear(scratch);
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c >= 128;
        c = c >= 'A' && c <= 'Z' ? (unsigned char)(c + 32) : c;
        if (letter || (c >= 'a' && c <= 'z')) {
            fm_str_putc(scratch, (char)c);
        }
    }
    *key = scratch->len > 0 ? fm_hash64(scratch->data, scratch->len, 0x66726f7a) : 0;
    return scratch->len > 0 && !scratch->failed;
}

bool fm_frozen_key(uint64_t *key, const fm_rec *row, const char *named, int64_t *length, fm_str *scratch) {
    const fm_cell *c = question_of(row, named);
    fm_json *j = NULL;
    size_t n = 0;
    if (!c) {
        return false;
    }
    const char *turn = c->kind == FM_CELL_JSON ? first_turn(&j, c->text, &n) : NULL;
    fm_sv text = turn ? (fm_sv){turn, n} : c->text;
    if (length) {
        *length = (int64_t)text.len;
    }
    bool usable = key_of_text(key, text, scratch);
    fm_json_free(j);
    return usable;
}

bool fm_frozen_text_key(uint64_t *key, fm_sv text, fm_str *scratch) {
    return key_of_text(key, text, scratch);
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void fm_frozen_sort(uint64_t *keys, size_t n) {
    if (n > 0) {
        qsort(keys, n, sizeof *keys, ascending);
    }
}

bool fm_frozen_has(const uint64_t *keys, size_t n, uint64_t key) {
    return n > 0 && bsearch(&key, keys, n, sizeof key, ascending) != NULL;
}

/* ---- drawing ---------------------------------------------------------------------------------- */

typedef struct candidate {
    uint64_t key, stratum, order; /* order: random inside a stratum */
    int64_t length;
    bool usable, known, drawn;
} candidate;

typedef struct freezer {
    const fm_freeze_options *o;
    candidate *row;
    size_t n, cap;
    uint64_t *keys; /* of the test set, ascending */
    size_t n_keys;
    uint64_t *known; /* of rows that models learned from already (against), ascending */
    size_t n_known, cap_known;
    fm_str scratch;
} freezer;

typedef fm_status (*row_fn)(freezer *k, const fm_rec *row, size_t i, void *arg);

static fm_status each_row(freezer *k, const char *const *input, size_t n_input, row_fn fn, void *arg) {
    fm_records *rows;
    fm_rec *row;
    fm_bump *arena;
    fm_records_options ro = {.input = {.item = (char **)(uintptr_t)input, .n = n_input}, .format = k->o->format};
    FM_TRY(fm_records_open(&rows, &ro));
    fm_status s = FM_OK;
    for (size_t i = 0; s == FM_OK; i++) {
        s = fm_records_next(rows, &row, &arena);
        if (s != FM_OK || !row) {
            break;
        }
        s = fn(k, row, i, arg);
    }
    fm_records_close(rows);
    return s;
}

static fm_status note(freezer *k, const fm_rec *row, size_t i, void *arg) {
    FM_UNUSED(arg);
    void *p = k->row;
    FM_TRY(fm_grow(&p, &k->cap, i + 1, sizeof *k->row));
    k->row = p;
    candidate *c = &k->row[k->n++];
    const fm_cell *t = k->o->topic ? fm_rec_get(row, k->o->topic) : NULL;
    *c = (candidate){0};
    c->usable = (!k->o->question || fm_rec_get(row, k->o->question)) &&
                fm_frozen_key(&c->key, row, k->o->question, &c->length, &k->scratch);
    c->known = c->usable && fm_frozen_has(k->known, k->n_known, c->key);
    c->stratum = t ? fm_hash64(t->text.ptr, t->text.len, 1) & ~(uint64_t)(N_LENGTHS - 1) : 0;
    c->order = fm_hash64(&c->key, sizeof c->key, k->o->seed);
    return FM_OK;
}

static fm_status note_known(freezer *k, const fm_rec *row, size_t i, void *arg) {
    uint64_t key;
    FM_UNUSED(i);
    FM_UNUSED(arg);
    if (!fm_frozen_key(&key, row, k->o->question, NULL, &k->scratch)) {
        return FM_OK;
    }
    void *p = k->known;
    FM_TRY(fm_grow(&p, &k->cap_known, k->n_known + 1, sizeof *k->known));
    k->known = p;
    k->known[k->n_known++] = key;
    return FM_OK;
}

static int by_key(const void *a, const void *b) {
    const candidate *x = *(candidate *const *)a, *y = *(candidate *const *)b;
    if (x->key != y->key) {
        return x->key < y->key ? -1 : 1;
    }
    return (x > y) - (x < y);
}
static int by_length(const void *a, const void *b) {
    const candidate *x = *(candidate *const *)a, *y = *(candidate *const *)b;
    return x->length != y->length ? (x->length > y->length ? 1 : -1) : (x > y) - (x < y);
}
static int by_stratum(const void *a, const void *b) {
    const candidate *x = *(candidate *const *)a, *y = *(candidate *const *)b;
    if (x->stratum != y->stratum) {
        return x->stratum < y->stratum ? -1 : 1;
    }
    return (x->order > y->order) - (x->order < y->order);
}

/* Every n/rows-th of the rows in order of topic and quarter of length: each gets its share. Of rows that ask the same,
 * one can be drawn. */
static fm_status draw(freezer *k) {
    candidate **list = fm_calloc(k->n + 1, sizeof(candidate *));
    size_t n = 0, unique = 0;
    k->keys = fm_calloc(k->n + 1, sizeof *k->keys);
    if (!list || !k->keys) {
        fm_free(list);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu rows", k->n);
    }
    for (size_t i = 0; i < k->n; i++) {
        if (k->row[i].usable && !k->row[i].known) {
            list[n++] = &k->row[i];
        }
    }
    qsort(list, n, sizeof(candidate *), by_key);
    for (size_t i = 0; i < n; i++) {
        if (unique == 0 || list[unique - 1]->key != list[i]->key) {
            list[unique++] = list[i];
        }
    }
    qsort(list, unique, sizeof(candidate *), by_length);
    for (size_t i = 0; i < unique; i++) {
        list[i]->stratum |= i * N_LENGTHS / unique;
    }
    qsort(list, unique, sizeof(candidate *), by_stratum);
    size_t want = k->o->rows > 0 ? FM_MIN((size_t)k->o->rows, unique) : unique;
    for (size_t i = 0; i < unique; i++) {
        if ((i + 1) * want / unique > i * want / unique) {
            list[i]->drawn = true;
            k->keys[k->n_keys++] = list[i]->key;
        }
    }
    fm_frozen_sort(k->keys, k->n_keys);
    fm_free(list);
    return FM_OK;
}

typedef struct outputs {
    fm_str test, rest;
    fm_freeze_report *r;
} outputs;

static fm_status take(freezer *k, const fm_rec *row, size_t i, void *arg) {
    outputs *out = arg;
    const candidate *c = &k->row[FM_MIN(i, k->n - 1)];
    bool test = c->drawn, twin = !test && c->usable && fm_frozen_has(k->keys, k->n_keys, c->key);
    fm_str *s = test ? &out->test : &out->rest;
    out->r->n_rows++;
    out->r->n_test += test;
    out->r->n_known += c->known;
    out->r->n_duplicates += twin;
    out->r->n_rest += !test && !twin;
    if (twin) {
        return FM_OK;
    }
    fm_rec_put_json(s, row);
    fm_str_putc(s, '\n');
    return fm_str_check(s);
}

static fm_status write_manifest(const freezer *k, fm_freeze_report *r) {
    char path[4096], full[4096];
    FM_TRY(fm_file_hash(r->hash, k->o->output));
    if ((size_t)snprintf(path, sizeof path, "%s" FM_FROZEN_SUFFIX, k->o->output) >= sizeof path) {
        FM_FAIL(FM_ERR_ARGUMENT, "path is too long: %s", k->o->output);
    }
    if (!realpath(k->o->output, full)) {
        snprintf(full, sizeof full, "%s", k->o->output);
    }
    fm_str s = {0};
    fm_str_puts(&s, "{\"format\": \"fathom-frozen\", \"version\": 1, \"file\": ");
    fm_str_json(&s, full, strlen(full));
    fm_str_printf(&s, ", \"hash\": \"%s\", \"rows\": %lld, \"question\": ", r->hash, (long long)r->n_test);
    fm_str_json(&s, k->o->question ? k->o->question : "", k->o->question ? strlen(k->o->question) : 0);
    fm_str_puts(&s, ", \"keys\": [");
    for (size_t i = 0; i < k->n_keys; i++) {
        fm_str_printf(&s, "%s\"%016llx\"", i ? ", " : "", (unsigned long long)k->keys[i]);
    }
    fm_str_puts(&s, "]}\n");
    fm_status st = fm_str_check(&s);
    st = st == FM_OK ? fm_file_write_atomic(path, s.data, s.len) : st;
    st = st == FM_OK ? fm_frozen_remember(r->hash, s.data, s.len) : st;
    fm_str_free(&s);
    return st;
}

static fm_status freeze(freezer *k, fm_freeze_report *r) {
    outputs out = {.r = r};
    FM_TRY(k->o->n_against > 0 ? each_row(k, k->o->against, k->o->n_against, note_known, NULL) : FM_OK);
    fm_frozen_sort(k->known, k->n_known);
    FM_TRY(each_row(k, k->o->input, k->o->n_input, note, NULL));
    FM_TRY(draw(k));
    if (k->n_keys == 0) {
        if (k->n_known > 0) {
            FM_FAIL(FM_ERR_DATA, "none of the %zu rows asks what the rows of --against do not ask", k->n);
        }
        fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "none of the %zu rows asks anything", k->n);
        return fm_error_hint("name the column of the question with --question");
    }
    fm_status s = each_row(k, k->o->input, k->o->n_input, take, &out);
    s = s == FM_OK ? fm_file_write_atomic(k->o->output, out.test.data ? out.test.data : "", out.test.len) : s;
    if (s == FM_OK && k->o->rest) {
        s = fm_file_write_atomic(k->o->rest, out.rest.data ? out.rest.data : "", out.rest.len);
    }
    fm_str_free(&out.test);
    fm_str_free(&out.rest);
    return s == FM_OK ? write_manifest(k, r) : s;
}

fm_status fm_data_freeze(fm_freeze_report *r, const fm_freeze_options *o) {
    FM_ASSERT(r->size >= sizeof *r && o->size >= sizeof *o);
    freezer k = {.o = o};
    *r = (fm_freeze_report){.size = sizeof *r};
    if (o->n_input == 0 || !o->output) {
        FM_FAIL(FM_ERR_ARGUMENT, "freezing a test set needs rows and an output file");
    }
    if (fm_path_exists(o->output)) { /* a frozen set is never drawn anew under its name */
        FM_FAIL(FM_ERR_EXISTS, "%s exists", o->output);
    }
    fm_status s = freeze(&k, r);
    fm_free(k.row);
    fm_free(k.keys);
    fm_free(k.known);
    fm_str_free(&k.scratch);
    return s;
}
