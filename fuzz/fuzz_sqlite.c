/* Databases of any bytes: the only table's rows are UTF-8. */
#include "rows.h"

extern const fm_reader_def fm_reader_sqlite;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_rows(&fm_reader_sqlite, data, size, read_defaults());
    return 0;
}
