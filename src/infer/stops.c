/* Stop strings. */
#include "infer/stops.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

fm_status fm_stops_init(fm_stops *s, const char *const *stop, int n) {
    *s = (fm_stops){0};
    if (n <= 0) {
        return FM_OK;
    }
    s->stop = fm_calloc((size_t)n, sizeof *s->stop);
    if (!s->stop) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %d stop strings", n);
    }
    for (s->n = 0; s->n < n; s->n++) {
        if (!stop[s->n] || !*stop[s->n]) {
            fm_stops_deinit(s);
            FM_FAIL(FM_ERR_ARGUMENT, "stop: an empty string stops nothing");
        }
        fm_str_puts(&s->stop[s->n], stop[s->n]);
        fm_status st = fm_str_check(&s->stop[s->n]);
        if (st != FM_OK) {
            s->n++;
            fm_stops_deinit(s);
            return st;
        }
    }
    return FM_OK;
}

void fm_stops_deinit(fm_stops *s) {
    for (int i = 0; i < s->n; i++) {
        fm_str_free(&s->stop[i]);
    }
    fm_free(s->stop);
    fm_str_free(&s->held);
    *s = (fm_stops){0};
}

/* Length of the longest end of text[n] that begins a stop string. */
static size_t possible(const fm_stops *s, const char *text, size_t n) {
    size_t most = 0;
    for (int i = 0; i < s->n; i++) {
        size_t len = FM_MIN(n, s->stop[i].len - 1);
        while (len > most && memcmp(text + n - len, s->stop[i].data, len) != 0) {
            len--;
        }
        most = FM_MAX(most, len);
    }
    return most;
}

bool fm_stops_push(fm_stops *s, fm_str *out, const char *text, size_t n) {
    if (s->n == 0) {
        fm_str_append(out, text, n);
        return false;
    }
    fm_str_append(&s->held, text, n);
    if (s->held.failed || s->held.len == 0) {
        out->failed = out->failed || s->held.failed;
        return false;
    }
    const char *first = NULL;
    for (int i = 0; i < s->n; i++) {
        const char *at = memmem(s->held.data, s->held.len, s->stop[i].data, s->stop[i].len);
        first = at && (!first || at < first) ? at : first;
    }
    size_t keep = first ? 0 : possible(s, s->held.data, s->held.len);
    size_t show = first ? (size_t)(first - s->held.data) : s->held.len - keep;
    fm_str_append(out, s->held.data, show);
    memmove(s->held.data, s->held.data + s->held.len - keep, keep);
    s->held.len = keep;
    return first != NULL;
}

void fm_stops_flush(fm_stops *s, fm_str *out) {
    if (s->held.len > 0) {
        fm_str_append(out, s->held.data, s->held.len);
        fm_str_clear(&s->held);
    }
}
