/* robots.txt of any bytes, asked about addresses made of the same bytes; and those bytes as an address. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "net/robots.h"
#include "net/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *p = (const char *)data;
    fm_robots *r = NULL;
    fm_str url = {0}, again = {0};
    if (fm_robots_parse(&r, p, size, "fathom") != FM_OK) {
        return 0;
    }
    bool good = fm_url_canonical(&url, "https://h.org/a/b?c", p, size > 300 ? 300 : size);
    if (good) {
        fm_url_parts u = fm_url_split(url.data);
        (void)fm_robots_allow(r, u.path.ptr);
        (void)fm_url_key(url.data);
        if (*u.path.ptr != '/' || u.host.len == 0 ||
            (url.len < 3000 &&
             (!fm_url_canonical(&again, NULL, url.data, url.len) || strcmp(again.data, url.data) != 0))) {
            abort(); /* the spelling of a spelling is itself */
        }
    }
    (void)fm_robots_allow(r, "/index.html?a=1");
    for (size_t i = 0; fm_robots_sitemap(r, i); i++) {
    }
    fm_str_free(&url);
    fm_str_free(&again);
    fm_robots_free(r);
    return 0;
}
