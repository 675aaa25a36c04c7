/* Expressions of the template language, by Jinja's grammar:
 *   cond = or ["if" or ["else" cond]] ...      or = and {"or" and}       and = not {"and" not}     not = "not" not |
 * compare compare = add {(== != < <= > >= in, not in) add}   add = concat {(+ -) concat}   concat = mul {"~" mul} mul =
 * pow {(* / // %) pow}    pow = unary {"**" unary}    unary = (- +) unary-without-filters | primary, then postfix and
 * filters: .name [key] (args) | filter(args) is [not] test args */
#include <string.h>

#include "base/error.h"
#include "text/jinja.h"

#define MAX_DEPTH  200 /* of the parser */
#define MAX_HEIGHT 400 /* of the tree: a + b + c ... grows to the left without recursion here */

fm_status fmj_syntax(const fmj_parser *p, const char *expected) {
    const fmj_token *t = p->tok;
    const char *what = t->type == FMJ_T_END         ? "the end of the template"
                       : t->type == FMJ_T_BLOCK_END ? "'%}'"
                       : t->type == FMJ_T_VAR_END   ? "'}}'"
                       : t->type == FMJ_T_DATA      ? "text"
                       : t->type == FMJ_T_STRING    ? "a string"
                       : t->type == FMJ_T_NAME      ? "a name"
                       : t->type == FMJ_T_OP        ? "an operator"
                                                    : "a number";
    if (t->type == FMJ_T_NAME) {
        int n = t->text.len > 60 ? 60 : (int)t->text.len;
        (void)fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "expected %s, found '%.*s'", expected, n, t->text.ptr);
    } else {
        (void)fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "expected %s, found %s", expected, what);
    }
    return fm_error_context("%s:%d", p->t->name, t->line);
}

fm_status fmj_enter(fmj_parser *p) {
    if (++p->depth > MAX_DEPTH) {
        FM_FAIL(FM_ERR_FORMAT, "%s:%d: more than %d levels inside each other", p->t->name, p->tok->line, MAX_DEPTH);
    }
    return FM_OK;
}

fm_status fmj_node_new(fmj_parser *p, fmj_node **out, fmj_kind kind) {
    fmj_node *n = fmj_arena_alloc(&p->t->arena, sizeof *n);
    *out = n;
    if (!n) {
        return fmj_arena_failed(&p->t->arena);
    }
    *n = (fmj_node){.kind = (uint8_t)kind, .line = p->tok->line, .sym = -1};
    return FM_OK;
}

static void raise_height(int *h, const fmj_node *n) {
    if (n && n->height > *h) {
        *h = n->height;
    }
}

fm_status fmj_node_close(fmj_parser *p, fmj_node *n) {
    int h = 0;
    raise_height(&h, n->a);
    raise_height(&h, n->b);
    raise_height(&h, n->c);
    for (uint32_t i = 0; i < n->n; i++) {
        raise_height(&h, n->list[i]);
    }
    if (n->args) {
        for (size_t i = 0; i < n->args->n_pos; i++) {
            raise_height(&h, n->args->pos[i]);
        }
        for (size_t i = 0; i < n->args->n_kw; i++) {
            raise_height(&h, n->args->kw[i]);
        }
        raise_height(&h, n->args->star);
        raise_height(&h, n->args->dstar);
    }
    if (n->macro) {
        raise_height(&h, n->macro->body);
        for (size_t i = 0; i < n->macro->n_params; i++) {
            raise_height(&h, n->macro->def[i]);
        }
    }
    if (h >= MAX_HEIGHT) {
        FM_FAIL(FM_ERR_FORMAT, "%s:%d: more than %d levels inside each other", p->t->name, n->line, MAX_HEIGHT);
    }
    n->height = (int16_t)(h + 1);
    return FM_OK;
}

fm_status fmj_nodes_add(fmj_parser *p, fmj_nodes *l, fmj_node *n) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 4;
        fmj_node **more = fmj_arena_alloc(&p->t->arena, cap * sizeof *more);
        if (!more) {
            return fmj_arena_failed(&p->t->arena);
        }
        for (size_t i = 0; i < l->n; i++) {
            more[i] = l->item[i];
        }
        l->item = more;
        l->cap = cap;
    }
    l->item[l->n++] = n;
    return FM_OK;
}

