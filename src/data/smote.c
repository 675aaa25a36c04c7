/* SMOTE: see smote.h. */
#include "data/smote.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/ranges.h"

void fm_smote_free(fm_smote *s) {
    fm_free(s->value);
    fm_free(s->class);
    fm_free(s->column_width);
    fm_free(s->is_list);
    fm_free(s->order);
    fm_free(s->first);
    fm_free(s->near);
    *s = (fm_smote){0};
}

/* Reads the numbers of a JSON list into v (NULL, or room for `most`) and gives how many there are; -1 when it is none.
 */
static int64_t numbers(const fm_cell *c, double *v, size_t most) {
    const char *p = c->text.ptr, *end = p + c->text.len;
    if (c->kind != FM_CELL_JSON || c->text.len < 2 || *p != '[') {
        return -1;
    }
    for (int64_t n = 0;; n++) { /* it is JSON, so that it ends with a bracket before the text does */
        char *after;
        double x = strtod(++p, &after);
        if (after == p || after >= end) {
            return -1;
        }
        if (v && (size_t)n < most) {
            v[n] = x;
        }
        for (p = after; p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'); p++) {
        }
        if (p >= end || (*p != ',' && *p != ']')) {
            return -1;
        }
        if (*p == ']') {
            return n + 1;
        }
    }
}

/* How many numbers each column has, from the first row that has all. */
static fm_status set_shape(fm_smote *s, const fm_rec *r, const fm_strlist *columns, bool *complete) {
    size_t width = 0;
    if (!s->column_width) {
        s->column_width = fm_calloc(columns->n, sizeof *s->column_width);
        s->is_list = fm_calloc(columns->n, sizeof *s->is_list);
        if (!s->column_width || !s->is_list) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate %zu columns", columns->n);
        }
    }
    for (size_t i = 0; i < columns->n; i++) {
        const fm_cell *c = fm_rec_get(r, columns->item[i]);
        double v;
        int64_t n = c ? numbers(c, NULL, 0) : -1;
        s->is_list[i] = n > 0;
        if (n <= 0 && !fm_rec_number(r, columns->item[i], &v)) {
            return FM_OK;
        }
        s->column_width[i] = n > 0 ? (size_t)n : 1;
        width += s->column_width[i];
    }
    s->width = width;
    *complete = true;
    return FM_OK;
}

fm_status fm_smote_add(fm_smote *s, const fm_rec *r, const fm_strlist *columns, int32_t class, bool *complete) {
    *complete = s->width > 0;
    if (s->width == 0) {
        FM_TRY(set_shape(s, r, columns, complete));
    }
    if (!*complete) {
        return FM_OK;
    }
    void *p = s->value, *q = s->class;
    FM_TRY(fm_grow(&p, &s->cap, s->n + 1, s->width * sizeof *s->value));
    s->value = p;
    FM_TRY(fm_grow(&q, &s->class_cap, s->n + 1, sizeof *s->class));
    s->class = q;
    FM_ASSERT(s->value);
    double *v = s->value + s->n * s->width, *end = v + s->width;
    for (size_t i = 0; i < columns->n; i++) {
        const fm_cell *c = fm_rec_get(r, columns->item[i]);
        bool good = c != NULL;
        if (good && s->is_list[i]) {
            good = numbers(c, v, (size_t)(end - v)) == (int64_t)s->column_width[i];
        } else if (good) {
            good = fm_rec_number(r, columns->item[i], v);
        }
        for (size_t k = 0; good && k < s->column_width[i]; k++) {
            good = isfinite(v[k]);
        }
        if (!good) {
            *complete = false;
            return FM_OK;
        }
        v += s->column_width[i];
    }
    s->class[s->n++] = class;
    if (r->part && !s->part[0]) {
        snprintf(s->part, sizeof s->part, "%s", r->part);
    }
    return FM_OK;
}

