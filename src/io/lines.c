/* The window [start, end) of buf holds what was read and not yet given out. */
#include "io/lines.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define FIRST_BYTES ((size_t)1 << 17)
#define DEFAULT_MAX ((size_t)64 << 20)

struct fm_lines {
    fm_stream *in;
    char *buf;
    size_t cap, start, end;
    size_t max;
    int64_t number, offset; /* of buf[start] */
    bool at_end;
};

fm_status fm_lines_open_stream(fm_lines **out, fm_stream *in, size_t max_bytes) {
    *out = NULL;
    fm_lines *l = fm_calloc(1, sizeof *l);
    if (!l) {
        fm_stream_close(in);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a line reader");
    }
    l->in = in;
    l->max = max_bytes ? max_bytes : DEFAULT_MAX;
    void *p = NULL;
    fm_status s = fm_grow(&p, &l->cap, FIRST_BYTES, 1);
    l->buf = p;
    if (s != FM_OK) {
        fm_lines_close(l);
        return s;
    }
    *out = l;
    return FM_OK;
}

fm_status fm_lines_open(fm_lines **out, const char *path, size_t max_bytes) {
    *out = NULL;
    fm_stream *in;
    FM_TRY(fm_stream_open(&in, path));
    return fm_lines_open_stream(out, in, max_bytes);
}

void fm_lines_close(fm_lines *l) {
    if (l) {
        fm_stream_close(l->in);
        fm_free(l->buf);
        fm_free(l);
    }
}

int64_t fm_lines_consumed(const fm_lines *l) {
    return fm_stream_consumed(l->in);
}

/* Reads more behind the window: makes room by moving it to the front, else by growing. */
static fm_status fill(fm_lines *l) {
    if (l->end == l->cap) {
        if (l->start > 0) {
            memmove(l->buf, l->buf + l->start, l->end - l->start);
            l->end -= l->start;
            l->start = 0;
        } else {
            void *p = l->buf;
            FM_TRY(fm_grow(&p, &l->cap, l->cap + 1, 1));
            l->buf = p;
        }
    }
    size_t n;
    FM_TRY(fm_stream_read(l->in, l->buf + l->end, l->cap - l->end, &n));
    l->end += n;
    l->at_end = n == 0;
    return FM_OK;
}

/* Drops the line at the window's start. */
static fm_status skip_line(fm_lines *l) {
    for (;;) {
        char *nl = memchr(l->buf + l->start, '\n', l->end - l->start);
        size_t upto = nl ? (size_t)(nl + 1 - l->buf) : l->end;
        l->offset += (int64_t)(upto - l->start);
        l->start = upto;
        if (nl || l->at_end) {
            return FM_OK;
        }
        l->start = l->end = 0;
        FM_TRY(fill(l));
    }
}

fm_status fm_lines_next(fm_lines *l, fm_line *out, bool *more) {
    memset(out, 0, sizeof *out);
    *more = false;
    size_t seen = 0; /* bytes of the window known to hold no line end */
    char *nl = NULL;
    for (;;) {
        if (l->number == 0 && l->end - l->start >= 3 && memcmp(l->buf + l->start, "\xEF\xBB\xBF", 3) == 0 &&
            l->offset == 0) {
            l->start += 3;
            l->offset = 3;
            seen = 0;
        }
        size_t have = l->end - l->start;
        if (have > seen) {
            nl = memchr(l->buf + l->start + seen, '\n', have - seen);
        }
        seen = have;
        size_t len = nl ? (size_t)(nl - l->buf) - l->start : have;
        if (len > l->max) {
            out->offset = l->offset;
            out->number = ++l->number;
            out->too_long = true;
            FM_TRY(skip_line(l));
            *more = true;
            return FM_OK;
        }
        if (nl || l->at_end) {
            break;
        }
        FM_TRY(fill(l));
    }
    size_t len = nl ? (size_t)(nl - l->buf) - l->start : l->end - l->start;
    if (!nl && len == 0) {
        return FM_OK;
    }
    out->ptr = l->buf + l->start;
    out->offset = l->offset;
    out->number = ++l->number;
    l->start += len + (nl != NULL);
    l->offset += (int64_t)(len + (nl != NULL));
    out->len = len > 0 && out->ptr[len - 1] == '\r' ? len - 1 : len;
    *more = true;
    return FM_OK;
}
