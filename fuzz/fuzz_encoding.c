/* Whatever is detected converts, and in pieces to the same bytes as at once. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "io/encoding.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *p = (const char *)data, *name;
    fm_recoder *one, *many;
    fm_str whole = {0}, parts = {0};
    if (fm_encoding_detect(&name, p, size, true) != FM_OK) {
        abort();
    }
    if (fm_recoder_new(&one, "GB18030") != FM_OK) {
        return 0; /* a C library without its conversion tables, as under emulation */
    }
    fm_recoder_free(one);
    if (fm_recoder_new(&one, name) != FM_OK || fm_recoder_new(&many, name) != FM_OK) {
        abort();
    }
    size_t step = size ? 1 + data[0] % 7 : 1;
    if (fm_recoder_feed(one, &whole, p, size, true) != FM_OK) {
        abort();
    }
    for (size_t at = 0; at < size; at += step) {
        size_t n = size - at < step ? size - at : step;
        if (fm_recoder_feed(many, &parts, p + at, n, at + n == size) != FM_OK) {
            abort();
        }
    }
    if (whole.len != parts.len || (whole.len && memcmp(whole.data, parts.data, whole.len) != 0)) {
        abort();
    }
    fm_recoder_free(one);
    fm_recoder_free(many);
    fm_str_free(&whole);
    fm_str_free(&parts);
    return 0;
}
