/* data pack and data check: what is packed decodes to what was read; long rows, hold-out, resume, refusals. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/pack.h"
#include "data/shards.h"

static char top[200], tok_dir[256], out[256];

static const char *row_text(char *buf, size_t cap, int i) {
    snprintf(buf, cap, "row %d: the quick brown fox jumps over the lazy dog %d times. \xe4\xbd\xa0\xe5\xa5\xbd", i,
             i * 37);
    return buf;
}

typedef struct feed {
    int i;
    char buf[256];
} feed;
static fm_status next_text(void *user, fm_text *t, bool *end) {
    feed *f = user;
    *end = f->i == 200;
    *t = (fm_text){.ptr = row_text(f->buf, sizeof f->buf, f->i), .len = strlen(f->buf)};
    f->i++;
    return FM_OK;
}

static void write_jsonl(const char *name, int from, int to) {
    char path[300], buf[256];
    snprintf(path, sizeof path, "%s/%s", top, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = from; i < to; i++) {
        fprintf(f, "{\"text\": \"%s\"}\n", row_text(buf, sizeof buf, i));
        if (i == from + 3) {
            fprintf(f, "{\"text\": 12\n");
        }
    }
    fclose(f);
}

static int setup(void **state) {
    (void)state;
    snprintf(top, sizeof top, "/tmp/fm_pack_%d", (int)getpid());
    snprintf(tok_dir, sizeof tok_dir, "%s/tok", top);
    snprintf(out, sizeof out, "%s/out", top);
    assert_int_equal(fm_remove_tree(top), FM_OK);
    assert_int_equal(fm_mkdirs(top), FM_OK);
    fm_bpe_train_options o = {.size = sizeof o, .vocab_size = 400, .eos = "<eos>", .bos = "<bos>", .n_threads = 1};
    feed f = {0};
    fm_tokenizer *t;
    assert_int_equal(fm_tokenizer_train(&t, NULL, next_text, &f, &o), FM_OK);
    assert_int_equal(fm_tokenizer_save(t, tok_dir), FM_OK);
    fm_tokenizer_free(t);
    write_jsonl("a.jsonl", 0, 60);
    write_jsonl("b.jsonl", 60, 100);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    return fm_remove_tree(top) == FM_OK ? 0 : -1;
}

static fm_status pack_with(fm_pack_report *r, const char *const *set) {
    fm_pack_config *c;
    assert_int_equal(fm_pack_config_new(&c), FM_OK);
    char glob[300];
    snprintf(glob, sizeof glob, "%s/*.jsonl", top);
    assert_int_equal(fm_options_set(c, fm_pack_options(), "input", glob, "test"), FM_OK);
    assert_int_equal(fm_options_set(c, fm_pack_options(), "tokenizer", tok_dir, "test"), FM_OK);
    assert_int_equal(fm_options_set(c, fm_pack_options(), "output", out, "test"), FM_OK);
    assert_int_equal(fm_options_set(c, fm_pack_options(), "threads", "2", "test"), FM_OK);
    for (; set && set[0]; set += 2) {
        assert_int_equal(fm_options_set(c, fm_pack_options(), set[0], set[1], "test"), FM_OK);
    }
    *r = (fm_pack_report){.size = sizeof *r};
    fm_status s = fm_data_pack(r, c, NULL, NULL);
    fm_pack_config_free(c);
    return s;
}

/* Marks each row whose text a document of the dataset decodes to; returns the number of documents. */
static int find_rows(const char *path, int *seen, int64_t max_len) {
    fm_dataset *d;
    assert_int_equal(fm_dataset_open(&d, path), FM_OK);
    assert_int_equal(fm_dataset_verify(d), FM_OK);
    fm_tokenizer *t;
    assert_int_equal(fm_tokenizer_open(&t, tok_dir), FM_OK);
    int n = (int)fm_dataset_tokens(d), docs = 0;
    int32_t *ids = calloc((size_t)n, 4);
    bool *start = calloc((size_t)n, 1);
    assert_int_equal(fm_dataset_read(d, 0, n, ids, start), FM_OK);
    for (int b = 0; b < n; docs++) {
        int e = b + 1;
        while (e < n && !start[e]) {
            e++;
        }
        assert_true(max_len == 0 || e - b <= max_len);
        bool whole = ids[e - 1] == fm_tokenizer_eos(t);
        char *text, buf[256];
        assert_int_equal(fm_tokenizer_decode(&text, NULL, t, ids + b, (size_t)(e - b - whole), NULL), FM_OK);
        int row = -1;
        if (whole && sscanf(text, "row %d", &row) == 1 && strcmp(text, row_text(buf, sizeof buf, row)) == 0) {
            seen[row]++;
        }
        fm_string_free(text);
        b = e;
    }
    free(ids);
    free(start);
    fm_tokenizer_free(t);
    fm_dataset_close(d);
    return docs;
}

