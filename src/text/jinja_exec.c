/* Statements: output, conditions, loops, macros; and the start and end of a render. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/jinja.h"

/* How a body ended. */
typedef enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;

static fm_status exec(fmj_run *r, const fmj_node *body, flow *f);

/* ---- Output ------------------------------------------------------------------------------------- */

static fm_status emit_check(fmj_run *r, const fm_str *s) {
    if (s->len > r->limits.output) {
        FM_FAIL(FM_ERR_DATA, "the template makes a text of more than %zu MiB", r->limits.output >> 20);
    }
    return fm_str_check(s);
}

static fm_status emit(fmj_run *r, const fmj_value *v) {
    fm_str *s = &r->buf[r->at_buf];
    FM_TRY(fmj_print(r, s, v));
    return emit_check(r, s);
}

/* From here output goes to a buffer of its own until capture_end. */
static fm_status capture_begin(fmj_run *r) {
    if (r->at_buf + 1 == r->n_buf) {
        FM_TRY(fm_grow((void **)&r->buf, &r->cap_buf, r->n_buf + 1, sizeof *r->buf));
        r->buf[r->n_buf++] = (fm_str){0};
    }
    r->at_buf++;
    fm_str_clear(&r->buf[r->at_buf]);
    return FM_OK;
}

static fm_status capture_end(fmj_run *r, fmj_value *out) {
    const fm_str *s = &r->buf[r->at_buf--];
    FM_TRY(fmj_step(r, s->len / 256 + 1));
    return fmj_str_copy(r, out, s->data ? s->data : "", s->len);
}

static fm_status captured_body(fmj_run *r, fmj_value *out, const fmj_node *body) {
    flow f = FLOW_ON; /* the parser keeps break and continue inside loops; here they end the body alone */
    FM_TRY(capture_begin(r));
    FM_TRY(exec(r, body, &f));
    return capture_end(r, out);
}

/* ---- Loops -------------------------------------------------------------------------------------- */

/* The items of the loop, those that pass its `if`. */
static fm_status loop_items(fmj_run *r, fmj_list **out, const fmj_node *n, const fmj_value *over) {
    fmj_list *all, *kept;
    FM_TRY(fmj_items(r, &all, over));
    *out = all;
    if (!n->c) {
        return FM_OK;
    }
    FM_TRY(fmj_list_new(r, &kept, all->n));
    kept->n = 0;
    FM_TRY(fmj_scope_push(r));
    for (size_t i = 0; i < all->n; i++) {
        fmj_value yes;
        FM_TRY(fmj_assign(r, n->a, &all->item[i]));
        FM_TRY(fmj_eval(r, &yes, n->c));
        if (fmj_truth(&yes)) {
            kept->item[kept->n++] = all->item[i];
        }
    }
    fmj_scope_pop(r);
    *out = kept;
    return FM_OK;
}

static fm_status loop_run(fmj_run *r, const fmj_node *n, const fmj_value *over, int32_t depth0) {
    fmj_loop *l = fmj_alloc(r, sizeof *l);
    flow f = FLOW_ON;
    bool whole = false; /* an iteration came to its end; else the loop counts as empty, as Jinja has it */
    FMJ_CHECK(l);
    *l = (fmj_loop){.node = n->op == 'r' ? n : NULL, .scope = r->scope, .depth0 = depth0};
    FM_TRY(loop_items(r, &l->items, n, over));
    fmj_value self = {.type = FMJ_LOOP, .u.obj = l};
    FM_TRY(fmj_scope_push(r));
    for (l->at = 0; l->at < l->items->n && f != FLOW_BREAK; l->at++) {
        if (r->scope->held) {
            fmj_scope_pop(r);
            FM_TRY(fmj_scope_push(r));
        }
        r->scope->n = 0;
        FM_TRY(fmj_set_name(r, r->tpl->sym_loop, &self));
        FM_TRY(fmj_assign(r, n->a, &l->items->item[l->at]));
        f = FLOW_ON;
        FM_TRY(exec(r, n->list[0], &f));
        whole = whole || f == FLOW_ON;
    }
    fmj_scope_pop(r);
    if (!whole && n->list[1]) {
        FM_TRY(fmj_scope_push(r));
        f = FLOW_ON;
        FM_TRY(exec(r, n->list[1], &f));
        fmj_scope_pop(r);
    }
    return FM_OK;
}

