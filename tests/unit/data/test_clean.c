/* The step clean: its normal form, made piece by piece, against the library's of whole texts, and the examples of
 * UAX #15; what it leaves alone. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "run_step.h"

static const char *const only_form[] = {"spaces", "false", "controls", "false", "newlines", "false", NULL};

static void becomes(const char *json, const char *want, const char *const *options) {
    fm_str in = {0}, line = {0};
    char *out = NULL;
    fm_str_printf(&in, "{\"text\":\"%s\"}\n", json);
    fm_str_printf(&line, "{\"text\":\"%s\"}\n", want);
    assert_int_equal(run_step(&out, NULL, "clean", in.data, in.len, options), FM_OK);
    assert_string_equal(out, line.data);
    fm_free(out);
    fm_str_free(&in);
    fm_str_free(&line);
}

static void test_forms(void **state) {
    (void)state;
    becomes("\u212B A\u030A \u00C5", "\u00C5 \u00C5 \u00C5", only_form);
    becomes("D\u0323\u0307 \u1E0A\u0323 D\u0307\u0323", "\u1E0C\u0307 \u1E0C\u0307 \u1E0C\u0307", only_form);
    becomes("x\u0301\u0323", "x\u0323\u0301", only_form);                   /* reordered, not composed */
    becomes("\u0915\u093C \u0958", "\u0915\u093C \u0915\u093C", only_form); /* never composed */
    becomes("\u1112\u1161\u11AB\u1100\u1173\u11AF", "\uD55C\uAE00", only_form);
    becomes("\u0301e", "\u0301e", only_form); /* nothing before the mark */
    becomes("\u4E2D\u0301\u9FA5\uFA0C", "\u4E2D\u0301\u9FA5\u5140", only_form);
    static const char *const nfkc[] = {"form", "nfkc", NULL};
    becomes("\uFB01\u2460 \uFF21", "fi1 A", nfkc);
    static const char *const none[] = {"form", "none", NULL};
    becomes("A\u030A", "A\u030A", none);
}

static void test_characters(void **state) {
    (void)state;
    becomes("  a \\t b\\r\\n\\n\\n\\nc\u3000d  ", "a b\\n\\nc d", NULL);
    becomes("a\u200Bb\uFEFFc\u00ADd\u200De", "abcd\u200De", NULL);
    static const char *const wide[] = {"fullwidth", "true", "lowercase", "true", NULL};
    becomes("\uFF21\uFF22\uFF11\uFF0C\u4E2D\u6587\u3002 \u00C4\u0130", "ab1\uFF0C\u4E2D\u6587\u3002 \u00E4i", wide);
    becomes("\u4E2D\u6587 \u4E2D\u6587\u4E2D\u6587\u3000\u4E2D abc", "\u4E2D\u6587 \u4E2D\u6587\u4E2D\u6587 \u4E2D abc",
            NULL);
}

/* Random texts, rich in what composes, decomposes and is reordered: as the library does the whole text. */
static void test_pieces(void **state) {
    (void)state;
    static const uint32_t hot[] = {0x300,   0x301,   0x302,   0x307,   0x308,  0x30A,  0x323,  0x327,  0x331,  0x338,
                                   0x344,   0x345,   0x340,   0x5B0,   0x93C,  0x958,  0x9BE,  0x9C7,  0xDCF,  0xDDA,
                                   0x1100,  0x1161,  0x11A8,  0x1112,  0xAC00, 0xAC01, 0x1025, 0x102E, 0x1B35, 0x1E0A,
                                   0x1E9B,  0x1FB3,  0x2126,  0x212B,  0x226E, 0x3099, 0x304B, 0x309A, 0xF900, 0xFB1D,
                                   0x1D15E, 0x110BA, 0x11099, 0x2F800, 0x3B1,  0x391,  0x41,   0x65};
    uint32_t seed = 1;
    for (int i = 0; i < 40; i++) {
        fm_str in = {0}, text = {0}, want = {0};
        for (int k = 0; k < 200; k++) {
            fm_str_clear(&text);
            int n = 1 + k % 40;
            for (int j = 0; j < n; j++) {
                char utf8[4];
                seed = seed * 1664525u + 1013904223u;
                bool plain = (int)(seed >> 28) < i % 16;
                uint32_t c =
                    plain ? (uint32_t) "abcdefgh ijklmnop"[(seed >> 8) % 17] : hot[(seed >> 8) % FM_ARRAY_LEN(hot)];
                fm_str_append(&text, utf8, (size_t)fm_utf8_encode(utf8, c));
            }
            utf8proc_uint8_t *whole = utf8proc_NFC((const utf8proc_uint8_t *)text.data);
            assert_non_null(whole);
            fm_str_printf(&in, "{\"text\":\"%s\"}\n", text.data);
            fm_str_printf(&want, "{\"text\":\"%s\"}\n", (const char *)whole);
            free(whole);
        }
        char *out = NULL;
        assert_int_equal(run_step(&out, NULL, "clean", in.data, in.len, only_form), FM_OK);
        assert_string_equal(out, want.data);
        fm_free(out);
        fm_str_free(&in);
        fm_str_free(&text);
        fm_str_free(&want);
    }
}

/* More marks than a piece holds. */
static void test_long_piece(void **state) {
    (void)state;
    fm_str in = {0}, want = {0};
    fm_str_puts(&in, "e");
    fm_str_puts(&want, "\u00E9");
    for (int i = 0; i < 3000; i++) {
        fm_str_puts(&in, "\u0301");
        fm_str_puts(&want, i ? "\u0301" : "");
    }
    fm_str_puts(&in, " \u4E2D");
    fm_str_puts(&want, " \u4E2D");
    becomes(in.data, want.data, only_form);
    fm_str_free(&in);
    fm_str_free(&want);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_characters),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_long_piece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
