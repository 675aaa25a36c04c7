/* JSON documents through jansson; nothing else includes it. */
#include "base/json.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

/* jansson keeps the C library's allocator: its lexer stops the program by an assertion when an
 * allocation fails in the middle of a token (2.14). Injected failures therefore hit the calls below,
 * not the library. */
static bool memory_refused(void) {
    void *p = fm_malloc(1);
    fm_free(p);
    return !p;
}

static bool fits_in_64_bits(const char *digits, size_t n) {
    char buf[32];
    if (n >= sizeof buf) {
        return false;
    }
    memcpy(buf, digits, n);
    buf[n] = '\0';
    errno = 0;
    (void)strtoll(buf, NULL, 10);
    return errno == 0;
}

/* jansson refuses integers beyond 64 bits, which real files have (a "model_max_length" of 1e30
 * written as an integer). Appends ".0" to such numbers, so that they become reals and all others
 * stay as they are. */
static fm_status widen_integers(fm_str *out, const char *p, size_t n) {
    size_t i = 0;
    while (i < n) {
        size_t start = i;
        if (p[i] == '"') {
            for (i++; i < n && p[i] != '"'; i++) {
                i += p[i] == '\\' && i + 1 < n;
            }
            i += i < n;
            fm_str_append(out, p + start, i - start);
        } else if (isdigit((unsigned char)p[i]) || p[i] == '-') {
            for (i++; i < n && isdigit((unsigned char)p[i]); i++) {
            }
            bool whole = i == n || (p[i] != '.' && p[i] != 'e' && p[i] != 'E');
            fm_str_append(out, p + start, i - start);
            if (whole && !fits_in_64_bits(p + start, i - start)) {
                fm_str_puts(out, ".0");
            } else if (!whole) {
                for (start = i; i < n && strchr("0123456789.eE+-", p[i]) && p[i]; i++) {
                }
                fm_str_append(out, p + start, i - start);
            }
        } else {
            fm_str_putc(out, p[i++]);
        }
    }
    return fm_str_check(out);
}

fm_status fm_json_parse(fm_json **out, const char *text, size_t n, const char *name) {
    *out = NULL;
    if (memory_refused()) {
        FM_FAIL(FM_ERR_NO_MEMORY, "%s: cannot allocate a JSON document of %zu bytes", name, n);
    }
    if (n >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        text += 3;
        n -= 3;
    }
    const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_error_t err;
    *out = json_loadb(text, n, flags, &err);
    if (!*out && json_error_code(&err) == json_error_numeric_overflow) {
        fm_str wide = {0};
        fm_status s = widen_integers(&wide, text, n);
        if (s == FM_OK) {
            json_error_t again;
            *out = json_loadb(wide.data, wide.len, flags, &again);
            err = *out ? err : again;
        }
        fm_str_free(&wide);
        FM_TRY(s);
    }
    if (*out) {
        return FM_OK;
    }
    if (json_error_code(&err) == json_error_out_of_memory) {
        FM_FAIL(FM_ERR_NO_MEMORY, "%s: cannot allocate a JSON document of %zu bytes", name, n);
    }
    FM_FAIL(FM_ERR_FORMAT, "%s:%d:%d: not valid JSON: %s", name, err.line, err.column, err.text);
}

fm_status fm_json_load(fm_json **out, const char *path) {
    char *text;
    size_t n;
    *out = NULL;
    FM_TRY(fm_file_read(&text, &n, path, 0));
    fm_status s = fm_json_parse(out, text, n, path);
    fm_free(text);
    return s;
}

void fm_json_free(fm_json *j) {
    json_decref(j);
}

bool fm_json_is_object(const fm_json *j) {
    return json_is_object(j);
}
bool fm_json_is_array(const fm_json *j) {
    return json_is_array(j);
}
bool fm_json_is_string(const fm_json *j) {
    return json_is_string(j);
}
bool fm_json_is_number(const fm_json *j) {
    return json_is_number(j);
}
bool fm_json_is_int(const fm_json *j) {
    return json_is_integer(j);
}
bool fm_json_is_bool(const fm_json *j) {
    return json_is_boolean(j);
}
bool fm_json_is_null(const fm_json *j) {
    return !j || json_is_null(j);
}

