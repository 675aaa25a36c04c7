/* See crawl_page.h. */
#include "data/crawl_page.h"

#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/crawl_run.h"
#include "data/html_rows.h"
#include "io/html.h"
#include "io/html_links.h"
#include "io/jsonl.h"
#include "net/url.h"

#define MOST_LINKS 5000 /* of one page */

void fm_crawl_page_free(fm_crawl_page *p) {
    fm_http_message_free(&p->message);
    fm_str_free(&p->row);
    fm_str_free(&p->links);
    memset(p, 0, sizeof *p);
}

bool fm_crawl_type(const char *type) {
    static const char *const known[] = {"text/html", "application/xhtml+xml", "text/plain"};
    for (size_t i = 0; i < FM_ARRAY_LEN(known); i++) {
        size_t n = strlen(known[i]);
        if (strncasecmp(type, known[i], n) == 0 && (type[n] == '\0' || strchr("; \t", type[n]))) {
            return true;
        }
    }
    return *type == '\0';
}

/* The answer as one message. The client has joined chunks already and the first line may be that of HTTP/2. */
static void join(fm_str *out, const fm_str *head, const fm_str *body) {
    const char *p = head->data ? head->data : "", *end = p + head->len;
    fm_str_puts(out, "HTTP/1.1 200 OK\r\n");
    for (bool first = true; p < end; first = false) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        const char *next = nl ? nl + 1 : end;
        bool drop = first || strncasecmp(p, "Transfer-Encoding:", 18) == 0 ||
                    strncasecmp(p, "Content-Length:", 15) == 0 || *p == '\r' || *p == '\n';
        if (!drop) {
            fm_str_append(out, p, (size_t)(next - p));
        }
        p = next;
    }
    fm_str_printf(out, "Content-Length: %zu\r\n\r\n", body->len);
    fm_str_append(out, body->data ? body->data : "", body->len);
}

fm_status fm_crawl_unpack(fm_crawl_page *p, const fm_str *head, const fm_str *body, size_t max) {
    fm_str all = {0};
    join(&all, head, body);
    fm_status s = fm_str_check(&all);
    s = s == FM_OK ? fm_http_message_read(&p->message, all.data, all.len, max) : s;
    fm_str_free(&all);
    return s;
}

static bool header_value(const fm_str *head, const char *name, char *buf, size_t cap) {
    size_t k = strlen(name);
    const char *p = head->data, *end = p + head->len;
    while (p && p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        const char *stop = nl ? nl : end;
        if ((size_t)(stop - p) > k && strncasecmp(p, name, k) == 0 && p[k] == ':' && (size_t)(stop - p) - k < cap) {
            size_t n = (size_t)(stop - p) - k - 1;
            memcpy(buf, p + k + 1, n);
            buf[n] = '\0';
            return true;
        }
        p = stop + 1;
    }
    return false;
}

static fm_status add_links(fm_crawl_page *out, const fm_html_links *l, const char *url) {
    fm_str base = {0}, link = {0};
    fm_status s = FM_OK;
    const char *from = l->base.len && fm_url_canonical(&base, url, l->base.data, l->base.len) ? base.data : url;
    size_t at = 0;
    for (size_t i = 0; i < l->n; i++) {
        const char *ref = l->link.data + at;
        size_t n = strlen(ref);
        if (fm_url_canonical(&link, from, ref, n)) {
            fm_str_append(&out->links, link.data, link.len + 1);
            out->n_links++;
        }
        at += n + 1;
    }
    s = link.failed || base.failed ? fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for links")
                                   : fm_str_check(&out->links);
    fm_str_free(&base);
    fm_str_free(&link);
    return s;
}

static void member(fm_str *row, const char *name, const char *p, size_t n) {
    if (n) {
        fm_str_printf(row, "%s\"%s\":", row->len > 1 ? "," : "", name);
        fm_jsonl_put_text(row, p, n);
    }
}

static void put_json(fm_crawl_page *out, const char *url, int depth, const fm_html_page *page, const char *licence) {
    char when[32];
    fm_format_utc(when, sizeof when, fm_unix_ms());
    fm_str *row = &out->row;
    fm_str_putc(row, '{');
    member(row, "url", url, strlen(url));
    member(row, "title", page->title.data, page->title.len);
    member(row, "language", page->language.data, page->language.len);
    member(row, "licence", licence, strlen(licence));
    fm_str_printf(row, ",\"fetched\":\"%s\",\"depth\":%d", when, depth);
    member(row, "text", page->text.data, page->text.len);
    fm_str_puts(row, "}\n");
}

