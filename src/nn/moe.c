/* Mixture of experts. */
#include "nn/moe.h"

bool fm_moe_layer_is_moe(const fm_moe_config *cfg, int32_t layer) {
    return cfg->n_experts > 0 && layer >= cfg->first_dense && layer % FM_MAX(cfg->layer_freq, 1) == 0;
}

fm_tensor *fm_moe_forward(fm_ctx *c, const fm_moe_layer *m, const fm_batch *b, fm_tensor *x) {
    FM_UNUSED(m);
    FM_UNUSED(b);
    FM_UNUSED(x);
    fm_ctx_fail(c, fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "mixture of experts is not supported yet"));
    return NULL;
}
