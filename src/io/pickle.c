/* See pickle.h. */
#include "io/pickle.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

#define MAX_BYTES  ((size_t)32 << 20)
#define MAX_VALUES ((size_t)4 << 20)
#define BLOCK      1024 /* values allocated at a time */

struct fm_pickle {
    fm_pickle_value **block;
    size_t n_blocks, blocks_cap, n_values;
    fm_pickle_value *root;
};

typedef fm_pickle_value value;

typedef struct machine {
    fm_pickle *p;
    const uint8_t *begin, *at, *end;
    const char *name;
    const fm_pickle_global *allowed;
    value **stack;
    size_t n_stack, stack_cap;
    size_t *mark;
    size_t n_marks, marks_cap;
    value **memo;
    size_t n_memo, memo_cap;
} machine;

#define BAD(m, ...)                                                                                                    \
    do {                                                                                                               \
        (void)fm_error_set(FM_ERR_CORRUPT, __FILE__, __LINE__, __VA_ARGS__);                                           \
        (void)fm_error_context("%s: pickle, byte %zu", (m)->name, (size_t)((m)->at - (m)->begin));                     \
        return FM_ERR_CORRUPT;                                                                                         \
    } while (0)

/* ---- memory ---------------------------------------------------------------------------------- */

static fm_status new_value(machine *m, fm_pickle_kind kind, value **out) {
    fm_pickle *p = m->p;
    if (p->n_values >= MAX_VALUES) {
        BAD(m, "more than %zu values", MAX_VALUES);
    }
    if (p->n_values == p->n_blocks * BLOCK) {
        void *v = p->block;
        FM_TRY(fm_grow(&v, &p->blocks_cap, p->n_blocks + 1, sizeof *p->block));
        p->block = v;
        value *b = fm_calloc(BLOCK, sizeof *b);
        if (!b) {
            FM_FAIL(FM_ERR_NO_MEMORY, "%s: no memory for the values of a pickle", m->name);
        }
        p->block[p->n_blocks++] = b;
    }
    *out = &p->block[p->n_values / BLOCK][p->n_values % BLOCK];
    p->n_values++;
    (*out)->kind = kind;
    return FM_OK;
}

static bool has_items(const value *v) {
    return v->kind == FM_PICKLE_TUPLE || v->kind == FM_PICKLE_LIST || v->kind == FM_PICKLE_DICT ||
           v->kind == FM_PICKLE_CALL || v->kind == FM_PICKLE_PERSID;
}

void fm_pickle_free(fm_pickle *p) {
    if (!p) {
        return;
    }
    for (size_t i = 0; i < p->n_values; i++) {
        value *v = &p->block[i / BLOCK][i % BLOCK];
        if (has_items(v)) {
            fm_free(v->item);
        }
    }
    for (size_t i = 0; i < p->n_blocks; i++) {
        fm_free(p->block[i]);
    }
    fm_free(p->block);
    fm_free(p);
}

static fm_status push(machine *m, value *v) {
    void *s = m->stack;
    if (m->n_stack >= MAX_VALUES) {
        BAD(m, "more than %zu values on the stack", MAX_VALUES);
    }
    FM_TRY(fm_grow(&s, &m->stack_cap, m->n_stack + 1, sizeof *m->stack));
    m->stack = s;
    m->stack[m->n_stack++] = v;
    return FM_OK;
}

static fm_status push_new(machine *m, fm_pickle_kind kind, value **out) {
    FM_TRY(new_value(m, kind, out));
    return push(m, *out);
}

static fm_status push_int(machine *m, fm_pickle_kind kind, int64_t i) {
    value *v;
    FM_TRY(push_new(m, kind, &v));
    v->i = i;
    return FM_OK;
}

/* Values above the last mark belong to it. */
static size_t stack_floor(const machine *m) {
    return m->n_marks ? m->mark[m->n_marks - 1] : 0;
}

static fm_status pop(machine *m, value **out) {
    if (m->n_stack <= stack_floor(m)) {
        BAD(m, "the stack is empty");
    }
    *out = m->stack[--m->n_stack];
    return FM_OK;
}

