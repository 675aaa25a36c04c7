/* Tokenizers of every kind against results of Hugging Face tokenizers and SentencePiece (kinds/golden.json); the
 * vocabulary files from before tokenizer.json; long words; cut-off and damaged models. */
#include "text_fixture.h"

#include <stdlib.h>

#include "../../quick.h"
#include "base/error.h"
#include "text/bpe.h"

#define KINDS DATA "kinds/"

static fm_json *golden;

static int load_golden(void **state) {
    (void)state;
    return fm_json_load(&golden, KINDS "golden.json") != FM_OK;
}

static int free_golden(void **state) {
    (void)state;
    fm_json_free(golden);
    return 0;
}

static void open_kind(fm_tokenizer **t, const fm_json *kind) {
    char path[1024];
    (void)snprintf(path, sizeof(path), KINDS "%s", fm_json_str(fm_json_get(kind, "file"), NULL));
    ok(fm_tokenizer_open(t, path));
}

static fm_text text_at(size_t i) {
    fm_text t;
    t.ptr = fm_json_str(fm_json_at(fm_json_get(golden, "texts"), i), &t.len);
    assert_non_null(t.ptr);
    return t;
}

static void same_ids(const fm_tokens *got, const fm_json *want, const char *what, size_t i) {
    bool same = got->n == fm_json_size(want);
    for (size_t k = 0; same && k < got->n; k++) {
        same = got->ids[k] == fm_json_int(fm_json_at(want, k), -1);
    }
    if (!same) {
        fail_msg("%s: text %zu (\"%s\") has other ids", what, i, text_at(i).ptr);
    }
}

static void check_texts(const fm_tokenizer *t, const fm_json *kind, const char *key, const fm_encode_options *opt) {
    const fm_json *all = fm_json_get(kind, key);
    const char *file = fm_json_str(fm_json_get(kind, "file"), NULL);
    fm_tokens ids = {0};
    assert_true(fm_json_size(all) > 0);
    for (size_t i = 0; i < fm_json_size(all); i++) {
        fm_text text = text_at(i);
        ids.n = 0;
        ok(fm_tokenizer_encode(&ids, t, text.ptr, text.len, opt));
        same_ids(&ids, fm_json_at(all, i), file, i);
    }
    fm_tokens_free(&ids);
}

static fm_tokens ids_of(const fm_json *list) {
    fm_tokens ids = {0};
    for (size_t i = 0; i < fm_json_size(list); i++) {
        ok(fm_tokens_push(&ids, (int32_t)fm_json_int(fm_json_at(list, i), -1)));
    }
    return ids;
}

/* Decoding at once gives the library's text; as a stream the same bytes. */
static void check_decoded(const fm_tokenizer *t, const fm_json *kind) {
    const fm_json *all = fm_json_get(kind, "ids"), *want = fm_json_get(kind, "decoded");
    fm_token_decoder *d;
    ok(fm_token_decoder_new(&d, t, NULL));
    for (size_t i = 0; i < fm_json_size(all); i++) {
        fm_tokens ids = ids_of(fm_json_at(all, i));
        char *out;
        size_t n, n_want;
        ok(fm_tokenizer_decode(&out, &n, t, ids.ids, ids.n, NULL));
        const char *text = fm_json_str(fm_json_at(want, i), &n_want);
        if (text && fm_utf8_valid(out, n)) { /* the library replaces what is cut off inside a character */
            assert_int_equal(n, n_want);
            assert_memory_equal(out, text, n);
        }
        fm_str s = {0};
        const char *part;
        size_t len;
        for (size_t k = 0; k < ids.n; k++) {
            ok(fm_token_decoder_push(d, ids.ids[k], &part, &len));
            fm_str_append(&s, part, len);
        }
        fm_token_decoder_flush(d, &part, &len);
        fm_str_append(&s, part, len);
        ok(fm_str_check(&s));
        assert_int_equal(s.len, n);
        assert_memory_equal(s.len ? s.data : "", out, n);
        fm_str_free(&s);
        fm_string_free(out);
        fm_tokens_free(&ids);
    }
    fm_token_decoder_free(d);
}

