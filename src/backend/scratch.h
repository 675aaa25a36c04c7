/* Marks in scratch memory: fm_kernel_run gives back what a kernel took. */
#ifndef FM_BACKEND_SCRATCH_H
#define FM_BACKEND_SCRATCH_H

#include "backend/backend.h"

typedef struct fm_scratch_mark {
    int64_t block, used, total;
} fm_scratch_mark;

fm_scratch_mark fm_scratch_save(const fm_scratch *s);
/* Everything taken since the mark is free again. At the empty mark several blocks become one at the next request. */
void fm_scratch_restore(fm_scratch *s, fm_scratch_mark mark);

#endif
