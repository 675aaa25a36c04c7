#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tmpdir.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/npy.h"
#include "io/safetensors.h"

#define REFERENCE FM_SOURCE_DIR "/tests/unit/io/data/reference.safetensors"

/* A file made by the reference implementation (safetensors 0.8.0 for Python). */
static void test_reference(void **state) {
    FM_UNUSED(state);
    fm_safetensors *s;
    assert_int_equal(fm_safetensors_open(&s, REFERENCE), FM_OK);
    assert_int_equal(fm_safetensors_count(s), 6);
    static const char *const names[] = {"a.scalar", "b.weight", "c.bytes", "d.empty", "e.half", "f.u32"};
    for (size_t i = 0; i < 6; i++) {
        assert_string_equal(fm_safetensors_at(s, i)->name, names[i]);
    }
    const fm_st_tensor *t;
    assert_int_equal(fm_safetensors_get(&t, s, "b.weight"), FM_OK);
    assert_int_equal(t->dtype, FM_F32);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->dims[0], 2);
    assert_int_equal(t->dims[1], 3);
    assert_int_equal(t->bytes, 24);
    assert_true(fm_st_aligned(t));
    float f[6];
    memcpy(f, t->data, sizeof f);
    for (int i = 0; i < 6; i++) {
        assert_true(f[i] == (float)i - 1.5f);
    }
    assert_int_equal(fm_safetensors_get(&t, s, "a.scalar"), FM_OK);
    assert_int_equal(t->n_dims, 0);
    assert_int_equal(t->data[0], 7);
    assert_int_equal(fm_safetensors_get(&t, s, "d.empty"), FM_OK);
    assert_int_equal(t->bytes, 0);
    assert_int_equal(fm_safetensors_get(&t, s, "f.u32"), FM_ERR_DTYPE);
    assert_non_null(strstr(fm_error_get().message, "U32"));
    assert_int_equal(fm_safetensors_get(&t, s, "g"), FM_ERR_NOT_FOUND);
    assert_string_equal(fm_safetensors_metadata(s, "note"), "by the reference writer");
    assert_null(fm_safetensors_metadata(s, "none"));
    fm_st_release_pages(fm_safetensors_find(s, "b.weight"));
    fm_safetensors_close(s);
}

static const char *with_header(const char *header, size_t n_data) {
    char file[4096];
    size_t n = strlen(header);
    memset(file, 0, sizeof file);
    for (size_t i = 0; i < 8; i++) {
        file[i] = (char)((uint64_t)n >> (8 * i));
    }
    memcpy(file + 8, header, n);
    return tmp_write("bad.safetensors", file, 8 + n + n_data);
}

static void test_damaged(void **state) {
    FM_UNUSED(state);
    static const struct {
        const char *header;
        size_t n_data;
        fm_status status;
    } rows[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, FM_OK},
        {"{}", 0, FM_OK},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, FM_ERR_CORRUPT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9, FM_ERR_CORRUPT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, FM_ERR_CORRUPT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, FM_ERR_CORRUPT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.5],\"data_offsets\":[0,8]}}", 8, FM_ERR_CORRUPT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4294967296],\"data_offsets\":[0,8]}}", 8,
         FM_ERR_CORRUPT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]}}", 4, FM_ERR_CORRUPT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, FM_ERR_CORRUPT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,9]}}", 8, FM_ERR_CORRUPT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, FM_ERR_CORRUPT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,99999999999999999999]}}", 8, FM_ERR_CORRUPT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],"
         "\"data_offsets\":[4,12]}}",
         12, FM_ERR_CORRUPT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],"
         "\"data_offsets\":[8,12]}}",
         12, FM_ERR_CORRUPT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, FM_ERR_UNSUPPORTED},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, FM_ERR_CORRUPT},
        {"{\"a\":7}", 0, FM_ERR_CORRUPT},
        {"[]", 0, FM_ERR_CORRUPT},
        {"{\"a\":", 0, FM_ERR_FORMAT},
    };
    fm_safetensors *s;
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        fm_status st = fm_safetensors_open(&s, with_header(rows[i].header, rows[i].n_data));
        if (st != rows[i].status) {
            fail_msg("%s (%zu): %d, %s", rows[i].header, rows[i].n_data, st, fm_error_get().message);
        }
        fm_safetensors_close(s);
    }
    assert_int_equal(fm_safetensors_open(&s, tmp_text("x.safetensors", "")), FM_ERR_CORRUPT);
    assert_int_equal(fm_safetensors_open(&s, tmp_text("x.safetensors", "version https://git-lfs")), FM_ERR_CORRUPT);
    assert_int_equal(fm_safetensors_open(&s, tmp_write("x.safetensors", "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF{}", 10)),
                     FM_ERR_CORRUPT);
    assert_int_equal(fm_safetensors_open(&s, tmp_path("none.safetensors")), FM_ERR_NOT_FOUND);
}

