/* Inside of grammars.
 *
 * Every kind becomes GBNF text, and that becomes rules over bytes: code points are spelled in UTF-8, repetitions are
 * right recursion. A matcher follows all ways through the rules at once. A set of ways is a state; where a byte leads
 * from a state is computed once, so that going over the whole vocabulary, sorted, costs a table look-up for each byte
 * that the token before did not share. */
#ifndef FM_INFER_GRAMMAR_H
#define FM_INFER_GRAMMAR_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/str.h"
#include "fathom/grammar.h"
#include "fathom/tokenizer.h"

/* One step of a rule. */
typedef enum fm_grammar_op {
    FM_GRAMMAR_END,  /* of the rule */
    FM_GRAMMAR_ALT,  /* of an alternative; another follows */
    FM_GRAMMAR_BYTE, /* a byte from lo to hi */
    FM_GRAMMAR_RULE, /* the rule `rule` */
} fm_grammar_op;
typedef struct fm_grammar_step {
    uint8_t op, lo, hi;
    int32_t rule;
} fm_grammar_step;

#define FM_GRAMMAR_IDLE 4

struct fm_grammar {
    atomic_int uses;
    pthread_mutex_t lock; /* of the idle ones */
    struct fm_matcher *idle[FM_GRAMMAR_IDLE];
    int n_idle;
    fm_grammar_step *step;
    size_t n_steps, cap_steps;
    int32_t *first; /* [n_rules] first step of a rule */
    size_t n_rules, cap_rules;
    int32_t root;
};

fm_grammar *fm_grammar_keep(fm_grammar *g);
/* As fm_grammar_new, beginning with the rule `start`. */
FM_MUST_CHECK fm_status fm_grammar_make(fm_grammar **out, fm_grammar_kind kind, const char *text, size_t n,
                                        const char *start);
/* Rules from GBNF text. */
FM_MUST_CHECK fm_status fm_grammar_parse(fm_grammar *g, const char *text, size_t n, const char *start);
/* A literal of GBNF, with a blank behind it. */
void fm_grammar_literal(fm_str *out, const char *text, size_t n);
/* GBNF text from a regular expression: the body of a rule. json: as it stands inside a JSON string. */
FM_MUST_CHECK fm_status fm_grammar_from_regex(fm_str *out, const char *regex, size_t n, bool json);
/* GBNF text from a JSON schema, with its rule "root". */
FM_MUST_CHECK fm_status fm_grammar_from_schema(fm_str *out, const char *schema, size_t n);
/* The rules that every schema uses: json-value and its like. Once in a grammar. */
void fm_grammar_json_rules(fm_str *out);
/* The rule `name` for a schema, and others whose names begin with it and a '-'. */
FM_MUST_CHECK fm_status fm_grammar_add_schema(fm_str *out, const char *name, const fm_json *schema);
/* The body of a rule: numbers within bounds, NAN = none. FM_ERR_UNSUPPORTED for bounds that are not whole. */
typedef struct fm_number_bounds {
    double min, max;
    bool above_min, below_max; /* the bound itself is out */
} fm_number_bounds;
FM_MUST_CHECK fm_status fm_grammar_number(fm_str *out, bool whole, const fm_number_bounds *b);

/* The vocabulary in the order of the bytes that its tokens give behind other text. */
typedef struct fm_vocab_entry {
    const char *text;
    uint32_t n, shared; /* bytes; of these, the first ones are those of the entry before */
    int32_t id;
} fm_vocab_entry;
typedef struct fm_vocab_order {
    fm_vocab_entry *at; /* [n] sorted; special tokens and empty ones are left out */
    size_t n, longest;
    int32_t vocab_size;
    int32_t *place;  /* [vocab_size] where a token is in `at`, -1 = it is not */
    char *text;      /* of all, in this order */
    uint64_t serial; /* tells vocabularies apart */
} fm_vocab_order;
FM_MUST_CHECK fm_status fm_vocab_order_new(fm_vocab_order **out, const fm_tokenizer *tok, int32_t vocab_size);
void fm_vocab_order_free(fm_vocab_order *v);

/* Where one text is in a grammar. Belongs to one thread at a time. */
typedef struct fm_matcher fm_matcher;
FM_MUST_CHECK fm_status fm_matcher_new(fm_matcher **out, fm_grammar *g);
void fm_matcher_free(fm_matcher *m);
/* Goes on by text; false when the grammar does not allow it (and then nothing is allowed any more). */
FM_MUST_CHECK fm_status fm_matcher_push(fm_matcher *m, const char *text, size_t n, bool *ok);
/* The same from place *at (-1: where the text is), without going on: *at becomes the place behind it. Valid until the
 * next push. */
FM_MUST_CHECK fm_status fm_matcher_walk(fm_matcher *m, int32_t *at, const char *text, size_t n, bool *ok);
bool fm_matcher_complete(const fm_matcher *m); /* the text may end here */
/* Bits [vocab] of the tokens that may come next; tokens that end the text are the caller's business. Valid until the
 * next call. */
FM_MUST_CHECK fm_status fm_matcher_allowed(fm_matcher *m, const fm_vocab_order *v, const uint32_t **bits);

#endif
