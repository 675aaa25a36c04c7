/* Filters over sequences and mappings. */
#include <string.h>

#include "base/error.h"
#include "text/jinja_filter.h"

#define MAX_SLICES 100000

/* ---- Keys --------------------------------------------------------------------------------------- */

static fm_status path_text(fmj_run *r, fmj_path *out, const char *p, size_t n) {
    const char *end = p + n;
    for (;;) {
        const char *dot = memchr(p, '.', (size_t)(end - p)), *q = dot ? dot : end;
        size_t len = (size_t)(q - p);
        if (out->n == FM_ARRAY_LEN(out->part)) {
            FM_FAIL(FM_ERR_DATA, "an attribute of more than %zu parts", FM_ARRAY_LEN(out->part));
        }
        bool digits = len > 0 && len < 18;
        int64_t number = 0;
        for (size_t i = 0; digits && i < len; i++) {
            digits = p[i] >= '0' && p[i] <= '9';
            number = number * 10 + (p[i] - '0');
        }
        out->part[out->n] = fmj_int(number);
        if (!digits) {
            FM_TRY(fmj_str_view(r, &out->part[out->n], p, len));
        }
        out->n++;
        if (!dot) {
            return FM_OK;
        }
        p = dot + 1;
    }
}

fm_status fmj_path_parse(fmj_run *r, fmj_path *out, const fmj_value *attribute) {
    out->n = 0;
    out->def.type = FMJ_UNSET;
    if (!fmj_some(attribute)) {
        return FM_OK;
    }
    if (fmj_is_int(attribute)) {
        out->part[out->n++] = *attribute;
        return FM_OK;
    }
    if (attribute->type != FMJ_STR) {
        FM_FAIL(FM_ERR_DATA, "attribute: a string or an integer is expected, not %s", fmj_type_name(attribute));
    }
    return path_text(r, out, attribute->u.s->p, attribute->u.s->n);
}

fm_status fmj_path_get(fmj_run *r, fmj_value *out, const fmj_path *p, const fmj_value *item) {
    fmj_value v = *item;
    for (size_t i = 0; i < p->n; i++) {
        FM_TRY(fmj_get_item(r, out, &v, &p->part[i]));
        v = out->type == FMJ_UNDEFINED && fmj_some(&p->def) ? p->def : *out;
    }
    *out = v;
    return FM_OK;
}

fm_status fmj_fold(fmj_run *r, fmj_value *out, const fmj_value *v) {
    if (v->type == FMJ_STR) {
        return fmj_str_call(r, out, "lower", v, NULL, 0);
    }
    *out = *v;
    return FM_OK;
}

static fm_status key_of(fmj_run *r, fmj_value *out, const fmj_path *p, const fmj_value *item, bool fold) {
    fmj_value v;
    FM_TRY(fmj_path_get(r, &v, p, item));
    *out = v;
    return fold ? fmj_fold(r, out, &v) : FM_OK;
}

/* ---- Sorting ------------------------------------------------------------------------------------ */

typedef struct keyed {
    fmj_value key, item;
} keyed;

/* Stable merge sort; b comes before a only where b < a (a < b when reversed). */
static fm_status merge_runs(fmj_run *r, keyed *to, const keyed *from, size_t n, size_t width, bool reverse) {
    for (size_t at = 0; at < n; at += 2 * width) {
        size_t i = at, mid = FM_MIN(at + width, n), j = mid, end = FM_MIN(at + 2 * width, n);
        for (size_t k = at; k < end; k++) {
            bool second = i == mid;
            if (i < mid && j < end) {
                const keyed *x = reverse ? &from[i] : &from[j], *y = reverse ? &from[j] : &from[i];
                int c;
                FM_TRY(fmj_order(r, &c, &x->key, &y->key, "<"));
                second = c == -1;
            }
            to[k] = second ? from[j++] : from[i++];
        }
    }
    return FM_OK;
}

static fm_status sort_keyed(fmj_run *r, keyed **list, size_t n, bool reverse) {
    keyed *to = fmj_alloc(r, n * sizeof *to);
    FMJ_CHECK(to);
    for (size_t width = 1; width < n; width *= 2) {
        FM_TRY(merge_runs(r, to, *list, n, width, reverse));
        keyed *swap = *list;
        *list = to;
        to = swap;
    }
    return FM_OK;
}

