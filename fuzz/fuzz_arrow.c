/* Arrow streams of any bytes: rows come to an end and are UTF-8. */
#include <stdlib.h>

#include "fuzz.h"
#include "io/arrow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *path = fuzz_file(data, size);
    fm_arrow *a;
    if (!path || fm_arrow_open(&a, path) != FM_OK) {
        return 0;
    }
    const fm_table_value *row = NULL;
    bool more = true;
    for (int n = 0; n < 2000 && more && fm_arrow_table.next(a, &row, &more) == FM_OK && more; n++) {
        for (size_t i = 0; i < fm_arrow_table.n_columns(a); i++) {
            if (!fm_utf8_valid(row[i].text.ptr, row[i].text.len)) {
                abort();
            }
        }
    }
    fm_arrow_table.close(a);
    return 0;
}