size_t fm_json_size(const fm_json *j) {
    return json_is_array(j) ? json_array_size(j) : json_object_size(j);
}

fm_json *fm_json_at(const fm_json *array, size_t i) {
    return json_array_get(array, i);
}

fm_json *fm_json_get(const fm_json *object, const char *key) {
    return json_object_get(object, key);
}

fm_status fm_json_each(fm_json *object, fm_json_member_fn fn, void *arg) {
    for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it)) {
        FM_TRY(fn(arg, json_object_iter_key(it), json_object_iter_value(it)));
    }
    return FM_OK;
}

const char *fm_json_str(const fm_json *j, size_t *n) {
    const char *s = json_string_value(j);
    if (n) {
        *n = json_string_length(j);
    }
    return s;
}

double fm_json_num(const fm_json *j, double def) {
    return json_is_number(j) ? json_number_value(j) : def;
}

/* A whole number, also one written as 4096.0 or 1e6. */
static bool as_int(int64_t *out, const fm_json *j) {
    if (json_is_integer(j)) {
        *out = json_integer_value(j);
        return true;
    }
    double v = json_real_value(j);
    if (!json_is_real(j) || !(v >= -0x1p63 && v < 0x1p63) || v != floor(v)) {
        return false;
    }
    *out = (int64_t)v;
    return true;
}

int64_t fm_json_int(const fm_json *j, int64_t def) {
    int64_t v;
    return as_int(&v, j) ? v : def;
}

bool fm_json_bool(const fm_json *j, bool def) {
    return json_is_boolean(j) ? json_is_true(j) : def;
}

static const char *kind_of(const fm_json *j) {
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a real number";
    case JSON_NULL:
        return "null";
    default:
        return "a boolean";
    }
}

#define WRONG(key, want, j) FM_FAIL(FM_ERR_FORMAT, "key '%s': expected %s, found %s", key, want, kind_of(j))

fm_status fm_json_get_i64(int64_t *out, const fm_json *o, const char *key, int64_t def) {
    const fm_json *j = fm_json_get(o, key);
    *out = def;
    if (!fm_json_is_null(j) && !as_int(out, j)) {
        WRONG(key, "a whole number that fits in 64 bits", j);
    }
    return FM_OK;
}

fm_status fm_json_get_f64(double *out, const fm_json *o, const char *key, double def) {
    const fm_json *j = fm_json_get(o, key);
    *out = fm_json_num(j, def);
    if (!fm_json_is_null(j) && !json_is_number(j)) {
        WRONG(key, "a number", j);
    }
    return FM_OK;
}

fm_status fm_json_get_bool(bool *out, const fm_json *o, const char *key, bool def) {
    const fm_json *j = fm_json_get(o, key);
    *out = fm_json_bool(j, def);
    if (!fm_json_is_null(j) && !json_is_boolean(j)) {
        WRONG(key, "true or false", j);
    }
    return FM_OK;
}

fm_status fm_json_get_str(const char **out, const fm_json *o, const char *key, const char *def) {
    const fm_json *j = fm_json_get(o, key);
    *out = def;
    if (!fm_json_is_null(j)) {
        if (!json_is_string(j)) {
            WRONG(key, "a string", j);
        }
        *out = json_string_value(j);
    }
    return FM_OK;
}

fm_json *fm_json_new_object(void) {
    return json_object();
}
fm_json *fm_json_new_array(void) {
    return json_array();
}
fm_json *fm_json_new_strn(const char *s, size_t n) {
    return json_stringn(s, n);
}
fm_json *fm_json_new_str(const char *s) {
    return s ? fm_json_new_strn(s, strlen(s)) : fm_json_new_null();
}
fm_json *fm_json_new_int(int64_t v) {
    return json_integer(v);
}
fm_json *fm_json_new_num(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}
fm_json *fm_json_new_bool(bool v) {
    return json_boolean(v);
}
fm_json *fm_json_new_null(void) {
    return json_null();
}

