/* Arrow's stream and file formats (https://arrow.apache.org/docs/format/Columnar.html): what a Hugging Face
 * save_to_disk folder and Feather files are. Read batch by batch from a mapped file; lz4 and zstd buffers are unpacked.
 * Values are those of the Parquet reader. Refused: unions, intervals, run-end and list views, delta dictionaries,
 * big-endian files. */
#ifndef FM_IO_ARROW_H
#define FM_IO_ARROW_H

#include "io/table.h"

typedef struct fm_arrow fm_arrow;

FM_MUST_CHECK fm_status fm_arrow_open(fm_arrow **out, const char *path);
extern const fm_table_ops fm_arrow_table; /* its close frees */

#endif
