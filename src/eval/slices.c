/* Parts of the rows: by column, by length and language of the question, by terms in it. */
#include <stdlib.h>
#include <string.h>

#include "eval/task.h"
#include "text/unicode.h"

#define MOST_VALUES 200 /* of one column */
#define BUCKETS     4   /* of lengths, with as many rows each */

typedef struct keyed {
    fm_sv key;
    size_t row, length;
} keyed;

static int by_key(const void *a, const void *b) {
    const keyed *x = a, *y = b;
    size_t n = FM_MIN(x->key.len, y->key.len);
    int c = n > 0 ? memcmp(x->key.ptr, y->key.ptr, n) : 0;
    c = c != 0 ? c : (x->key.len > y->key.len) - (x->key.len < y->key.len);
    return c != 0 ? c : (x->row > y->row) - (x->row < y->row);
}

static int by_length(const void *a, const void *b) {
    const keyed *x = a, *y = b;
    int c = (x->length > y->length) - (x->length < y->length);
    return c != 0 ? c : (x->row > y->row) - (x->row < y->row);
}

static size_t characters(fm_sv t) {
    size_t n = 0;
    for (size_t i = 0; i < t.len; i++) {
        n += ((unsigned char)t.ptr[i] & 0xc0) != 0x80;
    }
    return n;
}

/* By script, as docs/data.md tells languages apart: any Han character makes it Chinese, else any Latin letter English.
 */
static const char *language(fm_sv t) {
    const uint8_t *p = (const uint8_t *)t.ptr, *end = p + t.len;
    bool latin = false, letter = false;
    while (p < end) {
        uint32_t c;
        p += fm_uni_next(&c, p, end);
        if ((c >= 0x3400 && c <= 0x9fff) || (c >= 0xf900 && c <= 0xfaff) || c >= 0x20000) {
            return "zh";
        }
        latin = latin || (c | 32) - 'a' < 26u || (c >= 0xc0 && c < 0x250 && (fm_uni_class(c) & FM_UNI_L));
        letter = letter || (fm_uni_class(c) & FM_UNI_L) != 0;
    }
    return latin ? "en" : letter ? "other" : "none";
}

typedef struct work {
    fm_eval *e;
    keyed *k;
    size_t *row;
    fm_slice_fn fn;
    void *arg;
} work;

/* k[from, to) are one slice. */
static fm_status give(const work *w, const char *by, const char *value, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) {
        w->row[i - from] = w->k[i].row;
    }
    return w->fn(w->arg, by, value, w->row, to - from);
}

static fm_status by_values(const work *w, const char *by) {
    size_t n = w->e->n_rows, values = 0;
    qsort(w->k, n, sizeof *w->k, by_key);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && w->k[end].key.len == w->k[i].key.len &&
                          memcmp(w->k[end].key.ptr, w->k[i].key.ptr, w->k[i].key.len) == 0;
             end++) {
        }
        if (++values > MOST_VALUES) {
            FM_FAIL(FM_ERR_CONFIG, "slice_by %s: more than %d different values", by, MOST_VALUES);
        }
        char *value = fm_strndup(w->k[i].key.len ? w->k[i].key.ptr : "", w->k[i].key.len);
        if (!value) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for slices");
        }
        fm_status s = give(w, by, value, i, end);
        fm_free(value);
        FM_TRY(s);
    }
    return FM_OK;
}

static fm_status by_column(const work *w, const char *column) {
    for (size_t i = 0; i < w->e->n_rows; i++) {
        const fm_eval_row *r = &w->e->row[i];
        const fm_cell *c = fm_rec_get(r->rec, column);
        if (!c && strcmp(column, "subject") != 0) {
            FM_FAIL(FM_ERR_CONFIG, "slice_by: %s:%lld has no column \"%s\"", r->file, (long long)r->rec->line, column);
        }
        w->k[i] = (keyed){.key = c ? c->text : fm_sv_of(r->subject), .row = i};
    }
    return by_values(w, column);
}

static fm_status by_language(const work *w) {
    for (size_t i = 0; i < w->e->n_rows; i++) {
        w->k[i] = (keyed){.key = fm_sv_of(language(w->e->row[i].question)), .row = i};
    }
    return by_values(w, "language");
}

/* Rows of one length stay together. */
static fm_status by_lengths(const work *w) {
    size_t n = w->e->n_rows;
    for (size_t i = 0; i < n; i++) {
        w->k[i] = (keyed){.row = i, .length = characters(w->e->row[i].question)};
    }
    qsort(w->k, n, sizeof *w->k, by_length);
    for (size_t b = 0, from = 0; b < BUCKETS && from < n; b++) {
        size_t to = FM_MAX(from + 1, (b + 1) * n / BUCKETS);
        while (to < n && w->k[to].length == w->k[to - 1].length) {
            to++;
        }
        char value[64];
        snprintf(value, sizeof value, "%zu-%zu characters", w->k[from].length, w->k[to - 1].length);
        FM_TRY(give(w, "length", value, from, to));
        from = to;
    }
    return FM_OK;
}

static fm_status by_term(const work *w, const char *term) {
    size_t n = 0, len = strlen(term);
    for (size_t i = 0; i < w->e->n_rows && len > 0; i++) {
        fm_sv q = w->e->row[i].question;
        if (q.len >= len && memmem(q.ptr, q.len, term, len)) {
            w->k[n++] = (keyed){.row = i};
        }
    }
    return n > 0 ? give(w, "term", term, 0, n) : FM_OK;
}

fm_status fm_eval_slices(fm_eval *e, fm_slice_fn fn, void *arg) {
    const fm_eval_config *c = e->cfg;
    work w = {e, fm_calloc(e->n_rows, sizeof *w.k), fm_calloc(e->n_rows, sizeof *w.row), fn, arg};
    fm_status s = FM_OK;
    if (!w.k || !w.row) {
        s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for slices");
    }
    for (size_t i = 0; i < c->slice_by.n && s == FM_OK; i++) {
        const char *by = c->slice_by.item[i];
        s = strcmp(by, "length") == 0     ? by_lengths(&w)
            : strcmp(by, "language") == 0 ? by_language(&w)
                                          : by_column(&w, by);
    }
    for (size_t i = 0; i < c->terms.n && s == FM_OK; i++) {
        s = by_term(&w, c->terms.item[i]);
    }
    fm_free(w.k);
    fm_free(w.row);
    return s;
}