fm_status fmj_call_loop(fmj_run *r, fmj_value *out, fmj_loop *l, const fmj_args *a) {
    if (!l->node) {
        FM_FAIL(FM_ERR_DATA, "the loop must have the 'recursive' marker to be called");
    }
    if (a->n_pos != 1 || a->n_kw != 0) {
        FM_FAIL(FM_ERR_DATA, "loop(...) takes the items to go over");
    }
    if (++r->macros > r->limits.max_macros) {
        FM_FAIL(FM_ERR_DATA, "more than %d calls inside each other", r->limits.max_macros);
    }
    fmj_scope *back = r->scope;
    r->scope = l->scope;
    FM_TRY(capture_begin(r));
    FM_TRY(loop_run(r, l->node, &a->pos[0], l->depth0 + 1));
    r->scope = back;
    r->macros--;
    return capture_end(r, out);
}

static fm_status loop_cycle(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    const fmj_loop *l = self->u.obj;
    FM_TRY(fmj_step(r, 1));
    if (a->n_pos == 0) {
        FM_FAIL(FM_ERR_DATA, "no items for cycling given");
    }
    *out = a->pos[l->at % a->n_pos];
    return FM_OK;
}

static fm_status loop_changed(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a) {
    fmj_loop *l = self->u.obj;
    bool same = l->asked && l->n_changed == a->n_pos;
    for (size_t i = 0; same && i < a->n_pos; i++) {
        FM_TRY(fmj_equal(r, &same, &l->changed[i], &a->pos[i]));
    }
    l->asked = true;
    l->changed = a->pos;
    l->n_changed = a->n_pos;
    *out = fmj_bool(!same);
    return FM_OK;
}

fm_status fmj_loop_attr(fmj_run *r, fmj_value *out, fmj_loop *l, fmj_str *name) {
    static const fmj_row methods[] = {{"cycle", loop_cycle, "*"}, {"changed", loop_changed, "*"}, {0}};
    int64_t n = (int64_t)l->items->n, at = (int64_t)l->at;
    const struct {
        const char *name;
        int64_t v;
    } number[] = {{"index", at + 1}, {"index0", at},           {"revindex", n - at}, {"revindex0", n - at - 1},
                  {"length", n},     {"depth", l->depth0 + 1}, {"depth0", l->depth0}};
    const fmj_row *row = fmj_row_find(methods, name->p, name->n);
    if (row) {
        fmj_value self = {.type = FMJ_LOOP, .u.obj = l};
        return fmj_bind(r, out, &self, row);
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(number); i++) {
        if (fmj_str_eq(name, number[i].name)) {
            *out = fmj_int(number[i].v);
            return FM_OK;
        }
    }
    *out = fmj_undefined(name, FMJ_LOOP);
    if (fmj_str_eq(name, "first") || fmj_str_eq(name, "last")) {
        *out = fmj_bool(name->n == 5 ? at == 0 : at + 1 == n);
    } else if (fmj_str_eq(name, "previtem")) {
        *out = at > 0 ? l->items->item[at - 1] : fmj_undefined(name, FMJ_UNSET);
    } else if (fmj_str_eq(name, "nextitem")) {
        *out = at + 1 < n ? l->items->item[at + 1] : fmj_undefined(name, FMJ_UNSET);
    }
    return FM_OK;
}

/* ---- Macros ------------------------------------------------------------------------------------- */

