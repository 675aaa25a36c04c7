#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "tmpdir.h"

#include "backend/quant.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/gguf.h"

/* Made by ggml and the gguf package for Python: tests/golden/make_quant.py. */
#define FIXTURE FM_SOURCE_DIR "/tests/golden/data/quant.gguf"

static int64_t numel(const fm_gguf_weight *w) {
    return w->dim[0] * w->dim[1] * w->dim[2] * w->dim[3];
}

/* What ggml makes of the same numbers, byte for byte. */
static void test_quantise(void **state) {
    FM_UNUSED(state);
    fm_gguf_set *s;
    const fm_gguf_weight *x;
    assert_int_equal(fm_gguf_set_open(&s, FIXTURE), FM_OK);
    assert_int_equal(fm_gguf_set_get(&x, s, "x"), FM_OK);
    assert_int_equal(x->dtype, FM_F32);
    int64_t n = numel(x);
    int n_types = 0;
    for (size_t i = 0; i < fm_gguf_set_count(s); i++) {
        const fm_gguf_weight *w = fm_gguf_set_at(s, i);
        if (strncmp(w->name, "q.", 2) != 0) {
            continue;
        }
        const fm_quant_type *q = fm_quant_find(w->dtype);
        assert_non_null(q);
        assert_non_null(q->quantise);
        assert_int_equal(numel(w), n);
        uint8_t *out = fm_malloc((size_t)w->bytes);
        float *in = fm_malloc((size_t)n * sizeof *in);
        assert_true(out && in);
        memcpy(in, x->data, (size_t)n * sizeof *in);
        memset(out, 0xaa, (size_t)w->bytes);
        q->quantise(in, out, n / fm_dtype_get(w->dtype)->block);
        for (int64_t b = 0; b < w->bytes; b++) {
            if (out[b] != w->data[b]) {
                int64_t size = fm_dtype_get(w->dtype)->block_bytes;
                fail_msg("%s: block %lld, byte %lld: expected %02x, found %02x", w->name, (long long)(b / size),
                         (long long)(b % size), w->data[b], out[b]);
            }
        }
        fm_free(out);
        fm_free(in);
        n_types++;
    }
    assert_int_equal(n_types, 8);
    fm_gguf_set_close(s);
}

static void test_dequantise(void **state) {
    FM_UNUSED(state);
    fm_gguf_set *s;
    assert_int_equal(fm_gguf_set_open(&s, FIXTURE), FM_OK);
    int n_types = 0;
    for (size_t i = 0; i < fm_gguf_set_count(s); i++) {
        const fm_gguf_weight *w = fm_gguf_set_at(s, i), *y;
        char name[64];
        if (strncmp(w->name, "r.", 2) != 0) {
            continue;
        }
        snprintf(name, sizeof name, "y%s", w->name + 1);
        assert_int_equal(fm_gguf_set_get(&y, s, name), FM_OK);
        int64_t n = numel(w), block = fm_dtype_get(w->dtype)->block;
        float *out = fm_malloc((size_t)n * sizeof *out);
        assert_non_null(out);
        fm_gguf_read_f32(out, w, 0, block); /* in two parts */
        fm_gguf_read_f32(out + block, w, block, n - block);
        for (int64_t k = 0; k < n; k++) {
            float want;
            memcpy(&want, y->data + 4 * k, sizeof want);
            if (memcmp(&want, &out[k], sizeof want) != 0 && !(want == 0 && out[k] == 0)) {
                fail_msg("%s: element %lld: expected %.9g, found %.9g", w->name, (long long)k, (double)want,
                         (double)out[k]);
            }
        }
        fm_free(out);
        n_types++;
    }
    assert_int_equal(n_types, 11);
    fm_gguf_set_close(s);
}

/* ---- writing and reading back ----------------------------------------------------------------- */

