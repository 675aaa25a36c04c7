/* Unicode scripts, as the UnicodeScripts pre-tokenizer groups them. */
#ifndef FM_TEXT_SCRIPT_H
#define FM_TEXT_SCRIPT_H

#include <stddef.h>
#include <stdint.h>

#define FM_SCRIPT_ANY 0 /* the blank, and characters without a script */

typedef struct fm_script_range {
    uint32_t first, last;
    int script;
} fm_script_range;
extern const fm_script_range fm_script_ranges[]; /* ascending; script_tables.c */
extern const size_t fm_script_range_count;

/* A number that characters of one script share; Hiragana and Katakana count as Han. */
int fm_script_of(uint32_t cp);

#endif
