/* Examples: packing into windows, shards with marks and values, conversations of every form, labels and numbers. */
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
#include "data/chat_rows.h"
#include "data/examples.h"
#include "data/packing.h"
#include "data/shard_write.h"

#define N_DOCS 211

static char top[200];

static void ok(fm_status s) {
    if (s != FM_OK) {
        fail_msg("%s: %s", fm_status_name(s), fm_error_get().message);
    }
}

static int setup(void **state) {
    (void)state;
    snprintf(top, sizeof top, "/tmp/fm_examples_%d", (int)getpid());
    return fm_remove_tree(top) == FM_OK && fm_mkdirs(top) == FM_OK ? 0 : -1;
}
static int teardown(void **state) {
    (void)state;
    return fm_remove_tree(top) == FM_OK ? 0 : -1;
}

/* ---- shards and windows ----------------------------------------------------------------------- */

static int length_of(int d) {
    return 1 + (d * 37) % 29;
}

/* Document d: ids d+1 .., mark 1 on its second half, values d and -d. */
static void write_examples(int64_t shard_tokens) {
    fm_shard_writer *w;
    ok(fm_remove_tree(top));
    ok(fm_shard_writer_new(&w, top, 1000, shard_tokens));
    fm_shard_writer_set_extra(w, true, 2);
    for (int d = 0; d < N_DOCS; d++) {
        int32_t ids[64];
        int16_t marks[64];
        int n = length_of(d);
        for (int i = 0; i < n; i++) {
            ids[i] = d + 1 + i;
            marks[i] = i >= n / 2;
        }
        ok(fm_shard_writer_add_example(w, ids, marks, n, (float[]){(float)d, (float)-d}, n, 0, d + 1));
    }
    fm_json *files = fm_json_new_array();
    ok(fm_json_append(files, fm_json_new_str("a")));
    ok(fm_shard_writer_finish(w, "tok", files, NULL));
    fm_json_free(files);
    fm_shard_writer_free(w);
}

static void check_windows(int32_t seq_len, bool shuffle) {
    fm_dataset *d;
    fm_sampler s;
    ok(fm_dataset_open(&d, top));
    assert_true(fm_dataset_is_examples(d));
    assert_int_equal(fm_dataset_n_values(d), 2);
    ok(fm_sampler_init(&s, d, seq_len, 7, shuffle));
    int64_t total = 0;
    for (int i = 0; i < N_DOCS; i++) {
        total += length_of(i);
    }
    assert_true(s.n_samples >= (total + seq_len - 1) / seq_len);
    assert_true((double)s.n_samples <= 1.25 * (double)total / seq_len + 1); /* best-fit decreasing: 11/9 at worst */
    for (int epoch = 0; epoch < 2; epoch++) {
        int seen[N_DOCS] = {0};
        for (int64_t k = 0; k < s.n_samples; k++) {
            int32_t ids[256], pos[256], targets[256], ends[256], n = 0, at = 0;
            int16_t mark[256];
            int64_t document[256], row;
            ok(fm_sampler_next_examples(&s, ids, pos, targets, mark, document, ends, &n, &row));
            assert_int_equal(ends[n - 1], seq_len);
            for (int32_t g = 0; g < n; at = ends[g++]) {
                int len = ends[g] - at;
                if (document[g] < 0) { /* padding comes last, alone, without loss */
                    assert_int_equal(g, n - 1);
                    for (int t = at; t < ends[g]; t++) {
                        assert_int_equal(targets[t], -100);
                        assert_int_equal(mark[t], 0);
                    }
                    continue;
                }
                int doc = (int)document[g];
                float v[2];
                seen[doc]++;
                assert_int_equal(len, length_of(doc));
                fm_dataset_values(d, doc, v);
                assert_true(v[0] == (float)doc && v[1] == (float)-doc);
                for (int t = 0; t < len; t++) {
                    assert_int_equal(ids[at + t], doc + 1 + t);
                    assert_int_equal(pos[at + t], t);
                    assert_int_equal(targets[at + t], t + 1 < len ? doc + 2 + t : -100);
                    assert_int_equal(mark[at + t], t >= len / 2);
                }
            }
        }
        for (int i = 0; i < N_DOCS; i++) {
            assert_int_equal(seen[i], 1);
        }
    }
    fm_sampler_deinit(&s);
    assert_int_equal(fm_sampler_init(&s, d, 28, 7, shuffle), FM_ERR_DATA); /* the longest has 29 */
    fm_dataset_close(d);
}

