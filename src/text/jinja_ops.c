/* Comparing and arithmetic by Python's rules; integers have 64 bits and overflow is an error. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "text/jinja.h"

#define MAX_DEPTH 200

/* ---- Equality and order ------------------------------------------------------------------------- */

static int order_double(double x, double y) {
    return x < y ? -1 : x > y ? 1 : x == y ? 0 : 2;
}

/* Exact for an integer against a float: the float is compared with the integer, not the other way round. */
static int order_mixed(int64_t i, double f) {
    if (isnan(f)) {
        return 2;
    }
    if (f >= 0x1p63 || f < -0x1p63) {
        return f > 0 ? -1 : 1;
    }
    int64_t whole = (int64_t)f;
    if (i != whole) {
        return i < whole ? -1 : 1;
    }
    return order_double(0, f - (double)whole);
}

static int order_numbers(const fmj_value *a, const fmj_value *b) {
    if (fmj_is_int(a) && fmj_is_int(b)) {
        int64_t x = fmj_as_int(a), y = fmj_as_int(b);
        return x < y ? -1 : x > y;
    }
    if (fmj_is_int(a)) {
        return order_mixed(fmj_as_int(a), b->u.f);
    }
    if (fmj_is_int(b)) {
        int c = order_mixed(fmj_as_int(b), a->u.f);
        return c == 2 ? 2 : -c;
    }
    return order_double(a->u.f, b->u.f);
}

static fm_status equal(fmj_run *r, bool *out, const fmj_value *a, const fmj_value *b, int depth);

static fm_status equal_dicts(fmj_run *r, bool *out, const fmj_dict *a, const fmj_dict *b, int depth) {
    *out = a->n == b->n;
    for (size_t i = 0; *out && i < a->n; i++) {
        const fmj_value *other = fmj_dict_find(b, &a->e[i].key);
        *out = other != NULL;
        if (other) {
            FM_TRY(equal(r, out, &a->e[i].value, other, depth + 1));
        }
    }
    return FM_OK;
}

static fm_status equal(fmj_run *r, bool *out, const fmj_value *a, const fmj_value *b, int depth) {
    FM_TRY(fmj_step(r, 1));
    if (depth > MAX_DEPTH) {
        FM_FAIL(FM_ERR_DATA, "values of more than %d levels cannot be compared", MAX_DEPTH);
    }
    if (fmj_is_number(a) && fmj_is_number(b)) {
        *out = order_numbers(a, b) == 0;
        return FM_OK;
    }
    *out = false;
    if (a->type != b->type) {
        return FM_OK;
    }
    switch (a->type) {
    case FMJ_STR:
        *out = a->u.s->n == b->u.s->n && memcmp(a->u.s->p, b->u.s->p, a->u.s->n) == 0;
        return FM_OK;
    case FMJ_NONE:
    case FMJ_UNDEFINED:
        *out = true;
        return FM_OK;
    case FMJ_LIST:
    case FMJ_TUPLE:
    case FMJ_RANGE:
    case FMJ_VIEW: /* views of the same kind with the same items; their order is not looked at by Python for keys */
        *out = a->u.list->n == b->u.list->n;
        for (size_t i = 0; *out && i < a->u.list->n; i++) {
            FM_TRY(equal(r, out, &a->u.list->item[i], &b->u.list->item[i], depth + 1));
        }
        return FM_OK;
    case FMJ_DICT:
        return equal_dicts(r, out, a->u.dict, b->u.dict, depth);
    default:
        *out = a->u.obj == b->u.obj;
        return FM_OK;
    }
}

fm_status fmj_equal(fmj_run *r, bool *out, const fmj_value *a, const fmj_value *b) {
    return equal(r, out, a, b, 0);
}

static fm_status order(fmj_run *r, int *out, const fmj_value *a, const fmj_value *b, const char *op, int depth) {
    FM_TRY(fmj_step(r, 1));
    if (fmj_is_number(a) && fmj_is_number(b)) {
        *out = order_numbers(a, b);
        return FM_OK;
    }
    if (a->type == FMJ_STR && b->type == FMJ_STR) { /* UTF-8 sorts as its code points do */
        size_t n = FM_MIN(a->u.s->n, b->u.s->n);
        int c = memcmp(a->u.s->p, b->u.s->p, n);
        *out = c ? (c < 0 ? -1 : 1) : a->u.s->n < b->u.s->n ? -1 : a->u.s->n > b->u.s->n;
        return FM_OK;
    }
    if (a->type == FMJ_UNDEFINED || b->type == FMJ_UNDEFINED) {
        return fmj_fail_undefined(a->type == FMJ_UNDEFINED ? a : b);
    }
    if (a->type == b->type && (a->type == FMJ_LIST || a->type == FMJ_TUPLE) && depth < MAX_DEPTH) {
        const fmj_list *x = a->u.list, *y = b->u.list;
        for (size_t i = 0; i < x->n && i < y->n; i++) {
            bool same;
            FM_TRY(equal(r, &same, &x->item[i], &y->item[i], depth + 1));
            if (!same) {
                return order(r, out, &x->item[i], &y->item[i], op, depth + 1);
            }
        }
        *out = x->n < y->n ? -1 : x->n > y->n;
        return FM_OK;
    }
    FM_FAIL(FM_ERR_DATA, "'%s' not supported between instances of '%s' and '%s'", op, fmj_type_name(a),
            fmj_type_name(b));
}

