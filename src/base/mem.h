/* Memory: every allocation of the library goes through here, is charged to a tag of the ledger,
 * and can be made to fail by the n-th call (allocation-failure tests).
 *
 * Small objects: fm_malloc and friends. Big buffers (weights, gradients, arenas): fm_pages_alloc,
 * which maps zeroed pages with transparent huge pages asked for, because the first touch of 4 KiB
 * pages runs at a small fraction of memory bandwidth. */
#ifndef FM_BASE_MEM_H
#define FM_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

/* X(symbol, name) */
#define FM_MEM_TAG_LIST(X)                                                                                             \
    X(FM_MEM_MISC, "other")                                                                                            \
    X(FM_MEM_WEIGHTS, "weights")                                                                                       \
    X(FM_MEM_GRADS, "gradients")                                                                                       \
    X(FM_MEM_OPTIMIZER, "optimizer")                                                                                   \
    X(FM_MEM_ARENA, "activations")                                                                                     \
    X(FM_MEM_SCRATCH, "scratch")                                                                                       \
    X(FM_MEM_KV, "kv cache")                                                                                           \
    X(FM_MEM_PACKED, "packed weights")                                                                                 \
    X(FM_MEM_MAPPED, "mapped files")

typedef enum fm_mem_tag {
#define FM_X(sym, name) sym,
    FM_MEM_TAG_LIST(FM_X)
#undef FM_X
        FM_MEM_TAG_COUNT
} fm_mem_tag;

const char *fm_mem_tag_name(fm_mem_tag tag);

/* NULL on failure (also when failure injection says so); never aborts. size 0 gives a valid
 * unique pointer. fm_free(NULL) is legal. */
void *fm_malloc(size_t size);
void *fm_calloc(size_t n, size_t size); /* checks n*size overflow */
void *fm_realloc(void *p, size_t size);
char *fm_strdup(const char *s);
char *fm_strndup(const char *s, size_t n);
void fm_free(void *p);

/* Grows *p (element size elem) so that at least `need` elements fit, doubling; *cap in elements. */
FM_MUST_CHECK fm_status fm_grow(void **p, size_t *cap, size_t need, size_t elem);

/* Zeroed, page-aligned (2 MiB aligned when bytes >= 2 MiB), huge pages asked for. Charged to tag.
 * `reserve_only` maps without accounting for commit: physical memory is taken at first touch. */
FM_MUST_CHECK fm_status fm_pages_alloc(void **out, size_t bytes, fm_mem_tag tag);
void fm_pages_free(void *p, size_t bytes, fm_mem_tag tag);

/* Zeroed blocks of any size for what is read from beginning to end again and again (packed weights): they lie beside
 * each other in huge pages, so that neither small ones nor the ends of large ones are in small pages, where streaming
 * reads are a fifth slower. Aligned to 64 bytes. Memory of a freed block goes back, its address space with the last
 * block that was allocated near it. Thread-safe. */
FM_MUST_CHECK fm_status fm_dense_alloc(void **out, size_t bytes, fm_mem_tag tag);
void fm_dense_free(void *p, size_t bytes, fm_mem_tag tag);

/* Ledger: bytes charged now and at peak, by tag. Thread-safe. */
void fm_ledger_add(fm_mem_tag tag, int64_t bytes); /* negative to release */
int64_t fm_ledger_current(fm_mem_tag tag);
int64_t fm_ledger_peak(fm_mem_tag tag);
void fm_ledger_reset_peak(void);

/* Anonymous resident bytes of the process now / physical RAM / RAM available to this process
 * (the smaller of MemAvailable and the cgroup limit). */
int64_t fm_mem_rss_anon(void);
int64_t fm_mem_rss_anon_peak(void);
int64_t fm_mem_total(void);
int64_t fm_mem_available(void);

/* Test hook: the n-th allocation from now (1 = next) fails, and all after it while `sticky`.
 * n = 0 turns it off. fm_mem_alloc_count() counts calls since the last reset. */
void fm_mem_fail_at(int64_t n, bool sticky);
int64_t fm_mem_alloc_count(void);

#endif