static fm_status pop_mark(machine *m, size_t *first) {
    if (m->n_marks == 0) {
        BAD(m, "there is no mark");
    }
    *first = m->mark[--m->n_marks];
    return FM_OK;
}

static fm_status append(machine *m, value *to, value *const *item, size_t n) {
    if (n == 0) {
        return FM_OK;
    }
    if (n > MAX_VALUES - to->n) {
        BAD(m, "more than %zu values in a container", MAX_VALUES);
    }
    if (to->n + n > to->cap) {
        size_t cap = FM_MAX((size_t)to->cap * 2, to->n + n);
        value **grown = fm_realloc(to->item, cap * sizeof *grown);
        if (!grown) {
            FM_FAIL(FM_ERR_NO_MEMORY, "%s: no memory for the values of a pickle", m->name);
        }
        to->item = grown;
        to->cap = (uint32_t)cap;
    }
    memcpy(to->item + to->n, item, n * sizeof(value *));
    to->n += (uint32_t)n;
    return FM_OK;
}

/* ---- arguments of opcodes -------------------------------------------------------------------- */

static fm_status take(machine *m, size_t n, const uint8_t **out) {
    if ((size_t)(m->end - m->at) < n) {
        BAD(m, "expected %zu bytes, the file has %zu more", n, (size_t)(m->end - m->at));
    }
    *out = m->at;
    m->at += n;
    return FM_OK;
}

static fm_status take_uint(machine *m, size_t n_bytes, uint64_t *out) {
    const uint8_t *p;
    FM_TRY(take(m, n_bytes, &p));
    *out = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        *out |= (uint64_t)p[i] << (8 * i);
    }
    return FM_OK;
}

static fm_status take_line(machine *m, const char **out, size_t *n) {
    const uint8_t *nl = memchr(m->at, '\n', (size_t)(m->end - m->at));
    if (!nl) {
        BAD(m, "a line without an end");
    }
    *out = (const char *)m->at;
    *n = (size_t)(nl - m->at);
    m->at = nl + 1;
    return FM_OK;
}

static fm_status push_text(machine *m, size_t size_bytes) {
    uint64_t n;
    const uint8_t *p;
    value *v;
    FM_TRY(take_uint(m, size_bytes, &n));
    if (n > MAX_BYTES) {
        BAD(m, "a string of %llu bytes", (unsigned long long)n);
    }
    FM_TRY(take(m, (size_t)n, &p));
    FM_TRY(push_new(m, FM_PICKLE_STR, &v));
    v->text = (const char *)p;
    v->n = (uint32_t)n;
    return FM_OK;
}

/* A whole number, little-endian two's complement of n bytes. */
static fm_status push_long(machine *m, uint64_t n) {
    const uint8_t *p;
    if (n > 8) {
        BAD(m, "a whole number of %llu bytes; expected at most 8", (unsigned long long)n);
    }
    FM_TRY(take(m, (size_t)n, &p));
    uint64_t u = n && p[n - 1] & 0x80 ? UINT64_MAX : 0;
    for (size_t i = 0; i < n; i++) {
        u &= ~((uint64_t)0xff << (8 * i));
        u |= (uint64_t)p[i] << (8 * i);
    }
    int64_t i;
    memcpy(&i, &u, sizeof i);
    return push_int(m, FM_PICKLE_INT, i);
}

/* The text forms of protocol 0: "12", "12L", "00" and "01" (booleans). */
static fm_status push_int_line(machine *m) {
    const char *s;
    size_t n;
    char buf[32];
    int64_t v;
    FM_TRY(take_line(m, &s, &n));
    if (n == 2 && s[0] == '0' && (s[1] == '0' || s[1] == '1')) {
        return push_int(m, FM_PICKLE_BOOL, s[1] == '1');
    }
    n -= n > 1 && s[n - 1] == 'L';
    if (n >= sizeof buf) {
        BAD(m, "a whole number of %zu digits", n);
    }
    memcpy(buf, s, n);
    buf[n] = '\0';
    if (fm_parse_i64(&v, buf) != FM_OK) {
        BAD(m, "\"%s\" is not a whole number", buf);
    }
    return push_int(m, FM_PICKLE_INT, v);
}

