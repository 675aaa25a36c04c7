/* Values of tables as text: see table.h. */
#include "io/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

fm_json_kind fm_table_put_double(fm_str *out, double v, int most) {
    char buf[40];
    if (!isfinite(v)) {
        fm_str_puts(out, "null");
        return FM_JSON_NULL;
    }
    for (int digits = most == 9 ? 6 : 15;; digits++) {
        snprintf(buf, sizeof buf, "%.*g", digits, v);
        bool same = most == 9 ? strtof(buf, NULL) == (float)v : strtod(buf, NULL) == v;
        if (same || digits == most) {
            break;
        }
    }
    fm_str_puts(out, buf);
    if (!strpbrk(buf, ".e")) {
        fm_str_puts(out, ".0");
    }
    return FM_JSON_NUMBER;
}

fm_json_kind fm_table_put_bytes(fm_str *out, const uint8_t *p, size_t n, bool as_text) {
    if (!fm_utf8_valid((const char *)p, n)) {
        fm_str_puts(out, "{\"base64\":\"");
        fm_str_base64(out, p, n);
        fm_str_puts(out, "\"}");
        return FM_JSON_OBJECT;
    }
    if (as_text) {
        fm_str_append(out, (const char *)p, n);
    } else {
        fm_jsonl_put_text(out, (const char *)p, n);
    }
    return FM_JSON_STRING;
}
