/* JSON text into records, with an optional path to where they are: what the JSON readers share. */
#ifndef FM_DATA_JSON_ROWS_H
#define FM_DATA_JSON_ROWS_H

#include "data/reader.h"

/* The value in text[0..n), at record_path ("data.items"; NULL: the value itself), as records: an object is one, an
 * array one per item, a string one with the text column alone. A broken value is set aside. */
FM_MUST_CHECK fm_status fm_json_rows(fm_recs *b, const char *text, size_t n, int64_t line, const fm_reader_options *o);

#endif
