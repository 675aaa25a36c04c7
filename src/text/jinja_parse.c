/* Statements of the template language; see jinja_parse_expr.c for expressions. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/jinja.h"

#define MAX_TEMPLATE ((size_t)4 << 20)

static fm_status statements(fmj_parser *p, fmj_node **out, const char *const *ends);

static bool at_end_word(const fmj_parser *p, const char *const *ends) {
    for (; ends && *ends; ends++) {
        if (fmj_at_name(p, *ends)) {
            return true;
        }
    }
    return false;
}

static fm_status block_end(fmj_parser *p) {
    if (p->tok->type != FMJ_T_BLOCK_END) {
        return fmj_syntax(p, "'%}'");
    }
    p->tok++;
    return FM_OK;
}

/* "%}" body "{%" and one of the ends, at which it stops. */
static fm_status block_body(fmj_parser *p, fmj_node **out, const char *const *ends) {
    fmj_skip_op(p, ':'); /* Python's colon is allowed */
    FM_TRY(block_end(p));
    return statements(p, out, ends);
}

static fm_status for_statement(fmj_parser *p, fmj_node *n) {
    static const char *const ends[] = {"endfor", "else", NULL};
    FM_TRY(fmj_target(p, &n->a, true, false));
    if (!fmj_skip_name(p, "in")) {
        return fmj_syntax(p, "'in'");
    }
    FM_TRY(fmj_tuple(p, &n->b, false, "recursive"));
    if (fmj_skip_name(p, "if")) {
        FM_TRY(fmj_expression(p, &n->c, true));
    }
    n->op = fmj_skip_name(p, "recursive") ? 'r' : 0;
    n->list = fmj_arena_alloc(&p->t->arena, 2 * sizeof *n->list);
    if (!n->list) {
        return fmj_arena_failed(&p->t->arena);
    }
    n->list[1] = NULL;
    n->n = 2;
    p->loops++;
    FM_TRY(block_body(p, &n->list[0], ends));
    p->loops--;
    if (fmj_skip_name(p, "else")) {
        FM_TRY(block_body(p, &n->list[1], ends));
    }
    return fmj_skip_name(p, "endfor") ? FM_OK : fmj_syntax(p, "'endfor'");
}

static fm_status if_statement(fmj_parser *p, fmj_node *n) {
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const last[] = {"endif", NULL};
    fmj_nodes l = {0};
    do {
        fmj_node *part;
        FM_TRY(fmj_tuple(p, &part, false, NULL));
        FM_TRY(fmj_nodes_add(p, &l, part));
        FM_TRY(block_body(p, &part, ends));
        FM_TRY(fmj_nodes_add(p, &l, part));
    } while (fmj_skip_name(p, "elif"));
    n->list = l.item;
    n->n = (uint32_t)l.n;
    if (fmj_skip_name(p, "else")) {
        FM_TRY(block_body(p, &n->c, last));
    }
    return fmj_skip_name(p, "endif") ? FM_OK : fmj_syntax(p, "'endif'");
}

static fm_status set_statement(fmj_parser *p, fmj_node *n) {
    static const char *const ends[] = {"endset", NULL};
    FM_TRY(fmj_target(p, &n->a, true, true));
    if (fmj_skip_op(p, FMJ_OP_ASSIGN)) {
        return fmj_tuple(p, &n->b, true, NULL);
    }
    n->kind = FMJ_N_SET_BLOCK;
    FM_TRY(fmj_filters(p, &n->b, NULL, false));
    FM_TRY(block_body(p, &n->c, ends));
    p->tok++;
    return FM_OK;
}

