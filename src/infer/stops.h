/* Stop strings in a text that comes in pieces. What could be the beginning of a stop string is held back. */
#ifndef FM_INFER_STOPS_H
#define FM_INFER_STOPS_H

#include "base/str.h"

typedef struct fm_stops {
    fm_str *stop; /* [n], none empty */
    int n;
    fm_str held;
} fm_stops;

/* Copies the strings; FM_ERR_ARGUMENT for an empty one. */
FM_MUST_CHECK fm_status fm_stops_init(fm_stops *s, const char *const *stop, int n);
void fm_stops_deinit(fm_stops *s);
/* Adds a piece of text and appends to *out what can be shown. True when a stop string was found: *out ends before it
 * and nothing is held. */
bool fm_stops_push(fm_stops *s, fm_str *out, const char *text, size_t n);
/* Appends what was held back; the text is over. */
void fm_stops_flush(fm_stops *s, fm_str *out);

#endif
