/* Library side of progress reports. */
#ifndef FM_BASE_PROGRESS_H
#define FM_BASE_PROGRESS_H

#include "fathom/log.h"

typedef struct fm_meter {
    const char *what, *unit;
    double total, start_s, last_s;
} fm_meter;

void fm_meter_start(fm_meter *m, const char *what, const char *unit, double total);
void fm_meter_update(fm_meter *m, double done, const char *detail); /* rate-limited */
void fm_meter_end(fm_meter *m, double done, const char *detail);    /* always reported */

#endif