static fm_status push_float(machine *m) {
    const uint8_t *p;
    value *v;
    FM_TRY(take(m, 8, &p));
    uint64_t u = 0;
    for (size_t i = 0; i < 8; i++) {
        u = u << 8 | p[i];
    }
    FM_TRY(push_new(m, FM_PICKLE_FLOAT, &v));
    memcpy(&v->f, &u, sizeof v->f);
    return FM_OK;
}

/* ---- names and calls ------------------------------------------------------------------------- */

static bool same(const char *a, size_t n, const char *b) {
    return strlen(b) == n && memcmp(a, b, n) == 0;
}

static fm_status push_global(machine *m, const char *module, size_t n_module, const char *name, size_t n_name) {
    value *v;
    for (const fm_pickle_global *g = m->allowed; g->module; g++) {
        if (same(module, n_module, g->module) && same(name, n_name, g->name)) {
            FM_TRY(push_new(m, FM_PICKLE_GLOBAL, &v));
            v->global = g;
            return FM_OK;
        }
    }
    (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
                       "%s: the pickle asks for %.*s.%.*s, which is not needed for tensors; nothing was run", m->name,
                       (int)FM_MIN(n_module, 100), module, (int)FM_MIN(n_name, 100), name);
    return fm_error_hint("do not load this file in Python unless you trust who made it; then save its state dict alone "
                         "(safetensors.torch.save_file)");
}

static fm_status do_global(machine *m) {
    const char *module, *name;
    size_t n_module, n_name;
    FM_TRY(take_line(m, &module, &n_module));
    FM_TRY(take_line(m, &name, &n_name));
    return push_global(m, module, n_module, name, n_name);
}

static fm_status do_stack_global(machine *m) {
    value *name, *module;
    FM_TRY(pop(m, &name));
    FM_TRY(pop(m, &module));
    if (name->kind != FM_PICKLE_STR || module->kind != FM_PICKLE_STR) {
        BAD(m, "a name that is not a string");
    }
    return push_global(m, module->text, module->n, name->text, name->n);
}

static fm_status do_reduce(machine *m) {
    value *args, *fn, *v;
    FM_TRY(pop(m, &args));
    FM_TRY(pop(m, &fn));
    if (fn->kind != FM_PICKLE_GLOBAL || args->kind != FM_PICKLE_TUPLE) {
        BAD(m, "a call of something that is not a function");
    }
    if (!fn->global->dict) {
        FM_TRY(push_new(m, FM_PICKLE_CALL, &v));
        v->global = fn->global;
        return append(m, v, &args, 1);
    }
    FM_TRY(push_new(m, FM_PICKLE_DICT, &v));
    const value *pairs = args->n ? args->item[0] : NULL; /* OrderedDict([[key, value], ...]) */
    if (args->n > 1 || (pairs && pairs->kind != FM_PICKLE_LIST)) {
        BAD(m, "unexpected arguments of %s", fn->global->name);
    }
    for (uint32_t i = 0; pairs && i < pairs->n; i++) {
        const value *pair = pairs->item[i];
        if ((pair->kind != FM_PICKLE_LIST && pair->kind != FM_PICKLE_TUPLE) || pair->n != 2) {
            BAD(m, "unexpected arguments of %s", fn->global->name);
        }
        FM_TRY(append(m, v, pair->item, 2));
    }
    return FM_OK;
}

/* Attributes of what a call made: not needed for tensors. */
static fm_status do_build(machine *m) {
    value *state;
    FM_TRY(pop(m, &state));
    if (m->n_stack <= stack_floor(m)) {
        BAD(m, "the stack is empty");
    }
    return FM_OK;
}

/* ---- containers and memo --------------------------------------------------------------------- */

/* The n values on top become a tuple. */
static fm_status make_tuple(machine *m, size_t first) {
    value *v;
    FM_TRY(new_value(m, FM_PICKLE_TUPLE, &v));
    if (m->n_stack > first) { /* before the first value there is no stack */
        FM_TRY(append(m, v, m->stack + first, m->n_stack - first));
    }
    m->n_stack = first;
    return push(m, v);
}

