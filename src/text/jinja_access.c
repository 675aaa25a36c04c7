/* What is inside a value: length, items, attributes, subscripts, slices. */
#include <string.h>

#include "base/error.h"
#include "text/jinja.h"

const char *fmj_type_name(const fmj_value *v) {
    static const char *const name[] = {"unset",      "Undefined", "NoneType", "bool",      "int",
                                       "float",      "str",       "list",     "tuple",     "range",
                                       "dict_items", "generator", "dict",     "Namespace", "LoopContext",
                                       "Macro",      "function",  "method",   "Cycler",    "Joiner"};
    return v->type == FMJ_VIEW ? v->u.list->kind : name[v->type];
}

fm_status fmj_fail_undefined(const fmj_value *v) {
    const fmj_str *s = v->u.s;
    int n = s ? (int)FM_MIN(s->n, (size_t)200) : 0;
    if (!s) {
        FM_FAIL(FM_ERR_DATA, "an undefined value is used");
    }
    if (v->owner != FMJ_UNSET) {
        fmj_value of = {.type = v->owner};
        const char *type = v->owner == FMJ_VIEW ? "view" : fmj_type_name(&of);
        FM_FAIL(FM_ERR_DATA, "'%s object' has no attribute '%.*s'", type, n, s->p);
    }
    FM_FAIL(FM_ERR_DATA, "'%.*s' is undefined", n, s->p);
}

bool fmj_truth(const fmj_value *v) {
    switch (v->type) {
    case FMJ_UNSET:
    case FMJ_UNDEFINED:
    case FMJ_NONE:
        return false;
    case FMJ_BOOL:
        return v->u.b;
    case FMJ_INT:
        return v->u.i != 0;
    case FMJ_FLOAT:
        return v->u.f != 0;
    default:
        return fmj_len(v) != 0;
    }
}

int64_t fmj_len(const fmj_value *v) {
    switch (v->type) {
    case FMJ_UNDEFINED:
        return 0;
    case FMJ_STR:
        return fmj_chars(v->u.s);
    case FMJ_LIST:
    case FMJ_TUPLE:
    case FMJ_RANGE:
    case FMJ_VIEW:
        return (int64_t)v->u.list->n;
    case FMJ_DICT:
        return (int64_t)v->u.dict->n;
    case FMJ_LOOP:
        return (int64_t)((const fmj_loop *)v->u.obj)->items->n;
    default:
        return -1;
    }
}

static fm_status string_items(fmj_run *r, fmj_list *l, fmj_str *s) {
    size_t at = 0;
    for (size_t i = 0; i < l->n; i++) {
        size_t next = at + 1;
        while (next < s->n && ((unsigned char)s->p[next] & 0xC0) == 0x80) {
            next++;
        }
        FM_TRY(fmj_str_view(r, &l->item[i], s->p + at, next - at));
        l->item[i].u.s->chars = 1;
        at = next;
    }
    return FM_OK;
}

fm_status fmj_items(fmj_run *r, fmj_list **out, const fmj_value *v) {
    int64_t n = fmj_len(v);
    switch (v->type) {
    case FMJ_LIST:
    case FMJ_TUPLE:
    case FMJ_RANGE:
    case FMJ_VIEW:
        *out = v->u.list;
        return fmj_step(r, 1);
    case FMJ_UNDEFINED:
        return fmj_list_new(r, out, 0);
    case FMJ_STR:
        FM_TRY(fmj_step(r, (size_t)n));
        FM_TRY(fmj_list_new(r, out, (size_t)n));
        return string_items(r, *out, v->u.s);
    case FMJ_DICT:
        FM_TRY(fmj_step(r, (size_t)n));
        FM_TRY(fmj_list_new(r, out, (size_t)n));
        for (size_t i = 0; i < (size_t)n; i++) {
            (*out)->item[i] = v->u.dict->e[i].key;
        }
        return FM_OK;
    case FMJ_GENERATOR: {
        fmj_list *g = v->u.list, *rest = fmj_alloc(r, sizeof *rest);
        FMJ_CHECK(rest);
        *rest = (fmj_list){.n = g->n - g->at, .item = g->item + g->at};
        g->at = g->n;
        *out = rest;
        return FM_OK;
    }
    default:
        FM_FAIL(FM_ERR_DATA, "'%s' object is not iterable", fmj_type_name(v));
    }
}

