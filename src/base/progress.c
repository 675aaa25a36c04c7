/* Progress sink. */
#include "base/progress.h"

#include <pthread.h>

#include "base/file.h"

#define INTERVAL_S 0.1

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static fm_progress_fn sink;
static void *sink_user;

void fm_progress_set_sink(fm_progress_fn fn, void *user) {
    pthread_mutex_lock(&lock);
    sink = fn;
    sink_user = user;
    pthread_mutex_unlock(&lock);
}

static void report(fm_meter *m, double done, double now, const char *detail) {
    m->last_s = now;
    pthread_mutex_lock(&lock);
    if (sink) {
        fm_progress p = {m->what, m->unit, done, m->total, now - m->start_s, detail ? detail : ""};
        sink(sink_user, &p);
    }
    pthread_mutex_unlock(&lock);
}

void fm_meter_start(fm_meter *m, const char *what, const char *unit, double total) {
    m->what = what;
    m->unit = unit;
    m->total = total;
    m->start_s = m->last_s = fm_now();
}

void fm_meter_update(fm_meter *m, double done, const char *detail) {
    double now = fm_now();
    if (now - m->last_s >= INTERVAL_S) {
        report(m, done, now, detail);
    }
}

void fm_meter_end(fm_meter *m, double done, const char *detail) {
    report(m, done, fm_now(), detail);
}
