/* Filters take the answer out of what a model said. The two of GSM8K follow the regular expressions of
 * lm-evaluation-harness. */
#include <string.h>

#include "eval/task.h"

static const fm_sv invalid = {"[invalid]", 9};

static bool digit(char c) {
    return c >= '0' && c <= '9';
}

static fm_sv none(fm_sv t) {
    return t;
}

static fm_sv strip(fm_sv t) {
    while (t.len > 0 && strchr(" \t\r\n\v\f", t.ptr[t.len - 1]) && t.ptr[t.len - 1]) {
        t.len--;
    }
    while (t.len > 0 && strchr(" \t\r\n\v\f", t.ptr[0]) && t.ptr[0]) {
        t.ptr++;
        t.len--;
    }
    return t;
}

static fm_sv first_line(fm_sv t) {
    t = strip(t);
    const char *nl = t.len ? memchr(t.ptr, '\n', t.len) : NULL;
    return strip((fm_sv){t.ptr, nl ? (size_t)(nl - t.ptr) : t.len});
}

/* "#### (\-?[0-9\.\,]+)", the first */
static fm_sv strict(fm_sv t) {
    for (size_t i = 0; i + 5 < t.len; i++) {
        if (memcmp(t.ptr + i, "#### ", 5) != 0) {
            continue;
        }
        size_t at = i + 5, end;
        at += t.ptr[at] == '-';
        for (end = at; end < t.len && (digit(t.ptr[end]) || t.ptr[end] == '.' || t.ptr[end] == ','); end++) {
        }
        if (end > at) {
            return (fm_sv){t.ptr + i + 5, end - i - 5};
        }
    }
    return invalid;
}

/* "(-?[$0-9.,]{2,})|(-?[0-9]+)", the last */
static fm_sv flexible(fm_sv t) {
    fm_sv found = invalid;
    for (size_t i = 0; i < t.len;) {
        size_t at = i + (t.ptr[i] == '-'), end = at, digits = at;
        for (; end < t.len && (digit(t.ptr[end]) || (t.ptr[end] && strchr("$.,", t.ptr[end]))); end++) {
        }
        for (; digits < t.len && digit(t.ptr[digits]); digits++) {
        }
        if (end >= at + 2 || digits > at) {
            end = end >= at + 2 ? end : digits;
            found = (fm_sv){t.ptr + i, end - i};
            i = end;
        } else {
            i++;
        }
    }
    return found;
}

static const fm_eval_filter filters[] = {
    {"none", "the text as it is", none},
    {"strip", "without white space at both ends", strip},
    {"first_line", "the first line that is not empty", first_line},
    {"strict", "the number after the first \"#### \" (GSM8K's strict-match)", strict},
    {"flexible", "the last number (GSM8K's flexible-extract)", flexible},
};

const fm_eval_filter *fm_eval_filter_at(size_t i) {
    return i < FM_ARRAY_LEN(filters) ? &filters[i] : NULL;
}

fm_status fm_eval_filter_find(const fm_eval_filter **out, fm_sv name) {
    const char *names[FM_ARRAY_LEN(filters)];
    char text[64];
    for (size_t i = 0; i < FM_ARRAY_LEN(filters); i++) {
        names[i] = filters[i].name;
        if (fm_sv_eq(name, filters[i].name)) {
            *out = &filters[i];
            return FM_OK;
        }
    }
    snprintf(text, sizeof text, "%.*s", (int)FM_MIN(name.len, sizeof text - 1), name.ptr);
    int near = fm_nearest_name(text, names, (int)FM_ARRAY_LEN(names));
    (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "there is no filter \"%s\"", text);
    return near >= 0 ? fm_error_hint("did you mean %s?", names[near])
                     : fm_error_hint("filters: none, strip, first_line, strict, flexible");
}

fm_status fm_eval_gsm8k_clean(fm_bump *a, fm_sv *out, fm_sv text) {
    char *p = fm_bump_alloc(a, text.len + 1);
    if (!p) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an answer");
    }
    size_t n = 0, from = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c != ',' && c != '$') {
            p[n++] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
        }
    }
    for (size_t i = 0; i + 5 <= n; i++) {
        from = memcmp(p + i, "#### ", 5) == 0 ? i + 5 : from;
    }
    p += from;
    n -= from;
    if (n > 0 && p[n - 1] == '.') {
        n--;
    } else if (n > 1 && p[n - 1] == '\n' && p[n - 2] == '.') { /* "$" also stands before a last line end */
        p[n-- - 2] = '\n';
    }
    *out = (fm_sv){p, n};
    return FM_OK;
}
