/* Logistic regression: see linear.h. */
#include "data/linear.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"

#define NEWTON 100

fm_status fm_linear_add(fm_linear_rows *r, const uint16_t *feature, const float *value, size_t n, bool positive,
                        uint8_t fold) {
    void *f = r->feature, *v = r->value, *s = r->start, *p = r->positive, *k = r->fold;
    fm_status st = fm_grow(&f, &r->cap[0], r->n_values + n + 1, sizeof *r->feature);
    r->feature = f;
    st = st == FM_OK ? fm_grow(&v, &r->cap[1], r->n_values + n + 1, sizeof *r->value) : st;
    r->value = v;
    st = st == FM_OK ? fm_grow(&s, &r->cap[2], r->n + 2, sizeof *r->start) : st;
    r->start = s;
    st = st == FM_OK ? fm_grow(&p, &r->cap[3], r->n + 1, sizeof *r->positive) : st;
    r->positive = p;
    st = st == FM_OK ? fm_grow(&k, &r->cap[4], r->n + 1, sizeof *r->fold) : st;
    r->fold = k;
    FM_TRY(st);
    if (n) {
        memcpy(r->feature + r->n_values, feature, n * sizeof *feature);
        memcpy(r->value + r->n_values, value, n * sizeof *value);
    }
    r->start[r->n] = r->n_values;
    r->n_values += n;
    r->positive[r->n] = positive;
    r->fold[r->n++] = fold;
    r->start[r->n] = r->n_values;
    return FM_OK;
}

void fm_linear_free(fm_linear_rows *r) {
    fm_free(r->feature);
    fm_free(r->value);
    fm_free(r->start);
    fm_free(r->positive);
    fm_free(r->fold);
    *r = (fm_linear_rows){0};
}

double fm_linear_margin(const fm_linear *m, const uint16_t *feature, const float *value, size_t n) {
    double sum = m->bias;
    for (size_t i = 0; i < n; i++) {
        sum += m->weight[feature[i]] * (double)value[i];
    }
    return sum;
}

static double sigmoid(double x) {
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

/* ---- fitting ---- */

typedef struct fitting {
    const fm_linear_rows *rows;
    size_t *row; /* [n] rows that are fitted to */
    size_t n;
    double *logit;  /* [n]: of each row's dual variable, which is cost * weight(class) * sigmoid(logit) */
    double *square; /* [n]: |row|^2, the bias' 1 among it */
    double cost[2]; /* of other and positive rows */
    double tolerance;
} fitting;

/* The root t of h(t) = square * (cost * sigmoid(t) - dual) + margin + t: where the row's dual variable and its margin
 * agree. h rises by 1 and more; the bracket follows from 0 < sigmoid < 1. */
static double agree(double t, double square, double cost, double dual, double margin, double tolerance) {
    double low = -(margin + square * (cost - dual)), high = -(margin - square * dual);
    for (int i = 0; i < NEWTON; i++) {
        const double p = sigmoid(t), h = square * (cost * p - dual) + margin + t;
        if (fabs(h) < tolerance * 0.1) {
            break;
        }
        if (h > 0) {
            high = t;
        } else {
            low = t;
        }
        const double next = t - h / (1 + square * cost * p * (1 - p));
        t = next > low && next < high ? next : (low + high) / 2;
    }
    return t;
}

/* One row: its dual variable moves to where it is best with all others held. Returns how far it was, in logits. */
static double visit(fm_linear *m, fitting *k, size_t i) {
    const fm_linear_rows *r = k->rows;
    const size_t row = k->row[i], from = r->start[row], n = r->start[row + 1] - from;
    const double sign = r->positive[row] ? 1 : -1, cost = k->cost[r->positive[row]];
    const double margin = sign * fm_linear_margin(m, r->feature + from, r->value + from, n);
    const double off = fabs(margin + k->logit[i]), dual = cost * sigmoid(k->logit[i]);
    if (off < k->tolerance) {
        return off;
    }
    k->logit[i] = agree(k->logit[i], k->square[i], cost, dual, margin, k->tolerance);
    const double step = sign * (cost * sigmoid(k->logit[i]) - dual);
    m->bias += step;
    for (size_t j = from; j < from + n; j++) {
        m->weight[r->feature[j]] += step * (double)r->value[j];
    }
    return off;
}

/* Every row begins with a small part of its bound, as liblinear does: the logit of nothing would be minus infinity. */
static void begin(fm_linear *m, fitting *k) {
    *m = (fm_linear){0};
    for (size_t i = 0; i < k->n; i++) {
        const fm_linear_rows *r = k->rows;
        const size_t row = k->row[i];
        const double part = k->cost[r->positive[row]] * sigmoid(-7) * (r->positive[row] ? 1 : -1);
        k->logit[i] = -7;
        k->square[i] = 1;
        m->bias += part;
        for (size_t j = r->start[row]; j < r->start[row + 1]; j++) {
            m->weight[r->feature[j]] += part * (double)r->value[j];
            k->square[i] += (double)r->value[j] * (double)r->value[j];
        }
    }
}

fm_status fm_linear_fit(fm_linear *out, const fm_linear_rows *r, const fm_linear_options *o) {
    fitting k = {.rows = r, .tolerance = o->tolerance};
    size_t kind[2] = {0};
    *out = (fm_linear){0};
    k.row = fm_calloc(r->n + 1, sizeof *k.row);
    k.logit = fm_calloc(r->n + 1, sizeof *k.logit);
    k.square = fm_calloc(r->n + 1, sizeof *k.square);
    fm_status s = FM_OK;
    if (!k.row || !k.logit || !k.square) {
        s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "cannot fit a classifier to %zu rows", r->n);
    }
    for (size_t i = 0; i < r->n && s == FM_OK; i++) {
        if (o->leave_out < 0 || r->fold[i] != o->leave_out) {
            k.row[k.n++] = i;
            kind[r->positive[i]]++;
        }
    }
    if (s == FM_OK && (kind[0] == 0 || kind[1] == 0)) {
        s = fm_error_set(FM_ERR_DATA, __FILE__, __LINE__,
                         "a classifier needs different rows of both kinds: found %zu of the one, %zu of the other",
                         kind[1], kind[0]);
    }
    for (int c = 0; c < 2 && s == FM_OK; c++) {
        k.cost[c] = o->cost * (o->balanced ? (double)k.n / (2 * (double)FM_MAX(kind[c], 1)) : 1);
    }
    if (s == FM_OK) {
        begin(out, &k);
    }
    for (out->residual = INFINITY; s == FM_OK && out->passes < o->most_passes && out->residual > o->tolerance;
         out->passes++) {
        out->residual = 0;
        for (size_t i = 0; i < k.n; i++) {
            const size_t at = fm_permute(i, k.n, o->seed + (uint64_t)out->passes);
            const double off = visit(out, &k, at);
            out->residual = FM_MAX(out->residual, off);
        }
    }
    fm_free(k.row);
    fm_free(k.logit);
    fm_free(k.square);
    return s;
}