static void test_round_trip(void **state) {
    (void)state;
    fm_pack_report r;
    assert_int_equal(pack_with(&r, (const char *[]){"shard_tokens", "700", NULL}), FM_OK);
    assert_int_equal(r.n_rows, 102);
    assert_int_equal(r.n_bad, 2);
    assert_int_equal(r.n_documents, 100);
    assert_true(r.n_shards > 3);
    int seen[100] = {0};
    assert_int_equal(find_rows(out, seen, 0), 100);
    int64_t bytes = 0;
    for (int i = 0; i < 100; i++) {
        char buf[256];
        assert_int_equal(seen[i], 1);
        bytes += (int64_t)strlen(row_text(buf, sizeof buf, i));
    }
    assert_int_equal(r.n_bytes, bytes);
    char path[300], *text;
    size_t n;
    snprintf(path, sizeof path, "%s/rejects.jsonl", out);
    assert_int_equal(fm_file_read(&text, &n, path, 0), FM_OK);
    assert_non_null(strstr(text, "a.jsonl\", \"line\": 5"));
    fm_free(text);
    /* Again: nothing to do. Other settings: refused, and the data stays. */
    assert_int_equal(pack_with(&r, (const char *[]){"shard_tokens", "700", NULL}), FM_OK);
    assert_int_equal(r.n_documents, 100);
    assert_int_equal(pack_with(&r, (const char *[]){"shard_tokens", "701", NULL}), FM_ERR_EXISTS);
    memset(seen, 0, sizeof seen);
    assert_int_equal(find_rows(out, seen, 0), 100);
    assert_int_equal(fm_remove_tree(out), FM_OK);
}

static void test_long_rows(void **state) {
    (void)state;
    fm_pack_report r;
    int seen[100] = {0};
    assert_int_equal(pack_with(&r, (const char *[]){"cutoff_len", "12", "long_rows", "cut", NULL}), FM_OK);
    assert_int_equal(r.n_cut, 100);
    assert_int_equal(r.n_tokens, 1200);
    assert_int_equal(find_rows(out, seen, 12), 100);
    assert_int_equal(fm_remove_tree(out), FM_OK);

    assert_int_equal(pack_with(&r, NULL), FM_OK);
    int64_t whole = r.n_tokens;
    assert_int_equal(fm_remove_tree(out), FM_OK);
    assert_int_equal(pack_with(&r, (const char *[]){"cutoff_len", "12", "long_rows", "split", NULL}), FM_OK);
    assert_int_equal(r.n_split, 100);
    assert_int_equal(r.n_tokens, whole); /* split loses nothing */
    (void)find_rows(out, seen, 12);
    assert_int_equal(fm_remove_tree(out), FM_OK);

    assert_int_equal(pack_with(&r, (const char *[]){"cutoff_len", "12", "long_rows", "drop", NULL}), FM_ERR_DATA);
    assert_false(fm_path_exists(out));
    assert_int_equal(pack_with(&r, (const char *[]){"cutoff_len", "12", "long_rows", "refuse", NULL}), FM_ERR_DATA);
    assert_non_null(strstr(fm_error_get().message, "a.jsonl:1 "));
    assert_false(fm_path_exists(out));
    char partial[300];
    snprintf(partial, sizeof partial, "%s.partial", out);
    assert_false(fm_path_exists(partial));
}

static void test_hold_out(void **state) {
    (void)state;
    fm_pack_report r;
    assert_int_equal(pack_with(&r, (const char *[]){"val_size", "0.3", NULL}), FM_OK);
    int train[100] = {0}, val[100] = {0};
    char path[300];
    snprintf(path, sizeof path, "%s/train", out);
    (void)find_rows(path, train, 0);
    snprintf(path, sizeof path, "%s/val", out);
    int n_val = find_rows(path, val, 0);
    assert_in_range(n_val, 15, 45);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(train[i] + val[i], 1);
    }
    assert_int_equal(fm_remove_tree(out), FM_OK);
    write_jsonl("c.jsonl", 100, 130); /* added rows move none */
    assert_int_equal(pack_with(&r, (const char *[]){"val_size", "0.3", NULL}), FM_OK);
    int again[130] = {0};
    (void)find_rows(path, again, 0);
    assert_memory_equal(val, again, sizeof val);
    snprintf(path, sizeof path, "%s/c.jsonl", top);
    remove(path);
    assert_int_equal(fm_remove_tree(out), FM_OK);
}

