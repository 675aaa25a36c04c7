/* Sitemaps (sitemaps.org): lists of pages and lists of lists, as XML or one address a line, plain or gzip. */
#ifndef FM_DATA_SITEMAP_H
#define FM_DATA_SITEMAP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

/* What the protocol allows one file. */
#define FM_SITEMAP_MAX_BYTES ((size_t)50 << 20)
#define FM_SITEMAP_MAX_URLS  50000

/* url: as it stands there. list: another sitemap. */
typedef fm_status (*fm_sitemap_fn)(void *user, fm_sv url, bool list);
/* Calls fn for each address, up to the limits. FM_ERR_CORRUPT or FM_ERR_DATA for what is broken or too long, behind
 * the addresses before; FM_ERR_UNSUPPORTED for XML without libxml2. */
FM_MUST_CHECK fm_status fm_sitemap_read(const char *p, size_t n, fm_sitemap_fn fn, void *user);

#endif
