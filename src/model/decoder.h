/* The decoder that Llama, DeepSeek, Qwen and Mistral share: pre-norm blocks of grouped-query attention (or latent
 * attention) with rope and a gated MLP or experts (Touvron et al. 2023). A family is a thin file that says which keys
 * its config.json has; weights and forward are here. */
#ifndef FM_MODEL_DECODER_H
#define FM_MODEL_DECODER_H

#include "model/config.h"

typedef struct fm_decoder_layer {
    fm_param *attn_norm, *mlp_norm; /* [D] */
    fm_attention_layer attn;        /* unless the config has mla */
    fm_mla_layer mla;
    fm_gated_mlp mlp; /* unless the layer has experts */
    fm_moe_layer moe;
    char attn_stream[32], mlp_stream[32]; /* of the residual dropout */
} fm_decoder_layer;

/* What a multi-token prediction layer has besides its block (DeepSeek V3). */
typedef struct fm_mtp_layer {
    fm_param *embed_norm, *hidden_norm, *norm; /* [D] */
    fm_param *proj;                            /* [D,2D]: [embedding, hidden] -> input of the block */
} fm_mtp_layer;

typedef struct fm_decoder {
    fm_param *embed, *norm;
    fm_mtp_layer *mtp;        /* [n_mtp] */
    fm_decoder_layer layer[]; /* [n_layers + n_mtp] */
} fm_decoder;

/* The parts of one layer: names under "model.layers.<l>.", shapes, inits; handles into the layer. */
FM_MUST_CHECK fm_status fm_decoder_add(const fm_model_config *cfg, fm_params *ps, int32_t layer, fm_param **out,
                                       const char *name, int64_t rows, int64_t cols, fm_init_kind init);
FM_MUST_CHECK fm_status fm_decoder_add_named(const fm_model_config *cfg, fm_params *ps, fm_param **out,
                                             const char *full, int64_t rows, int64_t cols, fm_init_kind init);
FM_MUST_CHECK fm_status fm_decoder_build_mla(const fm_model_config *cfg, fm_params *ps, int32_t layer, fm_mla_layer *y);
FM_MUST_CHECK fm_status fm_decoder_build_moe(const fm_model_config *cfg, fm_params *ps, int32_t layer, fm_moe_layer *y);
FM_MUST_CHECK fm_status fm_decoder_build(const fm_model_config *cfg, fm_params *ps, void **state);
/* A layer with names under "<prefix>.<l>." and keys in place `cache` of the cache. */
FM_MUST_CHECK fm_status fm_decoder_build_layer(const fm_model_config *cfg, fm_params *ps, const char *prefix, int32_t l,
                                               int32_t cache, fm_decoder_layer *y);
/* Its forward by itself: h [T,D] -> [T,D]. */
fm_tensor *fm_decoder_layer_forward(fm_ctx *c, const fm_decoder_layer *y, const fm_model_config *cfg, const fm_batch *b,
                                    const fm_rope_state *rope, fm_tensor *h);
/* Frequencies of this batch. Those that depend on the length live in the arena, as long as the tape. */
FM_MUST_CHECK fm_status fm_decoder_rope(fm_ctx *c, const fm_model *m, const fm_batch *b, fm_rope_state *out);
/* One block by itself: h [T,D] -> [T,D], the residual stream before and after it. */
fm_tensor *fm_decoder_block(fm_ctx *c, const fm_model *m, int32_t layer, const fm_batch *b, fm_tensor *h);
fm_tensor *fm_decoder_forward(fm_ctx *c, const fm_model *m, const fm_batch *b);

/* Keys that all these families have (sizes, norm, rope, ids, tied); then the family's file does the rest. */
FM_MUST_CHECK fm_status fm_decoder_parse(fm_model_config *cfg, const fm_json *json);
FM_MUST_CHECK fm_status fm_decoder_write(const fm_model_config *cfg, fm_json *json);
/* Qwen2 and Qwen3: use_sliding_window, sliding_window, max_window_layers, layer_types. */
FM_MUST_CHECK fm_status fm_decoder_parse_layer_windows(fm_model_config *cfg, const fm_json *json);
FM_MUST_CHECK fm_status fm_decoder_write_layer_windows(const fm_model_config *cfg, fm_json *json);

/* A key whose only supported value is this one, also when it is missing. */
FM_MUST_CHECK fm_status fm_decoder_only(const fm_json *json, const char *key, const char *value);

/* Latent attention (decoder_mla.c): all of fm_decoder_parse and _write, and the keys of DeepSeek V2 and V3. */
FM_MUST_CHECK fm_status fm_decoder_parse_mla(fm_model_config *cfg, const fm_json *json);
FM_MUST_CHECK fm_status fm_decoder_write_mla(const fm_model_config *cfg, fm_json *json);
FM_MUST_CHECK fm_status fm_mla_config_check(const fm_model_config *cfg);
int64_t fm_mla_config_params(const fm_mla_config *z, int64_t d_model, int64_t n_heads);
/* Experts of DeepSeek V2 and V3; what cfg->moe holds before is the default of each key. */
FM_MUST_CHECK fm_status fm_decoder_parse_deepseek_moe(fm_model_config *cfg, const fm_json *json);
FM_MUST_CHECK fm_status fm_decoder_write_deepseek_moe(const fm_model_config *cfg, fm_json *json);

/* rope_parameters (transformers 5) or rope_theta with rope_scaling (before). cfg->head_dim and max_position are set. */
FM_MUST_CHECK fm_status fm_rope_config_parse(fm_model_config *cfg, const fm_json *json);
FM_MUST_CHECK fm_status fm_rope_config_write(const fm_model_config *cfg, fm_json *json);

#endif
