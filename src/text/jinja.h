/* The template language of chat models: Jinja2 as transformers sets it up (trim_blocks, lstrip_blocks, immutable
 * sandbox, break and continue, {% generation %}). A template is parsed once into a tree that does not change, so any
 * number of threads may render it at the same time.
 *
 * Left out, with an error that says so: include, import, extends, block, autoescape, and the filters that make HTML. */
#ifndef FM_TEXT_JINJA_H
#define FM_TEXT_JINJA_H

#include "text/jinja_value.h"

/* ---- Tokens ------------------------------------------------------------------------------------- */

typedef enum fmj_tok {
    FMJ_T_END,
    FMJ_T_DATA,
    FMJ_T_BLOCK_BEGIN,
    FMJ_T_BLOCK_END,
    FMJ_T_VAR_BEGIN,
    FMJ_T_VAR_END,
    FMJ_T_NAME,
    FMJ_T_STRING, /* escapes replaced */
    FMJ_T_INT,
    FMJ_T_FLOAT,
    FMJ_T_OP /* op: the character, or one of the codes below */
} fmj_tok;

enum {
    FMJ_OP_POW = 'P',
    FMJ_OP_FLOORDIV = 'F',
    FMJ_OP_EQ = 'E',
    FMJ_OP_ASSIGN = 'A',
    FMJ_OP_NE = 'N',
    FMJ_OP_GE = 'G',
    FMJ_OP_LE = 'L'
};

typedef struct fmj_token {
    uint8_t type; /* fmj_tok */
    char op;
    int32_t line;
    fm_sv text; /* DATA, NAME, STRING */
    union {
        int64_t i;
        double f;
    } u;
} fmj_token;

/* All tokens of a text into *out [*n], ended by FMJ_T_END, in the arena. The text (newlines made "\n") must outlive
 * them. FM_ERR_FORMAT with `name` and the line. */
FM_MUST_CHECK fm_status fmj_lex(fmj_token **out, size_t *n, fmj_arena *a, const char *text, size_t n_text,
                                const char *name);

/* ---- Tree --------------------------------------------------------------------------------------- */

typedef enum fmj_kind {
    /* expressions */
    FMJ_N_CONST,
    FMJ_N_NAME,
    FMJ_N_LIST,
    FMJ_N_TUPLE,
    FMJ_N_DICT,   /* list: key, value, key, value ... */
    FMJ_N_ATTR,   /* a.val */
    FMJ_N_ITEM,   /* a[b] */
    FMJ_N_SLICE,  /* a[list[0]:list[1]:list[2]], NULL = left out */
    FMJ_N_CALL,   /* a(args) */
    FMJ_N_FILTER, /* a | row(args); a NULL in the head of a filter block */
    FMJ_N_TEST,   /* a is row(args) */
    FMJ_N_NEG,
    FMJ_N_POS,
    FMJ_N_NOT,
    FMJ_N_AND,
    FMJ_N_OR,
    FMJ_N_BINARY,  /* a op b */
    FMJ_N_CONCAT,  /* list[0] ~ list[1] ... */
    FMJ_N_COMPARE, /* a ops[0] list[0] ops[1] list[1] ... */
    FMJ_N_COND,    /* a if b else c */
    FMJ_N_NSREF,   /* sym.val, to assign to */
    /* statements */
    FMJ_N_BODY,         /* list */
    FMJ_N_DATA,         /* val */
    FMJ_N_PRINT,        /* a */
    FMJ_N_IF,           /* list: condition, body, condition, body ...; c = else */
    FMJ_N_FOR,          /* for a in b (if c): list[0], else list[1]; op 'r' = recursive */
    FMJ_N_SET,          /* a = b */
    FMJ_N_SET_BLOCK,    /* a = body c through filters b (or NULL) */
    FMJ_N_MACRO,        /* macro */
    FMJ_N_CALL_BLOCK,   /* call of a with the body of macro as `caller` */
    FMJ_N_FILTER_BLOCK, /* body c through filters b */
    FMJ_N_WITH,         /* list: target, value ...; body c */
    FMJ_N_BREAK,
    FMJ_N_CONTINUE,
    FMJ_N_GENERATION /* body c */
} fmj_kind;

