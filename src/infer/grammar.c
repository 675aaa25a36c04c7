/* Grammars: making them, and following a text through their rules. */
#include "infer/grammar.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

static void matcher_destroy(fm_matcher *m);

/* ---- making ---------------------------------------------------------------------------------- */

fm_grammar *fm_grammar_keep(fm_grammar *g) {
    atomic_fetch_add(&g->uses, 1);
    return g;
}

void fm_grammar_free(fm_grammar *g) {
    if (!g || atomic_fetch_sub(&g->uses, 1) != 1) {
        return;
    }
    for (int i = 0; i < g->n_idle; i++) {
        matcher_destroy(g->idle[i]);
    }
    pthread_mutex_destroy(&g->lock);
    fm_free(g->step);
    fm_free(g->first);
    fm_free(g);
}

static fm_status make(fm_grammar *g, fm_grammar_kind kind, const char *text, size_t n, const char *start) {
    fm_str rules = {0};
    fm_matcher *m = NULL;
    fm_status s = FM_OK;
    if (kind == FM_GRAMMAR_GBNF) {
        s = fm_grammar_parse(g, text, n, start);
    } else {
        if (kind == FM_GRAMMAR_REGEX) {
            fm_str_puts(&rules, "root ::= ");
            s = fm_grammar_from_regex(&rules, text, n, false);
        } else {
            s = fm_grammar_from_schema(&rules, text, n);
        }
        s = s == FM_OK ? fm_str_check(&rules) : s;
        s = s == FM_OK ? fm_grammar_parse(g, rules.data, rules.len, start) : s;
    }
    fm_str_free(&rules);
    s = s == FM_OK ? fm_matcher_new(&m, g) : s; /* left recursion at the root shows here */
    fm_matcher_free(m);
    return s;
}

fm_status fm_grammar_new(fm_grammar **out, fm_grammar_kind kind, const char *text, size_t n) {
    return fm_grammar_make(out, kind, text, n, "root");
}

fm_status fm_grammar_make(fm_grammar **out, fm_grammar_kind kind, const char *text, size_t n, const char *start) {
    *out = NULL;
    fm_grammar *g = fm_calloc(1, sizeof *g);
    if (!g) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a grammar");
    }
    atomic_init(&g->uses, 1);
    pthread_mutex_init(&g->lock, NULL);
    fm_status s = make(g, kind, text, n, start);
    if (s != FM_OK) {
        fm_grammar_free(g);
        return s;
    }
    *out = g;
    return FM_OK;
}

fm_status fm_grammar_open(fm_grammar **out, fm_grammar_kind kind, const char *what) {
    char *text = NULL;
    size_t n = 0;
    *out = NULL;
    if (kind == FM_GRAMMAR_REGEX || (kind == FM_GRAMMAR_JSON_SCHEMA && what[strspn(what, " \t\r\n")] == '{')) {
        return fm_grammar_new(out, kind, what, strlen(what));
    }
    FM_TRY(fm_file_read(&text, &n, what, (size_t)8 << 20));
    fm_status s = fm_grammar_new(out, kind, text, n);
    fm_free(text);
    return s;
}

/* ---- following ------------------------------------------------------------------------------- */

/* A way through the rules is a list of steps to return to, innermost first. Equal lists are one object. */
typedef struct way {
    int32_t step; /* a BYTE step, or where a rule returns to; -1 = the end of the text */
    int32_t up;   /* way to return to when the rule ends, -1 = none */
    int32_t next; /* of the hash bucket */
} way;

typedef struct state {
    size_t ways; /* first of its list */
    int32_t n_ways;
    bool complete;
    int32_t next;      /* of the hash bucket */
    int32_t *to;       /* [256] states, NONE = not computed, DEAD; made at first use */
    uint32_t *allowed; /* bits [vocab], made at first use */
} state;

#define NONE        (-2)
#define DEAD        (-1)
#define HASH        4096
#define MAX_CLOSURE 100000 /* ways that a byte may lead to: more is left recursion */
#define MAX_STATES  20000  /* then what was computed is forgotten */
#define MAX_MASKS   128
#define MAX_WORK    20000000 /* ways looked at for one token's mask: a grammar that needs more is refused */
#define KEEP_WAYS   200000   /* matchers with more ways than this are not kept for the next text */