fm_status fmj_symbol(fmj_parser *p, int32_t *out, fm_sv name) {
    fm_jinja *t = p->t;
    for (size_t i = 0; i < t->n_symbols; i++) {
        if (t->symbol[i].len == name.len && memcmp(t->symbol[i].ptr, name.ptr, name.len) == 0) {
            *out = (int32_t)i;
            return FM_OK;
        }
    }
    if (t->n_symbols == t->cap_symbols) {
        size_t cap = t->cap_symbols ? 2 * t->cap_symbols : 32;
        fm_sv *more = cap <= 65536 ? fmj_arena_alloc(&t->arena, cap * sizeof *more) : NULL;
        if (!more) {
            return cap > 65536 ? fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "%s: too many names", t->name)
                               : fmj_arena_failed(&t->arena);
        }
        memcpy(more, t->n_symbols ? (void *)t->symbol : (void *)more, t->n_symbols * sizeof *more);
        t->symbol = more;
        t->cap_symbols = cap;
    }
    *out = (int32_t)t->n_symbols;
    t->symbol[t->n_symbols++] = name;
    return FM_OK;
}

fm_status fmj_parser_str(fmj_parser *p, fmj_str **out, fm_sv text) {
    fmj_str *s = fmj_arena_alloc(&p->t->arena, sizeof *s);
    *out = s;
    if (!s) {
        return fmj_arena_failed(&p->t->arena);
    }
    *s = (fmj_str){.p = text.ptr, .n = text.len, .chars = -1};
    (void)fmj_chars(s); /* counted now: threads that render share the tree */
    return FM_OK;
}

bool fmj_at_name(const fmj_parser *p, const char *name) {
    return p->tok->type == FMJ_T_NAME && fm_sv_eq(p->tok->text, name);
}

bool fmj_at_op(const fmj_parser *p, char op) {
    return p->tok->type == FMJ_T_OP && p->tok->op == op;
}

bool fmj_skip_name(fmj_parser *p, const char *name) {
    bool yes = fmj_at_name(p, name);
    p->tok += yes;
    return yes;
}

bool fmj_skip_op(fmj_parser *p, char op) {
    bool yes = fmj_at_op(p, op);
    p->tok += yes;
    return yes;
}

fm_status fmj_expect_op(fmj_parser *p, char op, const char *what) {
    return fmj_skip_op(p, op) ? FM_OK : fmj_syntax(p, what);
}

fm_status fmj_expect_name(fmj_parser *p, fm_sv *out) {
    if (p->tok->type != FMJ_T_NAME) {
        return fmj_syntax(p, "a name");
    }
    *out = (p->tok++)->text;
    return FM_OK;
}

/* ---- Literals and names ------------------------------------------------------------------------- */

static fm_status string_literal(fmj_parser *p, fmj_node *n) {
    fm_sv text = (p->tok++)->text;
    while (p->tok->type == FMJ_T_STRING) { /* "a" "b" is "ab" */
        fm_sv more = (p->tok++)->text;
        char *both = fmj_arena_alloc(&p->t->arena, text.len + more.len);
        if (!both) {
            return fmj_arena_failed(&p->t->arena);
        }
        memcpy(both, text.ptr ? text.ptr : "", text.len);
        memcpy(both + text.len, more.ptr ? more.ptr : "", more.len);
        text = (fm_sv){both, text.len + more.len};
    }
    n->val.type = FMJ_STR;
    return fmj_parser_str(p, &n->val.u.s, text);
}

static fm_status list_or_dict(fmj_parser *p, fmj_node **out, bool dict) {
    fmj_node *n, *item;
    fmj_nodes l = {0};
    char close = dict ? '}' : ']';
    FM_TRY(fmj_node_new(p, &n, dict ? FMJ_N_DICT : FMJ_N_LIST));
    p->tok++;
    while (!fmj_at_op(p, close)) {
        if (l.n > 0) {
            FM_TRY(fmj_expect_op(p, ',', dict ? "',' or '}'" : "',' or ']'"));
            if (fmj_at_op(p, close)) {
                break;
            }
        }
        FM_TRY(fmj_expression(p, &item, true));
        FM_TRY(fmj_nodes_add(p, &l, item));
        if (dict) {
            FM_TRY(fmj_expect_op(p, ':', "':'"));
            FM_TRY(fmj_expression(p, &item, true));
            FM_TRY(fmj_nodes_add(p, &l, item));
        }
    }
    p->tok++;
    n->list = l.item;
    n->n = (uint32_t)l.n;
    *out = n;
    return fmj_node_close(p, n);
}