/* Gives the parameters their values in the scope of the call; what is left over goes to varargs and kwargs. */
static fm_status bind_macro(fmj_run *r, const fmj_macro_def *d, const fmj_args *a) {
    fmj_value v;
    size_t n_used = 0;
    bool given_caller = false;
    for (size_t i = 0; i < d->n_params; i++) {
        fm_sv name = r->tpl->symbol[d->param[i]];
        bool found = i < a->n_pos;
        if (found) {
            v = a->pos[i];
        }
        for (size_t k = 0; k < a->n_kw; k++) {
            if (a->kw_name[k]->n == name.len && memcmp(a->kw_name[k]->p, name.ptr, name.len) == 0) {
                if (found) {
                    FM_FAIL(FM_ERR_DATA, "macro '%.*s' got multiple values for argument '%.*s'", (int)d->name->n,
                            d->name->p, (int)name.len, name.ptr);
                }
                v = a->kw[k];
                found = true;
                n_used++;
            }
        }
        if (!found && d->def[i]) {
            FM_TRY(fmj_eval(r, &v, d->def[i]));
        } else if (!found) {
            fmj_value text;
            FM_TRY(fmj_str_view(r, &text, name.ptr, name.len));
            v = fmj_undefined(text.u.s, FMJ_UNSET);
        }
        given_caller = given_caller || d->param[i] == r->tpl->sym_caller;
        FM_TRY(fmj_set_name(r, d->param[i], &v));
    }
    fmj_dict *rest;
    FM_TRY(fmj_dict_new(r, &rest, 0));
    if (d->uses_caller && !given_caller) {
        fmj_value none = fmj_undefined(NULL, FMJ_UNSET);
        FM_TRY(fmj_set_name(r, r->tpl->sym_caller, &none));
    }
    for (size_t k = 0; k < a->n_kw && n_used < a->n_kw; k++) {
        bool known = false;
        for (size_t i = 0; i < d->n_params && !known; i++) {
            fm_sv name = r->tpl->symbol[d->param[i]];
            known = a->kw_name[k]->n == name.len && memcmp(a->kw_name[k]->p, name.ptr, name.len) == 0;
        }
        if (!known && d->uses_caller && fmj_str_eq(a->kw_name[k], "caller")) {
            FM_TRY(fmj_set_name(r, r->tpl->sym_caller, &a->kw[k]));
        } else if (!known && d->uses_kwargs) {
            fmj_value key = {.type = FMJ_STR, .u.s = a->kw_name[k]};
            FM_TRY(fmj_dict_put(r, rest, &key, &a->kw[k]));
        } else if (!known) {
            FM_FAIL(FM_ERR_DATA, "macro '%.*s' takes no keyword argument '%.*s'", (int)d->name->n, d->name->p,
                    (int)FM_MIN(a->kw_name[k]->n, (size_t)60), a->kw_name[k]->p);
        }
    }
    if (d->uses_kwargs) {
        v = fmj_of_dict(rest);
        FM_TRY(fmj_set_name(r, r->tpl->sym_kwargs, &v));
    }
    size_t n_extra = a->n_pos > d->n_params ? a->n_pos - d->n_params : 0;
    if (d->uses_varargs) {
        fmj_list *l;
        FM_TRY(fmj_list_new(r, &l, n_extra));
        memcpy(l->item, n_extra ? a->pos + d->n_params : l->item, n_extra * sizeof *l->item);
        v = fmj_of_list(FMJ_TUPLE, l);
        return fmj_set_name(r, r->tpl->sym_varargs, &v);
    }
    if (n_extra > 0) {
        FM_FAIL(FM_ERR_DATA, "macro '%.*s' takes not more than %zu argument(s)", (int)d->name->n, d->name->p,
                d->n_params);
    }
    return FM_OK;
}

fm_status fmj_call_macro(fmj_run *r, fmj_value *out, const fmj_closure *m, const fmj_args *a) {
    if (++r->macros > r->limits.max_macros) {
        FM_FAIL(FM_ERR_DATA, "more than %d calls inside each other", r->limits.max_macros);
    }
    fmj_scope *back = r->scope;
    r->scope = m->scope;
    FM_TRY(fmj_scope_push(r));
    FM_TRY(bind_macro(r, m->def, a));
    FM_TRY(captured_body(r, out, m->def->body));
    r->scope = back;
    r->macros--;
    return FM_OK;
}

