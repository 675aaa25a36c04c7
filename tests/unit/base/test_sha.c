/* SHA-1 and SHA-256 against the examples of FIPS 180-4 and NIST's test of a million letters. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/sha.h"

static void expect(const char *text, size_t times, const char *sha1, const char *sha256) {
    char hex[65];
    fm_sha s;
    fm_sha1_init(&s);
    for (size_t i = 0; i < times; i++) {
        fm_sha_update(&s, text, strlen(text));
    }
    fm_sha_hex(&s, hex);
    assert_string_equal(hex, sha1);
    fm_sha256_init(&s);
    for (size_t i = 0; i < times; i++) {
        fm_sha_update(&s, text, strlen(text));
    }
    fm_sha_hex(&s, hex);
    assert_string_equal(hex, sha256);
}

static void test_examples(void **state) {
    (void)state;
    expect("", 1, "da39a3ee5e6b4b0d3255bfef95601890afd80709",
           "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect("abc", 1, "a9993e364706816aba3e25717850c26c9cd0d89d",
           "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1, "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
           "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    expect("aaaaaaaaaa", 100000, "34aa973cd4c4daa4f61eeb2bdbad27316534016f",
           "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* Any split of the bytes gives the same. */
static void test_pieces(void **state) {
    (void)state;
    uint8_t data[300];
    char whole[65], parts[65];
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)(i * 31);
    }
    for (size_t n = 0; n <= sizeof data; n += 7) {
        for (size_t cut = 0; cut <= n; cut += 13) {
            fm_sha a, b;
            fm_sha256_init(&a);
            fm_sha256_init(&b);
            fm_sha_update(&a, data, n);
            fm_sha_update(&b, data, cut);
            fm_sha_update(&b, data + cut, n - cut);
            fm_sha_hex(&a, whole);
            fm_sha_hex(&b, parts);
            assert_string_equal(whole, parts);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_examples), cmocka_unit_test(test_pieces)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
