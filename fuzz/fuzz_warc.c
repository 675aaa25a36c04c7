/* Web archives of any bytes: rows are UTF-8, packed bodies stay within the limit. */
#include "rows.h"

extern const fm_reader_def fm_reader_warc;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_rows(&fm_reader_warc, data, size, read_defaults());
    return 0;
}
