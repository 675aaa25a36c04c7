/* Records come to an end, their lines only grow, and a good one has the width of the header. */
#include <stdlib.h>

#include "fuzz.h"
#include "io/csv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *path = fuzz_file(data, size);
    fm_csv_options o = {.delimiter = size % 2 ? ',' : '\t', .max_record_bytes = 4096};
    fm_csv *c;
    if (!path || fm_csv_open(&c, path, &o) != FM_OK) {
        return 0;
    }
    fm_csv_record r;
    bool more = true;
    bool packed = size >= 2 && (data[0] == 0x1f || data[0] == 0x28); /* may hold more than its size */
    int64_t line = 0;
    size_t n = 0, sum = 0;
    while (more && fm_csv_next(c, &r, &more) == FM_OK && more) {
        if (r.line <= line || (n++ > size && !packed)) {
            abort();
        }
        line = r.line;
        if (!r.bad && r.n_fields != fm_csv_n_columns(c)) {
            abort();
        }
        for (size_t i = 0; i < r.n_fields; i++) {
            sum += r.field[i].len;
        }
    }
    if (sum > size && !packed) {
        abort();
    }
    fm_csv_close(c);
    return 0;
}
