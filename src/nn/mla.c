/* Multi-head latent attention. */
#include "nn/mla.h"

fm_tensor *fm_mla_forward(fm_ctx *c, const fm_mla_layer *a, const fm_batch *b, const fm_rope_state *rope,
                          fm_tensor *x) {
    FM_UNUSED(a);
    FM_UNUSED(b);
    FM_UNUSED(rope);
    FM_UNUSED(x);
    fm_ctx_fail(c, fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "latent attention is not supported yet"));
    return NULL;
}