static fm_status keyed_new(fmj_run *r, keyed **out, size_t n) {
    *out = fmj_alloc(r, n * sizeof **out);
    FMJ_CHECK(*out);
    return fmj_step(r, n);
}

static fm_status keyed_list(fmj_run *r, fmj_value *out, const keyed *k, size_t n) {
    fmj_list *l;
    FM_TRY(fmj_list_new(r, &l, n));
    for (size_t i = 0; i < n; i++) {
        l->item[i] = k[i].item;
    }
    *out = fmj_of_list(FMJ_LIST, l);
    return FM_OK;
}

/* The attributes of sort, separated by commas: the key is a list of them. */
static fm_status sort_paths(fmj_run *r, fmj_path path[4], size_t *n, const fmj_value *attribute) {
    *n = 1;
    if (attribute->type != FMJ_STR) {
        return fmj_path_parse(r, &path[0], attribute);
    }
    const char *p = attribute->u.s->p, *end = p + attribute->u.s->n;
    for (*n = 0;;) {
        const char *comma = memchr(p, ',', (size_t)(end - p)), *q = comma ? comma : end;
        if (*n == 4) {
            FM_FAIL(FM_ERR_DATA, "sort takes 4 attributes at most");
        }
        path[*n].n = 0;
        path[*n].def.type = FMJ_UNSET;
        FM_TRY(path_text(r, &path[*n], p, (size_t)(q - p)));
        ++*n;
        if (!comma) {
            return FM_OK;
        }
        p = comma + 1;
    }
}

static fm_status f_sort(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_path path[4];
    size_t n_paths;
    fmj_list *l;
    keyed *k;
    bool fold = !fmj_arg_bool(&a->v[1], false);
    FM_TRY(sort_paths(r, path, &n_paths, &a->v[2]));
    FM_TRY(fmj_items(r, &l, self));
    FM_TRY(keyed_new(r, &k, l->n));
    for (size_t i = 0; i < l->n; i++) {
        fmj_list *key;
        FM_TRY(fmj_list_new(r, &key, n_paths));
        for (size_t j = 0; j < n_paths; j++) {
            FM_TRY(key_of(r, &key->item[j], &path[j], &l->item[i], fold));
        }
        k[i] = (keyed){fmj_of_list(FMJ_LIST, key), l->item[i]};
    }
    FM_TRY(sort_keyed(r, &k, l->n, fmj_arg_bool(&a->v[0], false)));
    return keyed_list(r, out, k, l->n);
}

static fm_status pair(fmj_run *r, fmj_value *out, const fmj_value *x, const fmj_value *y) {
    fmj_list *l;
    FM_TRY(fmj_list_new(r, &l, 2));
    l->item[0] = *x;
    l->item[1] = *y;
    *out = fmj_of_list(FMJ_TUPLE, l);
    return FM_OK;
}

static fm_status f_dictsort(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_str *by;
    bool value = false, exact = fmj_arg_bool(&a->v[0], false);
    keyed *k;
    FM_TRY(fmj_arg_str(&by, &a->v[1], "by"));
    if (by) {
        value = fmj_str_eq(by, "value");
        if (!value && !fmj_str_eq(by, "key")) {
            FM_FAIL(FM_ERR_DATA, "You can only sort by either \"key\" or \"value\"");
        }
    }
    if (self->type == FMJ_UNDEFINED) {
        return fmj_fail_undefined(self);
    }
    if (self->type != FMJ_DICT) {
        FM_FAIL(FM_ERR_DATA, "dictsort: a mapping is expected, not %s", fmj_type_name(self));
    }
    const fmj_dict *d = self->u.dict;
    FM_TRY(keyed_new(r, &k, d->n));
    for (size_t i = 0; i < d->n; i++) {
        FM_TRY(pair(r, &k[i].item, &d->e[i].key, &d->e[i].value));
        k[i].key = value ? d->e[i].value : d->e[i].key;
        if (!exact) {
            fmj_value key = k[i].key;
            FM_TRY(fmj_fold(r, &k[i].key, &key));
        }
    }
    FM_TRY(sort_keyed(r, &k, d->n, fmj_arg_bool(&a->v[2], false)));
    return keyed_list(r, out, k, d->n);
}