static void test_windows(void **state) {
    (void)state;
    for (int shards = 0; shards < 2; shards++) {
        write_examples(shards ? 100 : 1 << 20);
        check_windows(29, false);
        check_windows(64, true);
        check_windows(256, true);
    }
}

/* Number of the window that each document is in, in this epoch of a sampler that starts there. */
static void windows_of(int *window, int64_t epoch, bool shuffle) {
    fm_dataset *d;
    fm_sampler s;
    ok(fm_dataset_open(&d, top));
    ok(fm_sampler_init(&s, d, 64, 7, shuffle));
    s.at.epoch = epoch;
    for (int i = 0; i < N_DOCS; i++) {
        window[i] = -1;
    }
    for (int64_t k = 0; k < s.n_samples; k++) {
        int32_t ids[64], pos[64], targets[64], ends[64], n = 0;
        int16_t mark[64];
        int64_t document[64], row;
        ok(fm_sampler_next_examples(&s, ids, pos, targets, mark, document, ends, &n, &row));
        for (int32_t g = 0; g < n; g++) {
            if (document[g] >= 0) {
                window[document[g]] = (int)k;
            }
        }
    }
    fm_sampler_deinit(&s);
    fm_dataset_close(d);
}

/* Pairs of documents that share a window in both. */
static int companions(const int *a, const int *b) {
    int n = 0;
    for (int i = 0; i < N_DOCS; i++) {
        for (int j = 0; j < i; j++) {
            n += a[i] == a[j] && b[i] == b[j];
        }
    }
    return n;
}

/* Who shares a window is drawn anew each epoch, and the same after a resume; without shuffling it stays. */
static void test_company(void **state) {
    int first[N_DOCS], again[N_DOCS], second[N_DOCS], plain[2][N_DOCS];
    (void)state;
    write_examples(1 << 20);
    windows_of(first, 0, true);
    windows_of(again, 0, true);
    windows_of(second, 1, true);
    windows_of(plain[0], 0, false);
    windows_of(plain[1], 1, false);
    assert_memory_equal(first, again, sizeof first);
    assert_memory_equal(plain[0], plain[1], sizeof first);
    int all = companions(plain[0], plain[1]);
    assert_int_equal(companions(first, first), all); /* the shape of windows stays; the few shortest fill one */
    assert_true(companions(first, second) < all / 2);
    assert_true(companions(first, plain[0]) < all / 2);
}

/* A flipped byte anywhere, or a file cut anywhere, is found by opening or by the hash, and never read wildly. */
static void test_damage(void **state) {
    (void)state;
    char path[300];
    char *good;
    size_t n;
    write_examples(1 << 20);
    snprintf(path, sizeof path, "%s/shard-00000.fmt", top);
    ok(fm_file_read(&good, &n, path, 0));
    for (size_t i = 0; i < n; i += i < 64 ? 1 : 13) {
        fm_dataset *d;
        good[i] = (char)(good[i] ^ 0x81);
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(good, 1, n, f), n);
        fclose(f);
        good[i] = (char)(good[i] ^ 0x81);
        if (fm_dataset_open(&d, top) == FM_OK) {
            int16_t mark[64];
            float v[FM_MAX(2, 2)];
            assert_int_equal(fm_dataset_verify(d), FM_ERR_CORRUPT);
            for (int64_t k = 0, begin, len; k < fm_dataset_documents(d) && fm_dataset_n_values(d) <= 2; k++) {
                fm_dataset_document(d, k, &begin, &len);
                fm_dataset_marks(d, begin, FM_MIN(len, 64), mark);
                fm_dataset_values(d, k, v);
            }
            fm_dataset_close(d);
        }
    }
    for (size_t cut = 0; cut < n; cut += 53) {
        fm_dataset *d;
        assert_int_equal(truncate(path, (off_t)(n - 1 - cut)), 0);
        assert_int_not_equal(fm_dataset_open(&d, top), FM_OK);
    }
    fm_free(good);
}

