/* The Unicode version that brought a character, as far as parts of tokenizer.json depend on it: the library whose ids
 * are the reference has categories of Unicode 8 and normal forms of Unicode 9. */
#ifndef FM_TEXT_UNICODE_AGE_H
#define FM_TEXT_UNICODE_AGE_H

#include <stddef.h>
#include <stdint.h>

typedef struct fm_age_range {
    uint32_t first, last;
    int age;
} fm_age_range;
extern const fm_age_range fm_age_ranges[]; /* ascending; unicode_age.c */
extern const size_t fm_age_range_count;

int fm_uni_age_slow(uint32_t cp);

/* 8 for characters of Unicode 8 or before, 9 for those of Unicode 9, 10 for all others. */
static inline int fm_uni_age(uint32_t cp) {
    return cp < 0x370 || (cp >= 0x4E00 && cp <= 0x9FD5) || (cp >= 0xAC00 && cp <= 0xD7A3) ? 8 : fm_uni_age_slow(cp);
}

#endif
