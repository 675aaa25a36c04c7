/* Grammars that generated text must follow.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_GRAMMAR_H
#define FATHOM_GRAMMAR_H

#include <stddef.h>

#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fm_grammar_kind {
    FM_GRAMMAR_GBNF,        /* rules as llama.cpp writes them, from the rule "root" */
    FM_GRAMMAR_REGEX,       /* a regular expression that the whole text matches */
    FM_GRAMMAR_JSON_SCHEMA, /* a JSON text that is valid under a schema; {} is any JSON value */
} fm_grammar_kind;

/* Does not change: any number of requests on any threads may use one object. */
typedef struct fm_grammar fm_grammar;
/* FM_ERR_ARGUMENT says what is wrong and where; FM_ERR_UNSUPPORTED names what cannot be enforced: nothing is silently
 * left out. */
FM_API FM_MUST_CHECK fm_status fm_grammar_new(fm_grammar **out, fm_grammar_kind kind, const char *text, size_t n);
/* From `what`: a regular expression, a JSON schema that begins with '{', else the file of this name. */
FM_API FM_MUST_CHECK fm_status fm_grammar_open(fm_grammar **out, fm_grammar_kind kind, const char *what);
FM_API void fm_grammar_free(fm_grammar *g);

#ifdef __cplusplus
}
#endif
#endif
