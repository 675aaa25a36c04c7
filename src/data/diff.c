/* data diff: two datasets compared row by row, whatever their order and format.
 *
 * First pass: a hash of each row's content (and of its key) goes to an external sort, whose groups say what is the
 * same, new, gone or, with a key, changed. Second pass: examples are fetched, and of rows that changed (up to 2000 of
 * them) the columns that differ. Memory: that of the sort, of one group of rows with the same key, of the examples. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/manifest_diff.h"
#include "data/records.h"
#include "data/sorter.h"
#include "fathom/data.h"

#define MOST_CHANGED  2000
#define CHANGED_BYTES ((size_t)256 << 20)
#define EXAMPLE_BYTES 400

static const fm_option table[] = {
    {"key", FM_OPT_STR, offsetof(fm_diff_config, key), NULL, 0, 0, NULL, NULL, "COLUMN",
     "column that names a row, so that changed rows are told from new ones"},
    {"show", FM_OPT_INT, offsetof(fm_diff_config, show), "3", 0, 1000, NULL, NULL, "N",
     "examples of rows added, removed and changed"},
    {"format", FM_OPT_STR, offsetof(fm_diff_config, format), "auto", 0, 0, NULL, NULL, "NAME",
     "how both are read ('fathom data list' names the formats)"},
    {"memory", FM_OPT_BYTES, offsetof(fm_diff_config, memory), "512MiB", 1 << 20, 1e15, NULL, NULL, NULL,
     "for sorting; more goes to a temporary file"},
    {0},
};

const fm_option *fm_diff_options(void) {
    return table;
}

typedef struct hashes {
    uint64_t *item;
    size_t n, cap;
} hashes;

/* A row that is in both with the same key and another content. */
typedef struct changed {
    uint64_t key;
    char *a; /* as JSON, once it was read */
    size_t a_bytes;
} changed;

typedef struct diff {
    const fm_diff_config *c;
    const char *path[2];
    int64_t rows[2], bad[2], without_key[2];
    fm_tallies columns[2], changed_columns;
    fm_sorter *sorter;
    hashes of[2];   /* contents of the group */
    hashes want[2]; /* examples: contents only in A, only in B */
    changed *pair;
    size_t n_pairs, pairs_cap, pair_bytes;
    int64_t same, n_added, n_removed, n_changed, looked_at;
    fm_json *examples[3]; /* removed, added, changed */
    fm_bump arena;
    fm_str text;
} diff;

/* ---- first pass ------------------------------------------------------------------------------- */

static void hash_row(const diff *d, const fm_rec *r, uint64_t *key, uint64_t *content) {
    const fm_cell *c = d->c->key ? fm_rec_get(r, d->c->key) : NULL;
    *content = fm_rec_hash(r);
    *key = c && c->kind != FM_CELL_NULL ? fm_hash64(c->text.ptr, c->text.len, 1) : *content;
}

typedef fm_status (*row_fn)(diff *d, int side, const fm_rec *r, const char *file);

static fm_status each_row(diff *d, int side, row_fn fn) {
    char *path = (char *)(uintptr_t)d->path[side], *list[1] = {path};
    fm_records_options o = {.input = {list, 1}, .format = d->c->format};
    fm_records *in;
    fm_rec *r = NULL;
    fm_bump *arena;
    FM_TRY(fm_records_open(&in, &o));
    fm_status s = FM_OK;
    for (int64_t n = 1; s == FM_OK; n++) {
        s = fm_records_next(in, &r, &arena);
        if (s != FM_OK || !r) {
            break;
        }
        s = fn(d, side, r, fm_records_file(in, fm_records_file_index(in)));
        if ((n & 1023) == 0 && s == FM_OK && fm_cancelled()) {
            s = fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "interrupted while reading %s", path);
        }
    }
    d->bad[side] = fm_records_n_bad(in);
    fm_records_close(in);
    return s;
}

static fm_status first_look(diff *d, int side, const fm_rec *r, const char *file) {
    uint64_t record[3] = {0, 0, (uint64_t)side};
    FM_UNUSED(file);
    d->rows[side]++;
    hash_row(d, r, &record[0], &record[1]);
    d->without_key[side] += d->c->key && record[0] == record[1];
    for (size_t i = 0; i < r->n; i++) {
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)FM_MIN(r->cell[i].name.len, sizeof name - 1), r->cell[i].name.ptr);
        FM_TRY(fm_tally_add(&d->columns[side], name, 1));
    }
    return fm_sorter_push(d->sorter, record);
}

