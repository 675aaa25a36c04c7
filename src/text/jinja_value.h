/* Values of the template language, as Python sees them, and the memory they live in.
 *
 * A render owns one arena: every value, string and scope made while it runs is taken from it and given back at its end,
 * so values are copied freely and never freed singly. What a template can take is bounded (fmj_limits). */
#ifndef FM_TEXT_JINJA_VALUE_H
#define FM_TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/str.h"
#include "fathom/status.h"

typedef enum fmj_type {
    FMJ_UNSET, /* an argument that was not given; never seen by templates */
    FMJ_UNDEFINED,
    FMJ_NONE,
    FMJ_BOOL,
    FMJ_INT,
    FMJ_FLOAT,
    FMJ_STR,
    FMJ_LIST,
    FMJ_TUPLE,
    FMJ_RANGE,
    FMJ_VIEW,      /* keys(), values(), items() of a dict */
    FMJ_GENERATOR, /* what map, select ... give: has no length, is true, can be walked once */
    FMJ_DICT,
    FMJ_NAMESPACE,
    FMJ_LOOP,
    FMJ_MACRO,
    FMJ_FUNCTION,
    FMJ_METHOD,
    FMJ_CYCLER,
    FMJ_JOINER
} fmj_type;

typedef struct fmj_run fmj_run;
typedef struct fmj_dict fmj_dict;
typedef struct fmj_row fmj_row;

typedef struct fmj_str {
    const char *p; /* UTF-8, not NUL-terminated */
    size_t n;
    int64_t chars; /* code points; -1 = not counted yet */
} fmj_str;

typedef struct fmj_value fmj_value;

typedef struct fmj_list {
    size_t n;
    fmj_value *item;
    size_t at;                 /* items already taken from a generator */
    int64_t start, stop, step; /* of a range */
    const char *kind;          /* of a view: "dict_keys"; of a tuple of groupby: "group" */
} fmj_list;

typedef struct fmj_method fmj_method;

/* 16 bytes, passed by value in arrays. */
struct fmj_value {
    uint8_t type;  /* fmj_type */
    bool safe;     /* a string that `safe` or `escape` made: + escapes what is added to it */
    uint8_t owner; /* FMJ_UNDEFINED: type whose attribute was missing, or FMJ_UNSET for a variable */
    union {
        bool b;
        int64_t i;
        double f;
        fmj_str *s; /* FMJ_STR; FMJ_UNDEFINED: the missing name or NULL */
        fmj_list *list;
        fmj_dict *dict;     /* FMJ_DICT, FMJ_NAMESPACE */
        const fmj_row *row; /* FMJ_FUNCTION */
        fmj_method *method;
        void *obj; /* FMJ_LOOP, FMJ_MACRO, FMJ_CYCLER, FMJ_JOINER */
    } u;
};

struct fmj_method {
    fmj_value self;
    const fmj_row *row;
};

typedef struct fmj_entry {
    fmj_value key, value;
} fmj_entry;

/* Insertion order is kept; small ones are searched one by one, larger ones through an index. */
struct fmj_dict {
    size_t n, cap;
    fmj_entry *e;
    uint32_t *index; /* [n_index], entry + 1; NULL while small */
    size_t n_index;
};

/* ---- Arena -------------------------------------------------------------------------------------- */

typedef struct fmj_block fmj_block;
typedef struct fmj_arena {
    fmj_block *block;
    size_t used, limit; /* bytes handed out, bytes allowed (0 = any) */
    fm_status failed;   /* why the last allocation failed */
} fmj_arena;

/* 16-byte aligned, not zeroed; NULL on failure with the error recorded and its status in a->failed. */
void *fmj_arena_alloc(fmj_arena *a, size_t n);
void fmj_arena_free(fmj_arena *a);

/* Why the last allocation failed; never FM_OK. */
static inline fm_status fmj_arena_failed(const fmj_arena *a) {
    FM_ASSERT(a->failed != FM_OK);
    return a->failed;
}

