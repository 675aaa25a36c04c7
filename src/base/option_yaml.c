/* Option tables from YAML, through libyaml's events; nothing else includes it.
 *
 * What is read is the part of YAML that configuration needs: mappings (nested ones join their keys
 * with dots), scalars, and sequences of scalars. Anchors, merges and several documents are refused. */
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/option_row.h"
#include "base/str.h"

#define MAX_DEPTH 16

typedef struct reader {
    yaml_parser_t parser;
    const fm_option *table;
    void *obj;
    const char *name;
    size_t *seen; /* line (from 1) at which each row was set; 0 = not yet */
    fm_str key;   /* joined path of the mapping being read */
} reader;

static size_t line_of(const yaml_event_t *e) {
    return e->start_mark.line + 1;
}

/* Fetches the next event; anchors are refused here, once for all kinds. */
static fm_status next(reader *r, yaml_event_t *e) {
    if (!yaml_parser_parse(&r->parser, e)) {
        const yaml_parser_t *p = &r->parser;
        if (p->error == YAML_MEMORY_ERROR) {
            FM_FAIL(FM_ERR_NO_MEMORY, "%s: cannot allocate memory for the YAML reader", r->name);
        }
        bool at_mark = p->error == YAML_SCANNER_ERROR || p->error == YAML_PARSER_ERROR;
        FM_FAIL(FM_ERR_CONFIG, "%s:%zu: not valid YAML: %s", r->name, at_mark ? p->problem_mark.line + 1 : 1,
                p->problem ? p->problem : "unknown problem");
    }
    const yaml_char_t *anchor = e->type == YAML_SCALAR_EVENT           ? e->data.scalar.anchor
                                : e->type == YAML_MAPPING_START_EVENT  ? e->data.mapping_start.anchor
                                : e->type == YAML_SEQUENCE_START_EVENT ? e->data.sequence_start.anchor
                                                                       : NULL;
    if (anchor || e->type == YAML_ALIAS_EVENT) {
        size_t line = line_of(e);
        yaml_event_delete(e);
        FM_FAIL(FM_ERR_CONFIG, "%s:%zu: anchors and aliases (& and *) are not supported", r->name, line);
    }
    return FM_OK;
}

static const char *scalar_text(const yaml_event_t *e) {
    return (const char *)e->data.scalar.value;
}

static fm_status check_scalar(const reader *r, const yaml_event_t *e) {
    if (memchr(e->data.scalar.value, 0, e->data.scalar.length)) {
        FM_FAIL(FM_ERR_CONFIG, "%s:%zu: a value may not hold a NUL character", r->name, line_of(e));
    }
    return FM_OK;
}

static bool is_null(const yaml_event_t *e) {
    const char *v = scalar_text(e);
    return e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!*v || strcmp(v, "~") == 0 || strcmp(v, "null") == 0 || strcmp(v, "Null") == 0 || strcmp(v, "NULL") == 0);
}

static void where_text(char *buf, size_t cap, const reader *r, size_t line) {
    snprintf(buf, cap, "%s:%zu", r->name, line);
}

/* The row for the joined key, marked as seen; a second time is an error. */
static fm_status claim(reader *r, const fm_option **row, size_t line) {
    char where[512];
    where_text(where, sizeof where, r, line);
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

static fm_status read_sequence(reader *r, size_t key_line) {
    const fm_option *row;
    FM_TRY(claim(r, &row, key_line));
    char **items = NULL;
    size_t n = 0, cap = 0;
    fm_status s = FM_OK;
    for (;;) {
        yaml_event_t e;
        s = next(r, &e);
        if (s != FM_OK) {
            break;
        }
        size_t line = line_of(&e);
        yaml_event_type_t type = e.type;
        if (type == YAML_SCALAR_EVENT) {
            s = check_scalar(r, &e);
            void *p = items;
            if (s == FM_OK) {
                s = fm_grow(&p, &cap, n + 1, sizeof *items);
            }
            if (s == FM_OK) {
                items = p;
                items[n] = fm_strdup(scalar_text(&e));
                if (items[n]) {
                    n++;
                } else {
                    s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "cannot allocate a list item");
                }
            }
        }
        yaml_event_delete(&e);
        if (type == YAML_SEQUENCE_END_EVENT) {
            char where[512];
            where_text(where, sizeof where, r, key_line);
            return fm_option_store_list(r->obj, row, items, n, where);
        }
        if (s == FM_OK && type != YAML_SCALAR_EVENT) {
            s = fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s:%zu: %s: a list may hold plain values only",
                             r->name, line, row->key);
        }
        if (s != FM_OK) {
            break;
        }
    }
    for (size_t i = 0; i < n; i++) {
        fm_free(items[i]);
    }
    fm_free(items);
    return s;
}

