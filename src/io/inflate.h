/* Packed pieces: gzip, zlib, raw deflate and brotli as a whole, bzip2 as a stream. */
#ifndef FM_IO_INFLATE_H
#define FM_IO_INFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "fathom/status.h"

/* zlib's memory through ours. */
void *fm_z_alloc(void *opaque, unsigned n, unsigned size);
void fm_z_free(void *opaque, void *p);

/* Replaces *out by what p[0..n) unpacks to: gzip (joined members too) and zlib by their heads, else raw deflate. At
 * most max bytes: FM_ERR_DATA for more, FM_ERR_CORRUPT for damage. */
FM_MUST_CHECK fm_status fm_inflate(fm_str *out, const char *p, size_t n, size_t max);
/* Brotli into exactly n bytes / up to max bytes. FM_ERR_UNSUPPORTED without its library, FM_ERR_CORRUPT for damage. */
FM_MUST_CHECK fm_status fm_brotli_exact(uint8_t *out, size_t n, const uint8_t *p, size_t packed);
FM_MUST_CHECK fm_status fm_brotli(fm_str *out, const char *p, size_t n, size_t max);

/* bzip2 by its library, opened when it is needed (FM_ERR_UNSUPPORTED without it). */
typedef struct fm_bunzip fm_bunzip;
FM_MUST_CHECK fm_status fm_bunzip_new(fm_bunzip **out);
void fm_bunzip_free(fm_bunzip *b);
/* Unpacks from p[0..*used) into buf[0..cap): *n bytes written, *used becomes what was read. *end: a stream is complete;
 * another may follow. */
FM_MUST_CHECK fm_status fm_bunzip_run(fm_bunzip *b, uint8_t *buf, size_t cap, size_t *n, const uint8_t *p, size_t *used,
                                      bool *end);

#endif
