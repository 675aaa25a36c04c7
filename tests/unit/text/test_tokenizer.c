/* Splitting, encoding, decoding and files, against results of Hugging Face tokenizers (golden.json). */
#include "text_fixture.h"

#include <stdlib.h>

#include "text/bpe.h"
#include "text/split.h"

static fm_json *golden;

static int load_golden(void **state) {
    (void)state;
    return fm_json_load(&golden, DATA "golden.json") != FM_OK;
}

static int free_golden(void **state) {
    (void)state;
    fm_json_free(golden);
    return 0;
}

static void test_splits(void **state) {
    (void)state;
    const fm_json *texts = fm_json_get(golden, "texts");
    for (int k = FM_SPLIT_GPT2; k < FM_SPLIT_COUNT; k++) {
        const fm_json *lists = fm_json_get(fm_json_get(golden, "splits"), fm_split_name((fm_split_kind)k));
        assert_int_equal(fm_json_size(lists), fm_json_size(texts));
        for (size_t i = 0; i < fm_json_size(texts); i++) {
            size_t n, count = 0;
            const char *text = fm_json_str(fm_json_at(texts, i), &n);
            fm_splitter s;
            fm_splitter_init(&s, (fm_split_kind)k, text, n);
            const uint8_t *piece;
            for (size_t len; (len = fm_splitter_next(&s, &piece)) != 0; count++) {
                assert_int_equal((int64_t)len, fm_json_int(fm_json_at(fm_json_at(lists, i), count), -1));
            }
            assert_int_equal(count, fm_json_size(fm_json_at(lists, i)));
        }
    }
    assert_int_equal(fm_split_find("deepseek-v3"), FM_SPLIT_DEEPSEEK_V3);
    assert_int_equal(fm_split_find("gpt3"), FM_SPLIT_COUNT);
}

/* Any bytes: pieces are never empty and cover the text. */
static void test_split_bytes(void **state) {
    (void)state;
    uint32_t x = 1;
    for (int round = 0; round < 3000; round++) {
        uint8_t b[24];
        size_t n = (size_t)round % sizeof(b), sum = 0;
        for (size_t i = 0; i < n; i++) {
            x = x * 1664525 + 1013904223;
            static const uint8_t some[] = {0xE4, 0xB8, 0xAD, 0xC3, 0xA9, 0xF0, 0x9F, 0x98, 0x80,
                                           0x80, 0xFF, 0xED, 0xA0, ' ',  '\n', '\'', 's',  '1'};
            b[i] = (x >> 24 & 3) ? some[(x >> 8) % sizeof(some)] : (uint8_t)(x >> 16);
        }
        for (int k = 0; k < FM_SPLIT_COUNT; k++) {
            fm_splitter s;
            fm_splitter_init(&s, (fm_split_kind)k, b, n);
            const uint8_t *piece;
            sum = 0;
            for (size_t len; (len = fm_splitter_next(&s, &piece)) != 0; sum += len) {
                assert_ptr_equal(piece, b + sum);
            }
            assert_int_equal(sum, n);
        }
    }
}

static void check_ids(const fm_tokenizer *t, const char *key, bool special) {
    const fm_json *texts = fm_json_get(golden, "texts"), *all = fm_json_get(fm_json_get(golden, "hf"), key);
    fm_encode_options opt = {.size = sizeof(opt), .allow_special = special};
    fm_tokens ids = {0};
    for (size_t i = 0; i < fm_json_size(texts); i++) {
        size_t n;
        const char *text = fm_json_str(fm_json_at(texts, i), &n);
        ids.n = 0;
        ok(fm_tokenizer_encode(&ids, t, text, n, &opt));
        const fm_json *want = fm_json_at(all, i);
        assert_int_equal(ids.n, fm_json_size(want));
        for (size_t k = 0; k < ids.n; k++) {
            assert_int_equal(ids.ids[k], fm_json_int(fm_json_at(want, k), -1));
        }
    }
    fm_tokens_free(&ids);
}

