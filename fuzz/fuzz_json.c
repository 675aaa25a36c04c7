/* JSON documents cut into rows, whole and by record paths; the first byte chooses the path. */
#include "rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const paths[] = {NULL, "a", "a[*].b", "$.a.b[1]", "[]", "a.b[*].c[*]"};
    const fm_reader_def *d;
    if (size == 0 || fm_reader_find(&d, "json", "x.json") != FM_OK) {
        return 0;
    }
    fm_reader_options o = read_defaults();
    o.record_path = paths[data[0] % (sizeof paths / sizeof *paths)];
    fuzz_rows(d, data + 1, size - 1, o);
    return 0;
}