/* Killed at each point, then run again: the same dataset as without the kill. */
static void test_kill(void **state) {
    (void)state;
    const char *const set[] = {"shard_tokens", "700", NULL};
    fm_pack_report r;
    assert_int_equal(pack_with(&r, set), FM_OK);
    fm_dataset *d;
    assert_int_equal(fm_dataset_open(&d, out), FM_OK);
    int n_want = (int)fm_dataset_tokens(d);
    int32_t *want = calloc((size_t)n_want, 4), *ids = calloc((size_t)n_want, 4);
    bool *start = calloc((size_t)n_want, 1);
    assert_int_equal(fm_dataset_read(d, 0, n_want, want, start), FM_OK);
    fm_dataset_close(d);
    const char *const points[] = {"pack.shard:2", "pack.shard:4", "pack.commit", "pack.manifest", "pack.rename"};
    for (size_t i = 0; i < FM_ARRAY_LEN(points); i++) {
        assert_int_equal(fm_remove_tree(out), FM_OK);
        pid_t pid = fork();
        if (pid == 0) {
            setenv("FATHOM_CRASH_POINT", points[i], 1);
            _exit(pack_with(&r, set) == FM_OK ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status)); /* the point was reached */
        assert_false(fm_path_exists(out));
        assert_int_equal(pack_with(&r, set), FM_OK);
        assert_int_equal(r.n_rows, 102);
        assert_int_equal(r.n_bad, 2);
        assert_int_equal(fm_dataset_open(&d, out), FM_OK);
        assert_int_equal(fm_dataset_verify(d), FM_OK);
        assert_int_equal(fm_dataset_tokens(d), n_want);
        assert_int_equal(fm_dataset_read(d, 0, n_want, ids, start), FM_OK);
        assert_memory_equal(ids, want, (size_t)n_want * 4);
        fm_dataset_close(d);
    }
    free(want);
    free(ids);
    free(start);
    assert_int_equal(fm_remove_tree(out), FM_OK);
}

/* One allocation of a pack fails, many places tried: it ends well or says so, and the next run is whole. */
static void test_allocation_failures(void **state) {
    (void)state;
    const char *const set[] = {"shard_tokens", "700", "val_size", "0.2", "threads", "1", NULL};
    int failed = 0;
    for (int64_t n = 1;; n += 1 + n / 5) {
        fm_pack_report r = {.size = sizeof r};
        fm_pack_config *c;
        assert_int_equal(fm_pack_config_new(&c), FM_OK);
        assert_int_equal(fm_options_set(c, fm_pack_options(), "input", top, "test"), FM_OK);
        assert_int_equal(fm_options_set(c, fm_pack_options(), "tokenizer", tok_dir, "test"), FM_OK);
        assert_int_equal(fm_options_set(c, fm_pack_options(), "output", out, "test"), FM_OK);
        for (const char *const *p = set; *p; p += 2) {
            assert_int_equal(fm_options_set(c, fm_pack_options(), p[0], p[1], "test"), FM_OK);
        }
        fm_mem_fail_at(n, false);
        fm_status s = fm_data_pack(&r, c, NULL, NULL);
        bool reached = fm_mem_alloc_count() >= n;
        fm_mem_fail_at(0, false);
        if (s != FM_OK && s != FM_ERR_NO_MEMORY) {
            fail_msg("allocation %lld: %s: %s", (long long)n, fm_status_name(s), fm_error_get().message);
        }
        failed += s != FM_OK;
        r = (fm_pack_report){.size = sizeof r};
        assert_int_equal(fm_data_pack(&r, c, NULL, NULL), FM_OK);
        assert_int_equal(r.n_documents, 100);
        fm_pack_config_free(c);
        assert_int_equal(fm_remove_tree(out), FM_OK);
        if (!reached) {
            break;
        }
    }
    assert_true(failed > 10);
}

static int n_reported;
static void count_bad(void *user, const fm_bad_row *row) {
    (void)user;
    n_reported += row->line == 5;
}

static void test_check(void **state) {
    (void)state;
    fm_check_config *c;
    assert_int_equal(fm_check_config_new(&c), FM_OK);
    assert_int_equal(fm_options_set(c, fm_check_options(), "input", top, "test"), FM_OK);
    assert_int_equal(fm_options_set(c, fm_check_options(), "tokenizer", tok_dir, "test"), FM_OK);
    assert_int_equal(fm_options_set(c, fm_check_options(), "cutoff_len", "12", "test"), FM_OK);
    fm_check_report r = {.size = sizeof r};
    n_reported = 0;
    assert_int_equal(fm_data_check(&r, c, count_bad, NULL), FM_OK);
    assert_int_equal(r.n_rows, 102);
    assert_int_equal(r.n_bad, 2);
    assert_int_equal(n_reported, 2);
    assert_int_equal(r.n_cut, 100);
    assert_int_equal(r.n_tokens - r.n_cut_tokens, 1200);
    assert_int_equal(r.n_loss_tokens, 1100);
    assert_int_equal(r.n_bytes - r.n_chars, 100 * 4); /* two characters of three bytes a row */
    fm_check_config_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_long_rows), cmocka_unit_test(test_hold_out),
        cmocka_unit_test(test_kill),       cmocka_unit_test(test_check),     cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
