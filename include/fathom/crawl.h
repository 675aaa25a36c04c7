/* Collecting data: web pages by a polite crawler, and rows that other systems send.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_CRAWL_H
#define FATHOM_CRAWL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/option.h"
#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fm_crawl_options {
    size_t size;                 /* sizeof(fm_crawl_options) */
    fm_strlist seed;             /* where to begin */
    char *seeds;                 /* file with more of them, one a line, or NULL */
    char *output;                /* folder */
    int format, html, scope;     /* jsonl|warc, main|all|source, host|domain|any */
    fm_strlist allow, deny;      /* host names, with what is below them */
    fm_strlist include, exclude; /* shell patterns on whole addresses */
    int64_t depth, max_pages, max_pages_per_host, max_similar;
    int64_t hosts, retries, max_bytes, shard_bytes, timeout;
    double delay, retry_wait;
    char *contact; /* goes into the User-Agent */
    bool no_sitemaps, overwrite;
} fm_crawl_options;
FM_API const fm_option *fm_crawl_option_table(void);

/* How often something was done or left, and why: "not found (404)". */
typedef struct fm_crawl_count {
    char what[64];
    int64_t n;
} fm_crawl_count;
#define FM_CRAWL_COUNTS 64

typedef struct fm_crawl_result {
    int64_t n_pages, n_before; /* rows in the output; of them from earlier runs */
    int64_t n_waiting;         /* addresses known and not yet asked for (a limit was reached) */
    int64_t n_hosts, n_files;
    fm_crawl_count count[FM_CRAWL_COUNTS];
    int n_counts;
    double seconds;
} fm_crawl_result;

/* Runs until nothing is left, a limit is reached, or fm_cancel (FM_ERR_CANCELLED); the same call goes on where it
 * stopped. What is known stands in OUTPUT.crawl.db. */
FM_API FM_MUST_CHECK fm_status fm_crawl(fm_crawl_result *out, const fm_crawl_options *opt);

/* ---- rows that other systems send ---- */

typedef struct fm_ingest_options {
    size_t size; /* sizeof(fm_ingest_options) */
    char *output, *host, *api_key_file, *tls_cert, *tls_key;
    fm_strlist require; /* columns that every row must have */
    int64_t port, max_body, max_row_bytes, max_queue, max_queue_bytes, shard_bytes, max_connections;
    double rotate_s; /* a file is closed after so many seconds; 0 = only when it is full */
} fm_ingest_options;
FM_API const fm_option *fm_ingest_option_table(void);

typedef struct fm_ingest_stats {
    int64_t n_requests, n_rows, n_refused_rows, n_bytes; /* since the start; rows that are on disk */
    int64_t n_busy, n_denied;                            /* answered 503 for a full queue; 401 or 429 by keys */
    int64_t n_waiting, waiting_bytes;                    /* requests in the queue */
    int64_t n_files;
    double seconds;
} fm_ingest_stats;

typedef struct fm_ingest fm_ingest;
/* Takes requests until it is freed. An answer of 200 says that the rows are on disk. */
FM_API FM_MUST_CHECK fm_status fm_ingest_new(fm_ingest **out, const fm_ingest_options *opt);
FM_API int fm_ingest_port(const fm_ingest *g);
FM_API void fm_ingest_get_stats(fm_ingest *g, fm_ingest_stats *out);
/* No new requests; those that came are answered; the last file gets its name. */
FM_API FM_MUST_CHECK fm_status fm_ingest_finish(fm_ingest *g);
FM_API void fm_ingest_free(fm_ingest *g);

#ifdef __cplusplus
}
#endif
#endif
