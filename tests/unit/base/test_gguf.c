#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/error.h"
#include "base/gguf.h"
#include "base/mem.h"
#include "base/str.h"

/* ---- a writer of bytes ----------------------------------------------------------------------- */

static void put(fm_str *s, const void *p, size_t n) {
    fm_str_append(s, p, n);
}
static void put_u32(fm_str *s, uint32_t v) {
    put(s, &v, sizeof v);
}
static void put_u64(fm_str *s, uint64_t v) {
    put(s, &v, sizeof v);
}
static void put_text(fm_str *s, const char *t) {
    put_u64(s, strlen(t));
    put(s, t, strlen(t));
}
static void put_key(fm_str *s, const char *key, fm_gguf_type type) {
    put_text(s, key);
    put_u32(s, (uint32_t)type);
}
static void put_header(fm_str *s, uint32_t version, uint64_t n_tensors, uint64_t n_kv) {
    put(s, "GGUF", 4);
    put_u32(s, version);
    put_u64(s, n_tensors);
    put_u64(s, n_kv);
}
static void put_tensor(fm_str *s, const char *name, uint32_t n_dims, const uint64_t *dim, uint32_t type, uint64_t at) {
    put_text(s, name);
    put_u32(s, n_dims);
    put(s, dim, n_dims * sizeof *dim);
    put_u32(s, type);
    put_u64(s, at);
}
static void pad(fm_str *s, size_t alignment) {
    while (s->len % alignment != 0) {
        fm_str_putc(s, '\0');
    }
}

/* Eight keys of different types, two tensors of 32 bytes. */
static void sample(fm_str *s) {
    put_header(s, 3, 2, 8);
    put_key(s, "general.architecture", FM_GGUF_STRING);
    put_text(s, "llama");
    put_key(s, "a.u32", FM_GGUF_U32);
    put_u32(s, 4000000000u);
    put_key(s, "a.i8", FM_GGUF_I8);
    put(s, "\xfe", 1);
    put_key(s, "a.f32", FM_GGUF_F32);
    put(s, &(float){0.25f}, 4);
    put_key(s, "a.bool", FM_GGUF_BOOL);
    put(s, "\x01", 1);
    put_key(s, "a.texts", FM_GGUF_ARRAY);
    put_u32(s, FM_GGUF_STRING);
    put_u64(s, 3);
    put_text(s, "one");
    put_text(s, "");
    put_text(s, "three");
    put_key(s, "a.numbers", FM_GGUF_ARRAY);
    put_u32(s, FM_GGUF_I32);
    put_u64(s, 2);
    put_u32(s, 7);
    put_u32(s, (uint32_t)-9);
    put_key(s, "a.huge", FM_GGUF_U64);
    put_u64(s, UINT64_MAX);
    put_tensor(s, "b", 2, (uint64_t[]){4, 2}, 0, 0);
    put_tensor(s, "a", 1, (uint64_t[]){8}, 0, 32);
    pad(s, 32);
    for (size_t i = 0; i < 64; i++) {
        fm_str_putc(s, (char)i);
    }
    assert_int_equal(fm_str_check(s), FM_OK);
}

