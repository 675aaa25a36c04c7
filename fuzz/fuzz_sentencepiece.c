/* A SentencePiece model from arbitrary bytes; what opens must encode and decode a text without fault. */
#include <stdint.h>
#include <stdlib.h>

#include "fathom/option.h"
#include "text/bpe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] =
        " The  <x> of it's 1234 \xE4\xB8\xAD\xE6\x96\x87 e\xCC\x81 \xFF\n\n\tab \xE2\x96\x81 aab====</s> ";
    fm_str json = {0}, config = {0};
    fm_tok_extras extras = {0};
    fm_tokenizer *t = NULL;
    fm_status s = fm_spm_read(&json, &config, &extras.spm, data, size, "fuzz");
    if (s == FM_OK) {
        extras.score = extras.spm->score;
        extras.n_score = extras.spm->n_types;
        s = fm_tok_parse(&t, json.data, json.len, NULL, "fuzz", &extras);
    }
    if (s == FM_OK) {
        fm_tokens ids = {0};
        char *out = NULL;
        if (fm_tokenizer_encode(&ids, t, text, sizeof(text) - 1, NULL) == FM_OK &&
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
    fm_str_free(&json);
    fm_str_free(&config);
    return 0;
}