/* Groups of equal keys after sorting: (key, items), with the names grouper and list. */
static fm_status f_groupby(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_path path;
    fmj_list *l, *groups, *items = NULL;
    keyed *k;
    bool exact = fmj_arg_bool(&a->v[2], false);
    FM_TRY(fmj_path_parse(r, &path, &a->v[0]));
    path.def = a->v[1];
    FM_TRY(fmj_items(r, &l, self));
    FM_TRY(keyed_new(r, &k, l->n));
    for (size_t i = 0; i < l->n; i++) {
        k[i].item = l->item[i];
        FM_TRY(key_of(r, &k[i].key, &path, &l->item[i], !exact));
    }
    FM_TRY(sort_keyed(r, &k, l->n, false));
    FM_TRY(fmj_list_new(r, &groups, l->n));
    groups->n = 0;
    for (size_t i = 0; i < l->n; i++) {
        bool same = false;
        if (i > 0) {
            FM_TRY(fmj_equal(r, &same, &k[i - 1].key, &k[i].key));
        }
        if (!same) {
            fmj_value key, list, *group = &groups->item[groups->n++];
            FM_TRY(fmj_path_get(r, &key, &path, &k[i].item));
            FM_TRY(fmj_list_new(r, &items, l->n - i));
            items->n = 0;
            list = fmj_of_list(FMJ_LIST, items);
            FM_TRY(pair(r, group, &key, &list));
            group->u.list->kind = "group";
        }
        items->item[items->n++] = k[i].item;
    }
    *out = fmj_of_list(FMJ_LIST, groups);
    return FM_OK;
}

static fm_status f_unique(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_path path;
    fmj_list *l, *kept;
    fmj_dict *seen;
    fmj_value none = fmj_none();
    FM_TRY(fmj_path_parse(r, &path, &a->v[1]));
    FM_TRY(fmj_items(r, &l, self));
    FM_TRY(fmj_list_new(r, &kept, l->n));
    FM_TRY(fmj_dict_new(r, &seen, 0));
    kept->n = 0;
    for (size_t i = 0; i < l->n; i++) {
        fmj_value key;
        FM_TRY(key_of(r, &key, &path, &l->item[i], !fmj_arg_bool(&a->v[0], false)));
        FM_TRY(fmj_hash_check(r, &key));
        if (!fmj_dict_find(seen, &key)) {
            FM_TRY(fmj_dict_put(r, seen, &key, &none));
            kept->item[kept->n++] = l->item[i];
        }
    }
    *out = fmj_of_list(FMJ_GENERATOR, kept);
    return FM_OK;
}

static fm_status extreme(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a, int sign) {
    fmj_path path;
    fmj_list *l;
    fmj_value best, key;
    size_t at = 0;
    FM_TRY(fmj_path_parse(r, &path, &a->v[1]));
    FM_TRY(fmj_items(r, &l, self));
    if (l->n == 0) {
        *out = fmj_undefined(NULL, FMJ_UNSET);
        return FM_OK;
    }
    for (size_t i = 0; i < l->n; i++) {
        int c = 0;
        FM_TRY(key_of(r, &key, &path, &l->item[i], !fmj_arg_bool(&a->v[0], false)));
        if (i > 0) {
            FM_TRY(fmj_order(r, &c, &key, &best, sign > 0 ? ">" : "<"));
        }
        if (i == 0 || c == sign) {
            best = key;
            at = i;
        }
    }
    *out = l->item[at];
    return FM_OK;
}

static fm_status f_min(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return extreme(r, out, self, a, -1);
}

static fm_status f_max(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return extreme(r, out, self, a, 1);
}

/* ---- One by one --------------------------------------------------------------------------------- */

/* The name in pos[at], looked up among filters or tests; the arguments behind it. */
static fm_status row_arg(const fmj_row **row, fmj_args *rest, const fmj_args *a, size_t at, bool test) {
    fmj_str *name;
    FM_TRY(fmj_arg_str(&name, &a->pos[at], test ? "test" : "filter"));
    *row = !name ? NULL : test ? fmj_row_find(fmj_tests, name->p, name->n) : fmj_filter_find(name->p, name->n);
    if (!*row) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "no %s named '%.*s'", test ? "test" : "filter",
                name ? (int)FM_MIN(name->n, (size_t)60) : 4, name ? name->p : "None");
    }
    *rest = *a;
    rest->pos += at + 1;
    rest->n_pos -= at + 1;
    return FM_OK;
}