static fm_status push(hashes *h, uint64_t v) {
    void *p = h->item;
    FM_TRY(fm_grow(&p, &h->cap, h->n + 1, sizeof *h->item));
    h->item = p;
    h->item[h->n++] = v;
    return FM_OK;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static fm_status want(diff *d, int side, uint64_t content) {
    return d->want[side].n < (size_t)d->c->show ? push(&d->want[side], content) : FM_OK;
}

static fm_status pair_up(diff *d, uint64_t key) {
    if (d->n_pairs == MOST_CHANGED) {
        return FM_OK;
    }
    void *p = d->pair;
    FM_TRY(fm_grow(&p, &d->pairs_cap, d->n_pairs + 1, sizeof *d->pair));
    d->pair = p;
    d->pair[d->n_pairs++] = (changed){.key = key};
    return FM_OK;
}

/* Rows with one key: contents that both have are the same; of the others as many changed as there are on both sides. */
static fm_status end_group(diff *d, uint64_t key) {
    hashes *a = &d->of[0], *b = &d->of[1];
    bool single = a->n == 1 && b->n == 1;
    int64_t only[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        if (d->of[i].n > 1) {
            qsort(d->of[i].item, d->of[i].n, sizeof(uint64_t), by_value);
        }
    }
    int64_t left = (int64_t)a->n - (int64_t)b->n;
    for (size_t i = 0, k = 0; i < a->n || k < b->n;) {
        if (i < a->n && k < b->n && a->item[i] == b->item[k]) {
            d->same++;
            i++, k++;
            continue;
        }
        int side = k == b->n || (i < a->n && a->item[i] < b->item[k]) ? 0 : 1;
        only[side]++;
        if (!d->c->key || a->n == 0 || b->n == 0 || left) {
            FM_TRY(want(d, side, side ? b->item[k] : a->item[i]));
        }
        i += side == 0;
        k += side == 1;
    }
    int64_t moved = d->c->key ? FM_MIN(only[0], only[1]) : 0;
    d->n_changed += moved;
    d->n_removed += only[0] - moved;
    d->n_added += only[1] - moved;
    a->n = b->n = 0;
    return single && moved == 1 ? pair_up(d, key) : FM_OK;
}

static fm_status compare(diff *d) {
    const uint64_t *h;
    uint64_t key = 0;
    bool open = false;
    FM_TRY(fm_sorter_sort(d->sorter));
    for (;;) {
        FM_TRY(fm_sorter_next(d->sorter, &h));
        if (open && (!h || h[0] != key)) {
            FM_TRY(end_group(d, key));
        }
        if (!h) {
            return FM_OK;
        }
        open = true;
        key = h[0];
        FM_TRY(push(&d->of[h[2] != 0], h[1]));
    }
}

/* ---- second pass ------------------------------------------------------------------------------ */

static fm_status put_cut(fm_json *o, const char *key, const char *p, size_t n) {
    size_t k = n > EXAMPLE_BYTES ? fm_utf8_complete_prefix(p, EXAMPLE_BYTES) : n;
    return fm_json_set(o, key, fm_json_new_strn(p, k));
}

static fm_status add_example(diff *d, int side, const fm_rec *r, const char *file) {
    fm_json *e = fm_json_new_object();
    FM_TRY(fm_json_append(d->examples[side], e));
    FM_TRY(fm_json_set(e, "file", fm_json_new_str(file)));
    FM_TRY(fm_json_set(e, "line", fm_json_new_int(r->line)));
    fm_str_clear(&d->text);
    fm_rec_put_json(&d->text, r);
    FM_TRY(fm_str_check(&d->text));
    return put_cut(e, "row", d->text.data, d->text.len);
}

static changed *pair_of(const diff *d, uint64_t key) {
    size_t low = 0, high = d->n_pairs;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (d->pair[mid].key == key) {
            return &d->pair[mid];
        }
        low = d->pair[mid].key < key ? mid + 1 : low;
        high = d->pair[mid].key < key ? high : mid;
    }
    return NULL;
}