enum { N = 7 };
static const struct {
    const char *name;
    fm_dtype dtype;
    int64_t dims[2];
} spec[N] = {{"z.bytes", FM_U8, {5, 1}}, {"emb \"q\"", FM_F32, {4, 3}}, {"w1", FM_BF16, {3, 3}}, {"w2", FM_F32, {2, 8}},
             {"none", FM_F16, {0, 8}},   {"long", FM_I64, {2, 1}},      {"w3", FM_E4M3, {7, 1}}};

static uint8_t byte_of(size_t tensor, int64_t i) {
    return (uint8_t)((int64_t)tensor * 37 + i * 11);
}

static fm_status write_model(const char *dir, int64_t max_shard, bool backwards) {
    fm_st_writer *w;
    fm_st_writer_options o = {.max_shard_bytes = max_shard};
    FM_TRY(fm_st_writer_new(&w, dir, &o));
    fm_status s = fm_st_writer_metadata(w, "note", "a \"b\"");
    for (size_t i = 0; i < N && s == FM_OK; i++) {
        s = fm_st_writer_declare(w, spec[i].name, spec[i].dtype, 2, spec[i].dims);
    }
    s = s == FM_OK ? fm_st_writer_begin(w) : s;
    for (size_t k = 0; k < N && s == FM_OK; k++) {
        size_t i = backwards ? N - 1 - k : k;
        uint8_t b[256];
        int64_t n = fm_dtype_bytes(spec[i].dtype, spec[i].dims[0] * spec[i].dims[1]);
        for (int64_t j = 0; j < n; j++) {
            b[j] = byte_of(i, j);
        }
        s = fm_st_writer_put(w, spec[i].name, n / 2, b + n / 2, n - n / 2); /* the second half first */
        s = s == FM_OK ? fm_st_writer_put(w, spec[i].name, 0, b, n / 2) : s;
    }
    s = s == FM_OK ? fm_st_writer_finish(w) : s;
    fm_st_writer_free(w);
    return s;
}

static void check_model(const char *path, size_t n_files) {
    fm_safetensors *s;
    assert_int_equal(fm_safetensors_open(&s, path), FM_OK);
    assert_int_equal(fm_safetensors_n_files(s), n_files);
    assert_int_equal(fm_safetensors_count(s), N);
    assert_string_equal(fm_safetensors_metadata(s, "format"), "pt");
    assert_string_equal(fm_safetensors_metadata(s, "note"), "a \"b\"");
    for (size_t i = 0; i < N; i++) {
        const fm_st_tensor *t;
        assert_int_equal(fm_safetensors_get(&t, s, spec[i].name), FM_OK);
        assert_int_equal(t->dtype, spec[i].dtype);
        assert_int_equal(t->dims[1], spec[i].dims[1]);
        assert_true(fm_st_aligned(t));
        for (int64_t j = 0; j < t->bytes; j++) {
            assert_int_equal(t->data[j], byte_of(i, j));
        }
    }
    fm_safetensors_close(s);
}

