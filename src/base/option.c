/* Option tables: finding rows, reading and storing values. */
#include "fathom/option.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/option_row.h"
#include "base/str.h"

#define FIELD(type, obj, row) ((type *)(void *)((char *)(obj) + (row)->offset))

static bool same_name(const char *a, size_t na, const char *b, size_t nb) {
    if (na != nb) {
        return false;
    }
    for (size_t i = 0; i < na; i++) {
        char x = a[i] == '-' ? '_' : a[i], y = b[i] == '-' ? '_' : b[i];
        if (x != y) {
            return false;
        }
    }
    return true;
}

static bool has_alias(const char *aliases, const char *key, size_t n) {
    while (aliases && *aliases) {
        size_t len = strcspn(aliases, "|");
        if (same_name(aliases, len, key, n)) {
            return true;
        }
        aliases += len + (aliases[len] == '|');
    }
    return false;
}

const fm_option *fm_option_find(const fm_option *table, const char *key, size_t n) {
    for (const fm_option *r = table; r->key; r++) {
        if (same_name(r->key, strlen(r->key), key, n) || has_alias(r->aliases, key, n)) {
            return r;
        }
    }
    return NULL;
}

fm_status fm_option_unknown(const fm_option *table, const char *key, const char *prefix, const char *where) {
    int n = 0;
    while (table[n].key) {
        n++;
    }
    const char **names = fm_calloc((size_t)n + 1, sizeof *names);
    if (!names) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a list of %d names", n);
    }
    for (int i = 0; i < n; i++) {
        names[i] = table[i].key;
    }
    int best = fm_nearest_name(key, names, n);
    fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s: unknown %s '%s%s'", where, *prefix ? "option" : "key", prefix,
                 key);
    if (best >= 0) {
        char shown[128];
        snprintf(shown, sizeof shown, "%s", names[best]);
        for (char *c = shown; *prefix && *c; c++) {
            *c = *c == '_' ? '-' : *c;
        }
        fm_error_hint("did you mean '%s%s'?", prefix, shown);
    }
    fm_free(names);
    return FM_ERR_CONFIG;
}

static void free_list(fm_strlist *l) {
    for (size_t i = 0; i < l->n; i++) {
        fm_free(l->item[i]);
    }
    fm_free(l->item);
    l->item = NULL;
    l->n = 0;
}

/* "a|b|c" as "a, b or c". */
static void choices_text(char *buf, size_t cap, const char *choices) {
    size_t len = 0;
    while (*choices && len < cap) {
        size_t n = strcspn(choices, "|");
        const char *next = choices[n] ? choices + n + 1 : choices + n;
        const char *sep = !*next ? "" : strchr(next, '|') ? ", " : " or ";
        int k = snprintf(buf + len, cap - len, "%.*s%s", (int)n, choices, sep);
        len += k > 0 ? (size_t)k : 0;
        choices = next;
    }
}

#define BAD(row, where, value, ...) return bad_value(row, where, value, __LINE__, __VA_ARGS__)

