/* tokenizer.json from arbitrary bytes; what opens must encode and decode a text without fault. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fathom/option.h"
#include "fathom/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] = "The <|end|> of  it's 1234 \xE4\xB8\xAD\xE6\x96\x87 e\xCC\x81 \xFF\n\n\tab aab <x>";
    /* The first line may hold a tokenizer_config.json; the rest is tokenizer.json. */
    const uint8_t *line = memchr(data, '\n', size);
    size_t n_config = line ? (size_t)(line - data) : 0, skip = line ? n_config + 1 : 0;
    fm_tokenizer *t = NULL;
    if (fm_tokenizer_parse(&t, (const char *)data + skip, size - skip, n_config ? (const char *)data : NULL, n_config,
                           "fuzz") != FM_OK) {
        return 0;
    }
    for (int special = 0; special < 2; special++) {
        fm_encode_options opt = {.size = sizeof(opt), .allow_special = special, .add_special = special};
        fm_tokens ids = {0};
        char *out = NULL;
        if (fm_tokenizer_encode(&ids, t, text, sizeof(text) - 1, &opt) == FM_OK &&
            fm_tokenizer_decode(&out, NULL, t, ids.ids, ids.n, NULL) == FM_OK) {
            for (size_t i = 0; i < ids.n; i++) {
                size_t n;
                if (!fm_tokenizer_token(t, ids.ids[i], &n)) {
                    abort();
                }
            }
        }
        fm_string_free(out);
        fm_tokens_free(&ids);
    }
    fm_tokenizer_free(t);
    return 0;
}
