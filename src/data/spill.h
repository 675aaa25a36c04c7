/* Rows of a whole-set step between its two passes: batches in one packed temporary file. */
#ifndef FM_DATA_SPILL_H
#define FM_DATA_SPILL_H

#include "data/rec.h"

/* Kept rows of a batch as packed bytes (worker side); *n_rows counts them. */
FM_MUST_CHECK fm_status fm_spill_encode(fm_str *packed, fm_str *scratch, const fm_recs *b, size_t *n_rows);

typedef struct fm_spill fm_spill;
FM_MUST_CHECK fm_status fm_spill_create(fm_spill **out, const char *path);
void fm_spill_close(fm_spill *s); /* removes the file */
/* Appends one batch; note [n_rows] comes back in fm_rec.note. */
FM_MUST_CHECK fm_status fm_spill_write(fm_spill *s, const fm_str *packed, const uint64_t *note, size_t n_rows);
int64_t fm_spill_bytes(const fm_spill *s);

/* After the last write: goes back to the first batch. */
FM_MUST_CHECK fm_status fm_spill_rewind(fm_spill *s);
/* The next batch as bytes into b->raw; *more is false at the end. */
FM_MUST_CHECK fm_status fm_spill_next(fm_spill *s, fm_recs *b, bool *more);
/* Makes the records (worker side); ordinals and notes are set. */
FM_MUST_CHECK fm_status fm_spill_decode(fm_recs *b);

#endif
