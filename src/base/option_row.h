/* What the files behind fathom/option.h share. */
#ifndef FM_BASE_OPTION_ROW_H
#define FM_BASE_OPTION_ROW_H

#include "base/str.h"
#include "base/yaml.h"
#include "fathom/option.h"

/* Row of a key or alias (dash = underscore); NULL when there is none. */
const fm_option *fm_option_find(const fm_option *table, const char *key, size_t n);

/* FM_ERR_CONFIG naming the key, with the nearest known one as a hint. `prefix` is "--" or "". */
FM_MUST_CHECK fm_status fm_option_unknown(const fm_option *table, const char *key, const char *prefix,
                                          const char *where);

/* Stores a value given as text; NULL gives the default back. */
FM_MUST_CHECK fm_status fm_option_store(void *obj, const fm_option *row, const char *value, const char *where);

/* Stores a list; takes the items (and frees them on failure). */
FM_MUST_CHECK fm_status fm_option_store_list(void *obj, const fm_option *row, char **items, size_t n,
                                             const char *where);

/* Appends a value as plain text (a list joined by commas), as fm_option_store reads it. */
FM_MUST_CHECK fm_status fm_option_text(fm_str *out, const void *obj, const fm_option *row);

/* Sets the keys of a mapping (NULL: nothing); `name` is the file, for messages. */
FM_MUST_CHECK fm_status fm_options_from_yaml(void *obj, const fm_option *table, const fm_yaml *map, const char *name);

#endif