static void test_open(void **state) {
    (void)state;
    fm_tokenizer *t, *file;
    ok(fm_tokenizer_open(&t, DATA "hf"));
    ok(fm_tokenizer_open(&file, DATA "hf/tokenizer.json"));
    assert_int_equal(fm_tokenizer_vocab_size(file), fm_tokenizer_vocab_size(t));
    fm_tokenizer_free(file);
    check_ids(t, "special", true);
    check_ids(t, "plain", false);
    assert_int_equal(fm_tokenizer_bos(t), 0);
    assert_int_equal(fm_tokenizer_eos(t), 1);
    assert_int_equal(fm_tokenizer_pad(t), fm_tokenizer_find(t, "<|pad|>", 7));
    assert_int_equal(fm_tokenizer_unk(t), -1);
    assert_true(fm_tokenizer_is_special(t, fm_tokenizer_pad(t)));
    assert_false(fm_tokenizer_is_special(t, fm_tokenizer_find(t, "<tool>", 6)));
    assert_string_equal(fm_tokenizer_chat_template(t), "{{ 'übung' }}");
    assert_string_equal(fm_tokenizer_pattern(t), "deepseek_v3");
    size_t n;
    assert_memory_equal(fm_tokenizer_token(t, 1, &n), "<|end|>", 7);
    assert_int_equal(n, 7);
    assert_null(fm_tokenizer_token(t, 1 << 20, &n));
    /* add_special: the template of the file. */
    fm_encode_options opt = {.size = sizeof(opt), .add_special = true};
    fm_tokens ids = {0};
    ok(fm_tokenizer_encode(&ids, t, "a", 1, &opt));
    assert_int_equal(ids.n, 3);
    assert_int_equal(ids.ids[0], 0);
    assert_int_equal(ids.ids[2], 1);
    fm_tokens_free(&ids);
    fm_tokenizer_free(t);
}

static void test_save(void **state) {
    (void)state;
    char dir[] = "/tmp/fm_tok_XXXXXX";
    assert_non_null(mkdtemp(dir));
    fm_tokenizer *t, *again;
    ok(fm_tokenizer_open(&t, DATA "hf"));
    ok(fm_tokenizer_save(t, dir));
    ok(fm_tokenizer_open(&again, dir));
    check_ids(again, "special", true);
    check_ids(again, "plain", false);
    assert_int_equal(fm_tokenizer_bos(again), 0);
    assert_int_equal(fm_tokenizer_pad(again), fm_tokenizer_pad(t));
    assert_string_equal(fm_tokenizer_chat_template(again), fm_tokenizer_chat_template(t));
    assert_true(again->has_template);
    assert_int_equal(again->single.n, 3);
    fm_tokenizer_free(t);
    fm_tokenizer_free(again);
    ok(fm_remove_tree(dir));
}

/* Bytes in, the same bytes out, also when they are no UTF-8, at once and as a stream. */
static void test_decode(void **state) {
    (void)state;
    fm_tokenizer *t;
    ok(fm_tokenizer_open(&t, DATA "hf"));
    fm_norm_free(&t->norm);
    fm_token_decoder *d;
    ok(fm_token_decoder_new(&d, t, NULL));
    fm_tokens ids = {0};
    uint32_t x = 9;
    for (int round = 0; round < 2000; round++) {
        char in[40], *out, *joined = NULL;
        size_t n = (size_t)round % sizeof(in), n_out;
        for (size_t i = 0; i < n; i++) {
            x = x * 1664525 + 1013904223;
            in[i] = round % 3 ? "\xE4\xB8\xAD\xC3\xA9 ab\xF0\x9F\x98\x80"[(x >> 20) % 12] : (char)(x >> 24);
            /* Byte FC is the added token "\u00fc" here, which stands for that character. */
            in[i] = (char)(in[i] == '\xFC' ? 'x' : in[i]);
        }
        ids.n = 0;
        ok(fm_tokenizer_encode(&ids, t, in, n, NULL));
        ok(fm_tokenizer_decode(&out, &n_out, t, ids.ids, ids.n, NULL));
        assert_int_equal(n_out, n);
        assert_memory_equal(out, in, n);
        assert_int_equal(out[n], 0);
        fm_string_free(out);
        fm_str s = {0};
        const char *text;
        size_t len;
        for (size_t i = 0; i < ids.n; i++) {
            ok(fm_token_decoder_push(d, ids.ids[i], &text, &len));
            fm_str_append(&s, text, len);
        }
        fm_token_decoder_flush(d, &text, &len);
        fm_str_append(&s, text, len);
        ok(fm_str_check(&s));
        joined = fm_str_take(&s);
        assert_memory_equal(joined ? joined : "", in, n);
        fm_free(joined);
    }
    /* A character in three tokens comes out whole. */
    const char *text;
    size_t len;
    ok(fm_token_decoder_push(d, t->byte_id[0xE4], &text, &len));
    assert_int_equal(len, 0);
    ok(fm_token_decoder_push(d, t->byte_id[0xBD], &text, &len));
    assert_int_equal(len, 0);
    ok(fm_token_decoder_push(d, t->byte_id[0xA0], &text, &len));
    assert_string_equal(text, "你");
    fm_token_decoder_free(d);
    int32_t special[] = {0, t->byte_id['x'], 1, 1 << 22, -5};
    fm_decode_options skip = {.size = sizeof(skip), .skip_special = true};
    char *out;
    ok(fm_tokenizer_decode(&out, NULL, t, special, 5, &skip));
    assert_string_equal(out, "x");
    fm_string_free(out);
    ok(fm_tokenizer_decode(&out, NULL, t, special, 5, NULL));
    assert_string_equal(out, "<|begin|>x<|end|>");
    fm_string_free(out);
    fm_tokens_free(&ids);
    fm_tokenizer_free(t);
}

