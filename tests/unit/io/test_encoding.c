/* Encodings: conversion in any pieces, what has no meaning, detection on short and long texts. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <iconv.h>

#include "tmpdir.h"

#include "base/error.h"
#include "base/mem.h"
#include "io/encoding.h"
#include "io/stream.h"

/* Article 1 of the Universal Declaration of Human Rights (public domain), and a short line of other words. */
static const struct {
    const char *name, *text, *brief;
} texts[] = {
    {"GB18030", "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
     "姓名,年龄,诊断\n王小明,34,肺炎\n"},
    {"BIG5-HKSCS", "人人生而自由，在尊嚴和權利上一律平等。他們賦有理性和良心，並應以兄弟關係的精神互相對待。",
     "這個學生很好\n"},
    {"CP932", "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。", "こんにちは世界"},
    {"EUC-JP", "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
     "こんにちは世界"},
    {"CP949",
     "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 인간은 천부적으로 이성과 양심을 "
     "부여받았으며 서로 형제애의 정신으로 행동하여야 한다.",
     "이것은 사람을 위한 것이다"},
    {"WINDOWS-1251", "Все люди рождаются свободными и равными в своем достоинстве и правах.", "Привет, мир"},
    {"KOI8-R", "Все люди рождаются свободными и равными в своем достоинстве и правах.", "Привет, мир"},
    {"WINDOWS-1252",
     "Tous les êtres humains naissent libres et égaux en dignité et en droits. Alle Menschen sind frei und "
     "gleich an Würde und Rechten geboren, sie müssen brüderlich begegnen.",
     "déjà vu, naïveté, façade"},
    {"UTF-16LE", "All human beings are born free and equal in dignity and rights.", "id,name\n1,Zoë\n"},
    {"UTF-16BE", "All human beings are born free and equal in dignity and rights.", "id,name\n1,Zoë\n"},
};

static void encode(fm_str *out, const char *name, const char *text) {
    iconv_t cd = iconv_open(name, "UTF-8");
    assert_true(cd != (iconv_t)-1);
    static char buf[4096];
    char *in = (char *)(uintptr_t)text, *to = buf;
    size_t n = strlen(text), room = sizeof buf;
    assert_true(iconv(cd, &in, &n, &to, &room) != (size_t)-1);
    fm_str_append(out, buf, (size_t)(to - buf));
    iconv_close(cd);
}

/* A C library without its conversion modules (an emulated one) knows Unicode alone. */
static void need_modules(void) {
    iconv_t cd = iconv_open("GB18030", "UTF-8");
    if (cd == (iconv_t)-1) {
        skip();
    }
    iconv_close(cd);
}

static const char *detect(const char *p, size_t n, bool whole) {
    const char *name = NULL;
    assert_int_equal(fm_encoding_detect(&name, p, n, whole), FM_OK);
    return name;
}

static void detects(void **state) {
    (void)state;
    need_modules();
    for (size_t i = 0; i < FM_ARRAY_LEN(texts); i++) {
        for (int brief = 0; brief < 2; brief++) {
            fm_str s = {0};
            encode(&s, texts[i].name, brief ? texts[i].brief : texts[i].text);
            assert_string_equal(detect(s.data, s.len, true), texts[i].name);
            fm_str_free(&s);
        }
        assert_string_equal(detect(texts[i].text, strlen(texts[i].text), true), FM_UTF8);
        assert_string_equal(detect(texts[i].text, strlen(texts[i].text) - 1, false), FM_UTF8);
    }
    /* UTF-8 with a few bad bytes stays UTF-8; so does what is no text at all, and a lone bad byte. */
    assert_string_equal(detect("\xE4\xBD\xA0\xE5\xA5\xBD \xFF good \xE4\xBD\xA0", 17, true), FM_UTF8);
    assert_string_equal(detect("ok\n\xFF\nok", 7, true), FM_UTF8);
    assert_string_equal(detect("\x80\x01\x90\x02\xF5\x03\xFF\x04\xC0", 9, true), FM_UTF8);
    assert_string_equal(detect("\xFF\xFEz\0", 4, true), "UTF-16LE");
    assert_string_equal(detect("\xFE\xFF\0z", 4, true), "UTF-16BE");
}

