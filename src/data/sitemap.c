/* See sitemap.h. */
#include "data/sitemap.h"

#include <string.h>

#include "base/error.h"
#include "io/inflate.h"
#include "io/stream.h"
#include "io/xml.h"

static fm_status read_lines(const char *p, size_t n, fm_sitemap_fn fn, void *user) {
    int64_t count = 0;
    for (size_t at = 0; at < n && count < FM_SITEMAP_MAX_URLS;) {
        const char *nl = memchr(p + at, '\n', n - at);
        size_t k = nl ? (size_t)(nl - p) : n;
        fm_sv url = fm_sv_trim((fm_sv){p + at, k - at});
        if (url.len > 7 && memcmp(url.ptr, "http", 4) == 0) {
            FM_TRY(fn(user, url, false));
            count++;
        }
        at = k + 1;
    }
    return FM_OK;
}

/* <urlset><url><loc>, <sitemapindex><sitemap><loc>; image:loc and others inside <url> are deeper or come later. */
static fm_status read_elements(fm_xml_file *x, fm_str *text, fm_sitemap_fn fn, void *user) {
    int64_t count = 0;
    int depth = 0, in_loc = 0;
    bool list = false;
    for (;;) {
        fm_xml_event e;
        FM_TRY(fm_xml_file_next(x, &e));
        if (e.kind == FM_XML_AT_END || count >= FM_SITEMAP_MAX_URLS) {
            return FM_OK;
        }
        if (e.kind == FM_XML_TEXT && in_loc) {
            if (text->len + e.text.len <= 8192) {
                fm_str_append(text, e.text.ptr, e.text.len);
            }
        } else if (e.kind == FM_XML_BEGIN && !e.empty) {
            depth++;
            list = depth == 1 ? fm_sv_eq(e.name, "sitemapindex") : list;
            if (depth == 3 && fm_sv_eq(e.name, "loc")) {
                in_loc = depth;
                fm_str_clear(text);
            }
        } else if (e.kind == FM_XML_END) {
            if (in_loc == depth) {
                in_loc = 0;
                FM_TRY(fm_str_check(text));
                fm_sv url = fm_sv_trim((fm_sv){text->data, text->len});
                if (url.len) {
                    FM_TRY(fn(user, url, list));
                    count++;
                }
            }
            depth--;
        }
    }
}

fm_status fm_sitemap_read(const char *p, size_t n, fm_sitemap_fn fn, void *user) {
    fm_str plain = {0}, text = {0};
    fm_status s = FM_OK;
    if (n >= 2 && memcmp(p, "\x1f\x8b", 2) == 0) {
        s = fm_inflate(&plain, p, n, FM_SITEMAP_MAX_BYTES);
        p = plain.data ? plain.data : "";
        n = plain.len;
    }
    if (s == FM_OK && n > FM_SITEMAP_MAX_BYTES) {
        s = fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "a sitemap of %zu bytes is too long", n);
    }
    size_t at = n >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    while (at < n && (unsigned char)p[at] <= ' ') {
        at++;
    }
    if (s == FM_OK && at < n && p[at] != '<') {
        s = read_lines(p + at, n - at, fn, user);
    } else if (s == FM_OK && at < n) {
        fm_stream *in = NULL;
        fm_xml_file *x = NULL;
        s = fm_stream_open_memory(&in, p + at, n - at, "sitemap");
        s = s == FM_OK ? fm_xml_file_open(&x, in, NULL) : s;
        s = s == FM_OK ? read_elements(x, &text, fn, user) : s;
        fm_xml_file_close(x);
    }
    fm_str_free(&text);
    fm_str_free(&plain);
    return s;
}
