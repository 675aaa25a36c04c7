/* Records of web archives: WARC 1.0 and 1.1 (ISO 28500; also Common Crawl's WET and WAT) and the older ARC 1 and 2. The
 * stream may be packed record by record. After a damaged record reading goes on at the next one that is found. */
#ifndef FM_IO_WARC_H
#define FM_IO_WARC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "fathom/status.h"
#include "io/stream.h"

typedef struct fm_warc fm_warc;

typedef struct fm_warc_record {
    int64_t number;  /* from 1 */
    const char *bad; /* NULL, or what is wrong; then nothing else is set */
    /* Until the next call; empty when the record does not say. */
    fm_str type; /* "response", "conversion" ...; of ARC "response" */
    fm_str url, date, mime, language;
    fm_str block; /* the content; empty when the type is not wanted */
} fm_warc_record;

/* Takes the stream over (closed on failure too). max_bytes: a longer block is passed over and reported. */
FM_MUST_CHECK fm_status fm_warc_open(fm_warc **out, fm_stream *in, size_t max_bytes);
void fm_warc_close(fm_warc *w);
/* types: "response|conversion", records of other types are passed over. FM_ERR_FORMAT for what is no web archive. */
FM_MUST_CHECK fm_status fm_warc_next(fm_warc *w, const char *types, const fm_warc_record **r, bool *more);
int64_t fm_warc_consumed(const fm_warc *w);

/* An HTTP response. */
typedef struct fm_http_message {
    int status;
    fm_str mime, charset; /* lower case; empty when there is none */
    fm_str body;          /* chunks joined, unpacked */
    const char *bad;      /* NULL, or why there is no body */
} fm_http_message;
/* Reads a message; *m is reused between calls. */
FM_MUST_CHECK fm_status fm_http_message_read(fm_http_message *m, const char *p, size_t n, size_t max_bytes);
void fm_http_message_free(fm_http_message *m);

/* Appends a record of type "response", "warcinfo" ...; url may be "". Check *out for memory. */
void fm_warc_put(fm_str *out, const char *type, const char *url, int64_t unix_ms, const char *content_type,
                 const char *p, size_t n);

#endif