static fm_status keep_old(diff *d, changed *p, const fm_rec *r) {
    fm_str s = {0};
    fm_rec_put_json(&s, r);
    fm_status st = fm_str_check(&s);
    if (st == FM_OK && d->pair_bytes + s.len <= CHANGED_BYTES) {
        p->a_bytes = s.len;
        d->pair_bytes += s.len;
        p->a = fm_str_take(&s);
    }
    fm_str_free(&s);
    return st;
}

static fm_status value_text(diff *d, fm_json *o, const char *key, const fm_cell *c) {
    fm_str_clear(&d->text);
    if (!c) {
        return fm_json_set(o, key, fm_json_new_null());
    }
    fm_cell_put_json(&d->text, c);
    FM_TRY(fm_str_check(&d->text));
    return put_cut(o, key, d->text.data, d->text.len);
}

static fm_status column_changed(diff *d, fm_json *list, fm_sv name, const fm_cell *a, const fm_cell *b) {
    char column[256];
    snprintf(column, sizeof column, "%.*s", (int)FM_MIN(name.len, sizeof column - 1), name.ptr);
    FM_TRY(fm_tally_add(&d->changed_columns, column, 1));
    if (!list) {
        return FM_OK;
    }
    fm_json *e = fm_json_new_object();
    FM_TRY(fm_json_append(list, e));
    FM_TRY(fm_json_set(e, "column", fm_json_new_str(column)));
    FM_TRY(value_text(d, e, "a", a));
    return value_text(d, e, "b", b);
}

static fm_status compare_pair(diff *d, const changed *p, const fm_rec *b) {
    fm_rec *a;
    fm_json *list = NULL;
    fm_bump_reset(&d->arena);
    FM_TRY(fm_rec_new(&d->arena, &a, NULL));
    FM_TRY(fm_rec_parse_json(&d->arena, a, p->a, p->a_bytes));
    d->looked_at++;
    if (fm_json_size(d->examples[2]) < (size_t)d->c->show) {
        const fm_cell *key = fm_rec_get(b, d->c->key);
        fm_json *e = fm_json_new_object();
        FM_TRY(fm_json_append(d->examples[2], e));
        FM_TRY(key ? put_cut(e, "key", key->text.ptr, key->text.len) : FM_OK);
        list = fm_json_new_array();
        FM_TRY(fm_json_set(e, "columns", list));
    }
    for (size_t i = 0; i < a->n; i++) {
        const fm_cell *other = fm_rec_get_sv(b, a->cell[i].name);
        if (!other || fm_cell_hash(other) != fm_cell_hash(&a->cell[i])) {
            FM_TRY(column_changed(d, list, a->cell[i].name, &a->cell[i], other));
        }
    }
    for (size_t i = 0; i < b->n; i++) {
        if (!fm_rec_get_sv(a, b->cell[i].name)) {
            FM_TRY(column_changed(d, list, b->cell[i].name, NULL, &b->cell[i]));
        }
    }
    return FM_OK;
}

static fm_status second_look(diff *d, int side, const fm_rec *r, const char *file) {
    uint64_t key, content;
    hash_row(d, r, &key, &content);
    changed *p = pair_of(d, key);
    if (p && side == 0 && !p->a) {
        return keep_old(d, p, r);
    }
    if (p && side == 1 && p->a) {
        return compare_pair(d, p, r);
    }
    hashes *h = &d->want[side];
    for (size_t i = 0; i < h->n; i++) {
        if (h->item[i] == content) {
            h->item[i] = h->item[--h->n]; /* one example of each */
            return add_example(d, side, r, file);
        }
    }
    return FM_OK;
}

/* ---- the report ------------------------------------------------------------------------------- */

static fm_status set_int(fm_json *o, const char *key, int64_t v) {
    return fm_json_set(o, key, fm_json_new_int(v));
}

