/* The language of a text, by CLD2 (opened at run time). */
#ifndef FM_DATA_LANGID_H
#define FM_DATA_LANGID_H

#include <stdbool.h>

#include "base/str.h"

typedef struct fm_langid {
    const char *code; /* constant: ISO 639-1 where there is one; "zh-Hans", "zh-Hant"; "und" when nothing was found */
    double share;     /* of the text's letters in this language, 0 to 1 */
    bool reliable;    /* CLD2's own word: the next language was far enough behind */
} fm_langid;

/* FM_ERR_UNSUPPORTED, with the package to install, when the library is not there. */
FM_MUST_CHECK fm_status fm_langid_open(void);
/* After a good open; from any thread. Looks at the first 2 GiB. */
void fm_langid_detect(fm_langid *out, fm_sv text);
/* `want` is the code or what stands before one of its hyphens: "zh" is every Chinese. */
bool fm_langid_matches(const char *code, const char *want);
/* False for a code that CLD2 never gives. */
bool fm_langid_known(const char *want);

#endif