/* ---- conversations ---------------------------------------------------------------------------- */

static void converse(const char *row, const char *want, size_t n_answers, double last_weight) {
    fm_bump a = {0};
    fm_rec r = {0};
    fm_columns columns = {0};
    fm_conversation c = {0};
    const char *reason;
    ok(fm_rec_parse_json(&a, &r, row, strlen(row)));
    ok(fm_conversation_from_row(&c, &r, &columns, &reason));
    if (n_answers == 0) {
        assert_non_null(reason);
        assert_string_equal(reason, want);
    } else {
        if (reason) {
            fail_msg("%s: %s", row, reason);
        }
        fm_json *x, *y;
        fm_str p = {0}, q = {0};
        ok(fm_json_parse(&x, c.messages.data, c.messages.len, "made"));
        ok(fm_json_parse(&y, want, strlen(want), "wanted"));
        ok(fm_json_dump(&p, x, 0));
        ok(fm_json_dump(&q, y, 0));
        assert_string_equal(p.data, q.data);
        fm_str_free(&p);
        fm_str_free(&q);
        fm_json_free(x);
        fm_json_free(y);
        assert_int_equal(c.n_answers, n_answers);
        assert_true(c.weight[c.n_messages - 1] == last_weight);
    }
    fm_conversation_free(&c);
    fm_bump_free(&a);
}

static void test_conversations(void **state) {
    (void)state;
    static const char qa[] = "[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"assistant\",\"content\":\"A\"}]";
    converse("{\"question\":\"Q\",\"answer\":\"A\"}", qa, 1, 1);
    converse("{\"prompt\":\"Q\",\"completion\":\"A\"}", qa, 1, 1);
    converse("{\"instruction\":\"Q\",\"input\":\"\",\"output\":\"A\"}", qa, 1, 1);
    converse("{\"input\":\"Q\",\"output\":\"A\"}", qa, 1, 1);
    converse("{\"messages\":[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"assistant\",\"content\":\"A\"}]}", qa, 1,
             1);
    converse("{\"conversations\":[{\"from\":\"human\",\"value\":\"Q\"},{\"from\":\"gpt\",\"value\":\"A\"}]}", qa, 1, 1);
    converse(
        "{\"instruction\":\"Do\",\"input\":\"this "
        "\\u00e9\",\"output\":\"A\",\"system\":\"S\",\"history\":[[\"q\",\"a\"]]}",
        "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
        "\"content\":\"a\"},{\"role\":\"user\",\"content\":\"Do\\nthis \\u00e9\"},{\"role\":\"assistant\",\"content\":"
        "\"A\"}]",
        2, 1);
    converse("{\"messages\":[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"assistant\",\"content\":\"A\","
             "\"weight\":0.5}]}",
             "[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"assistant\",\"content\":\"A\",\"weight\":0.5}]", 1,
             0.5);
    converse("{\"messages\":[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"assistant\",\"content\":\"A\",\"train\":"
             "false}]}",
             "[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"assistant\",\"content\":\"A\",\"train\":false}]", 1,
             0);
    converse(
        "{\"conversations\":[{\"from\":\"human\",\"value\":\"Q\"},{\"from\":\"function_call\",\"value\":\"{"
        "\\\"name\\\":"
        "\\\"f\\\",\\\"arguments\\\":{}}\"},{\"from\":\"observation\",\"value\":\"1\"},{\"from\":\"gpt\",\"value\":"
        "\"A\"}]}",
        "[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"assistant\",\"tool_calls\":[{\"type\":\"function\","
        "\"function\":{\"name\":\"f\",\"arguments\":{}}}],\"content\":\"\"},{\"role\":\"tool\",\"content\":\"1\"},"
        "{\"role\":\"assistant\",\"content\":\"A\"}]",
        2, 1);
    converse("{\"question\":\"Q\",\"answer\":\"\"}", "an answer is empty", 0, 0);
    converse("{\"question\":\"\",\"answer\":\"A\"}", "the question is empty", 0, 0);
    converse("{\"question\":\"Q\"}", "there is no answer column (response_column)", 0, 0);
    converse("{\"text\":\"Q\"}", "there is no question column (prompt_column)", 0, 0);
    converse("{\"messages\":[{\"role\":\"user\",\"content\":\"Q\"}]}", "there is no answer", 0, 0);
    converse("{\"messages\":[{\"role\":\"wizard\",\"content\":\"Q\"}]}", "a message has a role that is not known", 0,
             0);
    converse("{\"messages\":[{\"content\":\"Q\"}]}", "a message has no role", 0, 0);
    converse("{\"messages\":[{\"role\":\"user\"}]}", "a message has no content", 0, 0);
    converse("{\"messages\":[]}", "the messages are no list of objects", 0, 0);
    converse("{\"messages\":[3]}", "the messages are no list of objects", 0, 0);
    converse("{\"instruction\":\"Q\",\"output\":\"A\",\"history\":[[1]]}",
             "the history is no list of [question, answer]", 0, 0);
    converse("{\"conversations\":[{\"from\":\"human\",\"value\":\"Q\"},{\"from\":\"function_call\",\"value\":\"{\"}]}",
             "a function call is no JSON", 0, 0);
}