/* (a, b=1, ...) of a macro or call block, then the body up to the end word. */
static fm_status signature(fmj_parser *p, fmj_macro_def *m) {
    fmj_nodes defs = {0};
    fmj_node *params[64];
    FM_TRY(fmj_expect_op(p, '(', "'('"));
    while (!fmj_at_op(p, ')')) {
        fmj_node *def = NULL;
        if (defs.n > 0) {
            FM_TRY(fmj_expect_op(p, ',', "',' or ')'"));
        }
        if (defs.n == FM_ARRAY_LEN(params)) {
            return fmj_syntax(p, "at most 64 parameters");
        }
        FM_TRY(fmj_target(p, &params[defs.n], false, false));
        if (params[defs.n]->kind != FMJ_N_NAME) {
            return fmj_syntax(p, "names of parameters");
        }
        if (fmj_skip_op(p, FMJ_OP_ASSIGN)) {
            FM_TRY(fmj_expression(p, &def, true));
        } else if (defs.n > 0 && defs.item[defs.n - 1]) {
            return fmj_syntax(p, "a default (one without cannot follow one with it)");
        }
        FM_TRY(fmj_nodes_add(p, &defs, def));
    }
    p->tok++;
    m->def = defs.item;
    m->n_params = defs.n;
    m->param = fmj_arena_alloc(&p->t->arena, defs.n * sizeof *m->param);
    if (!m->param) {
        return fmj_arena_failed(&p->t->arena);
    }
    for (size_t i = 0; i < defs.n; i++) {
        m->param[i] = params[i]->sym;
    }
    return FM_OK;
}

static fm_status macro_body(fmj_parser *p, fmj_macro_def *m, const char *end) {
    const char *const ends[] = {end, NULL};
    int32_t loops = p->loops;
    if (p->n_macros == (int32_t)FM_ARRAY_LEN(p->macro_stack)) {
        return fmj_syntax(p, "fewer macros inside each other");
    }
    p->macro_stack[p->n_macros++] = m;
    p->loops = 0; /* break does not leave a macro */
    FM_TRY(block_body(p, &m->body, ends));
    p->loops = loops;
    p->n_macros--;
    p->tok++;
    for (size_t i = 0; i < m->n_params; i++) { /* a parameter of that name is an ordinary one */
        m->uses_varargs = m->uses_varargs && m->param[i] != p->t->sym_varargs;
        m->uses_kwargs = m->uses_kwargs && m->param[i] != p->t->sym_kwargs;
    }
    return FM_OK;
}

static fm_status macro_statement(fmj_parser *p, fmj_node *n, bool call) {
    fmj_macro_def *m = fmj_arena_alloc(&p->t->arena, sizeof *m);
    fm_sv name = fm_sv_of("caller");
    if (!m) {
        return fmj_arena_failed(&p->t->arena);
    }
    *m = (fmj_macro_def){0};
    n->macro = m;
    if (!call) {
        FM_TRY(fmj_expect_name(p, &name));
    }
    FM_TRY(fmj_parser_str(p, &m->name, name));
    FM_TRY(fmj_symbol(p, &m->sym, name));
    if (!call || fmj_at_op(p, '(')) {
        FM_TRY(signature(p, m));
    }
    if (call) {
        FM_TRY(fmj_expression(p, &n->a, true));
        if (n->a->kind != FMJ_N_CALL) {
            return fmj_syntax(p, "a call before");
        }
    }
    return macro_body(p, m, call ? "endcall" : "endmacro");
}

static fm_status with_statement(fmj_parser *p, fmj_node *n) {
    static const char *const ends[] = {"endwith", NULL};
    fmj_nodes l = {0};
    while (p->tok->type != FMJ_T_BLOCK_END) {
        fmj_node *part;
        if (l.n > 0) {
            FM_TRY(fmj_expect_op(p, ',', "','"));
        }
        FM_TRY(fmj_target(p, &part, false, false));
        FM_TRY(fmj_nodes_add(p, &l, part));
        FM_TRY(fmj_expect_op(p, FMJ_OP_ASSIGN, "'='"));
        FM_TRY(fmj_expression(p, &part, true));
        FM_TRY(fmj_nodes_add(p, &l, part));
    }
    n->list = l.item;
    n->n = (uint32_t)l.n;
    FM_TRY(block_body(p, &n->c, ends));
    p->tok++;
    return FM_OK;
}

