/* Averaged weights. */
#include "train/ema.h"

#include <math.h>
#include <string.h>

#define PART 65536 /* elements */

static int64_t room(const fm_param *p) {
    return p->tie || p->frozen ? 0 : (p->numel + 15) / 16 * 16;
}

int64_t fm_ema_bytes(const fm_params *ps) {
    int64_t n = 0;
    for (int i = 0; i < fm_params_count(ps); i++) {
        n += room(fm_params_at(ps, i));
    }
    return n * (int64_t)sizeof(float);
}

fm_status fm_ema_init(fm_ema *e, fm_params *ps, double decay) {
    *e = (fm_ema){.ps = ps, .decay = decay};
    e->bytes = decay > 0 ? (size_t)fm_ema_bytes(ps) : 0;
    void *block = NULL;
    if (e->bytes > 0) {
        FM_TRY(fm_pages_alloc(&block, e->bytes, FM_MEM_OPTIMIZER));
    }
    e->block = block;
    return FM_OK;
}

void fm_ema_deinit(fm_ema *e) {
    if (e->block) {
        fm_pages_free(e->block, e->bytes, FM_MEM_OPTIMIZER);
    }
    e->block = NULL;
}

float *fm_ema_of(const fm_ema *e, const fm_param *p) {
    int64_t at = 0;
    for (int i = 0; i < p->index; i++) {
        at += room(fm_params_at(e->ps, i));
    }
    return e->block && room(p) > 0 ? e->block + at : NULL;
}

typedef enum act { BEGIN, UPDATE, SWAP } act;
typedef struct ema_job {
    act act;
    float *ema, *w;
    float keep; /* d */
    int64_t n;
} ema_job;

static fm_status run_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    const ema_job *j = arg;
    int64_t begin, end;
    FM_UNUSED(thread);
    fm_split(j->n, part, n_parts, 16, &begin, &end);
    float *restrict ema = j->ema, *restrict w = j->w, keep = j->keep;
    for (int64_t i = begin; i < end && j->act == UPDATE; i++) {
        ema[i] += (1 - keep) * (w[i] - ema[i]);
    }
    for (int64_t i = begin; i < end && j->act == SWAP; i++) {
        float v = ema[i];
        ema[i] = w[i];
        w[i] = v;
    }
    if (j->act == BEGIN) {
        memcpy(ema + begin, w + begin, (size_t)(end - begin) * sizeof *ema);
    }
    return FM_OK;
}

static fm_status each(fm_ema *e, fm_pool *pool, act a, double keep) {
    float *at = e->block;
    for (int i = 0; e->block && i < fm_params_count(e->ps); i++) {
        fm_param *p = fm_params_at(e->ps, i);
        if (room(p) == 0) {
            continue;
        }
        FM_ASSERT(p->dtype == FM_F32 && p->data);
        ema_job j = {.act = a, .ema = at, .w = p->data, .keep = (float)keep, .n = p->numel};
        FM_TRY(fm_pool_run(pool, (p->numel + PART - 1) / PART, run_part, &j));
        if (a == SWAP) {
            fm_param_changed(p);
        }
        at += room(p);
    }
    return FM_OK;
}

fm_status fm_ema_begin(fm_ema *e, fm_pool *pool) {
    return each(e, pool, BEGIN, 0);
}
fm_status fm_ema_update(fm_ema *e, fm_pool *pool, int64_t t) {
    return each(e, pool, UPDATE, fmin(e->decay, (1 + (double)t) / (10 + (double)t)));
}
fm_status fm_ema_swap(fm_ema *e, fm_pool *pool) {
    return each(e, pool, SWAP, 0);
}
