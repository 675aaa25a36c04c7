/* Numbers: errors and correlations, as scikit-learn and SciPy define them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/metric.h"

static fm_status number(double *out, fm_text t, size_t row, const char *side) {
    char text[64];
    t = fm_text_trim(t);
    if (t.len < sizeof text) {
        memcpy(text, t.ptr ? t.ptr : "", t.len);
        text[t.len] = '\0';
        if (t.len > 0 && fm_parse_f64(out, text) == FM_OK && isfinite(*out)) {
            return FM_OK;
        }
    }
    FM_FAIL(FM_ERR_DATA, "regression: row %zu: the %s \"%.*s\" is no finite number", row + 1, side,
            (int)FM_MIN(t.len, 40), t.ptr ? t.ptr : "");
}

typedef struct ranked {
    double value, rank;
    size_t row;
} ranked;

static int by_value(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    return (x->value > y->value) - (x->value < y->value);
}
static int by_row(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    return (x->row > y->row) - (x->row < y->row);
}

static double pearson(const double *x, const double *y, size_t n) {
    double mx = 0, my = 0, xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < n; i++) {
        mx += x[i] / (double)n;
        my += y[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
        xy += (x[i] - mx) * (y[i] - my);
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx) / sqrt(yy) : (double)NAN;
}

/* v -> its ranks; equal values share the mean of theirs. */
static void to_ranks(double *v, ranked *r, size_t n) {
    for (size_t i = 0; i < n; i++) {
        r[i] = (ranked){v[i], 0, i};
    }
    qsort(r, n, sizeof *r, by_value);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && r[end].value == r[i].value; end++) {
        }
        for (size_t k = i; k < end; k++) {
            r[k].rank = ((double)i + (double)end + 1) / 2;
        }
    }
    qsort(r, n, sizeof *r, by_row);
    for (size_t i = 0; i < n; i++) {
        v[i] = r[i].rank;
    }
}

fm_status fm_ranks(double *v, size_t n) {
    ranked *r = fm_calloc(n + 1, sizeof *r);
    if (!r) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu ranks", n);
    }
    to_ranks(v, r, n);
    fm_free(r);
    return FM_OK;
}

static double middle(double *v, ranked *r, size_t n) {
    for (size_t i = 0; i < n; i++) {
        r[i] = (ranked){v[i], 0, i};
    }
    qsort(r, n, sizeof *r, by_value);
    return (r[(n - 1) / 2].value + r[n / 2].value) / 2;
}

/* x what was said, y what is true, w room for n, r likewise. */
static fm_status figures(fm_score *out, double *x, double *y, double *w, ranked *r, size_t n) {
    double squares = 0, absolute = 0, most = 0, mean = 0, bias = 0, total = 0, spread = 0, rows = (double)n;
    for (size_t i = 0; i < n; i++) {
        double d = y[i] - x[i];
        w[i] = fabs(d);
        squares += d * d;
        absolute += fabs(d);
        bias += d / rows;
        mean += y[i] / rows;
        most = fmax(most, fabs(d));
    }
    for (size_t i = 0; i < n; i++) {
        double d = y[i] - x[i] - bias;
        total += (y[i] - mean) * (y[i] - mean);
        spread += d * d;
    }
    /* A reference without variance: 1 when it is met, else 0, as scikit-learn. */
    double r2 = total > 0 ? 1 - squares / total : squares > 0 ? 0 : 1;
    double explained = total > 0 ? 1 - spread / total : spread > 0 ? 0 : 1;
    out->value = sqrt(squares / rows);
    FM_TRY(fm_score_add(out, "mse", squares / rows));
    FM_TRY(fm_score_add(out, "rmse", out->value));
    FM_TRY(fm_score_add(out, "mae", absolute / rows));
    FM_TRY(fm_score_add(out, "median_absolute_error", middle(w, r, n)));
    FM_TRY(fm_score_add(out, "max_error", most));
    FM_TRY(fm_score_add(out, "r2", r2));
    FM_TRY(fm_score_add(out, "explained_variance", explained));
    FM_TRY(fm_score_add(out, "pearson", pearson(x, y, n)));
    to_ranks(x, r, n);
    to_ranks(y, r, n);
    return fm_score_add(out, "spearman", pearson(x, y, n));
}

fm_status fm_metric_regression(fm_score *out, const fm_score_rows *rows, const fm_score_options *o) {
    FM_UNUSED(o);
    size_t n = rows->n;
    if (rows->n_refs != 1) {
        FM_FAIL(FM_ERR_ARGUMENT, "regression: expected one reference, found %zu", rows->n_refs);
    }
    double *x = fm_calloc(n, 3 * sizeof *x);
    ranked *r = fm_calloc(n, sizeof *r);
    fm_status s = x && r ? FM_OK : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for %zu numbers", n);
    for (size_t i = 0; i < n && s == FM_OK; i++) {
        s = number(&x[i], rows->hyp[i], i, "prediction");
        s = s == FM_OK ? number(&x[n + i], rows->ref[i], i, "reference") : s;
    }
    s = s == FM_OK ? figures(out, x, x + n, x + 2 * n, r, n) : s;
    fm_free(x);
    fm_free(r);
    snprintf(out->signature, sizeof out->signature, "regression|rmse|version:fathom-%s", FATHOM_VERSION);
    return s;
}
