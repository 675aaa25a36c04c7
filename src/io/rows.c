/* Text, JSONL and JSON arrays are read through io/lines, CSV through io/csv. A file is opened when the
 * one before it is done, so that a folder of any size needs one descriptor. */
#include "io/rows.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/csv.h"
#include "io/jsonl.h"
#include "io/lines.h"

#define DEFAULT_MAX ((size_t)64 << 20)

typedef enum reader { NONE, TXT, JSONL, JSON_ARRAY, TABLE } reader;

/* A piece of the template: literal text, or a column. */
typedef struct part {
    char *text; /* literal, or name of the column */
    bool is_column;
    size_t value; /* index into values and csv_index for a column */
} part;

struct fm_rows {
    fm_rows_options o;
    char **files;
    size_t n_files, files_cap, next_file;

    part *parts;
    size_t n_parts, parts_cap;
    const char **names; /* [n_values] columns of the template, borrowed from parts */
    fm_json_value *values;
    int64_t *csv_index;
    size_t n_values;

    reader reader;
    const char *source;
    fm_lines *lines;
    fm_csv *csv;
    fm_line held; /* a line read but not used yet */
    bool has_held;
    fm_str doc; /* text document, or the whole JSON array */
    fm_sv rest; /* of the array */
    int64_t rest_line;

    fm_csv_record record; /* the current row */
    fm_sv raw;
    int64_t line;
    fm_str text;
    int64_t n_good, n_bad, index;
};

static void refuse(fm_rows *r, int64_t line, const char *reason) {
    r->n_bad++;
    r->index++;
    if (r->o.on_bad) {
        r->o.on_bad(r->o.user, r->source, line, reason);
    }
}

static bool ends_with(const char *s, size_t n, const char *tail) {
    size_t k = strlen(tail);
    return n > k && strncasecmp(s + n - k, tail, k) == 0;
}

/* Format by the name; NONE when the name does not tell. */
static reader reader_of_name(const char *name, char *delimiter) {
    size_t n = strlen(name);
    if (ends_with(name, n, ".gz")) {
        n -= 3;
    } else if (ends_with(name, n, ".zst")) {
        n -= 4;
    }
    *delimiter = ends_with(name, n, ".tsv") ? '\t' : ',';
    if (ends_with(name, n, ".csv") || ends_with(name, n, ".tsv")) {
        return TABLE;
    }
    if (ends_with(name, n, ".json")) {
        return JSON_ARRAY; /* or JSONL: its first character tells */
    }
    if (ends_with(name, n, ".jsonl") || ends_with(name, n, ".ndjson")) {
        return JSONL;
    }
    return ends_with(name, n, ".txt") || ends_with(name, n, ".md") ? TXT : NONE;
}

static fm_status add_file(fm_rows *r, const char *path) {
    void *p = r->files;
    FM_TRY(fm_grow(&p, &r->files_cap, r->n_files + 1, sizeof *r->files));
    r->files = p;
    r->files[r->n_files] = fm_strdup(path);
    if (!r->files[r->n_files]) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a path");
    }
    r->n_files++;
    return FM_OK;
}

static fm_status add_dir(fm_rows *r, const char *dir) {
    char **names, path[4096], unused;
    size_t n, before = r->n_files;
    FM_TRY(fm_dir_list(&names, &n, dir));
    fm_status s = FM_OK;
    for (size_t i = 0; i < n && s == FM_OK; i++) {
        if (reader_of_name(names[i], &unused) == NONE) {
            continue;
        }
        s = fm_path_join(path, sizeof path, dir, names[i]);
        if (s == FM_OK && !fm_path_is_dir(path)) {
            s = add_file(r, path);
        }
    }
    fm_names_free(names, n);
    FM_TRY(s);
    if (r->n_files == before) {
        fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "folder '%s' has no data files", dir);
        return fm_error_hint("known names end in .txt .md .json .jsonl .ndjson .csv .tsv, also with .gz or .zst");
    }
    return FM_OK;
}

static fm_status add_path(fm_rows *r, const char *path) {
    if (strcmp(path, "-") == 0) {
        return add_file(r, path);
    }
    char **found;
    size_t n;
    FM_TRY(fm_glob(&found, &n, path));
    fm_status s = FM_OK;
    for (size_t i = 0; i < n && s == FM_OK; i++) {
        s = fm_path_is_dir(found[i]) ? add_dir(r, found[i]) : add_file(r, found[i]);
    }
    fm_names_free(found, n);
    return s;
}