static fm_status closure(fmj_run *r, fmj_value *out, const fmj_macro_def *def) {
    fmj_closure *m = fmj_alloc(r, sizeof *m);
    FMJ_CHECK(m);
    *m = (fmj_closure){def, r->scope};
    for (fmj_scope *s = r->scope; s && !s->held; s = s->parent) {
        s->held = true;
    }
    *out = (fmj_value){.type = FMJ_MACRO, .u.obj = m};
    return FM_OK;
}

/* {% call(x) f(y) %}: f gets the body as its argument `caller`. */
static fm_status call_block(fmj_run *r, const fmj_node *n) {
    fmj_value fn, caller, out;
    fmj_args a;
    FM_TRY(fmj_eval(r, &fn, n->a->a));
    FM_TRY(fmj_eval_args(r, &a, n->a->args));
    FM_TRY(closure(r, &caller, n->macro));
    fmj_value *kw = fmj_alloc(r, (a.n_kw + 1) * sizeof *kw);
    FMJ_CHECK(kw);
    fmj_str **names = fmj_alloc(r, (a.n_kw + 1) * sizeof *names);
    FMJ_CHECK(names);
    for (size_t i = 0; i < a.n_kw; i++) {
        kw[i] = a.kw[i];
        names[i] = a.kw_name[i];
    }
    kw[a.n_kw] = caller;
    names[a.n_kw] = n->macro->name;
    a.kw = kw;
    a.kw_name = names;
    a.n_kw++;
    FM_TRY(fmj_call(r, &out, &fn, &a));
    return emit(r, &out);
}

/* ---- Statements --------------------------------------------------------------------------------- */

static fm_status with_block(fmj_run *r, const fmj_node *n, flow *f) {
    fmj_scope *outer = r->scope;
    FM_TRY(fmj_scope_push(r));
    fmj_scope *inner = r->scope;
    for (uint32_t i = 0; i < n->n; i += 2) { /* values see what was outside */
        fmj_value v;
        r->scope = outer;
        FM_TRY(fmj_eval(r, &v, n->list[i + 1]));
        r->scope = inner;
        FM_TRY(fmj_assign(r, n->list[i], &v));
    }
    FM_TRY(exec(r, n->c, f));
    r->scope = outer;
    return FM_OK;
}

static fm_status generation(fmj_run *r, const fmj_node *n) {
    bool plain = r->at_buf == 0; /* inside a macro or block nobody knows yet where the text will be */
    size_t begin = r->buf[0].len;
    fmj_value text, none = fmj_undefined(NULL, FMJ_UNSET), rest[2];
    fmj_list *l;
    fmj_dict *d;
    FM_TRY(fmj_scope_push(r)); /* the body is a call block in Jinja: what it sets stays inside, and it is a macro */
    FM_TRY(fmj_list_new(r, &l, 0));
    FM_TRY(fmj_dict_new(r, &d, 0));
    rest[0] = fmj_of_list(FMJ_TUPLE, l);
    rest[1] = fmj_of_dict(d);
    FM_TRY(fmj_set_name(r, r->tpl->sym_varargs, &rest[0]));
    FM_TRY(fmj_set_name(r, r->tpl->sym_kwargs, &rest[1]));
    FM_TRY(fmj_set_name(r, r->tpl->sym_caller, &none));
    FM_TRY(captured_body(r, &text, n->c));
    fmj_scope_pop(r);
    FM_TRY(emit(r, &text));
    if (plain) {
        FM_TRY(fm_grow((void **)&r->span, &r->cap_span, r->n_span + 1, sizeof *r->span));
        r->span[r->n_span++] = (fmj_span){begin, r->buf[0].len};
    }
    return FM_OK;
}

static fm_status if_block(fmj_run *r, const fmj_node *n, flow *f) {
    for (uint32_t i = 0; i < n->n; i += 2) {
        fmj_value v;
        FM_TRY(fmj_eval(r, &v, n->list[i]));
        if (fmj_truth(&v)) {
            return exec(r, n->list[i + 1], f);
        }
    }
    return n->c ? exec(r, n->c, f) : FM_OK;
}

