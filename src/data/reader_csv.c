/* CSV and TSV with a header line; every cell is text. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "data/blocks.h"
#include "io/csv.h"

typedef struct table {
    fm_csv *csv;
    int64_t consumed;
    bool no_header, repair;
} table;

static fm_status open_table(void **state, const char *path, const fm_reader_options *o, char delimiter) {
    table *t = fm_calloc(1, sizeof *t);
    *state = t;
    if (!t) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a reader for '%s'", path);
    }
    t->no_header = o->no_header;
    t->repair = o->repair_utf8;
    fm_csv_options c = {o->delimiter ? o->delimiter : delimiter, o->no_header, o->max_row_bytes};
    fm_stream *in;
    FM_TRY(fm_reader_stream(&in, path, o));
    return fm_csv_open_stream(&t->csv, in, &c);
}

static fm_status open_csv(void **state, const char *path, const fm_reader_options *o) {
    return open_table(state, path, o, ',');
}

static fm_status open_tsv(void **state, const char *path, const fm_reader_options *o) {
    return open_table(state, path, o, '\t');
}

static void close_table(void *state) {
    table *t = state;
    if (t) {
        fm_csv_close(t->csv);
        fm_free(t);
    }
}

/* Names of a batch's columns, copied once. */
static fm_status names_of(const table *t, fm_recs *b, fm_sv **names, size_t n) {
    *names = fm_bump_alloc(&b->arena, (n + 1) * sizeof **names);
    if (!*names) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate %zu column names", n);
    }
    for (size_t i = 0; i < n; i++) {
        fm_str s = {0};
        if (t->no_header) {
            fm_str_printf(&s, "c%zu", i + 1);
        } else {
            fm_str_puts(&s, fm_csv_column_name(t->csv, i));
        }
        fm_status st = fm_str_check(&s);
        if (st == FM_OK) {
            st = fm_bump_sv(&b->arena, &(*names)[i], s.data, s.len);
        }
        fm_str_free(&s);
        FM_TRY(st);
    }
    return FM_OK;
}

static fm_status take_record(const table *t, fm_recs *b, const fm_csv_record *r, const fm_sv *names) {
    fm_rec *rec;
    FM_TRY(fm_recs_add(b, &rec));
    rec->line = r->line;
    for (size_t i = 0; i < r->n_fields; i++) {
        fm_cell c = {.name = names[i], .kind = FM_CELL_TEXT};
        fm_sv f = r->field[i];
        if (fm_utf8_valid(f.ptr, f.len)) {
            FM_TRY(fm_bump_sv(&b->arena, &c.text, f.ptr, f.len));
        } else if (t->repair) {
            FM_TRY(fm_bump_repair(&b->arena, &c.text, f));
        } else {
            b->n--;
            return fm_recs_reject(b, r->line, "invalid UTF-8", NULL, f);
        }
        FM_TRY(fm_rec_push(&b->arena, rec, c));
    }
    return FM_OK;
}

static fm_status next_table(void *state, fm_recs *b, bool *more) {
    table *t = state;
    fm_sv *names = NULL;
    size_t bytes = 0;
    *more = true;
    while (bytes < FM_READER_BLOCK && *more) {
        fm_csv_record r;
        FM_TRY(fm_csv_next(t->csv, &r, more));
        if (!*more) {
            break;
        }
        if (r.bad) {
            fm_str raw = {0};
            for (size_t i = 0; i < r.n_fields; i++) {
                fm_str_append(&raw, ",", i > 0);
                fm_str_append(&raw, r.field[i].ptr, r.field[i].len);
            }
            fm_status s = fm_str_check(&raw);
            if (s == FM_OK) {
                s = fm_recs_reject(b, r.line, r.bad, NULL, (fm_sv){raw.data, raw.len});
            }
            fm_str_free(&raw);
            FM_TRY(s);
            bytes += 64;
            continue;
        }
        if (!names) {
            FM_TRY(names_of(t, b, &names, r.n_fields));
        }
        FM_TRY(take_record(t, b, &r, names));
        for (size_t i = 0; i < r.n_fields; i++) {
            bytes += r.field[i].len + 8;
        }
    }
    *more = b->n > 0;
    b->bytes = fm_csv_consumed(t->csv) - t->consumed;
    t->consumed += b->bytes;
    return FM_OK;
}

const fm_reader_def fm_reader_csv = {
    .name = "csv",
    .suffixes = ".csv",
    .help = "comma-separated (RFC 4180) with a header; cells are text",
    .open = open_csv,
    .next = next_table,
    .close = close_table,
};

const fm_reader_def fm_reader_tsv = {
    .name = "tsv",
    .suffixes = ".tsv|.tab",
    .help = "tab-separated with a header; cells are text",
    .open = open_tsv,
    .next = next_table,
    .close = close_table,
};
