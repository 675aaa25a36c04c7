/* Web archives: a row is a page. Pieces are "url\0date\0mime\0language\0kind\0" and the record's content, so that pages
 * are taken apart by many threads. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/blocks.h"
#include "data/html_rows.h"
#include "io/html.h"
#include "io/warc.h"

#define KINDS  "response|conversion|resource"
#define FIELDS 5

typedef struct source {
    fm_warc *w;
    const fm_reader_options *o;
    int64_t consumed;
    fm_status pending; /* a failure, reported behind the rows before it */
    fm_error_record error;
} source;

static fm_status open_warc(void **state, const char *path, const fm_reader_options *o) {
    source *s = fm_calloc(1, sizeof *s);
    *state = s;
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a reader for '%s'", path);
    }
    s->o = o;
    fm_stream *in;
    FM_TRY(fm_stream_open(&in, path));
    return fm_warc_open(&s->w, in, o->max_row_bytes);
}

static void close_warc(void *state) {
    source *s = state;
    if (s) {
        fm_warc_close(s->w);
        fm_free(s);
    }
}

static fm_status put_piece(fm_recs *b, const fm_warc_record *r) {
    const fm_str *fields[FIELDS] = {&r->url, &r->date, &r->mime, &r->language, &r->type};
    size_t at = b->raw.len;
    for (size_t i = 0; i < FIELDS; i++) {
        const char *v = fields[i]->data ? fields[i]->data : "";
        fm_str_append(&b->raw, v, strlen(v) + 1);
    }
    fm_str_append(&b->raw, r->block.data ? r->block.data : "", r->block.len);
    FM_TRY(fm_str_check(&b->raw));
    return fm_recs_piece(b, at, b->raw.len - at, r->number, NULL);
}

static fm_status next_warc(void *state, fm_recs *b, bool *more) {
    source *s = state;
    *more = true;
    if (s->pending != FM_OK) {
        fm_error_restore(&s->error);
        return s->pending;
    }
    while (b->raw.len < FM_READER_BLOCK && b->n_pieces < 4096) {
        const fm_warc_record *r = NULL;
        bool here;
        fm_status st = fm_warc_next(s->w, s->o->record_path ? s->o->record_path : KINDS, &r, &here);
        if (st != FM_OK && st != FM_ERR_NO_MEMORY && b->n_pieces) {
            s->pending = st;
            fm_error_save(&s->error);
            break;
        }
        FM_TRY(st);
        if (!here) {
            *more = b->n_pieces > 0;
            break;
        }
        FM_TRY(r->bad ? fm_recs_piece(b, 0, 0, r->number, r->bad) : put_piece(b, r));
    }
    b->bytes = fm_warc_consumed(s->w) - s->consumed;
    s->consumed += b->bytes;
    return FM_OK;
}

/* ---- pages ------------------------------------------------------------------------------------ */

static bool is_html(const char *mime) {
    return strncasecmp(mime, "text/html", 9) == 0 || strncasecmp(mime, "application/xhtml", 17) == 0;
}

static bool is_text(const char *mime) {
    return strncasecmp(mime, "text/", 5) == 0 || strncasecmp(mime, "application/json", 16) == 0 ||
           strncasecmp(mime, "application/xml", 15) == 0;
}

typedef struct page {
    const char *mime, *label; /* label: encoding, or NULL */
    fm_sv body;
} page;

/* Columns of a page; *reason is why there is no row. */
static fm_status fill(fm_recs *b, fm_rec *r, const page *p, const fm_reader_options *o, const char **reason) {
    size_t look = FM_MIN(p->body.len, (size_t)256), i = 0;
    while (i < look && strchr(" \t\r\n", p->body.ptr[i]) && p->body.ptr[i]) {
        i++;
    }
    bool markup = i < look && p->body.ptr[i] == '<'; /* servers that name no type */
    bool empty = true;
    if (is_html(p->mime) || (!*p->mime && markup)) {
        FM_TRY(fm_html_row(&b->arena, r, p->body.ptr, p->body.len, p->label, o, &empty));
    } else if (is_text(p->mime)) {
        fm_reader_options plain = *o;
        plain.html = FM_HTML_SOURCE;
        FM_TRY(fm_html_row(&b->arena, r, p->body.ptr, p->body.len, p->label, &plain, &empty));
    } else {
        *reason = "no text content";
        return FM_OK;
    }
    *reason = empty ? "no text in the page" : NULL;
    return FM_OK;
}