static fm_status exec_one(fmj_run *r, const fmj_node *n, flow *f) {
    fmj_value v, w;
    switch (n->kind) {
    case FMJ_N_DATA:
        fm_str_append(&r->buf[r->at_buf], n->val.u.s->p, n->val.u.s->n);
        return emit_check(r, &r->buf[r->at_buf]);
    case FMJ_N_PRINT:
        FM_TRY(fmj_eval(r, &v, n->a));
        return emit(r, &v);
    case FMJ_N_IF:
        return if_block(r, n, f);
    case FMJ_N_FOR:
        FM_TRY(fmj_eval(r, &v, n->b));
        return loop_run(r, n, &v, 0);
    case FMJ_N_SET:
        FM_TRY(fmj_eval(r, &v, n->b));
        return fmj_assign(r, n->a, &v);
    case FMJ_N_SET_BLOCK:
    case FMJ_N_FILTER_BLOCK:
        FM_TRY(fmj_scope_push(r));
        FM_TRY(captured_body(r, &v, n->c));
        fmj_scope_pop(r);
        FM_TRY(fmj_eval_filters(r, &w, n->b, &v));
        return n->kind == FMJ_N_SET_BLOCK ? fmj_assign(r, n->a, &w) : emit(r, &w);
    case FMJ_N_MACRO:
        FM_TRY(closure(r, &v, n->macro));
        return fmj_set_name(r, n->macro->sym, &v);
    case FMJ_N_CALL_BLOCK:
        return call_block(r, n);
    case FMJ_N_WITH:
        return with_block(r, n, f);
    case FMJ_N_GENERATION:
        return generation(r, n);
    case FMJ_N_BREAK:
    case FMJ_N_CONTINUE:
        *f = n->kind == FMJ_N_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
        return FM_OK;
    default:
        FM_FAIL(FM_ERR_STATE, "a node of the template is not a statement");
    }
}

static fm_status exec(fmj_run *r, const fmj_node *body, flow *f) {
    if (++r->depth > r->limits.max_depth) {
        FM_FAIL(FM_ERR_DATA, "the template goes more than %d levels deep", r->limits.max_depth);
    }
    for (uint32_t i = 0; i < body->n && *f == FLOW_ON; i++) {
        FM_TRY(fmj_step(r, 1));
        r->line = body->list[i]->line;
        FM_TRY(exec_one(r, body->list[i], f));
    }
    r->depth--;
    return FM_OK;
}

/* ---- A render ----------------------------------------------------------------------------------- */

fm_status fmj_run_begin(fmj_run *r, const fm_jinja *t) {
    *r = (fmj_run){.tpl = t,
                   .limits = {.steps = 20000000,
                              .memory = (size_t)256 << 20,
                              .output = (size_t)64 << 20,
                              .max_depth = 1500,
                              .max_macros = 100}};
    r->steps = r->limits.steps;
    r->arena.limit = r->limits.memory;
    FM_TRY(fm_grow((void **)&r->buf, &r->cap_buf, 1, sizeof *r->buf));
    r->buf[0] = (fm_str){0};
    r->n_buf = 1;
    return fmj_scope_push(r);
}

fm_status fmj_run_set(fmj_run *r, const char *name, size_t n, const fmj_value *v) {
    for (size_t i = 0; i < r->tpl->n_symbols; i++) {
        if (r->tpl->symbol[i].len == n && memcmp(r->tpl->symbol[i].ptr, name, n) == 0) {
            return fmj_set_name(r, (int32_t)i, v);
        }
    }
    return FM_OK; /* the template does not ask for it */
}

fm_status fmj_run_render(fmj_run *r) {
    flow f = FLOW_ON;
    fm_status s = fmj_scope_push(r); /* what the template sets hides the variables, and goes with it */
    s = s == FM_OK ? exec(r, r->tpl->body, &f) : s;
    return s == FM_OK ? FM_OK : fm_error_context("%s:%d", r->tpl->name, r->line);
}

void fmj_run_end(fmj_run *r) {
    for (size_t i = 0; i < r->n_buf; i++) {
        fm_str_free(&r->buf[i]);
    }
    fm_free(r->buf);
    fm_free(r->span);
    fmj_arena_free(&r->arena);
    *r = (fmj_run){0};
}
