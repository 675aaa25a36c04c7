/* Adapters that bring a head: what peft wrote over a language model gives the same scores here
 * (tests/golden/make_adapter_heads.py), merged too; what does not fit is refused by name. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "io/safetensors.h"
#include "model/adapter.h"

#define DATA FM_SOURCE_DIR "/tests/golden/data/"

static char top[200];

static void ok(fm_status s) {
    if (s != FM_OK) {
        fail_msg("%s: %s", fm_status_name(s), fm_error_get().message);
    }
}

static const struct {
    const char *name, *base, *kind;
    int32_t labels;
} cases[] = {{"llama_seq", "llama_gqa", "classification", 3},
             {"llama_tag", "llama_gqa", "tagging", 4},
             {"llama_number", "llama_gqa", "reward", 1},
             {"bert_tag", "heads/bert_mlm", "tagging", 5}};

static const fm_st_tensor *tensor(fm_safetensors *st, const char *name) {
    const fm_st_tensor *t = fm_safetensors_find(st, name);
    assert_non_null(t);
    return t;
}

/* Scores of the golden texts by this model and adapter (or NULL). */
static void compare(const char *golden, const char *model, const char *adapter, const char *kind, int32_t labels) {
    fm_model *m;
    fm_safetensors *st;
    fm_head_info h;
    fm_model_options o = {.size = sizeof o, .dtype = "f32", .threads = 1, .adapter = adapter};
    ok(fm_safetensors_open(&st, golden));
    const fm_st_tensor *ids = tensor(st, "ids"), *offsets = tensor(st, "offsets"), *out = tensor(st, "out");
    ok(fm_model_open(&m, model, &o));
    ok(fm_model_head_info(&h, m, 0));
    assert_string_equal(h.kind, kind);
    assert_int_equal(h.n_outputs, labels);
    int64_t n = out->dims[0] * out->dims[1];
    float *y = malloc((size_t)n * sizeof *y);
    assert_non_null(y);
    fm_texts t = {.size = sizeof t,
                  .n = (int32_t)offsets->dims[0] - 1,
                  .ids = (const int32_t *)ids->data,
                  .offsets = (const int32_t *)offsets->data};
    ok(fm_model_scores(m, 0, &t, y));
    double off = 0, most = 0;
    for (int64_t i = 0; i < n; i++) {
        double want = (double)((const float *)out->data)[i];
        off = fmax(off, fabs(want - (double)y[i]));
        most = fmax(most, fabs(want));
    }
    free(y);
    fm_model_close(m);
    fm_safetensors_close(st);
    if (!(off <= 5e-6 * most)) {
        fail_msg("%s with %s: scores are off by %g of %g", model, adapter ? adapter : "nothing", off, most);
    }
}

static void test_golden(void **state) {
    (void)state;
    for (size_t i = 0; i < FM_ARRAY_LEN(cases); i++) {
        char base[300], adapter[300], golden[400], merged[300];
        snprintf(base, sizeof base, DATA "%s", cases[i].base);
        snprintf(adapter, sizeof adapter, DATA "adapter_heads/%s", cases[i].name);
        snprintf(golden, sizeof golden, "%s/golden.safetensors", adapter);
        compare(golden, base, adapter, cases[i].kind, cases[i].labels);
        snprintf(merged, sizeof merged, "%s/%s", top, cases[i].name);
        fm_merge_report r = {.size = sizeof r};
        ok(fm_model_merge(&r, base, adapter, merged, "f32"));
        assert_true(r.max_logit > 0.1 && r.max_difference <= 1e-5 * r.max_logit);
        compare(golden, merged, NULL, cases[i].kind, cases[i].labels);
    }
}

/* Written again, with config.json beside it, an adapter gives the same; and over another base it is refused. */
static void test_own_form(void **state) {
    (void)state;
    char own[300], path[400];
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .dtype = "f32", .threads = 1, .adapter = DATA "adapter_heads/llama_seq"};
    snprintf(own, sizeof own, "%s/own", top);
    ok(fm_mkdirs(own));
    ok(fm_model_open(&m, DATA "llama_gqa", &o));
    ok(fm_adapter_save(m, own, "llama_gqa"));
    fm_model_close(m);
    snprintf(path, sizeof path, "%s/adapter_config.json", own);
    char *text;
    size_t n;
    ok(fm_file_read(&text, &n, path, 1 << 20));
    assert_non_null(strstr(text, "\"SEQ_CLS\""));
    assert_non_null(strstr(text, "\"score\""));
    fm_free(text);
    compare(DATA "adapter_heads/llama_seq/golden.safetensors", DATA "llama_gqa", own, "classification", 3);
    o.adapter = own;
    assert_int_equal(fm_model_open(&m, DATA "heads/bert_mlm", &o), FM_ERR_CONFIG);
    assert_non_null(strstr(fm_error_get().message, "another base"));
    o.adapter = DATA "adapter_heads/llama_number"; /* without config.json the shapes say it */
    assert_int_equal(fm_model_open(&m, DATA "heads/llama_base", &o), FM_ERR_SHAPE);
    assert_non_null(strstr(fm_error_get().message, "the base model makes it"));
    assert_int_equal(fm_model_open(&m, own, NULL), FM_ERR_ARGUMENT); /* no model by itself */
    assert_non_null(strstr(fm_error_get().message, "adapter"));
}

/* config.json promises a head of which no file has weights. */
static void test_missing_head(void **state) {
    (void)state;
    char own[300], path[400], *text;
    size_t n;
    fm_model *m;
    snprintf(own, sizeof own, "%s/without", top);
    ok(fm_mkdirs(own));
    fm_model_options o = {.size = sizeof o, .dtype = "f32", .threads = 1, .adapter = DATA "adapter_heads/llama_seq"};
    ok(fm_model_open(&m, DATA "llama_gqa", &o));
    ok(fm_adapter_save(m, own, NULL));
    fm_model_close(m);
    snprintf(path, sizeof path, "%s/config.json", own);
    ok(fm_file_read(&text, &n, path, 1 << 20));
    char *at = strstr(text, "ForSequence");
    assert_non_null(at);
    fm_str changed = {0};
    fm_str_append(&changed, text, (size_t)(at - text));
    fm_str_puts(&changed, "ForToken");
    fm_str_puts(&changed, at + strlen("ForSequence"));
    ok(fm_file_write_atomic(path, changed.data, changed.len));
    fm_str_free(&changed);
    fm_free(text);
    o.adapter = own;
    assert_int_equal(fm_model_open(&m, DATA "llama_gqa", &o), FM_ERR_FORMAT);
    assert_non_null(strstr(fm_error_get().message, "score.bias"));
}

static int setup(void **state) {
    (void)state;
    snprintf(top, sizeof top, "/tmp/fm_adapter_heads_%d", (int)getpid());
    return fm_mkdirs(top) == FM_OK ? 0 : -1;
}
static int teardown(void **state) {
    (void)state;
    return fm_remove_tree(top) == FM_OK ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_own_form),
                                       cmocka_unit_test(test_missing_head)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
