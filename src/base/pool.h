/* One small pool of pinned threads.
 *
 * A pool of n threads runs n-1 workers; the caller is thread 0. Work is split by part number, and
 * what a part computes must depend on (part, n_parts) alone, so results do not depend on timing.
 * Nested calls run inline in the calling worker. Not re-entrant from two threads at once. */
#ifndef FM_BASE_POOL_H
#define FM_BASE_POOL_H

#include <stdint.h>

#include "fathom/status.h"

typedef struct fm_pool fm_pool;

/* part in [0, n_parts). `thread` in [0, n_threads) names per-thread scratch. A status other than
 * FM_OK is reported by fm_pool_run (that of the lowest failing part). */
typedef fm_status (*fm_part_fn)(void *arg, int64_t part, int64_t n_parts, int thread);

/* n_threads 0 = FATHOM_THREADS, else the CPUs this process may use. */
FM_MUST_CHECK fm_status fm_pool_new(fm_pool **out, int n_threads);
void fm_pool_free(fm_pool *p);
int fm_pool_threads(const fm_pool *p); /* 1 for NULL */

/* Runs fn for all parts; part i goes to thread i * n_threads / n_parts (contiguous blocks, static).
 * p NULL runs inline. */
FM_MUST_CHECK fm_status fm_pool_run(fm_pool *p, int64_t n_parts, fm_part_fn fn, void *arg);

/* As fm_pool_run with parts handed out one by one as threads become free. Only for work whose
 * result does not depend on which thread runs a part. */
FM_MUST_CHECK fm_status fm_pool_run_dynamic(fm_pool *p, int64_t n_parts, fm_part_fn fn, void *arg);

/* Splits [0, n) into n_parts nearly equal ranges with borders at multiples of `align`. */
void fm_split(int64_t n, int64_t part, int64_t n_parts, int64_t align, int64_t *begin, int64_t *end);

int fm_cpu_count(void); /* CPUs this process may use */

#endif
