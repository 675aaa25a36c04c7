/* Bytes of a file, a gzip, zstd or bzip2 file (told by content, not by name), or stdin, in constant memory.
 * Joined gzip members and zstd frames are read as one. */
#ifndef FM_IO_STREAM_H
#define FM_IO_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

typedef struct fm_stream fm_stream;

/* path "-" is stdin. */
FM_MUST_CHECK fm_status fm_stream_open(fm_stream **out, const char *path);
/* p[0..n) must outlive the stream; the name is for messages. */
FM_MUST_CHECK fm_status fm_stream_open_memory(fm_stream **out, const void *p, size_t n, const char *name);
void fm_stream_close(fm_stream *s);

/* Up to cap bytes into buf; *n is 0 at the end alone. FM_ERR_CORRUPT for a damaged or cut compressed
 * file. */
FM_MUST_CHECK fm_status fm_stream_read(fm_stream *s, void *buf, size_t cap, size_t *n);

/* Makes the rest of the stream UTF-8 (io/encoding.h): from the encoding named, or, when it is NULL, from the one the
 * beginning looks like. To be called before the first read. FM_ERR_CONFIG for a name that is not known. */
FM_MUST_CHECK fm_status fm_stream_recode(fm_stream *s, const char *encoding);

const char *fm_stream_name(const fm_stream *s); /* the path; "stdin" for "-" */
/* Bytes taken from the file so far (compressed ones), for progress reports. */
int64_t fm_stream_consumed(const fm_stream *s);

#endif
