/* Tensors of weight files: transposed and strided views, casts, block scales, finiteness. */
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

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/pool.h"
#include "model/model.h"
#include "model/weights.h"

static fm_weight view(fm_dtype d, const void *data, int n_dims, const int64_t *dims) {
    fm_weight w = {.name = "t", .dtype = d, .dtype_name = "?", .n_dims = n_dims, .dense = true, .data = data};
    int64_t n = 1;
    for (int i = n_dims - 1; i >= 0; i--) {
        w.dims[i] = dims[i];
        w.stride[i] = n;
        n *= dims[i];
    }
    w.bytes = fm_dtype_bytes(d, n);
    return w;
}

/* Every type to every type, aligned and not, as it lies and transposed, against single conversions. */
static void test_read(void **state) {
    (void)state;
    static const fm_dtype types[] = {FM_F64, FM_F32, FM_BF16, FM_F16};
    static const int64_t shapes[][2] = {{1, 1}, {3, 1}, {1, 5}, {33, 70}, {70, 1031}, {600, 700}};
    fm_pool *pool;
    assert_int_equal(fm_pool_new(&pool, 2), FM_OK);
    for (size_t k = 0; k < FM_ARRAY_LEN(shapes); k++) {
        int64_t rows = shapes[k][0], cols = shapes[k][1], n = rows * cols;
        for (size_t a = 0; a < 4; a++) {
            for (size_t b = 0; b < 4; b++) {
                size_t off = (a + b + k) % 2; /* bytes from alignment */
                uint8_t *src = fm_malloc((size_t)n * 8 + 8), *plain = fm_malloc((size_t)n * 8);
                uint8_t *dst = fm_malloc((size_t)n * 8);
                for (int64_t i = 0; i < n; i++) {
                    fm_store_from_f64(types[a], plain, i, (double)(i % 1000) / 7 - 50);
                }
                memcpy(src + off, plain, (size_t)fm_dtype_bytes(types[a], n));
                fm_weight w = view(types[a], src + off, 2, shapes[k]);
                for (int turn = 0; turn < 2; turn++) {
                    assert_int_equal(fm_weight_read(dst, types[b], &w, NULL, pool), FM_OK);
                    for (int64_t i = 0; i < n; i++) {
                        int64_t at = turn ? i % rows * cols + i / rows : i;
                        double want = fm_round_to(types[b], fm_load_as_f64(types[a], plain, at));
                        assert_true(want == fm_load_as_f64(types[b], dst, i));
                    }
                    fm_weight_transpose(&w);
                }
                fm_free(src);
                fm_free(plain);
                fm_free(dst);
            }
        }
    }
    fm_pool_free(pool);
}

/* Views with any strides, as state dicts may hold them: three dims, an expanded one, a scalar. */
static void test_strides(void **state) {
    (void)state;
    float src[4 * 5 * 6], dst[4 * 5 * 6];
    for (int i = 0; i < 120; i++) {
        src[i] = (float)i;
    }
    fm_weight w = {.name = "v",
                   .dtype = FM_F32,
                   .n_dims = 3,
                   .dims = {6, 4, 5},
                   .stride = {1, 30, 6},
                   .data = (const uint8_t *)src,
                   .bytes = sizeof src};
    assert_int_equal(fm_weight_read(dst, FM_F32, &w, NULL, NULL), FM_OK);
    for (int i = 0; i < 120; i++) {
        assert_true(dst[i] == src[i / 20 + i / 5 % 4 * 30 + i % 5 * 6]);
    }
    fm_weight e = {.name = "e",
                   .dtype = FM_F32,
                   .n_dims = 2,
                   .dims = {7, 3},
                   .stride = {0, 2},
                   .data = (const uint8_t *)src,
                   .bytes = 84};
    assert_int_equal(fm_weight_read(dst, FM_F32, &e, NULL, NULL), FM_OK);
    for (int i = 0; i < 21; i++) {
        assert_true(dst[i] == (float)(i % 3 * 2));
    }
    fm_weight scalar = view(FM_F32, src + 9, 0, NULL);
    assert_int_equal(fm_weight_read(dst, FM_F32, &scalar, NULL, NULL), FM_OK);
    assert_true(dst[0] == 9);
    fm_weight empty = view(FM_F32, src, 2, (int64_t[]){0, 3});
    assert_int_equal(fm_weight_read(dst, FM_F32, &empty, NULL, NULL), FM_OK);
}

