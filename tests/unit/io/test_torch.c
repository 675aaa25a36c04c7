/* PyTorch state dicts and the pickle machine: what is read, and what is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/pickle.h"
#include "io/torch.h"
#include "../../quick.h"

#define DIR FM_SOURCE_DIR "/tests/golden/data/files"

static const fm_pickle_global names[] = {{"collections", "OrderedDict", 0, true}, {"torch", "Size", 1, false}, {0}};

static void test_values(void **state) {
    (void)state;
    /* pickle.dumps({'a': [1, -2, 3.5, True, None, 'x'], 'b': (2**40, -2**40)}, 2), by hand where that is shorter */
    static const char text[] =
        "\x80\x02}q\0(X\1\0\0\0aq\1]q\2(K\1J\xfe\xff\xff\xffG\x40\x0c\0\0\0\0\0\0\x88NX\1\0\0\0xeX\1\0\0"
        "\0b\x8a\6\0\0\0\0\0\1\x8a\6\0\0\0\0\0\xff\x86u.rest";
    fm_pickle *p;
    size_t used;
    assert_int_equal(fm_pickle_read(&p, text, sizeof text - 1, &used, names, "t"), FM_OK);
    assert_int_equal(used, sizeof text - 5);
    const fm_pickle_value *a = fm_pickle_get(fm_pickle_root(p), "a"), *b = fm_pickle_get(fm_pickle_root(p), "b");
    assert_int_equal(a->kind, FM_PICKLE_LIST);
    assert_int_equal(a->n, 6);
    assert_int_equal(a->item[0]->i, 1);
    assert_int_equal(a->item[1]->i, -2);
    assert_true(a->item[2]->f == 3.5);
    assert_true(a->item[3]->kind == FM_PICKLE_BOOL && a->item[3]->i == 1);
    assert_int_equal(a->item[4]->kind, FM_PICKLE_NONE);
    assert_true(fm_pickle_text_is(a->item[5], "x"));
    assert_int_equal(b->item[0]->i, (int64_t)1 << 40);
    assert_int_equal(b->item[1]->i, -((int64_t)1 << 40));
    assert_null(fm_pickle_get(fm_pickle_root(p), "c"));
    fm_pickle_free(p);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *file, *says;
        fm_status status;
    } bad[] = {
        {"system", "posix.system", FM_ERR_UNSUPPORTED},
        {"eval", "builtins.eval", FM_ERR_UNSUPPORTED},
        {"newobj", "makes objects", FM_ERR_UNSUPPORTED},
        {"inst", "makes objects", FM_ERR_UNSUPPORTED},
        {"extension", "makes objects", FM_ERR_UNSUPPORTED},
        {"memo", "memo place 2147483647", FM_ERR_CORRUPT},
        {"memo_get", "memo place 5 of 0", FM_ERR_CORRUPT},
        {"long_text", "string of 2147483647", FM_ERR_CORRUPT},
        {"long_number", "2147483647 bytes", FM_ERR_CORRUPT},
        {"no_stop", "expected 1 bytes", FM_ERR_CORRUPT},
        {"empty_stack", "stack is empty", FM_ERR_CORRUPT},
        {"call_data", "not a function", FM_ERR_CORRUPT},
        {"self", "dict of tensors", FM_ERR_FORMAT},
        {"no_tensors", "dict of tensors", FM_ERR_FORMAT},
        {"bad_opcode", "0xff", FM_ERR_CORRUPT},
        {"offset", "tensor w: reaches element 16 of a storage of 16", FM_ERR_CORRUPT},
        {"offset_negative", "tensor w", FM_ERR_CORRUPT},
        {"offset_huge", "tensor w: reaches", FM_ERR_CORRUPT},
        {"stride", "tensor w: reaches element 18", FM_ERR_CORRUPT},
        {"stride_negative", "tensor w: dimension 0", FM_ERR_CORRUPT},
        {"dims_overflow", "tensor w: dimension 1", FM_ERR_CORRUPT},
        {"dims_strides", "tensor w", FM_ERR_CORRUPT},
        {"storage_short", "expected 68 bytes, found 64", FM_ERR_CORRUPT},
        {"storage_huge", "elements", FM_ERR_CORRUPT},
        {"storage_missing", "archive/data/1", FM_ERR_CORRUPT},
        {"storage_path", "archive/data/../../x", FM_ERR_CORRUPT},
        {"storage_class", "torch.QInt8Storage", FM_ERR_UNSUPPORTED},
        {"folder_374", "data/1' is missing", FM_ERR_CORRUPT},
        {"folder_380", "without data.pkl", FM_ERR_FORMAT},
        {"folder_385", "without data.pkl", FM_ERR_FORMAT},
        {"folder_391", "without data.pkl", FM_ERR_FORMAT},
        {"folder_400", "without data.pkl", FM_ERR_FORMAT},
        {"folder_600", "without data.pkl", FM_ERR_FORMAT},
        {"compressed", "compressed", FM_ERR_UNSUPPORTED},
        {"bomb", "compressed", FM_ERR_UNSUPPORTED},
        {"big_endian", "big-endian", FM_ERR_UNSUPPORTED},
        {"zip_cut", "cut short", FM_ERR_CORRUPT},
        {"zip_cut_early", "cut short", FM_ERR_CORRUPT},
        {"zip_flipped", "checksum", FM_ERR_CORRUPT},
        {"zip_directory", "zip", FM_ERR_CORRUPT},
        {"zip_entries", "65535 entries", FM_ERR_CORRUPT},
        {"zip_place", "no directory entry", FM_ERR_CORRUPT},
        {"zip_local", "no local header", FM_ERR_CORRUPT},
        {"text", "not a PyTorch state dict", FM_ERR_FORMAT},
        {"empty", "not a PyTorch state dict", FM_ERR_FORMAT},
        {"old_cut", "storage", FM_ERR_CORRUPT},
    };
    char **files;
    size_t n;
    assert_int_equal(fm_dir_list(&files, &n, DIR "/hostile"), FM_OK);
    fm_names_free(files, n);
    assert_int_equal(n, FM_ARRAY_LEN(bad)); /* none is forgotten */
    for (size_t i = 0; i < FM_ARRAY_LEN(bad); i++) {
        char path[512];
        fm_torch *t;
        snprintf(path, sizeof path, DIR "/hostile/%s.pt", bad[i].file);
        fm_status s = fm_torch_open(&t, path);
        if (s != bad[i].status || !strstr(fm_error_get().message, bad[i].says)) {
            print_error("%s: %s, %s\n", bad[i].file, fm_status_name(s), s ? fm_error_get().message : "opened");
        }
        assert_int_equal(s, bad[i].status);
        assert_non_null(strstr(fm_error_get().message, bad[i].says));
        assert_null(t);
    }
}