static fm_status refuse(fmj_parser *p, fm_sv word) {
    static const char *const other[] = {"include", "import", "from", "extends", "block", "autoescape", "do", "trans"};
    int line = p->tok->line;
    for (size_t i = 0; i < FM_ARRAY_LEN(other); i++) {
        if (fm_sv_eq(word, other[i])) {
            (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "%s:%d: chat templates cannot use {%% %s %%}",
                               p->t->name, line, other[i]);
            return fm_error_hint("a chat template is one text; write the part in place, or as a macro");
        }
    }
    FM_FAIL(FM_ERR_FORMAT, "%s:%d: unknown tag '%.*s'", p->t->name, line, (int)FM_MIN(word.len, (size_t)60), word.ptr);
}

/* One statement behind "{%", up to before its "%}". */
static fm_status statement(fmj_parser *p, fmj_node **out) {
    static const char *const end_filter[] = {"endfilter", NULL}, *const end_generation[] = {"endgeneration", NULL};
    static const struct {
        const char *word;
        fmj_kind kind;
    } kinds[] = {{"for", FMJ_N_FOR},           {"if", FMJ_N_IF},
                 {"set", FMJ_N_SET},           {"macro", FMJ_N_MACRO},
                 {"call", FMJ_N_CALL_BLOCK},   {"filter", FMJ_N_FILTER_BLOCK},
                 {"with", FMJ_N_WITH},         {"break", FMJ_N_BREAK},
                 {"continue", FMJ_N_CONTINUE}, {"generation", FMJ_N_GENERATION},
                 {"print", FMJ_N_PRINT}};
    fmj_node *n;
    fm_sv word;
    size_t k = 0;
    FM_TRY(fmj_enter(p));
    FM_TRY(fmj_expect_name(p, &word));
    while (k < FM_ARRAY_LEN(kinds) && !fm_sv_eq(word, kinds[k].word)) {
        k++;
    }
    if (k == FM_ARRAY_LEN(kinds)) {
        return refuse(p, word);
    }
    FM_TRY(fmj_node_new(p, &n, kinds[k].kind));
    fm_status s = FM_OK;
    switch (kinds[k].kind) {
    case FMJ_N_FOR:
        s = for_statement(p, n);
        break;
    case FMJ_N_IF:
        s = if_statement(p, n);
        break;
    case FMJ_N_SET:
        s = set_statement(p, n);
        break;
    case FMJ_N_MACRO:
    case FMJ_N_CALL_BLOCK:
        s = macro_statement(p, n, kinds[k].kind == FMJ_N_CALL_BLOCK);
        break;
    case FMJ_N_FILTER_BLOCK:
        FM_TRY(fmj_filters(p, &n->b, NULL, true));
        s = block_body(p, &n->c, end_filter);
        p->tok += s == FM_OK;
        break;
    case FMJ_N_WITH:
        s = with_statement(p, n);
        break;
    case FMJ_N_GENERATION:
        p->t->has_generation = true;
        s = block_body(p, &n->c, end_generation);
        p->tok += s == FM_OK;
        break;
    case FMJ_N_PRINT:
        s = fmj_tuple(p, &n->a, true, NULL);
        break;
    default: /* break, continue */
        if (p->loops == 0) {
            return fmj_syntax(p, "break and continue inside a loop");
        }
        break;
    }
    FM_TRY(s);
    p->depth--;
    *out = n;
    return fmj_node_close(p, n);
}

