/* The body of an ingest request as JSON lines. */
#ifndef FM_DATA_INGEST_ROWS_H
#define FM_DATA_INGEST_ROWS_H

#include "fathom/crawl.h"
#include "base/str.h"

typedef enum fm_ingest_kind { FM_INGEST_JSONL, FM_INGEST_JSON, FM_INGEST_CSV, FM_INGEST_TSV } fm_ingest_kind;
/* By Content-Type; JSON lines when it is missing. False for other types. */
bool fm_ingest_kind_of(fm_ingest_kind *kind, const char *content_type);

/* Bad rows named in an answer; the others are counted. */
#define FM_INGEST_ERRORS 100

typedef struct fm_ingest_rows {
    fm_str lines;              /* a JSON object a line */
    int64_t n_rows, n_refused; /* refused: bad, too long, or without a column that must be there */
    fm_str errors;             /* JSON objects {"line":..,"reason":".."}, a comma between them */
    int64_t n_errors;
    const char *bad; /* NULL, or why the body as a whole cannot be read */
} fm_ingest_rows;

/* body: as it came; gzip: it is packed. Rows are emptied first. The only failure is FM_ERR_NO_MEMORY. */
FM_MUST_CHECK fm_status fm_ingest_rows_read(fm_ingest_rows *out, fm_ingest_kind kind, bool gzip, const char *body,
                                            size_t n, const fm_ingest_options *o);
void fm_ingest_rows_free(fm_ingest_rows *r);

#endif
