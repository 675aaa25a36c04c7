/* Shared libraries that are opened when they are first needed: the program starts without them. */
#ifndef FM_BASE_DYNLIB_H
#define FM_BASE_DYNLIB_H

#include <stddef.h>

#include "fathom/status.h"

/* One function: where its address goes (a function pointer's own storage), and its name. */
typedef struct fm_dynlib_entry {
    void *slot;
    const char *name;
} fm_dynlib_entry;

/* Opens the first of the names (separated by '|') that is there and fills all slots. package: what to install, for the
 * hint. FM_ERR_UNSUPPORTED when there is no such library or it lacks a function. The library stays open. Callers guard
 * against two threads opening it at once. */
FM_MUST_CHECK fm_status fm_dynlib_open(void **out, const char *names, const char *package,
                                       const fm_dynlib_entry *entries, size_t n);

#endif
