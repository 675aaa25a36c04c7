/* See ingest_rows.h. */
#include "data/ingest_rows.h"

#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/rec.h"
#include "io/csv.h"
#include "io/inflate.h"
#include "io/jsonl.h"

bool fm_ingest_kind_of(fm_ingest_kind *kind, const char *type) {
    static const struct {
        const char *name;
        fm_ingest_kind kind;
    } known[] = {{"application/x-ndjson", FM_INGEST_JSONL},
                 {"application/jsonl", FM_INGEST_JSONL},
                 {"application/jsonlines", FM_INGEST_JSONL},
                 {"application/x-jsonlines", FM_INGEST_JSONL},
                 {"application/octet-stream", FM_INGEST_JSONL},
                 {"text/plain", FM_INGEST_JSONL},
                 {"application/x-www-form-urlencoded", FM_INGEST_JSONL}, /* what curl --data says unasked */
                 {"application/json", FM_INGEST_JSON},
                 {"text/csv", FM_INGEST_CSV},
                 {"text/tab-separated-values", FM_INGEST_TSV}};
    *kind = FM_INGEST_JSONL;
    if (!type || !*type) {
        return true;
    }
    size_t n = strcspn(type, "; \t");
    for (size_t i = 0; i < FM_ARRAY_LEN(known); i++) {
        if (strlen(known[i].name) == n && strncasecmp(known[i].name, type, n) == 0) {
            *kind = known[i].kind;
            return true;
        }
    }
    return false;
}

void fm_ingest_rows_free(fm_ingest_rows *r) {
    fm_str_free(&r->lines);
    fm_str_free(&r->errors);
    memset(r, 0, sizeof *r);
}

static void refuse(fm_ingest_rows *r, int64_t line, const char *reason, const char *detail) {
    r->n_refused++;
    if (r->n_errors < FM_INGEST_ERRORS) {
        fm_str text = {0};
        fm_str_printf(&text, "%s%s%s", reason, detail ? ": " : "", detail ? detail : "");
        fm_str_printf(&r->errors, "%s{\"line\":%lld,\"reason\":", r->n_errors ? "," : "", (long long)line);
        fm_str_json(&r->errors, text.data ? text.data : "", text.len);
        fm_str_putc(&r->errors, '}');
        r->errors.failed = r->errors.failed || text.failed;
        fm_str_free(&text);
        r->n_errors++;
    }
}

/* A row as an object in JSON text. */
static fm_status put_object(fm_ingest_rows *r, fm_bump *a, const char *p, size_t n, int64_t line,
                            const fm_ingest_options *o) {
    fm_rec *rec;
    if (o->max_row_bytes > 0 && n > (size_t)o->max_row_bytes) {
        refuse(r, line, "longer than max_row_bytes", NULL);
        return FM_OK;
    }
    fm_bump_reset(a);
    FM_TRY(fm_rec_new(a, &rec, NULL));
    fm_status s = fm_rec_parse_json(a, rec, p, n);
    if (s == FM_ERR_DATA) {
        refuse(r, line, "no JSON object", fm_error_get().message);
        fm_error_clear();
        return FM_OK;
    }
    FM_TRY(s);
    for (size_t i = 0; i < o->require.n; i++) {
        const fm_cell *c = fm_rec_get(rec, o->require.item[i]);
        if (!c || c->kind == FM_CELL_NULL) {
            refuse(r, line, "missing column", o->require.item[i]);
            return FM_OK;
        }
    }
    size_t at = r->lines.len;
    fm_str_append(&r->lines, p, n); /* values stay as they came; a line end can only be between them */
    fm_str_putc(&r->lines, '\n');
    FM_TRY(fm_str_check(&r->lines));
    for (size_t i = at; i < at + n; i++) {
        char *c = &r->lines.data[i];
        *c = *c == '\n' || *c == '\r' ? ' ' : *c;
    }
    r->n_rows++;
    return FM_OK;
}

static bool is_blank(const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!strchr(" \t\r\n", p[i]) || !p[i]) {
            return false;
        }
    }
    return true;
}

static fm_status read_jsonl(fm_ingest_rows *r, fm_bump *a, const char *p, size_t n, const fm_ingest_options *o) {
    int64_t line = 1;
    for (size_t at = 0; at < n; line++) {
        const char *nl = memchr(p + at, '\n', n - at);
        size_t end = nl ? (size_t)(nl - p) : n;
        if (!is_blank(p + at, end - at)) {
            FM_TRY(put_object(r, a, p + at, end - at, line, o));
        }
        at = end + 1;
    }
    return FM_OK;
}