static bool has_column(const fm_tallies *t, const char *name) {
    for (size_t i = 0; i < t->n; i++) {
        if (strcmp(t->item[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static fm_status side_json(fm_json *o, const diff *d, int side) {
    fm_json *e, *names;
    FM_TRY(fm_json_set(o, side ? "b" : "a", e = fm_json_new_object()));
    FM_TRY(fm_json_set(e, "columns", names = fm_json_new_array()));
    FM_TRY(fm_json_set(e, "path", fm_json_new_str(d->path[side])));
    FM_TRY(set_int(e, "rows", d->rows[side]));
    FM_TRY(set_int(e, "bad", d->bad[side]));
    if (d->c->key) {
        FM_TRY(set_int(e, "without_key", d->without_key[side]));
    }
    for (size_t i = 0; i < d->columns[side].n; i++) {
        FM_TRY(fm_json_append(names, fm_json_new_str(d->columns[side].item[i].name)));
    }
    return FM_OK;
}

static fm_status columns_json(fm_json *o, const diff *d) {
    static const char *const names[] = {"removed", "added"};
    fm_json *e, *list;
    FM_TRY(fm_json_set(o, "columns", e = fm_json_new_object()));
    FM_TRY(fm_json_set(o, "changed_columns", list = fm_json_new_array()));
    for (int side = 0; side < 2; side++) {
        fm_json *only = fm_json_new_array();
        FM_TRY(fm_json_set(e, names[side], only));
        for (size_t i = 0; i < d->columns[side].n; i++) {
            const char *name = d->columns[side].item[i].name;
            FM_TRY(has_column(&d->columns[!side], name) ? FM_OK : fm_json_append(only, fm_json_new_str(name)));
        }
    }
    for (size_t i = 0; i < d->changed_columns.n; i++) {
        fm_json *c = fm_json_new_object();
        FM_TRY(fm_json_append(list, c));
        FM_TRY(fm_json_set(c, "name", fm_json_new_str(d->changed_columns.item[i].name)));
        FM_TRY(set_int(c, "rows", d->changed_columns.item[i].n));
    }
    return FM_OK;
}

static fm_status manifests_json(fm_json *o, const diff *d) {
    fm_json *a = NULL, *b = NULL, *m = NULL;
    fm_status s = fm_manifest_of(&a, d->path[0]);
    s = s == FM_OK ? fm_manifest_of(&b, d->path[1]) : s;
    s = s == FM_OK ? fm_manifest_diff(&m, a, b) : s;
    fm_json_free(a);
    fm_json_free(b);
    if (s != FM_OK) {
        fm_json_free(m);
        return s;
    }
    return fm_json_set(o, "manifests", m);
}

static fm_status report(fm_json *o, diff *d) {
    FM_TRY(side_json(o, d, 0));
    FM_TRY(side_json(o, d, 1));
    fm_json *rows = fm_json_new_object();
    FM_TRY(fm_json_set(o, "rows", rows));
    FM_TRY(set_int(rows, "same", d->same));
    FM_TRY(set_int(rows, "added", d->n_added));
    FM_TRY(set_int(rows, "removed", d->n_removed));
    if (d->c->key) {
        FM_TRY(set_int(rows, "changed", d->n_changed));
        FM_TRY(set_int(o, "looked_at", d->looked_at));
    }
    FM_TRY(columns_json(o, d));
    return manifests_json(o, d);
}

static fm_status all(diff *d, fm_json *o) {
    static const char *const names[] = {"removed", "added", "changed"};
    char path[64];
    fm_json *e = fm_json_new_object();
    FM_TRY(fm_json_set(o, "examples", e));
    for (int i = 0; i < 3; i++) {
        d->examples[i] = fm_json_new_array();
        FM_TRY(fm_json_set(e, names[i], d->examples[i]));
    }
    for (int i = 0; i < 2; i++) {
        if (strcmp(d->path[i], "-") == 0) {
            FM_FAIL(FM_ERR_CONFIG, "stdin cannot be compared: the rows are read twice");
        }
    }
    snprintf(path, sizeof path, "/tmp/fathom-diff-%ld", (long)getpid());
    FM_TRY(fm_sorter_new(&d->sorter, 3, d->c->memory, path));
    FM_TRY(each_row(d, 0, first_look));
    FM_TRY(each_row(d, 1, first_look));
    FM_TRY(compare(d));
    for (int i = 0; i < 2; i++) {
        if (d->want[i].n || d->n_pairs) {
            FM_TRY(each_row(d, i, second_look));
        }
    }
    return report(o, d);
}

fm_status fm_data_diff(char **json, const char *a, const char *b, const fm_diff_config *c) {
    *json = NULL;
    diff d = {.c = c, .path = {a, b}};
    fm_json *o = fm_json_new_object();
    fm_str text = {0};
    fm_status s = all(&d, o);
    s = s == FM_OK ? fm_json_dump(&text, o, 0) : s;
    s = s == FM_OK ? fm_str_check(&text) : s;
    *json = s == FM_OK ? fm_str_take(&text) : NULL;
    fm_str_free(&text);
    fm_json_free(o);
    fm_sorter_free(d.sorter);
    for (int i = 0; i < 2; i++) {
        fm_free(d.of[i].item);
        fm_free(d.want[i].item);
        fm_tallies_free(&d.columns[i]);
    }
    fm_tallies_free(&d.changed_columns);
    for (size_t i = 0; i < d.n_pairs; i++) {
        fm_free(d.pair[i].a);
    }
    fm_free(d.pair);
    fm_bump_free(&d.arena);
    fm_str_free(&d.text);
    return s;
}

/* ---- for people ------------------------------------------------------------------------------- */

static const char *word(const fm_json *o, const char *key) {
    const char *s = fm_json_str(fm_json_get(o, key), NULL);
    return s ? s : "";
}

static long long whole(const fm_json *o, const char *key) {
    return (long long)fm_json_int(fm_json_get(o, key), 0);
}

static void put_names(fm_str *s, const char *what, const fm_json *list) {
    for (size_t i = 0; i < fm_json_size(list); i++) {
        fm_str_printf(s, "%s%s", i ? ", " : what, fm_json_str(fm_json_at(list, i), NULL));
    }
    fm_str_puts(s, fm_json_size(list) ? "\n" : "");
}

static void put_examples(fm_str *s, const fm_json *e) {
    static const char *const names[] = {"removed", "added"}, mark[] = {'-', '+'};
    for (size_t k = 0; k < 2; k++) {
        const fm_json *list = fm_json_get(e, names[k]);
        for (size_t i = 0; i < fm_json_size(list); i++) {
            const fm_json *x = fm_json_at(list, i);
            fm_str_printf(s, "%c %s:%lld  %s\n", mark[k], word(x, "file"), whole(x, "line"), word(x, "row"));
        }
    }
    const fm_json *list = fm_json_get(e, "changed");
    for (size_t i = 0; i < fm_json_size(list); i++) {
        const fm_json *x = fm_json_at(list, i), *columns = fm_json_get(x, "columns");
        fm_str_printf(s, "~ %s\n", word(x, "key"));
        for (size_t k = 0; k < fm_json_size(columns); k++) {
            const fm_json *c = fm_json_at(columns, k);
            fm_str_printf(s, "    %s: %s -> %s\n", word(c, "column"), word(c, "a"), word(c, "b"));
        }
    }
}

static void put_all(fm_str *s, const fm_json *o) {
    const fm_json *a = fm_json_get(o, "a"), *b = fm_json_get(o, "b"), *rows = fm_json_get(o, "rows");
    const fm_json *changed_columns = fm_json_get(o, "changed_columns");
    fm_str_printf(s, "%s: %lld rows\n%s: %lld rows\n", word(a, "path"), whole(a, "rows"), word(b, "path"),
                  whole(b, "rows"));
    fm_str_printf(s, "%lld the same, %lld added, %lld removed", whole(rows, "same"), whole(rows, "added"),
                  whole(rows, "removed"));
    if (fm_json_get(rows, "changed")) {
        fm_str_printf(s, ", %lld changed", whole(rows, "changed"));
    }
    fm_str_putc(s, '\n');
    put_names(s, "columns removed: ", fm_json_get(fm_json_get(o, "columns"), "removed"));
    put_names(s, "columns added: ", fm_json_get(fm_json_get(o, "columns"), "added"));
    for (size_t i = 0; i < fm_json_size(changed_columns); i++) {
        const fm_json *c = fm_json_at(changed_columns, i);
        fm_str_printf(s, "column %s differs in %lld of %lld changed rows looked at\n", word(c, "name"),
                      whole(c, "rows"), whole(o, "looked_at"));
    }
    fm_manifest_diff_text(s, fm_json_get(o, "manifests"));
    put_examples(s, fm_json_get(o, "examples"));
}

fm_status fm_data_diff_text(char **out, const char *json) {
    fm_json *o;
    fm_str s = {0};
    *out = NULL;
    FM_TRY(fm_json_parse(&o, json, strlen(json), "comparison"));
    put_all(&s, o);
    fm_json_free(o);
    fm_status st = fm_str_check(&s);
    *out = st == FM_OK ? fm_str_take(&s) : NULL;
    fm_str_free(&s);
    return st;
}
