/* Rows of text from files: text, JSON lines and CSV by io/rows.h, which looks at the text column alone; when a file of
 * another format is among them (Parquet, archives, web pages ...) all by the readers' table. */
#include "data/source.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/reader.h"
#include "data/records.h"
#include "io/rows.h"

struct fm_source {
    fm_rows *rows;       /* or */
    fm_records *records; /* with */
    fm_text_template *template_;
    char *column;
    int64_t n_good;
};

/* Opens the readers' table when the input needs it. */
static fm_status open_records(fm_source *s, const fm_source_options *o) {
    static const char *const simple[] = {"txt", "jsonl", "csv", "tsv"};
    for (size_t i = 0; i < o->n_input; i++) {
        /* Of a folder the plain files alone are rows: what else lies there, such as a tokenizer, may be no data. */
        if (o->format != FM_ROWS_AUTO || strcmp(o->input[i], "-") == 0 || fm_path_is_dir(o->input[i])) {
            return FM_OK;
        }
    }
    fm_records_options ro = {.input = {(char **)(uintptr_t)o->input, o->n_input}, .on_bad = o->on_bad, .user = o->user};
    fm_status st = fm_records_open(&s->records, &ro);
    if (st != FM_OK) { /* io/rows.h says what is wrong with the input */
        fm_error_clear();
        return st == FM_ERR_NO_MEMORY ? fm_error_set(st, __FILE__, __LINE__, "no memory for a reader") : FM_OK;
    }
    bool needed = false;
    for (size_t i = 0; i < fm_records_n_files(s->records); i++) {
        bool known = false;
        for (size_t k = 0; k < FM_ARRAY_LEN(simple); k++) {
            known = known || strcmp(fm_records_format(s->records, i), simple[k]) == 0;
        }
        needed = needed || !known;
    }
    if (!needed) {
        fm_records_close(s->records);
        s->records = NULL;
        return FM_OK;
    }
    s->column = fm_strdup(o->text_column ? o->text_column : "text");
    if (!s->column) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a reader");
    }
    return o->text_template ? fm_text_template_new(&s->template_, o->text_template) : FM_OK;
}

fm_status fm_source_open(fm_source **out, const fm_source_options *o) {
    *out = NULL;
    fm_source *s = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a reader");
    }
    fm_status opened = open_records(s, o);
    if (opened != FM_OK || s->records) {
        *out = opened == FM_OK ? s : NULL;
        if (opened != FM_OK) {
            fm_source_close(s);
        }
        return opened;
    }
    fm_str template = {0};
    if (!o->text_template && o->text_column) {
        fm_str_putc(&template, '{');
        fm_str_puts(&template, o->text_column);
        fm_str_putc(&template, '}');
    }
    fm_status st = fm_str_check(&template);
    if (st == FM_OK) {
        fm_rows_options ro = {.format = (fm_row_format)o->format,
                              .txt_unit = (fm_txt_unit)o->txt_unit,
                              .template_text = o->text_template ? o->text_template : template.data,
                              .on_bad = o->on_bad,
                              .user = o->user};
        st = fm_rows_open(&s->rows, o->input, o->n_input, &ro);
    }
    fm_str_free(&template);
    if (st != FM_OK) {
        fm_free(s);
        return st;
    }
    *out = s;
    return FM_OK;
}

void fm_source_close(fm_source *s) {
    if (s) {
        fm_rows_close(s->rows);
        fm_records_close(s->records);
        fm_text_template_free(s->template_);
        fm_free(s->column);
        fm_free(s);
    }
}

static fm_status next_record(fm_source *s, fm_source_row *row, bool *more) {
    for (;;) {
        fm_rec *r;
        fm_bump *arena;
        const char *missing = NULL;
        FM_TRY(fm_records_next(s->records, &r, &arena));
        *more = r != NULL;
        if (!r) {
            return FM_OK;
        }
        FM_TRY(s->template_ ? fm_text_template_fill(s->template_, arena, r, s->column, &missing) : FM_OK);
        const fm_cell *c = fm_rec_get(r, s->column);
        char reason[160];
        if (missing || !c || c->kind == FM_CELL_NULL) {
            snprintf(reason, sizeof reason, "no column '%.100s'", missing ? missing : s->column);
            fm_records_reject(s->records, r, reason);
        } else if (c->kind != FM_CELL_TEXT) {
            snprintf(reason, sizeof reason, "the column '%.100s' is no text", s->column);
            fm_records_reject(s->records, r, reason);
        } else if (c->text.len == 0) {
            fm_records_reject(s->records, r, "empty text");
        } else {
            s->n_good++;
            *row = (fm_source_row){.text = c->text,
                                   .file = fm_records_file(s->records, fm_records_file_index(s->records)),
                                   .line = r->line};
            return FM_OK;
        }
    }
}

fm_status fm_source_next(fm_source *s, fm_source_row *row, bool *more) {
    if (s->records) {
        return next_record(s, row, more);
    }
    fm_row r;
    FM_TRY(fm_rows_next(s->rows, &r, more));
    if (*more) {
        *row = (fm_source_row){.text = r.text, .file = r.source, .line = r.line};
    }
    return FM_OK;
}

int64_t fm_source_n_good(const fm_source *s) {
    return s->records ? s->n_good : fm_rows_n_good(s->rows);
}
int64_t fm_source_n_bad(const fm_source *s) {
    return s->records ? fm_records_n_bad(s->records) : fm_rows_n_bad(s->rows);
}
size_t fm_source_n_files(const fm_source *s) {
    return s->records ? fm_records_n_files(s->records) : fm_rows_n_files(s->rows);
}
const char *fm_source_file(const fm_source *s, size_t i) {
    return s->records ? fm_records_file(s->records, i) : fm_rows_file(s->rows, i);
}
