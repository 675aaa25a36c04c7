#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

static char dir[64];

static int set_up(void **state) {
    FM_UNUSED(state);
    snprintf(dir, sizeof dir, "/tmp/fathom_file_XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state) {
    FM_UNUSED(state);
    return fm_remove_tree(dir) == FM_OK ? 0 : -1;
}

static const char *at(char buf[256], const char *name) {
    assert_int_equal(fm_path_join(buf, 256, dir, name), FM_OK);
    return buf;
}

static void test_read_write(void **state) {
    FM_UNUSED(state);
    char p[256], *text;
    size_t n;
    at(p, "a.txt");
    assert_int_equal(fm_file_read(&text, &n, p, 0), FM_ERR_NOT_FOUND);
    assert_non_null(strstr(fm_error_get().message, "a.txt"));
    assert_int_equal(fm_file_write_atomic(p, "hello\0x", 7), FM_OK);
    assert_int_equal(fm_file_size(p), 7);
    assert_int_equal(fm_file_read(&text, &n, p, 0), FM_OK);
    assert_int_equal(n, 7);
    assert_memory_equal(text, "hello\0x", 8);
    fm_free(text);
    assert_int_equal(fm_file_read(&text, &n, p, 7), FM_OK);
    fm_free(text);
    assert_int_equal(fm_file_read(&text, &n, p, 6), FM_ERR_DATA);
    assert_int_equal(fm_file_write_atomic(p, "", 0), FM_OK);
    assert_int_equal(fm_file_read(&text, &n, p, 0), FM_OK);
    assert_int_equal(n, 0);
    assert_string_equal(text, "");
    fm_free(text);
    assert_int_equal(fm_file_read(&text, &n, "/proc/self/status", 0), FM_OK); /* size says 0 */
    assert_true(n > 100);
    fm_free(text);
    assert_int_equal(fm_file_read(&text, &n, dir, 0), FM_ERR_IO);
    char q[256];
    assert_int_equal(fm_file_write_atomic(at(q, "no/such/x"), "a", 1), FM_ERR_NOT_FOUND);
}

static void test_crash_keeps_old(void **state) {
    FM_UNUSED(state);
    char p[256], *text;
    size_t n;
    at(p, "crash.txt");
    assert_int_equal(fm_file_write_atomic(p, "old", 3), FM_OK);
    pid_t child = fork();
    if (child == 0) {
        setenv("FATHOM_CRASH_POINT", "write_atomic.before_rename:2", 1);
        fm_status s = fm_file_write_atomic(p, "mid", 3);
        s = fm_file_write_atomic(p, "new", 3);
        _exit((int)s + 50);
    }
    int st;
    assert_int_equal(waitpid(child, &st, 0), child);
    assert_true(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
    assert_int_equal(fm_file_read(&text, &n, p, 0), FM_OK);
    assert_string_equal(text, "mid");
    fm_free(text);
}

static void test_map(void **state) {
    FM_UNUSED(state);
    char p[256];
    fm_map m = {0};
    fm_map_close(&m);
    at(p, "map");
    assert_int_equal(fm_file_write_atomic(p, "abc", 3), FM_OK);
    int64_t before = fm_ledger_current(FM_MEM_MAPPED);
    assert_int_equal(fm_map_open(&m, p), FM_OK);
    assert_int_equal(m.size, 3);
    assert_memory_equal(m.data, "abc", 3);
    assert_int_equal(fm_ledger_current(FM_MEM_MAPPED), before + 3);
    fm_map_close(&m);
    fm_map_close(&m);
    assert_int_equal(fm_ledger_current(FM_MEM_MAPPED), before);
    assert_int_equal(fm_file_write_atomic(p, "", 0), FM_OK);
    assert_int_equal(fm_map_open(&m, p), FM_OK);
    assert_null(m.data);
    fm_map_close(&m);
    assert_int_equal(fm_map_open(&m, dir), FM_ERR_IO);
}

static void test_dirs(void **state) {
    FM_UNUSED(state);
    char p[256], q[256], **names;
    size_t n;
    assert_int_equal(fm_mkdirs(at(p, "d/e/f/")), FM_OK);
    assert_int_equal(fm_mkdirs(p), FM_OK);
    assert_true(fm_path_is_dir(p));
    const char *files[] = {"d/b.txt", "d/a.txt", "d/C.txt", "d/[x].txt", "d/e/deep"};
    for (size_t i = 0; i < FM_ARRAY_LEN(files); i++) {
        assert_int_equal(fm_file_write_atomic(at(q, files[i]), "x", 1), FM_OK);
    }
    assert_int_equal(fm_mkdirs(at(q, "d/a.txt")), FM_ERR_EXISTS);
    assert_int_equal(fm_mkdirs(at(q, "d/a.txt/x")), FM_ERR_NOT_FOUND);
    assert_int_equal(fm_dir_list(&names, &n, at(p, "d")), FM_OK);
    const char *want[] = {"C.txt", "[x].txt", "a.txt", "b.txt", "e"};
    assert_int_equal(n, 5);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(names[i], want[i]);
    }
    fm_names_free(names, n);
    assert_int_equal(fm_glob(&names, &n, at(p, "d/?.txt")), FM_OK);
    assert_int_equal(n, 3);
    assert_string_equal(names[0], at(q, "d/C.txt"));
    fm_names_free(names, n);
    assert_int_equal(fm_glob(&names, &n, at(p, "d/[x].txt")), FM_OK);
    assert_int_equal(n, 1);
    fm_names_free(names, n);
    assert_int_equal(fm_glob(&names, &n, at(p, "d/*.none")), FM_ERR_NOT_FOUND);
    assert_int_equal(fm_dir_list(&names, &n, at(p, "none")), FM_ERR_NOT_FOUND);

    /* A link to a folder outside is removed, what it points to stays. */
    assert_int_equal(fm_mkdirs(at(p, "keep")), FM_OK);
    assert_int_equal(fm_file_write_atomic(at(q, "keep/me"), "x", 1), FM_OK);
    assert_int_equal(symlink(p, at(q, "d/link")), 0);
    assert_int_equal(fm_rename_dir(at(p, "d"), at(q, "d2")), FM_OK);
    assert_false(fm_path_exists(p));
    assert_int_equal(fm_remove_tree(q), FM_OK);
    assert_false(fm_path_exists(q));
    assert_true(fm_path_exists(at(p, "keep/me")));
    assert_int_equal(fm_remove_tree(q), FM_OK);
    assert_int_equal(fm_rename_dir(q, p), FM_ERR_NOT_FOUND);
    assert_true(fm_disk_free(dir) > 0);
    assert_int_equal(fm_disk_free(q), -1);
    char tiny[8];
    assert_int_equal(fm_path_join(tiny, sizeof tiny, "abcd", "efgh"), FM_ERR_ARGUMENT);
    assert_int_equal(fm_path_join(tiny, sizeof tiny, "ab/", "cd"), FM_OK);
    assert_string_equal(tiny, "ab/cd");
}

static void test_hash(void **state) {
    FM_UNUSED(state);
    /* Values of the published XXH3 implementation for empty input and seed 0. */
    assert_true(fm_hash64("", 0, 0) == 0x2D06800538D394C2u);
    assert_true(fm_hash64("a", 1, 0) != fm_hash64("a", 1, 1));
    fm_hasher *h;
    char hex[33], hex2[33], p[256];
    assert_int_equal(fm_hasher_new(&h), FM_OK);
    fm_hasher_hex(h, hex);
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
    fm_hasher_update(h, "ab", 2);
    fm_hasher_update(h, "c", 1);
    fm_hasher_hex(h, hex);
    fm_hasher_free(h);
    assert_int_equal(fm_file_write_atomic(at(p, "h"), "abc", 3), FM_OK);
    assert_int_equal(fm_file_hash(hex2, p), FM_OK);
    assert_string_equal(hex, hex2);
    assert_string_equal(hex, "06b05ab6733a618578af5f94892f3950");
    assert_int_equal(fm_file_hash(hex2, dir), FM_ERR_IO);
}

static void test_out_of_memory(void **state) {
    FM_UNUSED(state);
    char p[256], hex[33];
    assert_int_equal(fm_file_write_atomic(at(p, "oom"), "abc", 3), FM_OK);
    int64_t base = fm_ledger_current(FM_MEM_MISC);
    for (int64_t k = 1; k < 20; k++) {
        char *text = NULL, **names = NULL;
        size_t n = 0, m = 0;
        fm_mem_fail_at(k, true);
        fm_status a = fm_file_read(&text, &n, p, 0);
        fm_status b = fm_dir_list(&names, &m, dir);
        fm_status c = fm_file_hash(hex, p);
        fm_mem_fail_at(0, false);
        assert_true(a == FM_OK || a == FM_ERR_NO_MEMORY);
        assert_true(b == FM_OK || b == FM_ERR_NO_MEMORY);
        assert_true(c == FM_OK || c == FM_ERR_NO_MEMORY);
        if (a == FM_OK) {
            fm_free(text);
        }
        if (b == FM_OK) {
            fm_names_free(names, m);
        }
        assert_int_equal(fm_ledger_current(FM_MEM_MISC), base);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_write), cmocka_unit_test(test_crash_keeps_old),
        cmocka_unit_test(test_map),        cmocka_unit_test(test_dirs),
        cmocka_unit_test(test_hash),       cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
