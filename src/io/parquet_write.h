/* Writing Parquet: flat optional columns, PLAIN pages packed with zstd, several pages to a row group.
 *
 * Pages are made by any thread (fm_pqw_page); one thread puts them together (fm_pqw_add), takes the bytes of a row
 * group when it is large enough (fm_pqw_group) and the footer at the end. */
#ifndef FM_IO_PARQUET_WRITE_H
#define FM_IO_PARQUET_WRITE_H

#include "io/table.h"

typedef enum fm_pqw_type { FM_PQW_BOOL, FM_PQW_INT, FM_PQW_DOUBLE, FM_PQW_TEXT, FM_PQW_JSON } fm_pqw_type;

/* Appends one page of n values, header included. NULL ones are null; of others the text is read as the type says (BOOL
 * "true", INT and DOUBLE as JSON numbers). *plain_bytes: the page unpacked, header included. */
FM_MUST_CHECK fm_status fm_pqw_page(fm_str *out, size_t *plain_bytes, fm_pqw_type type, const fm_table_value *values,
                                    size_t n);

typedef struct fm_pqw fm_pqw;
FM_MUST_CHECK fm_status fm_pqw_new(fm_pqw **out, const char *const *names, const fm_pqw_type *types, size_t n);
void fm_pqw_free(fm_pqw *w);
/* The file's first bytes, appended. */
void fm_pqw_begin(fm_pqw *w, fm_str *out);
/* A page of column i; pages of all columns have the same rows. */
FM_MUST_CHECK fm_status fm_pqw_add(fm_pqw *w, size_t i, const char *page, size_t bytes, size_t plain_bytes);
void fm_pqw_rows(fm_pqw *w, int64_t n); /* the rows of the pages just added */
size_t fm_pqw_held(const fm_pqw *w);    /* bytes waiting for their group */
/* The waiting row group's bytes, appended; nothing when there is none. */
FM_MUST_CHECK fm_status fm_pqw_group(fm_pqw *w, fm_str *out);
FM_MUST_CHECK fm_status fm_pqw_footer(fm_pqw *w, fm_str *out);

#endif
