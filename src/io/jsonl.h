/* One line of JSON data, read without building a tree: named members of the top object as views into
 * the line. The whole line is checked (RFC 8259; strict UTF-8; surrogates in pairs). */
#ifndef FM_IO_JSONL_H
#define FM_IO_JSONL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"
#include "fathom/status.h"

typedef enum fm_json_kind {
    FM_JSON_MISSING,
    FM_JSON_NULL,
    FM_JSON_FALSE,
    FM_JSON_TRUE,
    FM_JSON_NUMBER,
    FM_JSON_STRING,
    FM_JSON_ARRAY,
    FM_JSON_OBJECT,
} fm_json_kind;

typedef struct fm_json_value {
    fm_json_kind kind;
    bool escaped; /* STRING: raw holds backslashes; use fm_jsonl_text */
    fm_sv raw;    /* the value's text in the line; for STRING without the quotes */
} fm_json_value;

/* Reads the object in line[0..n) and fills values[i] for member names[i] (the last one when a key is
 * repeated, MISSING when there is none). FM_ERR_DATA with the column (from 1, in bytes) otherwise. */
FM_MUST_CHECK fm_status fm_jsonl_scan(const char *line, size_t n, const char *const *names, size_t n_names,
                                      fm_json_value *values);

/* Calls fn for each member of the object in line[0..n), in file order; checks the whole line as fm_jsonl_scan does. A
 * member's key is a STRING. */
typedef fm_status (*fm_jsonl_member_fn)(void *arg, const fm_json_value *key, const fm_json_value *value);
FM_MUST_CHECK fm_status fm_jsonl_members(const char *line, size_t n, fm_jsonl_member_fn fn, void *arg);

/* Appends valid UTF-8 as a JSON string in quotes; only what RFC 8259 asks for is escaped. */
void fm_jsonl_put_text(fm_str *out, const char *p, size_t n);

/* Appends a STRING with escapes resolved; other kinds append their text as it stands. */
void fm_jsonl_text(fm_str *out, const fm_json_value *v);
FM_MUST_CHECK fm_status fm_jsonl_number(double *out, const fm_json_value *v); /* FM_ERR_DATA for other kinds */

/* Items of an ARRAY that came from fm_jsonl_scan: start with *rest = array.raw, call until false. */
bool fm_jsonl_next(fm_sv *rest, fm_json_value *item);

/* Checks one value at p of any kind and returns its end; NULL when it is broken, with the reason in
 * *why and its place in *at. Used to split an array that is read piece by piece. */
const char *fm_jsonl_value(fm_json_value *out, const char *p, const char *end, const char **why, const char **at);

#endif
