/* TensorBoard event files: scalars. */
#ifndef FM_IO_TFEVENTS_H
#define FM_IO_TFEVENTS_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

typedef struct fm_tfevents fm_tfevents;

/* Opens an event file in dir (made when missing). resume_step < 0 starts a new file. Otherwise the
 * newest file of ours in dir goes on: events after resume_step and a torn tail are cut off first, so that a
 * resumed run draws one line. */
FM_MUST_CHECK fm_status fm_tfevents_open(fm_tfevents **out, const char *dir, int64_t resume_step);
/* wall_s: seconds since 1970. Buffered until flush. */
FM_MUST_CHECK fm_status fm_tfevents_scalar(fm_tfevents *w, const char *tag, double value, int64_t step, double wall_s);
FM_MUST_CHECK fm_status fm_tfevents_flush(fm_tfevents *w);
FM_MUST_CHECK fm_status fm_tfevents_close(fm_tfevents *w); /* flushes and syncs; frees w in any case */
const char *fm_tfevents_path(const fm_tfevents *w);

/* Reads back the scalars of a file in order; stops at the first failure of fn. A torn tail is the end. */
typedef fm_status (*fm_tfevents_fn)(void *user, const char *tag, size_t tag_len, double value, int64_t step,
                                    double wall_s);
FM_MUST_CHECK fm_status fm_tfevents_read(const char *path, fm_tfevents_fn fn, void *user);

uint32_t fm_crc32c(const void *p, size_t n);

#endif