FM_PRINTF(5, 6)
static fm_status bad_value(const fm_option *row, const char *where, const char *value, int line, const char *fmt, ...) {
    char want[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(want, sizeof want, fmt, ap);
    va_end(ap);
    fm_error_set(FM_ERR_CONFIG, __FILE__, line, "%s: %s: expected %s, found '%s'", where, row->key, want, value);
    return fm_error_hint("%s: %s", row->key, row->help ? row->help : "");
}

static fm_status check_range(const fm_option *row, double v, const char *value, const char *where) {
    if ((row->min != 0 || row->max != 0) && !(v >= row->min && v <= row->max)) {
        if (row->max == INFINITY || row->max >= 9.2e18) {
            BAD(row, where, value, "at least %g", row->min);
        }
        BAD(row, where, value, "a value from %g to %g", row->min, row->max);
    }
    return FM_OK;
}

static fm_status read_enum(int *out, const fm_option *row, const char *value, const char *where) {
    int index = 0;
    for (const char *c = row->choices ? row->choices : ""; *c; index++) {
        size_t n = strcspn(c, "|");
        if (same_name(c, n, value, strlen(value))) {
            *out = index;
            return FM_OK;
        }
        c += n + (c[n] == '|');
    }
    char want[400] = "";
    choices_text(want, sizeof want, row->choices ? row->choices : "");
    BAD(row, where, value, "%s", want);
}

static fm_status read_bool(bool *out, const fm_option *row, const char *value, const char *where) {
    static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no", "off", "0"};
    for (size_t i = 0; i < FM_ARRAY_LEN(yes); i++) {
        if (strcasecmp(value, yes[i]) == 0 || strcasecmp(value, no[i]) == 0) {
            *out = strcasecmp(value, yes[i]) == 0;
            return FM_OK;
        }
    }
    BAD(row, where, value, "true or false");
}

fm_status fm_option_store_list(void *obj, const fm_option *row, char **items, size_t n, const char *where) {
    fm_strlist fresh = {items, n};
    if (row->type != FM_OPT_LIST) {
        free_list(&fresh);
        FM_FAIL(FM_ERR_CONFIG, "%s: %s: expected one value, found a list", where, row->key);
    }
    fm_strlist *l = FIELD(fm_strlist, obj, row);
    free_list(l);
    *l = fresh;
    return FM_OK;
}

/* Comma-separated text; blanks around items are dropped, empty items too. */
static fm_status store_list_text(void *obj, const fm_option *row, const char *value, const char *where) {
    size_t most = 1;
    for (const char *c = value; *c; c++) {
        most += *c == ',';
    }
    fm_strlist l = {fm_calloc(most, sizeof(char *)), 0};
    bool ok = l.item != NULL;
    while (ok && *value) {
        size_t n = strcspn(value, ","), a = strspn(value, " \t"), b = n;
        while (b > a && (value[b - 1] == ' ' || value[b - 1] == '\t')) {
            b--;
        }
        if (b > a) {
            l.item[l.n] = fm_strndup(value + a, b - a);
            ok = l.item[l.n] != NULL;
            l.n += ok;
        }
        value += n + (value[n] == ',');
    }
    if (!ok) {
        free_list(&l);
        FM_FAIL(FM_ERR_NO_MEMORY, "%s: %s: cannot allocate a list", where, row->key);
    }
    if (l.n == 0) {
        free_list(&l);
    }
    return fm_option_store_list(obj, row, l.item, l.n, where);
}

static fm_status store_str(void *obj, const fm_option *row, const char *value, const char *where) {
    char *copy = NULL;
    if (*value) {
        copy = fm_strdup(value);
        if (!copy) {
            FM_FAIL(FM_ERR_NO_MEMORY, "%s: %s: cannot allocate a text", where, row->key);
        }
    }
    char **field = FIELD(char *, obj, row);
    fm_free(*field);
    *field = copy;
    return FM_OK;
}

/* The zero of a type: what a row without default starts from. */
static void store_zero(void *obj, const fm_option *row) {
    switch (row->type) {
    case FM_OPT_BOOL:
        *FIELD(bool, obj, row) = false;
        break;
    case FM_OPT_INT:
    case FM_OPT_BYTES:
        *FIELD(int64_t, obj, row) = 0;
        break;
    case FM_OPT_FLOAT:
        *FIELD(double, obj, row) = 0;
        break;
    case FM_OPT_ENUM:
        *FIELD(int, obj, row) = 0;
        break;
    case FM_OPT_STR:
        fm_free(*FIELD(char *, obj, row));
        *FIELD(char *, obj, row) = NULL;
        break;
    case FM_OPT_LIST:
        free_list(FIELD(fm_strlist, obj, row));
        break;
    }
}

fm_status fm_option_store(void *obj, const fm_option *row, const char *value, const char *where) {
    if (!value && !row->def) {
        store_zero(obj, row);
        return FM_OK;
    }
    value = value ? value : row->def;
    switch (row->type) {
    case FM_OPT_BOOL:
        return read_bool(FIELD(bool, obj, row), row, value, where);
    case FM_OPT_INT:
    case FM_OPT_BYTES: {
        int64_t v;
        bool bytes = row->type == FM_OPT_BYTES;
        fm_status s = bytes ? fm_parse_bytes(&v, value) : fm_parse_count(&v, value);
        if (s != FM_OK) {
            BAD(row, where, value, "%s",
                bytes ? "a size such as 512MiB or 6GB" : "a whole number such as 8, 4k or 300M");
        }
        FM_TRY(check_range(row, (double)v, value, where));
        *FIELD(int64_t, obj, row) = v;
        return FM_OK;
    }
    case FM_OPT_FLOAT: {
        double v;
        if (fm_parse_f64(&v, value) != FM_OK || isnan(v)) {
            BAD(row, where, value, "a number");
        }
        FM_TRY(check_range(row, v, value, where));
        *FIELD(double, obj, row) = v;
        return FM_OK;
    }
    case FM_OPT_STR:
        return store_str(obj, row, value, where);
    case FM_OPT_ENUM:
        return read_enum(FIELD(int, obj, row), row, value, where);
    case FM_OPT_LIST:
        return store_list_text(obj, row, value, where);
    }
    FM_FAIL(FM_ERR_ARGUMENT, "option '%s' has no known type", row->key);
}

fm_status fm_options_init(void *obj, const fm_option *table) {
    for (const fm_option *r = table; r->key; r++) {
        if (r->type == FM_OPT_STR) { /* the struct may be uninitialised: nothing there to free */
            *FIELD(char *, obj, r) = NULL;
        } else if (r->type == FM_OPT_LIST) {
            memset(FIELD(fm_strlist, obj, r), 0, sizeof(fm_strlist));
        }
    }
    for (const fm_option *r = table; r->key; r++) {
        fm_status s = fm_option_store(obj, r, NULL, "default");
        if (s != FM_OK) {
            fm_options_free(obj, table);
            return s;
        }
    }
    return FM_OK;
}

void fm_options_free(void *obj, const fm_option *table) {
    for (const fm_option *r = table; r->key; r++) {
        if (r->type == FM_OPT_STR || r->type == FM_OPT_LIST) {
            store_zero(obj, r);
        }
    }
}

fm_status fm_options_set(void *obj, const fm_option *table, const char *key, const char *value, const char *where) {
    const fm_option *row = fm_option_find(table, key, strlen(key));
    if (!row) {
        return fm_option_unknown(table, key, "", where);
    }
    return fm_option_store(obj, row, value, where);
}

void fm_string_free(char *s) {
    fm_free(s);
}

fm_status fm_options_append(void *obj, const fm_option *table, const char *key, const char *value, const char *where) {
    const fm_option *row = fm_option_find(table, key, strlen(key));
    if (!row) {
        return fm_option_unknown(table, key, "", where);
    }
    if (row->type != FM_OPT_LIST) {
        return fm_option_store(obj, row, value, where);
    }
    fm_strlist *l = FIELD(fm_strlist, obj, row);
    char **grown = fm_realloc(l->item, (l->n + 1) * sizeof *grown);
    if (grown) {
        l->item = grown;
    }
    char *copy = grown ? fm_strdup(value) : NULL;
    if (!copy) {
        FM_FAIL(FM_ERR_NO_MEMORY, "%s: %s: cannot allocate a list", where, row->key);
    }
    l->item[l->n++] = copy;
    return FM_OK;
}
