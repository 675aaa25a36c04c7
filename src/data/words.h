/* English text into words and sentences, as spaCy 3.8's blank "en" pipeline with its sentencizer does: the splitting
 * that datatrove uses and that its thresholds were set for. Words are pieces of the text as it stands.
 *
 * Blank-separated chunks lose prefixes and suffixes (quotes, brackets, units behind numbers) until nothing changes or a
 * special case (contractions, abbreviations, emoticons) is left, which has its own parts; the rest is kept whole when
 * it is an URL, else cut at infixes (hyphens between letters, "..."). Then special cases that the affixes tore apart
 * are put together again. */
#ifndef FM_DATA_WORDS_H
#define FM_DATA_WORDS_H

#include <stdbool.h>

#include "base/str.h"

typedef struct fm_words fm_words; /* tables; read-only once made, shared by threads */
FM_MUST_CHECK fm_status fm_words_new(fm_words **out);
void fm_words_free(fm_words *w);

/* A piece of the text: bytes [at, at + len). */
typedef struct fm_word {
    uint32_t at, len;
    bool blank; /* white space (more than the one blank between words): no word, but ends sentences */
} fm_word;

/* One thread's room. Zero-initialise. */
typedef struct fm_word_list {
    fm_word *item;
    size_t n, cap, n_words; /* n_words: without the blank ones */
    uint32_t *cp;           /* of one chunk: characters, their classes, their bytes */
    uint16_t *class;
    uint32_t *at;
    size_t chunk_cap;
    fm_word *suffix;
    size_t suffix_cap;
} fm_word_list;
void fm_word_list_free(fm_word_list *l);

/* text: valid UTF-8, shorter than 2 GiB (FM_ERR_DATA). */
FM_MUST_CHECK fm_status fm_words_split(const fm_words *w, fm_word_list *out, fm_sv text);
/* Sentences of a split text: the word that begins the next one (l->n at the end); how many, at least 1. */
size_t fm_words_sentence_end(const fm_word_list *l, fm_sv text, size_t from);
size_t fm_words_sentences(const fm_word_list *l, fm_sv text);

/* Marks that end a sentence in any script: datatrove's TERMINAL_PUNCTUATION. */
bool fm_is_terminal(uint32_t c);

/* Inside of words*.c. */
enum {
    FM_W_ALPHA = 1,
    FM_W_LOWER = 2, /* also letters without case */
    FM_W_UPPER = 4, /* also letters without case */
    FM_W_DIGIT = 8, /* 0-9 */
    FM_W_PREFIX = 16,
    FM_W_SUFFIX = 32,
    FM_W_QUOTE = 64,
    FM_W_BEFORE_DOT = 128, /* a dot behind it is a suffix */
    FM_W_INFIX = 256,      /* by itself */
    FM_W_CURRENCY = 512,
};
uint16_t fm_word_class(uint32_t c);

/* A string that is split in a way of its own. */
#define FM_SPECIAL_BYTES 32
typedef struct fm_special {
    char text[FM_SPECIAL_BYTES];
    uint8_t len, n_parts, part[4];             /* its words, bytes each */
    uint8_t n_pieces, piece[FM_SPECIAL_BYTES]; /* what the affix rules make of it, bytes each; 0 = none apply */
} fm_special;
/* Calls add for each; a later one replaces an earlier of the same text. */
FM_MUST_CHECK fm_status fm_specials_each(fm_status (*add)(void *arg, const fm_special *s), void *arg);

#endif
