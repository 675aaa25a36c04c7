/* Rows that a command writes one after the other, without a pipeline: a JSONL file (also packed) and the manifest
 * beside it. */
#ifndef FM_DATA_ROWS_OUT_H
#define FM_DATA_ROWS_OUT_H

#include "data/out.h"

typedef struct fm_rows_out {
    fm_out *out;
    fm_out_pieces pieces;
    fm_recs batch; /* add rows here, then call fm_rows_out_flush now and then */
    const char *path;
    int64_t n_rows;
} fm_rows_out;

/* FM_ERR_CONFIG when the path is NULL or no JSONL file. */
FM_MUST_CHECK fm_status fm_rows_out_open(fm_rows_out *w, const char *path, bool overwrite);
/* Writes the batch when it has so many rows, and empties it. */
FM_MUST_CHECK fm_status fm_rows_out_flush(fm_rows_out *w, size_t at_least);
/* Adds a copy of the row to the batch. */
FM_MUST_CHECK fm_status fm_rows_out_copy(fm_rows_out *w, fm_rec **out, const fm_rec *row);
/* Ends the file and writes PATH.manifest.json: `doc` (an object, borrowed) with what all manifests have. text: NULL, or
 * gets the manifest. */
FM_MUST_CHECK fm_status fm_rows_out_finish(fm_rows_out *w, fm_json *doc, fm_str *text);
void fm_rows_out_close(fm_rows_out *w); /* discards what was not finished */

/* Appends {"file":..., "hash":...} of each path to the list. */
FM_MUST_CHECK fm_status fm_files_json(fm_json *list, const char *const *path, size_t n);
FM_MUST_CHECK fm_status fm_tallies_json(fm_json *into, const char *key, const fm_tallies *t);

#endif