/* Names a macro's body may use without being given them. */
static void note_special(fmj_parser *p, int32_t sym) {
    for (int32_t i = 0; i < p->n_macros && !p->storing; i++) {
        p->macro_stack[i]->uses_caller |= sym == p->t->sym_caller;
        p->macro_stack[i]->uses_varargs |= sym == p->t->sym_varargs;
        p->macro_stack[i]->uses_kwargs |= sym == p->t->sym_kwargs;
    }
}

static fm_status primary(fmj_parser *p, fmj_node **out, bool space) {
    const fmj_token *t = p->tok;
    fmj_node *n;
    if (t->type == FMJ_T_OP && t->op == '(') {
        p->tok++;
        if (fmj_at_op(p, ')')) {
            FM_TRY(fmj_node_new(p, out, FMJ_N_TUPLE));
            p->tok++;
            return fmj_node_close(p, *out);
        }
        FM_TRY(fmj_tuple(p, out, true, NULL));
        return fmj_expect_op(p, ')', "')'");
    }
    if (t->type == FMJ_T_OP && (t->op == '[' || t->op == '{')) {
        return list_or_dict(p, out, t->op == '{');
    }
    if (t->type == FMJ_T_OP || t->type < FMJ_T_NAME) {
        return fmj_syntax(p, "an expression");
    }
    FM_TRY(fmj_node_new(p, &n, FMJ_N_CONST));
    *out = n;
    if (t->type == FMJ_T_STRING) {
        FM_TRY(string_literal(p, n));
    } else if (t->type == FMJ_T_INT || t->type == FMJ_T_FLOAT) {
        n->val = t->type == FMJ_T_INT ? fmj_int(t->u.i) : fmj_float(t->u.f);
        p->tok++;
    } else {
        p->tok++;
        fm_sv w = t->text;
        if (fm_sv_eq(w, "true") || fm_sv_eq(w, "True")) {
            n->val = fmj_bool(true);
        } else if (fm_sv_eq(w, "false") || fm_sv_eq(w, "False")) {
            n->val = fmj_bool(false);
        } else if (fm_sv_eq(w, "none") || fm_sv_eq(w, "None")) {
            n->val = fmj_none();
        } else {
            n->kind = FMJ_N_NAME;
            FM_TRY(fmj_symbol(p, &n->sym, w));
            note_special(p, n->sym);
            if (space && fmj_skip_op(p, '.')) {
                n->kind = FMJ_N_NSREF;
                FM_TRY(fmj_expect_name(p, &w));
            }
            n->val.type = FMJ_STR;
            FM_TRY(fmj_parser_str(p, &n->val.u.s, w));
        }
    }
    return fmj_node_close(p, n);
}

/* ---- Postfix ------------------------------------------------------------------------------------ */

static fm_status call_args(fmj_parser *p, fmj_call_args **out) {
    fmj_nodes pos = {0}, kw = {0};
    fmj_call_args *a = fmj_arena_alloc(&p->t->arena, sizeof *a);
    fmj_str **names = NULL;
    size_t cap = 0;
    if (!a) {
        return fmj_arena_failed(&p->t->arena);
    }
    *a = (fmj_call_args){0};
    p->tok++; /* ( */
    while (!fmj_at_op(p, ')')) {
        fmj_node *n;
        if (pos.n > 0 || kw.n > 0 || a->star || a->dstar) {
            FM_TRY(fmj_expect_op(p, ',', "',' or ')'"));
            if (fmj_at_op(p, ')')) {
                break;
            }
        }
        if (fmj_at_op(p, '*') || fmj_at_op(p, FMJ_OP_POW)) {
            bool two = fmj_at_op(p, FMJ_OP_POW);
            if (a->dstar || (a->star && !two)) {
                return fmj_syntax(p, "one *args and one **kwargs at most");
            }
            p->tok++;
            FM_TRY(fmj_expression(p, &n, true));
            *(two ? &a->dstar : &a->star) = n;
        } else if (p->tok->type == FMJ_T_NAME && p->tok[1].type == FMJ_T_OP && p->tok[1].op == FMJ_OP_ASSIGN) {
            if (a->dstar) {
                return fmj_syntax(p, "no argument after **kwargs");
            }
            if (kw.n == cap) {
                cap = cap ? 2 * cap : 4;
                fmj_str **more = fmj_arena_alloc(&p->t->arena, cap * sizeof *more);
                if (!more) {
                    return fmj_arena_failed(&p->t->arena);
                }
                for (size_t i = 0; i < kw.n; i++) {
                    more[i] = names[i];
                }
                names = more;
            }
            FM_TRY(fmj_parser_str(p, &names[kw.n], p->tok->text));
            p->tok += 2;
            FM_TRY(fmj_expression(p, &n, true));
            FM_TRY(fmj_nodes_add(p, &kw, n));
        } else {
            if (a->star || a->dstar || kw.n > 0) {
                return fmj_syntax(p, "name=value (a positional argument cannot follow)");
            }
            FM_TRY(fmj_expression(p, &n, true));
            FM_TRY(fmj_nodes_add(p, &pos, n));
        }
    }
    p->tok++;
    a->pos = pos.item;
    a->n_pos = pos.n;
    a->kw = kw.item;
    a->kw_name = names;
    a->n_kw = kw.n;
    *out = a;
    return FM_OK;
}

