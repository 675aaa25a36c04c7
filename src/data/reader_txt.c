/* Plain text: a row is a file, a paragraph or a line. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/blocks.h"
#include "io/lines.h"
#include "io/rows.h"

typedef struct texts {
    fm_lines *lines;
    fm_str doc;
    int64_t consumed;
    const fm_reader_options *o;
} texts;

static fm_status open_txt(void **state, const char *path, const fm_reader_options *o) {
    texts *t = fm_calloc(1, sizeof *t);
    *state = t;
    if (!t) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a reader for '%s'", path);
    }
    t->o = o;
    fm_stream *in;
    FM_TRY(fm_reader_stream(&in, path, o));
    return fm_lines_open_stream(&t->lines, in, o->max_row_bytes);
}

static void close_txt(void *state) {
    texts *t = state;
    if (t) {
        fm_lines_close(t->lines);
        fm_str_free(&t->doc);
        fm_free(t);
    }
}

/* One document into doc; *more false at the end. */
static fm_status one(texts *t, int64_t *first, bool *too_long, bool *more) {
    fm_txt_unit unit = (fm_txt_unit)t->o->txt_unit;
    bool any = false;
    *too_long = false;
    fm_str_clear(&t->doc);
    for (;;) {
        fm_line l;
        bool here;
        FM_TRY(fm_lines_next(t->lines, &l, &here));
        size_t k = 0;
        while (here && k < l.len && (l.ptr[k] == ' ' || l.ptr[k] == '\t')) {
            k++;
        }
        bool blank = here && !l.too_long && k == l.len;
        if (!here || (blank && any && unit != FM_TXT_FILE)) {
            break;
        }
        if (blank && !any) {
            continue;
        }
        if (!any) {
            *first = l.number;
        } else if (!*too_long) {
            fm_str_putc(&t->doc, '\n');
        }
        any = true;
        *too_long = *too_long || l.too_long || t->doc.len + l.len > t->o->max_row_bytes;
        if (!*too_long) {
            fm_str_append(&t->doc, l.ptr, l.len);
            FM_TRY(fm_str_check(&t->doc));
        }
        if (unit == FM_TXT_LINE) {
            break;
        }
    }
    while (t->doc.len && t->doc.data[t->doc.len - 1] == '\n') {
        t->doc.data[--t->doc.len] = '\0';
    }
    *more = any;
    return FM_OK;
}

static fm_status next_txt(void *state, fm_recs *b, bool *more) {
    texts *t = state;
    size_t bytes = 0;
    *more = true;
    while (*more && bytes < FM_READER_BLOCK) {
        int64_t line = 0;
        bool too_long;
        FM_TRY(one(t, &line, &too_long, more));
        if (!*more) {
            break;
        }
        fm_sv text = {t->doc.data ? t->doc.data : "", t->doc.len};
        bytes += text.len + 32;
        const char *bad = too_long ? "longer than max_row_bytes; txt_unit paragraph or line makes rows of its parts"
                          : !t->o->repair_utf8 && !fm_utf8_valid(text.ptr, text.len) ? "invalid UTF-8"
                                                                                     : NULL;
        if (bad) {
            FM_TRY(fm_recs_reject(b, line, bad, NULL, text));
            continue;
        }
        fm_rec *r;
        FM_TRY(fm_recs_add(b, &r));
        r->line = line;
        FM_TRY(fm_rec_set_text(&b->arena, r, t->o->text_column, text.ptr, text.len));
        if (t->o->repair_utf8) {
            FM_TRY(fm_bump_repair(&b->arena, &r->cell[0].text, text));
        }
    }
    *more = b->n > 0;
    b->bytes = fm_lines_consumed(t->lines) - t->consumed;
    t->consumed += b->bytes;
    return FM_OK;
}

const fm_reader_def fm_reader_txt = {
    .name = "txt",
    .suffixes = ".txt|.md|.text",
    .help = "plain text; txt_unit says whether a file, a paragraph or a line is a row",
    .open = open_txt,
    .next = next_txt,
    .close = close_txt,
};
