/* Chinese between its ways of writing, by OpenCC (opened at run time): word by word, not only character by character.
 */
#ifndef FM_DATA_CHINESE_H
#define FM_DATA_CHINESE_H

#include "base/str.h"

typedef struct fm_chinese fm_chinese; /* one thread's */
/* config: a name of OpenCC's such as "t2s". FM_ERR_UNSUPPORTED, with the package to install, without the library or its
 * dictionaries. */
FM_MUST_CHECK fm_status fm_chinese_new(fm_chinese **out, const char *config);
void fm_chinese_free(fm_chinese *c);
/* Replaces *out. text: valid UTF-8; bytes of value 0 are kept. */
FM_MUST_CHECK fm_status fm_chinese_convert(fm_chinese *c, fm_str *out, fm_sv text);

#endif
