/* A file that opens has every byte of every tensor inside its mapping. */
#include <stdlib.h>

#include "fuzz.h"
#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *path = fuzz_file(data, size);
    fm_safetensors *s;
    if (!path || fm_safetensors_open(&s, path) != FM_OK) {
        return 0;
    }
    unsigned sum = 0;
    int64_t total = 0;
    for (size_t i = 0; i < fm_safetensors_count(s); i++) {
        const fm_st_tensor *t = fm_safetensors_at(s, i);
        for (int64_t k = 0; k < t->bytes; k++) {
            sum += t->data[k];
        }
        total += t->bytes;
        if (fm_safetensors_find(s, t->name) != t) {
            abort();
        }
    }
    if ((size_t)total > size || sum > 255u * size) {
        abort();
    }
    fm_safetensors_close(s);
    return 0;
}