/* ---- Attributes and subscripts ------------------------------------------------------------------ */

fm_status fmj_bind(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_row *row) {
    fmj_method *m = fmj_alloc(r, sizeof *m);
    FMJ_CHECK(m);
    *m = (fmj_method){*self, row};
    *out = (fmj_value){.type = FMJ_METHOD, .u.method = m};
    return FM_OK;
}

/* A Python attribute (method) of v; *found false when there is none. */
static fm_status python_attr(fmj_run *r, fmj_value *out, bool *found, const fmj_value *v, fmj_str *name) {
    const fmj_row *table = v->type == FMJ_STR    ? fmj_str_methods
                           : v->type == FMJ_DICT ? fmj_dict_methods
                           : v->type == FMJ_LIST ? fmj_list_methods
                           : fmj_is_seq(v)       ? fmj_tuple_methods
                                                 : NULL;
    const fmj_row *row = table ? fmj_row_find(table, name->p, name->n) : NULL;
    *found = row != NULL;
    if (row) {
        return fmj_bind(r, out, v, row);
    }
    if (v->type == FMJ_TUPLE && v->u.list->kind && (fmj_str_eq(name, "grouper") || fmj_str_eq(name, "list"))) {
        *out = v->u.list->item[name->n == 4];
        *found = true;
        return FM_OK;
    }
    if (v->type == FMJ_LOOP || v->type == FMJ_MACRO || v->type == FMJ_CYCLER || v->type == FMJ_JOINER) {
        FM_TRY(v->type == FMJ_LOOP ? fmj_loop_attr(r, out, v->u.obj, name) : fmj_object_attr(r, out, v, name));
        *found = out->type != FMJ_UNDEFINED || out->owner != v->type;
    }
    return FM_OK;
}

fm_status fmj_get_attr(fmj_run *r, fmj_value *out, const fmj_value *v, fmj_str *name) {
    bool found = false;
    const fmj_value *member;
    switch (v->type) {
    case FMJ_UNDEFINED:
        return fmj_fail_undefined(v);
    case FMJ_NAMESPACE:
        member = fmj_dict_find_str(v->u.dict, name->p, name->n);
        *out = member ? *member : fmj_undefined(name, FMJ_NAMESPACE);
        return FM_OK;
    case FMJ_STR:
    case FMJ_LIST:
    case FMJ_TUPLE:
    case FMJ_RANGE:
    case FMJ_LOOP:
    case FMJ_MACRO:
    case FMJ_CYCLER:
    case FMJ_JOINER:
    case FMJ_DICT: /* a method hides a member of the same name, as in Jinja */
        FM_TRY(python_attr(r, out, &found, v, name));
        if (found) {
            return FM_OK;
        }
        break;
    default:
        break;
    }
    member = v->type == FMJ_DICT ? fmj_dict_find_str(v->u.dict, name->p, name->n) : NULL;
    *out = member ? *member : fmj_undefined(name, v->type);
    return FM_OK;
}

static fm_status undefined_key(fmj_run *r, fmj_value *out, const fmj_value *v, const fmj_value *key) {
    fmj_str *name;
    FM_TRY(fmj_to_str(r, &name, key));
    *out = fmj_undefined(name, v->type);
    return FM_OK;
}

fm_status fmj_get_item(fmj_run *r, fmj_value *out, const fmj_value *v, const fmj_value *key) {
    if (v->type == FMJ_UNDEFINED) {
        return fmj_fail_undefined(v);
    }
    if (v->type == FMJ_DICT) {
        bool plain = key->type != FMJ_LIST && key->type != FMJ_DICT;
        const fmj_value *member = NULL;
        if (plain) {
            FM_TRY(fmj_hash_check(r, key));
            member = fmj_dict_find(v->u.dict, key);
        }
        if (member) {
            *out = *member;
            return FM_OK;
        }
    } else if (fmj_is_seq(v) || v->type == FMJ_STR) {
        if (fmj_is_int(key)) {
            int64_t n = fmj_len(v), i = fmj_as_int(key);
            i += i < 0 ? n : 0;
            if (i < 0 || i >= n) {
                return undefined_key(r, out, v, key);
            }
            if (v->type != FMJ_STR) {
                *out = v->u.list->item[i];
                return FM_OK;
            }
            FM_TRY(fmj_step(r, v->u.s->chars == (int64_t)v->u.s->n ? 1 : v->u.s->n / 16 + 1));
            size_t begin = fmj_char_offset(v->u.s, i), end = begin + 1;
            while (end < v->u.s->n && ((unsigned char)v->u.s->p[end] & 0xC0) == 0x80) {
                end++;
            }
            return fmj_str_view(r, out, v->u.s->p + begin, end - begin);
        }
    }
    if (key->type == FMJ_STR && v->type == FMJ_NAMESPACE) {
        return fmj_get_attr(r, out, v, key->u.s);
    }
    if (key->type == FMJ_STR) {
        bool found = false;
        FM_TRY(python_attr(r, out, &found, v, key->u.s));
        if (found) {
            return FM_OK;
        }
    }
    return undefined_key(r, out, v, key);
}