typedef struct fmj_node fmj_node;

typedef struct fmj_call_args {
    fmj_node **pos;
    size_t n_pos;
    fmj_str **kw_name;
    fmj_node **kw;
    size_t n_kw;
    fmj_node *star, *dstar; /* *args, **kwargs */
} fmj_call_args;

typedef struct fmj_macro_def {
    fmj_str *name; /* "caller" for the body of a call block */
    int32_t sym;
    int32_t *param;
    fmj_node **def; /* [n_params], NULL = none */
    size_t n_params;
    fmj_node *body;
    bool uses_caller, uses_varargs, uses_kwargs;
} fmj_macro_def;

struct fmj_node {
    uint8_t kind; /* fmj_kind */
    char op;
    int16_t height; /* of the tree below: bounds the recursion of the evaluator */
    int32_t line;
    int32_t sym; /* name, as an index into the template's symbols */
    uint32_t n;
    fmj_node *a, *b, *c;
    fmj_node **list;
    const char *ops;
    fmj_value val;
    fmj_call_args *args;
    const fmj_row *row; /* of a filter or test; NULL = unknown, val is its name */
    fmj_macro_def *macro;
};

typedef struct fm_jinja {
    fmj_arena arena;
    char *name; /* for messages */
    char *text; /* [n_text] newlines made "\n" */
    size_t n_text;
    fm_sv *symbol; /* [n_symbols], by number */
    size_t n_symbols, cap_symbols;
    const fmj_row **global; /* [n_symbols] function of that name, or NULL */
    fmj_node *body;
    bool has_generation;
    int32_t sym_loop, sym_caller, sym_varargs, sym_kwargs;
} fm_jinja;

/* What the two halves of the parser share (jinja_parse.c statements, jinja_parse_expr.c expressions). */
typedef struct fmj_parser {
    fm_jinja *t;
    fmj_token *tok;
    int32_t depth; /* of the recursion of the parser */
    int32_t loops; /* for loops around */
    struct fmj_macro_def *macro_stack[16];
    int32_t n_macros;
    bool storing; /* reading names to assign to */
} fmj_parser;

FM_MUST_CHECK fm_status fmj_node_new(fmj_parser *p, fmj_node **out, fmj_kind kind);
/* Sets n->height from its children; FM_ERR_FORMAT when the tree is too high. */
FM_MUST_CHECK fm_status fmj_node_close(fmj_parser *p, fmj_node *n);
FM_MUST_CHECK fm_status fmj_symbol(fmj_parser *p, int32_t *out, fm_sv name);
FM_MUST_CHECK fm_status fmj_parser_str(fmj_parser *p, fmj_str **out, fm_sv text);
FM_MUST_CHECK fm_status fmj_expression(fmj_parser *p, fmj_node **out, bool with_cond);
/* An expression, or a tuple without parentheses. `end`: a name that ends it, or NULL. */
FM_MUST_CHECK fm_status fmj_tuple(fmj_parser *p, fmj_node **out, bool with_cond, const char *end);
/* What can be assigned to: a name, ns.attr (when namespace), or a tuple of them (when tuple). */
FM_MUST_CHECK fm_status fmj_target(fmj_parser *p, fmj_node **out, bool tuple, bool space);
/* The filters after `|`; *out begins with the innermost. `inner` may be NULL; `inline_head` reads a first name without
 * a bar, as in {% filter upper %}. */
