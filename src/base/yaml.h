/* YAML documents as a tree. What is read is the part of YAML that configuration needs: mappings, sequences and
 * scalars; anchors, merges and several documents are refused. The only file that knows libyaml is yaml.c. */
#ifndef FM_BASE_YAML_H
#define FM_BASE_YAML_H

#include <stdbool.h>
#include <stddef.h>

#include "fathom/status.h"

typedef enum fm_yaml_kind { FM_YAML_SCALAR, FM_YAML_LIST, FM_YAML_MAP } fm_yaml_kind;

typedef struct fm_yaml fm_yaml;
struct fm_yaml {
    fm_yaml_kind kind;
    char *key;       /* in a mapping; else NULL */
    char *text;      /* SCALAR */
    bool is_null;    /* SCALAR: empty, ~ or null without quotes */
    size_t line;     /* from 1: of the key, or of the value where there is none */
    fm_yaml **child; /* [n] in file order */
    size_t n, cap;
};

/* NULL for a document without content. `name` is for messages (file:line). Failures are FM_ERR_CONFIG. */
FM_MUST_CHECK fm_status fm_yaml_parse(fm_yaml **out, const char *text, size_t n, const char *name);
FM_MUST_CHECK fm_status fm_yaml_load(fm_yaml **out, const char *path);
void fm_yaml_free(fm_yaml *y);
fm_yaml *fm_yaml_get(const fm_yaml *map, const char *key); /* NULL when missing */

#endif