static fm_status do_tuple(machine *m, size_t n) {
    if (m->n_stack - stack_floor(m) < n) {
        BAD(m, "the stack is empty");
    }
    return make_tuple(m, m->n_stack - n);
}

/* The values above `first` go into the container below. */
static fm_status add_items(machine *m, size_t first, fm_pickle_kind kind) {
    if (first <= stack_floor(m) || m->stack[first - 1]->kind != kind) {
        BAD(m, "items without their container");
    }
    if (kind == FM_PICKLE_DICT && (m->n_stack - first) % 2 != 0) {
        BAD(m, "a key without a value");
    }
    FM_TRY(append(m, m->stack[first - 1], m->stack + first, m->n_stack - first));
    m->n_stack = first;
    return FM_OK;
}

static fm_status add_marked(machine *m, fm_pickle_kind kind) {
    size_t first;
    FM_TRY(pop_mark(m, &first));
    return add_items(m, first, kind);
}

static fm_status add_top(machine *m, size_t n, fm_pickle_kind kind) {
    if (m->n_stack - stack_floor(m) < n + 1) {
        BAD(m, "items without their container");
    }
    return add_items(m, m->n_stack - n, kind);
}

/* A container of the values above the mark. */
static fm_status make_marked(machine *m, fm_pickle_kind kind) {
    size_t first;
    value *v;
    FM_TRY(pop_mark(m, &first));
    FM_TRY(make_tuple(m, first));
    v = m->stack[m->n_stack - 1];
    if (kind == FM_PICKLE_DICT && v->n % 2 != 0) {
        BAD(m, "a key without a value");
    }
    v->kind = kind;
    return FM_OK;
}

static fm_status do_mark(machine *m) {
    void *p = m->mark;
    if (m->n_marks >= MAX_VALUES) {
        BAD(m, "more than %zu marks", MAX_VALUES);
    }
    FM_TRY(fm_grow(&p, &m->marks_cap, m->n_marks + 1, sizeof *m->mark));
    m->mark = p;
    m->mark[m->n_marks++] = m->n_stack;
    return FM_OK;
}

/* Writers number the memo from 0 upwards, so a place far away is no pickle, but an attempt to take memory. */
static fm_status do_put(machine *m, uint64_t i) {
    void *p = m->memo;
    if (m->n_stack <= stack_floor(m)) {
        BAD(m, "the stack is empty");
    }
    if (i > m->n_memo || i >= MAX_VALUES) {
        BAD(m, "memo place %llu after %zu", (unsigned long long)i, m->n_memo);
    }
    FM_TRY(fm_grow(&p, &m->memo_cap, (size_t)i + 1, sizeof *m->memo));
    m->memo = p;
    m->memo[i] = m->stack[m->n_stack - 1];
    m->n_memo = FM_MAX(m->n_memo, (size_t)i + 1);
    return FM_OK;
}

static fm_status do_get(machine *m, uint64_t i) {
    if (i >= m->n_memo) {
        BAD(m, "memo place %llu of %zu", (unsigned long long)i, m->n_memo);
    }
    return push(m, m->memo[i]);
}

static fm_status do_line_index(machine *m, bool put) {
    const char *s;
    size_t n;
    uint64_t i = 0;
    FM_TRY(take_line(m, &s, &n));
    for (size_t k = 0; k < n; k++) {
        if (s[k] < '0' || s[k] > '9' || i > MAX_VALUES) {
            BAD(m, "a memo place that is not a number");
        }
        i = i * 10 + (uint64_t)(s[k] - '0');
    }
    return put ? do_put(m, i) : do_get(m, i);
}

static fm_status do_persid(machine *m) {
    value *id, *v;
    FM_TRY(pop(m, &id));
    FM_TRY(push_new(m, FM_PICKLE_PERSID, &v));
    return append(m, v, &id, 1);
}

