/* Names of tensors: GGUF's and Hugging Face's. */
#include <stdio.h>
#include <string.h>

#include "model/gguf.h"

static const fm_gguf_arch archs[] = {
    {"llama", "llama", FM_GGUF_LLAMA, true},
    {"llama", "mistral", FM_GGUF_LLAMA, true},
    {"llama", "mixtral", FM_GGUF_LLAMA, true},
    {"qwen2", "qwen2", FM_GGUF_QWEN2, false},
    {"qwen3", "qwen3", FM_GGUF_QWEN3, false},
    {"qwen3moe", "qwen3_moe", FM_GGUF_QWEN3MOE, false},
    {"deepseek", "deepseek", FM_GGUF_DEEPSEEK, true},
    {"deepseek2", "deepseek_v2", FM_GGUF_DEEPSEEK2, false},
    {"deepseek2", "deepseek_v3", FM_GGUF_DEEPSEEK2, false},
    {"deepseek32", "deepseek_v32", FM_GGUF_DEEPSEEK32, false},
    {"bert", "bert", FM_GGUF_BERT, false},
    {"gpt2", "gpt2", FM_GGUF_GPT2, false},
};

const fm_gguf_arch *fm_gguf_arch_of_family(const char *family) {
    for (size_t i = 0; i < FM_ARRAY_LEN(archs); i++) {
        if (strcmp(archs[i].family, family) == 0) {
            return &archs[i];
        }
    }
    return NULL;
}

/* The family of a file whose architecture several of ours share. */
static fm_status shared_family(const char **out, const fm_gguf *g, const char *arch) {
    if (strcmp(arch, "llama") == 0) {
        int64_t n_experts;
        FM_TRY(fm_gguf_get_int(&n_experts, g, "llama.expert_count", 0));
        *out = n_experts > 0 ? "mixtral" : "llama";
    } else if (strcmp(arch, "deepseek2") == 0) {
        int64_t gate; /* 1 softmax (V2), 2 sigmoid (V3); files from before V3 have no key */
        FM_TRY(fm_gguf_get_int(&gate, g, "deepseek2.expert_gating_func", 1));
        *out = gate == 2 ? "deepseek_v3" : "deepseek_v2";
    }
    return FM_OK;
}

fm_status fm_gguf_arch_of_file(const fm_gguf_arch **out, const fm_gguf *g) {
    fm_gguf_text t;
    FM_TRY(fm_gguf_get_text(&t, g, "general.architecture"));
    if (!t.ptr) {
        FM_FAIL(FM_ERR_FORMAT, "metadata key \"general.architecture\" is missing");
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(archs); i++) {
        if (strlen(archs[i].name) == t.len && memcmp(archs[i].name, t.ptr, t.len) == 0) {
            const char *family = archs[i].family;
            FM_TRY(shared_family(&family, g, archs[i].name));
            *out = fm_gguf_arch_of_family(family);
            FM_ASSERT(*out);
            return FM_OK;
        }
    }
    (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "general.architecture \"%.*s\" is not supported",
                       (int)FM_MIN(t.len, 60), t.ptr);
    return fm_error_hint("supported: llama, qwen2, qwen3, qwen3moe, deepseek, deepseek2, deepseek32, bert, gpt2");
}

/* {l} is the layer, {e} the expert. A name without a suffix stands for .weight and .bias. */
typedef struct name_row {
    int archs;
    fm_gguf_place_kind kind;
    const char *gguf, *ours;
} name_row;

