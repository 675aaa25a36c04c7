/* JSON lines. */
#include <string.h>

#include "base/mem.h"
#include "data/blocks.h"
#include "data/json_rows.h"

static fm_status open_jsonl(void **state, const char *path, const fm_reader_options *o) {
    fm_blocks *k = fm_calloc(1, sizeof *k);
    *state = k;
    if (!k) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a reader for '%s'", path);
    }
    return fm_blocks_open(k, path, o);
}

static fm_status next_jsonl(void *state, fm_recs *b, bool *more) {
    return fm_blocks_next(state, b, more);
}

static void close_jsonl(void *state) {
    if (state) {
        fm_blocks_close(state);
        fm_free(state);
    }
}

static fm_status parse_jsonl(fm_recs *b, const fm_reader_options *o) {
    const char *p = b->raw.data, *end = p + b->raw.len;
    int64_t line = b->first_line;
    for (; p < end; line++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((nl ? nl : end) - p);
        if (n > o->max_row_bytes) {
            FM_TRY(fm_recs_reject(b, line, "longer than max_row_bytes", NULL, (fm_sv){p, n}));
        } else {
            FM_TRY(fm_json_rows(b, p, n, line, o));
        }
        p += n + 1;
    }
    return FM_OK;
}

const fm_reader_def fm_reader_jsonl = {
    .name = "jsonl",
    .suffixes = ".jsonl|.ndjson",
    .help = "an object a line",
    .open = open_jsonl,
    .next = next_jsonl,
    .parse = parse_jsonl,
    .close = close_jsonl,
};
