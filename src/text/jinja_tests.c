/* Tests: what may stand behind `is`, and in select and reject. */
#include <string.h>

#include "base/error.h"
#include "text/jinja.h"

#define TEST(name, expr)                                                                                               \
    static fm_status t_##name(fmj_run *r, fmj_value *out, const fmj_value *v, const fmj_args *a) {                     \
        (void)r;                                                                                                       \
        (void)a;                                                                                                       \
        *out = fmj_bool(expr);                                                                                         \
        return FM_OK;                                                                                                  \
    }

static bool is_callable(const fmj_value *v) { /* an undefined value has __call__, which raises */
    return v->type == FMJ_FUNCTION || v->type == FMJ_METHOD || v->type == FMJ_MACRO || v->type == FMJ_LOOP ||
           v->type == FMJ_JOINER || v->type == FMJ_UNDEFINED;
}

static bool is_iterable(const fmj_value *v) {
    return v->type == FMJ_STR || v->type == FMJ_DICT || fmj_is_seq(v) || v->type == FMJ_VIEW ||
           v->type == FMJ_GENERATOR || v->type == FMJ_UNDEFINED || v->type == FMJ_LOOP;
}

static bool is_sequence(const fmj_value *v) {
    return v->type == FMJ_STR || v->type == FMJ_DICT || fmj_is_seq(v) || v->type == FMJ_UNDEFINED;
}

TEST(defined, v->type != FMJ_UNDEFINED)
TEST(undefined, v->type == FMJ_UNDEFINED)
TEST(none, v->type == FMJ_NONE)
TEST(boolean, v->type == FMJ_BOOL)
TEST(true, v->type == FMJ_BOOL && v->u.b)
TEST(false, v->type == FMJ_BOOL && !v->u.b)
TEST(integer, v->type == FMJ_INT)
TEST(float, v->type == FMJ_FLOAT)
TEST(number, fmj_is_number(v))
TEST(string, v->type == FMJ_STR)
TEST(mapping, v->type == FMJ_DICT)
TEST(sequence, is_sequence(v))
TEST(iterable, is_iterable(v))
TEST(callable, is_callable(v))
TEST(escaped, v->type == FMJ_STR && v->safe)
#undef TEST

/* v % n as an integer or float; *left. */
static fm_status remainder_of(fmj_run *r, fmj_value *left, const fmj_value *v, const fmj_value *n) {
    if (v->type == FMJ_STR) {
        FM_FAIL(FM_ERR_DATA, "a number is expected, not str");
    }
    return fmj_binary(r, left, '%', v, n);
}

static fm_status t_parity(fmj_run *r, fmj_value *out, const fmj_value *v, int64_t want) {
    fmj_value left, two = fmj_int(2), is = fmj_int(want);
    bool yes;
    FM_TRY(remainder_of(r, &left, v, &two));
    FM_TRY(fmj_equal(r, &yes, &left, &is));
    *out = fmj_bool(yes);
    return FM_OK;
}

static fm_status t_odd(fmj_run *r, fmj_value *out, const fmj_value *v, const fmj_args *a) {
    (void)a;
    return t_parity(r, out, v, 1);
}

static fm_status t_even(fmj_run *r, fmj_value *out, const fmj_value *v, const fmj_args *a) {
    (void)a;
    return t_parity(r, out, v, 0);
}

static fm_status t_divisibleby(fmj_run *r, fmj_value *out, const fmj_value *v, const fmj_args *a) {
    fmj_value left, zero = fmj_int(0);
    bool yes;
    FM_TRY(remainder_of(r, &left, v, &a->v[0]));
    FM_TRY(fmj_equal(r, &yes, &left, &zero));
    *out = fmj_bool(yes);
    return FM_OK;
}

static fm_status case_test(fmj_run *r, fmj_value *out, const fmj_value *v, const char *method) {
    fmj_value text = {.type = FMJ_STR};
    fmj_args none = {0};
    FM_TRY(fmj_to_str(r, &text.u.s, v));
    return fmj_row_call(r, out, fmj_row_find(fmj_str_methods, method, strlen(method)), "test", &text, &none);
}

static fm_status t_lower(fmj_run *r, fmj_value *out, const fmj_value *v, const fmj_args *a) {
    (void)a;
    return case_test(r, out, v, "islower");
}

static fm_status t_upper(fmj_run *r, fmj_value *out, const fmj_value *v, const fmj_args *a) {
    (void)a;
    return case_test(r, out, v, "isupper");
}