static void in_pieces(void **state) {
    (void)state;
    need_modules();
    for (size_t i = 0; i < FM_ARRAY_LEN(texts); i++) {
        fm_str s = {0};
        encode(&s, texts[i].name, texts[i].text);
        for (size_t step = 1; step < 12; step += 2) {
            fm_recoder *r;
            fm_str got = {0};
            assert_int_equal(fm_recoder_new(&r, texts[i].name), FM_OK);
            for (size_t at = 0; at < s.len; at += step) {
                size_t n = FM_MIN(step, s.len - at);
                assert_int_equal(fm_recoder_feed(r, &got, s.data + at, n, at + n == s.len), FM_OK);
            }
            assert_string_equal(got.data, texts[i].text);
            fm_recoder_free(r);
            fm_str_free(&got);
        }
        fm_str_free(&s);
    }
}

/* Bytes that another program wrote (Python's codecs), good and bad. */
static void known_bytes(void **state) {
    static const struct {
        const char *label, *bytes, *want;
    } rows[] = {
        {"gbk", "\xC4\xE3\xBA\xC3", "你好"},           {"gb18030", "\x95\x32\x82\x36", "𠀀"},
        {"big5", "\xA7\x41\xA6\x6E", "你好"},          {"Latin1", "caf\xE9", "café"},
        {"gbk", "a\xFF\xC4\xE3z\xC4", "a\xFF你z\xFF"}, {"shift_jis", "\x83\x65\x83\x58\x83\x67", "テスト"},
    };
    (void)state;
    need_modules();
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        const char *name;
        fm_recoder *r;
        fm_str got = {0};
        assert_int_equal(fm_encoding_find(&name, rows[i].label, false), FM_OK);
        assert_int_equal(fm_recoder_new(&r, name), FM_OK);
        assert_int_equal(fm_recoder_feed(r, &got, rows[i].bytes, strlen(rows[i].bytes), true), FM_OK);
        assert_string_equal(got.data, rows[i].want);
        fm_recoder_free(r);
        fm_str_free(&got);
    }
    const char *name;
    assert_int_equal(fm_encoding_find(&name, "gb18031", false), FM_ERR_CONFIG);
    assert_non_null(strstr(fm_error_get().hint, "gb18030"));
    assert_int_equal(fm_encoding_find(&name, "iso-8859-1", true), FM_OK);
    assert_string_equal(name, "WINDOWS-1252");
}

static void streams(void **state) {
    (void)state;
    need_modules();
    fm_str s = {0}, want = {0}, got = {0};
    for (int i = 0; i < 4000; i++) { /* past what is looked at, with characters across every border */
        fm_str_append(&want, texts[0].text, strlen(texts[0].text));
        encode(&s, "GB18030", texts[0].text);
    }
    const char *path = tmp_write("gb.txt", s.data, s.len);
    fm_stream *in;
    assert_int_equal(fm_stream_open(&in, path), FM_OK);
    assert_int_equal(fm_stream_recode(in, NULL), FM_OK);
    char buf[10007];
    for (size_t n = 1; n;) {
        assert_int_equal(fm_stream_read(in, buf, sizeof buf, &n), FM_OK);
        fm_str_append(&got, buf, n);
    }
    assert_int_equal(got.len, want.len);
    assert_memory_equal(got.data, want.data, want.len);
    fm_stream_close(in);
    assert_int_equal(fm_stream_open(&in, path), FM_OK);
    assert_int_equal(fm_stream_recode(in, "no-such"), FM_ERR_CONFIG);
    fm_stream_close(in);
    fm_str_free(&s);
    fm_str_free(&want);
    fm_str_free(&got);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(detects),
        cmocka_unit_test(in_pieces),
        cmocka_unit_test(known_bytes),
        cmocka_unit_test(streams),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
