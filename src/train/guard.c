/* Spikes and non-finite steps. */
#include "train/guard.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, by_value);
    return n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
}

void fm_median_spread(const double *x, int n, double *median, double *spread) {
    FM_ASSERT(n > 0 && n <= FM_GUARD_WINDOW);
    double work[FM_GUARD_WINDOW];
    memcpy(work, x, (size_t)n * sizeof *x);
    *median = median_of(work, n);
    for (int i = 0; i < n; i++) {
        work[i] = fabs(x[i] - *median);
    }
    *spread = 1.4826 * median_of(work, n);
}

fm_verdict fm_guard_check(const fm_guard *g, double loss, double norm, double factor) {
    if (!isfinite(loss) || !isfinite(norm)) {
        return FM_STEP_NONFINITE;
    }
    if (factor <= 0 || g->n < FM_GUARD_MIN) {
        return FM_STEP_OK;
    }
    double median, spread;
    fm_median_spread(g->loss, g->n, &median, &spread);
    if (loss > median + factor * fmax(spread, 0.02 * fabs(median))) {
        return FM_STEP_LOSS_SPIKE;
    }
    fm_median_spread(g->norm, g->n, &median, &spread);
    return norm > median + factor * fmax(spread, 0.2 * median) ? FM_STEP_NORM_SPIKE : FM_STEP_OK;
}

bool fm_guard_outside(const fm_guard *g, double norm, double lo, double hi, double band[2]) {
    band[0] = lo;
    band[1] = hi > 0 ? hi : INFINITY;
    if (g->n >= FM_GUARD_MIN) {
        double median, spread;
        fm_median_spread(g->norm, g->n, &median, &spread);
        band[0] = lo > 0 ? lo : median / 10;
        band[1] = hi > 0 ? hi : median + 6 * fmax(spread, 0.2 * median);
    }
    return norm < band[0] || norm > band[1];
}

bool fm_guard_new_level(fm_guard *g, fm_verdict v, double norm, bool clipped) {
    if (v != FM_STEP_NORM_SPIKE || !clipped || g->skipped_in_row < FM_GUARD_PATIENCE) {
        return false;
    }
    for (int i = 0; i < g->n; i++) {
        g->norm[i] = norm;
    }
    return true;
}

void fm_guard_accept(fm_guard *g, double loss, double norm) {
    g->loss[g->at] = loss;
    g->norm[g->at] = norm;
    g->at = (g->at + 1) % FM_GUARD_WINDOW;
    g->n = FM_MIN(g->n + 1, FM_GUARD_WINDOW);
    g->skipped_in_row = 0;
}

void fm_guard_skip(fm_guard *g) {
    g->skipped++;
    g->skipped_in_row++;
}

static fm_status store_ring(fm_json *o, const char *key, const double *x, int n) {
    FM_TRY(fm_json_set(o, key, fm_json_new_array()));
    for (int i = 0; i < n; i++) {
        FM_TRY(fm_json_append(fm_json_get(o, key), fm_json_new_num(x[i])));
    }
    return FM_OK;
}

fm_status fm_guard_store(const fm_guard *g, fm_json *o) {
    FM_TRY(store_ring(o, "recent_loss", g->loss, g->n));
    FM_TRY(store_ring(o, "recent_grad_norm", g->norm, g->n));
    FM_TRY(fm_json_set(o, "recent_at", fm_json_new_int(g->at)));
    FM_TRY(fm_json_set(o, "skipped_in_row", fm_json_new_int(g->skipped_in_row)));
    return fm_json_set(o, "skipped_steps", fm_json_new_int(g->skipped));
}

fm_status fm_guard_load(fm_guard *g, const fm_json *o) {
    *g = (fm_guard){0};
    const fm_json *loss = fm_json_get(o, "recent_loss"), *norm = fm_json_get(o, "recent_grad_norm");
    size_t n = fm_json_size(loss);
    int64_t at;
    FM_TRY(fm_json_get_i64(&at, o, "recent_at", 0));
    FM_TRY(fm_json_get_i64(&g->skipped_in_row, o, "skipped_in_row", 0));
    FM_TRY(fm_json_get_i64(&g->skipped, o, "skipped_steps", 0));
    if (n > FM_GUARD_WINDOW || fm_json_size(norm) != n || at < 0 || at >= FM_GUARD_WINDOW) {
        FM_FAIL(FM_ERR_FORMAT, "the recent losses in the checkpoint are not a ring of %d", FM_GUARD_WINDOW);
    }
    for (size_t i = 0; i < n; i++) {
        g->loss[i] = fm_json_num(fm_json_at(loss, i), 0);
        g->norm[i] = fm_json_num(fm_json_at(norm, i), 0);
    }
    g->n = (int)n;
    g->at = (int)at;
    return FM_OK;
}
