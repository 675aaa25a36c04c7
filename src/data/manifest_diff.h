/* What two manifests say about how one dataset became the other. */
#ifndef FM_DATA_MANIFEST_DIFF_H
#define FM_DATA_MANIFEST_DIFF_H

#include "base/json.h"

/* The manifest of a dataset that is a file or a folder; *out NULL when it has none (owned). */
FM_MUST_CHECK fm_status fm_manifest_of(fm_json **out, const char *dataset);
/* True when a value in the tree is this text. */
bool fm_json_mentions(const fm_json *tree, const char *text);
/* {a, b: there are manifests, made_from: b was made from a, settings: [{key, a, b}], inputs: [{file, change}], steps:
 * [{name, change, options: [{key, a, b}], rows_out: [a, b]}]}; a and b may be NULL. steps of a dataset made from the
 * other: [{name, result}], what was done to it. */
FM_MUST_CHECK fm_status fm_manifest_diff(fm_json **out, const fm_json *a, const fm_json *b);
/* The same as lines for people. */
void fm_manifest_diff_text(fm_str *s, const fm_json *diff);

#endif
