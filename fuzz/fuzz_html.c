/* Any bytes are a page; its texts are UTF-8 and no longer than what can come of the page. */
#include <stdlib.h>

#include "fuzz.h"
#include "io/html.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    for (int all = 0; all < 2; all++) {
        fm_html_page page;
        fm_html_options o = {.all = all == 1};
        if (fm_html_text(&page, (const char *)data, size, &o) == FM_OK) {
            const fm_str *texts[] = {&page.title, &page.text, &page.language};
            for (size_t i = 0; i < 3; i++) {
                if (texts[i]->len &&
                    (!fm_utf8_valid(texts[i]->data, texts[i]->len) || texts[i]->len > 16 * size + 64)) {
                    abort();
                }
            }
        }
        fm_html_page_free(&page);
    }
    return 0;
}
