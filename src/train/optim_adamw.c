/* AdamW (Loshchilov & Hutter 2019). */
#include <math.h>

#include "train/optim_adam.h"

static int n_states(const fm_optim_options *o) {
    (void)o;
    return 2;
}

fm_status fm_adamw_update(const fm_backend *b, const fm_exec *x, const fm_optim_update *u) {
    fm_adamw_args a = {.n = u->p->numel,
                       .w = u->p->data,
                       .g = u->p->grad,
                       .m = u->state[0],
                       .v = u->state[1],
                       .w_bf16 = u->w_bf16,
                       .lr = u->lr,
                       .beta1 = u->o->beta1,
                       .beta2 = u->o->beta2,
                       .eps = u->o->epsilon,
                       .decay = u->decay,
                       .l1 = u->l1,
                       .l2 = u->l2,
                       .bias1 = 1 - pow(u->o->beta1, (double)u->t),
                       .bias2 = 1 - pow(u->o->beta2, (double)u->t),
                       .grad_scale = u->grad_scale};
    return fm_kernel_run(b, x, FM_K_adamw, u->p->dtype, &a);
}

static const char *const aliases[] = {"adamw_torch", "adamw_hf", "adamw_torch_fused", NULL};

extern const fm_optimizer fm_optimizer_adamw;
const fm_optimizer fm_optimizer_adamw = {
    .name = "adamw",
    .aliases = aliases,
    .state_name = {"exp_avg", "exp_avg_sq"},
    .n_states = n_states,
    .update = fm_adamw_update,
};