/* ---- labels ----------------------------------------------------------------------------------- */

static char *letters(fm_text *t, int i) {
    static char buf[64];
    snprintf(buf, sizeof buf, "the quick brown fox %d jumps", i);
    *t = (fm_text){.ptr = buf, .len = strlen(buf)};
    return buf;
}
static fm_status feed(void *user, fm_text *t, bool *end) {
    int *i = user;
    *end = *i == 40;
    letters(t, (*i)++);
    return FM_OK;
}

static void make_tokenizer(char *dir, size_t cap) {
    fm_tokenizer *t;
    int i = 0;
    fm_bpe_train_options o = {.size = sizeof o, .vocab_size = 280, .eos = "<eos>", .n_threads = 1};
    ok(fm_tokenizer_train(&t, NULL, feed, &i, &o));
    snprintf(dir, cap, "%s/tok", top);
    ok(fm_tokenizer_save(t, dir));
    fm_tokenizer_free(t);
}

static fm_status make(fm_examples_report *rep, const char *task, const char *rows, double val_size, const char *out) {
    char tok[300], path[300], dir[300];
    make_tokenizer(tok, sizeof tok);
    snprintf(path, sizeof path, "%s/rows.jsonl", top);
    snprintf(dir, sizeof dir, "%s/%s", top, out);
    ok(fm_file_write_atomic(path, rows, strlen(rows)));
    char *item[] = {path};
    fm_columns columns = {0};
    fm_examples_options o = {.task = task,
                             .input = {.item = item, .n = 1},
                             .format = "auto",
                             .tokenizer = tok,
                             .output = dir,
                             .columns = &columns,
                             .cutoff_len = 16,
                             .long_rows = FM_LONG_REFUSE,
                             .val_size = val_size};
    return fm_examples_make(rep, &o);
}

static void open_made(fm_dataset **d, const char *out) {
    char dir[300];
    snprintf(dir, sizeof dir, "%s/%s", top, out);
    ok(fm_dataset_open(d, dir));
    ok(fm_dataset_verify(*d));
}

static void expect_labels(const fm_dataset *d, const char *const *names, size_t n) {
    const fm_json *list = fm_json_get(fm_dataset_json(d), "labels");
    assert_int_equal(fm_json_size(list), n);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(fm_json_str(fm_json_at(list, i), NULL), names[i]);
    }
}

