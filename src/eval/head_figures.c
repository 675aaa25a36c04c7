/* Figures of heads as sums over rows, so that their intervals are drawn like all others. Definitions are those of
 * scikit-learn, SciPy and seqeval. */
#include <math.h>
#include <string.h>

#include "data/entities.h"
#include "eval/head.h"

#define MAX_ANSWER 64 /* tokens of an answer, as training's evaluation has it */

/* Per label behind rows, labels, and whether labels without a row count: right, said, true. */
#define CLASS_HEAD 3

static double macro_f1(const double *s) {
    double sum = 0, n = 0;
    int labels = s[0] > 0 ? (int)(s[1] / s[0] + 0.5) : 0;
    for (int k = 0; k < labels; k++) {
        const double *c = s + CLASS_HEAD + 3 * (ptrdiff_t)k;
        double all = c[1] + c[2];
        if (all > 0 || s[2] > 0) {
            n++;
            sum += all > 0 ? 2 * c[0] / all : 0;
        }
    }
    return n > 0 ? sum / n : (double)NAN;
}

/* right, said, true */
static double f1(const double *s) {
    return s[1] + s[2] > 0 ? 2 * s[0] / (s[1] + s[2]) : 0;
}
static double precision(const double *s) {
    return s[1] > 0 ? s[0] / s[1] : 0;
}
static double recall(const double *s) {
    return s[2] > 0 ? s[0] / s[2] : 0;
}

/* n, x, y, xx, yy, xy */
static double correlation(const double *s) {
    double n = s[0], vx = s[3] - s[1] * s[1] / n, vy = s[4] - s[2] * s[2] / n;
    return n > 1 && vx > 0 && vy > 0 ? (s[5] - s[1] * s[2] / n) / sqrt(vx) / sqrt(vy) : (double)NAN;
}

/* n, y, yy, squared errors */
static double r_squared(const double *s) {
    double total = s[2] - s[1] * s[1] / s[0];
    return total > 0 ? 1 - s[3] / total : s[3] > 0 ? 0 : 1;
}

typedef struct figure {
    const char *name, *definition;
    int n_stats; /* 0: by the number of labels */
    double (*finish)(const double *sum);
    bool lower_is_better;
} figure;

static const figure of_label[] = {
    {"accuracy", "share of rows with the right label", 2, NULL, false},
    {"f1_macro", "mean of the labels' F1, of labels that occur or are said (scikit-learn)", 0, macro_f1, false},
    {0},
};
static const figure of_labels[] = {
    {"f1_micro", "F1 over all decisions, a label is said from 0.5 on (scikit-learn)", 3, f1, false},
    {"f1_macro", "mean of the labels' F1 (scikit-learn)", 0, macro_f1, false},
    {"accuracy", "share of rows with all labels right", 2, NULL, false},
    {0},
};
static const figure of_numbers[] = {
    {"mse", "mean squared error", 2, NULL, true},
    {"mae", "mean absolute error", 2, NULL, true},
    {"r2", "1 - squared errors / squared deviations (scikit-learn)", 4, r_squared, false},
    {"pearson", "Pearson's correlation", 6, correlation, false},
    {"spearman", "Spearman's rank correlation (SciPy); its interval takes the ranks among all rows", 6, correlation,
     false},
    {0},
};
static const figure of_tags[] = {
    {"f1", "F1 of whole entities (seqeval)", 3, f1, false},
    {"precision", "share of the said entities that are right", 3, precision, false},
    {"recall", "share of the true entities that are said", 3, recall, false},
    {"accuracy", "share of words with the right tag", 2, NULL, false},
    {0},
};
static const figure of_span[] = {
    {"em", "share of answers with both ends right, in tokens", 2, NULL, false},
    {"f1", "overlap of tokens with the answer, mean over rows", 2, NULL, false},
    {0},
};
static const figure *const figures[] = {
    [FM_JUDGED_LABEL] = of_label, [FM_JUDGED_LABELS] = of_labels, [FM_JUDGED_NUMBERS] = of_numbers,
    [FM_JUDGED_TAGS] = of_tags,   [FM_JUDGED_SPAN] = of_span,
};

static bool wanted(const fm_eval *e, const char *name) {
    const fm_strlist *l = &e->cfg->metrics;
    bool on = l->n == 0;
    for (size_t i = 0; i < l->n; i++) {
        on = on || strcmp(l->item[i], name) == 0;
    }
    return on;
}

fm_status fm_head_measures(fm_eval *e, const fm_judged_head *h) {
    for (const figure *f = figures[h->what]; f->name; f++) {
        fm_measure m = {.n_stats = f->n_stats ? f->n_stats : CLASS_HEAD + 3 * h->n_outputs,
                        .finish = f->finish,
                        .lower_is_better = f->lower_is_better};
        int at;
        if (!wanted(e, f->name) || h->n_outputs > FM_MAX_STATS || m.n_stats > FM_MAX_STATS) {
            continue;
        }
        snprintf(m.name, sizeof m.name, "%s", f->name);
        snprintf(m.definition, sizeof m.definition, "%s", f->definition);
        FM_TRY(fm_eval_measure(e, &m, &at));
    }
    return FM_OK;
}

