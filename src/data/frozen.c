/* Drawing, freezing and guarding test sets. */
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

#define SUFFIX    ".frozen.json"
#define N_LENGTHS 4

/* ---- keys ------------------------------------------------------------------------------------- */

static const fm_cell *question_of(const fm_rec *row, const char *named) {
    static const char *const usual[] = {"question", "prompt",   "instruction", "query",
                                        "text",     "sentence", "messages",    "conversations"};
    const fm_cell *c = named ? fm_rec_get(row, named) : NULL;
    for (size_t i = 0; !named && i < FM_ARRAY_LEN(usual) && (!c || fm_cell_is_empty(c)); i++) {
        c = fm_rec_get(row, usual[i]);
    }
    return c && !fm_cell_is_empty(c) ? c : NULL;
}

/* False when nothing is left of the text. */
static bool key_of(uint64_t *key, fm_sv text, fm_str *scratch) {
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

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool has_key(const uint64_t *keys, size_t n, uint64_t key) {
    return n > 0 && bsearch(&key, keys, n, sizeof key, ascending) != NULL;
}

/* ---- drawing ---------------------------------------------------------------------------------- */

typedef struct candidate {
    uint64_t key, stratum, order; /* order: random inside a stratum */
    int64_t length;
    bool usable, drawn;
} candidate;

typedef struct freezer {
    const fm_freeze_options *o;
    candidate *row;
    size_t n, cap;
    uint64_t *keys; /* of the test set, ascending */
    size_t n_keys;
    fm_str scratch;
} freezer;

typedef fm_status (*row_fn)(freezer *k, const fm_rec *row, size_t i, void *arg);

static fm_status each_row(freezer *k, row_fn fn, void *arg) {
    fm_records *rows;
    fm_rec *row;
    fm_bump *arena;
    fm_records_options ro = {.input = {.item = (char **)(uintptr_t)k->o->input, .n = k->o->n_input},
                             .format = k->o->format};
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
    const fm_cell *q = question_of(row, k->o->question), *t = k->o->topic ? fm_rec_get(row, k->o->topic) : NULL;
    *c = (candidate){.length = q ? (int64_t)q->text.len : 0};
    c->usable = q && key_of(&c->key, q->text, &k->scratch);
    c->stratum = t ? fm_hash64(t->text.ptr, t->text.len, 1) & ~(uint64_t)(N_LENGTHS - 1) : 0;
    c->order = fm_hash64(&c->key, sizeof c->key, k->o->seed);
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
        if (k->row[i].usable) {
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
    qsort(k->keys, k->n_keys, sizeof *k->keys, ascending);
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
    bool test = c->drawn, twin = !test && c->usable && has_key(k->keys, k->n_keys, c->key);
    fm_str *s = test ? &out->test : &out->rest;
    out->r->n_rows++;
    out->r->n_test += test;
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
    char path[4096];
    FM_TRY(fm_file_hash(r->hash, k->o->output));
    if ((size_t)snprintf(path, sizeof path, "%s" SUFFIX, k->o->output) >= sizeof path) {
        FM_FAIL(FM_ERR_ARGUMENT, "path is too long: %s", k->o->output);
    }
    fm_str s = {0};
    fm_str_printf(
        &s, "{\"format\": \"fathom-frozen\", \"version\": 1, \"hash\": \"%s\", \"rows\": %lld, \"question\": ", r->hash,
        (long long)r->n_test);
    fm_str_json(&s, k->o->question ? k->o->question : "", k->o->question ? strlen(k->o->question) : 0);
    fm_str_puts(&s, ", \"keys\": [");
    for (size_t i = 0; i < k->n_keys; i++) {
        fm_str_printf(&s, "%s\"%016llx\"", i ? ", " : "", (unsigned long long)k->keys[i]);
    }
    fm_str_puts(&s, "]}\n");
    fm_status st = fm_str_check(&s);
    st = st == FM_OK ? fm_file_write_atomic(path, s.data, s.len) : st;
    fm_str_free(&s);
    return st;
}

static fm_status freeze(freezer *k, fm_freeze_report *r) {
    outputs out = {.r = r};
    FM_TRY(each_row(k, note, NULL));
    FM_TRY(draw(k));
    if (k->n_keys == 0) {
        fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "none of the %zu rows asks anything", k->n);
        return fm_error_hint("name the column of the question with --question");
    }
    fm_status s = each_row(k, take, &out);
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
    fm_str_free(&k.scratch);
    return s;
}

/* ---- guarding --------------------------------------------------------------------------------- */

typedef struct guard {
    uint64_t *keys;
    size_t n, cap;
    char question[256]; /* of the set read last */
    char names[512];    /* for messages */
} guard;

static fm_status load_manifest(fm_json **out, const char *path) {
    FM_TRY(fm_json_load(out, path));
    const char *format = fm_json_str(fm_json_get(*out, "format"), NULL);
    if (!format || strcmp(format, "fathom-frozen") != 0 || fm_json_int(fm_json_get(*out, "version"), 0) != 1 ||
        !fm_json_is_array(fm_json_get(*out, "keys"))) {
        fm_json_free(*out);
        *out = NULL;
        FM_FAIL(FM_ERR_FORMAT, "%s is no list of frozen rows that this program reads", path);
    }
    return FM_OK;
}

static fm_status add_set(guard *g, const char *path) {
    fm_json *j;
    FM_TRY(load_manifest(&j, path));
    const fm_json *keys = fm_json_get(j, "keys");
    const char *q = fm_json_str(fm_json_get(j, "question"), NULL);
    snprintf(g->question, sizeof g->question, "%s", q ? q : "");
    fm_status s = FM_OK;
    for (size_t i = 0; i < fm_json_size(keys) && s == FM_OK; i++) {
        const char *hex = fm_json_str(fm_json_at(keys, i), NULL);
        void *p = g->keys;
        s = fm_grow(&p, &g->cap, g->n + 1, sizeof *g->keys);
        if (s == FM_OK) {
            g->keys = p;
            g->keys[g->n++] = hex ? strtoull(hex, NULL, 16) : 0;
        }
    }
    size_t at = strlen(g->names);
    snprintf(g->names + at, sizeof g->names - at, "%s%s", at ? ", " : "", path);
    fm_json_free(j);
    return s;
}

static bool is_manifest(const char *name) {
    size_t n = strlen(name), k = strlen(SUFFIX);
    return n > k && strcmp(name + n - k, SUFFIX) == 0;
}

/* Sets in the folder of a file, or in a folder. */
static fm_status add_folder(guard *g, const char *input) {
    char dir[4096], path[4096], **names;
    size_t n;
    snprintf(dir, sizeof dir, "%s", input);
    char *slash = strrchr(dir, '/');
    if (!fm_path_is_dir(dir)) {
        snprintf(slash ? slash : dir, 2, "%s", slash == dir ? "/" : slash ? "" : ".");
    }
    if (!fm_path_is_dir(dir)) { /* a pattern whose folder has one too, or standard input */
        return FM_OK;
    }
    FM_TRY(fm_dir_list(&names, &n, dir));
    fm_status s = FM_OK;
    for (size_t i = 0; i < n && s == FM_OK; i++) {
        if (is_manifest(names[i])) {
            s = fm_path_join(path, sizeof path, dir, names[i]);
            s = s == FM_OK && !strstr(g->names, path) ? add_set(g, path) : s;
        }
    }
    fm_names_free(names, n);
    return s;
}

static fm_status scan(guard *g, const fm_strlist *input, const char *format) {
    fm_records *rows;
    fm_rec *row;
    fm_bump *arena;
    fm_str scratch = {0};
    char first[512] = "";
    int64_t hits = 0, n = 0;
    fm_records_options ro = {.input = *input, .format = format};
    FM_TRY(fm_records_open(&rows, &ro));
    fm_status s = FM_OK;
    for (;; n++) {
        s = fm_records_next(rows, &row, &arena);
        if (s != FM_OK || !row) {
            break;
        }
        uint64_t key;
        const fm_cell *named = g->question[0] ? fm_rec_get(row, g->question) : NULL;
        const fm_cell *q = named ? named : question_of(row, NULL);
        if (q && key_of(&key, q->text, &scratch) && has_key(g->keys, g->n, key) && hits++ == 0) {
            snprintf(first, sizeof first, "%s:%lld", fm_records_file(rows, fm_records_file_index(rows)),
                     (long long)row->line);
        }
    }
    fm_records_close(rows);
    fm_str_free(&scratch);
    FM_TRY(s);
    if (hits == 0) {
        return FM_OK;
    }
    fm_error_set(FM_ERR_DATA, __FILE__, __LINE__,
                 "%lld of %lld training rows ask what a frozen test set asks (%s); the first is %s", (long long)hits,
                 (long long)n, g->names, first);
    return fm_error_hint("train on the rest that `fathom data freeze --rest` wrote, or take these rows out");
}

fm_status fm_frozen_check(const fm_strlist *input, const fm_strlist *named, const char *format) {
    guard g = {0};
    fm_status s = FM_OK;
    for (size_t i = 0; i < named->n && s == FM_OK; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s%s", named->item[i], is_manifest(named->item[i]) ? "" : SUFFIX);
        s = add_set(&g, path);
    }
    for (size_t i = 0; i < input->n && s == FM_OK; i++) {
        s = add_folder(&g, input->item[i]);
    }
    if (s == FM_OK && g.n > 0) {
        qsort(g.keys, g.n, sizeof *g.keys, ascending);
        s = scan(&g, input, format);
    }
    fm_free(g.keys);
    return s;
}

fm_status fm_frozen_verify(const char *path, char *hash) {
    char manifest[4096], now[33];
    hash[0] = 0;
    if ((size_t)snprintf(manifest, sizeof manifest, "%s" SUFFIX, path) >= sizeof manifest ||
        !fm_path_exists(manifest)) {
        return FM_OK;
    }
    fm_json *j;
    FM_TRY(load_manifest(&j, manifest));
    const char *want = fm_json_str(fm_json_get(j, "hash"), NULL);
    snprintf(hash, 33, "%s", want ? want : "");
    fm_json_free(j);
    FM_TRY(fm_file_hash(now, path));
    if (strcmp(now, hash) != 0) {
        fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "%s was frozen with hash %s and has %s now", path, hash, now);
        return fm_error_hint(
            "figures on it cannot be compared; restore the file, or freeze a new set under another name");
    }
    return FM_OK;
}
