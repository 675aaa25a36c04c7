/* URLs and redirects, tar archives. Requests are tested against a server in tests/cli/test_get.sh. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "net/http.h"
#include "net/tar.h"

static void test_origin(void **state) {
    (void)state;
    static const struct {
        const char *url, *origin; /* NULL = refused */
    } cases[] = {
        {"https://Hub.Example.org/a/b?c", "https://hub.example.org"},
        {"HTTP://x:80", "http://x:80"},
        {"http://[::1]:8080/x", "http://[::1]:8080"},
        {"https://h?x@y", "https://h"},
        {"https://user:pw@h/", NULL},
        {"https://h\\@evil/", NULL},
        {"file:///etc/passwd", NULL},
        {"ftp://h/", NULL},
        {"https:///x", NULL},
        {"/path", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < FM_ARRAY_LEN(cases); i++) {
        char buf[64];
        bool good = fm_url_origin(buf, sizeof buf, cases[i].url);
        assert_int_equal(good, cases[i].origin != NULL);
        if (good) {
            assert_string_equal(buf, cases[i].origin);
        }
    }
    char small[8];
    assert_false(fm_url_origin(small, sizeof small, "https://long.example.org"));
}

static void test_resolve(void **state) {
    (void)state;
    char buf[64];
    assert_true(fm_url_resolve(buf, sizeof buf, "https://a:1/b/c", "/d?e"));
    assert_string_equal(buf, "https://a:1/d?e");
    assert_true(fm_url_resolve(buf, sizeof buf, "https://a/b", "http://c/d"));
    assert_string_equal(buf, "http://c/d");
    static const char *const bad[] = {"",
                                      "d",
                                      "//evil/x",
                                      "file:///x",
                                      "javascript:",
                                      "/a\r\nX: y",
                                      "/\\evil",
                                      "/0123456789012345678901234567890123456789012345678901234567890"};
    for (size_t i = 0; i < FM_ARRAY_LEN(bad); i++) {
        assert_false(fm_url_resolve(buf, sizeof buf, "https://a/b", bad[i]));
    }
}

static void test_private(void **state) {
    (void)state;
    static const char *const yes[] = {"https://h/x", "http://localhost:80/", "http://127.0.0.1", "http://[::1]:9/"};
    static const char *const no[] = {"http://h/", "http://localhost.evil.org/", "http://127.0.0.1.evil.org/",
                                     "http://127.0.0.11/", "ftp://localhost/"};
    for (size_t i = 0; i < FM_ARRAY_LEN(yes); i++) {
        assert_true(fm_url_private(yes[i]));
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(no); i++) {
        assert_false(fm_url_private(no[i]));
    }
}

/* The system's tar reads what was written: short and long names, sizes around a block. */
static void test_tar(void **state) {
    (void)state;
    char dir[] = "/tmp/fathom_tar_XXXXXX", path[256], command[600], name[300], data[2000];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/a.tar", dir);
    memset(data, 'd', sizeof data);
    static const size_t sizes[] = {0, 1, 511, 512, 513, 2000};
    fm_tar *t;
    int64_t bytes;
    assert_int_equal(fm_tar_new(&t, path), FM_OK);
    for (size_t i = 0; i < FM_ARRAY_LEN(sizes); i++) {
        /* 99, 100 and 101 characters, and lengths whose record needs another digit */
        size_t n = (size_t[]){5, 99, 100, 101, 88, 200}[i];
        memset(name, 'n', n);
        memcpy(name, "x/", 2);
        name[n] = '\0';
        assert_int_equal(fm_tar_add_bytes(t, name, data, sizes[i], i == 1), FM_OK);
    }
    assert_int_equal(fm_tar_finish(t, &bytes), FM_OK);
    fm_tar_free(t);
    assert_int_equal(fm_file_size(path), bytes);
    assert_int_equal(bytes % 512, 0);
    snprintf(command, sizeof command, "cd %s && tar -xf a.tar && cat x/* | wc -c > size && ls x | wc -l >> size", dir);
    assert_int_equal(system(command), 0);
    char *text;
    size_t n;
    snprintf(path, sizeof path, "%s/size", dir);
    assert_int_equal(fm_file_read(&text, &n, path, 0), FM_OK);
    assert_string_equal(text, "3537\n6\n");
    fm_free(text);
    /* without finish nothing stays */
    snprintf(path, sizeof path, "%s/b.tar", dir);
    assert_int_equal(fm_tar_new(&t, path), FM_OK);
    fm_tar_free(t);
    assert_false(fm_path_exists(path));
    assert_int_equal(fm_tar_new(&t, "/nonexistent/x.tar"), FM_ERR_IO);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_origin),
        cmocka_unit_test(test_resolve),
        cmocka_unit_test(test_private),
        cmocka_unit_test(test_tar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