static void test_write(void **state) {
    FM_UNUSED(state);
    const char *a = tmp_path("one"), *b = tmp_path("many");
    assert_int_equal(write_model(a, 0, false), FM_OK);
    check_model(a, 1);
    assert_int_equal(write_model(b, 80, false), FM_OK);
    check_model(b, 3);
    assert_true(fm_path_exists(tmp_path("many/model-00001-of-00003.safetensors")));
    check_model(tmp_path("many/model.safetensors.index.json"), 3);
    /* The bytes do not depend on the order of the calls. */
    char h1[33], h2[33];
    assert_int_equal(fm_file_hash(h1, tmp_path("one/model.safetensors")), FM_OK);
    assert_int_equal(write_model(a, 0, true), FM_OK);
    assert_int_equal(fm_file_hash(h2, tmp_path("one/model.safetensors")), FM_OK);
    assert_string_equal(h1, h2);
    char **names;
    size_t n;
    assert_int_equal(fm_dir_list(&names, &n, b), FM_OK);
    assert_int_equal(n, 4);
    fm_names_free(names, n);

    /* A shard that went missing, and an index that lies or leads out of the folder. */
    fm_safetensors *s;
    const char *index = tmp_path("many/model.safetensors.index.json");
    assert_int_equal(fm_file_write_atomic(index, "{\"weight_map\":{\"w1\":\"../one/model.safetensors\"}}", 48), FM_OK);
    assert_int_equal(fm_safetensors_open(&s, b), FM_ERR_CORRUPT);
    assert_int_equal(fm_file_write_atomic(index, "{\"weight_map\":{\"w9\":\"model-00001-of-00003.safetensors\"}}", 56),
                     FM_OK);
    assert_int_equal(fm_safetensors_open(&s, b), FM_ERR_CORRUPT);
    assert_int_equal(fm_file_write_atomic(index, "{\"weight_map\":{\"w9\":\"gone.safetensors\"}}", 40), FM_OK);
    assert_int_equal(fm_safetensors_open(&s, b), FM_ERR_NOT_FOUND);
    assert_int_equal(fm_file_write_atomic(index, "{}", 2), FM_OK);
    assert_int_equal(fm_safetensors_open(&s, b), FM_ERR_FORMAT);
}

static void test_write_errors(void **state) {
    FM_UNUSED(state);
    fm_st_writer *w;
    const char *dir = tmp_path("errors");
    int64_t dims[] = {2};
    assert_int_equal(fm_st_writer_new(&w, dir, NULL), FM_OK);
    assert_int_equal(fm_st_writer_declare(w, "q", FM_Q8_0, 1, dims), FM_ERR_DTYPE);
    assert_int_equal(fm_st_writer_declare(w, "a", FM_F32, 1, dims), FM_OK);
    assert_int_equal(fm_st_writer_begin(w), FM_OK);
    float x[3] = {1, 2, 3};
    assert_int_equal(fm_st_writer_put(w, "a", 0, x, 12), FM_ERR_ARGUMENT);
    assert_int_equal(fm_st_writer_put(w, "a", 8, x, 4), FM_ERR_ARGUMENT);
    assert_int_equal(fm_st_writer_put(w, "b", 0, x, 4), FM_ERR_ARGUMENT);
    assert_int_equal(fm_st_writer_put(w, "a", 0, x, 4), FM_OK);
    assert_int_equal(fm_st_writer_finish(w), FM_ERR_STATE);
    fm_st_writer_free(w);
    char **names;
    size_t n;
    assert_int_equal(fm_dir_list(&names, &n, dir), FM_OK);
    assert_int_equal(n, 0);
    fm_names_free(names, n);
    assert_int_equal(fm_st_writer_new(&w, dir, NULL), FM_OK);
    assert_int_equal(fm_st_writer_declare(w, "a", FM_F32, 1, dims), FM_OK);
    assert_int_equal(fm_st_writer_declare(w, "a", FM_F32, 1, dims), FM_OK);
    assert_int_equal(fm_st_writer_begin(w), FM_ERR_ARGUMENT);
    fm_st_writer_free(w);
}