fm_status fm_json_set(fm_json *object, const char *key, fm_json *value) {
    if (!value || memory_refused()) {
        json_decref(value);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot set JSON key '%s': out of memory, or not valid UTF-8", key);
    }
    if (json_object_set_new(object, key, value) != 0) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot set JSON key '%s': out of memory, or not valid UTF-8", key);
    }
    return FM_OK;
}

void fm_json_remove(fm_json *object, const char *key) {
    (void)json_object_del(object, key);
}

fm_status fm_json_append(fm_json *array, fm_json *value) {
    if (!value || memory_refused()) {
        json_decref(value);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot append a JSON value: out of memory, or not valid UTF-8");
    }
    if (json_array_append_new(array, value) != 0) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot append a JSON value: out of memory, or not valid UTF-8");
    }
    return FM_OK;
}

/* Shortest decimal that reads back as the same double, with a mark that it is a real. */
static void put_real(fm_str *out, double v) {
    char buf[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(buf, sizeof buf, "%.*g", digits, v);
        if (strtod(buf, NULL) == v) {
            break;
        }
    }
    fm_str_puts(out, buf);
    if (!strpbrk(buf, ".e")) {
        fm_str_puts(out, ".0");
    }
}

static void put_break(fm_str *out, int indent, int depth) {
    if (indent > 0) {
        fm_str_putc(out, '\n');
        for (int i = 0; i < indent * depth; i++) {
            fm_str_putc(out, ' ');
        }
    }
}

/* Depth is bounded by the parser (2048), or by the code that built the value. */
static void dump(fm_str *out, const fm_json *j, int indent, int depth) {
    if (out->failed) {
        return;
    }
    if (!j) {
        fm_str_puts(out, "null");
        return;
    }
    switch (json_typeof(j)) {
    case JSON_OBJECT: {
        fm_str_putc(out, '{');
        bool first = true;
        union { /* the iterator takes a plain pointer but changes nothing */
            const fm_json *r;
            fm_json *w;
        } o = {j};
        for (void *it = json_object_iter(o.w); it; it = json_object_iter_next(o.w, it)) {
            fm_str_puts(out, first ? "" : indent ? "," : ", ");
            first = false;
            put_break(out, indent, depth + 1);
            const char *key = json_object_iter_key(it);
            fm_str_json(out, key, strlen(key));
            fm_str_puts(out, ": ");
            dump(out, json_object_iter_value(it), indent, depth + 1);
        }
        if (!first) {
            put_break(out, indent, depth);
        }
        fm_str_putc(out, '}');
        return;
    }
    case JSON_ARRAY:
        fm_str_putc(out, '[');
        for (size_t i = 0; i < json_array_size(j); i++) {
            fm_str_puts(out, i == 0 ? "" : indent ? "," : ", ");
            put_break(out, indent, depth + 1);
            dump(out, json_array_get(j, i), indent, depth + 1);
        }
        if (json_array_size(j)) {
            put_break(out, indent, depth);
        }
        fm_str_putc(out, ']');
        return;
    case JSON_STRING:
        fm_str_json(out, json_string_value(j), json_string_length(j));
        return;
    case JSON_INTEGER:
        fm_str_printf(out, "%lld", (long long)json_integer_value(j));
        return;
    case JSON_REAL:
        put_real(out, json_real_value(j));
        return;
    case JSON_TRUE:
        fm_str_puts(out, "true");
        return;
    case JSON_FALSE:
        fm_str_puts(out, "false");
        return;
    default:
        fm_str_puts(out, "null");
        return;
    }
}

fm_status fm_json_dump(fm_str *out, const fm_json *j, int indent) {
    dump(out, j, indent, 0);
    return fm_str_check(out);
}

fm_status fm_json_copy(fm_json **out, const fm_json *j) {
    fm_str text = {0};
    *out = NULL;
    fm_status s = fm_json_dump(&text, j, 0);
    s = s == FM_OK ? fm_json_parse(out, text.data, text.len, "copy") : s;
    fm_str_free(&text);
    return s;
}
