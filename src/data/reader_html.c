/* HTML: a file is a page, a page is a row. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/blocks.h"
#include "data/html_rows.h"

typedef struct source {
    char *path;
    const fm_reader_options *o;
    bool done;
} source;

static fm_status open_html(void **state, const char *path, const fm_reader_options *o) {
    source *s = fm_calloc(1, sizeof *s);
    *state = s;
    if (s) {
        s->o = o;
        s->path = fm_strdup(path);
    }
    if (!s || !s->path) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a reader for '%s'", path);
    }
    return FM_OK;
}

static void close_html(void *state) {
    source *s = state;
    if (s) {
        fm_free(s->path);
        fm_free(s);
    }
}

static fm_status next_html(void *state, fm_recs *b, bool *more) {
    source *s = state;
    bool too_long;
    *more = !s->done;
    if (s->done) {
        return FM_OK;
    }
    s->done = true;
    FM_TRY(fm_reader_whole(&b->raw, &too_long, &b->bytes, s->path, s->o));
    return fm_recs_piece(b, 0, too_long ? 0 : b->raw.len, 1, too_long ? "longer than max_row_bytes" : NULL);
}

static fm_status parse_html(fm_recs *b, const fm_reader_options *o) {
    for (size_t i = 0; i < b->n_pieces; i++) {
        const fm_piece *p = &b->piece[i];
        const char *text = b->raw.data ? b->raw.data + p->at : "";
        fm_rec *r;
        bool empty = true;
        if (!p->bad) {
            FM_TRY(fm_recs_add(b, &r));
            r->line = p->line;
            FM_TRY(fm_html_row(&b->arena, r, text, p->len, NULL, o, &empty));
            b->n -= empty;
        }
        if (empty) {
            FM_TRY(fm_recs_reject(b, p->line, p->bad ? p->bad : "no text in the page", NULL, (fm_sv){text, p->len}));
        }
    }
    return FM_OK;
}

const fm_reader_def fm_reader_html = {
    .name = "html",
    .suffixes = ".html|.htm|.xhtml",
    .help = "web pages: title, language and text of each file; --html says which text",
    .open = open_html,
    .next = next_html,
    .parse = parse_html,
    .close = close_html,
};