struct fm_matcher {
    fm_grammar *g;
    way *ways;
    size_t n_ways, cap_ways;
    int32_t way_bucket[HASH], state_bucket[HASH];
    state *states;
    size_t n_states, cap_states;
    int32_t *list; /* ways of states */
    size_t n_list, cap_list;
    int32_t now, first; /* states, or DEAD */
    int n_masks;
    uint64_t masks_of; /* serial of the vocabulary that the masks are for */
    int64_t work;      /* of this call */
    /* closure */
    int32_t *stack, *found;
    size_t n_stack, cap_stack, n_found, cap_found;
    uint32_t *mark; /* [cap_ways] round in which a way was seen */
    size_t cap_mark;
    uint32_t round;
    int32_t *depth_state; /* states along a token */
    size_t cap_depth;
};

static fm_status intern(fm_matcher *m, int32_t step, int32_t up, int32_t *out) {
    uint32_t h = ((uint32_t)step * 2654435761u ^ (uint32_t)up * 40503u) % HASH;
    for (int32_t i = m->way_bucket[h]; i >= 0; i = m->ways[i].next) {
        if (m->ways[i].step == step && m->ways[i].up == up) {
            *out = i;
            return FM_OK;
        }
    }
    FM_TRY(fm_grow((void **)&m->ways, &m->cap_ways, m->n_ways + 1, sizeof *m->ways));
    size_t old = m->cap_mark;
    FM_TRY(fm_grow((void **)&m->mark, &m->cap_mark, m->n_ways + 1, sizeof *m->mark));
    memset(m->mark + old, 0, (m->cap_mark - old) * sizeof *m->mark);
    m->ways[m->n_ways] = (way){step, up, m->way_bucket[h]};
    m->way_bucket[h] = (int32_t)m->n_ways;
    *out = (int32_t)m->n_ways++;
    return FM_OK;
}

static bool ends(const fm_grammar *g, int32_t step) {
    return g->step[step].op == FM_GRAMMAR_END || g->step[step].op == FM_GRAMMAR_ALT;
}

/* A position to be looked at: a way whose step may be anything. */
static fm_status look_at(fm_matcher *m, int32_t step, int32_t up) {
    int32_t w;
    FM_TRY(intern(m, step, up, &w));
    if (m->mark[w] == m->round) {
        return FM_OK;
    }
    m->mark[w] = m->round;
    if (m->n_stack + m->n_found > MAX_CLOSURE) {
        FM_FAIL(FM_ERR_ARGUMENT, "the grammar goes on without reading anything: a rule begins with itself");
    }
    FM_TRY(fm_grow((void **)&m->stack, &m->cap_stack, m->n_stack + 1, sizeof *m->stack));
    m->stack[m->n_stack++] = w;
    return FM_OK;
}

static fm_status enter(fm_matcher *m, int32_t rule, int32_t up) {
    const fm_grammar *g = m->g;
    int32_t s = g->first[rule];
    for (;;) {
        FM_TRY(look_at(m, s, up));
        while (!ends(g, s)) {
            s++;
        }
        if (g->step[s].op == FM_GRAMMAR_END) {
            return FM_OK;
        }
        s++;
    }
}

/* From the positions on the stack to all BYTE steps and ends that can be reached without reading, in m->found. */
static fm_status close_over(fm_matcher *m) {
    const fm_grammar *g = m->g;
    int64_t looked = 0;
    while (m->n_stack > 0) {
        int32_t w = m->stack[--m->n_stack], step = m->ways[w].step, up = m->ways[w].up;
        if (++m->work > MAX_WORK) {
            FM_FAIL(FM_ERR_ARGUMENT, "the grammar has too many ways to read the same text");
        }
        if (++looked > MAX_CLOSURE) {
            FM_FAIL(FM_ERR_ARGUMENT, "the grammar goes on without reading anything: a rule begins with itself");
        }
        if (step < 0 || g->step[step].op == FM_GRAMMAR_BYTE) {
            FM_TRY(fm_grow((void **)&m->found, &m->cap_found, m->n_found + 1, sizeof *m->found));
            m->found[m->n_found++] = w;
        } else if (ends(g, step)) {
            FM_TRY(up < 0 ? look_at(m, -1, -1) : look_at(m, m->ways[up].step, m->ways[up].up));
        } else {
            int32_t back = up;
            if (!ends(g,
                      step + 1)) { /* else the rule returns where this one does: recursion at the end costs nothing */
                FM_TRY(intern(m, step + 1, up, &back));
            }
            FM_TRY(enter(m, g->step[step].rule, back));
        }
    }
    return FM_OK;
}

