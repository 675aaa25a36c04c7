/* What the scanner accepts, jansson accepts too, with the same text. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "fuzz.h"
#include "io/jsonl.h"

static void compare(const fm_json *object, const char *key, const fm_json_value *v) {
    size_t n = 0;
    const char *want = fm_json_str(fm_json_get(object, key), &n);
    if ((want != NULL) != (v->kind == FM_JSON_STRING)) {
        abort();
    }
    if (want) {
        fm_str got = {0};
        fm_jsonl_text(&got, v);
        if (got.len != n || (n && memcmp(got.data, want, n) != 0)) {
            abort();
        }
        fm_str_free(&got);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *names[] = {"text", "messages"};
    fm_json_value v[2];
    const char *line = (const char *)data;
    if (fm_jsonl_scan(line, size, names, 2, v) != FM_OK) {
        return 0;
    }
    fm_sv rest = v[1].raw;
    fm_json_value item;
    size_t n_items = 0;
    while (v[1].kind == FM_JSON_ARRAY && fm_jsonl_next(&rest, &item)) {
        n_items++;
    }
    fm_json *j;
    if (fm_json_parse(&j, line, size, "line") != FM_OK) {
        return 0; /* a NUL in a key, or a number out of range: legal JSON that jansson does not take */
    }
    compare(j, "text", &v[0]);
    if (v[1].kind == FM_JSON_ARRAY && n_items != fm_json_size(fm_json_get(j, "messages"))) {
        abort();
    }
    fm_json_free(j);
    return 0;
}