static void test_labels(void **state) {
    (void)state;
    fm_examples_report r;
    fm_dataset *d;
    float v[4];
    ok(make(&r, "label",
            "{\"text\":\"fox\",\"label\":\"b\"}\n{\"text\":\"a b c d e f g h i j k l m n o p q r s t u "
            "v\",\"label\":\"a\"}\n"
            "{\"text\":\"\",\"label\":\"a\"}\n{\"text\":\"x\"}\n{\"text\":\"dog\",\"label\":10}\n{\"text\":\"cat\","
            "\"label\":9}\n",
            0, "single"));
    assert_int_equal(r.n_rows, 6);
    assert_int_equal(r.n_bad, 2);
    assert_int_equal(r.n_examples, 4);
    assert_int_equal(r.n_long, 1); /* cut: its beginning says what it is */
    open_made(&d, "single");
    expect_labels(d, (const char *const[]){"9", "10", "a", "b"}, 4); /* numbers by value, then names */
    const float want[] = {3, 2, 1, 0};
    for (int i = 0; i < 4; i++) {
        fm_dataset_values(d, i, v);
        assert_true(v[0] == want[i]);
    }
    int64_t begin, n;
    fm_dataset_document(d, 1, &begin, &n);
    assert_int_equal(n, 16);
    fm_dataset_close(d);

    ok(make(&r, "label",
            "{\"text\":\"a\",\"labels\":[\"x\",\"y\"]}\n{\"text\":\"b\",\"labels\":[]}\n{\"text\":\"c\",\"labels\":["
            "\"z\"]}\n",
            0, "multi"));
    open_made(&d, "multi");
    expect_labels(d, (const char *const[]){"x", "y", "z"}, 3);
    const float rows[3][3] = {{1, 1, 0}, {0, 0, 0}, {0, 0, 1}};
    for (int i = 0; i < 3; i++) {
        fm_dataset_values(d, i, v);
        assert_memory_equal(v, rows[i], sizeof rows[i]);
    }
    fm_dataset_close(d);

    ok(make(&r, "number",
            "{\"text\":\"a\",\"score\":1.5}\n{\"text\":\"b\",\"score\":\"x\"}\n{\"text\":\"c\",\"score\":-2}\n", 0,
            "number"));
    assert_int_equal(r.n_bad, 1);
    open_made(&d, "number");
    fm_dataset_values(d, 1, v);
    assert_true(v[0] == -2);
    fm_dataset_close(d);

    assert_int_equal(make(&r, "label", "{\"text\":\"a\",\"label\":\"x\"}\n", 0, "one"), FM_ERR_DATA);
    assert_int_equal(make(&r, "label", "{\"text\":\"a\"}\n", 0, "none"), FM_ERR_DATA);
    char path[300];
    snprintf(path, sizeof path, "%s/none.partial", top);
    assert_false(fm_path_exists(path)); /* nothing stays of a refused run */
}

/* The same rows are not made again; the part held out does not depend on other rows. */
static void test_reuse(void **state) {
    (void)state;
    fm_examples_report r, again;
    fm_str rows = {0};
    for (int i = 0; i < 200; i++) {
        fm_str_printf(&rows, "{\"text\":\"fox %d\",\"label\":\"%c\"}\n", i, 'a' + i % 2);
    }
    ok(make(&r, "label", rows.data, 0.2, "held"));
    assert_false(r.reused);
    assert_int_equal(r.n_examples + r.n_eval_examples, 200);
    assert_true(r.n_eval_examples > 20 && r.n_eval_examples < 60);
    char item_path[300];
    snprintf(item_path, sizeof item_path, "%s/rows.jsonl", top);
    char tok[300], dir[300];
    snprintf(tok, sizeof tok, "%s/tok", top);
    snprintf(dir, sizeof dir, "%s/held", top);
    char *item[] = {item_path};
    fm_columns columns = {0};
    fm_examples_options o = {.task = "label",
                             .input = {.item = item, .n = 1},
                             .format = "auto",
                             .tokenizer = tok,
                             .output = dir,
                             .columns = &columns,
                             .cutoff_len = 16,
                             .long_rows = FM_LONG_REFUSE,
                             .val_size = 0.2};
    ok(fm_examples_make(&again, &o));
    assert_true(again.reused);
    assert_int_equal(again.n_examples, r.n_examples);
    o.cutoff_len = 12;
    ok(fm_examples_make(&again, &o));
    assert_false(again.reused);
    fm_str_free(&rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_windows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_company, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_conversations, setup, teardown),
        cmocka_unit_test_setup_teardown(test_labels, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reuse, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
