/* Supervised fine-tuning: the next token of answers. The dataset says which tokens those are; questions and padding
 * carry no loss, and examples that share a window do not see each other. */
#include "train/objective.h"

static fm_tensor *loss(void *state, fm_ctx *c, int64_t begin, int64_t end, double scale, fm_tensor **token_loss) {
    fm_windows *w = state;
    fm_batch b = fm_windows_batch(w, begin, end);
    bool train = fm_ctx_training(c);
    fm_loss_options o = {.ignore_index = -100,
                         .label_smoothing = train ? (float)w->env.label_smoothing : 0,
                         .z_loss = train ? (float)w->env.z_loss : 0,
                         .scale = scale,
                         .is_root = fm_tape_on(c)};
    return fm_model_loss(c, w->env.model, &b, &o, token_loss);
}

extern const fm_objective fm_objective_sft;
const fm_objective fm_objective_sft = {
    .name = "sft",
    .summary = "answers",
    .examples = "chat",
    .open = fm_windows_open,
    .close = fm_windows_close,
    .load = fm_windows_load,
    .n_trained = fm_windows_n_trained,
    .row = fm_windows_row,
    .loss = loss,
};