static void test_batch(void **state) {
    (void)state;
    fm_tokenizer *t;
    ok(fm_tokenizer_open(&t, DATA "hf"));
    corpus c;
    corpus_open(&c, 777);
    fm_text texts[400];
    size_t n = 0;
    bool end = false;
    while (corpus_next(&c, &texts[n], &end) == FM_OK && !end) {
        n++;
    }
    assert_true(n > 100);
    for (int threads = 1; threads <= 4; threads++) {
        fm_encode_options opt = {.size = sizeof(opt), .n_threads = threads};
        fm_token_batch b;
        ok(fm_tokenizer_encode_batch(&b, t, texts, n, &opt));
        fm_tokens ids = {0};
        for (size_t i = 0; i < n; i++) {
            ids.n = 0;
            ok(fm_tokenizer_encode(&ids, t, texts[i].ptr, texts[i].len, &opt));
            assert_int_equal(ids.n, b.offset[i + 1] - b.offset[i]);
            assert_memory_equal(ids.ids, b.ids + b.offset[i], ids.n * sizeof(int32_t));
        }
        fm_tokens_free(&ids);
        fm_token_batch_free(&b);
    }
    fm_token_batch empty;
    ok(fm_tokenizer_encode_batch(&empty, t, NULL, 0, NULL));
    assert_int_equal(empty.offset[0], 0);
    fm_token_batch_free(&empty);
    corpus_close(&c);
    fm_tokenizer_free(t);
}

/* The two merging algorithms agree, and a megabyte of one letter takes no quadratic time. */
static void test_long_piece(void **state) {
    (void)state;
    fm_tokenizer *t;
    ok(fm_tokenizer_open(&t, DATA "hf"));
    size_t n = 1 << 20;
    char *text = fm_malloc(n);
    assert_non_null(text);
    for (size_t i = 0; i < n; i++) {
        text[i] = "theandofing"[(i * i / 7) % 11];
    }
    fm_tokens whole = {0}, naive = {0};
    double start = fm_now();
    ok(fm_tokenizer_encode(&whole, t, text, n, NULL));
    assert_true(fm_now() - start < 20);
    /* Naive merging of a piece too long for the stack arrays. */
    whole.n = 0;
    size_t m = 300;
    ok(fm_tokenizer_encode(&whole, t, text, m, NULL));
    uint32_t sym[300];
    for (size_t i = 0; i < m; i++) {
        sym[i] = (uint32_t)t->byte_id[(uint8_t)text[i]];
    }
    for (size_t r = 0; r < t->n_merges;) {
        size_t i = 0;
        while (i + 1 < m && !(sym[i] == t->merges[r].left && sym[i + 1] == t->merges[r].right)) {
            i++;
        }
        if (i + 1 >= m) {
            r++;
            continue;
        }
        sym[i] = t->merges[r].id;
        memmove(sym + i + 1, sym + i + 2, (m - i - 2) * sizeof(*sym));
        m--;
        r = 0;
    }
    assert_int_equal(whole.n, m);
    assert_memory_equal(whole.ids, sym, m * sizeof(*sym));
    memset(text, 'a', n);
    whole.n = 0;
    ok(fm_tokenizer_encode(&whole, t, text, n, NULL));
    char *back;
    size_t n_back;
    ok(fm_tokenizer_decode(&back, &n_back, t, whole.ids, whole.n, NULL));
    assert_int_equal(n_back, n);
    assert_memory_equal(back, text, n);
    fm_string_free(back);
    fm_tokens_free(&whole);
    fm_tokens_free(&naive);
    fm_free(text);
    fm_tokenizer_free(t);
}

static void refuse(const char *json, fm_status want, const char *word) {
    fm_tokenizer *t = NULL;
    fm_status s = fm_tokenizer_parse(&t, json, strlen(json), NULL, 0, "test.json");
    assert_int_equal(s, want);
    assert_null(t);
    if (!strstr(fm_error_get().message, word)) {
        fail_msg("message \"%s\" lacks \"%s\"", fm_error_get().message, word);
    }
}

#define PRE   "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"

