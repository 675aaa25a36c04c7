/* Parquet. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/reader.h"
#include "io/parquet.h"

typedef struct source {
    fm_parquet *p;
    int64_t consumed, row;
    fm_status pending; /* a failure, reported behind the rows before it */
    fm_error_record error;
} source;

static fm_status open_parquet(void **state, const char *path, const fm_reader_options *o) {
    FM_UNUSED(o);
    source *s = fm_calloc(1, sizeof *s);
    *state = s;
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a reader for '%s'", path);
    }
    return fm_parquet_open(&s->p, path);
}

static void close_parquet(void *state) {
    source *s = state;
    if (s) {
        fm_parquet_close(s->p);
        fm_free(s);
    }
}

static fm_status take_row(fm_recs *b, const source *s, const fm_sv *names, const fm_parquet_value *row, size_t *bytes) {
    static const fm_cell_kind kinds[] = {
        [FM_JSON_MISSING] = FM_CELL_NULL, [FM_JSON_NULL] = FM_CELL_NULL,   [FM_JSON_FALSE] = FM_CELL_BOOL,
        [FM_JSON_TRUE] = FM_CELL_BOOL,    [FM_JSON_NUMBER] = FM_CELL_INT,  [FM_JSON_STRING] = FM_CELL_TEXT,
        [FM_JSON_ARRAY] = FM_CELL_JSON,   [FM_JSON_OBJECT] = FM_CELL_JSON,
    };
    fm_rec *r;
    FM_TRY(fm_recs_add(b, &r));
    r->line = s->row;
    for (size_t i = 0; i < fm_parquet_n_columns(s->p); i++) {
        fm_cell c = {.name = names[i], .kind = kinds[row[i].kind]};
        FM_TRY(fm_bump_sv(&b->arena, &c.text, row[i].text.ptr, row[i].text.len));
        if (row[i].kind == FM_JSON_NUMBER &&
            (memchr(c.text.ptr, '.', c.text.len) || memchr(c.text.ptr, 'e', c.text.len))) {
            c.kind = FM_CELL_FLOAT;
        }
        FM_TRY(fm_rec_push(&b->arena, r, c));
        *bytes += c.text.len + 8;
    }
    return FM_OK;
}

static fm_status next_parquet(void *state, fm_recs *b, bool *more) {
    source *s = state;
    size_t n = fm_parquet_n_columns(s->p), bytes = 0;
    *more = true;
    if (s->pending != FM_OK) {
        fm_error_restore(&s->error);
        return s->pending;
    }
    fm_sv *names = fm_bump_alloc(&b->arena, (n + 1) * sizeof *names);
    if (!names) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate %zu column names", n);
    }
    for (size_t i = 0; i < n; i++) {
        const char *name = fm_parquet_column(s->p, i);
        FM_TRY(fm_bump_sv(&b->arena, &names[i], name, strlen(name)));
    }
    while (*more && bytes < FM_READER_BLOCK) {
        const fm_parquet_value *row = NULL;
        fm_status st = fm_parquet_next(s->p, &row, more);
        if (st != FM_OK) {
            *more = b->n > 0;
            if (!*more || st == FM_ERR_NO_MEMORY) {
                return st;
            }
            s->pending = st;
            fm_error_save(&s->error);
            break;
        }
        if (*more) {
            s->row++;
            FM_TRY(take_row(b, s, names, row, &bytes));
            bytes += 16;
        }
    }
    *more = b->n > 0;
    b->bytes = fm_parquet_consumed(s->p) - s->consumed;
    s->consumed += b->bytes;
    return FM_OK;
}

const fm_reader_def fm_reader_parquet = {
    .name = "parquet",
    .suffixes = ".parquet|.pq",
    .help = "Parquet; nested columns become JSON, decimals and times exact text",
    .open = open_parquet,
    .next = next_parquet,
    .close = close_parquet,
};
