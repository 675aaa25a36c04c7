/* What a web page says to those who follow links: where it leads, what it is called, what may be done with it. */
#ifndef FM_IO_HTML_LINKS_H
#define FM_IO_HTML_LINKS_H

#include <stdbool.h>

#include "base/str.h"
#include "fathom/status.h"

typedef struct fm_html_links {
    fm_str link; /* [n] addresses as the page has them, each with a NUL behind it, in order; may be relative */
    size_t n;
    fm_str base;            /* of <base href>, or empty: what they are relative to */
    fm_str canonical;       /* of <link rel=canonical>, or empty */
    fm_str licence;         /* of rel=license, or empty */
    bool noindex, nofollow; /* by <meta name=robots>, or with our agent's name */
} fm_html_links;

/* p[0..n) is UTF-8. Links that say nofollow and what is not a page by its tag (images, styles, scripts) are left out.
 * max: links taken. FM_ERR_UNSUPPORTED without libxml2. Free *out on failure too. */
FM_MUST_CHECK fm_status fm_html_links_read(fm_html_links *out, const char *p, size_t n, size_t max, const char *agent);
void fm_html_links_free(fm_html_links *l);
/* Words of a robots directive ("noindex, follow"). */
void fm_html_robots_words(const char *text, bool *noindex, bool *nofollow);

#endif