static int by_number(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* The state of the ways in m->found. */
static fm_status intern_state(fm_matcher *m, int32_t *out) {
    qsort(m->found, m->n_found, sizeof *m->found, by_number);
    uint64_t hash = fm_hash64(m->found, m->n_found * sizeof *m->found, 0);
    int32_t *bucket = &m->state_bucket[hash % HASH];
    for (int32_t i = *bucket; i >= 0; i = m->states[i].next) {
        const state *s = &m->states[i];
        if ((size_t)s->n_ways == m->n_found &&
            memcmp(m->list + s->ways, m->found, m->n_found * sizeof *m->found) == 0) {
            *out = i;
            return FM_OK;
        }
    }
    FM_TRY(fm_grow((void **)&m->list, &m->cap_list, m->n_list + m->n_found, sizeof *m->list));
    FM_TRY(fm_grow((void **)&m->states, &m->cap_states, m->n_states + 1, sizeof *m->states));
    state s = {.ways = m->n_list, .n_ways = (int32_t)m->n_found, .next = *bucket};
    for (size_t i = 0; i < m->n_found; i++) {
        m->list[m->n_list++] = m->found[i];
        s.complete = s.complete || m->ways[m->found[i]].step < 0;
    }
    *bucket = (int32_t)m->n_states;
    *out = (int32_t)m->n_states;
    m->states[m->n_states++] = s;
    return FM_OK;
}

static void start_closure(fm_matcher *m) {
    m->n_stack = m->n_found = 0;
    m->round++;
}

static fm_status step_to(fm_matcher *m, int32_t from, uint8_t byte, int32_t *out) {
    start_closure(m);
    m->work += m->states[from].n_ways;
    for (int32_t i = 0; i < m->states[from].n_ways; i++) {
        way w = m->ways[m->list[m->states[from].ways + (size_t)i]];
        if (w.step < 0) {
            continue;
        }
        fm_grammar_step s = m->g->step[w.step];
        if (byte >= s.lo && byte <= s.hi) {
            FM_TRY(look_at(m, w.step + 1, w.up));
        }
    }
    FM_TRY(close_over(m));
    if (m->n_found == 0) {
        *out = DEAD;
        return FM_OK;
    }
    return intern_state(m, out);
}

/* Where a byte leads; computed once. */
static fm_status go(fm_matcher *m, int32_t from, uint8_t byte, int32_t *out) {
    if (!m->states[from].to) {
        int32_t *to = fm_malloc(256 * sizeof *to);
        if (!to) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory to follow a grammar");
        }
        for (int i = 0; i < 256; i++) {
            to[i] = NONE;
        }
        m->states[from].to = to;
    }
    *out = m->states[from].to[byte];
    if (*out == NONE) {
        FM_TRY(step_to(m, from, byte, out));
        m->states[from].to[byte] = *out;
    }
    return FM_OK;
}

static void drop_masks(fm_matcher *m) {
    for (size_t i = 0; i < m->n_states; i++) {
        fm_free(m->states[i].allowed);
        m->states[i].allowed = NULL;
    }
    m->n_masks = 0;
}

/* Forgets all states but the present one; its ways stay. */
static void forget(fm_matcher *m) {
    if (m->n_states < MAX_STATES || m->now < 0) {
        return;
    }
    state now = m->states[m->now];
    for (size_t i = 0; i < m->n_states; i++) {
        fm_free(m->states[i].to);
        fm_free(m->states[i].allowed);
    }
    memmove(m->list, m->list + now.ways, (size_t)now.n_ways * sizeof *m->list);
    m->n_list = (size_t)now.n_ways;
    memset(m->state_bucket, 0xff, sizeof m->state_bucket);
    m->n_masks = 0;
    now.ways = 0;
    now.to = NULL;
    now.allowed = NULL;
    now.next = -1;
    m->states[0] = now;
    m->n_states = 1;
    m->state_bucket[fm_hash64(m->list, (size_t)now.n_ways * sizeof *m->list, 0) % HASH] = 0;
    m->now = 0;
    m->first = DEAD; /* not used for another text */
}

/* One that has followed a text before knows the grammar's states already. */
static fm_matcher *take_idle(fm_grammar *g) {
    pthread_mutex_lock(&g->lock);
    fm_matcher *m = g->n_idle > 0 ? g->idle[--g->n_idle] : NULL;
    pthread_mutex_unlock(&g->lock);
    return m;
}