/* One object, or an array of them: a row is named by its place. */
static fm_status read_json(fm_ingest_rows *r, fm_bump *a, const char *p, size_t n, const fm_ingest_options *o) {
    fm_json_value v, item;
    const char *why = "no JSON", *at = p, *end = p + n, *next = fm_jsonl_value(&v, p, end, &why, &at);
    if (!next || !is_blank(next, (size_t)(end - next))) {
        r->bad = next ? "more than one JSON value" : why;
        return FM_OK;
    }
    if (v.kind != FM_JSON_ARRAY) {
        return put_object(r, a, v.raw.ptr, v.raw.len, 1, o);
    }
    int64_t row = 1;
    for (fm_sv rest = v.raw; fm_jsonl_next(&rest, &item); row++) {
        if (item.kind == FM_JSON_OBJECT) {
            FM_TRY(put_object(r, a, item.raw.ptr, item.raw.len, row, o));
        } else {
            refuse(r, row, "no JSON object", NULL);
        }
    }
    return FM_OK;
}

static fm_status read_table(fm_ingest_rows *r, fm_bump *a, const char *p, size_t n, char delimiter,
                            const fm_ingest_options *o) {
    fm_stream *in;
    fm_csv *c = NULL;
    fm_csv_options co = {.delimiter = delimiter, .max_record_bytes = (size_t)o->max_row_bytes};
    fm_str row = {0};
    FM_TRY(fm_stream_open_memory(&in, p, n, "body"));
    fm_status s = fm_csv_open_stream(&c, in, &co);
    for (bool more = true; s == FM_OK;) {
        fm_csv_record rec;
        bool good = true;
        s = fm_csv_next(c, &rec, &more);
        if (s != FM_OK || !more) {
            break;
        }
        if (rec.bad || rec.n_fields > fm_csv_n_columns(c)) {
            refuse(r, rec.line, rec.bad ? rec.bad : "more fields than the header", NULL);
            continue;
        }
        fm_str_clear(&row);
        for (size_t i = 0; i < rec.n_fields && good; i++) {
            const char *name = fm_csv_column_name(c, i);
            good = fm_utf8_valid(rec.field[i].ptr, rec.field[i].len) && fm_utf8_valid(name, strlen(name));
            fm_str_putc(&row, i ? ',' : '{');
            fm_jsonl_put_text(&row, name, strlen(name));
            fm_str_putc(&row, ':');
            fm_jsonl_put_text(&row, rec.field[i].ptr, rec.field[i].len);
        }
        fm_str_putc(&row, '}');
        s = fm_str_check(&row);
        if (s == FM_OK && !good) {
            refuse(r, rec.line, "no UTF-8", NULL);
        } else if (s == FM_OK) {
            s = put_object(r, a, row.data, row.len, rec.line, o);
        }
    }
    if (s != FM_OK && s != FM_ERR_NO_MEMORY) {
        fm_error_clear();
        r->bad = "the header of the table cannot be read";
        s = FM_OK;
    }
    fm_str_free(&row);
    fm_csv_close(c);
    return s;
}

fm_status fm_ingest_rows_read(fm_ingest_rows *r, fm_ingest_kind kind, bool gzip, const char *p, size_t n,
                              const fm_ingest_options *o) {
    fm_bump a = {0};
    fm_str plain = {0};
    fm_status s = FM_OK;
    fm_str_clear(&r->lines);
    fm_str_clear(&r->errors);
    r->n_rows = r->n_refused = r->n_errors = 0;
    r->bad = NULL;
    if (gzip) {
        s = fm_inflate(&plain, p, n, (size_t)o->max_body);
        if (s != FM_OK && s != FM_ERR_NO_MEMORY) {
            fm_error_clear();
            r->bad = s == FM_ERR_DATA ? "unpacked longer than max_body" : "damaged gzip data";
            s = FM_OK;
        }
        p = plain.data ? plain.data : "";
        n = plain.len;
    }
    if (n >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0) {
        p += 3;
        n -= 3;
    }
    if (s == FM_OK && !r->bad && !is_blank(p, n)) {
        s = kind == FM_INGEST_JSONL  ? read_jsonl(r, &a, p, n, o)
            : kind == FM_INGEST_JSON ? read_json(r, &a, p, n, o)
                                     : read_table(r, &a, p, n, kind == FM_INGEST_CSV ? ',' : '\t', o);
    }
    s = s == FM_OK ? fm_str_check(&r->errors) : s;
    fm_str_free(&plain);
    fm_bump_free(&a);
    return s;
}