static void test_finite(void **state) {
    (void)state;
    static const fm_dtype types[] = {FM_F64, FM_F32, FM_BF16, FM_F16};
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    enum { N = 7 * 101 };
    uint64_t src[N], dst[N];
    for (size_t d = 0; d < 4; d++) {
        fm_weight w = view(types[d], src, 2, (int64_t[]){7, 101});
        for (int at = 0; at < N; at += 59) {
            for (int i = 0; i < N; i++) {
                fm_store_from_f64(types[d], src, i, i % 2 ? -0.0 : (types[d] == FM_F16 ? 65504 : 3e38));
            }
            assert_int_equal(fm_weight_check_finite(&w, NULL), FM_OK);
            fm_store_from_f64(types[d], src, at, bad[at % 3]);
            char where[64];
            snprintf(where, sizeof where, "[%d,%d]", at / 101, at % 101);
            assert_int_equal(fm_weight_check_finite(&w, NULL), FM_ERR_NUMERIC);
            assert_non_null(strstr(fm_error_get().message, where));
            assert_int_equal(fm_weight_read(dst, FM_F32, &w, NULL, NULL), FM_ERR_NUMERIC);
            assert_non_null(strstr(fm_error_get().message, where));
        }
    }
    double huge = 1e300; /* fits the file's type, not the wanted one */
    fm_weight w = view(FM_F64, &huge, 1, (int64_t[]){1});
    assert_int_equal(fm_weight_check_finite(&w, NULL), FM_OK);
    assert_int_equal(fm_weight_read(dst, FM_F32, &w, NULL, NULL), FM_ERR_NUMERIC);
}

/* A parameter that files hold transposed: the file has [in,out]; reading it turned gives the parameter. */
static void test_transposed_files(void **state) {
    (void)state;
    char dir[] = "/tmp/fathom_weights_XXXXXX";
    assert_non_null(mkdtemp(dir));
    static const fm_dtype types[] = {FM_F32, FM_BF16, FM_F16};
    fm_model_config cfg;
    assert_int_equal(fm_model_config_from_preset(&cfg, fm_preset_at(0)->name, 300), FM_OK);
    cfg.n_layers = 1;
    fm_model *m;
    assert_int_equal(fm_model_build(&m, &cfg), FM_OK);
    assert_int_equal(fm_params_alloc(m->params, FM_F32), FM_OK);
    assert_int_equal(fm_params_init(m->params, 5, NULL), FM_OK);
    fm_param *p = fm_params_find(m->params, "model.layers.0.mlp.gate_proj.weight");
    assert_non_null(p);
    p->file_transposed = true;
    for (size_t k = 0; k < 3; k++) {
        assert_int_equal(fm_model_save(m, dir, types[k], 0), FM_OK);
        fm_weights *ws;
        fm_weight w;
        assert_int_equal(fm_weights_open(&ws, dir), FM_OK);
        assert_true(fm_weights_find(&w, ws, p->name));
        assert_int_equal(w.dims[0], p->dim[1]);
        assert_int_equal(w.dims[1], p->dim[0]);
        fm_weight_transpose(&w);
        assert_int_equal(w.dims[0], p->dim[0]);
        float *back = fm_malloc((size_t)p->numel * sizeof *back);
        assert_int_equal(fm_weight_read(back, FM_F32, &w, NULL, NULL), FM_OK);
        for (int64_t i = 0; i < p->numel; i++) {
            assert_true(fm_round_to(types[k], fm_load_as_f64(FM_F32, p->data, i)) == back[i]);
        }
        fm_free(back);
        fm_weights_close(ws);
    }
    fm_model_close(m);
    assert_int_equal(fm_remove_tree(dir), FM_OK);
}

