/* YAML through libyaml's events; see yaml.h. */
#include "base/yaml.h"

#include <string.h>
#include <yaml.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

#define MAX_DEPTH 16
#define MAX_BYTES ((size_t)16 << 20)

typedef struct reader {
    yaml_parser_t parser;
    const char *name;
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

static bool is_null(const yaml_event_t *e) {
    const char *v = (const char *)e->data.scalar.value;
    return e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!*v || strcmp(v, "~") == 0 || strcmp(v, "null") == 0 || strcmp(v, "Null") == 0 || strcmp(v, "NULL") == 0);
}

static fm_status scalar_copy(const reader *r, const yaml_event_t *e, char **out) {
    if (memchr(e->data.scalar.value, 0, e->data.scalar.length)) {
        FM_FAIL(FM_ERR_CONFIG, "%s:%zu: a value may not hold a NUL character", r->name, line_of(e));
    }
    *out = fm_strndup((const char *)e->data.scalar.value, e->data.scalar.length);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "%s: cannot allocate a value", r->name);
    }
    return FM_OK;
}

static fm_status add_child(const reader *r, fm_yaml *parent, fm_yaml **out, size_t line) {
    void *p = parent->child;
    FM_TRY(fm_grow(&p, &parent->cap, parent->n + 1, sizeof(fm_yaml *)));
    parent->child = p;
    *out = fm_calloc(1, sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "%s: cannot allocate a value", r->name);
    }
    (*out)->line = line;
    parent->child[parent->n++] = *out;
    return FM_OK;
}

static fm_status read_node(reader *r, fm_yaml *node, const yaml_event_t *e, int depth);

static fm_status read_list(reader *r, fm_yaml *node, int depth) {
    for (;;) {
        yaml_event_t e;
        fm_yaml *item;
        FM_TRY(next(r, &e));
        if (e.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&e);
            return FM_OK;
        }
        fm_status s = add_child(r, node, &item, line_of(&e));
        if (s == FM_OK) {
            s = read_node(r, item, &e, depth + 1);
        }
        yaml_event_delete(&e);
        FM_TRY(s);
    }
}

static fm_status read_map(reader *r, fm_yaml *node, int depth) {
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
        fm_yaml *value;
        fm_status s = add_child(r, node, &value, line);
        if (s == FM_OK) {
            s = scalar_copy(r, &e, &value->key);
        }
        yaml_event_delete(&e);
        FM_TRY(s);
        FM_TRY(next(r, &e));
        s = read_node(r, value, &e, depth + 1);
        yaml_event_delete(&e);
        FM_TRY(s);
    }
}

/* The value that begins with e (which the caller deletes). */
static fm_status read_node(reader *r, fm_yaml *node, const yaml_event_t *e, int depth) {
    if (depth > MAX_DEPTH) {
        FM_FAIL(FM_ERR_CONFIG, "%s:%zu: mappings are nested more than %d deep", r->name, line_of(e), MAX_DEPTH);
    }
    if (e->type == YAML_SCALAR_EVENT) {
        node->kind = FM_YAML_SCALAR;
        node->is_null = is_null(e);
        return scalar_copy(r, e, &node->text);
    }
    node->kind = e->type == YAML_SEQUENCE_START_EVENT ? FM_YAML_LIST : FM_YAML_MAP;
    return node->kind == FM_YAML_LIST ? read_list(r, node, depth) : read_map(r, node, depth);
}

static fm_status read_stream(reader *r, fm_yaml **out) {
    bool in_document = false;
    for (;;) {
        yaml_event_t e;
        FM_TRY(next(r, &e));
        yaml_event_type_t type = e.type;
        size_t line = line_of(&e);
        fm_status s = FM_OK;
        if (type == YAML_STREAM_END_EVENT) {
            yaml_event_delete(&e);
            return FM_OK;
        }
        if (type == YAML_DOCUMENT_START_EVENT) {
            if (in_document) {
                s = fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s:%zu: expected one document, found a second",
                                 r->name, line);
            }
            in_document = true;
        } else if (type != YAML_STREAM_START_EVENT && type != YAML_DOCUMENT_END_EVENT &&
                   !(type == YAML_SCALAR_EVENT && is_null(&e))) {
            *out = fm_calloc(1, sizeof **out);
            if (*out) {
                (*out)->line = line;
                s = read_node(r, *out, &e, 1);
            } else {
                s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "%s: cannot allocate a document", r->name);
            }
        }
        yaml_event_delete(&e);
        FM_TRY(s);
    }
}

fm_status fm_yaml_parse(fm_yaml **out, const char *text, size_t n, const char *name) {
    *out = NULL;
    reader r = {.name = name};
    if (!yaml_parser_initialize(&r.parser)) {
        FM_FAIL(FM_ERR_NO_MEMORY, "%s: cannot allocate the YAML reader", name);
    }
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n);
    fm_status s = read_stream(&r, out);
    yaml_parser_delete(&r.parser);
    if (s != FM_OK) {
        fm_yaml_free(*out);
        *out = NULL;
    }
    return s;
}

fm_status fm_yaml_load(fm_yaml **out, const char *path) {
    char *text;
    size_t n;
    *out = NULL;
    FM_TRY(fm_file_read(&text, &n, path, MAX_BYTES));
    fm_status s = fm_yaml_parse(out, text, n, path);
    fm_free(text);
    return s;
}

void fm_yaml_free(fm_yaml *y) {
    if (!y) {
        return;
    }
    for (size_t i = 0; i < y->n; i++) {
        fm_yaml_free(y->child[i]);
    }
    fm_free(y->child);
    fm_free(y->key);
    fm_free(y->text);
    fm_free(y);
}

fm_yaml *fm_yaml_get(const fm_yaml *map, const char *key) {
    for (size_t i = 0; map && map->kind == FM_YAML_MAP && i < map->n; i++) {
        if (strcmp(map->child[i]->key, key) == 0) {
            return map->child[i];
        }
    }
    return NULL;
}
