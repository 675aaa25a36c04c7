/* A chat template, then (behind the first byte 0x01) the members of a JSON object with messages and variables. What can
 * be read is rendered, with and without spans; its spans must lie in the text, which must be the same both times. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fathom/option.h"
#include "fathom/template.h"
#include "fuzz.h"

static const char talk[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be \\u00e9.\"},{\"role\":\"user\",\"content\":\" Hi \"},"
    "{\"role\":\"assistant\",\"content\":\"<think>t</think>Yo\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
    "\"arguments\":{\"a\":1.5}}}]},{\"role\":\"tool\",\"content\":\"7\"}],\"tools\":[{\"name\":\"f\"}],"
    "\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"x\":[1,2.5,\"a\",null,true]}";

static void check(const fm_template_result *plain, const fm_template_result *r) {
    size_t at = 0;
    if (plain->n != r->n || memcmp(plain->text, r->text, r->n) != 0) {
        abort();
    }
    for (size_t i = 0; i < r->n_spans; i++) {
        if (r->span[i].begin < at || r->span[i].begin >= r->span[i].end || r->span[i].end > r->n) {
            abort();
        }
        at = r->span[i].end;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *cut = size ? memchr(data, 1, size) : NULL;
    size_t n = cut ? (size_t)(cut - data) : size;
    const char *object = cut ? (const char *)cut + 1 : talk;
    size_t n_object = cut ? size - n - 1 : sizeof talk - 1;
    fm_template_options o = {.size = sizeof o, .now = 1700000000, .max_steps = 50000};
    fm_template *t;
    fm_template_result plain, r;
    char *end;
    if (fm_template_parse(&t, (const char *)data, n, "fuzz", NULL) != FM_OK) {
        return 0;
    }
    if (fm_template_render_object(&plain, t, object, n_object, "fuzz", &o) == FM_OK) {
        o.spans = true;
        if (fm_template_render_object(&r, t, object, n_object, "fuzz", &o) == FM_OK) {
            check(&plain, &r);
        }
        fm_template_result_free(&r);
    }
    fm_template_result_free(&plain);
    if (fm_template_turn_end(&end, t) == FM_OK) {
        fm_string_free(end);
    }
    fm_template_free(t);
    return 0;
}
