/* Web archives: see warc.h. */
#include "io/warc.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/mem.h"

#define FILL_BYTES ((size_t)1 << 16)
#define MAX_LINE   ((size_t)1 << 16)

struct fm_warc {
    fm_stream *in;
    fm_str buf; /* from `at` on */
    size_t at, max;
    bool at_end, arc, known;
    fm_warc_record rec;
};

fm_status fm_warc_open(fm_warc **out, fm_stream *in, size_t max_bytes) {
    fm_warc *w = *out = fm_calloc(1, sizeof *w);
    if (!w) {
        fm_stream_close(in);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a reader of web archives");
    }
    w->in = in;
    w->max = max_bytes;
    return FM_OK;
}

void fm_warc_close(fm_warc *w) {
    if (w) {
        fm_stream_close(w->in);
        fm_str_free(&w->buf);
        fm_str_free(&w->rec.type);
        fm_str_free(&w->rec.url);
        fm_str_free(&w->rec.date);
        fm_str_free(&w->rec.mime);
        fm_str_free(&w->rec.language);
        fm_str_free(&w->rec.block);
        fm_free(w);
    }
}

int64_t fm_warc_consumed(const fm_warc *w) {
    return fm_stream_consumed(w->in);
}

/* More bytes behind the buffer; *n 0 at the end. */
static fm_status fill(fm_warc *w, size_t *n) {
    if (w->at && w->buf.data) {
        memmove(w->buf.data, w->buf.data + w->at, w->buf.len - w->at);
        w->buf.len -= w->at;
        w->at = 0;
    }
    void *p = w->buf.data;
    FM_TRY(fm_grow(&p, &w->buf.cap, w->buf.len + FILL_BYTES + 1, 1));
    FM_ASSERT(p);
    w->buf.data = p;
    FM_TRY(fm_stream_read(w->in, w->buf.data + w->buf.len, FILL_BYTES, n));
    w->buf.len += *n;
    w->at_end = *n == 0;
    return FM_OK;
}

/* The next line without its end; *ptr NULL at the end of the file. One longer than MAX_LINE comes in parts. */
static fm_status line(fm_warc *w, fm_sv *out) {
    for (;;) {
        char *p = w->buf.data ? w->buf.data + w->at : NULL;
        size_t have = w->buf.len - w->at;
        char *nl = p && have ? memchr(p, '\n', have) : NULL;
        if (p && (nl || have >= MAX_LINE || (w->at_end && have))) {
            size_t n = nl ? (size_t)(nl - p) : have;
            w->at += n + (nl != NULL);
            *out = (fm_sv){p, n - (n && p[n - 1] == '\r')};
            return FM_OK;
        }
        if (w->at_end) {
            *out = (fm_sv){NULL, 0};
            return FM_OK;
        }
        size_t n;
        FM_TRY(fill(w, &n));
    }
}

/* n bytes of content, into the block or passed over; *cut when the file ends before. */
static fm_status content(fm_warc *w, uint64_t n, bool keep, bool *cut) {
    *cut = false;
    while (n) {
        size_t have = (size_t)FM_MIN(n, (uint64_t)(w->buf.len - w->at));
        if (keep && have) {
            fm_str_append(&w->rec.block, w->buf.data + w->at, have);
            FM_TRY(fm_str_check(&w->rec.block));
        }
        w->at += have;
        n -= have;
        if (n) {
            size_t got;
            FM_TRY(fill(w, &got));
            if (got == 0) {
                *cut = true;
                return FM_OK;
            }
        }
    }
    return FM_OK;
}

static bool name_is(fm_sv l, const char *name, fm_sv *value) {
    size_t n = strlen(name);
    if (l.len <= n || l.ptr[n] != ':' || strncasecmp(l.ptr, name, n) != 0) {
        return false;
    }
    *value = (fm_sv){l.ptr + n + 1, l.len - n - 1};
    while (value->len && (*value->ptr == ' ' || *value->ptr == '\t')) {
        value->ptr++;
        value->len--;
    }
    while (value->len && (value->ptr[value->len - 1] == ' ' || value->ptr[value->len - 1] == '\t')) {
        value->len--;
    }
    return true;
}

/* Digits alone. */
static bool number(fm_sv s, uint64_t *out) {
    *out = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9' || *out > UINT64_MAX / 16) {
            return false;
        }
        *out = *out * 10 + (uint64_t)(s.ptr[i] - '0');
    }
    return s.len > 0;
}

static void set(fm_str *s, fm_sv v) {
    fm_str_clear(s);
    fm_str_append(s, v.ptr, v.len);
}

