/* Stochastic gradient descent with momentum, in PyTorch's form, and decoupled decay. */
#include "train/optimizer.h"

static int n_states(const fm_optim_options *o) {
    return o->momentum > 0 ? 1 : 0;
}

static fm_status update(const fm_backend *b, const fm_exec *x, const fm_optim_update *u) {
    fm_sgd_args a = {.n = u->p->numel,
                     .w = u->p->data,
                     .g = u->p->grad,
                     .m = u->state[0],
                     .w_bf16 = u->w_bf16,
                     .lr = u->lr,
                     .momentum = u->o->momentum,
                     .decay = u->decay,
                     .l1 = u->l1,
                     .l2 = u->l2,
                     .grad_scale = u->grad_scale,
                     .nesterov = u->o->nesterov};
    return fm_kernel_run(b, x, FM_K_sgd, u->p->dtype, &a);
}

extern const fm_optimizer fm_optimizer_sgd;
const fm_optimizer fm_optimizer_sgd = {
    .name = "sgd",
    .state_name = {"momentum"},
    .n_states = n_states,
    .update = update,
};
