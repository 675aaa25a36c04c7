/* Personal data in text, by form and checksum: places and kinds. Works on bytes of UTF-8; nothing is decided by a
 * model. Where a kind has a checksum (cards: Luhn, ISO/IEC 7812; IBAN: ISO 13616; Chinese identity numbers: GB 11643) a
 * number that fails it is not taken. */
#ifndef FM_DATA_PII_H
#define FM_DATA_PII_H

#include <stdbool.h>

#include "base/str.h"

/* X(symbol, name, placeholder) */
#define FM_PII_KINDS(X)                                                                                                \
    X(FM_PII_EMAIL, "email", "[EMAIL]")                                                                                \
    X(FM_PII_CARD, "card", "[CARD]")                                                                                   \
    X(FM_PII_PHONE, "phone", "[PHONE]")                                                                                \
    X(FM_PII_ID_CN, "id-cn", "[ID]")                                                                                   \
    X(FM_PII_IBAN, "iban", "[IBAN]")                                                                                   \
    X(FM_PII_IP, "ip", "[IP]")                                                                                         \
    X(FM_PII_SSN, "ssn", "[SSN]")                                                                                      \
    X(FM_PII_CREDENTIALS, "url-credentials", "[CREDENTIALS]")                                                          \
    X(FM_PII_NAME, "name", "[NAME]")

typedef enum fm_pii_kind {
#define FM_X(sym, name, mask) sym,
    FM_PII_KINDS(FM_X)
#undef FM_X
        FM_PII_COUNT
} fm_pii_kind;
const char *fm_pii_name(fm_pii_kind k);
const char *fm_pii_mask(fm_pii_kind k);

typedef struct fm_pii_span {
    size_t at, len; /* bytes */
    fm_pii_kind kind;
} fm_pii_span;

/* Names to look for. Latin ones match as whole words whatever their case, Chinese ones anywhere. */
typedef struct fm_pii_names fm_pii_names;
FM_MUST_CHECK fm_status fm_pii_names_new(fm_pii_names **out);
FM_MUST_CHECK fm_status fm_pii_names_add(fm_pii_names *n, fm_sv name);
void fm_pii_names_free(fm_pii_names *n);

/* What was found, in order, without overlap. Zero-initialise; free with fm_pii_spans_free. */
typedef struct fm_pii_spans {
    fm_pii_span *item;
    size_t n, cap;
} fm_pii_spans;
void fm_pii_spans_free(fm_pii_spans *s);

/* kinds: bit set by fm_pii_kind. names: or NULL. escaped: the text is JSON inside of a string, where \n before a number
 * is no letter. */
FM_MUST_CHECK fm_status fm_pii_find(fm_pii_spans *out, fm_sv text, unsigned kinds, const fm_pii_names *names,
                                    bool escaped);

/* Inside of pii*.c: a number that begins at text[at], a digit. *from, *end, *kind of a find. False when it
 * is none; *end is then where to go on, or `at`. */
typedef struct fm_pii_text {
    fm_sv text;
    unsigned kinds;
    bool escaped;
} fm_pii_text;
bool fm_pii_number(const fm_pii_text *t, size_t at, size_t *from, size_t *end, fm_pii_kind *kind);
/* Text before `at` may end here: no letter, digit or underscore stands there. */
bool fm_pii_edge(const fm_pii_text *t, size_t at);

#endif