static void test_out_of_memory(void **state) {
    FM_UNUSED(state);
    const char *dir = tmp_path("oom");
    int64_t base = fm_ledger_current(FM_MEM_MISC), mapped = fm_ledger_current(FM_MEM_MAPPED);
    bool done = false;
    for (int64_t k = 1; k < 500 && !done; k++) {
        fm_safetensors *s = NULL;
        fm_mem_fail_at(k, true);
        fm_status st = write_model(dir, 80, false);
        st = st == FM_OK ? fm_safetensors_open(&s, dir) : st;
        fm_mem_fail_at(0, false);
        fm_safetensors_close(s);
        assert_true(st == FM_OK || st == FM_ERR_NO_MEMORY);
        done = st == FM_OK;
        assert_int_equal(fm_ledger_current(FM_MEM_MISC), base);
        assert_int_equal(fm_ledger_current(FM_MEM_MAPPED), mapped);
    }
    assert_true(done);
}

static void test_npy(void **state) {
    FM_UNUSED(state);
    fm_npy a;
    assert_int_equal(fm_npy_open(&a, FM_SOURCE_DIR "/tests/unit/io/data/reference_f32.npy"), FM_OK); /* numpy 2.4 */
    assert_int_equal(a.dtype, FM_F32);
    assert_int_equal(a.n_dims, 3);
    assert_int_equal(a.dims[2], 4);
    assert_int_equal(a.n, 24);
    float ref[24];
    memcpy(ref, a.data, sizeof ref);
    for (int i = 0; i < 24; i++) {
        assert_true(ref[i] == (float)i / 8);
    }
    fm_npy_release(&a);

    fm_npy_writer *w;
    const char *path = tmp_path("a.npy");
    int64_t dims[] = {-1, 3, 4};
    assert_int_equal(fm_npy_create(&w, path, 3, dims), FM_OK);
    assert_int_equal(fm_npy_put(w, ref, 10), FM_OK);
    assert_int_equal(fm_npy_put(w, ref + 10, 14), FM_OK);
    assert_false(fm_path_exists(path));
    assert_int_equal(fm_npy_close(w), FM_OK);
    assert_int_equal(fm_npy_open(&a, path), FM_OK);
    assert_int_equal(a.dims[0], 2);
    assert_int_equal((uintptr_t)a.data % 64, 0);
    assert_memory_equal(a.data, ref, sizeof ref);
    fm_npy_release(&a);

    assert_int_equal(fm_npy_create(&w, tmp_path("b.npy"), 3, dims), FM_OK);
    assert_int_equal(fm_npy_put(w, ref, 13), FM_OK);
    assert_int_equal(fm_npy_close(w), FM_ERR_STATE);
    assert_false(fm_path_exists(tmp_path("b.npy")));
    assert_false(fm_path_exists(tmp_path("b.npy.tmp")));
    static const char *const bad[] = {
        "",
        "\x93NUMPY\x01",
        "\x93NUMPY\x01\x02\xFF\xFF{'descr'",
        "\x93NUMPY\x01\x01\x10\x01",
    };
    for (size_t i = 0; i < FM_ARRAY_LEN(bad); i++) {
        assert_int_not_equal(fm_npy_open(&a, tmp_text("c.npy", bad[i])), FM_OK);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),    cmocka_unit_test(test_damaged),       cmocka_unit_test(test_write),
        cmocka_unit_test(test_write_errors), cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_npy),
    };
    return cmocka_run_group_tests(tests, tmp_make, tmp_remove);
}
