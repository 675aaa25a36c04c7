/* Learning-rate schedules. */
#include "train/schedule.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

/* Loshchilov & Hutter 2017 (SGDR), one period. */
static double fm_schedule_cosine(const fm_schedule *s, double x, int64_t step) {
    FM_UNUSED(step);
    return s->min_ratio + (1 - s->min_ratio) * 0.5 * (1 + cos(3.14159265358979323846 * x));
}

static double fm_schedule_linear(const fm_schedule *s, double x, int64_t step) {
    FM_UNUSED(step);
    return 1 - (1 - s->min_ratio) * x;
}

static double fm_schedule_constant(const fm_schedule *s, double x, int64_t step) {
    FM_UNUSED(s);
    FM_UNUSED(x);
    FM_UNUSED(step);
    return 1;
}

/* Warm-up, stable, decay (Hu et al. 2024): linear fall over the last decay_ratio of all steps. */
static double fm_schedule_wsd(const fm_schedule *s, double x, int64_t step) {
    FM_UNUSED(x);
    double n = (double)s->n_steps, begin = n - s->decay_ratio * n;
    if ((double)step <= begin || s->decay_ratio <= 0) {
        return 1;
    }
    return 1 - (1 - s->min_ratio) * fmin(1, ((double)step - begin) / (n - begin));
}

static double fm_schedule_multistep(const fm_schedule *s, double x, int64_t step) {
    FM_UNUSED(x);
    double f = 1;
    for (int i = 0; i < s->n_milestones; i++) {
        double at = s->milestone[i] < 1 ? s->milestone[i] * (double)s->n_steps : s->milestone[i];
        f *= (double)step >= at ? s->gamma : 1;
    }
    return f;
}

static const fm_schedule_type types[] = {
#define FM_SCHEDULE(n) {#n, fm_schedule_##n},
#include "train/schedules.def"
#undef FM_SCHEDULE
};

const fm_schedule_type *fm_schedule_find(const char *name) {
    for (size_t i = 0; i < FM_ARRAY_LEN(types); i++) {
        if (strcmp(types[i].name, name) == 0) {
            return &types[i];
        }
    }
    return NULL;
}

void fm_schedule_names(fm_str *out) {
    for (size_t i = 0; i < FM_ARRAY_LEN(types); i++) {
        fm_str_printf(out, "%s%s", i ? ", " : "", types[i].name);
    }
}

double fm_schedule_factor(const fm_schedule *s, int64_t step) {
    if (step < s->warmup_steps) {
        return (double)(step + 1) / (double)s->warmup_steps;
    }
    int64_t rest = s->n_steps - s->warmup_steps;
    double x = rest > 0 ? (double)(step - s->warmup_steps) / (double)rest : 1;
    return s->type->factor(s, fmin(1, fmax(0, x)), step);
}
