/* Experts of a decoder layer: the weight map. */
#include "model/decoder.h"

fm_status fm_decoder_build_moe(const fm_model_config *cfg, fm_params *ps, int32_t layer, fm_moe_layer *y) {
    FM_UNUSED(cfg);
    FM_UNUSED(ps);
    FM_UNUSED(layer);
    FM_UNUSED(y);
    FM_FAIL(FM_ERR_UNSUPPORTED, "mixture of experts is not supported yet");
}