fm_status fmj_order(fmj_run *r, int *out, const fmj_value *a, const fmj_value *b, const char *op) {
    return order(r, out, a, b, op, 0);
}

fm_status fmj_contains(fmj_run *r, bool *out, const fmj_value *where, const fmj_value *what) {
    fmj_list *l;
    *out = false;
    if (where->type == FMJ_STR) {
        if (what->type == FMJ_UNDEFINED) {
            return fmj_fail_undefined(what);
        }
        if (what->type != FMJ_STR) {
            FM_FAIL(FM_ERR_DATA, "'in <string>' requires string as left operand, not %s", fmj_type_name(what));
        }
        FM_TRY(fmj_step(r, 1 + where->u.s->n / 256));
        *out = what->u.s->n == 0 || memmem(where->u.s->p, where->u.s->n, what->u.s->p, what->u.s->n) != NULL;
        return FM_OK;
    }
    if (where->type == FMJ_DICT) {
        FM_TRY(fmj_hash_check(r, what));
        *out = fmj_dict_find(where->u.dict, what) != NULL;
        return FM_OK;
    }
    FM_TRY(fmj_items(r, &l, where));
    for (size_t i = 0; i < l->n && !*out; i++) {
        FM_TRY(fmj_equal(r, out, &l->item[i], what));
    }
    return FM_OK;
}

/* ---- Arithmetic --------------------------------------------------------------------------------- */

static fm_status overflow(void) {
    FM_FAIL(FM_ERR_DATA, "an integer result exceeds 64 bits");
}

static fm_status power(fmj_value *out, int64_t a, int64_t b) {
    if (b < 0) {
        if (a == 0) {
            FM_FAIL(FM_ERR_DATA, "0.0 cannot be raised to a negative power");
        }
        *out = fmj_float(pow((double)a, (double)b));
        return FM_OK;
    }
    int64_t v = 1;
    for (; b > 0; b >>= 1) {
        if ((b & 1) && __builtin_mul_overflow(v, a, &v)) {
            return overflow();
        }
        if (b > 1 && __builtin_mul_overflow(a, a, &a)) {
            return overflow();
        }
    }
    *out = fmj_int(v);
    return FM_OK;
}

static fm_status ints(fmj_value *out, char op, int64_t a, int64_t b) {
    int64_t v = 0;
    bool over = false;
    if ((op == '/' || op == 'f' || op == '%') && b == 0) {
        FM_FAIL(FM_ERR_DATA, op == '/' ? "division by zero" : "integer division or modulo by zero");
    }
    switch (op) {
    case '+':
        over = __builtin_add_overflow(a, b, &v);
        break;
    case '-':
        over = __builtin_sub_overflow(a, b, &v);
        break;
    case '*':
        over = __builtin_mul_overflow(a, b, &v);
        break;
    case '/':
        *out = fmj_float((double)a / (double)b);
        return FM_OK;
    case '^':
        return power(out, a, b);
    default: /* towards minus infinity */
        if (a == INT64_MIN && b == -1) {
            over = op == 'f';
            break;
        }
        v = op == 'f' ? a / b : a % b;
        if (a % b != 0 && (a % b < 0) != (b < 0)) {
            v += op == 'f' ? -1 : b;
        }
        break;
    }
    *out = fmj_int(v);
    return over ? overflow() : FM_OK;
}

static fm_status floats(fmj_value *out, char op, double a, double b) {
    double v = 0;
    if ((op == '/' || op == 'f' || op == '%') && b == 0) {
        FM_FAIL(FM_ERR_DATA, op == '/' ? "float division by zero" : "float floor division by zero");
    }
    switch (op) {
    case '+':
        v = a + b;
        break;
    case '-':
        v = a - b;
        break;
    case '*':
        v = a * b;
        break;
    case '/':
        v = a / b;
        break;
    case '^':
        v = pow(a, b);
        if (a == 0 && b < 0) {
            FM_FAIL(FM_ERR_DATA, "0.0 cannot be raised to a negative power");
        }
        if (isinf(v) && !isinf(a) && !isinf(b)) {
            FM_FAIL(FM_ERR_DATA, "the result of ** is too large");
        }
        if (isnan(v) && !isnan(a) && !isnan(b)) {
            FM_FAIL(FM_ERR_DATA, "the result of ** is not a real number");
        }
        break;
    default: { /* as CPython's float_divmod */
        double mod = fmod(a, b), div = (a - mod) / b;
        if (mod != 0) {
            if ((b < 0) != (mod < 0)) {
                mod += b;
                div -= 1;
            }
        } else {
            mod = copysign(0, b);
        }
        if (div != 0) {
            double whole = floor(div);
            div = div - whole > 0.5 ? whole + 1 : whole;
        } else {
            div = copysign(0, a / b);
        }
        v = op == 'f' ? div : mod;
        break;
    }
    }
    *out = fmj_float(v);
    return FM_OK;
}

