/* The window [start, end) of buf holds raw bytes from the record's first on, so that a record whose
 * quote never closes can be given up and reading resumed at the line after its first. */
#include "io/csv.h"

#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

#define DEFAULT_MAX ((size_t)16 << 20)
#define FIRST_BYTES ((size_t)1 << 16)

typedef struct span {
    size_t at, len;
} span;

struct fm_csv {
    fm_stream *in;
    char delimiter;
    size_t max;
    char *buf;
    size_t cap, start, end;
    bool at_end;
    int64_t line; /* of buf[start] */

    fm_str text;  /* fields of the record, one after the other */
    span *spans;  /* where each lies in text */
    fm_sv *views; /* the same for the caller */
    size_t n, spans_cap, views_cap;

    char **names;
    size_t n_columns, names_cap;
    bool has_width; /* n_columns is known */
};

/* Reads more behind the window. The record keeps its place relative to `start`. */
static fm_status fill(fm_csv *c) {
    if (c->end == c->cap) {
        if (c->start > 0) {
            memmove(c->buf, c->buf + c->start, c->end - c->start);
            c->end -= c->start;
            c->start = 0;
        } else {
            void *p = c->buf;
            FM_TRY(fm_grow(&p, &c->cap, c->cap + 1, 1));
            c->buf = p;
        }
    }
    size_t n;
    FM_TRY(fm_stream_read(c->in, c->buf + c->end, c->cap - c->end, &n));
    c->end += n;
    c->at_end = n == 0;
    return FM_OK;
}

/* True when the byte at start + i is there, reading on as needed. */
static fm_status have(fm_csv *c, size_t i, bool *yes) {
    while (c->start + i >= c->end && !c->at_end) {
        FM_TRY(fill(c));
    }
    *yes = c->start + i < c->end;
    return FM_OK;
}

static fm_status push_field(fm_csv *c, size_t at) {
    void *p = c->spans;
    FM_TRY(fm_grow(&p, &c->spans_cap, c->n + 1, sizeof *c->spans));
    c->spans = p;
    c->spans[c->n].at = at;
    c->spans[c->n].len = c->text.len - at;
    c->n++;
    return fm_str_check(&c->text);
}

/* The inside of a quoted field from i (behind the quote) on; *i ends behind the closing quote. */
static fm_status quoted(fm_csv *c, size_t *i, const char **bad) {
    for (;;) {
        bool yes;
        FM_TRY(have(c, *i, &yes));
        if (!yes) {
            *bad = "a quote is never closed";
            return FM_OK;
        }
        if (*i > c->max) {
            *bad = "longer than the limit, or a quote is never closed";
            return FM_OK;
        }
        const char *p = c->buf + c->start + *i;
        size_t left = c->end - c->start - *i;
        const char *q = memchr(p, '"', left);
        size_t run = q ? (size_t)(q - p) : left;
        fm_str_append(&c->text, p, run);
        *i += run;
        if (!q) {
            continue;
        }
        FM_TRY(have(c, *i + 1, &yes));
        if (!yes || c->buf[c->start + *i + 1] != '"') {
            (*i)++;
            return FM_OK;
        }
        fm_str_putc(&c->text, '"');
        *i += 2;
    }
}

/* An unquoted field from i on; *i ends at the delimiter, line end or end of the data. */
static fm_status plain(fm_csv *c, size_t *i, const char **bad) {
    for (;;) {
        bool yes;
        FM_TRY(have(c, *i, &yes));
        if (!yes) {
            return FM_OK;
        }
        if (*i > c->max) {
            *bad = "longer than the limit";
            return FM_OK;
        }
        const char *p = c->buf + c->start + *i, *end = c->buf + c->end, *q = p;
        while (q < end && *q != c->delimiter && *q != '\n' && *q != '\r') {
            q++;
        }
        fm_str_append(&c->text, p, (size_t)(q - p));
        *i += (size_t)(q - p);
        if (q == end) {
            continue;
        }
        if (*q == '\r') { /* a lone CR is text */
            FM_TRY(have(c, *i + 1, &yes));
            if (!yes || c->buf[c->start + *i + 1] != '\n') {
                fm_str_putc(&c->text, '\r');
                (*i)++;
                continue;
            }
        }
        return FM_OK;
    }
}

