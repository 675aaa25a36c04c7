/* Wikitext that is UTF-8 gives UTF-8, no longer than the page but for entities and marks of list items. */
#include <stdlib.h>

#include "fuzz.h"
#include "io/wikitext.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static fm_wikitext w; /* reused, as a reader does */
    bool valid = fm_utf8_valid((const char *)data, size);
    if (fm_wikitext_plain(&w, (const char *)data, size) != FM_OK || w.text.len > 4 * size + 16) {
        abort();
    }
    if (valid && w.text.len && !fm_utf8_valid(w.text.data, w.text.len)) {
        abort();
    }
    return 0;
}