/* Where the numbers of a measure stand; NULL when it was not asked for. */
static double *place(const fm_eval *e, const fm_eval_scores *s, size_t i, const char *name) {
    double *v = s->stats + i * (size_t)e->n_stats;
    for (int k = 0; k < e->n_measures; k++) {
        if (strcmp(e->measure[k].name, name) == 0) {
            return v;
        }
        v += e->measure[k].n_stats;
    }
    return NULL;
}

static void put_share(const fm_eval *e, const fm_eval_scores *s, size_t i, const char *name, double share) {
    double *v = place(e, s, i, name);
    if (v) {
        v[0] = share;
        v[1] = 1;
    }
}

static void put_counts(const fm_eval *e, const fm_eval_scores *s, size_t i, const char *name, double right, double said,
                       double truth) {
    double *v = place(e, s, i, name);
    if (v) {
        v[0] = right;
        v[1] = said;
        v[2] = truth;
    }
}

static int best_of(const float *y, int n) {
    int best = 0;
    for (int k = 1; k < n; k++) {
        best = y[k] > y[best] ? k : best;
    }
    return best;
}

static fm_status say(fm_eval_scores *s, size_t i, const char *text, size_t n) {
    return fm_bump_sv(&s->arena, &s->output[i], text ? text : "", text ? n : 0);
}

static fm_status judge_label(const fm_eval *e, const fm_judged_head *h, fm_eval_scores *s, size_t i,
                             const fm_judged_text *t) {
    int truth = (int)t->values[0], said = best_of(t->scores, h->n_outputs);
    float rival = -INFINITY;
    for (int k = 0; k < h->n_outputs; k++) {
        rival = k != truth && t->scores[k] > rival ? t->scores[k] : rival;
    }
    s->rank[i] = (double)t->scores[truth] - (double)rival;
    put_share(e, s, i, "accuracy", said == truth);
    double *v = place(e, s, i, "f1_macro");
    if (v) {
        v[0] = 1;
        v[1] = h->n_outputs;
        v[CLASS_HEAD + 3 * (ptrdiff_t)said] += said == truth;
        v[CLASS_HEAD + 3 * (ptrdiff_t)said + 1]++;
        v[CLASS_HEAD + 3 * (ptrdiff_t)truth + 2]++;
    }
    return say(s, i, h->name[said], strlen(h->name[said]));
}

static fm_status judge_labels(const fm_eval *e, const fm_judged_head *h, fm_eval_scores *s, size_t i,
                              const fm_judged_text *t) {
    double right = 0, said = 0, truth = 0, wrong = 0, *v = place(e, s, i, "f1_macro");
    fm_str text = {0};
    if (v) {
        v[0] = 1;
        v[1] = h->n_outputs;
        v[2] = 1;
    }
    for (int k = 0; k < h->n_outputs; k++) {
        bool is = t->values[k] > 0.5F, says = t->scores[k] >= 0;
        right += is && says;
        said += says;
        truth += is;
        wrong += is != says;
        if (v) {
            v[CLASS_HEAD + 3 * (ptrdiff_t)k] += is && says;
            v[CLASS_HEAD + 3 * (ptrdiff_t)k + 1] += says;
            v[CLASS_HEAD + 3 * (ptrdiff_t)k + 2] += is;
        }
        if (says) {
            fm_str_printf(&text, "%s%s", text.len ? ", " : "", h->name[k]);
        }
    }
    s->rank[i] = -wrong;
    put_counts(e, s, i, "f1_micro", right, said, truth);
    put_share(e, s, i, "accuracy", wrong == 0);
    fm_status st = fm_str_check(&text);
    st = st == FM_OK ? say(s, i, text.data, text.len) : st;
    fm_str_free(&text);
    return st;
}

static fm_status judge_tags(const fm_eval *e, const fm_judged_head *h, fm_eval_scores *s, size_t i,
                            const fm_judged_text *t) {
    int32_t *said = fm_calloc((size_t)t->n_tokens + 1, 2 * sizeof *said), *truth = said ? said + t->n_tokens : NULL;
    int32_t n = 0, right = 0;
    fm_entity_counts c = {0};
    fm_str text = {0};
    if (!said) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for tags");
    }
    for (int32_t k = 0; k < t->n_tokens; k++) {
        if (t->marks[k] > 0) {
            said[n] = best_of(t->scores + (ptrdiff_t)k * h->n_outputs, h->n_outputs);
            truth[n] = t->marks[k] - 1;
            right += said[n] == truth[n];
            fm_str_printf(&text, "%s%s", n ? " " : "", h->name[said[n]]);
            n++;
        }
    }
    fm_entities_count(&c, h->name, said, truth, n);
    s->rank[i] = n > 0 ? (double)right / n : 1;
    static const char *const name[] = {"f1", "precision", "recall"};
    for (size_t k = 0; k < FM_ARRAY_LEN(name); k++) {
        put_counts(e, s, i, name[k], (double)c.right, (double)c.said, (double)c.wanted);
    }
    double *v = place(e, s, i, "accuracy");
    if (v) {
        v[0] = right;
        v[1] = n;
    }
    fm_status st = fm_str_check(&text);
    st = st == FM_OK ? say(s, i, text.data, text.len) : st;
    fm_str_free(&text);
    fm_free(said);
    return st;
}