static fm_status add_part(fm_rows *r, const char *p, size_t n, bool is_column) {
    if (n == 0 && !is_column) {
        return FM_OK;
    }
    void *q = r->parts;
    FM_TRY(fm_grow(&q, &r->parts_cap, r->n_parts + 1, sizeof *r->parts));
    r->parts = q;
    part *t = &r->parts[r->n_parts];
    t->is_column = is_column;
    t->value = 0;
    t->text = fm_strndup(p, n);
    if (!t->text) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the template");
    }
    r->n_parts++;
    return FM_OK;
}

static fm_status parse_template(fm_rows *r, const char *text) {
    const char *p = text;
    while (*p) {
        size_t n = strcspn(p, "{}");
        FM_TRY(add_part(r, p, n, false));
        p += n;
        if (!*p) {
            break;
        }
        if (p[1] == *p) { /* a doubled brace is a brace */
            FM_TRY(add_part(r, p, 1, false));
            p += 2;
            continue;
        }
        size_t len = strcspn(p + 1, "{}");
        if (*p == '}' || p[1 + len] != '}' || len == 0) {
            fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "template '%s': brace at position %zu has no partner", text,
                         (size_t)(p - text) + 1);
            return fm_error_hint("columns are written {name}; a brace itself is written twice");
        }
        FM_TRY(add_part(r, p + 1, len, true));
        p += len + 2;
    }
    size_t n = 0;
    for (size_t i = 0; i < r->n_parts; i++) {
        n += r->parts[i].is_column;
    }
    r->names = fm_calloc(n + 1, sizeof *r->names);
    r->values = fm_calloc(n + 1, sizeof *r->values);
    r->csv_index = fm_calloc(n + 1, sizeof *r->csv_index);
    if (!r->names || !r->values || !r->csv_index) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the template");
    }
    for (size_t i = 0; i < r->n_parts; i++) {
        if (r->parts[i].is_column) {
            r->parts[i].value = r->n_values;
            r->names[r->n_values++] = r->parts[i].text;
        }
    }
    return FM_OK;
}

fm_status fm_rows_open(fm_rows **out, const char *const *paths, size_t n_paths, const fm_rows_options *options) {
    *out = NULL;
    fm_rows *r = fm_calloc(1, sizeof *r);
    if (!r) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a row reader");
    }
    if (options) {
        r->o = *options;
    }
    if (r->o.max_row_bytes == 0) {
        r->o.max_row_bytes = DEFAULT_MAX;
    }
    const char *text = r->o.template_text ? r->o.template_text : "{text}";
    r->o.template_text = NULL; /* the caller's; parts hold it from here */
    fm_status s = r->o.raw_only ? FM_OK : parse_template(r, text);
    for (size_t i = 0; i < n_paths && s == FM_OK; i++) {
        s = add_path(r, paths[i]);
    }
    if (s != FM_OK) {
        fm_rows_close(r);
        return s;
    }
    *out = r;
    return FM_OK;
}

static void close_file(fm_rows *r) {
    fm_lines_close(r->lines);
    fm_csv_close(r->csv);
    r->lines = NULL;
    r->csv = NULL;
    r->reader = NONE;
    r->has_held = false;
}

void fm_rows_close(fm_rows *r) {
    if (!r) {
        return;
    }
    close_file(r);
    fm_names_free(r->files, r->n_files);
    for (size_t i = 0; i < r->n_parts; i++) {
        fm_free(r->parts[i].text);
    }
    fm_free(r->parts);
    fm_free(r->names);
    fm_free(r->values);
    fm_free(r->csv_index);
    fm_str_free(&r->doc);
    fm_str_free(&r->text);
    fm_free(r);
}

static fm_status next_line(fm_rows *r, fm_line *l, bool *more) {
    if (r->has_held) {
        *l = r->held;
        r->has_held = false;
        *more = true;
        return FM_OK;
    }
    return fm_lines_next(r->lines, l, more);
}

