#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "io/jsonl.h"

static void test_fields(void **state) {
    FM_UNUSED(state);
    const char *line =
        " {\"text\": \"a\\n\\u4f60\\ud83d\\ude00\\\\\", \"n\": -1.5e3, \"b\": true, \"z\": null, "
        "\"o\": {\"k\": [1, {\"q\": \"]}\"}]}, \"a\": [ 1 , \"x\", [2], {} ], \"t\\u0065xt2\": \"p\", \"n\": 7} ";
    const char *names[] = {"text", "n", "b", "z", "o", "a", "text2", "none"};
    fm_json_value v[8];
    assert_int_equal(fm_jsonl_scan(line, strlen(line), names, 8, v), FM_OK);
    fm_str s = {0};
    fm_jsonl_text(&s, &v[0]);
    assert_string_equal(s.data, "a\n\xE4\xBD\xA0\xF0\x9F\x98\x80\\");
    double d;
    assert_int_equal(fm_jsonl_number(&d, &v[1]), FM_OK);
    assert_true(d == 7); /* the last of a repeated key */
    assert_int_equal(fm_jsonl_number(&d, &v[0]), FM_ERR_DATA);
    assert_int_equal(v[2].kind, FM_JSON_TRUE);
    assert_int_equal(v[3].kind, FM_JSON_NULL);
    assert_int_equal(v[4].kind, FM_JSON_OBJECT);
    assert_true(fm_sv_eq(v[4].raw, "{\"k\": [1, {\"q\": \"]}\"}]}"));
    assert_true(fm_sv_eq(v[6].raw, "p"));
    assert_int_equal(v[7].kind, FM_JSON_MISSING);
    static const char *const items[] = {"1", "x", "[2]", "{}"};
    fm_sv rest = v[5].raw;
    fm_json_value item;
    size_t n = 0;
    while (fm_jsonl_next(&rest, &item)) {
        assert_true(n < 4 && fm_sv_eq(item.raw, items[n]));
        n++;
    }
    assert_int_equal(n, 4);
    rest = fm_sv_of("[]");
    assert_false(fm_jsonl_next(&rest, &item));
    assert_int_equal(fm_jsonl_scan("{}", 2, NULL, 0, NULL), FM_OK);
    fm_str_free(&s);
}

static void test_columns(void **state) {
    FM_UNUSED(state);
    static const struct {
        const char *line;
        int column;
    } bad[] = {
        {"", 1},
        {"[1]", 1},
        {"{\"a\": 1", 8},
        {"{\"a\": 1,}", 9},
        {"{\"a\" 1}", 6},
        {"{a: 1}", 2},
        {"{\"a\": 01}", 7},
        {"{\"a\": 1.}", 7},
        {"{\"a\": +1}", 7},
        {"{\"a\": NaN}", 7},
        {"{\"a\": \"x}", 7},
        {"{\"a\": \"x\\q\"}", 9},
        {"{\"a\": \"x\\u12g4\"}", 9},
        {"{\"a\": \"\\ud800\"}", 8},
        {"{\"a\": \"\\udc00\"}", 8},
        {"{\"a\": \"\\ud800\\u0041\"}", 8},
        {"{\"a\": \"x\tz\"}", 9},
        {"{\"a\": \"abcdefgh\xFFz\"}", 16},
        {"{\"a\": \"\xE4\xBD\xA0\xED\xA0\x80\"}", 11},
        {"{\"a\": [1, 2}", 12},
        {"{\"a\": {\"b\": 1]}", 14},
        {"{\"a\": [1,]}", 10},
        {"{\"a\": 1} x", 10},
        {"{\"a\": tru}", 7},
    };
    for (size_t i = 0; i < FM_ARRAY_LEN(bad); i++) {
        assert_int_equal(fm_jsonl_scan(bad[i].line, strlen(bad[i].line), NULL, 0, NULL), FM_ERR_DATA);
        char want[32];
        snprintf(want, sizeof want, "column %d:", bad[i].column);
        if (strncmp(fm_error_get().message, want, strlen(want)) != 0) {
            fail_msg("%s -> %s", bad[i].line, fm_error_get().message);
        }
    }
    char deep[1300];
    memset(deep, '[', sizeof deep);
    memcpy(deep, "{\"a\":", 5);
    assert_int_equal(fm_jsonl_scan(deep, sizeof deep, NULL, 0, NULL), FM_ERR_DATA);
}

