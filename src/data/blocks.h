/* Whole lines of a stream in blocks of about FM_READER_BLOCK bytes: what line-based readers share. */
#ifndef FM_DATA_BLOCKS_H
#define FM_DATA_BLOCKS_H

#include "base/error.h"
#include "data/reader.h"
#include "io/stream.h"

/* The stream of an input file, unpacked and as UTF-8. */
FM_MUST_CHECK fm_status fm_reader_stream(fm_stream **out, const char *path, const fm_reader_options *o);

/* A whole file into *out, unpacked, its bytes as they are. *too_long: it has more than max_row_bytes and is not there.
 * A file that is damaged inside gives what comes before. */
FM_MUST_CHECK fm_status fm_reader_whole(fm_str *out, bool *too_long, int64_t *consumed, const char *path,
                                        const fm_reader_options *o);

/* True when the file (not what is packed in it) begins with these n bytes. */
bool fm_reader_begins(const char *path, const char *magic, size_t n);
/* True for an existing file named .xml (or packed) whose first 4 KiB have the text. */
bool fm_reader_xml_has(const char *path, const char *text);

typedef struct fm_blocks {
    fm_stream *in;
    fm_str carry; /* the beginning of a line that the last block cut */
    int64_t line; /* number of the carry's line */
    int64_t consumed;
    size_t max_row;
    bool at_end, started;
    fm_status pending; /* a failure of the stream, reported when what came before it was given out */
    fm_error_record error;
} fm_blocks;

FM_MUST_CHECK fm_status fm_blocks_open(fm_blocks *k, const char *path, const fm_reader_options *o);
void fm_blocks_close(fm_blocks *k);
/* Puts lines into b->raw, sets b->first_line and b->bytes. Lines longer than max_row are set aside. */
FM_MUST_CHECK fm_status fm_blocks_next(fm_blocks *k, fm_recs *b, bool *more);
/* Reads up to FM_READER_BLOCK more bytes behind s; a failure of damaged data is kept in `pending` and looks like the
 * end. */
FM_MUST_CHECK fm_status fm_blocks_fill(fm_blocks *k, fm_str *s, size_t *n);

#endif