static fm_status statements(fmj_parser *p, fmj_node **out, const char *const *ends) {
    fmj_nodes l = {0};
    fmj_node *body, *n = NULL;
    FM_TRY(fmj_node_new(p, &body, FMJ_N_BODY));
    for (;;) {
        const fmj_token *t = p->tok;
        if (t->type == FMJ_T_END) {
            if (ends) {
                char want[80];
                size_t at = 0;
                for (const char *const *e = ends; *e; e++) {
                    at += (size_t)snprintf(want + at, sizeof want - at, "%s'%s'", e == ends ? "" : " or ", *e);
                }
                return fmj_syntax(p, want);
            }
            break;
        }
        if (t->type == FMJ_T_DATA) {
            FM_TRY(fmj_node_new(p, &n, FMJ_N_DATA));
            n->val.type = FMJ_STR;
            FM_TRY(fmj_parser_str(p, &n->val.u.s, t->text));
            FM_TRY(fmj_node_close(p, n));
            p->tok++;
        } else if (t->type == FMJ_T_VAR_BEGIN) {
            FM_TRY(fmj_node_new(p, &n, FMJ_N_PRINT));
            p->tok++;
            FM_TRY(fmj_tuple(p, &n->a, true, NULL));
            FM_TRY(fmj_node_close(p, n));
            if (p->tok->type != FMJ_T_VAR_END) {
                return fmj_syntax(p, "'}}'");
            }
            p->tok++;
        } else { /* only a block can begin here */
            p->tok++;
            if (at_end_word(p, ends)) {
                break;
            }
            FM_TRY(statement(p, &n));
            FM_TRY(block_end(p));
        }
        FM_TRY(fmj_nodes_add(p, &l, n));
    }
    body->list = l.item;
    body->n = (uint32_t)l.n;
    *out = body;
    return fmj_node_close(p, body);
}

/* The text with "\n" for all newlines and without one at its end. */
static fm_status normalize(fm_jinja *t, const char *text, size_t n) {
    char *p = fm_malloc(n + 1);
    if (!p) {
        FM_FAIL(FM_ERR_NO_MEMORY, "%s: cannot allocate a template of %zu bytes", t->name, n);
    }
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        bool cr = text[i] == '\r';
        if (cr && i + 1 < n && text[i + 1] == '\n') {
            continue;
        }
        p[at++] = cr ? '\n' : text[i];
    }
    at -= at > 0 && p[at - 1] == '\n';
    t->text = p;
    t->n_text = at;
    return FM_OK;
}

fm_status fmj_parse(fm_jinja **out, const char *text, size_t n, const char *name) {
    *out = NULL;
    if (n > MAX_TEMPLATE) {
        FM_FAIL(FM_ERR_FORMAT, "%s: %zu bytes are too many for a template (at most %zu)", name, n, MAX_TEMPLATE);
    }
    if (!fm_utf8_valid(text, n)) {
        FM_FAIL(FM_ERR_FORMAT, "%s: the template is not valid UTF-8", name);
    }
    fm_jinja *t = fm_calloc(1, sizeof *t);
    if (!t) {
        FM_FAIL(FM_ERR_NO_MEMORY, "%s: cannot allocate a template", name);
    }
    t->arena.limit = (size_t)1 << 30;
    t->name = fm_strdup(name);
    fm_status s = t->name ? normalize(t, text, n) : FM_ERR_NO_MEMORY;
    fmj_parser p = {.t = t};
    size_t n_tokens;
    FM_TRY_GOTO(s, done, s);
    FM_TRY_GOTO(s, done, fmj_symbol(&p, &t->sym_loop, fm_sv_of("loop")));
    FM_TRY_GOTO(s, done, fmj_symbol(&p, &t->sym_caller, fm_sv_of("caller")));
    FM_TRY_GOTO(s, done, fmj_symbol(&p, &t->sym_varargs, fm_sv_of("varargs")));
    FM_TRY_GOTO(s, done, fmj_symbol(&p, &t->sym_kwargs, fm_sv_of("kwargs")));
    FM_TRY_GOTO(s, done, fmj_lex(&p.tok, &n_tokens, &t->arena, t->text, t->n_text, t->name));
    FM_TRY_GOTO(s, done, statements(&p, &t->body, NULL));
    t->global = fmj_arena_alloc(&t->arena, t->n_symbols * sizeof *t->global);
    if (!t->global) {
        s = fmj_arena_failed(&t->arena);
        goto done;
    }
    for (size_t i = 0; i < t->n_symbols; i++) {
        t->global[i] = fmj_row_find(fmj_globals, t->symbol[i].ptr, t->symbol[i].len);
    }
    *out = t;
    t = NULL;
done:
    fmj_free(t);
    return s;
}

void fmj_free(fm_jinja *t) {
    if (t) {
        fmj_arena_free(&t->arena);
        fm_free(t->text);
        fm_free(t->name);
        fm_free(t);
    }
}
