/* What the columns of a dataset hold: types, missing and distinct values, range of numbers. */
#ifndef FM_DATA_COLUMN_STATS_H
#define FM_DATA_COLUMN_STATS_H

#include "base/json.h"
#include "data/rec.h"

/* More columns are counted, but not looked at. */
#define FM_COLUMN_STATS_MOST 1000

typedef struct fm_column_stats fm_column_stats;
FM_MUST_CHECK fm_status fm_column_stats_new(fm_column_stats **out);
void fm_column_stats_free(fm_column_stats *s);
FM_MUST_CHECK fm_status fm_column_stats_add(fm_column_stats *s, const fm_rec *r);
/* [{name, type, missing, distinct, exact, min, max, mean}] in order of appearance; n_rows: of all. */
FM_MUST_CHECK fm_status fm_column_stats_json(fm_json **out, const fm_column_stats *s, int64_t n_rows);

#endif
