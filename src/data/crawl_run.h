/* Inside of the crawler: what its threads share. Files: crawl.c begins and ends, crawl_scope.c decides which addresses
 * are taken up, crawl_work.c asks and writes down. */
#ifndef FM_DATA_CRAWL_RUN_H
#define FM_DATA_CRAWL_RUN_H

#include <pthread.h>

#include "base/error.h"
#include "base/progress.h"
#include "data/crawl_frontier.h"
#include "data/crawl_page.h"
#include "net/http.h"
#include "net/robots.h"

/* Pages of one shape in a row without news, then the shape is left. */
#define CRAWL_SAME_IN_A_ROW 30

enum { CRAWL_HOST, CRAWL_DOMAIN, CRAWL_ANY }; /* scope */
enum { CRAWL_JSONL, CRAWL_WARC };             /* format */

typedef struct crawl_host {
    char *origin;
    fm_robots *robots; /* NULL: not read yet, or all is allowed (robots_at says) */
    int64_t robots_at, waiting, pages, n_sitemaps;
    double next_s;
    int fails;
    bool busy, closed; /* closed: no more pages of it in this run */
} crawl_host;

typedef struct crawl {
    const fm_crawl_options *o;
    fm_frontier *f;
    fm_append *out;
    fm_str agent, state_path;
    char **seed_host; /* without "www." */
    size_t n_seeds, seeds_cap;
    pthread_mutex_t lock; /* of all that follows, and of f and out */
    pthread_cond_t changed;
    crawl_host *host; /* [n_hosts], of number id - 1 */
    size_t n_hosts, hosts_cap;
    int busy;
    bool ended;
    int64_t n_pages, n_before;
    double commit_s, start_s;
    fm_status failed;
    fm_error_record error;
    fm_meter meter;
} crawl;

/* What a thread is doing. */
typedef struct crawl_job {
    crawl *c;
    fm_http *http;
    fm_crawl_item item;
    bool robots; /* reads the host's robots.txt instead of the item */
    fm_http_reply reply;
    fm_str head, body;
    size_t max_body;
    const char *refused; /* why the body was not wanted */
    bool full;           /* of a robots.txt that is longer than what is read */
    fm_crawl_page page;
    double took_s;
} crawl_job;

/* The host's name without "www.". */
fm_sv crawl_bare_host(fm_sv host);

/* The rest needs the lock. */
FM_MUST_CHECK fm_status crawl_add_host(crawl *c, const char *origin, size_t n, crawl_host **out);
/* url: in its one spelling. Seeds are taken whatever the limits say. */
FM_MUST_CHECK fm_status crawl_add_url(crawl *c, const char *url, int kind, int depth, int hops, bool seed);
/* An address as a page has it; what is none is passed over. */
FM_MUST_CHECK fm_status crawl_add_ref(crawl *c, const char *base, const char *ref, size_t n, int kind, int depth,
                                      int hops);
/* Output and state are on disk and belong together. */
FM_MUST_CHECK fm_status crawl_commit(crawl *c);

/* A thread of the crawler; arg: its crawl_job. */
void *crawl_work(void *arg);

#endif
