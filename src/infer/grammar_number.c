/* Numbers within bounds as GBNF: a range of whole numbers is a choice by length, and of one length a choice by the
 * first digit that differs. */
#include <math.h>
#include <stdio.h>

#include "base/error.h"
#include "infer/grammar.h"

#define DIGITS  16
#define LARGEST 9999999999999999LL /* of 16 digits */

static void any_digits(fm_str *out, int n) {
    if (n > 0) {
        fm_str_printf(out, "[0-9]{%d} ", n);
    }
}

/* Digits a[n] to b[n], as numbers of one length. low, high: that side is free. */
static void between(fm_str *out, const char *a, const char *b, int n, bool low, bool high) {
    char lo = low ? '0' : a[0], hi = high ? '9' : b[0];
    if (n == 0 || (low && high)) {
        any_digits(out, n);
        return;
    }
    if (n == 1) {
        fm_str_printf(out, "[%c-%c] ", lo, hi);
        return;
    }
    if (lo == hi) {
        fm_str_printf(out, "\"%c\" ", lo);
        between(out, a + 1, b + 1, n - 1, low, high);
        return;
    }
    fm_str_putc(out, '(');
    if (!low) {
        fm_str_printf(out, "\"%c\" ", lo);
        between(out, a + 1, b + 1, n - 1, false, true);
        lo++;
    }
    hi = high ? hi : (char)(hi - 1);
    if (lo <= hi) {
        fm_str_printf(out, "%s[%c-%c] ", low ? "" : "| ", lo, hi);
        any_digits(out, n - 1);
    }
    if (!high) {
        fm_str_printf(out, "| \"%c\" ", b[0]);
        between(out, a + 1, b + 1, n - 1, true, false);
    }
    fm_str_puts(out, ") ");
}

/* Alternatives for lo..hi, both 0 or more; `behind` stands behind each. True when there was one. */
static bool naturals(fm_str *out, long long lo, long long hi, bool any, const char *sign, const char *behind) {
    long long first = 0, last = 9;
    for (int n = 1; n <= DIGITS; n++) {
        long long a = FM_MAX(lo, first), b = FM_MIN(hi, last);
        if (a <= b) {
            char from[DIGITS + 4], to[DIGITS + 4];
            snprintf(from, sizeof from, "%0*lld", n, a);
            snprintf(to, sizeof to, "%0*lld", n, b);
            fm_str_printf(out, "%s%s", any ? "| " : "", sign);
            between(out, from, to, n, false, false);
            fm_str_puts(out, behind);
            any = true;
        }
        first = last + 1;
        last = last * 10 + 9;
    }
    return any;
}

static const char fraction[] = "(\".\" [0-9]{1,16})? ", zeros[] = "(\".\" \"0\"{1,16})? ",
                  more[] = "\".\" [0-9]{0,15} [1-9] [0-9]{0,4} ";

/* Numbers of one sign: lo..hi, 0 or more; above, below: the bound itself is out. */
static bool reals(fm_str *out, long long lo, long long hi, bool above, bool below, bool any, const char *sign) {
    if (above && lo < hi) { /* behind the bound, not it */
        any = naturals(out, lo, lo, any, sign, more);
        lo++;
    } else if (above) {
        return any;
    }
    if (hi >= LARGEST) {
        return naturals(out, lo, hi, any, sign, fraction);
    }
    any = naturals(out, lo, hi - 1, any, sign, fraction);
    return below ? any : naturals(out, FM_MAX(lo, hi), hi, any, sign, zeros);
}

static fm_status whole_bound(double v, double missing, bool whole, bool up, long long *out) {
    v = isnan(v) ? missing : v;
    if (whole) {
        v = up ? ceil(v) : floor(v);
    }
    if (v != floor(v)) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "JSON schema: a bound of %g for numbers cannot be enforced; whole ones can", v);
    }
    *out = (long long)fmax(fmin(v, (double)LARGEST), -(double)LARGEST);
    return FM_OK;
}

fm_status fm_grammar_number(fm_str *out, bool whole, const fm_number_bounds *b) {
    long long lo, hi;
    bool any = false, above = b->above_min, below = b->below_max;
    if (isnan(b->min) && isnan(b->max)) {
        fm_str_puts(out, whole ? "json-integer " : "json-number ");
        return FM_OK;
    }
    FM_TRY(whole_bound(b->min, -(double)LARGEST, whole, true, &lo));
    FM_TRY(whole_bound(b->max, (double)LARGEST, whole, false, &hi));
    if (whole) { /* a bound between two numbers is not one of them */
        lo += above && (double)lo == b->min;
        hi -= below && (double)hi == b->max;
    }
    fm_str_putc(out, '(');
    if (whole) {
        any = hi >= 0 && naturals(out, FM_MAX(lo, 0), hi, any, "", "");
        any = lo < 0 && -lo >= FM_MAX(1, -hi) ? naturals(out, FM_MAX(1, -hi), -lo, any, "\"-\" ", "") : any;
    } else {
        any = hi >= 0 && reals(out, FM_MAX(lo, 0), hi, above && lo >= 0, below, any, "");
        if (lo < 0) { /* mirrored; -0.5 is above -1 and below 0 */
            bool near_zero = hi >= 0;
            any = reals(out, near_zero ? 0 : -hi, -lo, near_zero || below, above, any, "\"-\" ");
        }
    }
    fm_str_puts(out, ") ");
    if (!any) {
        FM_FAIL(FM_ERR_ARGUMENT, "JSON schema: no number is within the bounds");
    }
    return FM_OK;
}
