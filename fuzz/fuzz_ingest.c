/* Bodies of ingest requests: the first byte chooses format and packing. What is taken is a JSON object a line. */
#include <stdlib.h>
#include <string.h>

#include "data/ingest_rows.h"
#include "fuzz.h"
#include "io/jsonl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char *names[] = {"text"};
    fm_ingest_options o = {.max_body = 1 << 20, .max_row_bytes = 1 << 16};
    fm_ingest_rows rows = {0};
    if (size == 0) {
        return 0;
    }
    o.require = (fm_strlist){names, data[0] & 16 ? 1 : 0};
    if (fm_ingest_rows_read(&rows, (fm_ingest_kind)(data[0] & 3), data[0] & 8, (const char *)data + 1, size - 1, &o) ==
        FM_OK) {
        int64_t n = 0;
        const char *p = rows.lines.data;
        for (size_t at = 0; at < rows.lines.len; n++) {
            const char *nl = memchr(p + at, '\n', rows.lines.len - at);
            if (!nl || fm_jsonl_scan(p + at, (size_t)(nl - p) - at, NULL, 0, NULL) != FM_OK) {
                abort();
            }
            at = (size_t)(nl - p) + 1;
        }
        if (n != rows.n_rows) {
            abort();
        }
    }
    fm_ingest_rows_free(&rows);
    return 0;
}
