/* Rows of text from files. */
#include "data/source.h"

#include "base/error.h"
#include "base/mem.h"
#include "io/rows.h"

struct fm_source {
    fm_rows *rows;
};

fm_status fm_source_open(fm_source **out, const fm_source_options *o) {
    *out = NULL;
    fm_source *s = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a reader");
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
        fm_free(s);
    }
}

fm_status fm_source_next(fm_source *s, fm_source_row *row, bool *more) {
    fm_row r;
    FM_TRY(fm_rows_next(s->rows, &r, more));
    if (*more) {
        *row = (fm_source_row){.text = r.text, .file = r.source, .line = r.line};
    }
    return FM_OK;
}

int64_t fm_source_n_good(const fm_source *s) {
    return fm_rows_n_good(s->rows);
}
int64_t fm_source_n_bad(const fm_source *s) {
    return fm_rows_n_bad(s->rows);
}
size_t fm_source_n_files(const fm_source *s) {
    return fm_rows_n_files(s->rows);
}
const char *fm_source_file(const fm_source *s, size_t i) {
    return fm_rows_file(s->rows, i);
}
