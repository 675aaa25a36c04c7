/* Methods of dicts, lists and tuples. Those that would change a value are refused, as Jinja's immutable sandbox does.
 */
#include "base/error.h"
#include "text/jinja.h"

static fm_status view(fmj_run *r, fmj_value *out, const fmj_dict *d, const char *kind, bool keys, bool values) {
    fmj_list *l;
    FM_TRY(fmj_step(r, d->n));
    FM_TRY(fmj_list_new(r, &l, d->n));
    l->kind = kind;
    for (size_t i = 0; i < d->n; i++) {
        if (keys && values) {
            fmj_list *pair;
            FM_TRY(fmj_list_new(r, &pair, 2));
            pair->item[0] = d->e[i].key;
            pair->item[1] = d->e[i].value;
            l->item[i] = fmj_of_list(FMJ_TUPLE, pair);
        } else {
            l->item[i] = keys ? d->e[i].key : d->e[i].value;
        }
    }
    *out = fmj_of_list(FMJ_VIEW, l);
    return FM_OK;
}

static fm_status d_items(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    (void)a;
    return view(r, out, self->u.dict, "dict_items", true, true);
}

static fm_status d_keys(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    (void)a;
    return view(r, out, self->u.dict, "dict_keys", true, false);
}

static fm_status d_values(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    (void)a;
    return view(r, out, self->u.dict, "dict_values", false, true);
}

static fm_status d_get(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    FM_TRY(fmj_hash_check(r, &a->v[0]));
    const fmj_value *v = fmj_dict_find(self->u.dict, &a->v[0]);
    *out = v ? *v : fmj_given(&a->v[1]) ? a->v[1] : fmj_none();
    return FM_OK;
}

static fm_status d_copy(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    (void)r;
    (void)a;
    *out = *self; /* nothing can change it */
    return FM_OK;
}

static fm_status refused(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    (void)r;
    (void)out;
    (void)a;
    (void)fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "a template cannot change a %s", fmj_type_name(self));
    return fm_error_hint("build a new value: list + [item], dict(old, **{'key': value}), or a namespace()");
}

const fmj_row fmj_dict_methods[] = {
    {"clear", refused, "*"},
    {"copy", d_copy, ""},
    {"get", d_get, "key,default="},
    {"items", d_items, ""},
    {"keys", d_keys, ""},
    {"pop", refused, "*"},
    {"popitem", refused, "*"},
    {"setdefault", refused, "*"},
    {"update", refused, "*"},
    {"values", d_values, ""},
    {0},
};

static fm_status l_index(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    const fmj_list *l = self->u.list;
    for (size_t i = 0; i < l->n; i++) {
        bool same;
        FM_TRY(fmj_equal(r, &same, &l->item[i], &a->v[0]));
        if (same) {
            *out = fmj_int((int64_t)i);
            return FM_OK;
        }
    }
    FM_FAIL(FM_ERR_DATA, "the value is not in the %s", fmj_type_name(self));
}

static fm_status l_count(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    int64_t n = 0;
    for (size_t i = 0; i < self->u.list->n; i++) {
        bool same;
        FM_TRY(fmj_equal(r, &same, &self->u.list->item[i], &a->v[0]));
        n += same;
    }
    *out = fmj_int(n);
    return FM_OK;
}

const fmj_row fmj_tuple_methods[] = {
    {"count", l_count, "value"},
    {"index", l_index, "value"},
    {0},
};

const fmj_row fmj_list_methods[] = {
    {"append", refused, "*"}, {"clear", refused, "*"},     {"copy", d_copy, ""},     {"count", l_count, "value"},
    {"extend", refused, "*"}, {"index", l_index, "value"}, {"insert", refused, "*"}, {"pop", refused, "*"},
    {"remove", refused, "*"}, {"reverse", refused, "*"},   {"sort", refused, "*"},   {0},
};
