/* Inside of grammars.
 *
 * Every kind becomes GBNF text, and that becomes rules over bytes: code points are spelled in UTF-8, repetitions are
 * right recursion. A matcher follows all ways through the rules at once. A set of ways is a state; where a byte leads
 * from a state is computed once, so that going over the whole vocabulary, sorted, costs a table look-up for each byte
 * that the token before did not share. */
#ifndef FM_INFER_GRAMMAR_H
#define FM_INFER_GRAMMAR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

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

struct fm_grammar {
    atomic_int uses;
    fm_grammar_step *step;
    size_t n_steps, cap_steps;
    int32_t *first; /* [n_rules] first step of a rule */
    size_t n_rules, cap_rules;
    int32_t root;
};

fm_grammar *fm_grammar_keep(fm_grammar *g);
/* Rules from GBNF text. */
FM_MUST_CHECK fm_status fm_grammar_parse(fm_grammar *g, const char *text, size_t n);
/* GBNF text from a regular expression: the body of a rule. json: as it stands inside a JSON string. */
FM_MUST_CHECK fm_status fm_grammar_from_regex(fm_str *out, const char *regex, size_t n, bool json);
/* GBNF text from a JSON schema, with its rule "root". */
FM_MUST_CHECK fm_status fm_grammar_from_schema(fm_str *out, const char *schema, size_t n);

/* The vocabulary in the order of its bytes. */
typedef struct fm_vocab_order fm_vocab_order;
FM_MUST_CHECK fm_status fm_vocab_order_new(fm_vocab_order **out, const fm_tokenizer *tok, int32_t vocab_size);
void fm_vocab_order_free(fm_vocab_order *v);

/* Where one text is in a grammar. Belongs to one thread at a time. */
typedef struct fm_matcher fm_matcher;
FM_MUST_CHECK fm_status fm_matcher_new(fm_matcher **out, fm_grammar *g);
void fm_matcher_free(fm_matcher *m);
/* Goes on by text; false when the grammar does not allow it (and then nothing is allowed any more). */
FM_MUST_CHECK fm_status fm_matcher_push(fm_matcher *m, const char *text, size_t n, bool *ok);
bool fm_matcher_complete(const fm_matcher *m); /* the text may end here */
/* Bits [vocab] of the tokens that may come next; tokens that end the text are the caller's business. Valid until the
 * next call. */
FM_MUST_CHECK fm_status fm_matcher_allowed(fm_matcher *m, const fm_vocab_order *v, const uint32_t **bits);

#endif
