/* The thread-local error record and the status tables. */
#define FM_ERROR_C
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local fm_error_record record;

typedef struct status_row {
    fm_status status;
    int exit_code;
    const char *name, *text;
} status_row;

static const status_row rows[] = {
#define FM_X(sym, val, exit_code, text) {sym, exit_code, #sym, text},
    FM_STATUS_LIST(FM_X)
#undef FM_X
};

static const status_row *row_of(fm_status s) {
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        if (rows[i].status == s) {
            return &rows[i];
        }
    }
    return NULL;
}

const char *fm_status_name(fm_status s) {
    const status_row *r = row_of(s);
    return r ? r->name : "FM_ERR_?";
}

const char *fm_status_text(fm_status s) {
    const status_row *r = row_of(s);
    return r ? r->text : "unknown status";
}

int fm_status_exit_code(fm_status s) {
    const status_row *r = row_of(s);
    return r ? r->exit_code : 1;
}

fm_error fm_error_get(void) {
    fm_error e = {record.status, record.message, record.hint, record.file ? record.file : "", record.line};
    return e;
}

void fm_error_clear(void) {
    memset(&record, 0, sizeof record);
}

/* Arguments may point into the record itself (re-raising with a longer text), so text is always
 * formed beside it and then copied. */
fm_status fm_error_set(fm_status s, const char *file, int line, const char *fmt, ...) {
    char text[sizeof record.message];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    record.status = s;
    record.file = file;
    record.line = line;
    memcpy(record.message, text, sizeof text);
    record.hint[0] = '\0';
    return s;
}

fm_status fm_error_hint(const char *fmt, ...) {
    char text[sizeof record.hint];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    memcpy(record.hint, text, sizeof text);
    return record.status;
}

fm_status fm_error_context(const char *fmt, ...) {
    char text[sizeof record.message];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    size_t len = n < 0 ? 0 : FM_MIN((size_t)n, sizeof text - 3);
    memcpy(text + len, ": ", 2);
    len += 2;
    size_t rest = strnlen(record.message, sizeof text - 1 - len); /* what does not fit is cut */
    memcpy(text + len, record.message, rest);
    text[len + rest] = '\0';
    memcpy(record.message, text, sizeof text);
    return record.status;
}

void fm_error_save(fm_error_record *out) {
    *out = record;
}

void fm_error_restore(const fm_error_record *in) {
    record = *in;
}

void fm_assert_fail(const char *cond, const char *file, int line, const char *func) {
    fprintf(stderr, "fathom: internal error: %s:%d: %s: %s does not hold\n", file, line, func, cond);
    abort();
}