/* One of the comma-separated parts in brackets: an expression or begin:end:step. */
static fm_status subscript_part(fmj_parser *p, fmj_node **out) {
    fmj_node *n, *bound[3] = {0};
    FM_TRY(fmj_node_new(p, &n, FMJ_N_SLICE));
    if (!fmj_at_op(p, ':')) {
        FM_TRY(fmj_expression(p, &bound[0], true));
        if (!fmj_at_op(p, ':')) {
            *out = bound[0];
            return FM_OK;
        }
    }
    p->tok++;
    for (int i = 1; i < 3; i++) {
        if (!fmj_at_op(p, ':') && !fmj_at_op(p, ']') && !fmj_at_op(p, ',')) {
            FM_TRY(fmj_expression(p, &bound[i], true));
        }
        if (i == 1 && !fmj_skip_op(p, ':')) {
            break;
        }
    }
    n->list = fmj_arena_alloc(&p->t->arena, sizeof bound);
    if (!n->list) {
        return fmj_arena_failed(&p->t->arena);
    }
    memcpy(n->list, bound, sizeof bound);
    n->n = 3;
    *out = n;
    return FM_OK;
}

static fm_status subscript(fmj_parser *p, fmj_node **node) {
    fmj_node *n = NULL, *part = NULL;
    fmj_nodes parts = {0};
    bool comma = false;
    FM_TRY(fmj_node_new(p, &n, FMJ_N_ITEM));
    n->a = *node;
    p->tok++;
    do {
        if (fmj_at_op(p, ']')) { /* x[1,] and, as in Jinja, x[] with the empty tuple as key */
            comma = true;
            break;
        }
        FM_TRY(subscript_part(p, &part));
        FM_ASSERT(part);
        FM_TRY(fmj_nodes_add(p, &parts, part));
        if (part->kind == FMJ_N_SLICE && (comma || fmj_at_op(p, ','))) {
            return fmj_syntax(p, "one slice alone in brackets");
        }
        comma = fmj_at_op(p, ',');
    } while (fmj_skip_op(p, ','));
    FM_TRY(fmj_expect_op(p, ']', "']'"));
    if (part && part->kind == FMJ_N_SLICE && !part->a) {
        part->a = *node;
        n = part;
    } else if (parts.n > 1 || comma) {
        FM_TRY(fmj_node_new(p, &n->b, FMJ_N_TUPLE));
        n->b->list = parts.item;
        n->b->n = (uint32_t)parts.n;
        FM_TRY(fmj_node_close(p, n->b));
    } else {
        n->b = part;
    }
    *node = n;
    return fmj_node_close(p, n);
}

