/* The text of a web page: its main text without menus, footers and other boilerplate, or all that is visible.
 *
 * Main text: hidden elements and those whose tag, role or class says that they are not content are left out; <article>
 * or <main> is taken when it holds a good part of the rest; what remains is cut into blocks at the borders of block
 * elements, which are kept or dropped by length, share of text inside links, sentence marks and their neighbours, after
 * Pomikalek, "Removing Boilerplate and Duplicate Content from Web Corpora" (2011), without its word lists, so that it
 * works alike for any language. A page where nothing is left keeps all its blocks that are not mostly links. */
#ifndef FM_IO_HTML_H
#define FM_IO_HTML_H

#include "base/str.h"
#include "fathom/status.h"

typedef struct fm_html_options {
    const char *encoding; /* what a server or the user said, a label; NULL: the page's own word, else detected */
    bool all;             /* all visible text */
} fm_html_options;

/* UTF-8. Paragraphs are separated by an empty line, list items and table rows by a line end, cells by " | ". */
typedef struct fm_html_page {
    fm_str title, text, language; /* of the lang attribute, such as "en" */
} fm_html_page;

/* FM_ERR_UNSUPPORTED without libxml2. Broken HTML is read as far as a browser would. Free the page on failure too. */
FM_MUST_CHECK fm_status fm_html_text(fm_html_page *out, const char *p, size_t n, const fm_html_options *o);
void fm_html_page_free(fm_html_page *page);
/* The page's bytes as UTF-8, replaced in *out; what cannot be converted becomes U+FFFD. */
FM_MUST_CHECK fm_status fm_html_utf8(fm_str *out, const char *p, size_t n, const char *label);

#endif
