/* Percentile bootstrap over rows (Efron 1979), paired for two models: the same rows are drawn for both. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "eval/task.h"

double fm_measure_value(const fm_measure *m, const double *sum) {
    return m->finish ? m->finish(sum) : sum[1] > 0 ? sum[0] / sum[1] : (double)NAN;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return isnan(x) || isnan(y) ? isnan(y) - isnan(x) : (x > y) - (x < y);
}

/* Sorted values -> the one at share q, between neighbours as numpy does. */
static double percentile(const double *v, int64_t n, double q) {
    double at = q * (double)(n - 1), low = floor(at);
    int64_t i = (int64_t)low;
    double a = v[i], b = v[i + 1 < n ? i + 1 : i];
    return a + (b - a) * (at - low);
}

static void range(double *v, int64_t n, double confidence, double *low, double *high) {
    qsort(v, (size_t)n, sizeof *v, by_value);
    *low = percentile(v, n, (1 - confidence) / 2);
    *high = percentile(v, n, (1 + confidence) / 2);
}

static void add(double *sum, const double *stats, int n) {
    for (int i = 0; i < n; i++) {
        sum[i] += stats[i];
    }
}

/* Of a mean of rows of weight 1: sample deviation / sqrt(n). */
static double standard_error(const fm_measure *m, const double *stats, int n_stats, const size_t *row, size_t n,
                             double mean) {
    double squares = 0;
    if (m->finish || n < 2) {
        return (double)NAN;
    }
    for (size_t i = 0; i < n; i++) {
        const double *v = stats + (row ? row[i] : i) * (size_t)n_stats;
        if (v[1] != 1) {
            return (double)NAN;
        }
        squares += (v[0] - mean) * (v[0] - mean);
    }
    return sqrt(squares / (double)(n - 1) / (double)n);
}

fm_status fm_bootstrap(fm_interval *out, const fm_measure *m, const double *stats, const double *other, int n_stats,
                       int at, const size_t *row, size_t n, int64_t times, double confidence, uint64_t seed) {
    double sum[FM_MAX_STATS] = {0}, sum_other[FM_MAX_STATS] = {0};
    *out = (fm_interval){
        .low = NAN, .high = NAN, .stderr_ = NAN, .difference = NAN, .diff_low = NAN, .diff_high = NAN, .p = NAN};
    stats += at;
    other = other ? other + at : NULL;
    for (size_t i = 0; i < n; i++) {
        size_t r = (row ? row[i] : i) * (size_t)n_stats;
        add(sum, stats + r, m->n_stats);
        if (other) {
            add(sum_other, other + r, m->n_stats);
        }
    }
    out->value = fm_measure_value(m, sum);
    out->stderr_ = standard_error(m, stats, n_stats, row, n, out->value);
    if (other) {
        out->difference = out->value - fm_measure_value(m, sum_other);
    }
    if (times < 1 || n < 2) {
        return FM_OK;
    }
    double *v = fm_calloc((size_t)times, 2 * sizeof *v), *d = v ? v + times : NULL;
    if (!v) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %lld resamples", (long long)times);
    }
    int64_t below = 0, above = 0;
    for (int64_t t = 0; t < times; t++) {
        fm_rng_key key = {.seed = seed, .stream = fm_rng_stream("bootstrap"), .step = (uint32_t)t};
        memset(sum, 0, sizeof sum);
        memset(sum_other, 0, sizeof sum_other);
        for (size_t i = 0; i < n; i++) {
            size_t pick = (size_t)fm_rng_below(key, i, n);
            size_t r = (row ? row[pick] : pick) * (size_t)n_stats;
            add(sum, stats + r, m->n_stats);
            if (other) {
                add(sum_other, other + r, m->n_stats);
            }
        }
        v[t] = fm_measure_value(m, sum);
        if (other) {
            d[t] = v[t] - fm_measure_value(m, sum_other);
            below += d[t] <= 0;
            above += d[t] >= 0;
        }
    }
    range(v, times, confidence, &out->low, &out->high);
    if (other) {
        range(d, times, confidence, &out->diff_low, &out->diff_high);
        out->p = fmin(1, 2 * (double)FM_MIN(below, above) / (double)times);
    }
    fm_free(v);
    return FM_OK;
}
