/* Where the time of a run went, and what limits it. */
#include <stdio.h>

#include "base/file.h"
#include "base/log.h"
#include "train/run.h"

void fm_trainer_charge(fm_trainer *r, fm_phase phase, double *mark) {
    double now = fm_now();
    r->phase_s[phase] += now - *mark;
    *mark = now;
}

typedef struct group {
    const char *name, *advice;
    fm_kernel first, last; /* a range of the kernel list */
} group;

static const group groups[] = {
    {"matrix products", "a wider model or larger per_device_train_batch_size uses them better", FM_K_matmul,
     FM_K_matmul},
    {"experts", "larger batches give each expert more rows", FM_K_route_fwd, FM_K_glu_rows_bwd},
    {"attention", "a shorter cutoff_len, or documents that are shorter, cost less", FM_K_attention_fwd,
     FM_K_attention_bwd},
    {"loss", "a smaller vocabulary costs less", FM_K_cross_entropy, FM_K_cross_entropy},
    {"optimizer", "raise gradient_accumulation_steps: fewer updates per token", FM_K_sum_squares, FM_K_lion},
};

void fm_trainer_report_profile(const fm_trainer *r) {
    static const char *const names[FM_PHASE_COUNT] = {"data",      "forward",    "backward",
                                                      "optimizer", "evaluation", "checkpoints"};
    double total = 0, kernels = 0, in_groups = 0;
    for (int i = 0; i < FM_PHASE_COUNT; i++) {
        total += r->phase_s[i];
    }
    if (total <= 0) {
        return;
    }
    fm_str text = {0};
    for (int i = 0; i < FM_PHASE_COUNT; i++) {
        fm_str_printf(&text, "%s%s %.0f%%", i ? ", " : "", names[i], 100 * r->phase_s[i] / total);
    }
    for (int k = 0; k < FM_KERNEL_COUNT; k++) {
        kernels += fm_profile_get((fm_kernel)k).seconds;
    }
    const group *top = NULL;
    double top_s = 0;
    for (size_t g = 0; g < FM_ARRAY_LEN(groups) && kernels > 0; g++) {
        double s = 0;
        for (int k = (int)groups[g].first; k <= (int)groups[g].last; k++) {
            s += fm_profile_get((fm_kernel)k).seconds;
        }
        fm_str_printf(&text, "%s%s %.0f%%", g ? ", " : "; kernels: ", groups[g].name, 100 * s / kernels);
        in_groups += s;
        if (s > top_s) {
            top_s = s;
            top = &groups[g];
        }
    }
    if (kernels > 0) {
        fm_str_printf(&text, ", the rest %.0f%%", 100 * (kernels - in_groups) / kernels);
    }
    if (!text.failed) {
        fm_info("time: %s", text.data);
    }
    fm_str_free(&text);
    double compute = r->phase_s[FM_PHASE_FORWARD] + r->phase_s[FM_PHASE_BACKWARD] + r->phase_s[FM_PHASE_OPTIMIZER];
    if (r->phase_s[FM_PHASE_DATA] > 0.2 * total) {
        fm_info("bottleneck: reading data; put the shards on a faster disk");
    } else if (r->phase_s[FM_PHASE_EVAL] > 0.3 * total) {
        fm_info("bottleneck: evaluation; raise eval_steps or set eval_max_samples");
    } else if (r->phase_s[FM_PHASE_SAVE] > 0.2 * total) {
        fm_info("bottleneck: checkpoints; raise save_steps");
    } else if (compute > 0 && kernels > 0 && kernels < 0.6 * compute) {
        fm_info("bottleneck: work outside kernels (%.0f%% of compute time); raise per_device_train_batch_size",
                100 * (1 - kernels / compute));
    } else if (top) {
        fm_info("bottleneck: %s; %s", top->name, top->advice);
    }
}
