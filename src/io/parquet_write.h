/* Writing Parquet: flat optional columns, PLAIN pages packed with zstd, several pages to a row group, bounds and counts
 * of nulls of each column of a group.
 *
 * Pages are made by any thread (fm_pqw_page); one thread puts them together (fm_pqw_add), takes the bytes of a row
 * group when it is large enough (fm_pqw_group) and the footer at the end. */
#ifndef FM_IO_PARQUET_WRITE_H
#define FM_IO_PARQUET_WRITE_H

#include "io/table.h"

typedef enum fm_pqw_type { FM_PQW_BOOL, FM_PQW_INT, FM_PQW_DOUBLE, FM_PQW_TEXT, FM_PQW_JSON } fm_pqw_type;

/* Bounds of texts are kept up to this length. */
#define FM_PQW_BOUND 64

/* The least and the greatest of some values, and how many are null. */
typedef struct fm_pqw_stats {
    int64_t nulls, n; /* n: values that are not null */
    bool unbounded;   /* a text was too long to be a bound */
    int64_t i[2];     /* BOOL (0, 1), INT */
    double d[2];
    size_t len[2];
    char text[2][FM_PQW_BOUND];
} fm_pqw_stats;

/* A page in a buffer. */
typedef struct fm_pqw_page {
    size_t bytes, plain_bytes; /* packed and unpacked, header included */
    fm_pqw_stats stats;
} fm_pqw_page;

/* Appends one page of n values. NULL ones are null; of others the text is read as the type says (BOOL "true", INT and
 * DOUBLE as JSON numbers). */
FM_MUST_CHECK fm_status fm_pqw_make_page(fm_str *out, fm_pqw_page *page, fm_pqw_type type, const fm_table_value *values,
                                         size_t n);

typedef struct fm_pqw fm_pqw;
FM_MUST_CHECK fm_status fm_pqw_new(fm_pqw **out, const char *const *names, const fm_pqw_type *types, size_t n);
void fm_pqw_free(fm_pqw *w);
/* The file's first bytes, appended. */
void fm_pqw_begin(fm_pqw *w, fm_str *out);
/* A page of column i; pages of all columns have the same rows. */
FM_MUST_CHECK fm_status fm_pqw_add(fm_pqw *w, size_t i, const char *bytes, const fm_pqw_page *page);
void fm_pqw_rows(fm_pqw *w, int64_t n); /* the rows of the pages just added */
size_t fm_pqw_held(const fm_pqw *w);    /* bytes waiting for their group */
/* The waiting row group's bytes, appended; nothing when there is none. */
FM_MUST_CHECK fm_status fm_pqw_group(fm_pqw *w, fm_str *out);
FM_MUST_CHECK fm_status fm_pqw_footer(fm_pqw *w, fm_str *out);

#endif
