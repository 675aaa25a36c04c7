/* Option tables from YAML: nested mappings join their keys with dots. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/option_row.h"
#include "base/str.h"
#include "base/yaml.h"

typedef struct reader {
    const fm_option *table;
    void *obj;
    const char *name;
    size_t *seen; /* line (from 1) at which each row was set; 0 = not yet */
    fm_str key;   /* joined path of the mapping being read */
} reader;

/* The row for the joined key, marked as seen; a second time is an error. */
static fm_status claim(reader *r, const fm_option **row, size_t line, const char *where) {
    FM_TRY(fm_str_check(&r->key));
    *row = fm_option_find(r->table, r->key.data, r->key.len);
    if (!*row) {
        return fm_option_unknown(r->table, r->key.data, "", where);
    }
    size_t *seen = &r->seen[*row - r->table];
    if (*seen) {
        FM_FAIL(FM_ERR_CONFIG, "%s: key '%s' is given twice (first at line %zu)", where, (*row)->key, *seen);
    }
    *seen = line;
    return FM_OK;
}

static fm_status store_list(const reader *r, const fm_option *row, const fm_yaml *list, const char *where) {
    char **items = fm_calloc(list->n + 1, sizeof *items);
    if (!items) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a list");
    }
    fm_status s = FM_OK;
    for (size_t i = 0; i < list->n && s == FM_OK; i++) {
        const fm_yaml *item = list->child[i];
        if (item->kind != FM_YAML_SCALAR) {
            s = fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s:%zu: %s: a list may hold plain values only",
                             r->name, item->line, row->key);
        } else {
            items[i] = fm_strdup(item->text);
            if (!items[i]) {
                s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "cannot allocate a list item");
            }
        }
    }
    if (s != FM_OK) {
        fm_names_free(items, list->n);
        return s;
    }
    return fm_option_store_list(r->obj, row, items, list->n, where);
}

static fm_status read_mapping(reader *r, const fm_yaml *map) {
    size_t prefix = r->key.len;
    for (size_t i = 0; i < map->n; i++) {
        const fm_yaml *v = map->child[i];
        if (prefix) {
            fm_str_putc(&r->key, '.');
        }
        fm_str_puts(&r->key, v->key);
        FM_TRY(fm_str_check(&r->key));
        char where[512];
        snprintf(where, sizeof where, "%s:%zu", r->name, v->line);
        if (v->kind == FM_YAML_MAP) {
            FM_TRY(read_mapping(r, v));
        } else {
            const fm_option *row;
            FM_TRY(claim(r, &row, v->line, where));
            FM_TRY(v->kind == FM_YAML_LIST ? store_list(r, row, v, where)
                                           : fm_option_store(r->obj, row, v->is_null ? NULL : v->text, where));
        }
        r->key.len = prefix;
        if (r->key.data) {
            r->key.data[prefix] = '\0';
        }
    }
    return FM_OK;
}

fm_status fm_options_from_yaml(void *obj, const fm_option *table, const fm_yaml *map, const char *name) {
    size_t n_rows = 0;
    while (table[n_rows].key) {
        n_rows++;
    }
    if (!map) {
        return FM_OK;
    }
    if (map->kind != FM_YAML_MAP) {
        FM_FAIL(FM_ERR_CONFIG, "%s:%zu: expected lines of the form 'key: value'", name, map->line);
    }
    reader r = {.table = table, .obj = obj, .name = name};
    r.seen = fm_calloc(n_rows + 1, sizeof *r.seen);
    if (!r.seen) {
        FM_FAIL(FM_ERR_NO_MEMORY, "%s: cannot allocate the YAML reader", name);
    }
    fm_status s = read_mapping(&r, map);
    fm_str_free(&r.key);
    fm_free(r.seen);
    return s;
}

fm_status fm_options_parse_yaml(void *obj, const fm_option *table, const char *text, size_t n, const char *name) {
    fm_yaml *doc;
    FM_TRY(fm_yaml_parse(&doc, text, n, name));
    fm_status s = fm_options_from_yaml(obj, table, doc, name);
    fm_yaml_free(doc);
    return s;
}

fm_status fm_options_load_yaml(void *obj, const fm_option *table, const char *path) {
    fm_yaml *doc;
    FM_TRY(fm_yaml_load(&doc, path));
    fm_status s = fm_options_from_yaml(obj, table, doc, path);
    fm_yaml_free(doc);
    return s;
}