static void test_reads(void **state) {
    FM_UNUSED(state);
    fm_str s = {0};
    sample(&s);
    fm_gguf *g;
    assert_int_equal(fm_gguf_parse(&g, s.data, s.len, "sample"), FM_OK);
    assert_int_equal(fm_gguf_kv_count(g), 8);
    fm_gguf_text t;
    assert_int_equal(fm_gguf_get_text(&t, g, "general.architecture"), FM_OK);
    assert_true(t.len == 5 && memcmp(t.ptr, "llama", 5) == 0);
    int64_t i;
    assert_int_equal(fm_gguf_get_int(&i, g, "a.u32", 0), FM_OK);
    assert_true(i == 4000000000);
    assert_int_equal(fm_gguf_get_int(&i, g, "a.i8", 0), FM_OK);
    assert_true(i == -2);
    assert_int_equal(fm_gguf_get_int(&i, g, "missing", 77), FM_OK);
    assert_true(i == 77);
    assert_int_equal(fm_gguf_get_int(&i, g, "a.huge", 0), FM_ERR_FORMAT);
    assert_non_null(strstr(fm_error_get().message, "a.huge"));
    assert_int_equal(fm_gguf_get_int(&i, g, "a.f32", 0), FM_ERR_FORMAT);
    assert_non_null(strstr(fm_error_get().message, "expected an integer"));
    double d;
    assert_int_equal(fm_gguf_get_num(&d, g, "a.f32", 0), FM_OK);
    assert_true(d == 0.25);
    assert_int_equal(fm_gguf_get_num(&d, g, "a.i8", 0), FM_OK);
    assert_true(d == -2);
    assert_int_equal(fm_gguf_get_num(&d, g, "a.bool", 0), FM_ERR_FORMAT);
    bool b;
    assert_int_equal(fm_gguf_get_bool(&b, g, "a.bool", false), FM_OK);
    assert_true(b);
    assert_int_equal(fm_gguf_get_text(&t, g, "a.u32"), FM_ERR_FORMAT);
    assert_int_equal(fm_gguf_get_text(&t, g, "missing"), FM_OK);
    assert_null(t.ptr);
    const fm_gguf_kv *kv = fm_gguf_find(g, "a.texts");
    assert_non_null(kv);
    const uint8_t *at = kv->value;
    assert_int_equal(fm_gguf_next_text(&at).len, 3);
    assert_int_equal(fm_gguf_next_text(&at).len, 0);
    assert_memory_equal(fm_gguf_next_text(&at).ptr, "three", 5);
    kv = fm_gguf_find(g, "a.numbers");
    assert_true(fm_gguf_item_num(kv, 0) == 7 && fm_gguf_item_num(kv, 1) == -9);
    assert_int_equal(fm_gguf_tensor_count(g), 2);
    const fm_gguf_tensor *x = fm_gguf_tensor_find(g, "a");
    assert_non_null(x);
    assert_int_equal(x->n_dims, 1);
    assert_true(x->dim[0] == 8 && x->dim[1] == 1);
    size_t n;
    assert_int_equal(((const uint8_t *)fm_gguf_data(g, &n))[x->offset], 32);
    assert_int_equal(n, s.len);
    assert_null(fm_gguf_tensor_find(g, "c"));
    fm_gguf_close(g);
    fm_str_free(&s);
}

static void refused(fm_str *s, fm_status want, const char *part) {
    fm_gguf *g;
    assert_int_equal(fm_str_check(s), FM_OK);
    assert_int_equal(fm_gguf_parse(&g, s->data, s->len, "hostile"), want);
    assert_null(g);
    if (!strstr(fm_error_get().message, part)) {
        fail_msg("\"%s\" does not say \"%s\"", fm_error_get().message, part);
    }
    fm_str_free(s);
}

/* Every prefix of a valid file is refused. */
static void test_cut(void **state) {
    FM_UNUSED(state);
    fm_str s = {0};
    sample(&s);
    for (size_t n = 0; n < s.len - 32; n++) { /* the extent of the last tensor is the business of src/io */
        fm_gguf *g;
        char *copy = fm_malloc(n + 1); /* of its exact size, for the address sanitizer */
        assert_non_null(copy);
        memcpy(copy, s.data, n);
        assert_int_equal(fm_gguf_parse(&g, copy, n, "cut"), FM_ERR_FORMAT);
        fm_free(copy);
    }
    fm_str_free(&s);
}