fm_status fm_smote_prepare(fm_smote *s, int n_classes) {
    s->order = fm_calloc(s->n + 1, sizeof *s->order);
    s->first = fm_calloc((size_t)n_classes + 2, sizeof *s->first);
    if (!s->order || !s->first) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot order %zu rows by class", s->n);
    }
    for (size_t i = 0; i < s->n; i++) {
        s->first[s->class[i] + 2]++;
    }
    for (int c = 1; c <= n_classes; c++) {
        s->first[c + 1] += s->first[c];
    }
    for (size_t i = 0; i < s->n; i++) { /* first[c + 1] runs from the beginning of class c to its end */
        s->order[s->first[s->class[i] + 1]++] = i;
    }
    return FM_OK;
}

static double distance(const fm_smote *s, size_t a, size_t b) {
    const double *x = s->value + a * s->width, *y = s->value + b * s->width;
    double sum = 0;
    for (size_t i = 0; i < s->width; i++) {
        sum += (x[i] - y[i]) * (x[i] - y[i]);
    }
    return sum;
}

/* The k nearest to row `at` of a class's rows, nearest first. */
static void find_near(const fm_smote *s, const size_t *rows, size_t n, size_t at, int32_t *near, double *far) {
    int found = 0;
    for (size_t j = 0; j < n; j++) {
        if (j == at) {
            continue;
        }
        double d = distance(s, rows[at], rows[j]);
        if (found == s->k && d >= far[found - 1]) {
            continue;
        }
        int p = found < s->k ? found++ : found - 1;
        for (; p > 0 && far[p - 1] > d; p--) {
            far[p] = far[p - 1];
            near[p] = near[p - 1];
        }
        far[p] = d;
        near[p] = (int32_t)j;
    }
}

fm_status fm_smote_make(fm_smote *s, int class, int k, fm_rng_key rng, uint64_t i, double *v) {
    const size_t *rows = s->order + s->first[class];
    const size_t n = s->first[class + 1] - s->first[class];
    FM_ASSERT(n > 0 && n <= INT32_MAX);
    if (!s->near) {
        s->k = k;
        s->near = fm_malloc(s->n * (size_t)k * sizeof *s->near);
        if (!s->near) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot hold %d neighbours of %zu rows", k, s->n);
        }
        memset(s->near, 0xFF, s->n * (size_t)k * sizeof *s->near);
    }
    const size_t at = (size_t)fm_rng_below(rng, 3 * i, n);
    const double *row = s->value + rows[at] * s->width;
    if (n == 1) {
        memcpy(v, row, s->width * sizeof *v);
        return FM_OK;
    }
    int32_t *near = s->near + rows[at] * (size_t)s->k;
    if (near[0] < 0) {
        double *far = fm_malloc((size_t)s->k * sizeof *far);
        if (!far) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot look for %d neighbours", s->k);
        }
        find_near(s, rows, n, at, near, far);
        fm_free(far);
    }
    const uint64_t choices = FM_MIN((uint64_t)s->k, n - 1);
    const double *other = s->value + rows[near[fm_rng_below(rng, 3 * i + 1, choices)]] * s->width;
    const double u = fm_rng_uniform(rng, 3 * i + 2);
    for (size_t j = 0; j < s->width; j++) {
        v[j] = row[j] + u * (other[j] - row[j]);
    }
    return FM_OK;
}

fm_status fm_smote_put(const fm_smote *s, fm_bump *a, fm_rec *r, const fm_strlist *columns, const double *v,
                       fm_str *room) {
    for (size_t i = 0; i < columns->n; i++) {
        if (!s->is_list[i]) {
            FM_TRY(fm_rec_set_float(a, r, columns->item[i], *v));
        } else {
            fm_str_clear(room);
            for (size_t k = 0; k < s->column_width[i]; k++) {
                fm_str_printf(room, "%s%.17g", k ? "," : "[", v[k]);
            }
            fm_str_putc(room, ']');
            FM_TRY(fm_str_check(room));
            FM_TRY(fm_rec_set_json(a, r, columns->item[i], room->data, room->len));
        }
        v += s->column_width[i];
    }
    return FM_OK;
}
