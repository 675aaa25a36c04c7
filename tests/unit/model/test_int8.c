/* Folders of int8 matrices: written, opened as they are and as numbers, refused when they are not whole. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "fathom/convert.h"
#include "io/safetensors.h"
#include "model/model.h"

#define GOLDEN FM_SOURCE_DIR "/tests/golden/data/"
#define N_IDS  9

static char dir[] = "/tmp/fm_int8_XXXXXX";

static const char *in_dir(const char *name) {
    static char path[4][256];
    static int at;
    at = (at + 1) % 4;
    snprintf(path[at], sizeof path[0], "%s/%s", dir, name);
    return path[at];
}

static void convert(const char *in, const char *out, const char *dtype) {
    fm_convert_options o = {.size = sizeof o, .dtype = dtype, .threads = 1, .overwrite = true};
    if (fm_convert(NULL, in, out, &o) != FM_OK) {
        fail_msg("%s", fm_error_get().message);
    }
}

static float *logits_of(const char *path, const char *dtype, int64_t *n) {
    static const int32_t ids[N_IDS] = {1, 2, 3, 4, 5, 6, 7, 8, 3};
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .dtype = dtype, .threads = 1};
    if (fm_model_open(&m, path, &o) != FM_OK) {
        fail_msg("%s: %s", path, fm_error_get().message);
    }
    *n = N_IDS * (int64_t)m->cfg.vocab_size;
    float *out = malloc((size_t)*n * sizeof *out);
    assert_non_null(out);
    assert_int_equal(fm_model_logits(m, ids, N_IDS, out), FM_OK);
    fm_model_close(m);
    return out;
}

/* Largest difference over the largest logit. */
static double distance(const char *a, const char *dtype_a, const char *b, const char *dtype_b) {
    int64_t n, n_b;
    float *x = logits_of(a, dtype_a, &n), *y = logits_of(b, dtype_b, &n_b);
    double diff = 0, max = 0;
    assert_int_equal(n, n_b);
    for (int64_t i = 0; i < n; i++) {
        diff = fmax(diff, fabs((double)x[i] - (double)y[i]));
        max = fmax(max, fabs((double)y[i]));
    }
    free(x);
    free(y);
    return diff / max;
}

static void same_file(const char *a, const char *b) {
    char *x, *y;
    size_t n, m;
    assert_int_equal(fm_file_read(&x, &n, a, 1 << 24), FM_OK);
    assert_int_equal(fm_file_read(&y, &m, b, 1 << 24), FM_OK);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    fm_free(x);
    fm_free(y);
}

static void test_convert(void **state) {
    (void)state;
    static const char *const models[] = {"llama_gqa", "qwen2", "qwen3_moe", "deepseek_v2_lite"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        char from[512];
        snprintf(from, sizeof from, "%s%s", GOLDEN, models[i]);
        convert(from, in_dir("int8"), "int8");
        double weights = distance(in_dir("int8"), "f32", from, "f32");
        double all = distance(in_dir("int8"), "auto", in_dir("int8"), "f32");
        assert_true(weights > 0 && weights < 0.05); /* rounding of the weights, and of activations besides */
        bool experts = i >= 2;                      /* rounding may send a token to another one */
        assert_true(all > 0 && all < (experts ? 0.3 : 0.05));
        convert(in_dir("int8"), in_dir("again"), "int8"); /* rows that have factors keep them */
        same_file(in_dir("int8/model.safetensors"), in_dir("again/model.safetensors"));
        same_file(in_dir("int8/config.json"), in_dir("again/config.json"));
        convert(in_dir("int8"), in_dir("plain"), "f32");
        assert_true(distance(in_dir("plain"), "f32", in_dir("int8"), "f32") == 0);
        if (experts) {
            continue; /* mixtures of dense and expert layers have no place in GGUF */
        }
        convert(in_dir("int8"), in_dir("x.gguf"), "f32");
        assert_true(distance(in_dir("x.gguf"), "f32", in_dir("int8"), "f32") < 1e-5);
    }
}

