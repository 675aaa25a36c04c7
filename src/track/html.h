/* Parts that pages of runs share. */
#ifndef FM_TRACK_HTML_H
#define FM_TRACK_HTML_H

#include "base/json.h"
#include "base/str.h"

/* A text from outside, escaped; NULL is nothing. */
void fm_html_put(fm_str *s, const char *text);
const char *fm_html_number(char *buf, size_t cap, double v);
/* Everything up to and with the title as heading. */
void fm_html_begin(fm_str *s, const char *title);
void fm_html_heading(fm_str *s, const char *text);
/* points [n] of [step, value] pairs, empty ones are left out; label [n] tells them apart, or NULL. */
void fm_html_curves(fm_str *s, const char *name, const fm_json *const *points, const char *const *label, int n);
/* Findings (base/finding.h) under a heading; nothing for an empty list. */
void fm_html_findings(fm_str *s, const fm_json *list);

#endif
