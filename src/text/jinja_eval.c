/* Expressions: names, calls, operators. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/jinja.h"

/* ---- Scopes ------------------------------------------------------------------------------------- */

fm_status fmj_scope_push(fmj_run *r) {
    fmj_scope *s = fmj_alloc(r, sizeof *s);
    FMJ_CHECK(s);
    *s = (fmj_scope){.parent = r->scope};
    r->scope = s;
    return FM_OK;
}

void fmj_scope_pop(fmj_run *r) {
    r->scope = r->scope->parent;
}

fm_status fmj_set_name(fmj_run *r, int32_t sym, const fmj_value *v) {
    fmj_scope *s = r->scope;
    for (size_t i = 0; i < s->n; i++) {
        if (s->v[i].sym == sym) {
            s->v[i].value = *v;
            return FM_OK;
        }
    }
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 4;
        struct fmj_binding *more = fmj_alloc(r, cap * sizeof *more);
        FMJ_CHECK(more);
        for (size_t i = 0; i < s->n; i++) {
            more[i] = s->v[i];
        }
        s->v = more;
        s->cap = cap;
    }
    s->v[s->n].sym = sym;
    s->v[s->n++].value = *v;
    return FM_OK;
}

static const fmj_value *lookup(const fmj_run *r, int32_t sym) {
    for (const fmj_scope *s = r->scope; s; s = s->parent) {
        for (size_t i = 0; i < s->n; i++) {
            if (s->v[i].sym == sym) {
                return &s->v[i].value;
            }
        }
    }
    return NULL;
}

fm_status fmj_assign(fmj_run *r, const fmj_node *target, const fmj_value *v) {
    if (target->kind == FMJ_N_NAME) {
        return fmj_set_name(r, target->sym, v);
    }
    if (target->kind == FMJ_N_NSREF) {
        const fmj_value *ns = lookup(r, target->sym);
        if (!ns || ns->type != FMJ_NAMESPACE) {
            FM_FAIL(FM_ERR_DATA, "cannot assign attribute on non-namespace object '%.*s'",
                    (int)FM_MIN(r->tpl->symbol[target->sym].len, (size_t)60), r->tpl->symbol[target->sym].ptr);
        }
        if (target->val.u.s->n > 0 && target->val.u.s->p[0] == '_') {
            FM_FAIL(FM_ERR_DATA, "attributes of a namespace cannot begin with an underscore");
        }
        return fmj_dict_put(r, ns->u.dict, &target->val, v);
    }
    fmj_list *l;
    FM_TRY(fmj_items(r, &l, v));
    if (l->n != target->n) {
        FM_FAIL(FM_ERR_DATA,
                l->n > target->n ? "too many values to unpack (expected %u, got %zu)"
                                 : "not enough values to unpack (expected %u, got %zu)",
                target->n, l->n);
    }
    for (uint32_t i = 0; i < target->n; i++) {
        FM_TRY(fmj_assign(r, target->list[i], &l->item[i]));
    }
    return FM_OK;
}

/* ---- Calls -------------------------------------------------------------------------------------- */

const fmj_row *fmj_row_find(const fmj_row *table, const char *name, size_t n) {
    for (; table->name; table++) {
        if (strncmp(table->name, name, n) == 0 && table->name[n] == '\0') {
            return table;
        }
    }
    return NULL;
}

/* Splits params at commas; sets v[] from the positional and named arguments. */
static fm_status bind_params(const fmj_row *row, const char *what, fmj_args *a) {
    const char *p = row->params;
    size_t n = 0, used = 0;
    while (*p) {
        size_t len = strcspn(p, ",="), i = 0;
        bool optional = p[len] == '=';
        fmj_value *v = &a->v[n];
        v->type = FMJ_UNSET;
        while (i < a->n_kw && !(a->kw_name[i]->n == len && memcmp(a->kw_name[i]->p, p, len) == 0)) {
            i++;
        }
        if (n < a->n_pos) {
            *v = a->pos[n];
        }
        if (i < a->n_kw) {
            if (v->type != FMJ_UNSET) {
                FM_FAIL(FM_ERR_DATA, "%s '%s' got multiple values for argument '%.*s'", what, row->name, (int)len, p);
            }
            *v = a->kw[i];
            used++;
        } else if (v->type == FMJ_UNSET && !optional) {
            FM_FAIL(FM_ERR_DATA, "%s '%s' needs the argument '%.*s'", what, row->name, (int)len, p);
        }
        n++;
        p += len + optional;
        p += *p == ',';
    }
    if (a->n_pos > n) {
        FM_FAIL(FM_ERR_DATA, "%s '%s' takes %zu arguments at most, %zu were given", what, row->name, n, a->n_pos);
    }
    if (used < a->n_kw) {
        for (size_t i = 0; i < a->n_kw; i++) { /* name one that is not known */
            const char *at = memmem(row->params, strlen(row->params), a->kw_name[i]->p, a->kw_name[i]->n);
            const char *end = at ? at + a->kw_name[i]->n : NULL;
            bool whole = at && (at == row->params || at[-1] == ',') && (!*end || *end == ',' || *end == '=');
            if (!whole || i + 1 == a->n_kw) {
                FM_FAIL(FM_ERR_DATA, "%s '%s' has no argument '%.*s'", what, row->name,
                        (int)FM_MIN(a->kw_name[i]->n, (size_t)60), a->kw_name[i]->p);
            }
        }
    }
    return FM_OK;
}

