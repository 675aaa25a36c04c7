/* Training, against merges of the Hugging Face BpeTrainer (golden.json), and the vocabulary report. */
#include "text_fixture.h"

#include "text/bpe.h"

static const char *const special[] = {"<|begin|>", "<|end|>"};

static fm_tokenizer *train(int64_t size, const char *pattern, int64_t minimum, int threads, size_t block,
                           int64_t memory, fm_bpe_train_info *info) {
    corpus c;
    corpus_open(&c, block);
    fm_bpe_train_options opt = {.size = sizeof(opt),
                                .vocab_size = size,
                                .pattern = pattern,
                                .special = special,
                                .n_special = 2,
                                .eos = "<|end|>",
                                .min_frequency = minimum ? minimum : -1,
                                .n_threads = threads,
                                .max_memory = memory};
    fm_tokenizer *t = NULL;
    ok(fm_tokenizer_train(&t, info, corpus_next, &c, &opt));
    corpus_close(&c);
    return t;
}

static void same_merges(const fm_tokenizer *a, const fm_tokenizer *b) {
    assert_int_equal(a->n_merges, b->n_merges);
    assert_memory_equal(a->merges, b->merges, a->n_merges * sizeof(*a->merges));
}

static void test_golden(void **state) {
    (void)state;
    fm_json *golden;
    ok(fm_json_load(&golden, DATA "golden.json"));
    const fm_json *runs = fm_json_get(golden, "train");
    assert_int_equal(fm_json_size(runs), 4);
    for (size_t r = 0; r < fm_json_size(runs); r++) {
        const fm_json *run = fm_json_at(runs, r), *merges = fm_json_get(run, "merges");
        for (int threads = 1; threads <= 3; threads++) {
            fm_tokenizer *t =
                train(fm_json_int(fm_json_get(run, "vocab_size"), 0), fm_json_str(fm_json_get(run, "pattern"), NULL),
                      fm_json_int(fm_json_get(run, "min_frequency"), 0), threads, 0, 0, NULL);
            assert_int_equal(fm_tokenizer_vocab_size(t), fm_json_int(fm_json_get(run, "n_vocab"), 0));
            assert_int_equal(t->n_merges, fm_json_size(merges));
            for (size_t i = 0; i < t->n_merges; i++) {
                fm_str s = {0};
                size_t n;
                const char *bytes = fm_tokenizer_token(t, (int32_t)t->merges[i].left, &n);
                fm_bytes_to_mapped(&s, bytes, n);
                fm_str_putc(&s, ' ');
                bytes = fm_tokenizer_token(t, (int32_t)t->merges[i].right, &n);
                fm_bytes_to_mapped(&s, bytes, n);
                assert_string_equal(s.data, fm_json_str(fm_json_at(merges, i), NULL));
                fm_str_free(&s);
            }
            assert_int_equal(fm_tokenizer_eos(t), 1);
            assert_int_equal(fm_tokenizer_bos(t), -1);
            fm_tokenizer_free(t);
        }
    }
    fm_json_free(golden);
}

/* Small blocks instead of whole files change pre-tokens only at their edges; with the same blocks the
 * result may not depend on threads or on how texts fall into batches. */
static void test_threads(void **state) {
    (void)state;
    fm_bpe_train_info one, info;
    fm_tokenizer *a = train(2000, "qwen2", 0, 1, 1000, 0, &one);
    for (int threads = 2; threads <= 4; threads++) {
        fm_tokenizer *b = train(2000, "qwen2", 0, threads, 1000, 0, &info);
        same_merges(a, b);
        assert_int_equal(info.n_pieces, one.n_pieces);
        assert_int_equal(info.n_unique, one.n_unique);
        fm_tokenizer_free(b);
    }
    assert_int_equal(one.n_bytes, 60000 + 15496 + 10256 + 12333 + 13942);
    assert_int_equal(one.prune_threshold, 0);
    fm_tokenizer_free(a);
}

static void test_pruning(void **state) {
    (void)state;
    fm_bpe_train_info exact, one, two;
    fm_tokenizer *e = train(600, "llama3", 0, 1, 500, 0, &exact);
    /* The smallest limit holds these texts, so the counter is asked below the public minimum. */
    corpus c;
    fm_word_counter *w[2];
    fm_bpe_train_info *info[2] = {&one, &two};
    for (int k = 0; k < 2; k++) {
        fm_pool *pool;
        ok(fm_pool_new(&pool, k + 1));
        corpus_open(&c, 500);
        memset(info[k], 0, sizeof(*info[k]));
        ok(fm_word_counter_new(&w[k], FM_SPLIT_LLAMA3, 100000, pool));
        ok(fm_word_counter_read(w[k], corpus_next, &c, info[k]));
        corpus_close(&c);
        fm_pool_free(pool);
    }
    assert_true(one.prune_threshold > 0 && one.n_unique < exact.n_unique && one.n_unique > 100);
    assert_int_equal(one.n_pieces, exact.n_pieces);
    assert_int_equal(one.prune_threshold, two.prune_threshold);
    assert_int_equal(one.n_pruned, two.n_pruned);
    assert_int_equal(one.n_unique, two.n_unique);
    int64_t sum = 0;
    for (int i = 0; i < FM_WORD_SHARDS; i++) {
        const fm_word_table *a = fm_word_counter_shard(w[0], i), *b = fm_word_counter_shard(w[1], i);
        assert_int_equal(a->n, b->n);
        for (size_t k = 0; a->n && k <= a->mask; k++) {
            sum += (int64_t)a->slot[k].count;
        }
    }
    assert_int_equal(sum + one.n_pruned, exact.n_pieces);
    fm_word_counter_free(w[0]);
    fm_word_counter_free(w[1]);
    fm_tokenizer_free(e);
}

