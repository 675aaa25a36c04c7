/* Where messages and progress of the library go. Without a sink they are dropped.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_LOG_H
#define FATHOM_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fm_log_level { FM_LOG_DEBUG, FM_LOG_INFO, FM_LOG_WARN } fm_log_level;
typedef void (*fm_log_fn)(void *user, fm_log_level level, const char *text);

/* Set once, before other calls. Called from any thread, one at a time. */
FM_API void fm_log_set_sink(fm_log_fn fn, void *user);

/* Progress of a long call. `unit` such as "bytes", "rows", "tokens"; total 0 when unknown. */
typedef struct fm_progress {
    const char *what; /* "packing", "training" */
    const char *unit;
    double done, total;
    double elapsed_s;
    const char *detail; /* extra text, may be "" */
} fm_progress;
typedef void (*fm_progress_fn)(void *user, const fm_progress *p);

/* Set once; called at most about ten times a second. NULL turns it off. */
FM_API void fm_progress_set_sink(fm_progress_fn fn, void *user);

/* Asks running calls to stop at the next safe point; they return FM_ERR_CANCELLED with their
 * state saved. Safe in a signal handler and from any thread. */
FM_API void fm_cancel(void);
FM_API bool fm_cancelled(void);
FM_API void fm_cancel_reset(void);

#ifdef __cplusplus
}
#endif
#endif
