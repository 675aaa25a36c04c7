/* The decoder that GPT-2, BLOOM and MPT share: pre-norm blocks of layer norm, attention from one fused product, and a
 * two-layer MLP, with learned positions or ALiBi (Radford et al. 2019). A family is a thin file: its names, and which
 * keys its config.json has. */
#ifndef FM_MODEL_PRENORM_H
#define FM_MODEL_PRENORM_H

#include "model/config.h"

/* Names of weights without ".weight" and ".bias"; those of a layer stand behind "<layers>.<l>.". */
typedef struct fm_prenorm_layout {
    const char *embed, *positions, *embed_norm, *final_norm; /* positions, embed_norm: or NULL */
    const char *layers, *norm1, *qkv, *out, *norm2, *up, *down;
    bool transposed; /* files hold the products as [in,out] */
    bool by_head;    /* see fm_attention_layer.qkv_by_head */
    bool biases;     /* of products and norms */
} fm_prenorm_layout;

FM_MUST_CHECK fm_status fm_prenorm_build(const fm_prenorm_layout *layout, const fm_model_config *cfg, fm_params *ps,
                                         void **state);
fm_tensor *fm_prenorm_forward(fm_ctx *c, const fm_model *m, const fm_batch *b);
/* What follows from the sizes: head_dim, key-value heads, feed-forward width 4 D unless it is set. */
FM_MUST_CHECK fm_status fm_prenorm_sizes(fm_model_config *cfg);
/* FM_ERR_UNSUPPORTED when a config has what these families lack. */
FM_MUST_CHECK fm_status fm_prenorm_check_write(const fm_model_config *cfg, fm_positions positions);

#endif