/* First character that is not blank; '\0' when there is none. */
static char first_char(const fm_line *l) {
    size_t i = 0;
    while (i < l->len && (l->ptr[i] == ' ' || l->ptr[i] == '\t')) {
        i++;
    }
    return i < l->len ? l->ptr[i] : '\0';
}

/* The whole array into doc. Its items are checked one by one later. */
static fm_status load_array(fm_rows *r) {
    fm_line l;
    bool more;
    fm_str_clear(&r->doc);
    r->rest_line = r->has_held ? r->held.number : 1;
    for (;;) {
        FM_TRY(next_line(r, &l, &more));
        if (!more) {
            break;
        }
        fm_str_append(&r->doc, l.ptr, l.len);
        fm_str_putc(&r->doc, '\n');
        FM_TRY(fm_str_check(&r->doc));
    }
    r->rest.ptr = r->doc.data;
    r->rest.len = r->doc.len;
    return FM_OK;
}

static fm_status find_columns(fm_rows *r) {
    for (size_t i = 0; i < r->n_values; i++) {
        r->csv_index[i] = fm_csv_column(r->csv, r->names[i]);
        if (r->csv_index[i] < 0 && fm_csv_n_columns(r->csv) > 0) {
            fm_str known = {0};
            for (size_t k = 0; k < fm_csv_n_columns(r->csv); k++) {
                fm_str_printf(&known, "%s%s", k ? ", " : "", fm_csv_column_name(r->csv, k));
            }
            fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s: column '%s' is missing", r->source, r->names[i]);
            fm_error_hint("columns are: %s; say which to use with a template such as \"{question} {answer}\"",
                          known.failed ? "?" : known.data);
            fm_str_free(&known);
            return FM_ERR_CONFIG;
        }
    }
    return FM_OK;
}

static fm_status open_file(fm_rows *r, const char *path) {
    char delimiter = r->o.format == FM_ROWS_TSV ? '\t' : ',';
    reader kind = NONE;
    r->source = strcmp(path, "-") == 0 ? "stdin" : path;
    switch (r->o.format) {
    case FM_ROWS_AUTO:
        kind = reader_of_name(path, &delimiter);
        break;
    case FM_ROWS_TXT:
        kind = TXT;
        break;
    case FM_ROWS_JSONL:
        kind = JSONL;
        break;
    case FM_ROWS_CSV:
    case FM_ROWS_TSV:
        kind = TABLE;
        break;
    }
    if (kind == TABLE) {
        fm_csv_options c = {delimiter, false, r->o.max_row_bytes};
        FM_TRY(fm_csv_open(&r->csv, path, &c));
        r->reader = TABLE;
        return find_columns(r);
    }
    /* An array may be one line: the limit then counts for its items. */
    FM_TRY(fm_lines_open(&r->lines, path, kind == JSON_ARRAY ? SIZE_MAX / 4 : r->o.max_row_bytes));
    if (kind == NONE || kind == JSON_ARRAY) {
        char c = '\0';
        bool more = true;
        while (more && c == '\0') {
            FM_TRY(fm_lines_next(r->lines, &r->held, &more));
            c = more ? first_char(&r->held) : '\0';
            if (kind == NONE) {
                break; /* blank lines may belong to a text */
            }
        }
        r->has_held = more;
        kind = c == '{' ? JSONL : kind == JSON_ARRAY ? JSON_ARRAY : TXT;
    }
    r->reader = kind;
    return kind == JSON_ARRAY ? load_array(r) : FM_OK;
}

/* One document of a text file into doc, from one line, the lines up to a blank one, or all. */
static fm_status next_text(fm_rows *r, bool *more) {
    fm_txt_unit unit = r->o.txt_unit;
    bool any = false, too_long = false;
    fm_str_clear(&r->doc);
    for (;;) {
        fm_line l;
        bool line;
        FM_TRY(next_line(r, &l, &line));
        bool blank = line && !l.too_long && first_char(&l) == '\0';
        if (!line || (blank && any && unit != FM_TXT_FILE)) {
            break;
        }
        if (blank && !any) { /* none at the beginning */
            continue;
        }
        if (!any) {
            r->line = l.number;
        } else if (!too_long) {
            fm_str_putc(&r->doc, '\n');
        }
        any = true;
        too_long = too_long || l.too_long || r->doc.len + l.len > r->o.max_row_bytes;
        if (!too_long) {
            fm_str_append(&r->doc, l.ptr, l.len);
            FM_TRY(fm_str_check(&r->doc));
        }
        if (unit == FM_TXT_LINE) {
            break;
        }
    }
    *more = any;
    while (r->doc.len && r->doc.data[r->doc.len - 1] == '\n') { /* nor at the end */
        r->doc.data[--r->doc.len] = '\0';
    }
    r->raw.ptr = too_long ? NULL : r->doc.data;
    r->raw.len = r->doc.len;
    return FM_OK;
}