static void write_sample(const char *path, int64_t part, int64_t n_parts) {
    fm_gguf_writer *w;
    float x[64];
    for (int i = 0; i < 64; i++) {
        x[i] = (float)i;
    }
    assert_int_equal(fm_gguf_writer_new(&w, path), FM_OK);
    fm_gguf_put_text(w, "general.architecture", "llama", 5);
    if (n_parts > 1) {
        fm_gguf_put_int(w, "split.no", FM_GGUF_U16, part);
        fm_gguf_put_int(w, "split.count", FM_GGUF_U16, n_parts);
    }
    fm_gguf_put_f32(w, "a.f", 0.1);
    fm_gguf_put_bool(w, "a.b", true);
    fm_gguf_put_array(w, "a.t", FM_GGUF_STRING, 2);
    fm_gguf_item_text(w, "x", 1);
    fm_gguf_item_text(w, "", 0);
    fm_gguf_put_array(w, "a.i", FM_GGUF_I32, 1);
    fm_gguf_item_i32(w, -5);
    char name[2][16];
    snprintf(name[0], 16, "odd.%d", (int)part);
    snprintf(name[1], 16, "even.%d", (int)part);
    assert_int_equal(fm_gguf_writer_declare(w, name[0], FM_F32, 1, (int64_t[]){3}), FM_OK);
    assert_int_equal(fm_gguf_writer_declare(w, name[1], FM_Q8_0, 2, (int64_t[]){2, 32}), FM_OK);
    assert_int_equal(fm_gguf_writer_finish(w), FM_ERR_STATE);
    assert_int_equal(fm_gguf_writer_begin(w), FM_OK);
    assert_int_equal(fm_gguf_writer_put(w, x, 8), FM_OK);
    assert_int_equal(fm_gguf_writer_put(w, x + 2, 4), FM_OK);
    uint8_t blocks[68];
    fm_quant_find(FM_Q8_0)->quantise(x, blocks, 2);
    assert_int_equal(fm_gguf_writer_put(w, blocks, 68), FM_OK);
    assert_int_equal(fm_gguf_writer_finish(w), FM_OK);
    fm_gguf_writer_free(w);
}

static void check_sample(const fm_gguf_set *s, int part) {
    const fm_gguf_weight *w;
    char name[16];
    snprintf(name, 16, "odd.%d", part);
    assert_int_equal(fm_gguf_set_get(&w, s, name), FM_OK);
    assert_int_equal(w->n_dims, 1);
    assert_int_equal(w->bytes, 12);
    float f[64];
    fm_gguf_read_f32(f, w, 1, 2);
    assert_true(f[0] == 1 && f[1] == 2);
    snprintf(name, 16, "even.%d", part);
    assert_int_equal(fm_gguf_set_get(&w, s, name), FM_OK);
    assert_true(w->dim[0] == 2 && w->dim[1] == 32);
    fm_gguf_read_f32(f, w, 0, 64);
    for (int i = 0; i < 64; i++) {
        assert_true(f[i] > (float)i - 0.3F && f[i] < (float)i + 0.3F);
    }
}

static void test_write(void **state) {
    FM_UNUSED(state);
    char path[256], temp[300];
    snprintf(path, sizeof path, "%s/w.gguf", tmp_dir);
    snprintf(temp, sizeof temp, "%s.tmp", path);
    write_sample(path, 0, 1);
    assert_false(fm_path_exists(temp));
    assert_true(fm_gguf_is_file(path));
    assert_false(fm_gguf_is_file(tmp_dir));
    fm_gguf_set *s;
    assert_int_equal(fm_gguf_set_open(&s, path), FM_OK);
    check_sample(s, 0);
    const fm_gguf *g = fm_gguf_set_meta(s);
    double d;
    assert_int_equal(fm_gguf_get_num(&d, g, "a.f", 0), FM_OK);
    assert_true((float)d == 0.1F);
    const fm_gguf_weight *w;
    assert_int_equal(fm_gguf_set_get(&w, s, "none"), FM_ERR_NOT_FOUND);
    /* The metadata copied into a file of its own. */
    char copy[256];
    snprintf(copy, sizeof copy, "%s/copy.gguf", tmp_dir);
    fm_gguf_writer *out;
    assert_int_equal(fm_gguf_writer_new(&out, copy), FM_OK);
    for (size_t i = 0; i < fm_gguf_kv_count(g); i++) {
        fm_gguf_put_copy(out, fm_gguf_kv_at(g, i));
    }
    assert_int_equal(fm_gguf_writer_begin(out), FM_OK);
    assert_int_equal(fm_gguf_writer_finish(out), FM_OK);
    fm_gguf_writer_free(out);
    fm_gguf *g2;
    assert_int_equal(fm_gguf_open(&g2, copy), FM_OK);
    const fm_gguf_kv *a = fm_gguf_find(g, "a.i"), *b = fm_gguf_find(g2, "a.i");
    size_t na, nb;
    const uint8_t *da = fm_gguf_data(g, &na), *db = fm_gguf_data(g2, &nb);
    size_t kv_bytes = (size_t)(a->value - da) + 4;
    assert_int_equal(kv_bytes, (size_t)(b->value - db) + 4);
    assert_memory_equal(da + 24, db + 24, kv_bytes - 24);
    fm_gguf_close(g2);
    fm_gguf_set_close(s);
    /* Given up: nothing stays. */
    snprintf(path, sizeof path, "%s/gone.gguf", tmp_dir);
    assert_int_equal(fm_gguf_writer_new(&out, path), FM_OK);
    assert_int_equal(fm_gguf_writer_declare(out, "t", FM_F32, 1, (int64_t[]){4}), FM_OK);
    assert_int_equal(fm_gguf_writer_begin(out), FM_OK);
    fm_gguf_writer_free(out);
    snprintf(temp, sizeof temp, "%s.tmp", path);
    assert_false(fm_path_exists(path) || fm_path_exists(temp));
}

