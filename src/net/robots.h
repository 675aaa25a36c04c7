/* robots.txt after RFC 9309: groups of user agents, the longest rule that fits decides and "allow" wins a tie, '*' and
 * '$' in rules; Crawl-delay and Sitemap as most sites use them. */
#ifndef FM_NET_ROBOTS_H
#define FM_NET_ROBOTS_H

#include <stdbool.h>
#include <stddef.h>

#include "fathom/status.h"

/* Bytes of a file that are read; the rest is not looked at (the standard asks for 500 KiB at least). */
#define FM_ROBOTS_MAX ((size_t)512 << 10)

typedef struct fm_robots fm_robots;

/* agent: our product token, such as "fathom". Any bytes are a robots.txt. */
FM_MUST_CHECK fm_status fm_robots_parse(fm_robots **out, const char *p, size_t n, const char *agent);
void fm_robots_free(fm_robots *r);
/* path: with its query, as fm_url_canonical spells it. */
bool fm_robots_allow(const fm_robots *r, const char *path);
double fm_robots_delay(const fm_robots *r);                  /* seconds between requests; -1 = nothing said */
const char *fm_robots_sitemap(const fm_robots *r, size_t i); /* NULL behind the last */

#endif