#define L   "model.layers.{l}."
#define B   "encoder.layer.{l}."
#define ALL FM_GGUF_DECODERS
#define DS2 FM_GGUF_LATENT
#define DSA FM_GGUF_DEEPSEEK32
static const name_row names[] = {
    {ALL, FM_GGUF_PLAIN, "token_embd", "model.embed_tokens"},
    {ALL, FM_GGUF_PLAIN, "output_norm", "model.norm"},
    {ALL | FM_GGUF_GPT2, FM_GGUF_PLAIN, "output", "lm_head"},
    {ALL, FM_GGUF_PLAIN, "blk.{l}.attn_norm", L "input_layernorm"},
    {ALL, FM_GGUF_Q_ROWS, "blk.{l}.attn_q", L "self_attn.q_proj"},
    {ALL, FM_GGUF_K_ROWS, "blk.{l}.attn_k", L "self_attn.k_proj"},
    {ALL, FM_GGUF_PLAIN, "blk.{l}.attn_v", L "self_attn.v_proj"},
    {ALL, FM_GGUF_PLAIN, "blk.{l}.attn_output", L "self_attn.o_proj"},
    {ALL, FM_GGUF_PLAIN, "blk.{l}.attn_q_norm", L "self_attn.q_norm"},
    {ALL, FM_GGUF_PLAIN, "blk.{l}.attn_k_norm", L "self_attn.k_norm"},
    {ALL, FM_GGUF_PLAIN, "blk.{l}.ffn_norm", L "post_attention_layernorm"},
    {ALL, FM_GGUF_PLAIN, "blk.{l}.ffn_gate", L "mlp.gate_proj"},
    {ALL, FM_GGUF_PLAIN, "blk.{l}.ffn_up", L "mlp.up_proj"},
    {ALL, FM_GGUF_PLAIN, "blk.{l}.ffn_down", L "mlp.down_proj"},
    /* Mixture of experts. */
    {FM_GGUF_MOE, FM_GGUF_PLAIN, "blk.{l}.ffn_gate_inp", L "mlp.gate"},
    {FM_GGUF_MOE, FM_GGUF_PLAIN, "blk.{l}.exp_probs_b.bias", L "mlp.gate.e_score_correction_bias"},
    {FM_GGUF_MOE, FM_GGUF_EXPERT, "blk.{l}.ffn_gate_exps", L "mlp.experts.{e}.gate_proj"},
    {FM_GGUF_MOE, FM_GGUF_EXPERT, "blk.{l}.ffn_up_exps", L "mlp.experts.{e}.up_proj"},
    {FM_GGUF_MOE, FM_GGUF_EXPERT, "blk.{l}.ffn_down_exps", L "mlp.experts.{e}.down_proj"},
    {FM_GGUF_MOE, FM_GGUF_PLAIN, "blk.{l}.ffn_gate_shexp", L "mlp.shared_experts.gate_proj"},
    {FM_GGUF_MOE, FM_GGUF_PLAIN, "blk.{l}.ffn_up_shexp", L "mlp.shared_experts.up_proj"},
    {FM_GGUF_MOE, FM_GGUF_PLAIN, "blk.{l}.ffn_down_shexp", L "mlp.shared_experts.down_proj"},
    {FM_GGUF_LLAMA, FM_GGUF_PLAIN, "blk.{l}.ffn_gate_inp", L "block_sparse_moe.gate"},
    {FM_GGUF_LLAMA, FM_GGUF_EXPERT, "blk.{l}.ffn_gate_exps", L "block_sparse_moe.experts.{e}.w1"},
    {FM_GGUF_LLAMA, FM_GGUF_EXPERT, "blk.{l}.ffn_up_exps", L "block_sparse_moe.experts.{e}.w3"},
    {FM_GGUF_LLAMA, FM_GGUF_EXPERT, "blk.{l}.ffn_down_exps", L "block_sparse_moe.experts.{e}.w2"},
    /* Latent attention, and the multi-token prediction layer. */
    {DS2, FM_GGUF_PLAIN, "blk.{l}.attn_q_a", L "self_attn.q_a_proj"},
    {DS2, FM_GGUF_PLAIN, "blk.{l}.attn_q_a_norm", L "self_attn.q_a_layernorm"},
    {DS2, FM_GGUF_PLAIN, "blk.{l}.attn_q_b", L "self_attn.q_b_proj"},
    {DS2, FM_GGUF_PLAIN, "blk.{l}.attn_kv_a_mqa", L "self_attn.kv_a_proj_with_mqa"},
    {DS2, FM_GGUF_PLAIN, "blk.{l}.attn_kv_a_norm", L "self_attn.kv_a_layernorm"},
    {DS2, FM_GGUF_KV_B, "blk.{l}.attn_kv_b", L "self_attn.kv_b_proj"},
    {DSA, FM_GGUF_PLAIN, "blk.{l}.indexer.attn_q_b", L "self_attn.indexer.wq_b"},
    {DSA, FM_GGUF_PLAIN, "blk.{l}.indexer.attn_k", L "self_attn.indexer.wk"},
    {DSA, FM_GGUF_PLAIN, "blk.{l}.indexer.k_norm", L "self_attn.indexer.k_norm"},
    {DSA, FM_GGUF_PLAIN, "blk.{l}.indexer.proj", L "self_attn.indexer.weights_proj"},
    {DS2, FM_GGUF_PLAIN, "blk.{l}.nextn.eh_proj", L "eh_proj"},
    {DS2, FM_GGUF_PLAIN, "blk.{l}.nextn.enorm", L "enorm"},
    {DS2, FM_GGUF_PLAIN, "blk.{l}.nextn.hnorm", L "hnorm"},
    {DS2, FM_GGUF_PLAIN, "blk.{l}.nextn.embed_tokens", L "embed_tokens"},
    {DS2, FM_GGUF_PLAIN, "blk.{l}.nextn.shared_head_head", L "shared_head.head"},
    {DS2, FM_GGUF_PLAIN, "blk.{l}.nextn.shared_head_norm", L "shared_head.norm"},
    /* BERT: the encoder. The pooler serves next-sentence prediction, llama.cpp pools by itself; the head of a masked
     * language model has no place. */
    {FM_GGUF_BERT, FM_GGUF_PLAIN, "token_embd", "embeddings.word_embeddings"},
    {FM_GGUF_BERT, FM_GGUF_PLAIN, "token_types", "embeddings.token_type_embeddings"},
    {FM_GGUF_BERT, FM_GGUF_PLAIN, "position_embd", "embeddings.position_embeddings"},
    {FM_GGUF_BERT, FM_GGUF_PLAIN, "token_embd_norm", "embeddings.LayerNorm"},
    {FM_GGUF_BERT, FM_GGUF_PLAIN, "blk.{l}.attn_q", B "attention.self.query"},
    {FM_GGUF_BERT, FM_GGUF_PLAIN, "blk.{l}.attn_k", B "attention.self.key"},
    {FM_GGUF_BERT, FM_GGUF_PLAIN, "blk.{l}.attn_v", B "attention.self.value"},
    {FM_GGUF_BERT, FM_GGUF_PLAIN, "blk.{l}.attn_output", B "attention.output.dense"},
    {FM_GGUF_BERT, FM_GGUF_PLAIN, "blk.{l}.attn_output_norm", B "attention.output.LayerNorm"},
    {FM_GGUF_BERT, FM_GGUF_PLAIN, "blk.{l}.ffn_up", B "intermediate.dense"},
    {FM_GGUF_BERT, FM_GGUF_PLAIN, "blk.{l}.ffn_down", B "output.dense"},
    {FM_GGUF_BERT, FM_GGUF_PLAIN, "blk.{l}.layer_output_norm", B "output.LayerNorm"},
    {FM_GGUF_BERT, FM_GGUF_LEFT_OUT, "pooler", "pooler.dense"},
    {FM_GGUF_BERT, FM_GGUF_LEFT_OUT, "cls", "cls.predictions"},
    {FM_GGUF_BERT, FM_GGUF_LEFT_OUT, "cls", "cls.predictions.transform.dense"},
    {FM_GGUF_BERT, FM_GGUF_LEFT_OUT, "cls", "cls.predictions.transform.LayerNorm"},
    {FM_GGUF_BERT, FM_GGUF_LEFT_OUT, "cls", "cls.predictions.decoder"},
    /* GPT-2. */
    {FM_GGUF_GPT2, FM_GGUF_PLAIN, "token_embd", "wte"},
    {FM_GGUF_GPT2, FM_GGUF_PLAIN, "position_embd", "wpe"},
    {FM_GGUF_GPT2, FM_GGUF_PLAIN, "output_norm", "ln_f"},
    {FM_GGUF_GPT2, FM_GGUF_PLAIN, "blk.{l}.attn_norm", "h.{l}.ln_1"},
    {FM_GGUF_GPT2, FM_GGUF_PLAIN, "blk.{l}.attn_qkv", "h.{l}.attn.c_attn"},
    {FM_GGUF_GPT2, FM_GGUF_PLAIN, "blk.{l}.attn_output", "h.{l}.attn.c_proj"},
    {FM_GGUF_GPT2, FM_GGUF_PLAIN, "blk.{l}.ffn_norm", "h.{l}.ln_2"},
    {FM_GGUF_GPT2, FM_GGUF_PLAIN, "blk.{l}.ffn_up", "h.{l}.mlp.c_fc"},
    {FM_GGUF_GPT2, FM_GGUF_PLAIN, "blk.{l}.ffn_down", "h.{l}.mlp.c_proj"},
};

