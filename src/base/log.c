/* Message sink and cancellation. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static fm_log_fn sink;
static void *sink_user;
static atomic_int cancelled; /* lock-free, so that a signal handler may set it */

void fm_log_set_sink(fm_log_fn fn, void *user) {
    pthread_mutex_lock(&lock);
    sink = fn;
    sink_user = user;
    pthread_mutex_unlock(&lock);
}

void fm_log(fm_log_level level, const char *fmt, ...) {
    pthread_mutex_lock(&lock);
    if (sink) {
        char text[2048]; /* longer messages are cut */
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        sink(sink_user, level, text);
    }
    pthread_mutex_unlock(&lock);
}

void fm_cancel(void) {
    atomic_store(&cancelled, 1);
}

bool fm_cancelled(void) {
    return atomic_load_explicit(&cancelled, memory_order_relaxed) != 0;
}

void fm_cancel_reset(void) {
    atomic_store(&cancelled, 0);
}