/* A string or sequence n times. */
static fm_status repeat(fmj_run *r, fmj_value *out, const fmj_value *v, int64_t times) {
    size_t n = v->type == FMJ_STR ? v->u.s->n : v->u.list->n * sizeof(fmj_value);
    size_t k = times < 0 ? 0 : (size_t)times;
    if (n > 0 && k > r->limits.memory / n) {
        FM_FAIL(FM_ERR_DATA, "a repetition takes more than %zu MiB", r->limits.memory >> 20);
    }
    k = n > 0 ? k : 0;
    FM_TRY(fmj_step(r, k * n / 256 + 1));
    if (v->type == FMJ_STR) {
        char *p = fmj_alloc(r, n * k);
        FMJ_CHECK(p);
        for (size_t i = 0; i < k; i++) {
            memcpy(p + i * n, v->u.s->p, n);
        }
        FM_TRY(fmj_str_view(r, out, p, n * k));
        out->safe = v->safe;
        return FM_OK;
    }
    fmj_list *l;
    FM_TRY(fmj_list_new(r, &l, v->u.list->n * k));
    for (size_t i = 0; i < k; i++) {
        memcpy(l->item + i * v->u.list->n, v->u.list->item, n);
    }
    *out = fmj_of_list((fmj_type)v->type, l);
    return FM_OK;
}

static fm_status add_lists(fmj_run *r, fmj_value *out, const fmj_value *a, const fmj_value *b) {
    fmj_list *l;
    size_t n = a->u.list->n, m = b->u.list->n;
    FM_TRY(fmj_step(r, (n + m) / 16 + 1));
    FM_TRY(fmj_list_new(r, &l, n + m));
    memcpy(l->item, a->u.list->item, n * sizeof *l->item);
    memcpy(l->item + n, b->u.list->item, m * sizeof *l->item);
    *out = fmj_of_list((fmj_type)a->type, l);
    return FM_OK;
}

static fm_status add_strings(fmj_run *r, fmj_value *out, const fmj_value *a, const fmj_value *b) {
    fmj_value x = *a, y = *b;
    if (a->safe != b->safe) { /* what is added to safe text is escaped */
        FM_TRY(fmj_escape(r, a->safe ? &y : &x, a->safe ? b : a));
    }
    FM_TRY(fmj_step(r, (x.u.s->n + y.u.s->n) / 256 + 1));
    FM_TRY(fmj_str_cat(r, out, x.u.s, y.u.s));
    out->safe = x.safe;
    return FM_OK;
}

fm_status fmj_binary(fmj_run *r, fmj_value *out, char op, const fmj_value *a, const fmj_value *b) {
    bool plain = a->type == FMJ_LIST || a->type == FMJ_TUPLE;
    if (op == '%' && a->type == FMJ_STR) {
        return fmj_percent(r, out, a->u.s, b);
    }
    if (a->type == FMJ_UNDEFINED || b->type == FMJ_UNDEFINED) {
        return fmj_fail_undefined(a->type == FMJ_UNDEFINED ? a : b);
    }
    if (fmj_is_number(a) && fmj_is_number(b)) {
        if (fmj_is_int(a) && fmj_is_int(b)) {
            return ints(out, op, fmj_as_int(a), fmj_as_int(b));
        }
        return floats(out, op, fmj_as_float(a), fmj_as_float(b));
    }
    if (op == '+' && a->type == FMJ_STR && b->type == FMJ_STR) {
        return add_strings(r, out, a, b);
    }
    if (op == '+' && plain && a->type == b->type) {
        return add_lists(r, out, a, b);
    }
    if (op == '*' && fmj_is_int(b) && (plain || a->type == FMJ_STR)) {
        return repeat(r, out, a, fmj_as_int(b));
    }
    if (op == '*' && fmj_is_int(a) && (b->type == FMJ_LIST || b->type == FMJ_TUPLE || b->type == FMJ_STR)) {
        return repeat(r, out, b, fmj_as_int(a));
    }
    const char *name = op == 'f' ? "//" : op == '^' ? "**" : (const char[]){op, 0};
    if (op == '+' && a->type == FMJ_STR) {
        FM_FAIL(FM_ERR_DATA, "can only concatenate str (not \"%s\") to str", fmj_type_name(b));
    }
    FM_FAIL(FM_ERR_DATA, "unsupported operand type(s) for %s: '%s' and '%s'", name, fmj_type_name(a), fmj_type_name(b));
}
