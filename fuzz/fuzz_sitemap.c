/* Sitemaps of any bytes, and the same bytes as a page whose links are read. */
#include <stdlib.h>

#include "data/crawl_page.h"
#include "data/sitemap.h"
#include "fuzz.h"

static fm_status count(void *user, fm_sv url, bool list) {
    (void)list;
    if (url.len == 0 || ++*(size_t *)user > FM_SITEMAP_MAX_URLS) {
        abort();
    }
    return FM_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const fm_crawl_options o = {.max_bytes = 1 << 20};
    size_t n = 0;
    fm_crawl_page page = {0};
    fm_str head = {0}, body = {0};
    if (fm_sitemap_read((const char *)data, size, count, &n) != FM_OK) {
        n = 0;
    }
    fm_str_puts(&head, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n");
    fm_str_append(&body, (const char *)data, size);
    if (fm_crawl_page_make(&page, "http://h/a/b", 1, &head, &body, &o) == FM_OK) {
        const char *p = page.links.data;
        for (size_t i = 0; i < page.n_links; i++) {
            bool open;
            (void)fm_crawl_trap(p);
            (void)fm_crawl_shape_key(p, &open);
            while (*p++) {
            }
        }
    }
    fm_crawl_page_free(&page);
    fm_str_free(&head);
    fm_str_free(&body);
    return 0;
}
