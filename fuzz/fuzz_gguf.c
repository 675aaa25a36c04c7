/* A GGUF file: container, tensors (every byte of each is inside the file), the mapping to a model, the vocabulary. */
#include <stdlib.h>

#include "base/str.h"
#include "fathom/tokenizer.h"
#include "fuzz.h"
#include "io/gguf.h"
#include "model/gguf.h"
#include "text/gguf_vocab.h"

static void touch_tensors(const fm_gguf_set *s, size_t size) {
    unsigned sum = 0;
    int64_t total = 0;
    for (size_t i = 0; i < fm_gguf_set_count(s); i++) {
        const fm_gguf_weight *w = fm_gguf_set_at(s, i);
        for (int64_t k = 0; k < w->bytes; k++) {
            sum += w->data[k];
        }
        total += w->bytes;
        if (fm_gguf_set_find(s, w->name) != w) {
            abort();
        }
        float block[256];
        if (w->bytes > 0) {
            fm_gguf_read_f32(block, w, 0, fm_dtype_get(w->dtype)->block);
        }
    }
    if ((size_t)total > size || sum > 255u * size) {
        abort();
    }
}

static void touch_metadata(const fm_gguf *g) {
    unsigned sum = 0;
    for (size_t i = 0; i < fm_gguf_kv_count(g); i++) {
        const fm_gguf_kv *kv = fm_gguf_kv_at(g, i);
        const uint8_t *at = kv->value;
        for (uint64_t k = 0; k < kv->n; k++) {
            if (kv->item == FM_GGUF_STRING) {
                fm_gguf_text t = fm_gguf_next_text(&at);
                for (size_t c = 0; c < t.len; c++) {
                    sum += (uint8_t)t.ptr[c];
                }
            } else {
                sum += fm_gguf_item_num(kv, k) > 0;
            }
        }
    }
    if (sum == 0x12345678) { /* the loop is not to be optimised away */
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fm_gguf_set *s;
    if (fm_gguf_set_parse(&s, data, size, "input") != FM_OK) {
        return 0;
    }
    const fm_gguf *g = fm_gguf_set_meta(s);
    touch_tensors(s, size);
    touch_metadata(g);
    fm_str json = {0}, config = {0};
    fm_tokenizer *t = NULL;
    if (fm_gguf_tokenizer_json(&json, &config, g) == FM_OK &&
        fm_tokenizer_parse(&t, json.data, json.len, config.data, config.len, "input") == FM_OK) {
        fm_tokens ids = {0};
        (void)(fm_tokenizer_encode(&ids, t, "a b\xc3\xa9 12", 9, NULL) == FM_OK);
        fm_tokens_free(&ids);
    }
    fm_tokenizer_free(t);
    fm_str_free(&json);
    fm_str_free(&config);
    fm_gguf_set_close(s);
    (void)(fm_model_parse_gguf(data, size) == FM_OK);
    return 0;
}
