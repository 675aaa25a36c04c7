/* Files inside a tar or zip archive, one after the other, in constant memory.
 *
 * tar: old, ustar, GNU and pax headers (IEEE 1003.1), packed or not (io/stream.h); in the order of the archive. zip:
 * stored and deflated entries (PKWARE APPNOTE 6.3.10), by name; needs a file, as the directory is at its end. Folders,
 * links and devices are passed over. */
#ifndef FM_IO_ARCHIVE_H
#define FM_IO_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

typedef struct fm_archive fm_archive;

typedef struct fm_archive_member {
    const char *name;    /* as it stands there: any bytes but NUL */
    const char *refused; /* NULL, or why its content cannot be read (encrypted, a method that is not known) */
    uint64_t packed;     /* bytes in the archive; 0 in a tar, where fm_archive_consumed tells */
} fm_archive_member;

/* path "-" is stdin (tar alone). FM_ERR_FORMAT when it is no archive. */
FM_MUST_CHECK fm_status fm_archive_open(fm_archive **out, const char *path);
FM_MUST_CHECK fm_status fm_archive_open_memory(fm_archive **out, const void *data, size_t n, const char *name);
void fm_archive_close(fm_archive *a);
/* The next file; what is left of the last one is passed over. */
FM_MUST_CHECK fm_status fm_archive_next(fm_archive *a, const fm_archive_member **m, bool *more);
/* Bytes of the current file; *n is 0 at its end. FM_ERR_CORRUPT: the rest of it cannot be read; in a zip the next file
 * can. */
FM_MUST_CHECK fm_status fm_archive_read(fm_archive *a, void *buf, size_t cap, size_t *n);
int64_t fm_archive_consumed(const fm_archive *a); /* bytes of the archive, for progress */

#endif
