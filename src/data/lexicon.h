/* Words and what may stand for them: groups of words of one meaning (or one sound), looked up by word.
 *
 * Read are
 *   a folder with the dictionary of WordNet (data.noun, index.noun ..., format wndb(5WN)): groups in the order of the
 *     index, the most frequent meaning first, of all parts of speech where there are counts (cntlist.rev);
 *   lines "id TAB part of speech TAB file TAB word|word|..." (Open English WordNet as a table);
 *   lines "Aa01A01= word word ..." (HIT Cilin; marks # and @ in place of = say that the words are only related, or
 *     that there is one alone: such lines are left out);
 *   lines of words with blanks or tabs between them. Where the first has Latin letters and the others have not
 *     (a sound and its characters) it is a heading and no member.
 * Files may be packed. Words are kept as they are written and found in lower case; "_" in WordNet is a blank. */
#ifndef FM_DATA_LEXICON_H
#define FM_DATA_LEXICON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

typedef struct fm_lexicon fm_lexicon; /* read-only once finished; shared by threads */

typedef enum fm_lexicon_kind {
    FM_LEXICON_DATA,
    FM_LEXICON_INDEX,
    FM_LEXICON_COUNTS,
    FM_LEXICON_TABLE,
    FM_LEXICON_GROUPS
} fm_lexicon_kind;

FM_MUST_CHECK fm_status fm_lexicon_new(fm_lexicon **out);
void fm_lexicon_free(fm_lexicon *l);
/* Adds a folder or file. FM_ERR_FORMAT names file and line of what is broken. */
FM_MUST_CHECK fm_status fm_lexicon_add(fm_lexicon *l, const char *path);
/* Adds one line. FM_ERR_FORMAT with the reason; the lexicon stays usable. */
FM_MUST_CHECK fm_status fm_lexicon_line(fm_lexicon *l, fm_lexicon_kind kind, fm_sv line);
/* After the last line, before the first question. */
FM_MUST_CHECK fm_status fm_lexicon_finish(fm_lexicon *l);
size_t fm_lexicon_words(const fm_lexicon *l);
size_t fm_lexicon_groups(const fm_lexicon *l);

/* Which of the groups of a word count. */
typedef struct fm_lexicon_choice {
    uint32_t senses;  /* of WordNet: so many meanings of a word, the most frequent first; 0 = all */
    uint32_t members; /* of each group its first so many words; 0 = all */
} fm_lexicon_choice;
/* word: lower case. The number of other words, and the i-th of them; words that differ in case only are the same. */
size_t fm_lexicon_count(const fm_lexicon *l, fm_sv word, const fm_lexicon_choice *c);
fm_sv fm_lexicon_at(const fm_lexicon *l, fm_sv word, const fm_lexicon_choice *c, size_t i);
bool fm_lexicon_has(const fm_lexicon *l, fm_sv word);
/* Bytes of the longest word at the beginning of the text, 0 when there is none. */
size_t fm_lexicon_longest(const fm_lexicon *l, fm_sv text);

#endif
