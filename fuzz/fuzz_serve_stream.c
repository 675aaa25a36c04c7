/* A stream on its way out: the first byte says how many of the next ones are lengths of pieces, the rest is the text.
 * What the content filter lets through must not depend on the pieces, and every event of a response must be JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "fuzz.h"
#include "serve/responses.h"

static const char rules[] = "rules:\n- name: r\n  regex: 'k-[a-z]{3,}|a.c'\n  action: mask\n"
                            "- name: w\n  words: [bad, bad idea, \"\xe5\x9d\x8f\"]\n  action: mask\n  mask: '*'\n"
                            "- name: b\n  words: [worst]\n";

static const char privacy[] = "rules:\n- name: p\n  privacy: all\n  action: mask\n";

static fm_screen *screen(bool by_rules) {
    static fm_screen *g[2];
    const char *text = by_rules ? rules : privacy;
    if (!g[by_rules] && fm_screen_parse(&g[by_rules], text, strlen(text), "fuzz.yaml") != FM_OK) {
        abort();
    }
    return g[by_rules];
}

/* A piece of an answer: text, or by the cut a call of a function with what follows as arguments. */
static void part(fm_str *sent, fm_responses *r, int kind, const char *text, size_t n) {
    if (kind == 3) {
        fm_responses_call(sent, r, text, n, 7);
    } else if (kind == 2) {
        fm_responses_arguments(sent, r, text, n);
    } else {
        fm_responses_text(sent, r, text, n);
    }
}

/* Lets the text through; with r each piece also becomes events in `sent`. */
static bool pass(fm_screen *g, const uint8_t *cuts, size_t n_cuts, const char *text, size_t n, fm_str *out,
                 fm_responses *r, fm_str *sent) {
    fm_screen_text t = {.g = g, .output = true};
    for (size_t at = 0, i = 0; at < n; i++) {
        size_t len = n_cuts ? (size_t)1 + cuts[i % n_cuts] % 32 : n, before = out->len;
        len = FM_MIN(len, n - at);
        if (fm_screen_push(&t, text + at, len, at + len == n, out) != FM_OK) {
            abort();
        }
        if (r) {
            part(sent, r, n_cuts ? cuts[i % n_cuts] >> 6 : 0, out->data ? out->data + before : "", out->len - before);
        }
        at += len;
    }
    bool blocked = t.blocked;
    fm_screen_text_free(&t);
    return blocked;
}

static void check_events(const fm_str *sent) {
    for (char *p = sent->data; p && *p;) {
        char *data = strstr(p, "data: "), *end = data ? strstr(data, "\n\n") : NULL;
        fm_json *j = NULL;
        if (!end || fm_json_parse(&j, data + 6, (size_t)(end - data - 6), "event") != FM_OK) {
            abort();
        }
        fm_json_free(j);
        p = end + 2;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t n_cuts = size ? FM_MIN((size_t)(data[0] % 16) + 1, size - 1) : 0;
    fm_str whole = {0}, cut = {0}, sent = {0};
    static fm_serve s;
    fm_call c = {.s = &s};
    fm_params_asked asked = {0};
    fm_responses r;
    if (size < 3 || size > 2048) { /* longer finds than are held may differ, as screen.h says */
        return 0;
    }
    const char *text = (const char *)data + 1 + n_cuts;
    size_t n = size - 1 - n_cuts;
    snprintf(c.id, sizeof c.id, "fuzz");
    fm_responses_init(&r, &c, &asked);
    r.stream = true;
    bool a = pass(screen(true), NULL, 0, text, n, &whole, NULL, NULL),
         b = pass(screen(true), data + 1, n_cuts, text, n, &cut, &r, &sent);
    if (fm_utf8_valid(text, n) &&
        (a != b || whole.len != cut.len || (cut.len > 0 && memcmp(whole.data, cut.data, cut.len) != 0))) {
        abort();
    }
    fm_str_clear(&whole);
    (void)pass(screen(false), data + 1, n_cuts, text, n, &whole, NULL, NULL); /* numbers glued to others may differ */
    fm_responses_end e = {.finish = FM_FINISH_EOS, .message = "", .filtered = b};
    fm_responses_conclude(&sent, &r, &e);
    fm_str_putc(&sent, '\0');
    check_events(&sent);
    fm_responses_free(&r);
    fm_str_free(&whole);
    fm_str_free(&cut);
    fm_str_free(&sent);
    return 0;
}
