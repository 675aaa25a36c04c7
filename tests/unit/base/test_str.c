#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

static void test_build(void **state) {
    FM_UNUSED(state);
    fm_str s = {0};
    fm_str_puts(&s, "a");
    fm_str_putc(&s, 'b');
    fm_str_printf(&s, "%05d", 42);
    fm_str_append(&s, "x\0y", 3);
    assert_int_equal(s.len, 10);
    assert_memory_equal(s.data, "ab00042x\0y", 11);
    assert_int_equal(fm_str_check(&s), FM_OK);
    char *t = fm_str_take(&s);
    assert_null(s.data);
    fm_free(t);
    t = fm_str_take(&s);
    assert_string_equal(t, "");
    fm_free(t);
    fm_mem_fail_at(1, true);
    fm_str_puts(&s, "no");
    fm_mem_fail_at(0, false);
    fm_str_puts(&s, "still no");
    assert_int_equal(fm_str_check(&s), FM_ERR_NO_MEMORY);
    assert_int_equal(s.len, 0);
    fm_str_free(&s);
}

static void test_json_string(void **state) {
    FM_UNUSED(state);
    fm_str s = {0};
    const char raw[] = "a\"b\\c\n\x01\xE4\xBD\xA0\xFF\xC3";
    fm_str_json(&s, raw, sizeof raw - 1);
    assert_string_equal(s.data, "\"a\\\"b\\\\c\\n\\u0001\xE4\xBD\xA0\xEF\xBF\xBD\xEF\xBF\xBD\"");
    fm_str_clear(&s);
    fm_str_json(&s, "\0\xC2\x85\xE2\x80\xA8", 6);
    assert_string_equal(s.data, "\"\\u0000\\u0085\\u2028\"");
    fm_str_free(&s);
}

static void test_nearest(void **state) {
    FM_UNUSED(state);
    const char *names[] = {"learning_rate", "lr_scheduler_type", "lora_rank", "stage", "seed"};
    assert_int_equal(fm_nearest_name("leaning_rate", names, 5), 0);
    assert_int_equal(fm_nearest_name("learning-rtae", names, 5), 0);
    assert_int_equal(fm_nearest_name("lora_rnak", names, 5), 2);
    assert_int_equal(fm_nearest_name("sed", names, 5), 4);
    assert_int_equal(fm_nearest_name("zzzzzz", names, 5), -1);
    assert_int_equal(fm_nearest_name("", names, 5), -1);
}

static void test_format(void **state) {
    FM_UNUSED(state);
    char b[32];
    assert_string_equal(fm_format_bytes(b, sizeof b, 512), "512 B");
    assert_string_equal(fm_format_bytes(b, sizeof b, 1.5 * (1 << 30)), "1.5 GiB");
    assert_string_equal(fm_format_bytes(b, sizeof b, 1048575), "1.0 MiB");
    assert_string_equal(fm_format_count(b, sizeof b, 12345), "12.3k");
    assert_string_equal(fm_format_count(b, sizeof b, 999), "999");
    assert_string_equal(fm_format_count(b, sizeof b, 26e6), "26.0M");
    assert_string_equal(fm_format_duration(b, sizeof b, 1.25), "1.2s");
    assert_string_equal(fm_format_duration(b, sizeof b, 59.99), "1m 00s");
    assert_string_equal(fm_format_duration(b, sizeof b, 2 * 3600 + 3 * 60 + 5), "2h 03m");
    assert_string_equal(fm_format_duration(b, sizeof b, 90000), "1d 01h");
}

static void test_parse(void **state) {
    FM_UNUSED(state);
    static const struct {
        const char *text;
        int64_t bytes, count; /* -1: refused */
    } rows[] = {
        {"4096", 4096, 4096},
        {"6GB", 6000000000, -1},
        {"512MiB", 512 << 20, -1},
        {"1.5g", 1500000000, 1500000000},
        {"2 GiB", (int64_t)2 << 30, -1},
        {"300M", 300000000, 300000000},
        {"1.2B", 1, 1200000000}, /* 1.2 bytes is one byte; 1.2 billion is a count */
        {"26m", 26000000, 26000000},
        {"4k", 4000, 4000},
        {"0.5", 0, -1},
        {"9223372036854775807", -2, INT64_MAX},
        {"99999999999999999999", -1, -1},
        {"", -1, -1},
        {"abc", -1, -1},
        {"12x", -1, -1},
        {"0x10", -1, -1},
        {"inf", -1, -1},
        {"nan", -1, -1},
        {"-5", -1, -5},
        {"1e6", 1000000, 1000000},
    };
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        int64_t v = -7;
        fm_status s = fm_parse_count(&v, rows[i].text);
        if (rows[i].count == -1) {
            assert_int_equal(s, FM_ERR_ARGUMENT);
        } else {
            assert_int_equal(s, FM_OK);
            assert_int_equal(v, rows[i].count);
        }
        s = fm_parse_bytes(&v, rows[i].text);
        if (rows[i].bytes == -1) {
            assert_int_equal(s, FM_ERR_ARGUMENT);
        } else if (rows[i].bytes >= 0) {
            assert_int_equal(s, FM_OK);
            assert_int_equal(v, rows[i].bytes);
        }
    }
    int64_t i;
    double d;
    assert_int_equal(fm_parse_i64(&i, "-12"), FM_OK);
    assert_int_equal(i, -12);
    assert_int_equal(fm_parse_i64(&i, "12 "), FM_ERR_ARGUMENT);
    assert_int_equal(fm_parse_i64(&i, " 12"), FM_ERR_ARGUMENT);
    assert_int_equal(fm_parse_i64(&i, "9223372036854775808"), FM_ERR_ARGUMENT);
    assert_int_equal(fm_parse_f64(&d, "5e-5"), FM_OK);
    assert_true(d == 5e-5);
    assert_int_equal(fm_parse_f64(&d, "5e-5x"), FM_ERR_ARGUMENT);
}

