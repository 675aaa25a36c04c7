/* Output of a run: one file, or a folder of files by part ("train", "val") and shard. Bytes of rows are made and packed
 * by many threads (fm_out_encode) and written in order by one (fm_out_write). Files carry a .tmp name until the end. */
#ifndef FM_DATA_OUT_H
#define FM_DATA_OUT_H

#include "base/json.h"
#include "data/rec.h"
#include "io/pack.h"
#include "io/parquet_write.h"

typedef struct fm_out fm_out;

typedef struct fm_out_options {
    const char *path;          /* file with a known suffix, folder, or "-" */
    const char *format;        /* of files in a folder: "jsonl", "jsonl.zst", "csv" ...; NULL: jsonl */
    int64_t shard_bytes;       /* a new file in a folder after so many bytes of rows (before packing); 0 = never */
    const char *const *column; /* csv: the header; of other columns rows have, csv refuses the run */
    const unsigned *kinds;     /* [n_columns] of cells, for Parquet: fm_cells_kind */
    size_t n_columns;
    bool overwrite;
} fm_out_options;

/* Rows encoded for one part. */
typedef struct fm_out_piece {
    char part[64];
    fm_str text, packed;
    int64_t n_rows, n_bytes; /* before packing */
    fm_pqw_page *page;       /* [n_columns] Parquet: those in text, one after the other */
} fm_out_piece;
typedef struct fm_out_pieces {
    fm_out_piece *item;
    size_t n, cap;
} fm_out_pieces;
void fm_out_pieces_free(fm_out_pieces *p);

/* True for Parquet, whose columns have types that must be known before the first row. */
bool fm_out_needs_types(const char *path, const char *format);
/* True when the format has one header or schema for all rows, so that columns must be known before the first row. */
bool fm_out_needs_columns(const char *path, const char *format);
bool fm_out_is_folder(const char *path);
FM_MUST_CHECK fm_status fm_out_new(fm_out **out, const fm_out_options *o);
/* Unfinished files stay as they are (for a later run) unless `discard`. */
void fm_out_free(fm_out *o, bool discard);

/* Worker side: kept rows of the batch into pieces (emptied first). */
FM_MUST_CHECK fm_status fm_out_encode(const fm_out *o, const fm_recs *b, fm_out_pieces *pieces);
/* Ordered side. */
FM_MUST_CHECK fm_status fm_out_write(fm_out *o, const fm_recs *b, const fm_out_pieces *pieces);
/* What was written is on disk, and the state to go on from there (owned). */
FM_MUST_CHECK fm_status fm_out_state(fm_out *o, fm_json **state);
FM_MUST_CHECK fm_status fm_out_resume(fm_out *o, const fm_json *state);
/* Renames all files; an owned array of {file, part, rows, bytes, hash}. */
FM_MUST_CHECK fm_status fm_out_finish(fm_out *o, fm_json **files);

#endif