/* map, select and reject look at nothing when what they are given is empty or None. */
static fm_status nothing(fmj_run *r, fmj_value *out) {
    fmj_list *l;
    FM_TRY(fmj_list_new(r, &l, 0));
    *out = fmj_of_list(FMJ_GENERATOR, l);
    return FM_OK;
}

static fm_status map_attribute(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_path path;
    fmj_list *l, *to;
    fmj_value attribute = {.type = FMJ_UNSET}, def = attribute;
    for (size_t i = 0; i < a->n_kw; i++) {
        if (fmj_str_eq(a->kw_name[i], "attribute")) {
            attribute = a->kw[i];
        } else if (fmj_str_eq(a->kw_name[i], "default")) {
            def = a->kw[i];
        } else {
            FM_FAIL(FM_ERR_DATA, "map: unexpected keyword argument '%.*s'", (int)FM_MIN(a->kw_name[i]->n, (size_t)60),
                    a->kw_name[i]->p);
        }
    }
    if (attribute.type == FMJ_UNSET) {
        FM_FAIL(FM_ERR_DATA, "map requires a filter argument");
    }
    FM_TRY(fmj_path_parse(r, &path, &attribute));
    path.def = def;
    FM_TRY(fmj_items(r, &l, self));
    FM_TRY(fmj_list_new(r, &to, l->n));
    for (size_t i = 0; i < l->n; i++) {
        FM_TRY(fmj_path_get(r, &to->item[i], &path, &l->item[i]));
    }
    *out = fmj_of_list(FMJ_GENERATOR, to);
    return FM_OK;
}

static fm_status f_map(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    const fmj_row *row;
    fmj_list *l, *to;
    fmj_args rest;
    if (!fmj_truth(self)) {
        return nothing(r, out);
    }
    if (a->n_pos == 0) {
        return map_attribute(r, out, self, a);
    }
    FM_TRY(row_arg(&row, &rest, a, 0, false));
    FM_TRY(fmj_items(r, &l, self));
    FM_TRY(fmj_list_new(r, &to, l->n));
    for (size_t i = 0; i < l->n; i++) {
        FM_TRY(fmj_step(r, 1));
        FM_TRY(fmj_row_call(r, &to->item[i], row, "filter", &l->item[i], &rest));
    }
    *out = fmj_of_list(FMJ_GENERATOR, to);
    return FM_OK;
}

/* select, reject and their *attr forms: items for which the test (truth without one) is `want`. */
static fm_status choose(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a, bool attr, bool want) {
    const fmj_row *row = NULL;
    fmj_path path = {.def = {.type = FMJ_UNSET}};
    fmj_list *l, *kept;
    fmj_args rest;
    size_t at = attr ? 1 : 0;
    if (!fmj_truth(self)) {
        return nothing(r, out);
    }
    if (a->n_pos < at) {
        FM_FAIL(FM_ERR_DATA, "Missing parameter for attribute name");
    }
    if (attr) {
        FM_TRY(fmj_path_parse(r, &path, &a->pos[0]));
    }
    if (a->n_pos > at) {
        FM_TRY(row_arg(&row, &rest, a, at, true));
    }
    FM_TRY(fmj_items(r, &l, self));
    FM_TRY(fmj_list_new(r, &kept, l->n));
    kept->n = 0;
    for (size_t i = 0; i < l->n; i++) {
        fmj_value v, yes;
        FM_TRY(fmj_step(r, 1));
        FM_TRY(fmj_path_get(r, &v, &path, &l->item[i]));
        yes = v;
        if (row) {
            FM_TRY(fmj_row_call(r, &yes, row, "test", &v, &rest));
        }
        if (fmj_truth(&yes) == want) {
            kept->item[kept->n++] = l->item[i];
        }
    }
    *out = fmj_of_list(FMJ_GENERATOR, kept);
    return FM_OK;
}

static fm_status f_select(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return choose(r, out, self, a, false, true);
}

static fm_status f_reject(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return choose(r, out, self, a, false, false);
}

static fm_status f_selectattr(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return choose(r, out, self, a, true, true);
}

static fm_status f_rejectattr(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    return choose(r, out, self, a, true, false);
}

/* ---- Parts -------------------------------------------------------------------------------------- */