static void check_pairs(const fm_tokenizer *t, const fm_json *kind) {
    const fm_json *all = fm_json_get(kind, "pairs");
    fm_encode_options opt = {.size = sizeof(opt), .allow_special = true, .add_special = true};
    assert_true(fm_json_size(all) > 0);
    for (size_t i = 0; i < fm_json_size(all); i++) {
        fm_tokens ids = {0}, types = {0};
        ok(fm_tokenizer_encode_pair(&ids, &types, t, text_at(i), text_at(i + 1), &opt));
        same_ids(&ids, fm_json_at(fm_json_at(all, i), 0), "pair", i);
        same_ids(&types, fm_json_at(fm_json_at(all, i), 1), "types of pair", i);
        fm_tokens_free(&ids);
        fm_tokens_free(&types);
    }
}

static void test_kinds(void **state) {
    (void)state;
    const fm_json *kinds = fm_json_get(golden, "kinds");
    const fm_encode_options plain = {.size = sizeof(plain), .allow_special = true};
    const fm_encode_options added = {.size = sizeof(added), .allow_special = true, .add_special = true};
    assert_true(fm_json_size(kinds) >= 9);
    for (size_t i = 0; i < fm_json_size(kinds); i++) {
        fm_tokenizer *t, *again;
        const fm_json *kind = fm_json_at(kinds, i);
        open_kind(&t, kind);
        check_texts(t, kind, "ids", &plain);
        check_texts(t, kind, "special", &added);
        check_pairs(t, kind);
        check_decoded(t, kind);
        /* A saved tokenizer means the same. */
        char dir[] = "/tmp/fm_kinds_XXXXXX";
        assert_non_null(mkdtemp(dir));
        ok(fm_tokenizer_save(t, dir));
        ok(fm_tokenizer_open(&again, dir));
        check_texts(again, kind, "special", &added);
        fm_tokenizer_free(again);
        ok(fm_remove_tree(dir));
        fm_tokenizer_free(t);
    }
}

static void test_sentencepiece(void **state) {
    (void)state;
    const fm_json *models = fm_json_get(golden, "spm");
    const fm_encode_options plain = {.size = sizeof(plain)};
    assert_int_equal(fm_json_size(models), 3);
    for (size_t i = 0; i < fm_json_size(models); i++) {
        fm_tokenizer *t;
        const fm_json *kind = fm_json_at(models, i);
        open_kind(&t, kind);
        check_texts(t, kind, "ids", &plain);
        check_decoded(t, kind);
        assert_int_equal(fm_tokenizer_unk(t), 0);
        assert_int_equal(fm_tokenizer_bos(t), 1);
        assert_int_equal(fm_tokenizer_eos(t), 2);
        assert_true(fm_tokenizer_is_special(t, 1));
        fm_tokenizer_free(t);
    }
}

/* Every beginning of a model, and every byte of its first part changed, ends in an error or a tokenizer. */
static void test_damaged_model(void **state) {
    (void)state;
    char *data;
    size_t n;
    ok(fm_file_read(&data, &n, FM_SOURCE_DIR "/fuzz/corpus/sentencepiece/bpe.model", 0));
    size_t step = test_quick() ? 37 : 1, n_opened = 0;
    for (size_t i = 0; i < 2 * n; i += step) {
        fm_str json = {0}, config = {0};
        fm_spm *spm = NULL;
        char *copy = fm_malloc(n);
        assert_non_null(copy);
        memcpy(copy, data, n);
        if (i >= n) {
            copy[i - n] = (char)(copy[i - n] ^ (1 << (i % 8)));
        }
        fm_status s = fm_spm_read(&json, &config, &spm, copy, i < n ? i : n, "damaged.model");
        if (s != FM_OK) {
            assert_null(spm);
            assert_non_null(strstr(fm_error_get().message, "damaged.model"));
        }
        n_opened += s == FM_OK;
        fm_spm_free(spm);
        fm_str_free(&json);
        fm_str_free(&config);
        fm_free(copy);
    }
    assert_true(n_opened > 0 && n_opened < 2 * n);
    fm_free(data);
}

static void write_file(const char *dir, const char *name, const char *text) {
    char path[4096];
    ok(fm_path_join(path, sizeof(path), dir, name));
    ok(fm_file_write_atomic(path, text, strlen(text)));
}