static void test_split(void **state) {
    FM_UNUSED(state);
    char path[2][256];
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/s-0000%d-of-00002.gguf", tmp_dir, i + 1);
        write_sample(path[i], i, 2);
    }
    fm_gguf_set *s;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fm_gguf_set_open(&s, path[i]), FM_OK);
        assert_int_equal(fm_gguf_set_n_files(s), 2);
        check_sample(s, 0);
        check_sample(s, 1);
        fm_gguf_set_close(s);
    }
    write_sample(path[1], 0, 2); /* says it is part 0, and has tensors of the other part */
    assert_int_equal(fm_gguf_set_open(&s, path[0]), FM_ERR_FORMAT);
    assert_non_null(strstr(fm_error_get().message, "split.no 0"));
    (void)remove(path[1]);
    assert_int_not_equal(fm_gguf_set_open(&s, path[0]), FM_OK);
    char other[256];
    snprintf(other, sizeof other, "%s/renamed.gguf", tmp_dir);
    assert_int_equal(rename(path[0], other), 0);
    assert_int_equal(fm_gguf_set_open(&s, other), FM_ERR_FORMAT);
    assert_non_null(strstr(fm_error_get().message, "x-00001-of-00002.gguf"));
}

/* A tensor of the fixture changed in place: the 8 bytes of field `at` before its offset. */
static void spoil(const char *name, int32_t type, int64_t offset, int64_t dim, const char *part) {
    char *file;
    size_t n;
    assert_int_equal(fm_file_read(&file, &n, FIXTURE, 0), FM_OK);
    char *at = NULL;
    uint64_t len = strlen(name);
    for (size_t i = 0; i + 8 + len < n && !at; i++) {
        bool here = memcmp(file + i, &len, 8) == 0 && memcmp(file + i + 8, name, len) == 0;
        at = here ? file + i + 8 + len : NULL;
    }
    assert_non_null(at);
    if (dim > 0) {
        memcpy(at + 4, &dim, 8);
    }
    if (type >= 0) {
        memcpy(at + 12, &type, 4);
    }
    if (offset >= 0) {
        memcpy(at + 16, &offset, 8);
    }
    fm_gguf_set *s;
    const fm_gguf_weight *w;
    fm_status st = fm_gguf_set_parse(&s, file, n, "spoiled");
    if (st == FM_OK) {
        st = fm_gguf_set_get(&w, s, name);
    }
    assert_int_not_equal(st, FM_OK);
    if (!strstr(fm_error_get().message, part)) {
        fail_msg("\"%s\" does not say \"%s\"", fm_error_get().message, part);
    }
    fm_gguf_set_close(s);
    fm_free(file);
}

static void test_hostile(void **state) {
    FM_UNUSED(state);
    spoil("y.Q8_0", -1, 0, -1, "before the end of tensor"); /* overlaps x */
    spoil("r.Q8_0", -1, -1, 500, "tensor r.Q8_0: expected rows of a multiple of 32 elements (Q8_0), found 500");
    spoil("x", -1, -1, (int64_t)1 << 40, "tensor x: cut off");
    spoil("y.Q8_0", 19, -1, -1, "tensor y.Q8_0: element type 19 (IQ1_S) is not supported");
    spoil("y.Q8_0", 4711, -1, -1, "element type 4711 (?)");
}

static void test_no_memory(void **state) {
    FM_UNUSED(state);
    for (int64_t i = 1;; i++) {
        fm_gguf_set *s;
        fm_mem_fail_at(i, false);
        fm_status st = fm_gguf_set_open(&s, FIXTURE);
        fm_mem_fail_at(0, false);
        fm_gguf_set_close(s);
        if (st == FM_OK) {
            assert_true(i > 8);
            break;
        }
        assert_int_equal(st, FM_ERR_NO_MEMORY);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantise), cmocka_unit_test(test_dequantise), cmocka_unit_test(test_write),
        cmocka_unit_test(test_split),    cmocka_unit_test(test_hostile),    cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
