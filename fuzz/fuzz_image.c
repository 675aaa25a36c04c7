/* Headers of images. */
#include "fuzz.h"
#include "io/image_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fm_image_head h;
    (void)fm_image_look(&h, data, size);
    return 0;
}
