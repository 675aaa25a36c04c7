/* JSON documents: an array of rows, or values one after the other (also spread over several lines). The document is cut
 * into its items by counting brackets outside strings, so that memory holds a block of items, never the whole array;
 * the items are checked when they are parsed. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "data/blocks.h"
#include "data/json_rows.h"

typedef struct splitter {
    fm_blocks in;
    fm_str buf; /* unread bytes from `at` on */
    size_t at;
    bool known, array, over; /* shape of the document; the array is closed */
    int64_t line;
    size_t max_row;
} splitter;

static fm_status open_json(void **state, const char *path, const fm_reader_options *o) {
    splitter *s = fm_calloc(1, sizeof *s);
    *state = s;
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a reader for '%s'", path);
    }
    s->line = 1;
    s->max_row = o->max_row_bytes;
    return fm_blocks_open(&s->in, path, o);
}

static void close_json(void *state) {
    splitter *s = state;
    if (s) {
        fm_blocks_close(&s->in);
        fm_str_free(&s->buf);
        fm_free(s);
    }
}

/* More bytes behind the buffer; *n is 0 at the end. */
static fm_status refill(splitter *s, size_t *n) {
    if (s->at) {
        memmove(s->buf.data, s->buf.data + s->at, s->buf.len - s->at);
        s->buf.len -= s->at;
        s->at = 0;
    }
    return fm_blocks_fill(&s->in, &s->buf, n);
}

/* Passes blanks, commas and the opening bracket; false at the end of the document. */
static fm_status to_item(splitter *s, bool *found) {
    for (;;) {
        while (s->at < s->buf.len) {
            char c = s->buf.data[s->at];
            bool bom = !s->known && (unsigned char)c >= 0xBB && (c == '\xEF' || c == '\xBB' || c == '\xBF');
            if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',' || bom) {
                s->line += c == '\n';
            } else if (!s->known && c == '[') {
                s->known = s->array = true;
            } else if (s->array && c == ']') {
                s->over = true;
            } else {
                s->known = true;
                *found = !s->over;
                return FM_OK;
            }
            s->at++;
        }
        size_t n;
        FM_TRY(refill(s, &n));
        if (n == 0) {
            *found = false;
            return FM_OK;
        }
    }
}

/* The end of the item that begins at `at`, relative to it; *len 0 when the document ends inside it. An item of more
 * than max_row bytes is passed, not kept: *len is SIZE_MAX. */
static fm_status item_end(splitter *s, size_t *len, int64_t *lines) {
    int64_t depth = 0;
    bool string = false, dropped = false;
    size_t i = 0; /* relative to at */
    *lines = 0;
    for (;;) {
        while (s->at + i < s->buf.len) {
            char c = s->buf.data[s->at + i];
            if (string) {
                const char *p = s->buf.data + s->at + i, *end = s->buf.data + s->buf.len;
                while (p < end && *p != '"' && *p != '\\' && *p != '\n') {
                    p++;
                }
                i = (size_t)(p - (s->buf.data + s->at));
                if (p == end) {
                    break;
                }
                if (*p == '\\') {
                    if (p + 1 == end) {
                        break; /* the escaped byte comes with the next fill */
                    }
                    i++;
                }
                string = *p != '"';
                *lines += *p == '\n';
                i++;
            } else if (c == '"') {
                string = true;
                i++;
            } else if (c == '{' || c == '[') {
                depth++;
                i++;
            } else if ((c == '}' || c == ']' || c == ',' || c == '\n' || c == ' ') && depth == 0) {
                *len = dropped ? SIZE_MAX : i;
                s->at += dropped ? i : 0;
                return FM_OK;
            } else {
                *lines += c == '\n';
                depth -= c == '}' || c == ']';
                i++;
            }
            if (depth == 0 && !string && (c == '}' || c == ']')) {
                *len = dropped ? SIZE_MAX : i;
                s->at += dropped ? i : 0;
                return FM_OK;
            }
        }
        if (i > s->max_row || dropped) {
            dropped = true;
            s->at += i;
            i = 0;
        }
        size_t n;
        FM_TRY(refill(s, &n));
        if (n == 0) {
            *len = s->at + i < s->buf.len || depth || string ? 0 : i;
            return FM_OK;
        }
    }
}

static fm_status next_json(void *state, fm_recs *b, bool *more) {
    splitter *s = state;
    int64_t before = fm_stream_consumed(s->in.in);
    *more = true;
    while (b->raw.len < FM_READER_BLOCK) {
        bool found;
        FM_TRY(to_item(s, &found));
        if (!found) {
            if (b->n_pieces == 0 && s->in.pending != FM_OK) {
                fm_error_restore(&s->in.error);
                return s->in.pending;
            }
            if (s->known && s->array && !s->over && s->at >= s->buf.len && s->in.pending == FM_OK) {
                s->over = true;
                FM_TRY(fm_recs_piece(b, 0, 0, s->line, "the array is not closed: the file is cut short"));
            }
            *more = b->n_pieces > 0;
            break;
        }
        size_t len;
        int64_t lines, line = s->line;
        FM_TRY(item_end(s, &len, &lines));
        s->line += lines;
        if (len == SIZE_MAX) {
            FM_TRY(fm_recs_piece(b, 0, 0, line, "longer than max_row_bytes"));
            continue;
        }
        size_t take = len ? len : s->buf.len - s->at; /* cut short: all there is */
        size_t at = b->raw.len;
        fm_str_append(&b->raw, s->buf.data + s->at, take);
        FM_TRY(fm_str_check(&b->raw));
        FM_TRY(fm_recs_piece(b, at, take, line, len ? NULL : "the value is not closed: the file is cut short"));
        s->at += take;
        s->over = s->over || (!len && s->array);
    }
    b->bytes = fm_stream_consumed(s->in.in) - before;
    return FM_OK;
}

static fm_status parse_json(fm_recs *b, const fm_reader_options *o) {
    for (size_t i = 0; i < b->n_pieces; i++) {
        const fm_piece *p = &b->piece[i];
        const char *text = b->raw.data ? b->raw.data + p->at : "";
        if (p->bad) {
            FM_TRY(fm_recs_reject(b, p->line, p->bad, NULL, (fm_sv){text, p->len}));
        } else {
            FM_TRY(fm_json_rows(b, text, p->len, p->line, o));
        }
    }
    return FM_OK;
}

const fm_reader_def fm_reader_json = {
    .name = "json",
    .suffixes = ".json",
    .help = "an array of objects or strings, or objects one after the other; record_path goes down into each",
    .open = open_json,
    .next = next_json,
    .parse = parse_json,
    .close = close_json,
};