/* Fields of one record into text and spans; *used = its bytes with the line end. */
static fm_status parse(fm_csv *c, size_t *used, const char **bad) {
    size_t i = 0;
    fm_str_clear(&c->text);
    c->n = 0;
    for (;;) {
        bool yes;
        size_t at = c->text.len;
        FM_TRY(have(c, i, &yes));
        if (yes && c->buf[c->start + i] == '"') {
            i++;
            FM_TRY(quoted(c, &i, bad));
        } else {
            FM_TRY(plain(c, &i, bad));
        }
        if (*bad) {
            return FM_OK;
        }
        FM_TRY(push_field(c, at));
        FM_TRY(have(c, i, &yes));
        char b = yes ? c->buf[c->start + i] : '\n';
        if (b == '\r') {
            bool lf;
            FM_TRY(have(c, i + 1, &lf));
            if (!lf || c->buf[c->start + i + 1] == '\n') {
                i++;
                yes = lf;
                b = '\n';
            }
        }
        if (b == '\n') {
            *used = i + yes;
            return FM_OK;
        }
        if (b != c->delimiter) {
            *bad = "text after a closing quote";
            return FM_OK;
        }
        i++;
    }
}

/* Passes n bytes of the window and counts their lines. */
static void advance(fm_csv *c, size_t n) {
    const char *p = c->buf + c->start, *end = p + n;
    while ((p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
        c->line++;
        p++;
    }
    c->start += n;
}

/* Gives up a record: passes its first line. */
static fm_status skip_line(fm_csv *c) {
    for (;;) {
        const char *p = c->buf + c->start, *nl = memchr(p, '\n', c->end - c->start);
        advance(c, nl ? (size_t)(nl - p) + 1 : c->end - c->start);
        if (nl || c->at_end) {
            return FM_OK;
        }
        FM_TRY(fill(c));
    }
}

/* Passes line ends; *more is false when nothing is left. */
static fm_status skip_empty(fm_csv *c, bool *more) {
    for (;;) {
        bool cr = false;
        FM_TRY(have(c, 0, more));
        if (*more && c->buf[c->start] == '\r') {
            FM_TRY(have(c, 1, &cr));
            cr = cr && c->buf[c->start + 1] == '\n';
        }
        if (!*more || (c->buf[c->start] != '\n' && !cr)) {
            return FM_OK;
        }
        advance(c, 1 + (size_t)cr);
    }
}

fm_status fm_csv_next(fm_csv *c, fm_csv_record *out, bool *more) {
    memset(out, 0, sizeof *out);
    FM_TRY(skip_empty(c, more));
    if (!*more) {
        return FM_OK;
    }
    size_t used = 0;
    out->line = c->line;
    FM_TRY(parse(c, &used, &out->bad));
    if (out->bad) {
        return skip_line(c);
    }
    advance(c, used);
    void *p = c->views;
    FM_TRY(fm_grow(&p, &c->views_cap, c->n, sizeof *c->views));
    c->views = p;
    for (size_t i = 0; i < c->n; i++) {
        c->views[i].ptr = c->text.data ? c->text.data + c->spans[i].at : "";
        c->views[i].len = c->spans[i].len;
    }
    out->field = c->views;
    out->n_fields = c->n;
    if (!c->has_width) {
        c->n_columns = c->n;
        c->has_width = true;
    } else if (c->n != c->n_columns) {
        out->bad = c->n < c->n_columns ? "fewer fields than the header" : "more fields than the header";
    }
    return FM_OK;
}

static fm_status read_header(fm_csv *c) {
    fm_csv_record r;
    bool more;
    FM_TRY(fm_csv_next(c, &r, &more));
    if (!more) {
        return FM_OK;
    }
    if (r.bad) {
        FM_FAIL(FM_ERR_DATA, "%s:%lld: cannot read the header: %s", fm_stream_name(c->in), (long long)r.line, r.bad);
    }
    c->names = fm_calloc(r.n_fields, sizeof *c->names);
    if (!c->names) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate %zu column names", r.n_fields);
    }
    c->names_cap = r.n_fields;
    for (size_t i = 0; i < r.n_fields; i++) {
        if (memchr(r.field[i].ptr, 0, r.field[i].len) || !fm_utf8_valid(r.field[i].ptr, r.field[i].len)) {
            FM_FAIL(FM_ERR_DATA, "%s:%lld: the name of column %zu is not valid UTF-8 text", fm_stream_name(c->in),
                    (long long)r.line, i + 1);
        }
        c->names[i] = fm_strndup(r.field[i].ptr, r.field[i].len);
        if (!c->names[i]) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a column name");
        }
        for (size_t k = 0; k < i; k++) {
            if (strcmp(c->names[k], c->names[i]) == 0) {
                FM_FAIL(FM_ERR_DATA, "%s:%lld: column '%s' is there twice (%zu and %zu)", fm_stream_name(c->in),
                        (long long)r.line, c->names[i], k + 1, i + 1);
            }
        }
    }
    return FM_OK;
}

