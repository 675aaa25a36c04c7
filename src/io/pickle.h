/* Python pickles, read as data: a machine for the opcodes that plain values need, which calls nothing.
 *
 * A pickle is a program for a stack machine, and Python's runs any function it names. Here a name must be in the
 * caller's table, and calling it only makes a node "this function with these arguments", for the caller to
 * understand. Everything else (another name, an opcode that makes objects of classes) is refused by name. Memory is
 * bounded by limits on bytes, values and stack; nothing recurses, so values that contain themselves do no harm.
 *
 * Format: Lib/pickletools.py of CPython, protocols 0 to 5. */
#ifndef FM_IO_PICKLE_H
#define FM_IO_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

typedef enum fm_pickle_kind {
    FM_PICKLE_NONE,
    FM_PICKLE_BOOL,   /* i */
    FM_PICKLE_INT,    /* i */
    FM_PICKLE_FLOAT,  /* f */
    FM_PICKLE_STR,    /* text, n: bytes in the pickle, UTF-8, not NUL-terminated; byte strings too */
    FM_PICKLE_TUPLE,  /* item, n */
    FM_PICKLE_LIST,   /* item, n; sets too */
    FM_PICKLE_DICT,   /* item: key, value, key, value ...; n counts both */
    FM_PICKLE_GLOBAL, /* global */
    FM_PICKLE_CALL,   /* global, item[0]: the tuple of arguments */
    FM_PICKLE_PERSID  /* item[0]: what the program that wrote it stored outside the pickle */
} fm_pickle_kind;

typedef struct fm_pickle_global {
    const char *module, *name;
    int id;    /* the caller's */
    bool dict; /* calling it makes a dict (OrderedDict) */
} fm_pickle_global;

typedef struct fm_pickle_value fm_pickle_value;
struct fm_pickle_value {
    fm_pickle_kind kind;
    uint32_t n, cap;
    union {
        int64_t i;
        double f;
        const char *text;
        fm_pickle_value **item;
    };
    const fm_pickle_global *global;
};

typedef struct fm_pickle fm_pickle;

/* Reads one pickle at the beginning of data, which outlives *out. `allowed` ends with module NULL. *used (or NULL)
 * gets the bytes up to and with its STOP. `name` is for messages. Anything malformed is FM_ERR_CORRUPT; a name that is
 * not in the table, or an opcode that would make objects, FM_ERR_UNSUPPORTED. */
FM_MUST_CHECK fm_status fm_pickle_read(fm_pickle **out, const void *data, size_t n, size_t *used,
                                       const fm_pickle_global *allowed, const char *name);
const fm_pickle_value *fm_pickle_root(const fm_pickle *p);
/* Every value that was made, in order. */
size_t fm_pickle_count(const fm_pickle *p);
const fm_pickle_value *fm_pickle_at(const fm_pickle *p, size_t i);
void fm_pickle_free(fm_pickle *p);

/* Value of a string key of a dict, or NULL. */
const fm_pickle_value *fm_pickle_get(const fm_pickle_value *dict, const char *key);
bool fm_pickle_text_is(const fm_pickle_value *v, const char *text);

#endif
