/* libidn2 behind idn.h. */
#include "net/idn.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/dynlib.h"
#include "base/error.h"

enum { IDN2_OK_ = 0, IDN2_NFC_INPUT_ = 1, IDN2_NONTRANSITIONAL_ = 8 }; /* idn2.h */

static struct {
    void *lib;
    int (*to_ascii)(const char *input, char **output, int flags);
    void (*free)(void *p);
} idn2;

fm_status fm_idn_open(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static const fm_dynlib_entry entries[] = {{&idn2.to_ascii, "idn2_to_ascii_8z"}, {&idn2.free, "idn2_free"}};
    (void)pthread_mutex_lock(&lock);
    fm_status s =
        idn2.lib ? FM_OK : fm_dynlib_open(&idn2.lib, "libidn2.so.0", "libidn2-0", entries, FM_ARRAY_LEN(entries));
    (void)pthread_mutex_unlock(&lock);
    return s;
}

bool fm_idn_ascii(char out[FM_IDN_MAX], const char *p, size_t n) {
    char name[4 * FM_IDN_MAX], *ascii = NULL;
    if (n >= sizeof name || memchr(p, '\0', n) || !fm_utf8_valid(p, n)) {
        return false;
    }
    if (fm_idn_open() != FM_OK) {
        fm_error_clear();
        return false;
    }
    memcpy(name, p, n);
    name[n] = '\0';
    const int rc = idn2.to_ascii(name, &ascii, IDN2_NFC_INPUT_ | IDN2_NONTRANSITIONAL_);
    const bool good = rc == IDN2_OK_ && ascii && strlen(ascii) < FM_IDN_MAX;
    if (good) {
        memcpy(out, ascii, strlen(ascii) + 1);
    }
    if (ascii) {
        idn2.free(ascii);
    }
    return good;
}