static fm_status start(fm_csv *c, bool no_header) {
    void *p = NULL;
    FM_TRY(fm_grow(&p, &c->cap, FIRST_BYTES, 1));
    c->buf = p;
    bool bom;
    FM_TRY(have(c, 2, &bom));
    if (bom && memcmp(c->buf, "\xEF\xBB\xBF", 3) == 0) {
        c->start = 3;
    }
    return no_header ? FM_OK : read_header(c);
}

fm_status fm_csv_open_stream(fm_csv **out, fm_stream *in, const fm_csv_options *options) {
    static const fm_csv_options none;
    const fm_csv_options *o = options ? options : &none;
    *out = NULL;
    fm_csv *c = fm_calloc(1, sizeof *c);
    if (!c) {
        fm_stream_close(in);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a CSV reader");
    }
    c->in = in;
    c->delimiter = o->delimiter ? o->delimiter : ',';
    c->max = o->max_record_bytes ? o->max_record_bytes : DEFAULT_MAX;
    c->line = 1;
    fm_status s = start(c, o->no_header);
    if (s != FM_OK) {
        fm_csv_close(c);
        return s;
    }
    *out = c;
    return FM_OK;
}

fm_status fm_csv_open(fm_csv **out, const char *path, const fm_csv_options *options) {
    *out = NULL;
    fm_stream *in;
    FM_TRY(fm_stream_open(&in, path));
    return fm_csv_open_stream(out, in, options);
}

void fm_csv_close(fm_csv *c) {
    if (!c) {
        return;
    }
    fm_stream_close(c->in);
    fm_str_free(&c->text);
    fm_names_free(c->names, c->names_cap);
    fm_free(c->spans);
    fm_free(c->views);
    fm_free(c->buf);
    fm_free(c);
}

size_t fm_csv_n_columns(const fm_csv *c) {
    return c->n_columns;
}

const char *fm_csv_column_name(const fm_csv *c, size_t i) {
    return i < c->names_cap ? c->names[i] : NULL;
}

int64_t fm_csv_column(const fm_csv *c, const char *name) {
    for (size_t i = 0; i < c->names_cap; i++) {
        if (strcmp(c->names[i], name) == 0) {
            return (int64_t)i;
        }
    }
    return -1;
}

int64_t fm_csv_consumed(const fm_csv *c) {
    return fm_stream_consumed(c->in);
}
