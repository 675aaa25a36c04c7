/* English sentences parsed by link-grammar (opened at run time): how many words fit into no parse. */
#ifndef FM_DATA_GRAMMAR_H
#define FM_DATA_GRAMMAR_H

#include <stdbool.h>

#include "base/str.h"

typedef struct fm_link_grammar fm_link_grammar; /* the dictionary; read-only, shared by threads */
/* FM_ERR_UNSUPPORTED, with the package to install, without the library or its English dictionary. */
FM_MUST_CHECK fm_status fm_link_grammar_new(fm_link_grammar **out);
void fm_link_grammar_free(fm_link_grammar *g);

typedef struct fm_link_grammar_result {
    int words, unlinked; /* punctuation counts as words; unlinked: left out by the best parse */
    bool parsed;         /* false: over the time limit, or link-grammar cannot take it */
    bool timed_out;
} fm_link_grammar_result;
/* sentence: NUL-terminated. seconds: limit, at least 1. */
FM_MUST_CHECK fm_status fm_link_grammar_parse(const fm_link_grammar *g, fm_link_grammar_result *out,
                                              const char *sentence, int seconds);

#endif