fm_status fmj_row_call(fmj_run *r, fmj_value *out, const fmj_row *row, const char *what, const fmj_value *self,
                       fmj_args *a) {
    if (row->params[0] != '*') {
        FM_TRY(bind_params(row, what, a));
    }
    return row->fn(r, out, self, a);
}

fm_status fmj_call(fmj_run *r, fmj_value *out, const fmj_value *fn, fmj_args *a) {
    fmj_value none = fmj_none();
    switch (fn->type) {
    case FMJ_FUNCTION:
        return fmj_row_call(r, out, fn->u.row, "function", &none, a);
    case FMJ_METHOD:
        return fmj_row_call(r, out, fn->u.method->row, "method", &fn->u.method->self, a);
    case FMJ_MACRO:
        return fmj_call_macro(r, out, fn->u.obj, a);
    case FMJ_LOOP:
        return fmj_call_loop(r, out, fn->u.obj, a);
    case FMJ_CYCLER:
    case FMJ_JOINER:
        return fmj_object_call(r, out, fn);
    case FMJ_UNDEFINED:
        return fmj_fail_undefined(fn);
    default:
        FM_FAIL(FM_ERR_DATA, "'%s' object is not callable", fmj_type_name(fn));
    }
}

static fm_status star_args(fmj_run *r, fmj_list **extra, fmj_dict **named, const fmj_call_args *a) {
    fmj_value v = fmj_none();
    if (a->star) {
        FM_TRY(fmj_eval(r, &v, a->star));
        FM_TRY(fmj_items(r, extra, &v));
    }
    if (a->dstar) {
        FM_TRY(fmj_eval(r, &v, a->dstar));
        if (v.type != FMJ_DICT) {
            FM_FAIL(FM_ERR_DATA, "argument after ** must be a mapping, not %s", fmj_type_name(&v));
        }
        *named = v.u.dict;
    }
    return FM_OK;
}

fm_status fmj_eval_args(fmj_run *r, fmj_args *out, const fmj_call_args *a) {
    fmj_list *extra = NULL;
    fmj_dict *named = NULL;
    out->pos = out->kw = NULL;
    out->kw_name = NULL;
    out->n_pos = out->n_kw = 0;
    if (!a) {
        return FM_OK;
    }
    FM_TRY(star_args(r, &extra, &named, a));
    size_t n = a->n_pos + (extra ? extra->n : 0), k = a->n_kw + (named ? named->n : 0);
    FM_TRY(fmj_step(r, n + k));
    fmj_value *v = fmj_alloc(r, (n + k) * sizeof *v);
    FMJ_CHECK(v);
    for (size_t i = 0; i < a->n_pos; i++) {
        FM_TRY(fmj_eval(r, &v[i], a->pos[i]));
    }
    for (size_t i = a->n_pos; i < n; i++) {
        v[i] = extra->item[i - a->n_pos];
    }
    out->pos = v;
    out->n_pos = n;
    out->kw = v + n;
    out->kw_name = a->kw_name;
    for (size_t i = 0; i < a->n_kw; i++) {
        FM_TRY(fmj_eval(r, &out->kw[i], a->kw[i]));
    }
    if (named) {
        fmj_str **name = fmj_alloc(r, k * sizeof *name);
        FMJ_CHECK(name);
        for (size_t i = 0; i < a->n_kw; i++) {
            name[i] = a->kw_name[i];
        }
        for (size_t i = 0; i < named->n; i++) {
            if (named->e[i].key.type != FMJ_STR) {
                FM_FAIL(FM_ERR_DATA, "keywords must be strings");
            }
            name[a->n_kw + i] = named->e[i].key.u.s;
            out->kw[a->n_kw + i] = named->e[i].value;
        }
        out->kw_name = name;
    }
    out->n_kw = k;
    return FM_OK;
}

/* ---- Operators ---------------------------------------------------------------------------------- */