static void test_bad_files(void **state) {
    (void)state;
    refuse("{", FM_ERR_FORMAT, "test.json");
    refuse("[]", FM_ERR_FORMAT, "test.json");
    refuse("{}", FM_ERR_FORMAT, "model");
    refuse("{\"model\":{\"type\":\"WordLevel\"}}", FM_ERR_FORMAT, "vocab");
    refuse("{\"model\":{\"type\":\"Other\"}}", FM_ERR_UNSUPPORTED, "Other");
    refuse("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a c\"]}}", FM_ERR_FORMAT, "merges[0]");
    refuse("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a\"]}}", FM_ERR_FORMAT, "merges[0]");
    refuse("{\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", FM_ERR_FORMAT, "\"b\"");
    refuse("{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", FM_ERR_FORMAT, "-1");
    refuse("{\"model\":{\"vocab\":{\"a\":4000000000},\"merges\":[]}}", FM_ERR_FORMAT, "4000000000");
    refuse("{" MODEL ",\"pre_tokenizer\":{\"type\":\"Blanks\"}}", FM_ERR_UNSUPPORTED, "pre_tokenizer \"Blanks\"");
    refuse("{" MODEL "," PRE ",\"normalizer\":{\"type\":\"Upper\"}}", FM_ERR_UNSUPPORTED, "normalizer \"Upper\"");
    refuse("{" MODEL "," PRE ",\"decoder\":{\"type\":\"Base64\"}}", FM_ERR_UNSUPPORTED, "decoder \"Base64\"");
    refuse("{" MODEL "," PRE ",\"post_processor\":{\"type\":\"Glue\"}}", FM_ERR_UNSUPPORTED, "post_processor \"Glue\"");
    refuse("{" MODEL "," PRE ",\"post_processor\":{\"type\":\"BertProcessing\"}}", FM_ERR_FORMAT, "-1");
    refuse("{" MODEL
           ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
           "\"(\"},\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_"
           "regex\":false}]}}",
           FM_ERR_UNSUPPORTED, "pattern \"(\"");
    refuse("{\"model\":{\"type\":\"BPE\",\"dropout\":0.1,\"vocab\":{},\"merges\":[]}}", FM_ERR_UNSUPPORTED, "dropout");
    refuse("{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0],[\"b\"]]}}", FM_ERR_FORMAT, "vocab[1]");
    refuse("{\"model\":{\"type\":\"Unigram\",\"unk_id\":2,\"vocab\":[[\"a\",0],[\"b\",0]]}}", FM_ERR_FORMAT,
           "unk_id 2");
    refuse("{" MODEL ",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"////\"}}", FM_ERR_FORMAT,
           "character map");
    refuse("{" MODEL "," PRE
           ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}],"
           "\"special_tokens\":{\"x\":{\"ids\":[99]}}}}",
           FM_ERR_FORMAT, "99");
    fm_tokenizer *t;
    assert_int_equal(fm_tokenizer_open(&t, "/nonexistent/tokenizer.json"), FM_ERR_NOT_FOUND);
}

/* Each allocation of an open, encode, save in turn fails: an error, no crash, no leak. */
static void test_no_memory(void **state) {
    (void)state;
    static const char json[] =
        "{" MODEL "," PRE
        ",\"normalizer\":{\"type\":\"NFC\"},\"added_tokens\":[{\"id\":3,\"content\":\"<x>\",\"special\":true}]}";
    fm_status s = FM_ERR_NO_MEMORY;
    for (int64_t i = 1; s != FM_OK && i < 2000; i++) {
        fm_tokenizer *t = NULL;
        fm_tokens ids = {0};
        char *text = NULL;
        fm_mem_fail_at(i, false);
        s = fm_tokenizer_parse(&t, json, sizeof(json) - 1, "{\"chat_template\":\"x\"}", 21, "test.json");
        if (s == FM_OK) {
            s = fm_tokenizer_encode(&ids, t, "ab\xCC\x81<x>", 7, NULL);
        }
        if (s == FM_OK) {
            s = fm_tokenizer_decode(&text, NULL, t, ids.ids, ids.n, NULL);
        }
        fm_mem_fail_at(0, false);
        assert_true(s == FM_OK || s == FM_ERR_NO_MEMORY);
        fm_string_free(text);
        fm_tokens_free(&ids);
        fm_tokenizer_free(t);
    }
    assert_int_equal(s, FM_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_splits),     cmocka_unit_test(test_split_bytes), cmocka_unit_test(test_open),
        cmocka_unit_test(test_save),       cmocka_unit_test(test_decode),      cmocka_unit_test(test_batch),
        cmocka_unit_test(test_long_piece), cmocka_unit_test(test_bad_files),   cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, load_golden, free_golden);
}
