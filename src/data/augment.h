/* A text with some of its words changed: what Wei and Zou call easy data augmentation (EDA, EMNLP 2019), for languages
 * with blanks between words and for Chinese, whose words are the longest that the lexicon knows.
 *
 * Web addresses, mail addresses, numbers and words with capitals inside or in the middle of a text (names) are not
 * replaced, nor are function words; swapping, deleting and mistyping take any word. A replaced word keeps its capitals.
 */
#ifndef FM_DATA_AUGMENT_H
#define FM_DATA_AUGMENT_H

#include "base/rng.h"
#include "data/lexicon.h"
#include "data/rec.h"
#include "data/words.h"

typedef enum fm_augment_method {
    FM_AUGMENT_SYNONYM,    /* words become synonyms */
    FM_AUGMENT_INSERT,     /* a synonym of one word is put behind another */
    FM_AUGMENT_SWAP,       /* two words change places */
    FM_AUGMENT_DELETE,     /* words go, each with the probability `ratio`; one stays */
    FM_AUGMENT_HOMOPHONE,  /* characters become others of the same sound */
    FM_AUGMENT_EQUIVALENT, /* characters become other ways to write them */
    FM_AUGMENT_TYPO,       /* a letter of a word is mistyped: changed places, missing, twice, the key beside */
    FM_AUGMENT_COUNT
} fm_augment_method;
const char *fm_augment_name(fm_augment_method m);

typedef struct fm_augmenter {
    const fm_words *words;
    const fm_lexicon *synonyms, *homophones, *equivalents; /* NULL: not for the methods that need it */
    const fm_lexicon *keep;                                /* words that are not replaced, or NULL */
    double ratio;                                          /* share of words that change, at least one word */
    uint32_t senses, common;                               /* fm_lexicon_choice of synonyms, of homophones */
    uint32_t min_han;                                      /* Han words shorter than this have no synonyms */
} fm_augmenter;

typedef struct fm_augment_piece fm_augment_piece;
/* One thread's room. Zero-initialise. */
typedef struct fm_augment_room {
    fm_word_list list;
    fm_bump arena; /* of one text */
    fm_augment_piece *piece;
    size_t n, cap;
    size_t *pick;
    size_t pick_cap;
} fm_augment_room;
void fm_augment_room_free(fm_augment_room *r);

/* Replaces *out by the changed text. What comes out depends on text, method and key alone. *changes: how many words
 * were changed; 0: the text is as it was. text: valid UTF-8, shorter than 2 GiB. */
FM_MUST_CHECK fm_status fm_augment(const fm_augmenter *a, fm_augment_room *r, fm_str *out, size_t *changes, fm_sv text,
                                   fm_augment_method method, fm_rng_key key);

#endif
