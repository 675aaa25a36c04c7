/* Bodies of requests to the service, as JSON: settings, messages, texts, the content filter. Nothing may crash, and a
 * request that the filter masked holds nothing of what it looks for. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "fuzz.h"
#include "serve/chat_prompt.h"
#include "serve/params.h"
#include "serve/text_input.h"

static const char words[] = "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"<unk>\":0,\"a\":1,\"b\":2,\"user\":3,"
                            "\"assistant\":4,\"system\":5},"
                            "\"unk_token\":\"<unk>\"},\"pre_tokenizer\":{\"type\":\"Whitespace\"},\"added_tokens\":[]}";
static const char rules[] = "rules:\n- name: w\n  words: [secret]\n  privacy: all\n  action: mask\n  mask: ''\n";

static fm_serve *service(void) {
    static fm_serve *s;
    static fm_tokenizer *tok;
    if (!s) {
        s = fm_calloc(1, sizeof *s);
        if (!s || fm_tokenizer_parse(&tok, words, sizeof words - 1, NULL, 0, "fuzz") != FM_OK ||
            fm_template_open(&s->chat, "chatml", tok) != FM_OK ||
            fm_screen_parse(&s->screen, rules, sizeof rules - 1, "fuzz.yaml") != FM_OK) {
            abort();
        }
        s->tok = tok;
        s->info.vocab_size = 6;
        s->default_temperature = s->default_top_p = s->default_repetition_penalty = 1;
        strcpy(s->name, "fuzz");
    }
    return s;
}

static void read_all(fm_serve *s, const fm_json *body) {
    static const char *const keys[] = {"prompt", "input", "text"};
    fm_params_asked asked = {0};
    fm_tokens ids = {0};
    for (int chat = 0; chat < 2; chat++) {
        if (fm_params_read(&asked, s, body, chat == 1) == FM_OK && (asked.n < 1 || asked.n > FM_MAX_CHOICES)) {
            abort();
        }
        fm_params_asked_free(&asked);
    }
    fm_chat_plan plan = {0};
    if (fm_chat_prompt(&ids, &plan, s, body) == FM_OK && ids.n > (size_t)1 << 28) {
        abort();
    }
    fm_tokens_free(&ids);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        fm_text_input in = {0};
        if (fm_text_input_read_plain(&in, s, body, keys[i], "text_pair") == FM_OK &&
            (in.n < 1 || in.offsets[in.n] != (int32_t)in.ids.n)) {
            abort();
        }
        fm_text_input_free(&in);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fm_serve *s = service();
    fm_json *body = NULL;
    bool blocked = false;
    const char *found = NULL;
    if (size > (1 << 16) || fm_json_parse(&body, (const char *)data, size, "fuzz") != FM_OK) {
        return 0;
    }
    if (fm_json_is_object(body)) {
        read_all(s, body);
        if (fm_screen_request(s->screen, &body, &blocked, &found) == FM_OK) {
            const char *text = fm_json_str(fm_json_get(body, "prompt"), NULL);
            if (blocked || (text && strstr(text, " secret "))) {
                abort();
            }
            read_all(s, body);
        }
    }
    fm_json_free(body);
    return 0;
}