/* One object of the array. After a fault nothing says where the next item begins: the rest is lost. */
static fm_status next_item(fm_rows *r, bool *more) {
    fm_json_value v;
    const char *why, *at, *p = r->rest.ptr, *end = p + r->rest.len;
    *more = false;
    while (p < end && strchr(" \t\n[,", *p)) {
        r->rest_line += *p == '\n';
        p++;
    }
    if (p == end || *p == ']') {
        r->rest.len = 0;
        return FM_OK;
    }
    const char *q = fm_jsonl_value(&v, p, end, &why, &at);
    r->line = r->rest_line;
    *more = true;
    for (const char *c = p; c < (q ? q : p); c++) {
        r->rest_line += *c == '\n';
    }
    if (!q) {
        r->raw.ptr = NULL;
        r->raw.len = 0;
        r->rest.len = 0;
        char reason[160];
        int64_t line = r->line;
        for (const char *c = p; c < at; c++) {
            line += *c == '\n';
        }
        snprintf(reason, sizeof reason, "%s at line %lld; the rest of the array is not read", why, (long long)line);
        refuse(r, r->line, reason);
        return FM_OK;
    }
    r->raw = v.raw;
    r->rest.ptr = q;
    r->rest.len = (size_t)(end - q);
    return FM_OK;
}

/* The template over the current JSON object; false when the row was refused. */
static bool fill_json(fm_rows *r) {
    if (fm_jsonl_scan(r->raw.ptr, r->raw.len, r->names, r->n_values, r->values) != FM_OK) {
        refuse(r, r->line, fm_error_get().message);
        return false;
    }
    for (size_t i = 0; i < r->n_parts; i++) {
        const part *t = &r->parts[i];
        if (!t->is_column) {
            fm_str_puts(&r->text, t->text);
            continue;
        }
        const fm_json_value *v = &r->values[t->value];
        const char *fault = v->kind == FM_JSON_MISSING                              ? "missing"
                            : v->kind == FM_JSON_NULL                               ? "null"
                            : v->kind == FM_JSON_ARRAY || v->kind == FM_JSON_OBJECT ? "not a plain value"
                                                                                    : NULL;
        if (fault) {
            char reason[256];
            snprintf(reason, sizeof reason, "column '%.150s' is %s", t->text, fault);
            refuse(r, r->line, reason);
            return false;
        }
        fm_jsonl_text(&r->text, v);
    }
    return true;
}

static void fill_csv(fm_rows *r) {
    for (size_t i = 0; i < r->n_parts; i++) {
        const part *t = &r->parts[i];
        if (t->is_column) {
            fm_sv f = r->record.field[r->csv_index[t->value]];
            fm_str_append(&r->text, f.ptr, f.len);
        } else {
            fm_str_puts(&r->text, t->text);
        }
    }
}

/* The next raw row of the open file: *more is false at its end, *ok false when it was refused. */
static fm_status next_raw(fm_rows *r, bool *more, bool *ok) {
    *ok = true;
    r->raw.ptr = NULL;
    r->raw.len = 0;
    if (r->reader == TABLE) {
        FM_TRY(fm_csv_next(r->csv, &r->record, more));
        r->line = r->record.line;
        if (*more && r->record.bad) {
            refuse(r, r->line, r->record.bad);
            *ok = false;
        }
        return FM_OK;
    }
    if (r->reader == JSON_ARRAY) {
        FM_TRY(next_item(r, more));
        *ok = r->raw.ptr != NULL;
        return FM_OK;
    }
    if (r->reader == TXT) {
        FM_TRY(next_text(r, more));
    } else {
        fm_line l;
        do {
            FM_TRY(next_line(r, &l, more));
        } while (*more && !l.too_long && first_char(&l) == '\0');
        r->line = l.number;
        r->raw.ptr = l.ptr;
        r->raw.len = l.len;
    }
    if (*more && !r->raw.ptr) {
        char reason[200];
        snprintf(reason, sizeof reason, "longer than %zu bytes%s", r->o.max_row_bytes,
                 r->reader == TXT && r->o.txt_unit == FM_TXT_FILE
                     ? "; txt_unit=paragraph or line makes rows of its parts"
                     : "");
        refuse(r, r->line, reason);
        *ok = false;
    }
    return FM_OK;
}