fm_status fmj_postfix(fmj_parser *p, fmj_node **node) {
    for (;;) {
        fmj_node *n = NULL;
        if (fmj_at_op(p, '.')) {
            p->tok++;
            FM_TRY(fmj_node_new(p, &n, FMJ_N_ATTR));
            n->a = *node;
            if (p->tok->type == FMJ_T_INT) { /* x.0 is x[0] */
                n->kind = FMJ_N_ITEM;
                FM_TRY(fmj_node_new(p, &n->b, FMJ_N_CONST));
                n->b->val = fmj_int((p->tok++)->u.i);
                FM_TRY(fmj_node_close(p, n->b));
            } else {
                fm_sv name = {0};
                FM_TRY(fmj_expect_name(p, &name));
                n->val.type = FMJ_STR;
                FM_TRY(fmj_parser_str(p, &n->val.u.s, name));
            }
        } else if (fmj_at_op(p, '[')) {
            FM_TRY(subscript(p, node));
            continue;
        } else if (fmj_at_op(p, '(')) {
            FM_TRY(fmj_node_new(p, &n, FMJ_N_CALL));
            n->a = *node;
            FM_TRY(call_args(p, &n->args));
        } else {
            return FM_OK;
        }
        FM_TRY(fmj_node_close(p, n));
        *node = n;
    }
}

/* name or a.b.c behind | or `is`, looked up in its table. */
static fm_status row_name(fmj_parser *p, fmj_node *n, bool test) {
    fm_sv name = {0};
    FM_TRY(fmj_expect_name(p, &name));
    while (fmj_skip_op(p, '.')) {
        fm_sv rest = {0};
        FM_TRY(fmj_expect_name(p, &rest)); /* no filter or test of ours has dots: unknown at run time */
        name.len = (size_t)(rest.ptr + rest.len - name.ptr);
    }
    n->row = test ? fmj_row_find(fmj_tests, name.ptr, name.len) : fmj_filter_find(name.ptr, name.len);
    n->val.type = FMJ_STR;
    return fmj_parser_str(p, &n->val.u.s, name);
}

fm_status fmj_filters(fmj_parser *p, fmj_node **out, fmj_node *inner, bool inline_head) {
    while (inline_head || fmj_at_op(p, '|')) {
        fmj_node *n;
        p->tok += !inline_head;
        inline_head = false;
        FM_TRY(fmj_node_new(p, &n, FMJ_N_FILTER));
        n->a = inner;
        FM_TRY(row_name(p, n, false));
        if (fmj_at_op(p, '(')) {
            FM_TRY(call_args(p, &n->args));
        }
        FM_TRY(fmj_node_close(p, n));
        inner = n;
    }
    *out = inner;
    return FM_OK;
}

static fm_status test(fmj_parser *p, fmj_node **node) {
    fmj_node *n, *arg;
    FM_TRY(fmj_node_new(p, &n, FMJ_N_TEST));
    p->tok++; /* is */
    bool negate = fmj_skip_name(p, "not");
    n->a = *node;
    FM_TRY(row_name(p, n, true));
    const fmj_token *t = p->tok;
    bool word = t->type == FMJ_T_NAME && !fmj_at_name(p, "else") && !fmj_at_name(p, "or") && !fmj_at_name(p, "and");
    bool other = t->type == FMJ_T_STRING || t->type == FMJ_T_INT || t->type == FMJ_T_FLOAT || fmj_at_op(p, '[') ||
                 fmj_at_op(p, '{');
    if (fmj_at_op(p, '(')) {
        FM_TRY(call_args(p, &n->args));
    } else if (word || other) {
        if (fmj_at_name(p, "is")) {
            return fmj_syntax(p, "the end of the test (tests cannot be chained with 'is')");
        }
        FM_TRY(primary(p, &arg, false));
        FM_TRY(fmj_postfix(p, &arg));
        n->args = fmj_arena_alloc(&p->t->arena, sizeof *n->args + sizeof(fmj_node *));
        if (!n->args) {
            return fmj_arena_failed(&p->t->arena);
        }
        *n->args = (fmj_call_args){.pos = (fmj_node **)(n->args + 1), .n_pos = 1};
        n->args->pos[0] = arg;
    }
    FM_TRY(fmj_node_close(p, n));
    *node = n;
    if (negate) {
        FM_TRY(fmj_node_new(p, node, FMJ_N_NOT));
        (*node)->a = n;
        return fmj_node_close(p, *node);
    }
    return FM_OK;
}

/* ---- Operators ---------------------------------------------------------------------------------- */