static fm_status compare(fmj_run *r, fmj_value *out, const fmj_node *n) {
    fmj_value a, b;
    bool yes = true;
    FM_TRY(fmj_eval(r, &a, n->a));
    for (uint32_t i = 0; i < n->n && yes; i++, a = b) {
        int c = 0;
        FM_TRY(fmj_eval(r, &b, n->list[i]));
        char op = n->ops[i];
        switch (op) {
        case FMJ_OP_EQ:
        case FMJ_OP_NE:
            FM_TRY(fmj_equal(r, &yes, &a, &b));
            yes = yes == (op == FMJ_OP_EQ);
            break;
        case 'i':
        case 'n':
            FM_TRY(fmj_contains(r, &yes, &b, &a));
            yes = yes == (op == 'i');
            break;
        default:
            FM_TRY(fmj_order(r, &c, &a, &b, op == FMJ_OP_LE ? "<=" : op == FMJ_OP_GE ? ">=" : op == '<' ? "<" : ">"));
            yes = c != 2 && (op == '<' ? c < 0 : op == '>' ? c > 0 : op == FMJ_OP_LE ? c <= 0 : c >= 0);
            break;
        }
    }
    *out = fmj_bool(yes);
    return FM_OK;
}

static fm_status concat(fmj_run *r, fmj_value *out, const fmj_node *n) {
    fm_str s = {0};
    for (uint32_t i = 0; i < n->n; i++) {
        fmj_value v;
        fm_status st = fmj_eval(r, &v, n->list[i]);
        st = st == FM_OK ? fmj_print(r, &s, &v) : st;
        if (st != FM_OK) {
            fm_str_free(&s);
            return st;
        }
    }
    fm_status st = fmj_step(r, s.len / 256 + 1);
    if (st != FM_OK) {
        fm_str_free(&s);
        return st;
    }
    return fmj_str_take(r, out, &s);
}

static fm_status sign(fmj_run *r, fmj_value *out, const fmj_node *n) {
    fmj_value v = fmj_none(), zero = fmj_int(0);
    FM_TRY(fmj_eval(r, &v, n->a));
    if (v.type == FMJ_UNDEFINED) {
        return fmj_fail_undefined(&v);
    }
    if (!fmj_is_number(&v)) {
        FM_FAIL(FM_ERR_DATA, "bad operand type for unary %c: '%s'", n->kind == FMJ_N_NEG ? '-' : '+',
                fmj_type_name(&v));
    }
    if (v.type == FMJ_FLOAT) {
        *out = fmj_float(n->kind == FMJ_N_NEG ? -v.u.f : v.u.f);
        return FM_OK;
    }
    return fmj_binary(r, out, n->kind == FMJ_N_NEG ? '-' : '+', &zero, &v);
}

static fm_status list_or_dict(fmj_run *r, fmj_value *out, const fmj_node *n) {
    if (n->kind == FMJ_N_DICT) {
        fmj_dict *d;
        FM_TRY(fmj_dict_new(r, &d, n->n / 2));
        for (uint32_t i = 0; i < n->n; i += 2) {
            fmj_value k, v;
            FM_TRY(fmj_eval(r, &k, n->list[i]));
            FM_TRY(fmj_eval(r, &v, n->list[i + 1]));
            FM_TRY(fmj_dict_put(r, d, &k, &v));
        }
        *out = fmj_of_dict(d);
        return FM_OK;
    }
    fmj_list *l;
    FM_TRY(fmj_list_new(r, &l, n->n));
    for (uint32_t i = 0; i < n->n; i++) {
        FM_TRY(fmj_eval(r, &l->item[i], n->list[i]));
    }
    *out = fmj_of_list(n->kind == FMJ_N_LIST ? FMJ_LIST : FMJ_TUPLE, l);
    return FM_OK;
}

static fm_status unknown_row(const fmj_node *n) {
    const char *what = n->kind == FMJ_N_TEST ? "test" : "filter";
    (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "no %s named '%.*s'", what,
                       (int)FM_MIN(n->val.u.s->n, (size_t)60), n->val.u.s->p);
    return fm_error_hint("docs/templates.md lists the %ss", what);
}

fm_status fmj_eval_filters(fmj_run *r, fmj_value *out, const fmj_node *n, const fmj_value *inner) {
    fmj_value self = {.type = FMJ_NONE};
    fmj_args a;
    if (!n) {
        FM_ASSERT(inner);
        *out = *inner;
        return FM_OK;
    }
    if (n->a && n->a->kind == FMJ_N_FILTER) {
        FM_TRY(fmj_eval_filters(r, &self, n->a, inner));
    } else if (n->a) {
        FM_TRY(fmj_eval(r, &self, n->a));
    } else {
        FM_ASSERT(inner);
        self = *inner;
    }
    FM_TRY(fmj_eval_args(r, &a, n->args));
    r->line = n->line;
    return n->row ? fmj_row_call(r, out, n->row, "filter", &self, &a) : unknown_row(n);
}

