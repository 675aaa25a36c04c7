/* TensorBoard scalars. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/tfevents.h"
#include "track/sinks.h"

static fm_status begin(void **state, void *user, const fm_train_info *info) {
    FM_UNUSED(user);
    *state = NULL;
    if (strcmp(info->report_to, "tensorboard") != 0) {
        return FM_OK;
    }
    char dir[4096];
    FM_TRY(fm_path_join(dir, sizeof dir, info->output_dir, "runs"));
    fm_tfevents *w;
    FM_TRY(fm_tfevents_open(&w, dir, info->first_step > 0 ? info->first_step : -1));
    *state = w;
    return FM_OK;
}

static fm_status event(void *state, const fm_train_event *e) {
    fm_tfevents *w = state;
    if (!w) {
        return FM_OK;
    }
    const struct {
        const char *tag;
        double value;
    } row[] = {{"train/loss", e->loss},
               {"train/learning_rate", e->learning_rate},
               {"train/grad_norm", e->grad_norm},
               {"train/epoch", e->epoch},
               {"train/tokens_per_second", e->tokens_per_s},
               {"train/mfu", e->mfu},
               {"train/memory_bytes", (double)e->memory_bytes},
               {"train/expert_max_violation", e->expert_max_violation},
               {"eval/loss", e->eval_loss},
               {"eval/perplexity", e->eval_perplexity},
               {"eval/bits_per_byte", e->eval_bits_per_byte}};
    double wall = (double)fm_unix_ms() / 1000;
    for (size_t i = 0; i < FM_ARRAY_LEN(row); i++) {
        if (isfinite(row[i].value)) {
            FM_TRY(fm_tfevents_scalar(w, row[i].tag, row[i].value, e->step, wall));
        }
    }
    for (int i = 0; i < e->n_metrics; i++) {
        char tag[64];
        snprintf(tag, sizeof tag, "eval/%s",
                 e->metrics[i].name + (strncmp(e->metrics[i].name, "eval_", 5) == 0 ? 5 : 0));
        if (isfinite(e->metrics[i].value)) {
            FM_TRY(fm_tfevents_scalar(w, tag, e->metrics[i].value, e->step, wall));
        }
    }
    for (int i = 0; e->layer_grad_norm && i < e->n_layers; i++) {
        char tag[48];
        snprintf(tag, sizeof tag, "grad_norm/layer_%03d", i);
        if (isfinite(e->layer_grad_norm[i])) {
            FM_TRY(fm_tfevents_scalar(w, tag, e->layer_grad_norm[i], e->step, wall));
        }
    }
    return fm_tfevents_flush(w);
}

static void end(void *state, const fm_train_result *r) {
    FM_UNUSED(r);
    if (state && fm_tfevents_close(state) != FM_OK) {
        fm_error_clear(); /* each event was flushed; only the last sync is lost */
    }
}

const fm_train_sink fm_sink_tensorboard = {.name = "tensorboard", .begin = begin, .event = event, .end = end};
