/* BLOOM (Le Scao et al. 2022): GPT-2 with ALiBi in the place of positions and a norm behind the embedding. */
#include "model/prenorm.h"

static const fm_prenorm_layout layout = {
    .embed = "transformer.word_embeddings",
    .embed_norm = "transformer.word_embeddings_layernorm",
    .final_norm = "transformer.ln_f",
    .layers = "transformer.h",
    .norm1 = "input_layernorm",
    .qkv = "self_attention.query_key_value",
    .out = "self_attention.dense",
    .norm2 = "post_attention_layernorm",
    .up = "mlp.dense_h_to_4h",
    .down = "mlp.dense_4h_to_h",
    .by_head = true,
    .biases = true,
};

static const fm_config_key keys[] = {
    FM_KEY("vocab_size", NULL, FM_KEY_SIZE, vocab_size, 250880),
    FM_KEY("hidden_size", "n_embed", FM_KEY_SIZE, d_model, 64),
    FM_KEY("n_layer", "num_hidden_layers", FM_KEY_SIZE, n_layers, 2),
    FM_KEY("n_head", "num_attention_heads", FM_KEY_SIZE, n_heads, 8),
    FM_KEY("seq_length", NULL, FM_KEY_LONG, max_position, 2048),
    FM_KEY("layer_norm_epsilon", NULL, FM_KEY_F64, norm_eps, 1e-5),
    FM_KEY("initializer_range", NULL, FM_KEY_F64, init_std, 0.02),
    FM_KEY("hidden_dropout", NULL, FM_KEY_F64, hidden_dropout, 0),
    FM_KEY("attention_dropout", NULL, FM_KEY_F64, attention_dropout, 0),
    FM_KEY("tie_word_embeddings", NULL, FM_KEY_BOOL, tied, 1),
    {0},
};

static fm_status parse(fm_model_config *cfg, const fm_json *json) {
    FM_TRY(fm_config_read_keys(cfg, json, keys));
    FM_TRY(fm_config_refuse(json, "apply_residual_connection_post_layernorm", false));
    FM_TRY(fm_config_id(&cfg->bos_id, json, "bos_token_id"));
    FM_TRY(fm_config_id(&cfg->eos_id, json, "eos_token_id"));
    FM_TRY(fm_config_id(&cfg->pad_id, json, "pad_token_id"));
    cfg->act = FM_ACT_GELU_TANH;
    cfg->positions = FM_POS_ALIBI;
    cfg->qkv_bias = cfg->o_bias = cfg->mlp_bias = true;
    return fm_prenorm_sizes(cfg);
}

static fm_status write(const fm_model_config *cfg, fm_json *json) {
    FM_TRY(fm_prenorm_check_write(cfg, FM_POS_ALIBI));
    if (cfg->d_ff != 4 * cfg->d_model || cfg->act != FM_ACT_GELU_TANH) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "family bloom has a feed-forward width of 4 times the width and the tanh gelu");
    }
    FM_TRY(fm_config_write_keys(cfg, json, keys));
    return fm_config_write_ids(cfg, json);
}

static fm_status build(const fm_model_config *cfg, fm_params *ps, void **state) {
    return fm_prenorm_build(&layout, cfg, ps, state);
}

static const char *const architectures[] = {"BloomForCausalLM", NULL};
static const char *const model_types[] = {"bloom", NULL};
const fm_family fm_family_bloom = {
    .name = "bloom",
    .architectures = architectures,
    .model_types = model_types,
    .parse = parse,
    .write = write,
    .build = build,
    .forward = fm_prenorm_forward,
    .trunk = "transformer.",
    .embedding = "transformer.word_embeddings.weight",
    .token_head = "classifier",
};