static fm_status test(fmj_run *r, fmj_value *out, const fmj_node *n) {
    fmj_value self;
    fmj_args a;
    FM_TRY(fmj_eval(r, &self, n->a));
    FM_TRY(fmj_eval_args(r, &a, n->args));
    FM_TRY(n->row ? fmj_row_call(r, out, n->row, "test", &self, &a) : unknown_row(n));
    *out = fmj_bool(fmj_truth(out));
    return FM_OK;
}

static fm_status item(fmj_run *r, fmj_value *out, const fmj_node *n) {
    fmj_value v, key[3];
    FM_TRY(fmj_eval(r, &v, n->a));
    if (n->kind == FMJ_N_ITEM) {
        FM_TRY(fmj_eval(r, &key[0], n->b));
        return fmj_get_item(r, out, &v, &key[0]);
    }
    for (int i = 0; i < 3; i++) {
        key[i] = fmj_none();
        if (n->list[i]) {
            FM_TRY(fmj_eval(r, &key[i], n->list[i]));
        }
    }
    return fmj_get_slice(r, out, &v, key);
}

static fm_status call(fmj_run *r, fmj_value *out, const fmj_node *n) {
    fmj_value fn;
    fmj_args a;
    FM_TRY(fmj_eval(r, &fn, n->a));
    FM_TRY(fmj_eval_args(r, &a, n->args));
    r->line = n->line;
    return fmj_call(r, out, &fn, &a);
}

static void name(const fmj_run *r, fmj_value *out, const fmj_node *n) {
    const fmj_value *v = lookup(r, n->sym);
    const fmj_row *global = r->tpl->global[n->sym];
    if (v) {
        *out = *v;
    } else if (global) {
        *out = (fmj_value){.type = FMJ_FUNCTION, .u.row = global};
    } else {
        *out = fmj_undefined(n->val.u.s, FMJ_UNSET);
    }
}

static fm_status eval(fmj_run *r, fmj_value *out, const fmj_node *n) {
    fmj_value a, b;
    switch (n->kind) {
    case FMJ_N_CONST:
        *out = n->val;
        return FM_OK;
    case FMJ_N_NAME:
        name(r, out, n);
        return FM_OK;
    case FMJ_N_LIST:
    case FMJ_N_TUPLE:
    case FMJ_N_DICT:
        return list_or_dict(r, out, n);
    case FMJ_N_ATTR:
        FM_TRY(fmj_eval(r, &a, n->a));
        return fmj_get_attr(r, out, &a, n->val.u.s);
    case FMJ_N_ITEM:
    case FMJ_N_SLICE:
        return item(r, out, n);
    case FMJ_N_CALL:
        return call(r, out, n);
    case FMJ_N_FILTER:
        return fmj_eval_filters(r, out, n, NULL);
    case FMJ_N_TEST:
        return test(r, out, n);
    case FMJ_N_NEG:
    case FMJ_N_POS:
        return sign(r, out, n);
    case FMJ_N_NOT:
        FM_TRY(fmj_eval(r, &a, n->a));
        *out = fmj_bool(!fmj_truth(&a));
        return FM_OK;
    case FMJ_N_AND:
    case FMJ_N_OR:
        FM_TRY(fmj_eval(r, out, n->a));
        return fmj_truth(out) == (n->kind == FMJ_N_AND) ? fmj_eval(r, out, n->b) : FM_OK;
    case FMJ_N_BINARY:
        FM_TRY(fmj_eval(r, &a, n->a));
        FM_TRY(fmj_eval(r, &b, n->b));
        return fmj_binary(r, out, n->op, &a, &b);
    case FMJ_N_CONCAT:
        return concat(r, out, n);
    case FMJ_N_COMPARE:
        return compare(r, out, n);
    case FMJ_N_COND:
        FM_TRY(fmj_eval(r, &b, n->b));
        if (fmj_truth(&b) || n->c) {
            return fmj_eval(r, out, fmj_truth(&b) ? n->a : n->c);
        }
        *out = fmj_undefined(NULL, FMJ_UNSET);
        return FM_OK;
    default:
        FM_FAIL(FM_ERR_STATE, "a node of the template is not an expression");
    }
}

fm_status fmj_eval(fmj_run *r, fmj_value *out, const fmj_node *n) {
    if (--r->steps < 0) {
        return fmj_step(r, 0);
    }
    if (++r->depth > r->limits.max_depth) {
        FM_FAIL(FM_ERR_DATA, "the template goes more than %d levels deep", r->limits.max_depth);
    }
    r->line = n->line;
    fm_status s = eval(r, out, n);
    r->depth--;
    return s;
}