static fm_status unary(fmj_parser *p, fmj_node **out, bool with_filters) {
    fmj_node *n = NULL;
    FM_TRY(fmj_enter(p));
    if (fmj_at_op(p, '-') || fmj_at_op(p, '+')) {
        FM_TRY(fmj_node_new(p, &n, fmj_at_op(p, '-') ? FMJ_N_NEG : FMJ_N_POS));
        p->tok++;
        FM_TRY(unary(p, &n->a, false));
        FM_TRY(fmj_node_close(p, n));
    } else {
        FM_TRY(primary(p, &n, false));
    }
    FM_TRY(fmj_postfix(p, &n));
    while (with_filters) {
        if (fmj_at_op(p, '|')) {
            FM_TRY(fmj_filters(p, &n, n, false));
        } else if (fmj_at_name(p, "is")) {
            FM_TRY(test(p, &n));
        } else if (fmj_at_op(p, '(')) { /* a filter's result may be called */
            FM_TRY(fmj_postfix(p, &n));
        } else {
            break;
        }
    }
    p->depth--;
    *out = n;
    return FM_OK;
}

typedef fm_status (*level_fn)(fmj_parser *p, fmj_node **out);

/* next {op next}, growing to the left. */
static fm_status left(fmj_parser *p, fmj_node **out, level_fn next, const char *ops) {
    FM_TRY(next(p, out));
    while (p->tok->type == FMJ_T_OP && strchr(ops, p->tok->op)) {
        fmj_node *n;
        FM_TRY(fmj_node_new(p, &n, FMJ_N_BINARY));
        n->op = p->tok->op == FMJ_OP_FLOORDIV ? 'f' : p->tok->op == FMJ_OP_POW ? '^' : p->tok->op;
        p->tok++;
        n->a = *out;
        FM_TRY(next(p, &n->b));
        FM_TRY(fmj_node_close(p, n));
        *out = n;
    }
    return FM_OK;
}

static fm_status unary_level(fmj_parser *p, fmj_node **out) {
    return unary(p, out, true);
}

static fm_status power(fmj_parser *p, fmj_node **out) {
    static const char ops[] = {FMJ_OP_POW, 0};
    return left(p, out, unary_level, ops);
}

static fm_status product(fmj_parser *p, fmj_node **out) {
    static const char ops[] = {'*', '/', '%', FMJ_OP_FLOORDIV, 0};
    return left(p, out, power, ops);
}

static fm_status concat(fmj_parser *p, fmj_node **out) {
    fmj_node *n;
    fmj_nodes l = {0};
    FM_TRY(product(p, out));
    if (!fmj_at_op(p, '~')) {
        return FM_OK;
    }
    FM_TRY(fmj_node_new(p, &n, FMJ_N_CONCAT));
    FM_TRY(fmj_nodes_add(p, &l, *out));
    while (fmj_skip_op(p, '~')) {
        FM_TRY(product(p, out));
        FM_TRY(fmj_nodes_add(p, &l, *out));
    }
    n->list = l.item;
    n->n = (uint32_t)l.n;
    *out = n;
    return fmj_node_close(p, n);
}

static fm_status sum(fmj_parser *p, fmj_node **out) {
    return left(p, out, concat, "+-");
}

static fm_status compare(fmj_parser *p, fmj_node **out) {
    fmj_node *n, *item;
    fmj_nodes l = {0};
    fm_str ops = {0};
    FM_TRY(sum(p, out));
    fm_status s = fmj_node_new(p, &n, FMJ_N_COMPARE);
    while (s == FM_OK) {
        static const char known[] = {FMJ_OP_EQ, FMJ_OP_NE, FMJ_OP_LE, FMJ_OP_GE, '<', '>', 0};
        if (p->tok->type == FMJ_T_OP && strchr(known, p->tok->op)) {
            fm_str_putc(&ops, (p->tok++)->op);
        } else if (fmj_skip_name(p, "in")) {
            fm_str_putc(&ops, 'i');
        } else if (fmj_at_name(p, "not") && p->tok[1].type == FMJ_T_NAME && fm_sv_eq(p->tok[1].text, "in")) {
            p->tok += 2;
            fm_str_putc(&ops, 'n');
        } else {
            break;
        }
        s = sum(p, &item);
        s = s == FM_OK ? fmj_nodes_add(p, &l, item) : s;
    }
    s = s == FM_OK ? fm_str_check(&ops) : s;
    if (s == FM_OK && l.n > 0) {
        char *copy = fmj_arena_alloc(&p->t->arena, ops.len);
        if (copy) {
            memcpy(copy, ops.data, ops.len);
            n->ops = copy;
            n->a = *out;
            n->list = l.item;
            n->n = (uint32_t)l.n;
            *out = n;
            s = fmj_node_close(p, n);
        } else {
            s = fmj_arena_failed(&p->t->arena);
        }
    }
    fm_str_free(&ops);
    return s;
}

