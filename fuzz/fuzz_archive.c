/* Members of tar and zip archives come to an end; so do their bytes. */
#include "fuzz.h"
#include "io/archive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fm_archive *a;
    const fm_archive_member *m;
    bool more = true;
    if (fm_archive_open_memory(&a, data, size, "fuzz") != FM_OK) {
        return 0;
    }
    for (int i = 0; i < 100 && fm_archive_next(a, &m, &more) == FM_OK && more; i++) {
        char buf[4096];
        size_t n = 1;
        for (int k = 0; k < 1000 && n > 0 && fm_archive_read(a, buf, sizeof buf, &n) == FM_OK; k++) {
        }
    }
    fm_archive_close(a);
    return 0;
}
