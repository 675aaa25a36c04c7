/* JSON documents (configuration, API). The only file that knows jansson is json.c.
 * Bulk data lines are scanned by src/io, not here. */
#ifndef FM_BASE_JSON_H
#define FM_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "fathom/status.h"

typedef struct json_t fm_json; /* reference-counted; borrowed unless a comment says owned */

FM_MUST_CHECK fm_status fm_json_parse(fm_json **out, const char *text, size_t n, const char *name); /* owned */
FM_MUST_CHECK fm_status fm_json_load(fm_json **out, const char *path);                              /* owned */
void fm_json_free(fm_json *j);

bool fm_json_is_object(const fm_json *j);
bool fm_json_is_array(const fm_json *j);
bool fm_json_is_string(const fm_json *j);
bool fm_json_is_number(const fm_json *j);
bool fm_json_is_int(const fm_json *j); /* written without fraction and exponent, within 64 bits */
bool fm_json_is_bool(const fm_json *j);
bool fm_json_is_null(const fm_json *j);                       /* also true for a NULL pointer */
size_t fm_json_size(const fm_json *j);                        /* items of an array or object */
fm_json *fm_json_at(const fm_json *array, size_t i);          /* NULL when out of range */
fm_json *fm_json_get(const fm_json *object, const char *key); /* NULL when missing */
/* Calls fn for each member in file order; stops at the first failure. */
typedef fm_status (*fm_json_member_fn)(void *arg, const char *key, fm_json *value);
FM_MUST_CHECK fm_status fm_json_each(fm_json *object, fm_json_member_fn fn, void *arg);

const char *fm_json_str(const fm_json *j, size_t *n); /* NULL when not a string */
double fm_json_num(const fm_json *j, double def);
int64_t fm_json_int(const fm_json *j, int64_t def);
bool fm_json_bool(const fm_json *j, bool def);
/* Members with defaults; wrong type is FM_ERR_FORMAT naming the key. */
FM_MUST_CHECK fm_status fm_json_get_i64(int64_t *out, const fm_json *o, const char *key, int64_t def);
FM_MUST_CHECK fm_status fm_json_get_f64(double *out, const fm_json *o, const char *key, double def);
FM_MUST_CHECK fm_status fm_json_get_bool(bool *out, const fm_json *o, const char *key, bool def);
FM_MUST_CHECK fm_status fm_json_get_str(const char **out, const fm_json *o, const char *key, const char *def);

/* Building: fm_json_new_* give owned values; set and append take ownership of the value, and fail
 * softly on NULL value so that calls can be nested. */
fm_json *fm_json_new_object(void);
fm_json *fm_json_new_array(void);
fm_json *fm_json_new_str(const char *s);
fm_json *fm_json_new_strn(const char *s, size_t n);
fm_json *fm_json_new_int(int64_t v);
fm_json *fm_json_new_num(double v); /* non-finite becomes null */
fm_json *fm_json_new_bool(bool v);
fm_json *fm_json_new_null(void);
FM_MUST_CHECK fm_status fm_json_set(fm_json *object, const char *key, fm_json *value);
void fm_json_remove(fm_json *object, const char *key); /* nothing when it is missing */
FM_MUST_CHECK fm_status fm_json_append(fm_json *array, fm_json *value);
/* Appends the text; indent 0 = one line. */
/* A copy that shares nothing with j. */
FM_MUST_CHECK fm_status fm_json_copy(fm_json **out, const fm_json *j);
FM_MUST_CHECK fm_status fm_json_dump(fm_str *out, const fm_json *j, int indent);

#endif
