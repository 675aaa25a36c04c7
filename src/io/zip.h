/* Zip archives whose entries are stored as they are (method 0), as PyTorch writes them: a directory over memory.
 *
 * Nothing is inflated, so an archive cannot grow; compressed and encrypted entries are refused when they are asked
 * for. Checked at opening: every entry lies inside the file and overlaps no other. Format: PKWARE APPNOTE 6.3.10, with
 * Zip64. */
#ifndef FM_IO_ZIP_H
#define FM_IO_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

typedef struct fm_zip_entry {
    const char *name; /* NUL-terminated copy */
    const uint8_t *data;
    uint64_t bytes;
    uint32_t crc;
    uint16_t method; /* 0 = stored */
    bool encrypted;
} fm_zip_entry;

typedef struct fm_zip fm_zip;

/* True when the bytes begin as a zip archive does. */
bool fm_zip_is(const void *data, size_t n);
/* data outlives *out; `name` is for messages. */
FM_MUST_CHECK fm_status fm_zip_open(fm_zip **out, const void *data, size_t n, const char *name);
void fm_zip_close(fm_zip *z);
size_t fm_zip_count(const fm_zip *z);
const fm_zip_entry *fm_zip_at(const fm_zip *z, size_t i); /* sorted by name */
const fm_zip_entry *fm_zip_find(const fm_zip *z, const char *name);
/* As find; a missing, compressed or encrypted entry is an error. */
FM_MUST_CHECK fm_status fm_zip_get(const fm_zip_entry **out, const fm_zip *z, const char *name);

#endif
