/* Likeness to a domain by a classifier: see domain_judge.h. */
#include "data/domain_judge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/linear.h"

#define FOLDS     4
#define BINS      10
#define TOLERANCE 1e-3 /* logits */
#define PASSES    100

struct fm_domain_judge {
    fm_linear model[FOLDS];
    fm_linear_sigmoid sigmoid;
    size_t n[2]; /* texts learnt from: rows, target */
    double auc, log_loss, gap;
    /* Of the text that is looked at: distinct features with their values. */
    uint32_t count[FM_LINEAR_FEATURES];
    uint16_t feature[FM_LINEAR_FEATURES];
    float value[FM_LINEAR_FEATURES];
};

static int fold_of(const fm_domain_text *t) {
    return (int)(fm_hash64(t->bucket, t->n * sizeof *t->bucket, 0) % FOLDS);
}

/* Logarithms of counts, of length 1; returns how many. */
static size_t features(fm_domain_judge *j, const fm_domain_text *t) {
    size_t n = 0;
    double square = 0;
    for (size_t i = 0; i < t->n; i++) {
        if (j->count[t->bucket[i]]++ == 0) {
            j->feature[n++] = t->bucket[i];
        }
    }
    for (size_t i = 0; i < n; i++) {
        const double v = log1p((double)j->count[j->feature[i]]);
        j->count[j->feature[i]] = 0;
        j->value[i] = (float)v;
        square += v * v;
    }
    for (size_t i = 0; i < n; i++) {
        j->value[i] = (float)((double)j->value[i] / sqrt(square));
    }
    return n;
}

/* Adds the texts of a spool, or a share of them that fits the bounds. */
static fm_status gather(fm_domain_judge *j, fm_linear_rows *rows, fm_spool *s, size_t n, bool positive, uint64_t seed) {
    fm_domain_text t = {0};
    const double all = (double)FM_MAX(s->n, 1) * 4; /* features, at most: a word of the spool holds four */
    const double share = FM_MIN(FM_JUDGE_ROWS / (double)FM_MAX(n, 1), FM_JUDGE_FEATURES / all);
    int language, topic;
    fm_status st = fm_spool_rewind(s);
    for (size_t i = 0; i < n && st == FM_OK; i++) {
        st = fm_domain_spool_get(s, &t, &language, &topic);
        const uint64_t h = fm_hash64(&i, sizeof i, seed ^ (positive ? 1 : 2));
        if (st == FM_OK && t.n && (double)(h >> 11) * 0x1p-53 < share) {
            const size_t k = features(j, &t);
            st = fm_linear_add(rows, j->feature, j->value, k, positive, (uint8_t)fold_of(&t));
            j->n[positive]++;
        }
    }
    fm_domain_text_free(&t);
    return st;
}

/* ---- how well it does ---- */

typedef struct judged {
    double margin;
    bool positive;
} judged;

static int by_margin(const void *a, const void *b) {
    const judged *x = a, *y = b;
    return (x->margin > y->margin) - (x->margin < y->margin);
}

/* The chance that a text of the target stands above one of the rows (ties count half). */
static double area(judged *v, size_t n, const size_t kind[2]) {
    double below = 0, sum = 0;
    qsort(v, n, sizeof *v, by_margin);
    for (size_t i = 0, e; i < n; i = e) {
        double p = 0, q = 0;
        for (e = i; e < n && v[e].margin == v[i].margin; e++) {
            p += v[e].positive;
            q += !v[e].positive;
        }
        sum += p * (below + q / 2);
        below += q;
    }
    return sum / ((double)kind[0] * (double)kind[1]);
}