static fm_status judge_span(const fm_eval *e, fm_eval_scores *s, size_t i, const fm_judged_text *t) {
    int32_t first = 0, begin = (int32_t)t->values[0], end = (int32_t)t->values[1];
    while (first < t->n_tokens && t->marks[first] <= 0) {
        first++;
    }
    int32_t b = first, last = first;
    double best = -INFINITY;
    for (int32_t k = first; k < t->n_tokens; k++) {
        for (int32_t j = k; j < FM_MIN(t->n_tokens, k + MAX_ANSWER); j++) {
            double y = (double)t->scores[2 * (ptrdiff_t)k] + (double)t->scores[2 * (ptrdiff_t)j + 1];
            if (y > best) {
                best = y;
                b = k;
                last = j;
            }
        }
    }
    int32_t common = FM_MAX(0, FM_MIN(last, end) - FM_MAX(b, begin) + 1);
    double overlap = 2.0 * common / (double)(last - b + 1 + end - begin + 1);
    char text[64];
    s->rank[i] = overlap;
    put_share(e, s, i, "em", b == begin && last == end);
    put_share(e, s, i, "f1", overlap);
    snprintf(text, sizeof text, "tokens %d to %d, expected %d to %d", (int)b, (int)last, (int)begin, (int)end);
    return say(s, i, text, strlen(text));
}

fm_status fm_head_judge(const fm_eval *e, const fm_judged_head *h, fm_eval_scores *s, size_t i,
                        const fm_judged_text *t) {
    switch (h->what) {
    case FM_JUDGED_LABEL:
        return judge_label(e, h, s, i, t);
    case FM_JUDGED_LABELS:
        return judge_labels(e, h, s, i, t);
    case FM_JUDGED_TAGS:
        return judge_tags(e, h, s, i, t);
    case FM_JUDGED_SPAN:
        return judge_span(e, s, i, t);
    case FM_JUDGED_NUMBERS:
        break;
    }
    return FM_OK;
}

/* x and y are taken less their means over all rows: sums keep their digits, correlations stay as they are. */
static void add_pair(double *v, double x, double y) {
    if (v) {
        v[0]++;
        v[1] += x;
        v[2] += y;
        v[3] += x * x;
        v[4] += y * y;
        v[5] += x * y;
    }
}

static double mean(const double *v, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += v[i];
    }
    return n > 0 ? sum / (double)n : 0;
}

static void add_numbers(const fm_eval *e, const fm_judged_head *h, const fm_eval_scores *s, const double *said,
                        const double *truth, double x0, double y0) {
    for (size_t i = 0; i < e->n_rows; i++) {
        double *mse = place(e, s, i, "mse"), *mae = place(e, s, i, "mae"), *r2 = place(e, s, i, "r2"),
               *pearson = place(e, s, i, "pearson"), worst = 0;
        for (int32_t k = 0; k < h->n_outputs; k++) {
            double x = said[i * (size_t)h->n_outputs + (size_t)k], y = truth[i * (size_t)h->n_outputs + (size_t)k];
            double d = x - y;
            worst = fmax(worst, fabs(d));
            if (mse) {
                mse[0] += d * d;
                mse[1]++;
            }
            if (mae) {
                mae[0] += fabs(d);
                mae[1]++;
            }
            if (r2) {
                r2[0]++;
                r2[1] += y - y0;
                r2[2] += (y - y0) * (y - y0);
                r2[3] += d * d;
            }
            add_pair(pearson, x - x0, y - y0);
        }
        s->rank[i] = -worst;
    }
}

fm_status fm_head_numbers(const fm_eval *e, const fm_judged_head *h, fm_eval_scores *s, const double *said,
                          const double *truth) {
    size_t width = (size_t)h->n_outputs, n = e->n_rows * width;
    double *x = fm_calloc(n + 1, 2 * sizeof *x), *y = x ? x + n : NULL;
    if (!x) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu numbers", n);
    }
    memcpy(x, said, n * sizeof *x);
    memcpy(y, truth, n * sizeof *y);
    add_numbers(e, h, s, said, truth, mean(said, n), mean(truth, n));
    fm_status st = fm_ranks(x, n);
    st = st == FM_OK ? fm_ranks(y, n) : st;
    for (size_t i = 0; i < n && st == FM_OK; i++) {
        double middle = ((double)n + 1) / 2;
        add_pair(place(e, s, i / width, "spearman"), x[i] - middle, y[i] - middle);
    }
    for (size_t i = 0; i < e->n_rows && st == FM_OK; i++) {
        fm_str text = {0};
        for (size_t k = 0; k < width; k++) {
            fm_str_printf(&text, "%s%.9g", k ? ", " : "", said[i * width + k]);
        }
        st = fm_str_check(&text);
        st = st == FM_OK ? say(s, i, text.data, text.len) : st;
        fm_str_free(&text);
    }
    fm_free(x);
    return st;
}
