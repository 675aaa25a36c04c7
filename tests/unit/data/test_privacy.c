/* Personal data: what is found and what is not, what takes its place, pseudonyms against HMAC-SHA-256 of another
 * implementation. Recall and precision on many texts: tests/interop/test_privacy.py. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "data/pii.h"
#include "run_step.h"

/* NULL: the text stays as it is. */
static const char *const masked[][2] = {
    {"Write to Ann.Lee+x@mail.example.co.uk.", "Write to [EMAIL]."},
    {"邮箱zhang_3@qq.com，谢谢", "邮箱[EMAIL]，谢谢"},
    {"13800138000@139.com", "[EMAIL]"},
    {"josé.núñez@exämple.com, a@b, @all, x@y.1", NULL},
    {"josé@example.com", "[EMAIL]"},
    {"card 4111 1111 1111 1111, 4111-1111-1111-1111 and 378282246310005.", "card [CARD], [CARD] and [CARD]."},
    {"card 4111 1111 1111 1112; 4111111111111112", NULL},
    {"order 4111111111111111 and 订单号4111111111111111", NULL},
    {"6222020200112233 and pi 3.4111111111111111", NULL},
    {"身份证11010519491231002X。", "身份证[ID]。"},
    {"身份证11010519491231002x、11010519491331002X、110105194912310021",
     "身份证[ID]、11010519491331002X、110105194912310021"},
    {"手机13800138000，+86 138-0013-8000，0086 13800138000", "手机[PHONE]，[PHONE]，[PHONE]"},
    {"座机(010) 62345678，0755-26543210-8001，400-810-8888", "座机[PHONE]，[PHONE]，[PHONE]"},
    {"two: 13800138000 13900139000", "two: [PHONE] [PHONE]"},
    {"12800138000 138001380001 A13800138000", NULL},
    {"Call (212) 555-0187 or 1-800-555-0199 x12, +44 20 7946 0958.", "Call [PHONE] or [PHONE] x12, [PHONE]."},
    {"on 2024-01-02 at 10:30, 2024.01.02, 1,234,567.89, pages 12-34", NULL},
    {"from 8.8.8.8:53 and 10.0.0.256 and v1.2.3.4.5", "from [IP]:53 and 10.0.0.256 and v1.2.3.4.5"},
    {"fe80::1ff:fe23:4567:890a or 2001:db8:85a3:8d3:1319:8a2e:370:7348.", "[IP] or [IP]."},
    {"std::cout 12:30:45 a::b 00:1a:2b:3c:4d:5e", NULL},
    {"IBAN DE89 3704 0044 0532 0130 00, gb82west12345698765432", "IBAN [IBAN], [IBAN]"},
    {"DE89 3704 0044 0532 0130 01", NULL},
    {"SSN 219-09-9999, not 000-12-3456", "SSN [SSN], not 000-12-3456"},
    {"https://bob:hunter2@host.example/x https://host.example/a@b:c", "https://[CREDENTIALS]@host.example/x "
                                                                      "https://host.example/a@b:c"},
    {"", NULL},
    {"@", NULL},
    {"+", NULL},
    {"1", NULL},
    {"://", NULL},
};

static void finds(void **state) {
    (void)state;
    for (size_t i = 0; i < FM_ARRAY_LEN(masked); i++) {
        char *got = step_text("privacy", masked[i][0], NULL);
        assert_non_null(got);
        assert_string_equal(got, masked[i][1] ? masked[i][1] : masked[i][0]);
        fm_free(got);
    }
}

static void check(const char *in, const char *want, const char *const *options) {
    char *out;
    fm_status s = run_step(&out, NULL, "privacy", in, strlen(in), options);
    if (s != FM_OK) {
        print_error("%s\n", fm_error_get().message);
    }
    assert_int_equal(s, FM_OK);
    assert_string_equal(out, want);
    fm_free(out);
}

