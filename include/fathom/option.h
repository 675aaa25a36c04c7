/* Option tables: one row is at once a configuration key, a command-line flag, a line of --help and
 * of the manual. A table describes fields of a plain struct by offset.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_OPTION_H
#define FATHOM_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fm_option_type {
    FM_OPT_BOOL,  /* bool */
    FM_OPT_INT,   /* int64_t; "300M" and "4k" accepted */
    FM_OPT_FLOAT, /* double */
    FM_OPT_STR,   /* char *, owned by the struct, NULL when empty */
    FM_OPT_ENUM,  /* int: index into choices ("a|b|c") */
    FM_OPT_LIST,  /* fm_strlist: from a YAML sequence or comma-separated text */
    FM_OPT_BYTES, /* int64_t: "6GB", "512MiB" */
} fm_option_type;

typedef struct fm_strlist {
    char **item;
    size_t n;
} fm_strlist;

typedef struct fm_option {
    const char *key; /* "learning_rate"; the flag is --learning-rate. Nested keys have dots. */
    fm_option_type type;
    size_t offset;       /* of the field */
    const char *def;     /* default as text; NULL = zero value */
    double min, max;     /* inclusive range for INT, FLOAT, BYTES; both 0 = unchecked */
    const char *choices; /* for ENUM: "a|b|c" */
    const char *aliases; /* other names, "|"-separated, or NULL. A one-letter alias is a short flag */
    const char *metavar; /* "TEXT", "DIR"; NULL = from the type */
    const char *help;    /* one sentence with unit */
} fm_option;

/* A table ends with a row whose key is NULL. */
FM_API FM_MUST_CHECK fm_status fm_options_init(void *obj, const fm_option *table); /* defaults */
FM_API void fm_options_free(void *obj, const fm_option *table);
/* One key. Unknown: FM_ERR_CONFIG naming the nearest key. `where` ("recipe.yaml:12", "command line") is for
 * the message. Dashes and underscores are the same. */
FM_API FM_MUST_CHECK fm_status fm_options_set(void *obj, const fm_option *table, const char *key, const char *value,
                                              const char *where);
/* Adds one item to a list (the value is not split at commas); other types as fm_options_set. */
FM_API FM_MUST_CHECK fm_status fm_options_append(void *obj, const fm_option *table, const char *key, const char *value,
                                                 const char *where);
/* A YAML file: flat or nested mappings (joined by dots), sequences for lists. */
FM_API FM_MUST_CHECK fm_status fm_options_load_yaml(void *obj, const fm_option *table, const char *path);
FM_API FM_MUST_CHECK fm_status fm_options_parse_yaml(void *obj, const fm_option *table, const char *text, size_t n,
                                                     const char *name);
/* argv items: --key value, --key=value, --flag, --no-flag, -k value, key=value. A list flag given
 * again adds to the list. What is none of these goes to
 * positional (pointers into argv; room for argc). "--" ends options. */
FM_API FM_MUST_CHECK fm_status fm_options_parse_args(void *obj, const fm_option *table, int argc, char **argv,
                                                     char **positional, int *n_positional);
/* The whole struct as YAML text with every key (fm_string_free). */
FM_API FM_MUST_CHECK fm_status fm_options_dump_yaml(char **out, const void *obj, const fm_option *table);
/* Help text of a table, wrapped at `columns`. */
FM_API FM_MUST_CHECK fm_status fm_options_help(char **out, const fm_option *table, int columns);
FM_API void fm_string_free(char *s);

#ifdef __cplusplus
}
#endif
#endif
