/* The content filter: words, patterns and personal data, whole and in pieces of every size. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"
#include "serve/screen.h"
#include "serve/screen_rule.h"

static fm_screen *load(const char *yaml) {
    fm_screen *g = NULL;
    fm_status s = fm_screen_parse(&g, yaml, strlen(yaml), "test.yaml");
    if (s != FM_OK) {
        fail_msg("%s", fm_error_get().message);
    }
    return g;
}

/* The text in pieces of `piece` bytes (0: of random sizes), what came out in out. */
static bool pass(fm_screen *g, const char *text, size_t piece, fm_str *out) {
    fm_screen_text t = {.g = g, .output = true};
    size_t n = strlen(text);
    fm_str_clear(out);
    for (size_t at = 0; at < n;) {
        size_t len = piece ? piece : 1 + (size_t)rand() % 7;
        len = FM_MIN(len, n - at);
        assert_int_equal(fm_screen_push(&t, text + at, len, false, out), FM_OK);
        at += len;
    }
    assert_int_equal(fm_screen_push(&t, "", 0, true, out), FM_OK);
    bool blocked = t.blocked;
    fm_screen_text_free(&t);
    fm_str_putc(out, '\0');
    return blocked;
}

typedef struct sample {
    const char *text, *want;
} sample;

static void check(const char *yaml, const sample *s, size_t n, bool blocks) {
    fm_screen *g = load(yaml);
    fm_str out = {0};
    for (size_t i = 0; i < n; i++) {
        for (size_t piece = 0; piece < 40; piece++) {
            bool blocked = pass(g, s[i].text, piece, &out);
            assert_string_equal(out.data, s[i].want);
            assert_int_equal(blocked, blocks && strcmp(s[i].text, s[i].want) != 0);
        }
    }
    fm_str_free(&out);
    fm_screen_free(g);
}

static void test_words(void **state) {
    (void)state;
    static const sample s[] = {
        {"A bad word, BAD, badly, not-bad.", "A * word, *, badly, not-*."},
        {"bad", "*"},
        {"very bad thing", "*"},
        {"very bad things", "very * things"},
        {"It is \xe5\x9d\x8f\xe8\x9b\x8b today", "It is * today"}, /* huai dan */
        {"\xe4\xbb\x96\xe6\x98\xaf\xe5\x9d\x8f\xe8\x9b\x8b\xe3\x80\x82", "\xe4\xbb\x96\xe6\x98\xaf*\xe3\x80\x82"},
        {"c++ and c and c++", "* and c and *"},
        {"", ""},
        {"ba", "ba"},
        {"ba d ver very very bad thing", "ba d ver very *"},
    };
    check("rules:\n- name: w\n  words: [bad, very bad thing, \"\xe5\x9d\x8f\xe8\x9b\x8b\", c++]\n  action: mask\n  "
          "mask: '*'\n",
          s, FM_ARRAY_LEN(s), false);
}

static void test_block(void **state) {
    (void)state;
    static const sample s[] = {
        {"The key is sk-abcdefghij0123456789 and more", "The key is "},
        {"The key is sk-abc and more", "The key is sk-abc and more"},
        {"sk-", "sk-"},
    };
    check("rules:\n- name: keys\n  regex: 'sk-[a-z0-9]{10,}'\n", s, FM_ARRAY_LEN(s), true);
}

static void test_privacy(void **state) {
    (void)state;
    static const sample s[] = {
        {"Write to ann.b@example.com, or call +49 30 1234567 now.", "Write to #, or call # now."},
        {"Card 4111 1111 1111 1111 of 2026", "Card # of 2026"},
        {"IBAN DE89 3704 0044 0532 0130 00 is hers", "IBAN # is hers"},
        {"In 1999 there were 12 of 34 left.", "In 1999 there were 12 of 34 left."},
    };
    check("rules:\n- name: pii\n  privacy: [email, phone, card, iban]\n  action: mask\n  mask: '#'\n", s,
          FM_ARRAY_LEN(s), false);
}

/* Any text of a small alphabet, in any pieces, comes out as it does whole; and no banned text comes out. */
static void test_pieces(void **state) {
    (void)state;
    static const char *const parts[] = {"a", "b", "ab", " ", "aab", "bb ", "aba", "\xc3\xa9", "b b"};
    fm_screen *g = load("rules:\n- name: one\n  regex: 'ab+a|b b'\n  action: mask\n  mask: '_'\n"
                        "- name: two\n  words: [aab, bb]\n  action: mask\n  mask: '='\n"
                        "- name: three\n  words: [a]\n  action: flag\n");
    fm_str whole = {0}, out = {0}, text = {0};
    srand(7);
    for (int round = 0; round < 400; round++) {
        fm_str_clear(&text);
        for (int i = rand() % 30; i >= 0; i--) {
            fm_str_puts(&text, parts[(size_t)rand() % FM_ARRAY_LEN(parts)]);
        }
        (void)pass(g, text.data, text.len, &whole);
        (void)pass(g, text.data, 0, &out);
        assert_string_equal(out.data, whole.data);
        assert_null(strstr(out.data, "b b"));
        assert_null(strstr(out.data, "aba"));
    }
    fm_str_free(&whole);
    fm_str_free(&out);
    fm_str_free(&text);
    fm_screen_free(g);
}