static fm_status do_pop(machine *m, bool mark) {
    value *v;
    size_t first;
    if (mark || (m->n_marks && m->n_stack == m->mark[m->n_marks - 1])) {
        FM_TRY(pop_mark(m, &first));
        m->n_stack = first;
        return FM_OK;
    }
    return pop(m, &v);
}

/* ---- opcodes --------------------------------------------------------------------------------- */

static fm_status step_numbers(machine *m, uint8_t op, bool *known) {
    uint64_t u;
    int32_t i;
    switch (op) {
    case 'J': /* BININT */
        FM_TRY(take_uint(m, 4, &u));
        memcpy(&i, &(uint32_t){(uint32_t)u}, sizeof i);
        return push_int(m, FM_PICKLE_INT, i);
    case 'K': /* BININT1 */
    case 'M': /* BININT2 */
        FM_TRY(take_uint(m, op == 'K' ? 1 : 2, &u));
        return push_int(m, FM_PICKLE_INT, (int64_t)u);
    case 0x8a: /* LONG1 */
    case 0x8b: /* LONG4 */
        FM_TRY(take_uint(m, op == 0x8a ? 1 : 4, &u));
        return push_long(m, u);
    case 'I': /* INT */
    case 'L': /* LONG */
        return push_int_line(m);
    case 'G': /* BINFLOAT */
        return push_float(m);
    case 'N': /* NONE */
        return push_int(m, FM_PICKLE_NONE, 0);
    case 0x88: /* NEWTRUE */
    case 0x89: /* NEWFALSE */
        return push_int(m, FM_PICKLE_BOOL, op == 0x88);
    case 'X': /* BINUNICODE */
    case 'T': /* BINSTRING */
    case 'B': /* BINBYTES */
        return push_text(m, 4);
    case 0x8c: /* SHORT_BINUNICODE */
    case 'U':  /* SHORT_BINSTRING */
    case 'C':  /* SHORT_BINBYTES */
        return push_text(m, 1);
    case 0x8d: /* BINUNICODE8 */
    case 0x8e: /* BINBYTES8 */
        return push_text(m, 8);
    default:
        *known = false;
        return FM_OK;
    }
}

static fm_status step_containers(machine *m, uint8_t op, bool *known) {
    uint64_t u;
    value *v;
    switch (op) {
    case '(':
        return do_mark(m);
    case ')':
        return push_new(m, FM_PICKLE_TUPLE, &v);
    case '}':
        return push_new(m, FM_PICKLE_DICT, &v);
    case ']': /* EMPTY_LIST */
    case 0x8f:
        return push_new(m, FM_PICKLE_LIST, &v); /* EMPTY_SET */
    case 't':
        return make_marked(m, FM_PICKLE_TUPLE); /* TUPLE */
    case 'l':                                   /* LIST */
    case 0x91:
        return make_marked(m, FM_PICKLE_LIST); /* FROZENSET */
    case 'd':
        return make_marked(m, FM_PICKLE_DICT); /* DICT */
    case 0x85:                                 /* TUPLE1 */
    case 0x86:                                 /* TUPLE2 */
    case 0x87:
        return do_tuple(m, (size_t)op - 0x84); /* TUPLE3 */
    case 'a':
        return add_top(m, 1, FM_PICKLE_LIST); /* APPEND */
    case 's':
        return add_top(m, 2, FM_PICKLE_DICT); /* SETITEM */
    case 'e':                                 /* APPENDS */
    case 0x90:
        return add_marked(m, FM_PICKLE_LIST); /* ADDITEMS */
    case 'u':
        return add_marked(m, FM_PICKLE_DICT); /* SETITEMS */
    case '0':
        return do_pop(m, false); /* POP */
    case '1':
        return do_pop(m, true); /* POP_MARK */
    case 'p':
        return do_line_index(m, true); /* PUT */
    case 'g':
        return do_line_index(m, false); /* GET */
    case 'q':
        FM_TRY(take_uint(m, 1, &u));
        return do_put(m, u); /* BINPUT */
    case 'r':
        FM_TRY(take_uint(m, 4, &u));
        return do_put(m, u); /* LONG_BINPUT */
    case 'h':
        FM_TRY(take_uint(m, 1, &u));
        return do_get(m, u); /* BINGET */
    case 'j':
        FM_TRY(take_uint(m, 4, &u));
        return do_get(m, u); /* LONG_BINGET */
    case 0x94:
        return do_put(m, m->n_memo); /* MEMOIZE */
    case 'Q':
        return do_persid(m); /* BINPERSID */
    default:
        *known = false;
        return FM_OK;
    }
}

