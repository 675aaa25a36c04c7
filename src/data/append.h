/* Files in a folder that only grow: rows-000001.jsonl, rows-000002.jsonl ... The last one carries the name's end
 * ".open" until it is full or the writer is closed, so that readers of the folder take whole files only. */
#ifndef FM_DATA_APPEND_H
#define FM_DATA_APPEND_H

#include <stdint.h>

#include "base/str.h"

typedef struct fm_append fm_append;

typedef struct fm_append_options {
    const char *dir, *prefix, *suffix; /* "out", "rows", ".jsonl" */
    int64_t rotate_bytes;              /* a new file after so many; 0 = never */
    double rotate_s;                   /* or when the first row of a file is so old; 0 = never */
} fm_append_options;

typedef struct fm_append_place {
    int64_t file, bytes; /* number from 1, bytes of it */
} fm_append_place;

/* Makes the folder. An open file of an earlier run is gone on with: from `place`, what is behind it is cut off (later
 * files too), or (NULL) from the end of its last whole line. */
FM_MUST_CHECK fm_status fm_append_open(fm_append **out, const fm_append_options *o, const fm_append_place *place);
/* Keeps the open file's name for a later run. An empty one is removed. */
void fm_append_close(fm_append *a);
/* Gives the open file its own name; nothing can be written any more. */
FM_MUST_CHECK fm_status fm_append_finish(fm_append *a);
/* Whole rows. A write that fails leaves nothing of it behind. */
FM_MUST_CHECK fm_status fm_append_write(fm_append *a, const char *p, size_t n);
/* What was written is on disk; begins a new file when one is due. */
FM_MUST_CHECK fm_status fm_append_sync(fm_append *a);
fm_append_place fm_append_at(const fm_append *a);
int64_t fm_append_files(const fm_append *a); /* finished ones and the open one, when it has something in it */

#endif
