/* See url.h. */
#include "net/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/file.h"
#include "net/idn.h"

#define MOST_PARAMETERS 64

static bool is_alpha(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool one_of(const char *set, char c) {
    return c && strchr(set, c);
}

static int hex(char c) {
    return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Characters that mean the same with and without %XX. */
static bool is_unreserved(char c) {
    return is_alpha(c) || is_digit(c) || c == '-' || c == '.' || c == '_' || c == '~';
}

void fm_url_escape(fm_str *out, const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c == '%' && i + 2 < n && hex(p[i + 1]) >= 0 && hex(p[i + 2]) >= 0) {
            c = (unsigned char)(hex(p[i + 1]) * 16 + hex(p[i + 2]));
            i += 2;
            if (is_unreserved((char)c)) {
                fm_str_putc(out, (char)c);
            } else {
                fm_str_printf(out, "%%%02X", c);
            }
        } else if (c == '%' || c <= ' ' || c >= 0x7F || strchr("\"<>\\^`{|}", c)) {
            fm_str_printf(out, "%%%02X", c);
        } else {
            fm_str_putc(out, (char)c);
        }
    }
}

/* ---- what only says who visits ------------------------------------------------------------------ */

static bool names_visit(fm_sv name) {
    static const char *const names[] = {"phpsessid", "jsessionid", "aspsessionid", "sessionid", "session_id", "sid",
                                        "cfid",      "cftoken",    "gclid",        "fbclid",    "msclkid",    "yclid",
                                        "mc_cid",    "mc_eid",     "_ga",          "igshid",    "dclid",      "osCsid",
                                        "zenid",     "s_cid",      "_hsenc",       "_hsmi"};
    if (name.len > 4 && strncasecmp(name.ptr, "utm_", 4) == 0) {
        return true;
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(names); i++) {
        if (strlen(names[i]) == name.len && strncasecmp(names[i], name.ptr, name.len) == 0) {
            return true;
        }
    }
    return false;
}

static fm_sv until(const char *p, const char *end, char c) {
    const char *at = p < end ? memchr(p, c, (size_t)(end - p)) : NULL;
    return (fm_sv){p, (size_t)((at ? at : end) - p)};
}

static void put_query(fm_str *out, const char *p, const char *end) {
    char sep = '?';
    while (p < end) {
        fm_sv part = until(p, end, '&'), name = until(p, p + part.len, '=');
        if (part.len && !names_visit(name)) {
            fm_str_putc(out, sep);
            fm_url_escape(out, part.ptr, part.len);
            sep = '&';
        }
        p += part.len + 1;
    }
}

/* Removes dot segments and ";jsessionid=..." from the path at out[from..]. RFC 3986, 5.2.4, on a path that is absolute.
 */
static void clean_path(fm_str *out, size_t from) {
    char *base = out->data + from, *to = base;
    const char *p = base, *end = out->data + out->len;
    while (p < end) { /* p is at a slash */
        fm_sv seg = until(p + 1, end, '/');
        bool last = seg.ptr + seg.len >= end;
        const char *next = seg.ptr + seg.len;
        for (size_t i = 0; i < seg.len; i++) {
            if (seg.ptr[i] == ';') {
                fm_sv one = until(seg.ptr + i + 1, seg.ptr + seg.len, ';');
                if (names_visit(until(one.ptr, one.ptr + one.len, '='))) {
                    seg.len = i;
                }
            }
        }
        if (seg.len == 2 && memcmp(seg.ptr, "..", 2) == 0) {
            while (to > base && *--to != '/') {
            }
            if (last) {
                *to++ = '/';
            }
        } else if (seg.len == 1 && *seg.ptr == '.') {
            if (last) {
                *to++ = '/';
            }
        } else {
            *to++ = '/';
            memmove(to, seg.ptr, seg.len);
            to += seg.len;
        }
        p = next;
    }
    if (to == base) {
        *to++ = '/';
    }
    out->len = (size_t)(to - out->data);
    out->data[out->len] = '\0';
}

/* ---- parts of a reference ----------------------------------------------------------------------- */

static bool is_name(char c) {
    return is_alpha(c) || is_digit(c) || one_of("-._", c);
}

/* A host with characters that are not ASCII as the name it has in the DNS, then ":PORT", into buf; its length, 0 when
 * it has none. */
static size_t ascii_authority(char *buf, size_t cap, const char *p, const char *end) {
    char name[FM_IDN_MAX];
    const char *colon = memchr(p, ':', (size_t)(end - p));
    const size_t host = (size_t)((colon ? colon : end) - p), rest = (size_t)(end - p) - host;
    if (!fm_idn_ascii(name, p, host) || strlen(name) + rest >= cap) {
        return 0;
    }
    return (size_t)snprintf(buf, cap, "%s%.*s", name, (int)rest, p + host);
}

/* "HOST[:PORT]" into out, behind the scheme. */
static bool put_authority(fm_str *out, const char *p, const char *end, bool tls) {
    char ascii[2 * FM_IDN_MAX];
    for (const char *q = p; q < end; q++) {
        if ((unsigned char)*q >= 0x80) {
            const size_t n = ascii_authority(ascii, sizeof ascii, p, end);
            p = ascii;
            end = ascii + n;
            break;
        }
    }
    const char *host_end = p;
    if (p < end && *p == '[') {
        for (host_end = p + 1; host_end < end && (hex(*host_end) >= 0 || *host_end == ':' || *host_end == '.');) {
            host_end++;
        }
        if (host_end == end || *host_end != ']') {
            return false;
        }
        host_end++;
    } else {
        while (host_end < end && is_name(*host_end)) {
            host_end++;
        }
    }
    const char *rest = host_end;
    while (host_end > p && host_end[-1] == '.') { /* the root's dot */
        host_end--;
    }
    if (host_end == p || host_end - p > 253 || (rest < end && *rest != ':')) {
        return false;
    }
    for (; p < host_end; p++) {
        fm_str_putc(out, *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p);
    }
    long port = 0;
    for (p = rest + 1; p < end; p++) {
        if (!is_digit(*p) || (port = port * 10 + (*p - '0')) > 65535) {
            return false;
        }
    }
    if (port > 0 && port != (tls ? 443 : 80)) {
        fm_str_printf(out, ":%ld", port);
    }
    return true;
}