static void write_file(char *path, size_t cap, const char *name, const char *text) {
    snprintf(path, cap, "/tmp/fathom_%s_%ld", name, (long)getpid());
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* Nested values, numbers as values, names of members, escapes. */
static void nested(void **state) {
    static const char in[] =
        "{\"id\":13800138000,\"m\":[{\"role\":\"a@b.org\",\"c@d.org\":\"tel\\n13800138000 \\\"x\\\"\","
        "\"n\":4111111111111111,\"k\":12}],\"u\":\"\\u4f60a@b.org\",\"keep\":1.50}\n";
    const char *const some[] = {"fields", "u,id", NULL}, *const kinds[] = {"kinds", "card", NULL},
                      *const report[] = {"action", "report", NULL}, *const drop[] = {"action", "drop", NULL};
    (void)state;
    check(in,
          "{\"id\":\"[PHONE]\",\"m\":[{\"role\":\"[EMAIL]\",\"c@d.org\":\"tel\\n[PHONE] "
          "\\\"x\\\"\",\"n\":\"[CARD]\",\"k\":12}],"
          "\"u\":\"你[EMAIL]\",\"keep\":1.50}\n",
          NULL);
    check("{\"u\":\"a@b.org\",\"id\":1,\"v\":\"a@b.org\"}\n", "{\"u\":\"[EMAIL]\",\"id\":1,\"v\":\"a@b.org\"}\n", some);
    check("{\"t\":\"a@b.org 4111111111111111\"}\n", "{\"t\":\"a@b.org [CARD]\"}\n", kinds);
    check("{\"t\":\"你好 a@b.org\"}\n{\"t\":\"-\"}\n",
          "{\"t\":\"你好 a@b.org\",\"pii\":[{\"column\": \"t\", \"kind\": \"email\", \"at\": 3, \"length\": 7}]}\n"
          "{\"t\":\"-\",\"pii\":[]}\n",
          report);
    check("{\"t\":\"a@b.org\"}\n{\"t\":\"-\"}\n", "{\"t\":\"-\"}\n", drop);
}

static void names(void **state) {
    char list[64];
    write_file(list, sizeof list, "names", "王小明\nAnn Lee\r\n  Bob \n李\n\n");
    const char *const o[] = {"names", list, NULL};
    (void)state;
    check("{\"t\":\"请联系王小明，ANN LEE and bob, not Bobby or Joann Lee. ann.lee@x.org\"}\n",
          "{\"t\":\"请联系[NAME]，[NAME] and [NAME], not Bobby or Joann Lee. [EMAIL]\"}\n", o);
    unlink(list);
}

static void pseudonyms(void **state) {
    char key[64], long_key[64], other[64], brief[64], x70[72];
    (void)state;
    memset(x70, 'x', 70);
    x70[70] = '\n';
    x70[71] = '\0';
    write_file(key, sizeof key, "key", "0123456789abcdef0123456789abcdef\n");
    write_file(long_key, sizeof long_key, "long_key", x70);
    write_file(other, sizeof other, "other_key", "another key of the same length...");
    write_file(brief, sizeof brief, "brief_key", "short\n");
    const char *const o[] = {"action", "pseudonym", "key_file", key, NULL},
                      *const l[] = {"action", "pseudonym", "key_file", long_key, NULL},
                      *const p[] = {"action", "pseudonym", "key_file", other, NULL},
                      *const b[] = {"action", "pseudonym", "key_file", brief, NULL},
                      *const none[] = {"action", "pseudonym", NULL}, *const kind[] = {"kinds", "emial", NULL};
    check("{\"t\":\"Ann@Example.org, ann@example.org; 138-0013-8000 13800138000\"}\n",
          "{\"t\":\"[EMAIL_5b4756b7f15796c0], [EMAIL_5b4756b7f15796c0]; [PHONE_192aa6580fa453ae] "
          "[PHONE_192aa6580fa453ae]\"}\n",
          o);
    check("{\"t\":\"ann@example.org\"}\n", "{\"t\":\"[EMAIL_43cc18f76c324f4d]\"}\n", l);
    char *out;
    static const char in[] = "{\"t\":\"ann@example.org\"}\n";
    assert_int_equal(run_step(&out, NULL, "privacy", in, strlen(in), p), FM_OK);
    assert_null(strstr(out, "5b4756b7f15796c0"));
    assert_null(strstr(out, "ann@"));
    fm_free(out);
    assert_int_equal(run_step(&out, NULL, "privacy", in, strlen(in), b), FM_ERR_CONFIG);
    assert_int_equal(run_step(&out, NULL, "privacy", in, strlen(in), none), FM_ERR_CONFIG);
    assert_int_equal(run_step(&out, NULL, "privacy", in, strlen(in), kind), FM_ERR_CONFIG);
    unlink(key);
    unlink(long_key);
    unlink(other);
    unlink(brief);
}

/* Long runs of what starts a search take no more than time in proportion. */
static void long_texts(void **state) {
    static const char *const piece[] = {"1", "1 ", "1-", "@", "a@", "a.", ":", "a:", "://", "12.", "(1", "+1", "4111 "};
    fm_pii_spans s = {0};
    (void)state;
    for (size_t i = 0; i < FM_ARRAY_LEN(piece); i++) {
        fm_str t = {0};
        while (t.len < 400000) {
            fm_str_puts(&t, piece[i]);
        }
        double began = fm_now();
        assert_int_equal(fm_pii_find(&s, (fm_sv){t.data, t.len}, ~0u, NULL, false), FM_OK);
        assert_true(fm_now() - began < 5);
        fm_str_free(&t);
    }
    fm_pii_spans_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds),      cmocka_unit_test(nested),     cmocka_unit_test(names),
        cmocka_unit_test(pseudonyms), cmocka_unit_test(long_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
