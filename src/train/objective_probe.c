/* The same prediction through whole logits and a plain cross-entropy: the fused loss is tested against it, and it shows
 * that the loop knows nothing of how a loss is made. */
#include "train/objective.h"

static fm_tensor *loss(void *state, fm_ctx *c, int64_t begin, int64_t end, double scale, fm_tensor **token_loss) {
    fm_windows *w = state;
    const fm_model *m = w->env.model;
    fm_batch b = fm_windows_batch(w, begin, end);
    bool train = fm_ctx_training(c);
    fm_loss_options o = {.ignore_index = -100,
                         .label_smoothing = train ? (float)w->env.label_smoothing : 0,
                         .z_loss = train ? (float)w->env.z_loss : 0,
                         .scale = scale};
    fm_tensor *logits = fm_model_head(c, m, fm_model_forward(c, m, &b), NULL);
    fm_tensor *t = fm_from_memory(c, FM_I32, 1, (int64_t[]){b.n_tokens}, (void *)(uintptr_t)b.targets);
    return fm_cross_entropy(c, logits, t, &o, token_loss);
}

extern const fm_objective fm_objective_probe;
const fm_objective fm_objective_probe = {
    .name = "probe",
    .summary = "next token through whole logits",
    .open = fm_windows_open,
    .close = fm_windows_close,
    .load = fm_windows_load,
    .n_trained = fm_windows_n_trained,
    .row = fm_windows_row,
    .loss = loss,
};