static void expect(const fm_tokenizer *t, const char *text, const int32_t *want, size_t n) {
    fm_tokens ids = {0};
    fm_encode_options opt = {.size = sizeof(opt), .allow_special = true, .add_special = true};
    ok(fm_tokenizer_encode(&ids, t, text, strlen(text), &opt));
    assert_int_equal(ids.n, n);
    assert_memory_equal(ids.ids, want, n * sizeof(*want));
    fm_tokens_free(&ids);
}

static void test_vocab_txt(void **state) {
    (void)state;
    char dir[] = "/tmp/fm_slow_XXXXXX";
    assert_non_null(mkdtemp(dir));
    write_file(dir, "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##able\nable\n,\ne\r\n");
    fm_tokenizer *t;
    ok(fm_tokenizer_open(&t, dir));
    expect(t, "Unable, \xC3\xA9 x[MASK]", (int32_t[]){2, 5, 6, 8, 9, 1, 4, 3}, 8);
    assert_int_equal(fm_tokenizer_vocab_size(t), 10);
    fm_tokenizer_free(t);
    write_file(dir, "tokenizer_config.json", "{\"do_lower_case\":false,\"tokenizer_class\":\"BertTokenizer\"}");
    ok(fm_tokenizer_open(&t, dir));
    expect(t, "Unable able", (int32_t[]){2, 1, 7, 3}, 4);
    fm_tokenizer_free(t);
    ok(fm_remove_tree(dir));
}

static void test_vocab_json(void **state) {
    (void)state;
    char dir[] = "/tmp/fm_slow_XXXXXX";
    assert_non_null(mkdtemp(dir));
    write_file(dir, "vocab.json",
               "{\"a\":0,\"b\":1,\"ab\":2,\"\xC4\xA0\":3,\"\xC4\xA0"
               "ab\":4,\"<s>\":5,\"</s>\":6,\"<|endoftext|>\":7}");
    write_file(dir, "merges.txt", "#version: 0.2\na b\n\xC4\xA0 ab\n");
    fm_tokenizer *t;
    ok(fm_tokenizer_open(&t, dir));
    expect(t, "ab ab<|endoftext|>", (int32_t[]){2, 4, 7}, 3);
    assert_string_equal(fm_tokenizer_pattern(t), "gpt2");
    fm_tokenizer_free(t);
    write_file(dir, "tokenizer_config.json",
               "{\"tokenizer_class\":\"RobertaTokenizer\",\"add_prefix_space\":true,\"added_tokens_decoder\":{\"9\":{"
               "\"content\":\"<x>\",\"special\":true,\"lstrip\":true}}}");
    write_file(dir, "added_tokens.json", "{\"<y>\":8}");
    ok(fm_tokenizer_open(&t, dir));
    expect(t, "ab  <x><y>", (int32_t[]){5, 4, 9, 8, 6}, 5);
    fm_tokenizer_free(t);
    write_file(dir, "tokenizer_config.json", "{\"tokenizer_class\":\"Qwen2Tokenizer\"}");
    ok(fm_tokenizer_open(&t, dir));
    assert_string_equal(fm_tokenizer_pattern(t), "qwen2");
    fm_tokenizer_free(t);
    write_file(dir, "tokenizer_config.json", "{\"tokenizer_class\":\"OddTokenizer\"}");
    assert_int_equal(fm_tokenizer_open(&t, dir), FM_ERR_UNSUPPORTED);
    assert_non_null(strstr(fm_error_get().message, "OddTokenizer"));
    write_file(dir, "tokenizer_config.json", "{}");
    write_file(dir, "merges.txt", "a b\nab\n");
    assert_int_equal(fm_tokenizer_open(&t, dir), FM_ERR_FORMAT);
    assert_non_null(strstr(fm_error_get().message, "line 2"));
    ok(fm_remove_tree(dir));
    assert_int_equal(fm_tokenizer_open(&t, "/tmp"), FM_ERR_NOT_FOUND);
}