FM_MUST_CHECK fm_status fmj_filters(fmj_parser *p, fmj_node **out, fmj_node *inner, bool inline_head);
FM_MUST_CHECK fm_status fmj_postfix(fmj_parser *p, fmj_node **node);
bool fmj_at_name(const fmj_parser *p, const char *name);
bool fmj_at_op(const fmj_parser *p, char op);
bool fmj_skip_name(fmj_parser *p, const char *name);
bool fmj_skip_op(fmj_parser *p, char op);
FM_MUST_CHECK fm_status fmj_expect_op(fmj_parser *p, char op, const char *what);
FM_MUST_CHECK fm_status fmj_expect_name(fmj_parser *p, fm_sv *out);
fm_status fmj_syntax(const fmj_parser *p, const char *expected); /* records "expected X, found Y" with the line */
FM_MUST_CHECK fm_status fmj_enter(fmj_parser *p);
/* Appends to a growing list in the arena. */
typedef struct fmj_nodes {
    fmj_node **item;
    size_t n, cap;
} fmj_nodes;
FM_MUST_CHECK fm_status fmj_nodes_add(fmj_parser *p, fmj_nodes *l, fmj_node *n);

/* ---- Rendering ---------------------------------------------------------------------------------- */

struct fmj_scope {
    fmj_scope *parent;
    size_t n, cap;
    struct fmj_binding {
        int32_t sym;
        fmj_value value;
    } * v;
    bool held; /* a macro keeps it: it must not be used again */
};

/* A macro with the scope it was made in. */
typedef struct fmj_closure {
    const fmj_macro_def *def;
    fmj_scope *scope;
} fmj_closure;

typedef struct fmj_loop {
    const fmj_node *node; /* of a recursive loop, else NULL */
    fmj_scope *scope;
    fmj_list *items;
    size_t at;
    int32_t depth0;
    fmj_value *changed; /* arguments of the last loop.changed(...) */
    size_t n_changed;
    bool asked;
} fmj_loop;

FM_MUST_CHECK fm_status fmj_parse(fm_jinja **out, const char *text, size_t n, const char *name);
void fmj_free(fm_jinja *t);

/* Starts a run with the default limits and the members of `vars` as variables (later objects win); to be ended with
 * fmj_run_end, also after a failure. */
FM_MUST_CHECK fm_status fmj_run_begin(fmj_run *r, const fm_jinja *t);
FM_MUST_CHECK fm_status fmj_run_set(fmj_run *r, const char *name, size_t n, const fmj_value *v);
/* The text is then r->buf[0]. Failures name the template and the line. */
FM_MUST_CHECK fm_status fmj_run_render(fmj_run *r);
void fmj_run_end(fmj_run *r);

/* jinja_eval.c: expressions. */
FM_MUST_CHECK fm_status fmj_eval(fmj_run *r, fmj_value *out, const fmj_node *n);
FM_MUST_CHECK fm_status fmj_eval_args(fmj_run *r, fmj_args *out, const fmj_call_args *a);
FM_MUST_CHECK fm_status fmj_eval_filters(fmj_run *r, fmj_value *out, const fmj_node *n, const fmj_value *inner);
FM_MUST_CHECK fm_status fmj_set_name(fmj_run *r, int32_t sym, const fmj_value *v);
FM_MUST_CHECK fm_status fmj_scope_push(fmj_run *r);
void fmj_scope_pop(fmj_run *r);
FM_MUST_CHECK fm_status fmj_assign(fmj_run *r, const fmj_node *target, const fmj_value *v);
/* jinja_exec.c: statements, macros and loops. */
FM_MUST_CHECK fm_status fmj_call_macro(fmj_run *r, fmj_value *out, const fmj_closure *m, const fmj_args *a);
FM_MUST_CHECK fm_status fmj_call_loop(fmj_run *r, fmj_value *out, fmj_loop *l, const fmj_args *a);
/* Attributes of `loop`. */
FM_MUST_CHECK fm_status fmj_loop_attr(fmj_run *r, fmj_value *out, fmj_loop *l, fmj_str *name);
/* Attributes and calls of cycler(...) and joiner(...) (jinja_globals.c). */
FM_MUST_CHECK fm_status fmj_object_attr(fmj_run *r, fmj_value *out, const fmj_value *v, fmj_str *name);
FM_MUST_CHECK fm_status fmj_object_call(fmj_run *r, fmj_value *out, const fmj_value *v);

#endif
