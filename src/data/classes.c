/* Class counts: see classes.h. */
#include "data/classes.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

fm_status fm_classes_add(fm_classes *c, const fm_rec *r, const char *column) {
    const fm_cell *cell = fm_rec_get(r, column);
    if (!cell || fm_cell_is_empty(cell)) {
        c->without++;
        return FM_OK;
    }
    if (c->too_many) {
        return FM_OK;
    }
    size_t n = FM_ARRAY_LEN(c->slot), at = fm_hash64(cell->text.ptr, cell->text.len, 0) % n;
    for (; c->slot[at]; at = (at + 1) % n) {
        fm_class *k = &c->item[c->slot[at] - 1];
        if (fm_sv_eq(cell->text, k->name)) {
            k->rows++;
            return FM_OK;
        }
    }
    if (c->n == FM_CLASSES_MOST || memchr(cell->text.ptr, 0, cell->text.len)) {
        c->too_many = true;
        return FM_OK;
    }
    c->item[c->n] = (fm_class){fm_strndup(cell->text.ptr, cell->text.len), 1};
    if (!c->item[c->n].name) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate the name of a class");
    }
    c->slot[at] = (uint16_t)++c->n;
    return FM_OK;
}

void fm_classes_free(fm_classes *c) {
    for (size_t i = 0; c && i < c->n; i++) {
        fm_free(c->item[i].name);
    }
    if (c) {
        c->n = 0;
    }
}

double fm_classes_ratio(const fm_classes *c, const fm_class **most, const fm_class **least) {
    const fm_class *a = &c->item[0], *b = a;
    for (size_t i = 1; i < c->n; i++) {
        a = c->item[i].rows > a->rows ? &c->item[i] : a;
        b = c->item[i].rows < b->rows ? &c->item[i] : b;
    }
    *most = a;
    *least = b;
    return c->n < 2 || c->too_many ? 0 : (double)a->rows / (double)b->rows;
}

static int by_rows(const void *a, const void *b) {
    const fm_class *x = a, *y = b;
    return x->rows != y->rows ? (x->rows < y->rows ? 1 : -1) : strcmp(x->name, y->name);
}

fm_status fm_classes_json(fm_json **out, fm_classes *c, const char *column) {
    const fm_class *most, *least;
    *out = NULL;
    if (c->n == 0 || c->too_many) {
        return FM_OK;
    }
    double ratio = fm_classes_ratio(c, &most, &least);
    qsort(c->item, c->n, sizeof *c->item, by_rows); /* the slots are not needed any more */
    memset(c->slot, 0, sizeof c->slot);
    fm_json *o = *out = fm_json_new_object(), *list = fm_json_new_array();
    FM_TRY(fm_json_set(o, "values", list));
    FM_TRY(fm_json_set(o, "column", fm_json_new_str(column)));
    for (size_t i = 0; i < c->n; i++) {
        fm_json *e = fm_json_new_object();
        FM_TRY(fm_json_append(list, e));
        FM_TRY(fm_json_set(e, "value", fm_json_new_str(c->item[i].name)));
        FM_TRY(fm_json_set(e, "rows", fm_json_new_int(c->item[i].rows)));
    }
    FM_TRY(fm_json_set(o, "without", fm_json_new_int(c->without)));
    FM_TRY(fm_json_set(o, "ratio", fm_json_new_num(ratio)));
    return fm_json_set(o, "unbalanced", fm_json_new_bool(ratio > FM_CLASSES_RATIO));
}