static fm_status f_first(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_list *l;
    (void)a;
    if (self->type == FMJ_GENERATOR) { /* takes one item of it */
        l = self->u.list;
        *out = l->at < l->n ? l->item[l->at++] : fmj_undefined(NULL, FMJ_UNSET);
        return FM_OK;
    }
    FM_TRY(fmj_items(r, &l, self));
    *out = l->n > 0 ? l->item[0] : fmj_undefined(NULL, FMJ_UNSET);
    return FM_OK;
}

static fm_status f_last(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_list *l;
    (void)a;
    if (self->type == FMJ_GENERATOR) {
        FM_FAIL(FM_ERR_DATA, "'generator' object is not reversible");
    }
    FM_TRY(fmj_items(r, &l, self));
    *out = l->n > 0 ? l->item[l->n - 1] : fmj_undefined(NULL, FMJ_UNSET);
    return FM_OK;
}

static fm_status f_list(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_list *l, *copy;
    (void)a;
    FM_TRY(fmj_items(r, &l, self));
    FM_TRY(fmj_step(r, l->n / 8));
    FM_TRY(fmj_list_new(r, &copy, l->n));
    memcpy(copy->item, l->item, l->n * sizeof *l->item);
    *out = fmj_of_list(FMJ_LIST, copy);
    return FM_OK;
}

static fm_status f_items(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_list *l;
    (void)a;
    if (self->type != FMJ_DICT && self->type != FMJ_UNDEFINED) {
        FM_FAIL(FM_ERR_DATA, "Can only get item pairs from a mapping.");
    }
    size_t n = self->type == FMJ_DICT ? self->u.dict->n : 0;
    FM_TRY(fmj_step(r, n));
    FM_TRY(fmj_list_new(r, &l, n));
    for (size_t i = 0; i < n; i++) {
        const fmj_entry *e = &self->u.dict->e[i];
        FM_TRY(pair(r, &l->item[i], &e->key, &e->value));
    }
    *out = fmj_of_list(FMJ_GENERATOR, l);
    return FM_OK;
}

static fm_status f_length(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    int64_t n = fmj_len(self);
    (void)r;
    (void)a;
    if (n < 0) {
        FM_FAIL(FM_ERR_DATA, "object of type '%s' has no len()", fmj_type_name(self));
    }
    *out = fmj_int(n);
    return FM_OK;
}

static fm_status f_reverse(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_list *l, *to;
    (void)a;
    if (self->type == FMJ_STR) {
        fmj_value bound[3] = {fmj_none(), fmj_none(), fmj_int(-1)};
        return fmj_get_slice(r, out, self, bound);
    }
    FM_TRY(fmj_items(r, &l, self));
    FM_TRY(fmj_step(r, l->n / 8));
    FM_TRY(fmj_list_new(r, &to, l->n));
    for (size_t i = 0; i < l->n; i++) {
        to->item[i] = l->item[l->n - 1 - i];
    }
    /* As Jinja: what Python cannot reverse becomes a list. */
    *out = fmj_of_list(self->type == FMJ_GENERATOR ? FMJ_LIST : FMJ_GENERATOR, to);
    return FM_OK;
}

static fm_status f_join(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_path path;
    fmj_list *l;
    fmj_str *sep = NULL;
    fm_str text = {0};
    FM_TRY(fmj_path_parse(r, &path, &a->v[1]));
    FM_TRY(fmj_items(r, &l, self));
    if (fmj_given(&a->v[0])) {
        FM_TRY(fmj_to_str(r, &sep, &a->v[0]));
    }
    fm_status s = FM_OK;
    for (size_t i = 0; s == FM_OK && i < l->n; i++) {
        fmj_value v;
        s = fmj_step(r, 1);
        s = s == FM_OK ? fmj_path_get(r, &v, &path, &l->item[i]) : s;
        if (sep && i > 0) {
            fm_str_append(&text, sep->p, sep->n);
        }
        s = s == FM_OK ? fmj_print(r, &text, &v) : s;
    }
    if (s != FM_OK) {
        fm_str_free(&text);
        return s;
    }
    return fmj_str_take(r, out, &text);
}

/* A list of `n` items of l from `at`, then `fill` up to `total`. */
static fm_status part_of(fmj_run *r, fmj_value *out, const fmj_list *l, size_t at, size_t n, size_t total,
                         const fmj_value *fill) {
    fmj_list *part;
    FM_TRY(fmj_step(r, total));
    FM_TRY(fmj_list_new(r, &part, total));
    memcpy(part->item, l->item + at, n * sizeof *part->item);
    for (size_t i = n; i < total; i++) {
        part->item[i] = *fill;
    }
    *out = fmj_of_list(FMJ_LIST, part);
    return FM_OK;
}