static fm_status set_field(fm_bump *a, fm_rec *r, const char *name, const char *v) {
    if (!*v) {
        return FM_OK;
    }
    fm_sv text;
    FM_TRY(fm_bump_repair(a, &text, fm_sv_of(v)));
    return fm_rec_set_text(a, r, name, text.ptr, text.len);
}

static fm_status parse_piece(fm_recs *b, const fm_piece *piece, fm_http_message *m, const fm_reader_options *o) {
    const char *at = b->raw.data + piece->at, *end = at + piece->len, *field[FIELDS], *reason = NULL;
    for (size_t i = 0; i < FIELDS; i++) {
        field[i] = at;
        at += strlen(at) + 1;
    }
    const char *mime = field[2], *detail = NULL;
    const char *charset = strcasestr(mime, "charset=");
    char type[128];
    snprintf(type, sizeof type, "%.*s", (int)strcspn(mime, "; "), mime); /* without parameters */
    page p = {.mime = type, .label = charset ? charset + 8 : NULL, .body = {at, (size_t)(end - at)}};
    char status[16] = "";
    bool http = strncasecmp(mime, "application/http", 16) == 0 ||
                (p.body.len > 5 && strcasecmp(field[4], "response") == 0 && memcmp(p.body.ptr, "HTTP/", 5) == 0);
    fm_rec *r;
    FM_TRY(fm_recs_add(b, &r));
    r->line = piece->line;
    FM_TRY(set_field(&b->arena, r, "url", field[0]));
    FM_TRY(set_field(&b->arena, r, "date", field[1]));
    FM_TRY(set_field(&b->arena, r, "language", field[3]));
    if (http) {
        FM_TRY(fm_http_message_read(m, p.body.ptr, p.body.len, o->max_row_bytes));
        p.mime = m->mime.data ? m->mime.data : "";
        p.label = m->charset.len ? m->charset.data : NULL;
        p.body = (fm_sv){m->body.data ? m->body.data : "", m->body.len};
        reason = m->bad;
        if (!reason && (m->status < 200 || m->status > 299)) {
            reason = "the server did not send the page";
            snprintf(status, sizeof status, "status %d", m->status);
            detail = status;
        }
    }
    if (!reason) {
        detail = *p.mime ? p.mime : "no media type";
        FM_TRY(set_field(&b->arena, r, "mime", p.mime));
        FM_TRY(fill(b, r, &p, o, &reason));
    }
    if (reason) {
        b->n--;
        return fm_recs_reject(b, piece->line, reason, detail, fm_sv_of(field[0]));
    }
    return FM_OK;
}

static fm_status parse_warc(fm_recs *b, const fm_reader_options *o) {
    fm_http_message m = {0};
    fm_status s = FM_OK;
    for (size_t i = 0; i < b->n_pieces && s == FM_OK; i++) {
        const fm_piece *p = &b->piece[i];
        s = p->bad ? fm_recs_reject(b, p->line, p->bad, NULL, (fm_sv){NULL, 0}) : parse_piece(b, p, &m, o);
    }
    fm_http_message_free(&m);
    return s;
}

const fm_reader_def fm_reader_warc = {
    .name = "warc",
    .suffixes = ".warc|.wet|.arc",
    .help = "web archives (WARC, Common Crawl's WET, ARC): url, date, title and text of each page",
    .open = open_warc,
    .next = next_warc,
    .parse = parse_warc,
    .close = close_warc,
};
