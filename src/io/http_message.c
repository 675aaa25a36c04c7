/* HTTP responses as web archives keep them: see warc.h. Archives hold what servers sent, which is often not what their
 * heads say: a body whose chunks or packing do not hold is taken as it is when it can be. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/inflate.h"
#include "io/warc.h"

void fm_http_message_free(fm_http_message *m) {
    fm_str_free(&m->mime);
    fm_str_free(&m->charset);
    fm_str_free(&m->body);
    memset(m, 0, sizeof *m);
}

static void put_lower(fm_str *out, fm_sv s) {
    fm_str_clear(out);
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        fm_str_putc(out, c >= 'A' && c <= 'Z' ? (char)(c + 32) : c);
    }
}

/* "text/html; charset=gbk" */
static void content_type(fm_http_message *m, fm_sv v) {
    const char *semi = memchr(v.ptr, ';', v.len);
    put_lower(&m->mime, fm_sv_trim((fm_sv){v.ptr, semi ? (size_t)(semi - v.ptr) : v.len}));
    for (size_t i = 0; i + 8 < v.len; i++) {
        if (strncasecmp(v.ptr + i, "charset=", 8) == 0) {
            fm_sv c = {v.ptr + i + 8, 0};
            size_t left = v.len - i - 8;
            if (left && (*c.ptr == '"' || *c.ptr == '\'')) {
                c.ptr++;
                left--;
            }
            while (c.len < left && !strchr("\"'; \t", c.ptr[c.len])) {
                c.len++;
            }
            put_lower(&m->charset, c);
            return;
        }
    }
}

static bool has_word(fm_sv v, const char *word) {
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= v.len; i++) {
        if (strncasecmp(v.ptr + i, word, n) == 0) {
            return true;
        }
    }
    return false;
}

/* Joins chunks; false when they do not hold. What came before a cut is kept. */
static bool join_chunks(fm_str *out, const char *p, size_t n) {
    const char *end = p + n;
    fm_str_clear(out);
    while (p < end) {
        size_t size = 0, digits = 0;
        for (; p < end; p++, digits++) {
            int d = *p >= '0' && *p <= '9'                 ? *p - '0'
                    : (*p | 32) >= 'a' && (*p | 32) <= 'f' ? (*p | 32) - 'a' + 10
                                                           : -1;
            if (d < 0 || size > ((size_t)1 << 40)) {
                break;
            }
            size = size * 16 + (size_t)d;
        }
        const char *nl = digits ? memchr(p, '\n', (size_t)(end - p)) : NULL;
        if (!nl) {
            return false;
        }
        p = nl + 1;
        if (size == 0) {
            return true;
        }
        size_t have = FM_MIN(size, (size_t)(end - p));
        fm_str_append(out, p, have);
        p += have;
        p += p < end && *p == '\r';
        p += p < end && *p == '\n';
    }
    return out->len > 0;
}

typedef struct head {
    fm_sv packing;
    bool chunked;
} head;

/* Status line and fields; returns where the body begins, NULL when this is no response. */
static const char *read_head(fm_http_message *m, head *h, const char *p, const char *end) {
    if (end - p < 12 || strncasecmp(p, "HTTP/", 5) != 0) {
        return NULL;
    }
    const char *sp = memchr(p, ' ', FM_MIN((size_t)(end - p), (size_t)16));
    for (int i = 1; sp && i < 4 && sp + i < end && sp[i] >= '0' && sp[i] <= '9'; i++) {
        m->status = m->status * 10 + (sp[i] - '0');
    }
    bool first = true;
    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        fm_sv l = fm_sv_trim((fm_sv){p, (size_t)((nl ? nl : end) - p)});
        p = nl ? nl + 1 : end;
        if (l.len == 0) {
            return p;
        }
        const char *colon = first ? NULL : memchr(l.ptr, ':', l.len);
        first = false;
        if (!colon) {
            continue;
        }
        fm_sv name = fm_sv_trim((fm_sv){l.ptr, (size_t)(colon - l.ptr)});
        fm_sv value = fm_sv_trim((fm_sv){colon + 1, l.len - (size_t)(colon + 1 - l.ptr)});
        if (name.len == 12 && strncasecmp(name.ptr, "Content-Type", 12) == 0) {
            content_type(m, value);
        } else if (name.len == 16 && strncasecmp(name.ptr, "Content-Encoding", 16) == 0) {
            h->packing = value;
        } else if (name.len == 17 && strncasecmp(name.ptr, "Transfer-Encoding", 17) == 0) {
            h->chunked = has_word(value, "chunked");
        }
    }
    return p;
}

fm_status fm_http_message_read(fm_http_message *m, const char *p, size_t n, size_t max) {
    head h = {{NULL, 0}, false};
    const char *end = p + n;
    m->status = 0;
    m->bad = NULL;
    fm_str_clear(&m->mime);
    fm_str_clear(&m->charset);
    fm_str_clear(&m->body);
    const char *body = read_head(m, &h, p, end);
    if (!body) {
        m->bad = "no HTTP response";
        return FM_OK;
    }
    size_t len = (size_t)(end - body);
    fm_str joined = {0};
    if (h.chunked && join_chunks(&joined, body, len)) {
        body = joined.data;
        len = joined.len;
    }
    fm_status s = fm_str_check(&joined);
    bool gzip = len >= 2 && memcmp(body, "\x1f\x8b", 2) == 0;
    bool brotli = has_word(h.packing, "br"), deflate = has_word(h.packing, "deflate");
    if (s == FM_OK && len && (gzip || brotli || deflate)) {
        s = brotli && !gzip ? fm_brotli(&m->body, body, len, max) : fm_inflate(&m->body, body, len, max);
        if (s == FM_ERR_CORRUPT && gzip && m->body.len) {
            s = FM_OK; /* cut short: what there is */
        } else if (s == FM_ERR_CORRUPT && !gzip && fm_utf8_valid(body, FM_MIN(len, (size_t)64))) {
            fm_str_clear(&m->body); /* not packed, whatever the head says */
            fm_str_append(&m->body, body, len);
            s = FM_OK;
        } else if (s == FM_ERR_CORRUPT || s == FM_ERR_DATA) {
            fm_str_clear(&m->body);
            m->bad = s == FM_ERR_DATA ? "longer than max_row_bytes" : "the packed body is damaged";
            s = FM_OK;
        } else if (s == FM_ERR_UNSUPPORTED) {
            m->bad = "packed with brotli, whose library is missing";
            s = FM_OK;
        }
        if (s == FM_OK) {
            fm_error_clear();
        }
    } else if (s == FM_OK) {
        fm_str_append(&m->body, body, len);
    }
    fm_str_free(&joined);
    FM_TRY(s);
    FM_TRY(fm_str_check(&m->mime));
    FM_TRY(fm_str_check(&m->charset));
    return fm_str_check(&m->body);
}
