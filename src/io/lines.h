/* Lines of a stream (plain, gzip, zstd, stdin) in constant memory. */
#ifndef FM_IO_LINES_H
#define FM_IO_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"
#include "io/stream.h"

typedef struct fm_lines fm_lines;

typedef struct fm_line {
    const char *ptr; /* valid until the next call; without the line end (LF or CRLF) */
    size_t len;
    int64_t number; /* from 1 */
    int64_t offset; /* of the line's first byte in the unpacked data */
    bool too_long;  /* longer than the limit: it was skipped, ptr is NULL and len 0 */
} fm_line;

/* path "-" is stdin. max_bytes: longest line kept; 0 = 64 MiB. A byte order mark is dropped. */
FM_MUST_CHECK fm_status fm_lines_open(fm_lines **out, const char *path, size_t max_bytes);
/* The same over an open stream, which is taken over (closed on failure too). */
FM_MUST_CHECK fm_status fm_lines_open_stream(fm_lines **out, fm_stream *in, size_t max_bytes);
void fm_lines_close(fm_lines *l);
/* *more is false at the end. */
FM_MUST_CHECK fm_status fm_lines_next(fm_lines *l, fm_line *out, bool *more);
int64_t fm_lines_consumed(const fm_lines *l); /* bytes of the file, for progress */

#endif
