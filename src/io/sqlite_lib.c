/* libsqlite3 at run time: see sqlite_lib.h. */
#include "io/sqlite_lib.h"

#include <pthread.h>

#include "base/dynlib.h"
#include "base/error.h"

#ifdef FM_HAVE_SQLITE

fm_sqlite_lib fm_lite;

fm_status fm_sqlite_lib_open(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static const fm_dynlib_entry entries[] = {
#define FM_X(name) {&fm_lite.name, #name},
        FM_SQLITE_FUNCTIONS(FM_X)
#undef FM_X
    };
    pthread_mutex_lock(&lock);
    fm_status s = fm_lite.lib
                      ? FM_OK
                      : fm_dynlib_open(&fm_lite.lib, "libsqlite3.so.0", "libsqlite3-0", entries, FM_ARRAY_LEN(entries));
    pthread_mutex_unlock(&lock);
    return s;
}

#else

fm_status fm_sqlite_lib_open(void) {
    (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "this program was built without SQLite");
    return fm_error_hint("install libsqlite3-dev and build again");
}

#endif