/* Fields up to the empty line. False when there is no good length. */
static fm_status warc_head(fm_warc *w, uint64_t *length, bool *ok) {
    fm_warc_record *r = &w->rec;
    *ok = false;
    for (;;) {
        fm_sv l, v;
        FM_TRY(line(w, &l));
        if (!l.ptr || l.len == 0) {
            *ok = *ok && l.ptr;
            return FM_OK;
        }
        if (name_is(l, "WARC-Type", &v)) {
            set(&r->type, v);
        } else if (name_is(l, "WARC-Target-URI", &v)) {
            bool angle = v.len > 1 && *v.ptr == '<' && v.ptr[v.len - 1] == '>'; /* an old reading of the standard */
            set(&r->url, angle ? (fm_sv){v.ptr + 1, v.len - 2} : v);
        } else if (name_is(l, "WARC-Date", &v)) {
            set(&r->date, v);
        } else if (name_is(l, "Content-Type", &v)) {
            set(&r->mime, v);
        } else if (name_is(l, "WARC-Identified-Content-Language", &v)) {
            set(&r->language, v);
        } else if (name_is(l, "Content-Length", &v)) {
            *ok = number(v, length);
        }
    }
}

/* "URL IP date mime [status checksum location offset file] length". */
static bool arc_head(fm_warc *w, fm_sv l, uint64_t *length) {
    fm_sv word[12];
    size_t n = 0;
    for (size_t i = 0; i < l.len && n < FM_ARRAY_LEN(word);) {
        size_t k = i;
        while (k < l.len && l.ptr[k] != ' ') {
            k++;
        }
        word[n++] = (fm_sv){l.ptr + i, k - i};
        i = k + 1;
    }
    if ((n != 5 && n != 10) || !number(word[n - 1], length) || !memchr(word[0].ptr, ':', word[0].len) ||
        word[2].len < 8) {
        return false;
    }
    set(&w->rec.url, word[0]);
    set(&w->rec.date, word[2]);
    set(&w->rec.mime, word[3]);
    fm_str_clear(&w->rec.type);
    fm_str_puts(&w->rec.type, l.len > 9 && memcmp(l.ptr, "filedesc:", 9) == 0 ? "warcinfo" : "response");
    return true;
}

static bool begins(fm_sv l, const char *s) {
    return l.len >= strlen(s) && memcmp(l.ptr, s, strlen(s)) == 0;
}

static bool wanted(const fm_str *type, const char *types) {
    for (const char *p = types; *p;) {
        size_t k = strcspn(p, "|, ");
        if (k == type->len && k && strncasecmp(p, type->data, k) == 0) {
            return true;
        }
        p += k + (p[k] != '\0');
    }
    return false;
}

static void clear(fm_warc_record *r) {
    fm_str_clear(&r->type);
    fm_str_clear(&r->url);
    fm_str_clear(&r->date);
    fm_str_clear(&r->mime);
    fm_str_clear(&r->language);
    fm_str_clear(&r->block);
    r->bad = NULL;
}

static fm_status check(const fm_warc_record *r) {
    FM_TRY(fm_str_check(&r->type));
    FM_TRY(fm_str_check(&r->url));
    FM_TRY(fm_str_check(&r->date));
    FM_TRY(fm_str_check(&r->mime));
    return fm_str_check(&r->language);
}

/* The line a record begins with; what lies before it is passed over and counted. An ARC record's line is parsed. */
static fm_status record_start(fm_warc *w, bool *found, bool *skipped, uint64_t *length) {
    *skipped = *found = false;
    for (;;) {
        fm_sv l;
        FM_TRY(line(w, &l));
        if (!l.ptr) {
            return FM_OK;
        }
        if (!w->known && l.len) {
            w->known = true;
            w->arc = begins(l, "filedesc:");
            if (!w->arc && !begins(l, "WARC/")) {
                fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "'%s' is no web archive: it begins with '%.*s'",
                             fm_stream_name(w->in), (int)FM_MIN(l.len, (size_t)20), l.ptr);
                return FM_ERR_FORMAT;
            }
        }
        if (w->arc ? l.len && arc_head(w, l, length) : begins(l, "WARC/")) {
            *found = true;
            return FM_OK;
        }
        *skipped = *skipped || l.len > 0;
    }
}

fm_status fm_warc_next(fm_warc *w, const char *types, const fm_warc_record **out, bool *more) {
    fm_warc_record *r = &w->rec;
    *out = r;
    *more = true;
    for (;;) {
        uint64_t length = 0;
        bool found, skipped, ok = true, cut;
        clear(r);
        FM_TRY(record_start(w, &found, &skipped, &length));
        if (skipped && !found) {
            r->number++;
            r->bad = "no record where one should begin";
            return FM_OK;
        }
        if (!found) {
            *more = false;
            return FM_OK;
        }
        r->number++;
        if (!w->arc) {
            FM_TRY(warc_head(w, &length, &ok));
        }
        FM_TRY(check(r));
        if (!ok) {
            r->bad = "a record without a length";
            return FM_OK;
        }
        bool want = wanted(&r->type, types), fits = length <= w->max;
        FM_TRY(content(w, length, want && fits, &cut));
        if (cut) {
            r->bad = "the record is cut short";
            return FM_OK;
        }
        if (want && !fits) {
            r->bad = "longer than max_row_bytes";
            return FM_OK;
        }
        if (want) {
            return FM_OK;
        }
    }
}