/* Loads a folder of tests/golden/data/files and compares every parameter with a safetensors file, bit for bit. */
static void expect_folder(const char *folder, bool map, fm_dtype master, const char *expected) {
    char path[512];
    fm_model *m;
    fm_safetensors *st;
    snprintf(path, sizeof path, FM_SOURCE_DIR "/tests/golden/data/files/%s", folder);
    fm_status s = fm_model_load(&m, path, map, master);
    if (s != FM_OK) {
        print_error("%s: %s\n", folder, fm_error_get().message);
    }
    assert_int_equal(s, FM_OK);
    snprintf(path, sizeof path, FM_SOURCE_DIR "/tests/golden/data/files/%s", expected);
    assert_int_equal(fm_safetensors_open(&st, path), FM_OK);
    for (int i = 0; i < fm_params_count(m->params); i++) {
        const fm_param *p = fm_params_at(m->params, i);
        const fm_st_tensor *t;
        assert_int_equal(fm_safetensors_get(&t, st, p->name), FM_OK);
        assert_int_equal(p->dtype, t->dtype);
        assert_int_equal(fm_dtype_bytes(p->dtype, p->numel), t->bytes);
        assert_memory_equal(p->data, t->data, (size_t)t->bytes);
    }
    fm_safetensors_close(st);
    fm_model_close(m);
}

/* Against torch: all finite codes of e4m3, blocks cut by the edges, factors of any value and powers of two. */
static void test_fp8(void **state) {
    (void)state;
    expect_folder("fp8", false, FM_F32, "fp8_f32.safetensors");
    expect_folder("fp8", true, FM_F32, "fp8_bf16.safetensors");
    expect_folder("fp8_ue8m0", false, FM_F32, "fp8_ue8m0_f32.safetensors");
    expect_folder("fp8_ue8m0", true, FM_F32, "fp8_ue8m0_bf16.safetensors");
}

/* State dicts: zip, the stream before 1.6, shards; types, views and shared storages as PyTorch reads them. */
static void test_torch(void **state) {
    (void)state;
    expect_folder("torch_zip", false, FM_F32, "torch_f32.safetensors");
    expect_folder("torch_old", false, FM_F32, "torch_f32.safetensors");
    expect_folder("torch_shards", false, FM_F32, "torch_f32.safetensors");
    fm_model *m;
    assert_int_equal(fm_model_load(&m, FM_SOURCE_DIR "/tests/golden/data/files/torch_zip", true, FM_F32), FM_OK);
    const fm_param *e = fm_params_find(m->params, "model.embed_tokens.weight"), *h = m->head;
    assert_ptr_equal(e->data, h->data); /* one storage */
    assert_int_equal(e->storage, FM_STORAGE_MAP);
    fm_model_close(m);
}

/* Factors stored as exponents, and a code or a factor that is no number. */
static void test_fp8_exponents(void **state) {
    (void)state;
    uint8_t codes[6 * 5], scale[3 * 2] = {127, 130, 100, 0, 254, 126};
    float out[30];
    for (int i = 0; i < 30; i++) {
        codes[i] = (uint8_t)(i * 8 % 126);
    }
    fm_weight w = view(FM_E4M3, codes, 2, (int64_t[]){6, 5});
    fm_weight_scale q = {.t = {.name = "s",
                               .dtype = FM_DTYPE_COUNT,
                               .dtype_name = "F8_E8M0",
                               .n_dims = 2,
                               .dims = {3, 2},
                               .stride = {2, 1},
                               .dense = true,
                               .data = scale,
                               .bytes = 6},
                         .block_rows = 2,
                         .block_cols = 3};
    codes[2 * 5 * 2] = 0; /* 2^127 times a code must not overflow here */
    memset(codes + 20, 1, 10);
    assert_int_equal(fm_weight_read(out, FM_F32, &w, &q, NULL), FM_OK);
    for (int i = 0; i < 30; i++) {
        double want = ldexp(fm_load_as_f64(FM_E4M3, codes, i), scale[i / 10 * 2 + i % 5 / 3] - 127);
        assert_true(out[i] == fm_round_to(FM_F32, want));
    }
    codes[17] = 0x7f;
    assert_int_equal(fm_weight_read(out, FM_F32, &w, &q, NULL), FM_ERR_NUMERIC);
    assert_non_null(strstr(fm_error_get().message, "[3,2]"));
    codes[17] = 3;
    scale[1] = 255;
    assert_int_equal(fm_weight_read(out, FM_F32, &w, &q, NULL), FM_ERR_NUMERIC);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),          cmocka_unit_test(test_strides),
        cmocka_unit_test(test_finite),        cmocka_unit_test(test_transposed_files),
        cmocka_unit_test(test_fp8),           cmocka_unit_test(test_torch),
        cmocka_unit_test(test_fp8_exponents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