/* Bytes of "scheme:" at the beginning, 0 for none. */
static size_t scheme_length(const char *p, size_t n) {
    size_t i = 0;
    while (i < n && (is_alpha(p[i]) || (i && (is_digit(p[i]) || one_of("+-.", p[i]))))) {
        i++;
    }
    return i && i < n && p[i] == ':' ? i + 1 : 0;
}

/* The reference without blanks around it, line ends and fragment; backslashes before the query as slashes. */
static size_t tidy(char *buf, const char *p, size_t n) {
    size_t k = 0;
    bool query = false;
    while (n && (unsigned char)*p <= ' ') {
        p++;
        n--;
    }
    while (n && (unsigned char)p[n - 1] <= ' ') {
        n--;
    }
    for (size_t i = 0; i < n && k < FM_URL_MAX && p[i] != '#'; i++) {
        if (p[i] == '\n' || p[i] == '\r' || p[i] == '\t') {
            continue;
        }
        query = query || p[i] == '?';
        buf[k++] = p[i] == '\\' && !query ? '/' : p[i];
    }
    return k;
}

bool fm_url_canonical(fm_str *out, const char *base, const char *ref, size_t n) {
    char buf[FM_URL_MAX + 1] = {0};
    if (n > FM_URL_MAX) {
        return false;
    }
    size_t len = tidy(buf, ref, n), skip = scheme_length(buf, len);
    const char *p = buf, *end = buf + len;
    fm_url_parts b = base ? fm_url_split(base) : (fm_url_parts){{"", 0}, {"", 0}, {"", 0}, {"", 0}};
    bool tls = base && strncmp(base, "https:", 6) == 0;
    fm_str_clear(out);
    if (skip) {
        bool http = skip == 5 && strncasecmp(p, "http:", 5) == 0;
        tls = skip == 6 && strncasecmp(p, "https:", 6) == 0;
        p += skip;
        if ((!http && !tls) || end - p < 2 || p[0] != '/' || p[1] != '/') {
            return false;
        }
    } else if (!base) {
        return false;
    }
    bool authority = end - p >= 2 && p[0] == '/' && p[1] == '/';
    if (authority) {
        const char *host = p + 2, *stop = host;
        while (stop < end && *stop != '/' && *stop != '?') {
            stop++;
        }
        fm_str_puts(out, tls ? "https://" : "http://");
        if (!put_authority(out, host, stop, tls)) {
            return false;
        }
        p = stop;
    } else {
        fm_str_append(out, b.origin.ptr, b.origin.len);
    }
    fm_sv path = until(p, end, '?');
    size_t from = out->len;
    const char *query = path.ptr + path.len + (path.ptr + path.len < end), *query_end = end;
    if (path.len == 0 && !authority) { /* the base's own path, and its query where the reference has none */
        fm_str_append(out, b.path.ptr, b.path.len);
        if (query == end) {
            query = b.query.ptr;
            query_end = query + b.query.len;
        }
    } else {
        if (!authority && *path.ptr != '/') {
            size_t keep = b.path.len;
            while (keep && b.path.ptr[keep - 1] != '/') {
                keep--;
            }
            fm_str_append(out, b.path.ptr, keep);
        } else if (path.len == 0) {
            fm_str_putc(out, '/');
        }
        fm_url_escape(out, path.ptr, path.len);
    }
    if (out->failed) {
        return false;
    }
    clean_path(out, from);
    put_query(out, query, query_end);
    return !out->failed && out->len <= FM_URL_MAX;
}

fm_url_parts fm_url_split(const char *url) {
    const char *end = url + strlen(url), *host = strstr(url, "://");
    host = host ? host + 3 : end;
    fm_sv authority = until(host, end, '/');
    const char *path = authority.ptr + authority.len, *colon = path;
    while (colon > host && is_digit(colon[-1])) {
        colon--;
    }
    bool port = colon > host && colon < path && colon[-1] == ':';
    fm_url_parts r = {.origin = {url, (size_t)(path - url)},
                      .host = {host, (size_t)((port ? colon - 1 : path) - host)},
                      .path = until(path, end, '?')};
    const char *query = r.path.ptr + r.path.len;
    r.query = (fm_sv){query + (query < end), (size_t)(end - query) - (query < end)};
    return r;
}

static int by_text(const void *a, const void *b) {
    const fm_sv *x = a, *y = b;
    int c = memcmp(x->ptr, y->ptr, FM_MIN(x->len, y->len));
    return c ? c : (x->len > y->len) - (x->len < y->len);
}

uint64_t fm_url_key(const char *url) {
    fm_url_parts u = fm_url_split(url);
    fm_sv part[MOST_PARAMETERS];
    size_t n = 0;
    const char *p = u.query.ptr, *end = p + u.query.len;
    uint64_t key = fm_hash64(url, u.origin.len + u.path.len, 0);
    while (p < end && n < MOST_PARAMETERS) {
        part[n] = until(p, end, '&');
        p += part[n++].len + 1;
    }
    qsort(part, n, sizeof *part, by_text);
    for (size_t i = 0; i < n; i++) {
        key = fm_hash64(part[i].ptr, part[i].len, key);
    }
    return p < end ? fm_hash64(p, (size_t)(end - p), key) : key;
}