/* Random small edits of valid lines: the verdict and the string must agree with jansson's. */
static void test_against_jansson(void **state) {
    FM_UNUSED(state);
    static const char *const seeds[] = {
        "{\"text\": \"hello \\u00e9 \xE4\xBD\xA0 world, long enough\", \"n\": [1, -2.5e+3, {\"q\": []}], \"b\": false}",
        "{\"text\": \"\\ud83d\\ude00\\n\\t\\\"\\\\\\/\", \"o\": {\"p\": {}, \"text\": 0}, \"x\": null}",
    };
    static const char alphabet[] = "{}[]\",:\\u0dDeE+-.19tfn \t\xE4\xBD\xF0\xED";
    fm_rng_key k = {1, fm_rng_stream("edits"), 0};
    const char *name = "text";
    int n_good = 0;
    for (uint64_t i = 0; i < 60000; i++) {
        char line[256];
        size_t n = strlen(seeds[i % 2]);
        memcpy(line, seeds[i % 2], n);
        for (uint64_t e = 0; e < 1 + i % 3; e++) {
            size_t at = (size_t)fm_rng_below(k, i * 16 + e * 4, n);
            char c = alphabet[fm_rng_below(k, i * 16 + e * 4 + 1, sizeof alphabet - 1)];
            switch (fm_rng_below(k, i * 16 + e * 4 + 2, 3)) {
            case 0:
                line[at] = c;
                break;
            case 1:
                memmove(line + at, line + at + 1, n - at - 1);
                n--;
                break;
            default:
                memmove(line + at + 1, line + at, n - at);
                line[at] = c;
                n++;
                break;
            }
        }
        char *exact = fm_malloc(n); /* its own block, so that a sanitizer sees a read past the end */
        assert_non_null(exact);
        memcpy(exact, line, n);
        fm_json_value v;
        fm_json *j;
        fm_status a = fm_jsonl_scan(exact, n, &name, 1, &v);
        fm_status b = fm_json_parse(&j, line, n, "x");
        bool object = b == FM_OK && fm_json_is_object(j);
        if ((a == FM_OK) != object) {
            fail_msg("%.*s: scan %d, jansson %d (%s)", (int)n, line, a, b, fm_error_get().message);
        }
        if (a == FM_OK) {
            n_good++;
            size_t len = 0;
            const char *want = fm_json_str(fm_json_get(j, "text"), &len);
            assert_int_equal(want != NULL, v.kind == FM_JSON_STRING);
            if (want) {
                fm_str s = {0};
                fm_jsonl_text(&s, &v);
                fm_str_append(&s, "", 0);
                if (s.len != len || memcmp(s.data, want, len) != 0) {
                    fail_msg("%.*s", (int)n, line);
                }
                fm_str_free(&s);
            }
        }
        fm_free(exact);
        fm_json_free(j);
    }
    assert_true(n_good > 5000);
}

static void speed(const char *what, const char *piece) {
    const size_t want = 4 << 20;
    fm_str s = {0};
    fm_str_puts(&s, "{\"id\": 1, \"text\": \"");
    while (s.len < want) {
        fm_str_puts(&s, piece);
    }
    fm_str_puts(&s, "\"}");
    const char *name = "text";
    fm_json_value v;
    double t = fm_now();
    for (int i = 0; i < 10; i++) {
        assert_int_equal(fm_jsonl_scan(s.data, s.len, &name, 1, &v), FM_OK);
    }
    print_message("%s: %.0f MB/s\n", what, 10 * (double)s.len / (fm_now() - t) / 1e6);
    fm_str_free(&s);
}

static void test_speed(void **state) {
    FM_UNUSED(state);
    speed("ascii", "The patient reports mild pain in the left knee. ");
    speed("ascii with escapes", "A line of common length in a document of prose text.\\n");
    speed("chinese", "\xE4\xBD\xA0\xE5\xA5\xBD\xEF\xBC\x8C\xE4\xB8\x96\xE7\x95\x8C");
    speed("french", "Le m\xC3\xA9"
                    "decin a pr\xC3\xA9scrit un traitement. ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_against_jansson),
        cmocka_unit_test(test_speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
