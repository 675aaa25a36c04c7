/* Functions every template can call, and the objects they make. */
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "text/jinja.h"

#define MAX_RANGE 100000 /* as in Jinja's sandbox */

static fm_status g_range(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    int64_t v[3] = {0, 0, 1};
    fmj_list *l;
    (void)self;
    if (a->n_kw > 0 || a->n_pos < 1 || a->n_pos > 3) {
        FM_FAIL(FM_ERR_DATA, "range takes 1 to 3 arguments");
    }
    for (size_t i = 0; i < a->n_pos; i++) {
        FM_TRY(fmj_arg_int(&v[a->n_pos == 1 ? 1 : i], &a->pos[i], 0, "range"));
    }
    if (v[2] == 0) {
        FM_FAIL(FM_ERR_DATA, "range() arg 3 must not be zero");
    }
    bool empty = v[2] > 0 ? v[0] >= v[1] : v[0] <= v[1];
    uint64_t gap = v[2] > 0 ? (uint64_t)v[1] - (uint64_t)v[0] : (uint64_t)v[0] - (uint64_t)v[1];
    uint64_t step = v[2] > 0 ? (uint64_t)v[2] : 0 - (uint64_t)v[2], n = empty ? 0 : (gap - 1) / step + 1;
    if (n > MAX_RANGE) {
        FM_FAIL(FM_ERR_DATA, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", MAX_RANGE);
    }
    FM_TRY(fmj_step(r, (size_t)n / 8 + 1));
    FM_TRY(fmj_list_new(r, &l, (size_t)n));
    l->start = v[0];
    l->step = v[2];
    l->stop = v[1];
    for (size_t i = 0; i < l->n; i++) {
        l->item[i] = fmj_int(v[0] + (int64_t)i * v[2]);
    }
    *out = fmj_of_list(FMJ_RANGE, l);
    return FM_OK;
}

/* dict(mapping or pairs, **more). */
static fm_status dict_args(fmj_run *r, fmj_dict **out, const fmj_args *a) {
    FM_TRY(fmj_dict_new(r, out, a->n_kw));
    if (a->n_pos > 1) {
        FM_FAIL(FM_ERR_DATA, "dict expected at most 1 argument, got %zu", a->n_pos);
    }
    if (a->n_pos == 1 && a->pos[0].type == FMJ_DICT) {
        const fmj_dict *from = a->pos[0].u.dict;
        for (size_t i = 0; i < from->n; i++) {
            FM_TRY(fmj_dict_put(r, *out, &from->e[i].key, &from->e[i].value));
        }
    } else if (a->n_pos == 1) {
        fmj_list *l, *two;
        FM_TRY(fmj_items(r, &l, &a->pos[0]));
        for (size_t i = 0; i < l->n; i++) {
            FM_TRY(fmj_items(r, &two, &l->item[i]));
            if (two->n != 2) {
                FM_FAIL(FM_ERR_DATA, "dictionary update sequence element #%zu has length %zu; 2 is required", i,
                        two->n);
            }
            FM_TRY(fmj_dict_put(r, *out, &two->item[0], &two->item[1]));
        }
    }
    for (size_t i = 0; i < a->n_kw; i++) {
        fmj_value key = {.type = FMJ_STR, .u.s = a->kw_name[i]};
        FM_TRY(fmj_dict_put(r, *out, &key, &a->kw[i]));
    }
    return FM_OK;
}

static fm_status g_dict(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_dict *d;
    (void)self;
    FM_TRY(dict_args(r, &d, a));
    *out = fmj_of_dict(d);
    return FM_OK;
}

static fm_status g_namespace(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_dict *d;
    (void)self;
    FM_TRY(dict_args(r, &d, a));
    for (size_t i = 0; i < d->n; i++) {
        const fmj_value *k = &d->e[i].key;
        if (k->type == FMJ_STR && k->u.s->n > 0 && k->u.s->p[0] == '_') {
            FM_FAIL(FM_ERR_DATA, "attributes of a namespace cannot begin with an underscore");
        }
    }
    *out = (fmj_value){.type = FMJ_NAMESPACE, .u.dict = d};
    return FM_OK;
}

static fm_status g_raise(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_str *s;
    (void)self;
    (void)out;
    FM_TRY(fmj_to_str(r, &s, &a->v[0]));
    FM_FAIL(FM_ERR_DATA, "the template refuses this conversation: %.*s", (int)FM_MIN(s->n, (size_t)600), s->p);
}

static fm_status g_strftime_now(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    char format[256], text[1024];
    fmj_str *s;
    struct tm tm;
    time_t now = r->now ? (time_t)r->now : time(NULL);
    (void)self;
    FM_TRY(fmj_arg_str(&s, &a->v[0], "strftime_now"));
    if (!s || s->n >= sizeof format || memchr(s->p, 0, s->n)) {
        FM_FAIL(FM_ERR_DATA, "strftime_now takes a format of %zu bytes at most", sizeof format - 1);
    }
    memcpy(format, s->p, s->n);
    format[s->n] = '\0';
    if (!localtime_r(&now, &tm)) {
        FM_FAIL(FM_ERR_DATA, "strftime_now: the time %lld is out of range", (long long)now);
    }
    return fmj_str_copy(r, out, text, strftime(text, sizeof text, format, &tm));
}

/* ---- cycler and joiner -------------------------------------------------------------------------- */

typedef struct cycler {
    fmj_value *item; /* of a joiner: the separator */
    size_t n, at;
} cycler;

static fm_status cycler_new(fmj_run *r, fmj_value *out, fmj_type type, fmj_value *item, size_t n) {
    cycler *c = fmj_alloc(r, sizeof *c);
    FMJ_CHECK(c);
    *c = (cycler){item, n, 0};
    *out = (fmj_value){.type = (uint8_t)type, .u.obj = c};
    return FM_OK;
}

static fm_status g_cycler(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    (void)self;
    if (a->n_pos == 0 || a->n_kw > 0) {
        FM_FAIL(FM_ERR_DATA, "cycler takes the items to go through");
    }
    fmj_value *item = fmj_alloc(r, a->n_pos * sizeof *item);
    FMJ_CHECK(item);
    memcpy(item, a->pos, a->n_pos * sizeof *item);
    return cycler_new(r, out, FMJ_CYCLER, item, a->n_pos);
}

static fm_status g_joiner(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    (void)self;
    fmj_value *sep = fmj_alloc(r, sizeof *sep);
    FMJ_CHECK(sep);
    if (fmj_given(&a->v[0])) {
        *sep = a->v[0];
    } else {
        FM_TRY(fmj_str_view(r, sep, ", ", 2));
    }
    return cycler_new(r, out, FMJ_JOINER, sep, 1);
}

static fm_status cycler_next(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    cycler *c = self->u.obj;
    (void)r;
    (void)a;
    *out = c->item[c->at];
    c->at = (c->at + 1) % c->n;
    return FM_OK;
}

static fm_status cycler_reset(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    (void)r;
    (void)a;
    ((cycler *)self->u.obj)->at = 0;
    *out = fmj_none();
    return FM_OK;
}

fm_status fmj_object_attr(fmj_run *r, fmj_value *out, const fmj_value *v, fmj_str *name) {
    static const fmj_row methods[] = {{"next", cycler_next, ""}, {"reset", cycler_reset, ""}, {0}};
    *out = fmj_undefined(name, (fmj_type)v->type);
    if (v->type == FMJ_MACRO && fmj_str_eq(name, "name")) {
        *out = (fmj_value){.type = FMJ_STR, .u.s = ((const fmj_closure *)v->u.obj)->def->name};
    } else if (v->type == FMJ_CYCLER && fmj_str_eq(name, "current")) {
        const cycler *c = v->u.obj;
        *out = c->item[c->at];
    } else if (v->type == FMJ_CYCLER) {
        const fmj_row *row = fmj_row_find(methods, name->p, name->n);
        return row ? fmj_bind(r, out, v, row) : FM_OK;
    }
    return FM_OK;
}

fm_status fmj_object_call(fmj_run *r, fmj_value *out, const fmj_value *v) {
    cycler *c = v->u.obj;
    if (v->type != FMJ_JOINER) {
        FM_FAIL(FM_ERR_DATA, "'%s' object is not callable", fmj_type_name(v));
    }
    if (c->at++ == 0) { /* nothing the first time */
        return fmj_str_view(r, out, "", 0);
    }
    *out = c->item[0];
    return FM_OK;
}

const fmj_row fmj_globals[] = {
    {"cycler", g_cycler, "*"},
    {"dict", g_dict, "*"},
    {"joiner", g_joiner, "sep="},
    {"namespace", g_namespace, "*"},
    {"raise_exception", g_raise, "message"},
    {"range", g_range, "*"},
    {"strftime_now", g_strftime_now, "format"},
    {0},
};