static fm_status read_mapping(reader *r, int depth);

/* The value of the key that r->key holds. */
static fm_status read_value(reader *r, size_t key_line, int depth) {
    yaml_event_t e;
    FM_TRY(next(r, &e));
    fm_status s;
    if (e.type == YAML_SCALAR_EVENT) {
        const fm_option *row;
        char where[512];
        where_text(where, sizeof where, r, key_line);
        s = claim(r, &row, key_line);
        if (s == FM_OK) {
            s = check_scalar(r, &e);
        }
        if (s == FM_OK) {
            s = fm_option_store(r->obj, row, is_null(&e) ? NULL : scalar_text(&e), where);
        }
        yaml_event_delete(&e);
        return s;
    }
    bool sequence = e.type == YAML_SEQUENCE_START_EVENT;
    yaml_event_delete(&e);
    return sequence ? read_sequence(r, key_line) : read_mapping(r, depth + 1);
}

static fm_status read_mapping(reader *r, int depth) {
    if (depth > MAX_DEPTH) {
        FM_FAIL(FM_ERR_CONFIG, "%s:%zu: mappings are nested more than %d deep", r->name, r->parser.mark.line + 1,
                MAX_DEPTH);
    }
    size_t prefix = r->key.len;
    for (;;) {
        yaml_event_t e;
        FM_TRY(next(r, &e));
        if (e.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&e);
            return FM_OK;
        }
        size_t line = line_of(&e);
        if (e.type != YAML_SCALAR_EVENT) {
            yaml_event_delete(&e);
            FM_FAIL(FM_ERR_CONFIG, "%s:%zu: a key must be a plain word", r->name, line);
        }
        fm_status s = check_scalar(r, &e);
        if (s == FM_OK) {
            if (prefix) {
                fm_str_putc(&r->key, '.');
            }
            fm_str_puts(&r->key, scalar_text(&e));
            s = fm_str_check(&r->key);
        }
        yaml_event_delete(&e);
        FM_TRY(s);
        FM_TRY(read_value(r, line, depth));
        r->key.len = prefix;
        if (r->key.data) {
            r->key.data[prefix] = '\0';
        }
    }
}

static fm_status read_stream(reader *r) {
    bool in_document = false;
    for (;;) {
        yaml_event_t e;
        FM_TRY(next(r, &e));
        yaml_event_type_t type = e.type;
        size_t line = line_of(&e);
        bool empty = type == YAML_SCALAR_EVENT && is_null(&e);
        yaml_event_delete(&e);
        if (type == YAML_STREAM_END_EVENT) {
            return FM_OK;
        }
        if (type == YAML_DOCUMENT_START_EVENT) {
            if (in_document) {
                FM_FAIL(FM_ERR_CONFIG, "%s:%zu: expected one document, found a second", r->name, line);
            }
            in_document = true;
        } else if (type == YAML_MAPPING_START_EVENT) {
            FM_TRY(read_mapping(r, 1));
        } else if (type != YAML_STREAM_START_EVENT && type != YAML_DOCUMENT_END_EVENT && !empty) {
            FM_FAIL(FM_ERR_CONFIG, "%s:%zu: expected lines of the form 'key: value'", r->name, line);
        }
    }
}

fm_status fm_options_parse_yaml(void *obj, const fm_option *table, const char *text, size_t n, const char *name) {
    size_t n_rows = 0;
    while (table[n_rows].key) {
        n_rows++;
    }
    reader r = {.table = table, .obj = obj, .name = name};
    r.seen = fm_calloc(n_rows + 1, sizeof *r.seen);
    if (!r.seen || !yaml_parser_initialize(&r.parser)) {
        fm_free(r.seen);
        FM_FAIL(FM_ERR_NO_MEMORY, "%s: cannot allocate the YAML reader", name);
    }
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n);
    fm_status s = read_stream(&r);
    yaml_parser_delete(&r.parser);
    fm_str_free(&r.key);
    fm_free(r.seen);
    return s;
}

fm_status fm_options_load_yaml(void *obj, const fm_option *table, const char *path) {
    char *text;
    size_t n;
    FM_TRY(fm_file_read(&text, &n, path, (size_t)16 << 20));
    fm_status s = fm_options_parse_yaml(obj, table, text, n, path);
    fm_free(text);
    return s;
}
