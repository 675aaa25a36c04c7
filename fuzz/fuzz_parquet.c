/* Rows come to an end, their number is bounded, every text is UTF-8. */
#include <stdlib.h>

#include "fuzz.h"
#include "io/parquet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fm_parquet *p;
    if (size == 0 || fm_parquet_open_memory(&p, data, size, "fuzz") != FM_OK) {
        return 0;
    }
    const fm_table_value *row = NULL;
    bool more = true;
    for (int n = 0; n < 10000 && more && fm_parquet_next(p, &row, &more) == FM_OK && more; n++) {
        for (size_t i = 0; i < fm_parquet_n_columns(p); i++) {
            if (!fm_utf8_valid(row[i].text.ptr, row[i].text.len)) {
                abort();
            }
        }
    }
    fm_parquet_close(p);
    return 0;
}