/* Files cut at every length and with every byte changed: refused, or tensors inside the bytes. */
static void test_damage(void **state) {
    (void)state;
    static const char *const files[] = {"torch_fp8.pt", "torch_old/pytorch_model.bin"};
    for (size_t f = 0; f < 2; f++) {
        char path[512], *data;
        size_t n;
        snprintf(path, sizeof path, DIR "/%s", files[f]);
        assert_int_equal(fm_file_read(&data, &n, path, 0), FM_OK);
        size_t step = test_quick() ? 7 : 1;
        for (size_t i = 0; i < 2 * n; i += step) {
            fm_torch *t;
            size_t len = i < n ? i : n, at = i - n;
            uint8_t *part = fm_malloc(len); /* its own block, so that a read past it is seen */
            memcpy(part, data, len);
            if (i >= n) {
                part[at] = (uint8_t)(part[at] ^ (1u << at % 8));
            }
            if (fm_torch_parse(&t, part, len, "damaged") == FM_OK) {
                unsigned sum = 0;
                for (size_t k = 0; k < fm_torch_count(t); k++) {
                    const fm_torch_tensor *x = fm_torch_at(t, k);
                    int64_t last = 0;
                    for (int d = 0; d < x->n_dims; d++) {
                        last += x->dims[d] ? (x->dims[d] - 1) * x->stride[d] : 0;
                    }
                    sum += x->bytes ? x->data[0] + (unsigned)x->data[last] : 0;
                }
                assert_true(sum < 1u << 30);
                fm_torch_close(t);
            }
            fm_free(part);
        }
        fm_free(data);
    }
}

static void test_types(void **state) {
    (void)state;
    fm_torch *t;
    assert_int_equal(fm_torch_open(&t, DIR "/torch_fp8.pt"), FM_OK);
    const fm_torch_tensor *x = fm_torch_find(t, "codes");
    assert_int_equal(x->dtype, FM_E4M3);
    assert_int_equal(x->bytes, 256);
    for (int i = 0; i < 256; i++) {
        assert_int_equal(x->data[i], i);
    }
    x = fm_torch_find(t, "half");
    assert_true(x->dtype == FM_F16 && x->dims[0] == 3 && x->bytes == 6);
    x = fm_torch_find(t, "n");
    assert_true(x->dtype == FM_I64 && x->n_dims == 0 && x->data[0] == 5);
    assert_null(fm_torch_find(t, "none"));
    assert_int_equal(fm_torch_count(t), 3);
    fm_torch_close(t);
}

static void test_no_memory(void **state) {
    (void)state;
    static const char *const files[] = {"torch_zip", "torch_old", "torch_shards"};
    for (size_t f = 0; f < 3; f++) {
        char path[512];
        fm_status s = FM_ERR_NO_MEMORY;
        fm_torch *t = NULL;
        snprintf(path, sizeof path, DIR "/%s", files[f]);
        for (int64_t n = 1; s != FM_OK && n < 2000; n++) {
            fm_mem_fail_at(n, false);
            s = fm_torch_open(&t, path);
            fm_mem_fail_at(0, false);
            assert_true(s == FM_OK || s == FM_ERR_NO_MEMORY);
        }
        assert_int_equal(s, FM_OK);
        assert_int_equal(fm_torch_count(t), 13);
        fm_torch_close(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_refused),   cmocka_unit_test(test_damage),
        cmocka_unit_test(test_types),  cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
