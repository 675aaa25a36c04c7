/* Readers of binary and markup formats: rows of the files in readers/ are those that other programs find there
 * (tests/golden/make_readers.py), damaged copies never do harm, and every allocation may fail. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <unistd.h>

#include "../../quick.h"
#include "../failures.h"
#include "read_rows.h"

typedef struct sample {
    const char *file; /* in readers/; the rows are in <file>.rows */
    const char *query, *record_path, *encoding;
    int txt_unit;
} sample;

static const sample samples[] = {
    {.file = "nested.parquet"},
    {.file = "types.parquet"},
    {.file = "page.html"},
    {.file = "gbk.html"},
    {.file = "site.warc"},
    {.file = "site.warc.gz"},
    {.file = "feed.xml", .record_path = "//entry"},
    {.file = "pubmed.xml"},
    {.file = "wiki.xml"},
    {.file = "wiki.xml.bz2"},
    {.file = "notes.sqlite"},
    {.file = "nested.arrow"},
    {.file = "types.arrow"},
    {.file = "types_lz4.feather"},
    {.file = "mixed.tar.gz"},
    {.file = "mixed.zip"},
};

static fm_reader_options options_of(const sample *s) {
    fm_reader_options o = read_defaults();
    o.query = s->query;
    o.record_path = s->record_path;
    o.encoding = s->encoding;
    o.txt_unit = s->txt_unit;
    return o;
}

static const char *path_of(const sample *s) {
    static char path[512];
    snprintf(path, sizeof path, "%s/tests/unit/data/readers/%s", FM_SOURCE_DIR, s->file);
    return path;
}

static void same_rows(void **state) {
    const sample *s = *state;
    char path[600], *want;
    size_t n;
    const fm_reader_def *d;
    fm_str got = {0};
    fm_reader_options o = options_of(s);
    assert_int_equal(fm_reader_find(&d, "auto", path_of(s)), FM_OK);
    assert_int_equal(read_rows(&got, d, path_of(s), &o), FM_OK);
    snprintf(path, sizeof path, "%s.rows", path_of(s));
    assert_int_equal(fm_file_read(&want, &n, path, 0), FM_OK);
    assert_string_equal(got.data, want);
    fm_free(want);
    fm_str_free(&got);
}

/* Cut at many places, and with bytes changed: any status but one of this program's own failures, and what was read
 * before the damage is the same. */
static void damaged(void **state) {
    const sample *s = *state;
    char path[64], *data;
    size_t n;
    const fm_reader_def *d;
    fm_reader_options o = options_of(s);
    if (fm_path_is_dir(path_of(s))) {
        skip();
    }
    assert_int_equal(fm_reader_find(&d, "auto", path_of(s)), FM_OK);
    assert_int_equal(fm_file_read(&data, &n, path_of(s), 0), FM_OK);
    snprintf(path, sizeof path, "/tmp/fathom_damaged_%ld", (long)getpid());
    uint64_t rng = 88172645463325252u;
    int tries = test_quick() ? 60 : 400;
    for (int i = 0; i < tries; i++) {
        fm_str copy = {0}, got = {0};
        rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
        bool cut = i % 2 == 0;
        fm_str_append(&copy, data, cut ? rng % n : n);
        for (int k = 0; !cut && k < 1 + i % 3; k++) {
            copy.data[(rng >> 8 * k) % n] = (char)(rng >> 40 >> k);
        }
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(copy.data ? copy.data : "", 1, copy.len, f), copy.len);
        fclose(f);
        fm_status st = read_rows(&got, d, path, &o);
        if (st != FM_OK && st != FM_ERR_CORRUPT && st != FM_ERR_FORMAT && st != FM_ERR_DATA &&
            st != FM_ERR_UNSUPPORTED) {
            fail_msg("%s, try %d: %s: %s", s->file, i, fm_status_name(st), fm_error_get().message);
        }
        assert_true(fm_utf8_valid(got.data ? got.data : "", got.len));
        fm_str_free(&copy);
        fm_str_free(&got);
    }
    unlink(path);
    fm_free(data);
}

static fm_status read_all(int variant, uint64_t *sum) {
    const sample *s = &samples[variant];
    static const fm_reader_def *found[FM_ARRAY_LEN(samples)]; /* by the first run, where nothing is refused */
    fm_str got = {0};
    fm_reader_options o = options_of(s);
    if (!found[variant]) {
        FM_TRY(fm_reader_find(&found[variant], "auto", path_of(s)));
    }
    fm_status st = read_rows(&got, found[variant], path_of(s), &o);
    *sum = st == FM_OK ? fm_hash64(got.data, got.len, 0) : 0;
    fm_str_free(&got);
    return st;
}

static void allocations(void **state) {
    static const failures_work work = {"read", read_all, (int)FM_ARRAY_LEN(samples), NULL, NULL};
    (void)state;
    failures_check(&work);
}

int main(void) {
    struct CMUnitTest tests[2 * FM_ARRAY_LEN(samples) + 1];
    size_t n = 0;
    for (size_t i = 0; i < FM_ARRAY_LEN(samples); i++) {
        void *s = (void *)(uintptr_t)&samples[i];
        tests[n++] = (struct CMUnitTest){samples[i].file, same_rows, NULL, NULL, s};
        tests[n++] = (struct CMUnitTest){"damaged copies of it", damaged, NULL, NULL, s};
    }
    tests[n++] = (struct CMUnitTest){"allocations refused", allocations, NULL, NULL, NULL};
    return _cmocka_run_group_tests("readers", tests, n, NULL, NULL);
}
