#include "data/label_names.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

void fm_label_names_free(fm_label_names *l) {
    for (size_t i = 0; i < l->n; i++) {
        fm_free(l->name[i]);
    }
    fm_free(l->name);
    *l = (fm_label_names){0};
}

static int compare(const char *x, const char *y) {
    char *ex, *ey;
    double u = strtod(x, &ex), v = strtod(y, &ey);
    bool nx = *x && !*ex, ny = *y && !*ey;
    if (nx && ny && u != v) {
        return u < v ? -1 : 1;
    }
    return nx != ny ? (nx ? -1 : 1) : strcmp(x, y);
}

static int by_name(const void *a, const void *b) {
    return compare(*(char *const *)a, *(char *const *)b);
}

int fm_label_names_find(const fm_label_names *l, const char *p, size_t n) {
    if (!l->sorted || memchr(p, 0, n)) {
        for (size_t i = 0; i < l->n; i++) {
            if (strlen(l->name[i]) == n && memcmp(l->name[i], p, n) == 0) {
                return (int)i;
            }
        }
        return -1;
    }
    char small[256], *key = n < sizeof small ? small : fm_strndup(p, n);
    if (!key) {
        return -1;
    }
    if (key == small) {
        memcpy(small, p, n);
        small[n] = '\0';
    }
    char **at = bsearch(&key, l->name, l->n, sizeof *l->name, by_name);
    if (key != small) {
        fm_free(key);
    }
    return at ? (int)(at - l->name) : -1;
}

fm_status fm_label_names_add(fm_label_names *l, const char *p, size_t n, size_t limit) {
    if (n == 0 || fm_label_names_find(l, p, n) >= 0) {
        return FM_OK;
    }
    if (l->n >= limit || memchr(p, 0, n)) {
        fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "the label column has more than %zu different values", limit);
        return fm_error_hint("numbers are learned by stage: reg");
    }
    void *q = l->name;
    FM_TRY(fm_grow(&q, &l->cap, l->n + 1, sizeof *l->name));
    l->name = q;
    l->name[l->n] = fm_strndup(p, n);
    if (!l->name[l->n]) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for labels");
    }
    l->n++;
    return FM_OK;
}

void fm_label_names_sort(fm_label_names *l) {
    if (l->n > 1) {
        qsort(l->name, l->n, sizeof *l->name, by_name);
    }
    l->sorted = true;
}

fm_status fm_label_names_take(fm_label_names *l, const fm_json *list) {
    for (size_t i = 0; i < fm_json_size(list); i++) {
        size_t n = 0;
        const char *name = fm_json_str(fm_json_at(list, i), &n);
        FM_TRY(name ? fm_label_names_add(l, name, n, FM_MAX_LABEL_NAMES) : FM_OK);
    }
    return FM_OK;
}

fm_status fm_label_names_put(const fm_label_names *l, fm_json *o, const char *key) {
    FM_TRY(fm_json_set(o, key, fm_json_new_array()));
    for (size_t i = 0; i < l->n; i++) {
        FM_TRY(fm_json_append(fm_json_get(o, key), fm_json_new_str(l->name[i])));
    }
    return FM_OK;
}