static fm_status step(machine *m, uint8_t op) {
    bool known = true;
    uint64_t u;
    FM_TRY(step_numbers(m, op, &known));
    if (known) {
        return FM_OK;
    }
    known = true;
    FM_TRY(step_containers(m, op, &known));
    if (known) {
        return FM_OK;
    }
    switch (op) {
    case 0x80: /* PROTO */
        FM_TRY(take_uint(m, 1, &u));
        if (u > 5) {
            FM_FAIL(FM_ERR_UNSUPPORTED, "%s: pickle protocol %d; expected at most 5", m->name, (int)u);
        }
        return FM_OK;
    case 0x95: /* FRAME: a hint for readers of streams */
        return take_uint(m, 8, &u);
    case 'c':
        return do_global(m);
    case 0x93:
        return do_stack_global(m);
    case 'R':
        return do_reduce(m);
    case 'b':
        return do_build(m);
    case 'i':  /* INST */
    case 'o':  /* OBJ */
    case 0x81: /* NEWOBJ */
    case 0x92: /* NEWOBJ_EX */
    case 0x82: /* EXT1 */
    case 0x83: /* EXT2 */
    case 0x84: /* EXT4 */
        (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
                           "%s: the pickle makes objects of classes (opcode 0x%02x at byte %zu); nothing was run",
                           m->name, op, (size_t)(m->at - m->begin) - 1);
        return fm_error_hint("a state dict holds tensors only; save model.state_dict(), not the model itself");
    default:
        BAD(m, "opcode 0x%02x is not known", op);
    }
}

static fm_status run(machine *m) {
    for (;;) {
        const uint8_t *op;
        FM_TRY(take(m, 1, &op));
        if (*op == '.') { /* STOP */
            return pop(m, &m->p->root);
        }
        FM_TRY(step(m, *op));
    }
}

fm_status fm_pickle_read(fm_pickle **out, const void *data, size_t n, size_t *used, const fm_pickle_global *allowed,
                         const char *name) {
    *out = NULL;
    machine m = {.begin = data, .at = data, .end = (const uint8_t *)data + n, .name = name, .allowed = allowed};
    if (n > MAX_BYTES) { /* whole files may be larger; what describes tensors is small */
        m.end = m.begin + MAX_BYTES;
    }
    m.p = fm_calloc(1, sizeof *m.p);
    if (!m.p) {
        FM_FAIL(FM_ERR_NO_MEMORY, "%s: no memory to read a pickle", name);
    }
    fm_status s = run(&m);
    fm_free(m.stack);
    fm_free(m.mark);
    fm_free(m.memo);
    if (s != FM_OK) {
        fm_pickle_free(m.p);
        return s;
    }
    if (used) {
        *used = (size_t)(m.at - m.begin);
    }
    *out = m.p;
    return FM_OK;
}

const fm_pickle_value *fm_pickle_root(const fm_pickle *p) {
    return p->root;
}

size_t fm_pickle_count(const fm_pickle *p) {
    return p->n_values;
}

const fm_pickle_value *fm_pickle_at(const fm_pickle *p, size_t i) {
    return &p->block[i / BLOCK][i % BLOCK];
}

bool fm_pickle_text_is(const fm_pickle_value *v, const char *text) {
    return v && v->kind == FM_PICKLE_STR && same(v->text, v->n, text);
}

const fm_pickle_value *fm_pickle_get(const fm_pickle_value *dict, const char *key) {
    for (uint32_t i = 0; dict && dict->kind == FM_PICKLE_DICT && i + 1 < dict->n; i += 2) {
        if (fm_pickle_text_is(dict->item[i], key)) {
            return dict->item[i + 1];
        }
    }
    return NULL;
}