/* One word of a megabyte: no kind takes quadratic time. */
static void test_long_word(void **state) {
    (void)state;
    const fm_json *kinds = fm_json_get(golden, "kinds"), *models = fm_json_get(golden, "spm");
    size_t n = test_quick() ? 1u << 17 : 1u << 20, n_kinds = fm_json_size(kinds);
    char *text = fm_malloc(n);
    assert_non_null(text);
    for (size_t i = 0; i < n_kinds + fm_json_size(models); i++) {
        fm_tokenizer *t;
        open_kind(&t, i < n_kinds ? fm_json_at(kinds, i) : fm_json_at(models, i - n_kinds));
        for (int k = 0; k < 3; k++) {
            for (size_t j = 0; j < n; j++) {
                text[j] = k == 0 ? 'a' : k == 1 ? "thestandofing"[(j * j / 7) % 13] : "\xCC\x81"[j % 2];
            }
            fm_tokens ids = {0};
            double start = fm_now();
            ok(fm_tokenizer_encode(&ids, t, text, n, NULL));
            assert_true(fm_now() - start < 20);
            fm_tokens_free(&ids);
        }
        fm_tokenizer_free(t);
    }
    fm_free(text);
}

#define UNK "\"unk_token\":\"[U]\""
static const char *const tiny[] = {
    "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"BertNormalizer\"},{\"type\":\"Replace\","
    "\"pattern\":{"
    "\"Regex\":\" +\"},\"content\":\" "
    "\"},{\"type\":\"NFKC\"},{\"type\":\"Prepend\",\"prepend\":\"a\"}]},\"pre_tokenizer\":{"
    "\"type\":\"BertPreTokenizer\"},\"decoder\":{\"type\":\"WordPiece\"},\"added_tokens\":[{\"id\":0,\"content\":\"[U]"
    "\","
    "\"special\":true},{\"id\":1,\"content\":\"A\",\"normalized\":true}],\"model\":{\"type\":\"WordPiece\"," UNK
    ",\"vocab\":{\"[U]\":0,\"a\":1,\"##b\":2,\"c\":3}},\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"c\","
    "3],"
    "\"cls\":[\"[U]\",0]}}",
    "{\"pre_tokenizer\":{\"type\":\"Metaspace\"},\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":"
    "\"ByteFallback\"},"
    "{\"type\":\"Metaspace\"}]},\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"[U]\",0],[\"a\",-1],[\"ab\","
    "-1.5],["
    "\"\xE2\x96\x81\",-2]]}}",
    "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\w+\"},\"behavior\":\"MergedWithNext\"},"
    "\"decoder\":{"
    "\"type\":\"BPEDecoder\"},\"model\":{\"type\":\"BPE\"," UNK
    ",\"end_of_word_suffix\":\"</w>\",\"vocab\":{\"[U]\":0,\"a\":1,"
    "\"b</w>\":2,\"ab</w>\":3},\"merges\":[\"a b</w>\"]}}",
};

static void test_no_memory(void **state) {
    (void)state;
    static const char text[] = "ab c \xC3\xA9 ab";
    for (size_t k = 0; k < FM_ARRAY_LEN(tiny); k++) {
        fm_status s = FM_ERR_NO_MEMORY;
        for (int64_t i = 1; s != FM_OK && i < 3000; i++) {
            fm_tokenizer *t = NULL;
            fm_tokens ids = {0};
            char *out = NULL;
            fm_mem_fail_at(i, false);
            s = fm_tokenizer_parse(&t, tiny[k], strlen(tiny[k]), NULL, 0, "tiny.json");
            if (s == FM_OK) {
                s = fm_tokenizer_encode(&ids, t, text, sizeof(text) - 1, NULL);
            }
            if (s == FM_OK) {
                s = fm_tokenizer_decode(&out, NULL, t, ids.ids, ids.n, NULL);
            }
            fm_mem_fail_at(0, false);
            assert_true(s == FM_OK || s == FM_ERR_NO_MEMORY);
            fm_string_free(out);
            fm_tokens_free(&ids);
            fm_tokenizer_free(t);
        }
        assert_int_equal(s, FM_OK);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),     cmocka_unit_test(test_sentencepiece), cmocka_unit_test(test_damaged_model),
        cmocka_unit_test(test_vocab_txt), cmocka_unit_test(test_vocab_json),    cmocka_unit_test(test_long_word),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, load_golden, free_golden);
}
