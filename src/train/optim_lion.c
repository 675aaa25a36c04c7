/* Lion (Chen et al. 2023): the sign of an interpolated momentum; one state instead of AdamW's two. */
#include "train/optimizer.h"

static int n_states(const fm_optim_options *o) {
    (void)o;
    return 1;
}

static fm_status update(const fm_backend *b, const fm_exec *x, const fm_optim_update *u) {
    fm_lion_args a = {.n = u->p->numel,
                      .w = u->p->data,
                      .g = u->p->grad,
                      .m = u->state[0],
                      .w_bf16 = u->w_bf16,
                      .lr = u->lr,
                      .beta1 = u->o->beta1,
                      .beta2 = u->o->beta2,
                      .decay = u->decay,
                      .l1 = u->l1,
                      .l2 = u->l2,
                      .grad_scale = u->grad_scale};
    return fm_kernel_run(b, x, FM_K_lion, u->p->dtype, &a);
}

static const char *const aliases[] = {"lion_32bit", NULL};

extern const fm_optimizer fm_optimizer_lion;
const fm_optimizer fm_optimizer_lion = {
    .name = "lion",
    .aliases = aliases,
    .state_name = {"exp_avg"},
    .n_states = n_states,
    .update = update,
};