/* For functions that return fm_status and have a run `r`. */
#define FMJ_CHECK(p)                                                                                                   \
    do {                                                                                                               \
        if (!(p)) {                                                                                                    \
            return fmj_arena_failed(&r->arena);                                                                        \
        }                                                                                                              \
    } while (0)

/* ---- A render ----------------------------------------------------------------------------------- */

typedef struct fmj_limits {
    int64_t steps;      /* nodes evaluated, items visited */
    size_t memory;      /* bytes of values */
    size_t output;      /* bytes of text */
    int32_t max_depth;  /* nesting of evaluation */
    int32_t max_macros; /* nesting of macro calls */
} fmj_limits;

typedef struct fmj_scope fmj_scope;
typedef struct fmj_span {
    size_t begin, end;
} fmj_span;

struct fmj_run {
    fmj_arena arena;
    const struct fm_jinja *tpl;
    fmj_limits limits;
    int64_t steps;
    int64_t now; /* for strftime_now, in seconds since 1970; 0 = the clock */
    int32_t depth, macros, line;
    fmj_scope *scope;
    fm_str *buf; /* [n_buf]: buf[0] is the text, the others capture blocks; buf[at_buf] is written to */
    size_t n_buf, cap_buf, at_buf;
    fmj_span *span; /* what {% generation %} enclosed in the text; by fm_malloc */
    size_t n_span, cap_span;
};

/* Counts n steps; FM_ERR_DATA when the template takes too many. */
FM_MUST_CHECK fm_status fmj_step(fmj_run *r, size_t n);
static inline void *fmj_alloc(fmj_run *r, size_t n) {
    return fmj_arena_alloc(&r->arena, n);
}

/* ---- Making values ------------------------------------------------------------------------------ */

static inline fmj_value fmj_none(void) {
    return (fmj_value){.type = FMJ_NONE};
}
static inline fmj_value fmj_bool(bool b) {
    return (fmj_value){.type = FMJ_BOOL, .u.b = b};
}
static inline fmj_value fmj_int(int64_t i) {
    return (fmj_value){.type = FMJ_INT, .u.i = i};
}
static inline fmj_value fmj_float(double f) {
    return (fmj_value){.type = FMJ_FLOAT, .u.f = f};
}
static inline fmj_value fmj_of_list(fmj_type t, fmj_list *l) {
    return (fmj_value){.type = (uint8_t)t, .u.list = l};
}
static inline fmj_value fmj_of_dict(fmj_dict *d) {
    return (fmj_value){.type = FMJ_DICT, .u.dict = d};
}
static inline fmj_value fmj_undefined(fmj_str *name, fmj_type owner) {
    return (fmj_value){.type = FMJ_UNDEFINED, .owner = (uint8_t)owner, .u.s = name};
}

/* A string over bytes that live as long as the run. */
FM_MUST_CHECK fm_status fmj_str_view(fmj_run *r, fmj_value *out, const char *p, size_t n);
/* A string with a copy of the bytes. */
FM_MUST_CHECK fm_status fmj_str_copy(fmj_run *r, fmj_value *out, const char *p, size_t n);
FM_MUST_CHECK fm_status fmj_str_cat(fmj_run *r, fmj_value *out, const fmj_str *a, const fmj_str *b);
/* Copies what was built in `s` and frees it, also on failure. */
FM_MUST_CHECK fm_status fmj_str_take(fmj_run *r, fmj_value *out, fm_str *s);
/* Room for n items, n set. */
FM_MUST_CHECK fm_status fmj_list_new(fmj_run *r, fmj_list **out, size_t n);
FM_MUST_CHECK fm_status fmj_dict_new(fmj_run *r, fmj_dict **out, size_t cap);
FM_MUST_CHECK fm_status fmj_from_json(fmj_run *r, fmj_value *out, fm_json *j);

/* ---- Asking ------------------------------------------------------------------------------------- */