static void test_long(void **state) {
    (void)state;
    fm_screen *g = load("rules:\n- name: open\n  regex: 'x[^y]*y'\n  action: mask\n");
    fm_screen_text t = {.g = g, .output = true};
    fm_str out = {0};
    char piece[64];
    memset(piece, 'x', sizeof piece);
    for (int i = 0; i < 4000; i++) { /* a find that never ends is not held for ever */
        assert_int_equal(fm_screen_push(&t, piece, sizeof piece, false, &out), FM_OK);
    }
    assert_true(out.len >= 4000 * sizeof piece - FM_SCREEN_HOLD - 256);
    assert_true(t.buf.len < 3 * FM_SCREEN_HOLD);
    fm_screen_text_free(&t);
    fm_str_free(&out);
    fm_screen_free(g);
}

static void test_request(void **state) {
    (void)state;
    static const char body[] =
        "{\"model\":\"bad\",\"stop\":[\"bad\"],\"messages\":[{\"role\":\"bad\",\"content\":\"so bad\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"bad\",\"text\":\"bad!\"}]}],\"n\":2}";
    fm_screen *g = load("rules:\n- name: w\n  words: [bad]\n  action: mask\n- name: b\n  words: [worse]\n");
    fm_json *j = NULL;
    bool blocked = true;
    const char *found = NULL;
    fm_str out = {0};
    assert_int_equal(fm_json_parse(&j, body, sizeof body - 1, "test"), FM_OK);
    assert_int_equal(fm_screen_request(g, &j, &blocked, &found), FM_OK);
    assert_false(blocked);
    assert_string_equal(found, "w");
    assert_string_equal(fm_json_str(fm_json_get(j, "model"), NULL), "bad"); /* a setting, no content */
    assert_string_equal(fm_json_str(fm_json_at(fm_json_get(j, "stop"), 0), NULL), "bad");
    const fm_json *first = fm_json_at(fm_json_get(j, "messages"), 0),
                  *second = fm_json_at(fm_json_get(j, "messages"), 1);
    assert_string_equal(fm_json_str(fm_json_get(first, "role"), NULL), "bad");
    assert_string_equal(fm_json_str(fm_json_get(first, "content"), NULL), "so [removed]");
    const fm_json *part = fm_json_at(fm_json_get(second, "content"), 0);
    assert_string_equal(fm_json_str(fm_json_get(part, "type"), NULL), "bad");
    assert_string_equal(fm_json_str(fm_json_get(part, "text"), NULL), "[removed]!");
    fm_json_free(j);
    assert_int_equal(fm_json_parse(&j, "{\"prompt\":[\"fine\",\"worse\"]}", 27, "test"), FM_OK);
    assert_int_equal(fm_screen_request(g, &j, &blocked, &found), FM_OK);
    assert_true(blocked);
    fm_screen_metrics(&out, g, "m=\"x\"");
    assert_non_null(strstr(out.data, "{m=\"x\",rule=\"w\",action=\"mask\",direction=\"input\"} 2\n"));
    assert_non_null(strstr(out.data, "{m=\"x\",rule=\"b\",action=\"block\",direction=\"input\"} 1\n"));
    fm_str_free(&out);
    fm_json_free(j);
    fm_screen_free(g);
}

static void test_bad_files(void **state) {
    (void)state;
    static const struct {
        const char *yaml, *says;
    } cases[] = {
        {"", "rules"},
        {"rules: []", "rules"},
        {"rules:\n- words: [a]\n", "no name"},
        {"rules:\n- name: x\n", "no words"},
        {"rules:\n- name: x\n  wrods: [a]\n", "wrods"},
        {"rules:\n- name: x\n  regex: '('\n", "regex"},
        {"rules:\n- name: x\n  words: [a]\n  action: ban\n", "action"},
        {"rules:\n- name: x\n  words: [a]\n  on: never\n", "on: expected"},
        {"rules:\n- name: x\n  privacy: [names]\n", "privacy"},
        {"rules:\n- name: x\n  words_file: /nothing/here\n", "/nothing/here"},
        {"rules:\n- name: x\n  model: /nothing/here\n", "/nothing/here"},
    };
    for (size_t i = 0; i < FM_ARRAY_LEN(cases); i++) {
        fm_screen *g = NULL;
        assert_int_not_equal(fm_screen_parse(&g, cases[i].yaml, strlen(cases[i].yaml), "t.yaml"), FM_OK);
        assert_null(g);
        if (!strstr(fm_error_get().message, cases[i].says)) {
            fail_msg("\"%s\" lacks \"%s\"", fm_error_get().message, cases[i].says);
        }
    }
}

/* Every allocation refused once: a status, never a crash or a leak. */
static void test_no_memory(void **state) {
    (void)state;
    static const char yaml[] = "rules:\n- name: w\n  words: [bad, worse]\n  privacy: all\n  action: mask\n";
    for (int64_t n = 1; n < 200; n++) {
        fm_screen *g = NULL;
        fm_str out = {0};
        fm_mem_fail_at(n, false);
        fm_status s = fm_screen_parse(&g, yaml, sizeof yaml - 1, "t.yaml");
        fm_screen_text t = {.g = g, .output = true};
        if (s == FM_OK) {
            s = fm_screen_push(&t, "so bad 123", 10, true, &out);
        }
        fm_mem_fail_at(0, false);
        assert_true(s == FM_OK || s == FM_ERR_NO_MEMORY);
        fm_screen_text_free(&t);
        fm_str_free(&out);
        fm_screen_free(g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),     cmocka_unit_test(test_block),     cmocka_unit_test(test_privacy),
        cmocka_unit_test(test_pieces),    cmocka_unit_test(test_long),      cmocka_unit_test(test_request),
        cmocka_unit_test(test_bad_files), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
