/* LoRA adapters of an engine: several on one base, one of them (or none) for each request, mixed in one pass. */
#ifndef FM_INFER_ADAPTERS_H
#define FM_INFER_ADAPTERS_H

#include "infer/engine.h"
#include "model/adapter.h"

struct fm_engine_adapter {
    char name[128];
    uint32_t serial; /* tells texts in the cache apart; never 0 */
    int uses;        /* requests, and the list; under the engine's lock */
    int running;     /* requests that are computed; under the lock */
    fm_adapter *a;
    fm_lora_entry *table; /* [parameters of the base] */
    int64_t rank;         /* largest */
    fm_engine_adapter *next;
};

/* Opens and checks; not in the list yet. */
FM_MUST_CHECK fm_status fm_engine_adapter_open(fm_engine_adapter **out, fm_engine *e, const char *name,
                                               const char *dir);
/* Under the lock: one reference more of that name, or NULL. */
fm_engine_adapter *fm_engine_adapter_find(fm_engine *e, const char *name);
void fm_engine_adapter_release(fm_engine *e, fm_engine_adapter *a);
/* For each weight that some adapter adds to, the one of largest rank: what a plan of memory needs. The caller frees
 * the table. NULL in *out without adapters. */
FM_MUST_CHECK fm_status fm_engine_adapter_union(fm_lora_entry **out, fm_engine *e, const fm_engine_adapter *more);
/* Under the lock, on the engine's thread: how many requests of each are computed. */
void fm_engine_adapter_count(fm_engine *e);
/* Rows of this pass by adapter, in e->mix. */
void fm_engine_adapter_rows(fm_engine *e);

#endif