static fm_status measure(fm_domain_judge *j, const double *margin, const bool *positive, size_t n,
                         const double weight[2]) {
    judged *v = fm_malloc((n + 1) * sizeof *v);
    double said[BINS] = {0}, was[BINS] = {0}, all = 0;
    if (!v) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot order %zu texts", n);
    }
    for (size_t i = 0; i < n; i++) {
        const double p = fm_linear_probability(j->sigmoid, margin[i]), w = weight[positive[i]];
        const int bin = FM_MIN((int)(p * BINS), BINS - 1);
        v[i] = (judged){margin[i], positive[i]};
        said[bin] += w * p;
        was[bin] += positive[i] ? w : 0;
        all += w;
        j->log_loss -= w * log(FM_MAX(positive[i] ? p : 1 - p, 1e-300));
    }
    j->log_loss /= all;
    for (int b = 0; b < BINS; b++) {
        j->gap += fabs(said[b] - was[b]) / all;
    }
    j->auc = area(v, n, j->n);
    fm_free(v);
    return FM_OK;
}

static fm_status calibrate(fm_domain_judge *j, const fm_linear_rows *r) {
    const double weight[2] = {(double)r->n / (2 * (double)j->n[0]), (double)r->n / (2 * (double)j->n[1])};
    double *margin = fm_malloc((r->n + 1) * sizeof *margin);
    if (!margin) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot judge %zu texts", r->n);
    }
    for (size_t i = 0; i < r->n; i++) {
        const size_t from = r->start[i];
        margin[i] = fm_linear_margin(&j->model[r->fold[i]], r->feature + from, r->value + from, r->start[i + 1] - from);
    }
    j->sigmoid = fm_linear_calibrate(margin, r->positive, r->n, weight);
    fm_status s = measure(j, margin, r->positive, r->n, weight);
    fm_free(margin);
    return s;
}

static fm_status learn(fm_domain_judge *j, const fm_linear_rows *rows, double cost, uint64_t seed) {
    if (j->n[0] < FM_JUDGE_LEAST || j->n[1] < FM_JUDGE_LEAST) {
        (void)fm_error_set(FM_ERR_DATA, __FILE__, __LINE__,
                           "domain: expected at least %d rows with words of the target and as many of the input, found "
                           "%zu and %zu",
                           FM_JUDGE_LEAST, j->n[1], j->n[0]);
        return fm_error_hint("give more rows, or --method importance, which only counts words");
    }
    for (int f = 0; f < FOLDS; f++) {
        const fm_linear_options o = {.cost = cost,
                                     .tolerance = TOLERANCE,
                                     .balanced = true,
                                     .most_passes = PASSES,
                                     .leave_out = f,
                                     .seed = seed + (uint64_t)f};
        FM_TRY(fm_linear_fit(&j->model[f], rows, &o));
    }
    return calibrate(j, rows);
}

fm_status fm_domain_judge_fit(fm_domain_judge **out, fm_spool *target, size_t n_target, fm_spool *raw, size_t n_raw,
                              double cost, uint64_t seed) {
    fm_linear_rows rows = {0};
    fm_domain_judge *j = *out = fm_calloc(1, sizeof *j);
    if (!j) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot make a classifier");
    }
    fm_status s = gather(j, &rows, target, n_target, true, seed);
    s = s == FM_OK ? gather(j, &rows, raw, n_raw, false, seed) : s;
    s = s == FM_OK ? learn(j, &rows, cost, seed) : s;
    fm_linear_free(&rows);
    if (s != FM_OK) {
        fm_domain_judge_free(j);
        *out = NULL;
    }
    return s;
}

void fm_domain_judge_free(fm_domain_judge *j) {
    fm_free(j);
}

double fm_domain_judge_ask(fm_domain_judge *j, const fm_domain_text *t) {
    const size_t n = features(j, t);
    return fm_linear_probability(j->sigmoid, fm_linear_margin(&j->model[fold_of(t)], j->feature, j->value, n));
}

void fm_domain_judge_report(const fm_domain_judge *j, fm_str *json) {
    int passes = 0;
    for (int f = 0; f < FOLDS; f++) {
        passes += j->model[f].passes;
    }
    fm_str_printf(json,
                  "{\"target_rows\": %zu, \"rows\": %zu, \"passes\": %d, \"auc\": %.6f, \"log_loss\": %.6f, "
                  "\"calibration_error\": %.6f}",
                  j->n[1], j->n[0], passes, j->auc, j->log_loss, j->gap);
}