static fm_status not_level(fmj_parser *p, fmj_node **out) {
    if (!fmj_at_name(p, "not")) {
        return compare(p, out);
    }
    FM_TRY(fmj_enter(p));
    FM_TRY(fmj_node_new(p, out, FMJ_N_NOT));
    FM_ASSERT(*out);
    p->tok++;
    FM_TRY(not_level(p, &(*out)->a));
    p->depth--;
    return fmj_node_close(p, *out);
}

static fm_status words(fmj_parser *p, fmj_node **out, level_fn next, const char *word, fmj_kind kind) {
    FM_TRY(next(p, out));
    while (fmj_skip_name(p, word)) {
        fmj_node *n;
        FM_TRY(fmj_node_new(p, &n, kind));
        n->a = *out;
        FM_TRY(next(p, &n->b));
        FM_TRY(fmj_node_close(p, n));
        *out = n;
    }
    return FM_OK;
}

static fm_status and_level(fmj_parser *p, fmj_node **out) {
    return words(p, out, not_level, "and", FMJ_N_AND);
}

fm_status fmj_expression(fmj_parser *p, fmj_node **out, bool with_cond) {
    FM_TRY(fmj_enter(p));
    FM_TRY(words(p, out, and_level, "or", FMJ_N_OR));
    while (with_cond && fmj_skip_name(p, "if")) {
        fmj_node *n;
        FM_TRY(fmj_node_new(p, &n, FMJ_N_COND));
        n->a = *out;
        FM_TRY(words(p, &n->b, and_level, "or", FMJ_N_OR));
        if (fmj_skip_name(p, "else")) {
            FM_TRY(fmj_expression(p, &n->c, true));
        }
        FM_TRY(fmj_node_close(p, n));
        *out = n;
    }
    p->depth--;
    return FM_OK;
}

/* ---- Tuples and targets ------------------------------------------------------------------------- */

static bool tuple_ends(const fmj_parser *p, const char *end) {
    return p->tok->type == FMJ_T_VAR_END || p->tok->type == FMJ_T_BLOCK_END || fmj_at_op(p, ')') ||
           (end && fmj_at_name(p, end));
}

/* part {"," part}; part is an expression, or with `target` a primary. */
static fm_status comma_list(fmj_parser *p, fmj_node **out, bool with_cond, const char *end, bool target, bool space) {
    fmj_nodes l = {0};
    fmj_node *n;
    bool comma = false;
    FM_TRY(fmj_node_new(p, &n, FMJ_N_TUPLE));
    do {
        if (tuple_ends(p, end)) {
            break;
        }
        FM_TRY(target ? primary(p, out, space) : fmj_expression(p, out, with_cond));
        FM_TRY(fmj_nodes_add(p, &l, *out));
        comma = comma || fmj_at_op(p, ',');
    } while (fmj_skip_op(p, ','));
    if (l.n == 0) {
        return fmj_syntax(p, "an expression");
    }
    if (!comma) {
        return FM_OK;
    }
    n->list = l.item;
    n->n = (uint32_t)l.n;
    *out = n;
    return fmj_node_close(p, n);
}

fm_status fmj_tuple(fmj_parser *p, fmj_node **out, bool with_cond, const char *end) {
    return comma_list(p, out, with_cond, end, false, false);
}

static bool can_assign(const fmj_node *n) {
    bool yes = n->kind == FMJ_N_NAME || n->kind == FMJ_N_NSREF || (n->kind == FMJ_N_TUPLE && n->n > 0);
    for (uint32_t i = 0; yes && n->kind == FMJ_N_TUPLE && i < n->n; i++) {
        yes = can_assign(n->list[i]);
    }
    return yes;
}

fm_status fmj_target(fmj_parser *p, fmj_node **out, bool tuple, bool space) {
    const fmj_token *at = p->tok;
    p->storing = true;
    if (tuple) {
        FM_TRY(comma_list(p, out, false, "in", true, space));
    } else {
        FM_TRY(primary(p, out, space));
    }
    p->storing = false;
    if (!can_assign(*out)) {
        p->tok = (fmj_token *)(uintptr_t)at;
        return fmj_syntax(p, "a name to assign to");
    }
    return FM_OK;
}
