/* Web pages as rows: see html_rows.h. */
#include "data/html_rows.h"

#include <string.h>

#include "base/error.h"
#include "io/html.h"

static fm_status set(fm_bump *a, fm_rec *r, const char *name, const fm_str *v) {
    return v->len ? fm_rec_set_text(a, r, name, v->data, v->len) : FM_OK;
}

fm_status fm_html_row(fm_bump *a, fm_rec *r, const char *p, size_t n, const char *label, const fm_reader_options *o,
                      bool *empty) {
    fm_html_page page = {0};
    fm_html_options ho = {.encoding = o->encoding ? o->encoding : label, .all = o->html == FM_HTML_ALL};
    fm_status s =
        o->html == FM_HTML_SOURCE ? fm_html_utf8(&page.text, p, n, ho.encoding) : fm_html_text(&page, p, n, &ho);
    *empty = page.text.len == 0;
    if (s == FM_OK && !*empty) {
        s = set(a, r, "title", &page.title);
    }
    if (s == FM_OK && !*empty) {
        s = set(a, r, "language", &page.language);
    }
    if (s == FM_OK && !*empty) {
        s = set(a, r, o->text_column, &page.text);
    }
    fm_html_page_free(&page);
    return s;
}
