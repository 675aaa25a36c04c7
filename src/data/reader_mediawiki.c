/* MediaWiki dumps: a row is a page, its wikitext as plain text. Pieces are "id\0ns\0title\0timestamp\0redirect\0" and
 * the wikitext, which is reduced by many threads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/blocks.h"
#include "data/html_rows.h"
#include "data/xml_records.h"
#include "io/wikitext.h"

#define FIELDS 5

typedef struct source {
    fm_xml_records *x;
    const fm_reader_options *o;
    fm_bump arena; /* of one page */
} source;

static fm_status open_wiki(void **state, const char *path, const fm_reader_options *o) {
    source *s = fm_calloc(1, sizeof *s);
    *state = s;
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a reader for '%s'", path);
    }
    s->o = o;
    return fm_xml_records_open(&s->x, path, "//page", o);
}

static void close_wiki(void *state) {
    source *s = state;
    if (s) {
        fm_xml_records_close(s->x);
        fm_bump_free(&s->arena);
        fm_free(s);
    }
}

static fm_status put_page(fm_recs *b, const fm_xml_node *page, int64_t line) {
    static const char *const paths[FIELDS] = {"id", "ns", "title", "revision/timestamp", "redirect/@title"};
    size_t at = b->raw.len;
    for (size_t i = 0; i < FIELDS; i++) {
        fm_xml_put_text(&b->raw, fm_xml_at(page, paths[i]));
        fm_str_append(&b->raw, "", 1);
    }
    const fm_xml_node *text = fm_xml_at(page, "revision/text");
    if (text) {
        fm_str_append(&b->raw, text->flat.ptr, text->flat.len);
    }
    FM_TRY(fm_str_check(&b->raw));
    return fm_recs_piece(b, at, b->raw.len - at, line, NULL);
}

static fm_status read_some(source *s, fm_recs *b) {
    while (b->raw.len < FM_READER_BLOCK && b->n_pieces < 20000) {
        const fm_xml_node *page;
        const char *bad;
        int64_t line;
        bool more;
        fm_bump_reset(&s->arena);
        FM_TRY(fm_xml_records_next(s->x, &s->arena, &page, &line, &bad, &more));
        if (!more) {
            break;
        }
        FM_TRY(page ? put_page(b, page, line) : fm_recs_piece(b, 0, 0, line, bad));
    }
    return FM_OK;
}

static fm_status next_wiki(void *state, fm_recs *b, bool *more) {
    source *s = state;
    FM_TRY(fm_xml_records_pending(s->x));
    return fm_xml_records_done(s->x, b, read_some(s, b), more);
}

/* Namespaces that are read: "0" or "0,14", "all". */
static bool wanted(const char *ns, const char *list) {
    size_t n = strlen(ns);
    if (strcmp(list, "all") == 0 || n == 0) { /* dumps older than 2010 name no namespace */
        return true;
    }
    for (const char *p = list; *p;) {
        size_t k = strcspn(p, ", ");
        if (k == n && memcmp(p, ns, n) == 0) {
            return true;
        }
        p += k + (p[k] != '\0');
    }
    return false;
}

static fm_status set(fm_bump *a, fm_rec *r, const char *name, const char *v) {
    return *v ? fm_rec_set_text(a, r, name, v, strlen(v)) : FM_OK;
}

static fm_status parse_page(fm_recs *b, const fm_piece *p, const fm_reader_options *o, fm_wikitext *w) {
    const char *at = b->raw.data + p->at, *end = at + p->len, *field[FIELDS], *reason = NULL, *detail = NULL;
    for (size_t i = 0; i < FIELDS; i++) {
        field[i] = at;
        at += strlen(at) + 1;
    }
    if (!wanted(field[1], o->record_path ? o->record_path : "0")) {
        reason = "a page of another namespace";
        detail = field[1];
    } else if (*field[4] || fm_wikitext_is_redirect(at, (size_t)(end - at))) {
        reason = "a redirect";
        detail = field[4];
    } else if (o->html != FM_HTML_SOURCE) {
        FM_TRY(fm_wikitext_plain(w, at, (size_t)(end - at)));
        reason = w->text.len ? NULL : "no text in the page";
    }
    if (reason) {
        return fm_recs_reject(b, p->line, reason, detail, fm_sv_of(field[2]));
    }
    fm_rec *r;
    FM_TRY(fm_recs_add(b, &r));
    r->line = p->line;
    int64_t id;
    if (fm_parse_i64(&id, field[0]) == FM_OK) {
        FM_TRY(fm_rec_set_int(&b->arena, r, "id", id));
    }
    fm_error_clear();
    FM_TRY(set(&b->arena, r, "title", field[2]));
    FM_TRY(set(&b->arena, r, "timestamp", field[3]));
    if (o->html == FM_HTML_SOURCE) {
        return fm_rec_set_text(&b->arena, r, o->text_column, at, (size_t)(end - at));
    }
    if (w->categories.len) {
        FM_TRY(fm_rec_set_json(&b->arena, r, "categories", w->categories.data, w->categories.len));
    }
    return fm_rec_set_text(&b->arena, r, o->text_column, w->text.data, w->text.len);
}

static fm_status parse_wiki(fm_recs *b, const fm_reader_options *o) {
    fm_wikitext w = {0};
    fm_status s = FM_OK;
    for (size_t i = 0; i < b->n_pieces && s == FM_OK; i++) {
        const fm_piece *p = &b->piece[i];
        s = p->bad ? fm_recs_reject(b, p->line, p->bad, NULL, (fm_sv){NULL, 0}) : parse_page(b, p, o, &w);
    }
    fm_wikitext_free(&w);
    return s;
}

static bool is_wiki(const char *path) {
    return fm_reader_xml_has(path, "<mediawiki");
}

const fm_reader_def fm_reader_mediawiki = {
    .name = "mediawiki",
    .help = "MediaWiki XML dumps: id, title, timestamp, categories and text of each article",
    .open = open_wiki,
    .next = next_wiki,
    .parse = parse_wiki,
    .close = close_wiki,
    .is_mine = is_wiki,
};
