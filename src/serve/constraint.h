/* What the text of an answer must look like: the fields of a request that say so, as one grammar. */
#ifndef FM_SERVE_CONSTRAINT_H
#define FM_SERVE_CONSTRAINT_H

#include "serve/serve.h"

/* Reads response_format (OpenAI), grammar and json_schema (llama.cpp), guided_json, guided_regex, guided_choice,
 * guided_grammar and structured_outputs (vLLM). Appends GBNF with a rule "fm-body" when one is there, and says so. */
FM_MUST_CHECK fm_status fm_constraint_read(fm_str *rules, bool *any, const fm_json *body);

/* Grammars made lately, by their text: a client asks for the same one again and again, and what was computed for it
 * stays. */
typedef struct fm_grammars fm_grammars;
FM_MUST_CHECK fm_status fm_grammars_new(fm_grammars **out);
void fm_grammars_free(fm_grammars *g);
/* The grammar that begins with the rule `start`; the caller's own reference. Any thread. */
FM_MUST_CHECK fm_status fm_grammars_get(fm_grammar **out, fm_grammars *g, const fm_str *rules, const char *start);

#endif
