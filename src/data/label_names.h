/* Names of labels and their ids. */
#ifndef FM_DATA_LABEL_NAMES_H
#define FM_DATA_LABEL_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/json.h"

typedef struct fm_label_names {
    char **name; /* [n] */
    size_t n, cap;
    bool sorted; /* by fm_label_names_sort: found by bisection */
} fm_label_names;

#define FM_MAX_LABEL_NAMES 65536

void fm_label_names_free(fm_label_names *l);
int fm_label_names_find(const fm_label_names *l, const char *p, size_t n); /* -1 when there is none */
/* Adds a name unless it is there or empty. FM_ERR_DATA past `limit` names. */
FM_MUST_CHECK fm_status fm_label_names_add(fm_label_names *l, const char *p, size_t n, size_t limit);
/* Numbers by value, then other names by their bytes: ids do not depend on the order of the rows. */
void fm_label_names_sort(fm_label_names *l);
/* Names of a JSON array, in its order. */
FM_MUST_CHECK fm_status fm_label_names_take(fm_label_names *l, const fm_json *list);
FM_MUST_CHECK fm_status fm_label_names_put(const fm_label_names *l, fm_json *o, const char *key);

#endif
