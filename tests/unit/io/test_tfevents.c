#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tmpdir.h"

#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/tfevents.h"

static fm_status collect(void *user, const char *tag, size_t n, double value, int64_t step, double wall) {
    fm_str_printf(user, "%.*s %g @%lld %.1f\n", (int)n, tag, value, (long long)step, wall);
    return FM_OK;
}

static void expect(const char *path, const char *want) {
    fm_str s = {0};
    fm_str_append(&s, "", 0);
    assert_int_equal(fm_tfevents_read(path, collect, &s), FM_OK);
    assert_string_equal(s.data, want);
    fm_str_free(&s);
}

static void test_crc(void **state) {
    FM_UNUSED(state);
    /* RFC 3720, B.4 */
    uint8_t b[32] = {0};
    assert_int_equal(fm_crc32c(b, 32), 0x8A9136AAu);
    memset(b, 0xFF, 32);
    assert_int_equal(fm_crc32c(b, 32), 0x62A8AB43u);
    assert_int_equal(fm_crc32c("123456789", 9), 0xE3069283u);
}

/* One scalar event, byte by byte, coded by hand after the protobuf encoding rules. */
static void test_bytes(void **state) {
    FM_UNUSED(state);
    fm_tfevents *w;
    assert_int_equal(fm_tfevents_open(&w, tmp_path("bytes"), -1), FM_OK);
    char *text;
    size_t n, head;
    assert_int_equal(fm_tfevents_flush(w), FM_OK);
    head = (size_t)fm_file_size(fm_tfevents_path(w));
    assert_int_equal(head, 16 + 24); /* wall_time, file_version "brain.Event:2" */
    assert_int_equal(fm_tfevents_scalar(w, "loss", 0.5, 300, 2.0), FM_OK);
    assert_int_equal(fm_tfevents_flush(w), FM_OK);
    assert_int_equal(fm_file_read(&text, &n, fm_tfevents_path(w), 0), FM_OK);
    static const uint8_t want[] = {0x09, 0,    0,    0,    0,   0,   0,   0,   0x40, 0x10, 0xAC, 0x02, 0x2A, 0x0D,
                                   0x0A, 0x0B, 0x0A, 0x04, 'l', 'o', 's', 's', 0x15, 0,    0,    0,    0x3F};
    assert_int_equal(n, head + 16 + sizeof want);
    assert_int_equal(text[head], sizeof want);
    assert_memory_equal(text + head + 12, want, sizeof want);
    fm_free(text);
    assert_int_equal(fm_tfevents_close(w), FM_OK);
}

static void test_resume(void **state) {
    FM_UNUSED(state);
    fm_tfevents *w;
    const char *dir = tmp_path("run");
    assert_int_equal(fm_tfevents_open(&w, dir, -1), FM_OK);
    for (int i = 1; i <= 5; i++) {
        assert_int_equal(fm_tfevents_scalar(w, "loss", i, i, i), FM_OK);
    }
    char path[256];
    snprintf(path, sizeof path, "%s", fm_tfevents_path(w));
    assert_int_equal(fm_tfevents_close(w), FM_OK);
    expect(path, "loss 1 @1 1.0\nloss 2 @2 2.0\nloss 3 @3 3.0\nloss 4 @4 4.0\nloss 5 @5 5.0\n");
    /* A kill in the middle of a record. */
    assert_int_equal(truncate(path, fm_file_size(path) - 7), 0);
    expect(path, "loss 1 @1 1.0\nloss 2 @2 2.0\nloss 3 @3 3.0\nloss 4 @4 4.0\n");
    assert_int_equal(fm_tfevents_open(&w, dir, 3), FM_OK);
    assert_string_equal(fm_tfevents_path(w), path);
    assert_int_equal(fm_tfevents_scalar(w, "loss", 40, 4, 9), FM_OK);
    assert_int_equal(fm_tfevents_close(w), FM_OK);
    expect(path, "loss 1 @1 1.0\nloss 2 @2 2.0\nloss 3 @3 3.0\nloss 40 @4 9.0\n");
    assert_int_equal(fm_tfevents_open(&w, dir, -1), FM_OK);
    assert_string_not_equal(fm_tfevents_path(w), path);
    assert_int_equal(fm_tfevents_close(w), FM_OK);
    /* Resuming where nothing is starts a file. */
    assert_int_equal(fm_tfevents_open(&w, tmp_path("fresh/deep"), 10), FM_OK);
    assert_int_equal(fm_tfevents_close(w), FM_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_resume),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