/* ---- probabilities ---- */

/* log(1 + exp(x)) - target * x */
static double loss_at(double x, double target) {
    return (x > 0 ? x + log1p(exp(-x)) : log1p(exp(x))) - target * x;
}

fm_linear_sigmoid fm_linear_calibrate(const double *margin, const bool *positive, size_t n, const double weight[2]) {
    double kind[2] = {0}, scale = 1e-9;
    for (size_t i = 0; i < n; i++) {
        kind[positive[i]] += 1;
        scale = FM_MAX(scale, fabs(margin[i]));
    }
    const double target[2] = {1 / (kind[0] + 2), (kind[1] + 1) / (kind[1] + 2)};
    fm_linear_sigmoid at = {1, 0}, next = at;
    double loss = INFINITY, step = 1, da = 0, db = 0;
    for (int round = 0; round < NEWTON; round++) {
        double sum = 0, ga = 0, gb = 0, aa = 1e-12, ab = 0, bb = 1e-12;
        for (size_t i = 0; i < n; i++) {
            const double x = next.a * margin[i] + next.b, w = weight[positive[i]], t = target[positive[i]];
            const double p = sigmoid(x), g = w * (p - t), h = w * p * (1 - p);
            sum += w * loss_at(x, t);
            ga += g * margin[i];
            gb += g;
            aa += h * margin[i] * margin[i];
            ab += h * margin[i];
            bb += h;
        }
        if (!(sum <= loss)) { /* too far: half of the way */
            step /= 2;
            if (step < 1e-10) {
                break;
            }
        } else {
            const bool done = fabs(ga) < 1e-9 * scale * (double)n && fabs(gb) < 1e-9 * (double)n;
            const double det = aa * bb - ab * ab;
            at = next;
            loss = sum;
            if (done || !(det > 0)) {
                break;
            }
            da = (bb * ga - ab * gb) / det;
            db = (aa * gb - ab * ga) / det;
            step = 1;
        }
        next = (fm_linear_sigmoid){at.a - step * da, at.b - step * db};
    }
    return at;
}

double fm_linear_probability(fm_linear_sigmoid s, double margin) {
    return sigmoid(s.a * margin + s.b);
}
