/* A text as words and their tokens, the way stage `tag` learns it (example_tag.c): for who asks a trained model what
 * the tags of a text are. */
#ifndef FM_DATA_TAG_WORDS_H
#define FM_DATA_TAG_WORDS_H

#include "base/str.h"
#include "data/examples.h"

typedef struct fm_tag_words fm_tag_words;
/* The tokenizer outlives it. One thread at a time. */
FM_MUST_CHECK fm_status fm_tag_words_new(fm_tag_words **out, const fm_tokenizer *t);
void fm_tag_words_free(fm_tag_words *k);
/* The words of a text until the next call. */
FM_MUST_CHECK fm_status fm_tag_words_cut(fm_tag_words *k, fm_sv text, size_t *n_words);
/* Tokens of the words from `from` on, as many as fit into `most` tokens with the model's begin and end; the words
 * before *past are in. Marks: the first token of a word has its number from `from` on, plus one; others 0. A word that
 * does not fit by itself is left out. e->n is 0 when no token is left. */
FM_MUST_CHECK fm_status fm_tag_words_encode(fm_tag_words *k, fm_example *e, size_t from, size_t most, size_t *past);
/* Characters [*begin, *end) of word i. */
void fm_tag_words_place(const fm_tag_words *k, size_t i, int64_t *begin, int64_t *end);

#endif