/* Matches `name` against a pattern; what is left behind the pattern, or NULL. */
static const char *match(const char *pattern, const char *name, int32_t *layer, int32_t *expert) {
    while (*pattern) {
        if (*pattern != '{') {
            if (*pattern++ != *name++) {
                return NULL;
            }
            continue;
        }
        int32_t v = 0;
        int digits = 0;
        for (; *name >= '0' && *name <= '9' && digits < 8; digits++) {
            v = v * 10 + (*name++ - '0');
        }
        if (digits == 0) {
            return NULL;
        }
        *(pattern[1] == 'l' ? layer : expert) = v;
        pattern += 3;
    }
    return name;
}

static void fill(char *out, size_t cap, const char *pattern, int32_t layer, const char *suffix) {
    const char *at = strstr(pattern, "{l}");
    if (at) {
        snprintf(out, cap, "%.*s%d%s%s", (int)(at - pattern), pattern, (int)layer, at + 3, suffix);
    } else {
        snprintf(out, cap, "%s%s", pattern, suffix);
    }
}

bool fm_gguf_place_of(fm_gguf_place *out, const fm_gguf_arch *arch, const char *param) {
    static const char *const prefixes[] = {"bert.", "transformer."};
    for (size_t i = 0; i < FM_ARRAY_LEN(prefixes); i++) {
        if (strncmp(param, prefixes[i], strlen(prefixes[i])) == 0) {
            param += strlen(prefixes[i]);
            break;
        }
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(names); i++) {
        const name_row *r = &names[i];
        int32_t layer = 0, expert = 0;
        const char *rest = r->archs & arch->bit ? match(r->ours, param, &layer, &expert) : NULL;
        if (!rest || (*rest && strcmp(rest, ".weight") != 0 && strcmp(rest, ".bias") != 0)) {
            continue;
        }
        *out = (fm_gguf_place){.kind = r->kind, .layer = layer, .index = expert};
        fill(out->name, sizeof out->name, r->gguf, layer, rest);
        return true;
    }
    return false;
}
