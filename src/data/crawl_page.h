/* One answer of a web server: the row made of it, and where it leads. */
#ifndef FM_DATA_CRAWL_PAGE_H
#define FM_DATA_CRAWL_PAGE_H

#include "fathom/crawl.h"
#include "io/warc.h"

#define FM_CRAWL_AGENT "fathom"

typedef struct fm_crawl_page {
    fm_http_message message; /* the answer, unpacked */
    fm_str row;              /* a JSON line or a WARC record, or empty */
    fm_str links;            /* [n_links] addresses in their one spelling, a NUL behind each */
    size_t n_links;
    uint64_t text, shape; /* hashes of the text, and of the text without digits */
    const char *skip;     /* NULL, or why there is no row */
} fm_crawl_page;

/* head: status line and header lines with the empty one; body: as it came. */
FM_MUST_CHECK fm_status fm_crawl_page_make(fm_crawl_page *out, const char *url, int depth, const fm_str *head,
                                           const fm_str *body, const fm_crawl_options *o);
void fm_crawl_page_free(fm_crawl_page *p);
/* Unpacks an answer of any type into p->message. */
FM_MUST_CHECK fm_status fm_crawl_unpack(fm_crawl_page *p, const fm_str *head, const fm_str *body, size_t max);
/* Types that are fetched: pages and plain text, and where the server names none. */
bool fm_crawl_type(const char *content_type);

/* Why an address looks as if a machine makes more of them without end, or NULL. */
const char *fm_crawl_trap(const char *url);
/* A number for all addresses that differ from this one in digits and values of parameters only; *open: there may be
 * many of them. */
uint64_t fm_crawl_shape_key(const char *url, bool *open);

#endif