const char *fmj_type_name(const fmj_value *v); /* "str", "dict" ... as Python names it */
/* False only by Python's rules; generators and functions are true. */
bool fmj_truth(const fmj_value *v);
int64_t fmj_chars(fmj_str *s); /* code points */
/* Byte offset of code point i (0 <= i <= chars). */
size_t fmj_char_offset(fmj_str *s, int64_t i);
static inline bool fmj_is_seq(const fmj_value *v) {
    return v->type == FMJ_LIST || v->type == FMJ_TUPLE || v->type == FMJ_RANGE;
}
static inline bool fmj_is_int(const fmj_value *v) { /* True and False are numbers too */
    return v->type == FMJ_INT || v->type == FMJ_BOOL;
}
static inline int64_t fmj_as_int(const fmj_value *v) {
    return v->type == FMJ_BOOL ? v->u.b : v->u.i;
}
static inline bool fmj_is_number(const fmj_value *v) {
    return fmj_is_int(v) || v->type == FMJ_FLOAT;
}
static inline double fmj_as_float(const fmj_value *v) {
    return v->type == FMJ_FLOAT ? v->u.f : (double)fmj_as_int(v);
}
bool fmj_str_eq(const fmj_str *s, const char *cstr);

/* NULL when missing. The key must be hashable (fmj_hash_check). */
fmj_value *fmj_dict_find(const fmj_dict *d, const fmj_value *key);
fmj_value *fmj_dict_find_str(const fmj_dict *d, const char *p, size_t n);
FM_MUST_CHECK fm_status fmj_hash_check(fmj_run *r, const fmj_value *key);
FM_MUST_CHECK fm_status fmj_dict_put(fmj_run *r, fmj_dict *d, const fmj_value *key, const fmj_value *value);
FM_MUST_CHECK fm_status fmj_dict_put_name(fmj_run *r, fmj_dict *d, const char *key, const fmj_value *value);

/* Number of items; -1 when the value has none (a number, a generator). */
int64_t fmj_len(const fmj_value *v);
/* The items one gets by walking v: shared with v where it is a list. A generator is used up. FM_ERR_DATA when v cannot
 * be walked. */
FM_MUST_CHECK fm_status fmj_items(fmj_run *r, fmj_list **out, const fmj_value *v);

/* v[key] and v.name by Jinja's rules; what is missing is undefined. */
FM_MUST_CHECK fm_status fmj_get_item(fmj_run *r, fmj_value *out, const fmj_value *v, const fmj_value *key);
FM_MUST_CHECK fm_status fmj_get_attr(fmj_run *r, fmj_value *out, const fmj_value *v, fmj_str *name);
FM_MUST_CHECK fm_status fmj_get_slice(fmj_run *r, fmj_value *out, const fmj_value *v, const fmj_value bound[3]);
/* A method of self. */
FM_MUST_CHECK fm_status fmj_bind(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_row *row);
/* Python's error for using an undefined value: FM_ERR_DATA "'x' is undefined". */
fm_status fmj_fail_undefined(const fmj_value *v);

/* ---- Comparing ---------------------------------------------------------------------------------- */

FM_MUST_CHECK fm_status fmj_equal(fmj_run *r, bool *out, const fmj_value *a, const fmj_value *b);
/* -1, 0, 1; 2 when a NaN is among them. FM_ERR_DATA for types that have no order. `op` is for the message. */
FM_MUST_CHECK fm_status fmj_order(fmj_run *r, int *out, const fmj_value *a, const fmj_value *b, const char *op);
FM_MUST_CHECK fm_status fmj_contains(fmj_run *r, bool *out, const fmj_value *where, const fmj_value *what);

/* ---- Printing ----------------------------------------------------------------------------------- */

/* Appends str(v) or repr(v). */
FM_MUST_CHECK fm_status fmj_print(fmj_run *r, fm_str *out, const fmj_value *v);
FM_MUST_CHECK fm_status fmj_repr(fmj_run *r, fm_str *out, const fmj_value *v);
/* str(v) as a string value; v itself when it is one. */
FM_MUST_CHECK fm_status fmj_to_str(fmj_run *r, fmj_str **out, const fmj_value *v);
void fmj_print_float(fm_str *out, double f);

typedef struct fmj_json_format {
    bool ensure_ascii, sort_keys;
    const char *item, *key; /* separators */
    size_t n_item, n_key;
    const char *indent; /* one level, or NULL */
    size_t n_indent;
} fmj_json_format;
/* Appends json.dumps(v). */
FM_MUST_CHECK fm_status fmj_dump_json(fmj_run *r, fm_str *out, const fmj_value *v, const fmj_json_format *f);