/* Hashes of the text, with and without digits. */
static fm_status hash_text(fm_crawl_page *out, const fm_str *text) {
    fm_str plain = {0};
    for (size_t i = 0; i < text->len; i++) {
        if (text->data[i] < '0' || text->data[i] > '9') {
            fm_str_putc(&plain, text->data[i]);
        }
    }
    out->text = fm_hash64(text->data, text->len, 3);
    out->shape = fm_hash64(plain.data ? plain.data : "", plain.len, 4);
    fm_status s = fm_str_check(&plain);
    fm_str_free(&plain);
    return s;
}

/* Links of a page and what it allows; *licence [FM_URL_MAX + 1]. */
static fm_status read_links(fm_crawl_page *out, const char *url, const fm_str *head, const char *label, bool *noindex,
                            char *licence) {
    fm_html_links l = {0};
    fm_str utf8 = {0}, full = {0};
    char words[512];
    bool nofollow = false;
    const fm_http_message *m = &out->message;
    fm_status s = fm_html_utf8(&utf8, m->body.data ? m->body.data : "", m->body.len, label);
    s = s == FM_OK ? fm_html_links_read(&l, utf8.data ? utf8.data : "", utf8.len, MOST_LINKS, FM_CRAWL_AGENT) : s;
    if (header_value(head, "X-Robots-Tag", words, sizeof words)) {
        fm_html_robots_words(words, &l.noindex, &l.nofollow);
    }
    nofollow = l.nofollow;
    *noindex = l.noindex;
    if (s == FM_OK && !nofollow) {
        s = add_links(out, &l, url);
    }
    if (s == FM_OK && l.licence.len && fm_url_canonical(&full, url, l.licence.data, l.licence.len)) {
        memcpy(licence, full.data, full.len + 1);
    }
    fm_str_free(&full);
    fm_str_free(&utf8);
    fm_html_links_free(&l);
    return s;
}

fm_status fm_crawl_page_make(fm_crawl_page *out, const char *url, int depth, const fm_str *head, const fm_str *body,
                             const fm_crawl_options *o) {
    char licence[FM_URL_MAX + 1] = "";
    bool noindex = false;
    fm_html_page page = {0};
    fm_http_message *m = &out->message;
    FM_TRY(fm_crawl_unpack(out, head, body, (size_t)o->max_bytes));
    if (m->bad) {
        out->skip = "broken answer";
        return FM_OK;
    }
    const char *label = m->charset.len ? m->charset.data : NULL, *p = m->body.data ? m->body.data : "";
    size_t look = strspn(p, " \t\r\n");
    bool html = m->mime.len ? strcmp(m->mime.data, "text/plain") != 0
                            : p[look] == '<' || strncmp(p + look, "\xEF\xBB\xBF<", 4) == 0;
    if (html) {
        FM_TRY(read_links(out, url, head, label, &noindex, licence));
    }
    fm_html_options ho = {.encoding = label, .all = o->html == FM_HTML_ALL};
    fm_status s = !html || o->html == FM_HTML_SOURCE ? fm_html_utf8(&page.text, p, m->body.len, label)
                                                     : fm_html_text(&page, p, m->body.len, &ho);
    s = s == FM_OK ? hash_text(out, &page.text) : s;
    if (s == FM_OK) {
        out->skip = noindex ? "the page says noindex" : page.text.len == 0 ? "no text" : NULL;
    }
    if (s == FM_OK && !out->skip && o->format == CRAWL_JSONL) {
        put_json(out, url, depth, &page, licence);
        s = fm_str_check(&out->row);
    } else if (s == FM_OK && !out->skip) {
        fm_str all = {0};
        join(&all, head, body);
        s = fm_str_check(&all);
        if (s == FM_OK) {
            fm_warc_put(&out->row, "response", url, fm_unix_ms(), "application/http; msgtype=response", all.data,
                        all.len);
            s = fm_str_check(&out->row);
        }
        fm_str_free(&all);
    }
    fm_html_page_free(&page);
    return s;
}
