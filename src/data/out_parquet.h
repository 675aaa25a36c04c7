/* Rows as pages of a Parquet file: the part of out.h that knows that format. */
#ifndef FM_DATA_OUT_PARQUET_H
#define FM_DATA_OUT_PARQUET_H

#include "data/rec.h"
#include "io/parquet_write.h"

/* Kinds of cells that a column has, as bits 1 << fm_cell_kind; FM_CELLS_WIDE: an integer beyond 64 bits. */
#define FM_CELLS_WIDE 0x80u
unsigned fm_cells_kind(const fm_cell *c);
/* What such a column becomes: numbers and booleans alone keep their type, arrays and objects alone are JSON, else text.
 */
fm_pqw_type fm_cells_type(unsigned kinds);

/* One page a column of the rows of `part` ("" is the main one): appended to `out` one after the other, ends[i] and
 * plain[i] their ends and unpacked sizes. */
FM_MUST_CHECK fm_status fm_out_pages(fm_str *out, size_t *ends, size_t *plain, const fm_recs *b, const char *part,
                                     const char *const *names, const fm_pqw_type *types, size_t n);

#endif
