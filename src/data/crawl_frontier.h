/* What a crawler knows, in a database that survives it: hosts with their robots.txt, addresses and what became of each,
 * texts seen before, how far the output is valid. Nothing is there for good before fm_frontier_commit. One thread at a
 * time. */
#ifndef FM_DATA_CRAWL_FRONTIER_H
#define FM_DATA_CRAWL_FRONTIER_H

#include <stdbool.h>
#include <stdint.h>

#include "data/append.h"
#include "fathom/crawl.h"
#include "net/url.h"

typedef struct fm_frontier fm_frontier;

typedef enum fm_crawl_kind { FM_CRAWL_PAGE, FM_CRAWL_SITEMAP } fm_crawl_kind;
typedef enum fm_crawl_state { FM_CRAWL_WAITING, FM_CRAWL_DONE, FM_CRAWL_FAILED, FM_CRAWL_SKIPPED } fm_crawl_state;

typedef struct fm_crawl_item {
    int64_t id, host; /* host: from 1 */
    int kind, depth, hops, tries;
    char url[FM_URL_MAX + 1];
} fm_crawl_item;

typedef struct fm_frontier_host {
    int64_t id, waiting, pages, robots_at; /* robots_at: Unix seconds, 0 = never read */
    const char *origin, *robots;           /* until the call returns; robots NULL: none */
} fm_frontier_host;

FM_MUST_CHECK fm_status fm_frontier_open(fm_frontier **out, const char *path);
void fm_frontier_close(fm_frontier *f);
FM_MUST_CHECK fm_status fm_frontier_commit(fm_frontier *f);

typedef fm_status (*fm_frontier_host_fn)(void *user, const fm_frontier_host *h);
FM_MUST_CHECK fm_status fm_frontier_hosts(fm_frontier *f, fm_frontier_host_fn fn, void *user); /* by id: 1, 2, ... */
/* The number of a host, added when it is new. */
FM_MUST_CHECK fm_status fm_frontier_host_id(fm_frontier *f, fm_sv origin, int64_t *id, bool *added);
/* robots NULL: there is none, everything is allowed. */
FM_MUST_CHECK fm_status fm_frontier_set_robots(fm_frontier *f, int64_t host, const char *robots, int64_t at);

/* *added is false for an address that is known. */
FM_MUST_CHECK fm_status fm_frontier_add(fm_frontier *f, const fm_crawl_item *item, bool *added);
/* The next address of a host, those nearest to a seed first. *found false: *wait_s says when the first one is due. */
FM_MUST_CHECK fm_status fm_frontier_next(fm_frontier *f, int64_t host, int64_t now, fm_crawl_item *item, bool *found,
                                         double *wait_s);
/* note: why, or what it was; counted by it in reports. */
FM_MUST_CHECK fm_status fm_frontier_set(fm_frontier *f, int64_t id, fm_crawl_state state, const char *note);
FM_MUST_CHECK fm_status fm_frontier_later(fm_frontier *f, int64_t id, int64_t not_before);
/* All waiting addresses of a host become skipped; *n how many. */
FM_MUST_CHECK fm_status fm_frontier_skip_host(fm_frontier *f, int64_t host, const char *note, int64_t *n);

/* True when the text with this hash was given before; it is known from now on. */
FM_MUST_CHECK fm_status fm_frontier_text(fm_frontier *f, uint64_t hash, bool *known);
/* Addresses that look alike: how many were taken, and how many pages in a row said nothing new. */
typedef struct fm_crawl_shape {
    int64_t n, same;
} fm_crawl_shape;
FM_MUST_CHECK fm_status fm_frontier_shape(fm_frontier *f, uint64_t key, fm_crawl_shape *s);
FM_MUST_CHECK fm_status fm_frontier_set_shape(fm_frontier *f, uint64_t key, const fm_crawl_shape *s);

/* Links that were not taken up, by reason (a constant). */
FM_MUST_CHECK fm_status fm_frontier_tally(fm_frontier *f, const char *why);
FM_MUST_CHECK fm_status fm_frontier_setting(fm_frontier *f, const char *name, int64_t *value); /* 0 when unknown */
FM_MUST_CHECK fm_status fm_frontier_set_setting(fm_frontier *f, const char *name, int64_t value);
/* Fills counts and n_waiting of a report. */
FM_MUST_CHECK fm_status fm_frontier_report(fm_frontier *f, fm_crawl_result *r);

#endif