static fm_status f_batch(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_list *l, *to;
    int64_t count;
    size_t at = 0;
    FM_TRY(fmj_arg_int(&count, &a->v[0], 0, "linecount"));
    FM_TRY(fmj_items(r, &l, self));
    FM_TRY(fmj_list_new(r, &to, l->n + 1));
    to->n = 0;
    if (count == 0 && l->n > 0) { /* Jinja's first batch is then empty, and the second has the rest */
        FM_TRY(part_of(r, &to->item[to->n++], l, 0, 0, 0, NULL));
    }
    size_t width = count > 0 ? (size_t)count : l->n;
    while (at < l->n) {
        size_t n = FM_MIN(width, l->n - at);
        bool fill = fmj_some(&a->v[1]) && count > 0 && n < width;
        if (fill && width > r->limits.memory / sizeof(fmj_value)) {
            FM_FAIL(FM_ERR_DATA, "batch: %lld items in a row are too many", (long long)count);
        }
        FM_TRY(part_of(r, &to->item[to->n++], l, at, n, fill ? width : n, &a->v[1]));
        at += n;
    }
    *out = fmj_of_list(FMJ_GENERATOR, to);
    return FM_OK;
}

static fm_status f_slice(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_list *l, *to;
    int64_t slices;
    size_t at = 0;
    FM_TRY(fmj_arg_int(&slices, &a->v[0], 0, "slices"));
    FM_TRY(fmj_items(r, &l, self));
    if (slices == 0 || slices > MAX_SLICES) {
        FM_FAIL(FM_ERR_DATA, slices ? "slice: more than %d slices" : "slice: integer division or modulo by zero%.0d",
                MAX_SLICES);
    }
    size_t n_slices = slices > 0 ? (size_t)slices : 0;
    FM_TRY(fmj_list_new(r, &to, n_slices));
    for (size_t i = 0; i < n_slices; i++) {
        bool extra = i < l->n % n_slices;
        size_t n = l->n / n_slices + extra;
        FM_TRY(part_of(r, &to->item[i], l, at, n, n + (!extra && fmj_some(&a->v[1])), &a->v[1]));
        at += n;
    }
    *out = fmj_of_list(FMJ_GENERATOR, to);
    return FM_OK;
}

static fm_status f_sum(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_path path;
    fmj_list *l;
    FM_TRY(fmj_path_parse(r, &path, &a->v[0]));
    FM_TRY(fmj_items(r, &l, self));
    *out = fmj_given(&a->v[1]) ? a->v[1] : fmj_int(0);
    if (out->type == FMJ_STR) {
        FM_FAIL(FM_ERR_DATA, "sum() can't sum strings [use ''.join(seq) instead]");
    }
    for (size_t i = 0; i < l->n; i++) {
        fmj_value v, sum = *out;
        FM_TRY(fmj_path_get(r, &v, &path, &l->item[i]));
        FM_TRY(fmj_binary(r, out, '+', &sum, &v));
    }
    return FM_OK;
}

const fmj_row fmj_filters_seq[] = {
    {"batch", f_batch, "linecount,fill_with="},
    {"count", f_length, ""},
    {"dictsort", f_dictsort, "case_sensitive=,by=,reverse="},
    {"first", f_first, ""},
    {"groupby", f_groupby, "attribute,default=,case_sensitive="},
    {"items", f_items, ""},
    {"join", f_join, "d=,attribute="},
    {"last", f_last, ""},
    {"length", f_length, ""},
    {"list", f_list, ""},
    {"map", f_map, "*"},
    {"max", f_max, "case_sensitive=,attribute="},
    {"min", f_min, "case_sensitive=,attribute="},
    {"reject", f_reject, "*"},
    {"rejectattr", f_rejectattr, "*"},
    {"reverse", f_reverse, ""},
    {"select", f_select, "*"},
    {"selectattr", f_selectattr, "*"},
    {"slice", f_slice, "slices,fill_with="},
    {"sort", f_sort, "reverse=,case_sensitive=,attribute="},
    {"sum", f_sum, "attribute=,start="},
    {"unique", f_unique, "case_sensitive=,attribute="},
    {0},
};
