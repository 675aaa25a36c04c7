/* Text encodings: names, detection, and conversion to UTF-8 in pieces. Conversion itself is the C library's iconv. */
#ifndef FM_IO_ENCODING_H
#define FM_IO_ENCODING_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"
#include "fathom/status.h"

#define FM_UTF8 "UTF-8"

/* The name iconv knows an encoding by: "gbk" and "gb2312" are GB18030, "big5" is BIG5-HKSCS, "shift_jis" CP932. With
 * `web` the labels are read as browsers read them (latin1 is windows-1252). FM_ERR_CONFIG for a name nobody knows. */
FM_MUST_CHECK fm_status fm_encoding_find(const char **out, const char *label, bool web);

/* The likely encoding of the beginning of a text: by its byte order mark, as UTF-8 when it is (or mostly is) that, else
 * the one of UTF-16, GB18030, Big5, Shift-JIS, EUC-JP, EUC-KR, windows-1251, KOI8-R and windows-1252 under which
 * the characters are those that texts are made of. FM_UTF8 when none is convincing. `whole`: the text ends at n. */
FM_MUST_CHECK fm_status fm_encoding_detect(const char **out, const char *p, size_t n, bool whole);

typedef struct fm_recoder fm_recoder;
FM_MUST_CHECK fm_status fm_recoder_new(fm_recoder **out, const char *iconv_name);
void fm_recoder_free(fm_recoder *r);
/* Appends the next n bytes as UTF-8. A byte without a meaning becomes the byte 0xFF, which no UTF-8 has: whoever checks
 * the row finds it there. `end`: nothing follows. */
FM_MUST_CHECK fm_status fm_recoder_feed(fm_recoder *r, fm_str *out, const char *p, size_t n, bool end);

#endif