/* Python's slice.indices: begin, end and step over n items; FM_ERR_DATA for a step of 0. */
static fm_status slice_bounds(int64_t at[3], const fmj_value bound[3], int64_t n) {
    int64_t step = 1;
    for (int i = 0; i < 3; i++) {
        if (bound[i].type != FMJ_NONE && !fmj_is_int(&bound[i])) {
            FM_FAIL(FM_ERR_DATA, "slice indices must be integers or None, not %s", fmj_type_name(&bound[i]));
        }
    }
    if (bound[2].type != FMJ_NONE) {
        step = fmj_as_int(&bound[2]);
    }
    if (step == 0) {
        FM_FAIL(FM_ERR_DATA, "slice step cannot be zero");
    }
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
    at[0] = step < 0 ? high : low;
    at[1] = step < 0 ? low : high;
    at[2] = step;
    for (int i = 0; i < 2; i++) {
        if (bound[i].type != FMJ_NONE) {
            int64_t b = fmj_as_int(&bound[i]);
            if (b < 0) {
                b = b < -n ? low : b + n;
                b = b < low ? low : b;
            }
            at[i] = b > high ? high : b;
        }
    }
    return FM_OK;
}

fm_status fmj_get_slice(fmj_run *r, fmj_value *out, const fmj_value *v, const fmj_value bound[3]) {
    int64_t at[3], n = fmj_len(v);
    if (v->type == FMJ_UNDEFINED) {
        return fmj_fail_undefined(v);
    }
    if (v->type == FMJ_DICT) {
        FM_FAIL(FM_ERR_DATA, "unhashable type: 'slice'");
    }
    if (!fmj_is_seq(v) && v->type != FMJ_STR) {
        FM_FAIL(FM_ERR_DATA, "'%s' object is not subscriptable", fmj_type_name(v));
    }
    FM_TRY(slice_bounds(at, bound, n));
    int64_t gap = at[2] > 0 ? at[1] - at[0] : at[0] - at[1];
    uint64_t step = at[2] > 0 ? (uint64_t)at[2] : 0 - (uint64_t)at[2];
    size_t count = gap <= 0 ? 0 : (size_t)(((uint64_t)gap - 1) / step + 1);
    FM_TRY(fmj_step(r, count / 8 + 1));
    if (v->type == FMJ_STR && at[2] == 1) {
        if (count == 0) {
            return fmj_str_view(r, out, "", 0);
        }
        size_t b = fmj_char_offset(v->u.s, at[0]), e = fmj_char_offset(v->u.s, at[1]);
        return fmj_str_view(r, out, v->u.s->p + b, e - b);
    }
    fmj_list *from, *l;
    FM_TRY(fmj_items(r, &from, v));
    FM_TRY(fmj_list_new(r, &l, count));
    for (size_t i = 0; i < count; i++) {
        l->item[i] = from->item[at[0] + (int64_t)i * at[2]];
    }
    if (v->type == FMJ_STR) {
        fm_str s = {0};
        for (size_t i = 0; i < count; i++) {
            fm_str_append(&s, l->item[i].u.s->p, l->item[i].u.s->n);
        }
        return fmj_str_take(r, out, &s);
    }
    *out = fmj_of_list((fmj_type)v->type, l);
    if (v->type == FMJ_RANGE) {
        l->step = from->step * at[2];
        l->start = from->start + from->step * at[0];
        l->stop = from->start + from->step * at[1];
    }
    return FM_OK;
}
