/* GPT-2 (Radford et al. 2019). Files hold the products as [in,out] (the Conv1D of the first release). */
#include "model/prenorm.h"

static const fm_prenorm_layout layout = {
    .embed = "transformer.wte",
    .positions = "transformer.wpe",
    .final_norm = "transformer.ln_f",
    .layers = "transformer.h",
    .norm1 = "ln_1",
    .qkv = "attn.c_attn",
    .out = "attn.c_proj",
    .norm2 = "ln_2",
    .up = "mlp.c_fc",
    .down = "mlp.c_proj",
    .transposed = true,
    .biases = true,
};

static const fm_config_key keys[] = {
    FM_KEY("vocab_size", NULL, FM_KEY_SIZE, vocab_size, 50257),
    FM_KEY("n_embd", "hidden_size", FM_KEY_SIZE, d_model, 768),
    FM_KEY("n_layer", "num_hidden_layers", FM_KEY_SIZE, n_layers, 12),
    FM_KEY("n_head", "num_attention_heads", FM_KEY_SIZE, n_heads, 12),
    FM_KEY("n_positions", "max_position_embeddings", FM_KEY_LONG, max_position, 1024),
    FM_KEY("layer_norm_epsilon", NULL, FM_KEY_F64, norm_eps, 1e-5),
    FM_KEY("initializer_range", NULL, FM_KEY_F64, init_std, 0.02),
    FM_KEY("resid_pdrop", NULL, FM_KEY_F64, hidden_dropout, 0.1),
    FM_KEY("embd_pdrop", NULL, FM_KEY_F64, embedding_dropout, 0.1),
    FM_KEY("attn_pdrop", NULL, FM_KEY_F64, attention_dropout, 0.1),
    FM_KEY("scale_attn_by_inverse_layer_idx", NULL, FM_KEY_BOOL, attn_scale_by_layer, 0),
    FM_KEY("tie_word_embeddings", NULL, FM_KEY_BOOL, tied, 1),
    {0},
};

static fm_status parse(fm_model_config *cfg, const fm_json *json) {
    bool scaled;
    FM_TRY(fm_config_read_keys(cfg, json, keys));
    if (!fm_json_is_null(fm_json_get(json, "n_inner"))) {
        FM_TRY(fm_decoder_get_size(&cfg->d_ff, json, "n_inner", 0));
    }
    FM_TRY(fm_json_get_bool(&scaled, json, "scale_attn_weights", true));
    FM_TRY(fm_config_refuse(json, "add_cross_attention", false));
    FM_TRY(fm_config_act(&cfg->act, json, "activation_function", "gelu_new"));
    FM_TRY(fm_config_id(&cfg->bos_id, json, "bos_token_id"));
    FM_TRY(fm_config_id(&cfg->eos_id, json, "eos_token_id"));
    FM_TRY(fm_config_id(&cfg->pad_id, json, "pad_token_id"));
    cfg->attn_unscaled = !scaled;
    cfg->positions = FM_POS_LEARNED;
    cfg->qkv_bias = cfg->o_bias = cfg->mlp_bias = true;
    return fm_prenorm_sizes(cfg);
}

static fm_status write(const fm_model_config *cfg, fm_json *json) {
    FM_TRY(fm_prenorm_check_write(cfg, FM_POS_LEARNED));
    FM_TRY(fm_config_write_keys(cfg, json, keys));
    FM_TRY(
        fm_json_set(json, "n_inner", cfg->d_ff == 4 * cfg->d_model ? fm_json_new_null() : fm_json_new_int(cfg->d_ff)));
    FM_TRY(fm_json_set(json, "scale_attn_weights", fm_json_new_bool(!cfg->attn_unscaled)));
    /* The older name is GPT-2's "gelu_new". */
    if (cfg->act == FM_ACT_GELU_TANH && !fm_json_get(json, "activation_function")) {
        FM_TRY(fm_json_set(json, "activation_function", fm_json_new_str("gelu_new")));
    }
    FM_TRY(fm_config_write_act(json, "activation_function", cfg->act));
    return fm_config_write_ids(cfg, json);
}

static fm_status build(const fm_model_config *cfg, fm_params *ps, void **state) {
    return fm_prenorm_build(&layout, cfg, ps, state);
}

static const char *const architectures[] = {"GPT2LMHeadModel", NULL};
static const char *const model_types[] = {"gpt2", NULL};
const fm_family fm_family_gpt2 = {
    .name = "gpt2",
    .architectures = architectures,
    .model_types = model_types,
    .parse = parse,
    .write = write,
    .build = build,
    .forward = fm_prenorm_forward,
    .trunk = "transformer.",
    .embedding = "transformer.wte.weight",
    .token_head = "classifier",
};