static fm_status t_filter(fmj_run *r, fmj_value *out, const fmj_value *v, const fmj_args *a) {
    (void)a;
    FM_TRY(fmj_hash_check(r, v));
    *out = fmj_bool(v->type == FMJ_STR && fmj_filter_find(v->u.s->p, v->u.s->n));
    return FM_OK;
}

static fm_status t_test(fmj_run *r, fmj_value *out, const fmj_value *v, const fmj_args *a) {
    (void)a;
    FM_TRY(fmj_hash_check(r, v));
    *out = fmj_bool(v->type == FMJ_STR && fmj_row_find(fmj_tests, v->u.s->p, v->u.s->n));
    return FM_OK;
}

/* The same object: scalars have no identity of their own here, equal ones of one type are the same. */
static fm_status t_sameas(fmj_run *r, fmj_value *out, const fmj_value *v, const fmj_args *a) {
    const fmj_value *w = &a->v[0];
    bool yes = v->type == w->type;
    if (yes && (v->type == FMJ_STR || fmj_is_number(v) || v->type == FMJ_NONE)) {
        FM_TRY(fmj_equal(r, &yes, v, w));
    } else if (yes) {
        yes = v->u.obj == w->u.obj;
    }
    *out = fmj_bool(yes);
    return FM_OK;
}

static fm_status t_in(fmj_run *r, fmj_value *out, const fmj_value *v, const fmj_args *a) {
    bool yes;
    FM_TRY(fmj_contains(r, &yes, &a->v[0], v));
    *out = fmj_bool(yes);
    return FM_OK;
}

static fm_status t_eq(fmj_run *r, fmj_value *out, const fmj_value *v, const fmj_args *a) {
    bool yes;
    FM_TRY(fmj_equal(r, &yes, v, &a->v[0]));
    *out = fmj_bool(yes);
    return FM_OK;
}

static fm_status t_ne(fmj_run *r, fmj_value *out, const fmj_value *v, const fmj_args *a) {
    FM_TRY(t_eq(r, out, v, a));
    out->u.b = !out->u.b;
    return FM_OK;
}

#define ORDER_TEST(name, text, expr)                                                                                   \
    static fm_status t_##name(fmj_run *r, fmj_value *out, const fmj_value *v, const fmj_args *a) {                     \
        int c;                                                                                                         \
        FM_TRY(fmj_order(r, &c, v, &a->v[0], text));                                                                   \
        *out = fmj_bool(expr);                                                                                         \
        return FM_OK;                                                                                                  \
    }
ORDER_TEST(lt, "<", c < 0)
ORDER_TEST(le, "<=", c <= 0)
ORDER_TEST(gt, ">", c == 1)
ORDER_TEST(ge, ">=", c == 0 || c == 1)
#undef ORDER_TEST

const fmj_row fmj_tests[] = {
    {"!=", t_ne, "other"},
    {"<", t_lt, "other"},
    {"<=", t_le, "other"},
    {"==", t_eq, "other"},
    {">", t_gt, "other"},
    {">=", t_ge, "other"},
    {"boolean", t_boolean, ""},
    {"callable", t_callable, ""},
    {"defined", t_defined, ""},
    {"divisibleby", t_divisibleby, "num"},
    {"eq", t_eq, "other"},
    {"equalto", t_eq, "other"},
    {"escaped", t_escaped, ""},
    {"even", t_even, ""},
    {"false", t_false, ""},
    {"filter", t_filter, ""},
    {"float", t_float, ""},
    {"ge", t_ge, "other"},
    {"greaterthan", t_gt, "other"},
    {"gt", t_gt, "other"},
    {"in", t_in, "seq"},
    {"integer", t_integer, ""},
    {"iterable", t_iterable, ""},
    {"le", t_le, "other"},
    {"lessthan", t_lt, "other"},
    {"lower", t_lower, ""},
    {"lt", t_lt, "other"},
    {"mapping", t_mapping, ""},
    {"ne", t_ne, "other"},
    {"none", t_none, ""},
    {"number", t_number, ""},
    {"odd", t_odd, ""},
    {"sameas", t_sameas, "other"},
    {"sequence", t_sequence, ""},
    {"string", t_string, ""},
    {"test", t_test, ""},
    {"true", t_true, ""},
    {"undefined", t_undefined, ""},
    {"upper", t_upper, ""},
    {0},
};
