/* What the encoders BERT and MobileBERT share: post-norm layers over full attention, sums of three embeddings, and the
 * masked language model head (Devlin et al. 2019). */
#ifndef FM_MODEL_ENCODER_H
#define FM_MODEL_ENCODER_H

#include "model/config.h"

/* A dense layer, or a norm with its bias. */
typedef struct fm_pair {
    fm_param *w, *b;
} fm_pair;

/* Adds parameters under one prefix. */
typedef struct fm_encoder_builder {
    const fm_model_config *cfg;
    fm_params *ps;
    char prefix[96]; /* "bert.encoder.layer.3." */
} fm_encoder_builder;
/* "bert." + rest, or rest alone for a model without a head. */
void fm_encoder_prefix(fm_encoder_builder *b, const char *trunk, const char *rest);
FM_MUST_CHECK fm_status fm_encoder_add(const fm_encoder_builder *b, fm_param **out, const char *name, int64_t rows,
                                       int64_t cols, fm_init_kind init);
FM_MUST_CHECK fm_status fm_encoder_dense(const fm_encoder_builder *b, fm_pair *p, const char *name, int64_t n,
                                         int64_t k);
FM_MUST_CHECK fm_status fm_encoder_norm(const fm_encoder_builder *b, fm_pair *p, const char *name, int64_t n);
/* Query, key, value and output under `self` ("attention.self") and `out`; widths of the inputs. */
FM_MUST_CHECK fm_status fm_encoder_attention(const fm_encoder_builder *b, fm_attention_layer *a, const char *self,
                                             const char *out, int32_t layer, int64_t body, int64_t value_width);

fm_tensor *fm_pair_linear(fm_ctx *c, fm_pair p, fm_tensor *x);

/* cls.predictions: transform (dense, activation, layer norm), product with the tied embedding `words`, bias. */
FM_MUST_CHECK fm_status fm_encoder_build_lm(const fm_model_config *cfg, fm_params *ps, fm_param *words, fm_head *h);

/* Keys both have. */
FM_MUST_CHECK fm_status fm_encoder_parse(fm_model_config *cfg, const fm_json *json);
FM_MUST_CHECK fm_status fm_encoder_write(const fm_model_config *cfg, fm_json *json);

#endif