/* ---- Functions ---------------------------------------------------------------------------------- */

#define FMJ_MAX_PARAMS 8

typedef struct fmj_args {
    fmj_value *pos;
    size_t n_pos;
    fmj_str **kw_name;
    fmj_value *kw;
    size_t n_kw;
    fmj_value v[FMJ_MAX_PARAMS]; /* by parameter; FMJ_UNSET when not given */
} fmj_args;

typedef fm_status (*fmj_fn)(fmj_run *r, fmj_value *out, const fmj_value *self, const fmj_args *a);

/* A filter, test, method or global function. */
struct fmj_row {
    const char *name;
    fmj_fn fn;
    const char *params; /* "old,new,count=": those with = may be missing; "*": fn looks at pos and kw itself */
};

/* By name in a table that ends with a NULL name. */
const fmj_row *fmj_row_find(const fmj_row *table, const char *name, size_t n);
extern const fmj_row *const fmj_filter_tables[]; /* NULL-terminated list of tables */
extern const fmj_row fmj_tests[], fmj_globals[], fmj_str_methods[], fmj_dict_methods[], fmj_list_methods[],
    fmj_tuple_methods[];
extern const fmj_row fmj_filters_text[], fmj_filters_seq[], fmj_filters_num[];
const fmj_row *fmj_filter_find(const char *name, size_t n);

/* Binds the arguments to row->params and calls it. `what` ("filter", "test" ...) is for messages. */
FM_MUST_CHECK fm_status fmj_row_call(fmj_run *r, fmj_value *out, const fmj_row *row, const char *what,
                                     const fmj_value *self, fmj_args *a);
/* Calls any value (jinja_eval.c). */
FM_MUST_CHECK fm_status fmj_call(fmj_run *r, fmj_value *out, const fmj_value *fn, fmj_args *a);

/* Argument readers: defaults for what was not given, FM_ERR_DATA naming the parameter for a wrong type. */
FM_MUST_CHECK fm_status fmj_arg_int(int64_t *out, const fmj_value *v, int64_t def, const char *name);
FM_MUST_CHECK fm_status fmj_arg_str(fmj_str **out, const fmj_value *v, const char *name);
static inline bool fmj_arg_bool(const fmj_value *v, bool def) {
    return v->type == FMJ_UNSET ? def : fmj_truth(v);
}
static inline bool fmj_given(const fmj_value *v) {
    return v->type != FMJ_UNSET;
}

/* Arithmetic (jinja_ops.c). op: + - * / f(loor division) % ^(power) */
FM_MUST_CHECK fm_status fmj_binary(fmj_run *r, fmj_value *out, char op, const fmj_value *a, const fmj_value *b);
/* "..." % args */
FM_MUST_CHECK fm_status fmj_percent(fmj_run *r, fmj_value *out, const fmj_str *fmt, const fmj_value *args);
/* "...".format(args) */
FM_MUST_CHECK fm_status fmj_format(fmj_run *r, fmj_value *out, const fmj_str *fmt, const fmj_args *a);
/* str.replace, max times (negative = all). */
FM_MUST_CHECK fm_status fmj_replace(fmj_run *r, fmj_value *out, const fmj_str *s, const fmj_str *from,
                                    const fmj_str *to, int64_t max);
/* HTML-escapes & < > ' ". */
FM_MUST_CHECK fm_status fmj_escape(fmj_run *r, fmj_value *out, const fmj_value *v);
/* Case mappings; lower, upper, or title for the first letter. */
enum { FMJ_LOWER, FMJ_UPPER, FMJ_TITLE };
void fmj_put_case(fm_str *out, uint32_t cp, int how);
bool fmj_is_space(uint32_t cp); /* what str.isspace and str.strip count as blank */
/* str.strip: set NULL = blanks; left, right choose the ends. */
void fmj_strip(const fmj_str *s, const fmj_str *set, bool left, bool right, size_t *begin, size_t *end);

#endif
