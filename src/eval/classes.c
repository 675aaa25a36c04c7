/* Labels and the averages over them. */
#include <stdlib.h>
#include <string.h>

#include "eval/metric.h"

fm_text fm_text_trim(fm_text t) {
    while (t.len > 0 && strchr(" \t\r\n", t.ptr[t.len - 1]) && t.ptr[t.len - 1]) {
        t.len--;
    }
    while (t.len > 0 && strchr(" \t\r\n", t.ptr[0]) && t.ptr[0]) {
        t.ptr++;
        t.len--;
    }
    return t;
}

/* Numbers by value, else by bytes: 2 before 10. */
static int compare(const void *a, const void *b) {
    const fm_text *x = a, *y = b;
    size_t n = FM_MIN(x->len, y->len);
    bool digits = x->len > 0 && y->len > 0 && x->len < 10 && y->len < 10;
    for (size_t i = 0; digits && i < FM_MAX(x->len, y->len); i++) {
        digits = (i >= x->len || (x->ptr[i] >= '0' && x->ptr[i] <= '9')) &&
                 (i >= y->len || (y->ptr[i] >= '0' && y->ptr[i] <= '9'));
    }
    if (digits && x->len != y->len) {
        return x->len < y->len ? -1 : 1;
    }
    int c = n > 0 ? memcmp(x->ptr, y->ptr, n) : 0;
    return c != 0 ? c : (x->len > y->len) - (x->len < y->len);
}

fm_status fm_labels_add(fm_label_set *l, fm_text name) {
    FM_TRY(fm_grow((void **)&l->name, &l->cap, l->n + 1, sizeof *l->name));
    l->name[l->n++] = name;
    return FM_OK;
}

fm_status fm_labels_sort(fm_label_set *l, const char *metric) {
    size_t n = 0;
    if (l->n > 0) {
        qsort(l->name, l->n, sizeof *l->name, compare);
    }
    for (size_t i = 0; i < l->n; i++) {
        if (n == 0 || compare(&l->name[n - 1], &l->name[i]) != 0) {
            l->name[n++] = l->name[i];
        }
    }
    l->n = n;
    if (n > FM_SCORE_LABELS) {
        FM_FAIL(FM_ERR_ARGUMENT, "%s: %zu different labels; at most %d are compared", metric, n, FM_SCORE_LABELS);
    }
    return FM_OK;
}

size_t fm_labels_find(const fm_label_set *l, fm_text name) {
    const fm_text *at = bsearch(&name, l->name, l->n, sizeof *l->name, compare);
    return (size_t)(at - l->name);
}

fm_status fm_labels_copy(fm_score *s, const fm_label_set *l) {
    s->label = fm_calloc(l->n + 1, sizeof *s->label);
    if (!s->label) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu labels", l->n);
    }
    for (size_t i = 0; i < l->n; i++) {
        s->label[i] = fm_strndup(l->name[i].len ? l->name[i].ptr : "", l->name[i].len);
        if (!s->label[i]) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu labels", l->n);
        }
        s->n_labels = i + 1;
    }
    return FM_OK;
}

static double ratio(double a, double b) {
    return b > 0 ? a / b : 0;
}

static void figures(double v[3], const fm_class_counts *c) {
    v[0] = ratio(c->right, c->said);
    v[1] = ratio(c->right, c->truth);
    v[2] = ratio(2 * c->right, c->said + c->truth);
}

fm_status fm_score_classes(fm_score *s, char *const *names, const fm_class_counts *c, size_t n) {
    static const char *const part[3] = {"precision", "recall", "f1"};
    double sums[3][3] = {{0}}; /* macro, weighted, micro */
    fm_class_counts all = {0};
    char name[64];
    for (size_t k = 0; k < n; k++) {
        all.right += c[k].right;
        all.said += c[k].said;
        all.truth += c[k].truth;
    }
    for (size_t k = 0; k < n; k++) {
        double v[3];
        figures(v, &c[k]);
        for (int i = 0; i < 3; i++) {
            sums[0][i] += v[i] / (double)n;
            sums[1][i] += v[i] * ratio(c[k].truth, all.truth);
            snprintf(name, sizeof name, "%s:%.48s", part[i], names[k]);
            FM_TRY(fm_score_add(s, name, v[i]));
        }
        snprintf(name, sizeof name, "support:%.48s", names[k]);
        FM_TRY(fm_score_add(s, name, c[k].truth));
    }
    figures(sums[2], &all);
    static const char *const average[3] = {"macro", "weighted", "micro"};
    for (int a = 0; a < 3; a++) {
        for (int i = 0; i < 3; i++) {
            snprintf(name, sizeof name, "%s_%s", average[a], part[i]);
            FM_TRY(fm_score_add(s, name, sums[a][i]));
        }
    }
    return FM_OK;
}