/* An int8 row times its factor is off by at most half a factor. */
static void test_elements(void **state) {
    (void)state;
    fm_safetensors *a, *b;
    const fm_st_tensor *w, *q, *s;
    convert(GOLDEN "qwen2", in_dir("int8"), "int8");
    assert_int_equal(fm_safetensors_open(&a, GOLDEN "qwen2"), FM_OK);
    assert_int_equal(fm_safetensors_open(&b, in_dir("int8")), FM_OK);
    const char *name = "model.layers.0.mlp.down_proj.weight";
    char scale[64];
    snprintf(scale, sizeof scale, "%s_scale", name);
    assert_int_equal(fm_safetensors_get(&w, a, name), FM_OK);
    assert_int_equal(fm_safetensors_get(&q, b, name), FM_OK);
    assert_int_equal(fm_safetensors_get(&s, b, scale), FM_OK);
    assert_int_equal(q->dtype, FM_I8);
    assert_int_equal(s->dtype, FM_F32);
    assert_true(s->n_dims == 2 && s->dims[0] == w->dims[0] && s->dims[1] == 1);
    for (int64_t r = 0; r < w->dims[0]; r++) {
        int top = 0;
        for (int64_t c = 0; c < w->dims[1]; c++) {
            int v = ((const int8_t *)q->data)[r * w->dims[1] + c];
            double f = fm_load_as_f64(FM_F32, s->data, r);
            assert_true(fabs(v * f - fm_load_as_f64(w->dtype, w->data, r * w->dims[1] + c)) <= f * 0.5001);
            top = abs(v) > top ? abs(v) : top;
        }
        assert_int_equal(top, 127);
    }
    fm_safetensors_close(a);
    fm_safetensors_close(b);
}

static void replace_in(const char *path, const char *from, const char *to) {
    char *text;
    size_t n;
    assert_int_equal(fm_file_read(&text, &n, path, 1 << 20), FM_OK);
    char *at = strstr(text, from);
    assert_non_null(at);
    fm_str out = {0};
    fm_str_append(&out, text, (size_t)(at - text));
    fm_str_puts(&out, to);
    fm_str_puts(&out, at + strlen(from));
    assert_int_equal(fm_file_write_atomic(path, out.data, out.len), FM_OK);
    fm_str_free(&out);
    fm_free(text);
}

static void refused(fm_status want, const char *part) {
    fm_model *m;
    fm_model_options o = {.size = sizeof o, .threads = 1};
    assert_int_equal(fm_model_open(&m, in_dir("bad"), &o), want);
    if (!strstr(fm_error_get().message, part)) {
        fail_msg("\"%s\" does not say \"%s\"", fm_error_get().message, part);
    }
}

static void test_refused(void **state) {
    (void)state;
    convert(GOLDEN "qwen2", in_dir("bad"), "int8");
    replace_in(in_dir("bad/config.json"), "int-quantized", "pack-quantized");
    refused(FM_ERR_UNSUPPORTED, "pack-quantized");
    convert(GOLDEN "qwen2", in_dir("bad"), "int8");
    replace_in(in_dir("bad/config.json"), "\"num_bits\": 8", "\"num_bits\": 4");
    refused(FM_ERR_UNSUPPORTED, "int8");
    convert(GOLDEN "qwen2", in_dir("bad"), "int8");
    replace_in(in_dir("bad/config.json"), "quantization_config", "other_config");
    refused(FM_ERR_DTYPE, "without factors");
    fm_convert_options o = {.size = sizeof o, .dtype = "int8", .threads = 1, .overwrite = true};
    assert_int_equal(fm_convert(NULL, GOLDEN "qwen2", in_dir("x.gguf"), &o), FM_ERR_ARGUMENT);
}

static int setup(void **state) {
    (void)state;
    return mkdtemp(dir) ? 0 : 1;
}
static int teardown(void **state) {
    (void)state;
    return fm_remove_tree(dir) == FM_OK ? 0 : 1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convert),
        cmocka_unit_test(test_elements),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
