/* Element types: sizes, names, rounding. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "backend/dtype.h"

static void names_and_sizes(void **state) {
    (void)state;
    fm_dtype d;
    assert_true(fm_dtype_parse(&d, "bf16"));
    assert_int_equal(d, FM_BF16);
    assert_true(fm_dtype_parse(&d, "F8_E4M3"));
    assert_int_equal(d, FM_E4M3);
    assert_false(fm_dtype_parse(&d, "float33"));
    assert_false(fm_dtype_parse(&d, ""));
    for (int i = 0; i < FM_DTYPE_COUNT; i++) {
        assert_true(fm_dtype_parse(&d, fm_dtype_get((fm_dtype)i)->name));
        assert_int_equal(d, i);
    }
    assert_int_equal(fm_dtype_bytes(FM_F32, 10), 40);
    assert_int_equal(fm_dtype_bytes(FM_I4, 10), 5);
    assert_int_equal(fm_dtype_bytes(FM_I4, 11), -1);
    assert_int_equal(fm_dtype_bytes(FM_Q4_K, 512), 288);
    assert_int_equal(fm_dtype_bytes(FM_F64, INT64_MAX / 4), -1);
    assert_int_equal(fm_dtype_bytes(FM_F64, -1), -1);
    assert_true(fm_dtype_eps(FM_BF16) == 0x1p-7);
    assert_true(fm_dtype_eps(FM_F32) == 0x1p-23);
    assert_true(fm_dtype_eps(FM_I8) == 0.0);
}

/* Published values of the formats (OCP 8-bit floating point 1.0; IEEE 754). */
static void known_codes(void **state) {
    (void)state;
    static const struct {
        fm_dtype d;
        uint32_t code;
        double v;
    } rows[] = {
        {FM_E4M3, 0x7e, 448.0},      {FM_E4M3, 0x01, 0x1p-9},   {FM_E4M3, 0x08, 0x1p-6},
        {FM_E4M3, 0xb8, -1.0},       {FM_E4M3, 0x07, 0x1.cp-7}, {FM_E5M2, 0x7b, 57344.0},
        {FM_E5M2, 0x01, 0x1p-16},    {FM_E5M2, 0x7c, INFINITY}, {FM_F16, 0x3c00, 1.0},
        {FM_F16, 0x7bff, 65504.0},   {FM_F16, 0x0001, 0x1p-24}, {FM_F16, 0x03ff, 0x1.ff8p-15},
        {FM_F16, 0xfc00, -INFINITY}, {FM_BF16, 0x3f80, 1.0},    {FM_BF16, 0x7f7f, 0x1.fep127},
        {FM_BF16, 0x4049, 3.140625},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint16_t code = (uint16_t)rows[i].code, back = 0;
        assert_true(fm_load_as_f64(rows[i].d, &code, 0) == rows[i].v);
        fm_store_from_f64(rows[i].d, &back, 0, rows[i].v);
        assert_int_equal(back, code);
    }
    uint8_t nan_code = 0;
    fm_store_from_f64(FM_E4M3, &nan_code, 0, 1000.0);
    assert_int_equal(nan_code, 0x7f);
}

/* Every code survives decode and encode; halves between neighbours go to the even code. */
static void round_trip(void **state) {
    (void)state;
    static const fm_dtype types[] = {FM_BF16, FM_F16, FM_E4M3, FM_E5M2};
    for (size_t t = 0; t < 4; t++) {
        fm_dtype d = types[t];
        uint32_t count = fm_dtype_get(d)->block_bytes == 1 ? 0x80u : 0x8000u;
        for (uint32_t c = 0; c + 1 < count; c++) {
            uint16_t a = (uint16_t)c, b = (uint16_t)(c + 1), out = 0;
            double va = fm_load_as_f64(d, &a, 0), vb = fm_load_as_f64(d, &b, 0);
            if (isnan(va) || isinf(vb) || isnan(vb)) {
                continue;
            }
            fm_store_from_f64(d, &out, 0, va);
            assert_int_equal(out, a);
            assert_true(fm_round_to(d, va) == va);
            fm_store_from_f64(d, &out, 0, (va + vb) / 2.0);
            assert_int_equal(out, c % 2 ? b : a);
            fm_store_from_f64(d, &out, 0, va + (vb - va) * 0.50001);
            assert_int_equal(out, b);
        }
    }
}

/* The fast f16 and bf16 conversions against the general ones. */
static void fast_forms(void **state) {
    (void)state;
    for (uint64_t u = 0; u <= UINT32_MAX; u += 4099) {
        union {
            uint32_t u;
            float f;
        } v = {(uint32_t)u};
        if (isnan(v.f)) {
            assert_true(isnan(fm_f16_to_f32(fm_f32_to_f16(v.f))));
            assert_true(isnan(fm_bf16_to_f32(fm_f32_to_bf16(v.f))));
            continue;
        }
        uint16_t out;
        fm_store_from_f64(FM_F16, &out, 0, (double)v.f);
        assert_int_equal(fm_f32_to_f16(v.f), out);
        fm_store_from_f64(FM_BF16, &out, 0, (double)v.f);
        assert_int_equal(fm_f32_to_bf16(v.f), out);
    }
}

static void integers(void **state) {
    (void)state;
    int8_t i8[2];
    fm_store_from_f64(FM_I8, i8, 0, 200.0);
    fm_store_from_f64(FM_I8, i8, 1, -2.5);
    assert_int_equal(i8[0], 127);
    assert_int_equal(i8[1], -2);
    int64_t i64;
    fm_store_from_f64(FM_I64, &i64, 0, 1e30);
    assert_true(i64 > INT64_MAX - 1024);
    fm_store_from_f64(FM_I64, &i64, 0, (double)NAN);
    assert_int_equal(i64, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_sizes), cmocka_unit_test(known_codes), cmocka_unit_test(round_trip),
        cmocka_unit_test(fast_forms),      cmocka_unit_test(integers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
