/* Rows of tables: see table_rows.h. */
#include "data/table_rows.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

typedef struct source {
    fm_table t;
    int64_t consumed, row;
    fm_status pending; /* a failure, reported behind the rows before it */
    fm_error_record error;
} source;

fm_status fm_table_reader_open(void **state, const char *path, fm_table t, fm_status opened) {
    source *s = opened == FM_OK ? fm_calloc(1, sizeof *s) : NULL;
    *state = s;
    FM_TRY(opened);
    if (!s) {
        t.ops->close(t.self);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a reader for '%s'", path);
    }
    s->t = t;
    return FM_OK;
}

void fm_table_reader_close(void *state) {
    source *s = state;
    if (s) {
        s->t.ops->close(s->t.self);
        fm_free(s);
    }
}

static fm_status take_row(fm_recs *b, const source *s, const fm_sv *names, const fm_table_value *row, size_t *bytes) {
    static const fm_cell_kind kinds[] = {
        [FM_JSON_MISSING] = FM_CELL_NULL, [FM_JSON_NULL] = FM_CELL_NULL,   [FM_JSON_FALSE] = FM_CELL_BOOL,
        [FM_JSON_TRUE] = FM_CELL_BOOL,    [FM_JSON_NUMBER] = FM_CELL_INT,  [FM_JSON_STRING] = FM_CELL_TEXT,
        [FM_JSON_ARRAY] = FM_CELL_JSON,   [FM_JSON_OBJECT] = FM_CELL_JSON,
    };
    fm_rec *r;
    FM_TRY(fm_recs_add(b, &r));
    r->line = s->row;
    for (size_t i = 0; i < s->t.ops->n_columns(s->t.self); i++) {
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

fm_status fm_table_reader_next(void *state, fm_recs *b, bool *more) {
    source *s = state;
    size_t n = s->t.ops->n_columns(s->t.self), bytes = 0;
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
        const char *name = s->t.ops->column(s->t.self, i);
        FM_TRY(fm_bump_sv(&b->arena, &names[i], name, strlen(name)));
    }
    while (*more && bytes < FM_READER_BLOCK) {
        const fm_table_value *row = NULL;
        fm_status st = s->t.ops->next(s->t.self, &row, more);
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
    b->bytes = s->t.ops->consumed(s->t.self) - s->consumed;
    s->consumed += b->bytes;
    return FM_OK;
}