static void test_hostile(void **state) {
    FM_UNUSED(state);
    fm_str s = {0};
    put(&s, "ggjt0000000000000000000000000000", 32);
    refused(&s, FM_ERR_FORMAT, "not a GGUF file");
    put_header(&s, 1, 0, 0);
    refused(&s, FM_ERR_UNSUPPORTED, "found 1");
    put_header(&s, 3u << 24, 0, 0);
    refused(&s, FM_ERR_UNSUPPORTED, "big-endian");
    put_header(&s, 3, UINT64_MAX, 0);
    refused(&s, FM_ERR_FORMAT, "18446744073709551615 tensors");
    put_header(&s, 3, 0, 1u << 20); /* allowed, but not there */
    refused(&s, FM_ERR_FORMAT, "cut off");
    put_header(&s, 3, 0, 1);
    put_key(&s, "nested", FM_GGUF_ARRAY);
    put_u32(&s, FM_GGUF_ARRAY);
    put_u64(&s, 1);
    refused(&s, FM_ERR_FORMAT, "\"nested\": expected an array of numbers or strings");
    put_header(&s, 3, 0, 1);
    put_key(&s, "many", FM_GGUF_ARRAY);
    put_u32(&s, FM_GGUF_U64);
    put_u64(&s, (uint64_t)1 << 61); /* times 8 bytes overflows */
    refused(&s, FM_ERR_FORMAT, "\"many\"");
    put_header(&s, 3, 0, 1);
    put_key(&s, "long", FM_GGUF_ARRAY);
    put_u32(&s, FM_GGUF_STRING);
    put_u64(&s, 2);
    put_text(&s, "x");
    put_u64(&s, UINT64_MAX);
    refused(&s, FM_ERR_FORMAT, "\"long\", item 1 of 2");
    put_header(&s, 3, 0, 1);
    put_key(&s, "type", (fm_gguf_type)13);
    put_u32(&s, 0);
    refused(&s, FM_ERR_FORMAT, "found 13");
    put_header(&s, 3, 0, 2);
    for (int i = 0; i < 2; i++) {
        put_key(&s, "twice", FM_GGUF_U32);
        put_u32(&s, 0);
    }
    refused(&s, FM_ERR_FORMAT, "\"twice\" occurs twice");
    put_header(&s, 3, 0, 1);
    put_key(&s, "general.alignment", FM_GGUF_U32);
    put_u32(&s, 24);
    refused(&s, FM_ERR_FORMAT, "general.alignment");
}

static void test_hostile_tensors(void **state) {
    FM_UNUSED(state);
    fm_str s = {0};
    put_header(&s, 3, 2, 0);
    for (int i = 0; i < 2; i++) {
        put_tensor(&s, "w", 1, (uint64_t[]){8}, 0, 0);
    }
    pad(&s, 32);
    put(&s, "0123456789abcdef0123456789abcdef", 32);
    refused(&s, FM_ERR_FORMAT, "tensor \"w\" occurs twice");
    put_header(&s, 3, 1, 0);
    put_tensor(&s, "w", 1, (uint64_t[]){8}, 0, 4);
    pad(&s, 32);
    put(&s, "0123456789abcdef0123456789abcdef", 32);
    refused(&s, FM_ERR_FORMAT, "tensor w: expected an offset that is a multiple of 32, found 4");
    put_header(&s, 3, 1, 0);
    put_tensor(&s, "w", 1, (uint64_t[]){8}, 0, UINT64_MAX - 31);
    pad(&s, 32);
    put(&s, "0123456789abcdef0123456789abcdef", 32);
    refused(&s, FM_ERR_FORMAT, "tensor w begins at byte");
    put_header(&s, 3, 1, 0);
    put_tensor(&s, "w", 3, (uint64_t[]){1u << 31, 1u << 31, 8}, 0, 0);
    refused(&s, FM_ERR_FORMAT, "tensor w: dimension 2");
    put_header(&s, 3, 1, 0);
    put_tensor(&s, "w", 1, (uint64_t[]){0}, 0, 0);
    refused(&s, FM_ERR_FORMAT, "tensor w: dimension 0");
    put_header(&s, 3, 1, 0);
    put_text(&s, "w");
    put_u32(&s, 5);
    refused(&s, FM_ERR_FORMAT, "tensor w: expected 1 to 4 dimensions, found 5");
    put_header(&s, 3, 1, 0);
    char name[200];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    put_text(&s, name);
    put_u32(&s, 1);
    refused(&s, FM_ERR_FORMAT, "found 199 bytes");
}

static void test_no_memory(void **state) {
    FM_UNUSED(state);
    fm_str s = {0};
    sample(&s);
    for (int64_t i = 1;; i++) {
        fm_gguf *g;
        fm_mem_fail_at(i, false);
        fm_status st = fm_gguf_parse(&g, s.data, s.len, "sample");
        fm_mem_fail_at(0, false);
        fm_gguf_close(g);
        if (st == FM_OK) {
            assert_true(i > 5);
            break;
        }
        assert_int_equal(st, FM_ERR_NO_MEMORY);
    }
    fm_str_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),           cmocka_unit_test(test_cut),       cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_hostile_tensors), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
