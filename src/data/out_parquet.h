/* Rows as pages of a Parquet file: the part of out.h that knows that format. */
#ifndef FM_DATA_OUT_PARQUET_H
#define FM_DATA_OUT_PARQUET_H

#include "data/rec.h"
#include "io/parquet_write.h"

/* Kinds of cells that a column has, as bits 1 << fm_cell_kind; FM_CELLS_BIG: an integer beyond the 53 bits of a double,
 * FM_CELLS_WIDE: beyond 64 bits, or a number that a double would change. */
#define FM_CELLS_BIG  0x40u
#define FM_CELLS_WIDE 0x80u
unsigned fm_cells_kind(const fm_cell *c);
/* What such a column becomes: numbers (if none would change) and booleans alone keep their type, arrays and objects
 * alone are JSON, else text. */
fm_pqw_type fm_cells_type(unsigned kinds);

/* One page a column of the rows of `part` ("" is the main one), appended to `out` one after the other. */
FM_MUST_CHECK fm_status fm_out_pages(fm_str *out, fm_pqw_page *page, const fm_recs *b, const char *part,
                                     const char *const *names, const fm_pqw_type *types, size_t n);

#endif