/* The report at a smaller size equals that of a tokenizer trained at that size. */
static void test_report(void **state) {
    (void)state;
    fm_tokenizer *big = train(1500, "llama3", 0, 1, 0, 0, NULL), *small = train(600, "llama3", 0, 1, 0, 0, NULL);
    corpus c;
    fm_tokenizer_report_row a[2], b[1];
    int64_t sizes[] = {600, 0}, whole = 0;
    fm_tokenizer_report_options opt = {.size = sizeof(opt), .d_model = 64, .untied = true, .n_threads = 2};
    corpus_open(&c, 0);
    ok(fm_tokenizer_report(a, big, sizes, 2, corpus_next, &c, &opt));
    corpus_close(&c);
    corpus_open(&c, 0);
    ok(fm_tokenizer_report(b, small, &whole, 1, corpus_next, &c, &opt));
    assert_memory_equal(&a[0], &b[0], sizeof(a[0]));
    assert_int_equal(a[1].vocab_size, 1500);
    assert_int_equal(a[1].embedding_params, 1500 * 64 * 2);
    assert_true(a[1].chars_per_token[FM_TEXT_EN] > a[0].chars_per_token[FM_TEXT_EN]);
    assert_true(a[0].chars_per_token[FM_TEXT_EN] > 1.5);
    assert_true(a[0].byte_fallback_rate > a[1].byte_fallback_rate && a[1].byte_fallback_rate > 0);
    /* Brute force over whole files: all tokens, and tokens that are one byte of a longer character. */
    int64_t tokens = 0, bytes = 0, unused = 0;
    bool used[600] = {false};
    fm_tokens ids = {0};
    for (int i = 0; i < c.n; i++) {
        ok(fm_tokenizer_encode(&ids, small, c.file[i], c.len[i], NULL));
    }
    for (size_t i = 0; i < ids.n; i++) {
        size_t n;
        const char *p = fm_tokenizer_token(small, ids.ids[i], &n);
        bytes += n == 1 && (p[0] & 0x80);
        used[ids.ids[i]] = true;
    }
    for (int i = 2; i < 600; i++) {
        unused += !used[i];
    }
    for (int k = 0; k < FM_TEXT_CLASS_COUNT; k++) {
        tokens += b[0].n_tokens[k];
        assert_true(b[0].n_tokens[k] > 0);
    }
    assert_int_equal(tokens, ids.n);
    assert_true(b[0].byte_fallback_rate == (double)bytes / (double)tokens);
    assert_int_equal(b[0].n_unused, unused);
    fm_tokens_free(&ids);
    corpus_close(&c);
    fm_tokenizer_free(big);
    fm_tokenizer_free(small);
}

static void test_bad_options(void **state) {
    (void)state;
    fm_tokenizer *t = NULL;
    corpus c;
    corpus_open(&c, 0);
    fm_bpe_train_options opt = {.size = sizeof(opt), .vocab_size = 100};
    assert_int_equal(fm_tokenizer_train(&t, NULL, corpus_next, &c, &opt), FM_ERR_ARGUMENT);
    opt = (fm_bpe_train_options){.size = sizeof(opt), .pattern = "gpt9"};
    assert_int_equal(fm_tokenizer_train(&t, NULL, corpus_next, &c, &opt), FM_ERR_ARGUMENT);
    opt = (fm_bpe_train_options){.size = sizeof(opt), .bos = "\xFF"};
    assert_int_equal(fm_tokenizer_train(&t, NULL, corpus_next, &c, &opt), FM_ERR_ARGUMENT);
    opt = (fm_bpe_train_options){.size = sizeof(opt), .max_memory = 5};
    assert_int_equal(fm_tokenizer_train(&t, NULL, corpus_next, &c, &opt), FM_ERR_ARGUMENT);
    assert_null(t);
    /* No text at all: the 256 bytes. */
    c.i = c.n;
    opt = (fm_bpe_train_options){.size = sizeof(opt)};
    ok(fm_tokenizer_train(&t, NULL, corpus_next, &c, &opt));
    assert_int_equal(fm_tokenizer_vocab_size(t), 256);
    fm_tokenizer_free(t);
    corpus_close(&c);
}

static void test_no_memory(void **state) {
    (void)state;
    fm_status s = FM_ERR_NO_MEMORY;
    for (int64_t i = 1; s != FM_OK && i < 5000; i += 1 + i / 40) {
        corpus c;
        corpus_open(&c, 0);
        c.len[0] = 3000;
        c.n = 1;
        fm_bpe_train_options opt = {.size = sizeof(opt), .vocab_size = 300, .n_threads = 1};
        fm_tokenizer *t = NULL;
        fm_mem_fail_at(i, false);
        s = fm_tokenizer_train(&t, NULL, corpus_next, &c, &opt);
        fm_mem_fail_at(0, false);
        assert_true(s == FM_OK || s == FM_ERR_NO_MEMORY);
        assert_true((t != NULL) == (s == FM_OK));
        fm_tokenizer_free(t);
        c.n = 5;
        corpus_close(&c);
    }
    assert_int_equal(s, FM_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden), cmocka_unit_test(test_threads),     cmocka_unit_test(test_pruning),
        cmocka_unit_test(test_report), cmocka_unit_test(test_bad_options), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
