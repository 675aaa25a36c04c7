/* A text in the form in which texts are compared: small letters, marks of punctuation as blanks, blanks single. The
 * full form (FM_NORM_DATATROVE) is that of datatrove's simplify_text, character for character, so that signatures
 * can be compared with its own. */
#ifndef FM_DATA_TEXTNORM_H
#define FM_DATA_TEXTNORM_H

#include "base/str.h"

enum {
    FM_NORM_LOWER = 1,
    FM_NORM_NUMBERS = 2, /* a number, also with one decimal mark inside, is "0" */
    FM_NORM_PUNCT = 4,   /* punctuation and control characters become blanks */
    FM_NORM_SPACES = 8,  /* runs of blanks become one, none at the ends */
    FM_NORM_MARKS = 16,  /* canonical decomposition without the marks (Mn) */
    FM_NORM_TEXT = FM_NORM_LOWER | FM_NORM_PUNCT | FM_NORM_SPACES,
    FM_NORM_DATATROVE = 31,
};

/* Replaces *out. text: valid UTF-8 (else the bad byte is left out). */
FM_MUST_CHECK fm_status fm_textnorm(fm_str *out, fm_sv text, unsigned how);

/* Blank by Python's str.isspace, which other pipelines go by. */
bool fm_is_space(uint32_t c);
/* In datatrove's list of punctuation. */
bool fm_norm_is_punct(uint32_t c);
/* Letters of scripts written without blanks: Han, kana, Thai, Lao, Khmer, Burmese, Tibetan. */
bool fm_is_unspaced(uint32_t c);
/* More than half of the characters that are no blanks are such letters. */
bool fm_mostly_unspaced(fm_sv text);

#endif