fm_status fm_matcher_new(fm_matcher **out, fm_grammar *g) {
    *out = take_idle(g);
    if (*out) {
        (*out)->g = fm_grammar_keep(g);
        return FM_OK;
    }
    fm_matcher *m = fm_calloc(1, sizeof *m);
    if (!m) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to follow a grammar");
    }
    m->g = fm_grammar_keep(g);
    m->first = DEAD;
    memset(m->way_bucket, 0xff, sizeof m->way_bucket);
    memset(m->state_bucket, 0xff, sizeof m->state_bucket);
    start_closure(m);
    fm_status s = enter(m, g->root, -1);
    s = s == FM_OK ? close_over(m) : s;
    if (s == FM_OK && m->n_found == 0) {
        s = fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__,
                         "the grammar allows no text at all: a rule begins with itself and nothing else");
    }
    s = s == FM_OK ? intern_state(m, &m->now) : s;
    m->first = m->now;
    if (s != FM_OK) {
        m->first = DEAD;
        fm_matcher_free(m);
        return s;
    }
    *out = m;
    return FM_OK;
}

static void matcher_destroy(fm_matcher *m) {
    for (size_t i = 0; i < m->n_states; i++) {
        fm_free(m->states[i].to);
        fm_free(m->states[i].allowed);
    }
    void *parts[] = {m->ways, m->states, m->list, m->stack, m->found, m->mark, m->depth_state};
    for (size_t i = 0; i < FM_ARRAY_LEN(parts); i++) {
        fm_free(parts[i]);
    }
    fm_free(m);
}

void fm_matcher_free(fm_matcher *m) {
    if (!m) {
        return;
    }
    fm_grammar *g = m->g;
    bool keep = m->first >= 0 && m->n_ways < KEEP_WAYS;
    m->g = NULL;
    m->now = m->first;
    pthread_mutex_lock(&g->lock);
    if (keep && g->n_idle < FM_GRAMMAR_IDLE) {
        g->idle[g->n_idle++] = m;
        m = NULL;
    }
    pthread_mutex_unlock(&g->lock);
    if (m) {
        matcher_destroy(m);
    }
    fm_grammar_free(g);
}

fm_status fm_matcher_push(fm_matcher *m, const char *text, size_t n, bool *ok) {
    m->work = 0;
    for (size_t i = 0; i < n && m->now >= 0; i++) {
        FM_TRY(go(m, m->now, (uint8_t)text[i], &m->now));
    }
    *ok = m->now >= 0;
    forget(m);
    return FM_OK;
}

fm_status fm_matcher_walk(fm_matcher *m, int32_t *at, const char *text, size_t n, bool *ok) {
    int32_t s = *at < 0 ? m->now : *at;
    m->work = 0;
    for (size_t i = 0; i < n && s >= 0; i++) {
        FM_TRY(go(m, s, (uint8_t)text[i], &s));
    }
    *ok = s >= 0;
    *at = s;
    return FM_OK;
}

bool fm_matcher_complete(const fm_matcher *m) {
    return m->now >= 0 && m->states[m->now].complete;
}

/* ---- masks ---------------------------------------------------------------------------------- */

static fm_status fill_mask(fm_matcher *m, const fm_vocab_order *v, uint32_t *bits) {
    int32_t *along = m->depth_state; /* state after so many bytes of the entry before */
    uint32_t valid = 0;              /* how many of its bytes were allowed */
    along[0] = m->now;
    for (size_t i = 0; i < v->n; i++) {
        const fm_vocab_entry *e = &v->at[i];
        uint32_t k = e->shared;
        if (k > valid) { /* it begins with what was refused; valid stays */
            continue;
        }
        int32_t s = along[k];
        while (k < e->n && s >= 0) {
            FM_TRY(go(m, s, (uint8_t)e->text[k], &s));
            if (s >= 0) {
                along[++k] = s;
            }
        }
        valid = k;
        if (k == e->n) {
            bits[e->id / 32] |= 1U << (e->id % 32);
        }
    }
    return FM_OK;
}

fm_status fm_matcher_allowed(fm_matcher *m, const fm_vocab_order *v, const uint32_t **out) {
    size_t words = (size_t)(v->vocab_size + 31) / 32;
    *out = NULL;
    if (m->now < 0) {
        FM_FAIL(FM_ERR_STATE, "the text has left the grammar");
    }
    if (m->masks_of != v->serial) {
        drop_masks(m);
        m->masks_of = v->serial;
    }
    if (!m->states[m->now].allowed) {
        m->work = 0;
        if (m->n_masks >= MAX_MASKS) {
            drop_masks(m);
        }
        FM_TRY(fm_grow((void **)&m->depth_state, &m->cap_depth, v->longest + 2, sizeof *m->depth_state));
        uint32_t *bits = fm_calloc(words, sizeof *bits);
        if (!bits) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the tokens a grammar allows");
        }
        fm_status s = fill_mask(m, v, bits);
        if (s != FM_OK) {
            fm_free(bits);
            return s;
        }
        m->states[m->now].allowed = bits;
        m->n_masks++;
    }
    *out = m->states[m->now].allowed;
    return FM_OK;
}