/* Makes the text of the current row; *ok is false when the row was refused. */
static fm_status make_text(fm_rows *r, fm_row *out, bool *ok) {
    fm_str_clear(&r->text);
    *ok = true;
    memset(out, 0, sizeof *out);
    out->source = r->source;
    out->line = r->line;
    out->raw = r->raw;
    if (r->reader == TXT) {
        out->text = r->raw;
    } else if (r->reader == TABLE) {
        fill_csv(r);
    } else {
        *ok = fill_json(r);
    }
    FM_TRY(fm_str_check(&r->text));
    if (*ok && r->reader != TXT) {
        out->text.ptr = r->text.data ? r->text.data : "";
        out->text.len = r->text.len;
    }
    if (!*ok || (r->o.raw_only && r->reader != TXT)) {
        return FM_OK;
    }
    const char *fault = out->text.len == 0                             ? "empty text"
                        : !fm_utf8_valid(out->text.ptr, out->text.len) ? "invalid UTF-8"
                                                                       : NULL;
    if (fault) {
        refuse(r, r->line, fault);
        *ok = false;
    }
    return FM_OK;
}

fm_status fm_rows_next(fm_rows *r, fm_row *out, bool *more) {
    memset(out, 0, sizeof *out);
    *more = false;
    for (;;) {
        if (r->reader == NONE) {
            if (r->next_file == r->n_files) {
                return FM_OK;
            }
            FM_TRY(open_file(r, r->files[r->next_file++]));
        }
        bool here, ok;
        FM_TRY(next_raw(r, &here, &ok));
        if (!here) {
            close_file(r);
            continue;
        }
        if (ok) {
            FM_TRY(make_text(r, out, &ok));
        }
        if (ok) {
            out->index = r->index++;
            r->n_good++;
            *more = true;
            return FM_OK;
        }
    }
}

fm_status fm_rows_column(fm_rows *r, const char *name, fm_str *out) {
    if (r->reader == TABLE) {
        int64_t i = fm_csv_column(r->csv, name);
        if (i < 0) {
            FM_FAIL(FM_ERR_DATA, "column '%s' is missing", name);
        }
        fm_str_append(out, r->record.field[i].ptr, r->record.field[i].len);
    } else if (r->reader == TXT) {
        if (strcmp(name, "text") != 0) {
            FM_FAIL(FM_ERR_DATA, "column '%s' is missing: a text file has the column text only", name);
        }
        fm_str_append(out, r->raw.ptr, r->raw.len);
    } else {
        fm_json_value v;
        FM_TRY(fm_jsonl_scan(r->raw.ptr, r->raw.len, &name, 1, &v));
        if (v.kind == FM_JSON_MISSING || v.kind == FM_JSON_NULL) {
            FM_FAIL(FM_ERR_DATA, "column '%s' is %s", name, v.kind == FM_JSON_NULL ? "null" : "missing");
        }
        fm_jsonl_text(out, &v);
    }
    return fm_str_check(out);
}

void fm_rows_reject(fm_rows *r, const char *reason) {
    r->n_good--;
    r->n_bad++;
    if (r->o.on_bad) {
        r->o.on_bad(r->o.user, r->source, r->line, reason);
    }
}

int64_t fm_rows_n_good(const fm_rows *r) {
    return r->n_good;
}

int64_t fm_rows_n_bad(const fm_rows *r) {
    return r->n_bad;
}

size_t fm_rows_n_files(const fm_rows *r) {
    return r->n_files;
}

const char *fm_rows_file(const fm_rows *r, size_t i) {
    return i < r->n_files ? r->files[i] : NULL;
}
