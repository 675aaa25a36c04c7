/* Web addresses: joining, and one spelling for each. RFC 3986; leniency as in browsers (blanks, backslashes, raw
 * bytes). */
#ifndef FM_NET_URL_H
#define FM_NET_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* Longer ones are refused. */
#define FM_URL_MAX 4000

/* Replaces *out by the http or https URL that ref[0..n) means on the page `base` (a URL from here, or NULL), without
 * fragment: scheme and host in lower case, no default port, no dot segments, %XX where they are needed and nowhere
 * else, query parameters and path parts that name sessions or campaigns (PHPSESSID, utm_source ...) left out. False for
 * other schemes, what is no URL, users and passwords; check *out for memory. Hosts in other scripts have the form of
 * the DNS (idn.h). */
bool fm_url_canonical(fm_str *out, const char *base, const char *ref, size_t n);

/* Parts of such a URL, as views into it. */
typedef struct fm_url_parts {
    fm_sv origin; /* "https://host:8080" */
    fm_sv host;   /* "host"; "[::1]" */
    fm_sv path;   /* "/a/b" */
    fm_sv query;  /* behind the '?'; empty when there is none */
} fm_url_parts;
fm_url_parts fm_url_split(const char *url);

/* Appends p[0..n) as the path of such a URL is spelled: also for comparing with one. */
void fm_url_escape(fm_str *out, const char *p, size_t n);
/* The same for two URLs that differ only in the order of their query parameters. */
uint64_t fm_url_key(const char *url);

#endif