/* Every code point round-trips; validity of all 1- to 3-byte strings against a direct reading of the
 * table in RFC 3629. */
static bool rfc3629(const unsigned char *p, size_t n) {
    size_t i = 0;
    while (i < n) {
        unsigned c = p[i];
        size_t k = c < 0x80                 ? 1
                   : c >= 0xC2 && c <= 0xDF ? 2
                   : c >= 0xE0 && c <= 0xEF ? 3
                   : c >= 0xF0 && c <= 0xF4 ? 4
                                            : 0;
        if (k == 0 || i + k > n) {
            return false;
        }
        for (size_t j = 1; j < k; j++) {
            unsigned lo = 0x80, hi = 0xBF;
            if (j == 1) {
                lo = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
                hi = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
            }
            if (p[i + j] < lo || p[i + j] > hi) {
                return false;
            }
        }
        i += k;
    }
    return true;
}

static void test_utf8(void **state) {
    FM_UNUSED(state);
    for (uint32_t cp = 0; cp <= 0x110010; cp++) {
        char b[4];
        int n = fm_utf8_encode(b, cp);
        bool legal = cp <= 0x10FFFF && !(cp >= 0xD800 && cp <= 0xDFFF);
        assert_int_equal(n > 0, legal);
        uint32_t back = 0;
        if (legal && (fm_utf8_decode(&back, b, b + n) != n || back != cp || fm_utf8_decode(&back, b, b + n - 1) != 0)) {
            fail_msg("U+%X", (unsigned)cp);
        }
        if (legal && (!fm_utf8_valid(b, (size_t)n) || fm_utf8_complete_prefix(b, (size_t)n) != (size_t)n ||
                      (n > 1 && fm_utf8_complete_prefix(b, (size_t)n - 1) != 0))) {
            fail_msg("U+%X", (unsigned)cp);
        }
    }
    for (uint32_t w = 0; w < 1u << 24; w += 3) {
        unsigned char b[4] = {(unsigned char)(w >> 16), (unsigned char)(w >> 8), (unsigned char)w, 0x80};
        if (fm_utf8_valid((char *)b, 3) != rfc3629(b, 3) || fm_utf8_valid((char *)b, 4) != rfc3629(b, 4)) {
            fail_msg("%02x %02x %02x", b[0], b[1], b[2]);
        }
    }
    assert_true(fm_utf8_valid("plain ascii of some length, more than eight bytes", 48));
    assert_false(fm_utf8_valid("plain ascii of some length\xFF, then more", 38));
    assert_int_equal(fm_utf8_complete_prefix("ab\xE4\xBD", 4), 2);
    assert_int_equal(fm_utf8_complete_prefix("ab\x80\x80\x80", 5), 5);
    assert_int_equal(fm_utf8_width("a\xE4\xBD\xA0\xE5\xA5\xBD"
                                   "e\xCC\x81",
                                   10),
                     6);
}

static void test_trim_and_time(void **state) {
    (void)state;
    char buf[32];
    fm_sv s = fm_sv_trim(fm_sv_of(" \t\r\na b\v\f\n "));
    assert_true(fm_sv_eq(s, "a b"));
    assert_int_equal(fm_sv_trim(fm_sv_of(" \n ")).len, 0);
    assert_int_equal(fm_sv_trim((fm_sv){NULL, 0}).len, 0);
    assert_string_equal(fm_format_utc(buf, sizeof buf, 0), "1970-01-01T00:00:00Z");
    assert_string_equal(fm_format_utc(buf, sizeof buf, 951782399999), "2000-02-28T23:59:59Z");
    assert_string_equal(fm_format_utc(buf, 4, 0), "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trim_and_time), cmocka_unit_test(test_build),  cmocka_unit_test(test_json_string),
        cmocka_unit_test(test_nearest),       cmocka_unit_test(test_format), cmocka_unit_test(test_parse),
        cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
