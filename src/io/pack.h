/* Packing bytes in one call: a gzip member or zstd frame of its own, so that pieces packed by several threads can be
 * joined into one file. */
#ifndef FM_IO_PACK_H
#define FM_IO_PACK_H

#include <stddef.h>

#include "base/str.h"
#include "fathom/status.h"

typedef enum fm_packing { FM_PACKING_NONE, FM_PACKING_GZIP, FM_PACKING_ZSTD } fm_packing;

/* By the end of a file name: .gz or .zst. */
fm_packing fm_packing_of(const char *path);
/* Appends the packed form of p[0..n); level 0 = the usual one of the method. */
FM_MUST_CHECK fm_status fm_pack_bytes(fm_str *out, fm_packing how, int level, const char *p, size_t n);
/* Unpacks one zstd frame made by fm_pack_bytes into exactly n bytes. */
FM_MUST_CHECK fm_status fm_unpack_zstd(char *out, size_t n, const char *p, size_t packed);

#endif
