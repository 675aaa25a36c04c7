/* OpenCC behind chinese.h. */
#include "data/chinese.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/dynlib.h"
#include "base/error.h"
#include "base/mem.h"

static struct {
    void *lib;
    void *(*open)(const char *config);
    int (*close)(void *self);
    char *(*convert)(void *self, const char *text, size_t n);
    void (*release)(char *text);
    const char *(*error)(void);
} opencc;

/* Opening reads dictionaries and keeps its last error in one place: one thread at a time. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct fm_chinese {
    void *converter;
};

static fm_status open_library(void) {
    static const fm_dynlib_entry entries[] = {
        {&opencc.open, "opencc_open"},
        {&opencc.close, "opencc_close"},
        {&opencc.convert, "opencc_convert_utf8"},
        {&opencc.release, "opencc_convert_utf8_free"},
        {&opencc.error, "opencc_error"},
    };
    return opencc.lib ? FM_OK
                      : fm_dynlib_open(&opencc.lib, "libopencc.so.1.1|libopencc.so.1.2|libopencc.so.2", "libopencc1.1",
                                       entries, FM_ARRAY_LEN(entries));
}

static fm_status open_converter(fm_chinese *c, const char *config) {
    char name[64];
    snprintf(name, sizeof name, "%s.json", config);
    FM_TRY(open_library());
    void *made = opencc.open(name);
    if ((uintptr_t)made == UINTPTR_MAX) { /* OpenCC's (opencc_t)-1 */
        const char *why = opencc.error();
        fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "OpenCC cannot open its dictionaries %s: %s", name,
                     why ? why : "no reason given");
        return fm_error_hint("install them (Debian, Ubuntu: apt-get install libopencc-data)");
    }
    c->converter = made;
    return FM_OK;
}

fm_status fm_chinese_new(fm_chinese **out, const char *config) {
    fm_chinese *c = *out = fm_calloc(1, sizeof *c);
    if (!c) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a converter of Chinese");
    }
    pthread_mutex_lock(&lock);
    fm_status s = open_converter(c, config);
    pthread_mutex_unlock(&lock);
    if (s != FM_OK) {
        fm_free(c);
        *out = NULL;
    }
    return s;
}

void fm_chinese_free(fm_chinese *c) {
    if (c) {
        opencc.close(c->converter);
        fm_free(c);
    }
}

fm_status fm_chinese_convert(fm_chinese *c, fm_str *out, fm_sv text) {
    fm_str_clear(out);
    for (size_t at = 0; at <= text.len;) { /* the library stops at a zero */
        size_t n = text.len - at;
        const char *zero = n ? memchr(text.ptr + at, '\0', n) : NULL;
        n = zero ? (size_t)(zero - text.ptr) - at : n;
        if (n) {
            char *got = opencc.convert(c->converter, text.ptr + at, n);
            if (!got) {
                FM_FAIL(FM_ERR_NO_MEMORY, "OpenCC cannot convert a text of %zu bytes", n);
            }
            fm_str_puts(out, got);
            opencc.release(got);
        }
        at += n + 1;
        if (zero) {
            fm_str_putc(out, '\0');
        }
    }
    return fm_str_check(out);
}
