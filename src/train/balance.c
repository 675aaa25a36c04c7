/* Load of experts over an optimizer step: how uneven it was, and the loss-free balancing of DeepSeek V3.
 *
 * Layers count the tokens of each expert as forward passes run (nn/moe.c); all micro-batches of a step add up. The
 * routing biases move after the step, so the whole step is routed by the same ones. */
#include <math.h>
#include <string.h>

#include "train/run.h"

void fm_trainer_clear_load(const fm_trainer *r) {
    for (int32_t l = 0; l < r->model->cfg.n_layers + r->model->cfg.n_mtp; l++) {
        const fm_moe_layer *m = fm_model_moe_layer(r->model, l);
        if (m) {
            memset(m->load, 0, (size_t)m->cfg->n_experts * sizeof *m->load);
        }
    }
}

double fm_trainer_max_violation(const fm_trainer *r) {
    double sum = 0;
    int n = 0;
    for (int32_t l = 0; l < r->model->cfg.n_layers + r->model->cfg.n_mtp; l++) {
        const fm_moe_layer *m = fm_model_moe_layer(r->model, l);
        if (m) {
            sum += fm_moe_max_violation(m);
            n++;
        }
    }
    return n > 0 ? sum / n : NAN;
}

void fm_trainer_update_bias(fm_trainer *r) {
    for (int32_t l = 0; l < r->model->cfg.n_layers + r->model->cfg.n_mtp; l++) {
        fm_moe_layer *m = fm_model_moe_layer(r->model, l);
        if (m) {
            fm_moe_update_bias(m, m->cfg->bias_rate);
        }
    }
}
