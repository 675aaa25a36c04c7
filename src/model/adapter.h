/* Low-rank adapters (LoRA: Hu et al. 2021; rsLoRA: Kalajdzievski 2023; DoRA: Liu et al. 2024) on the matrices of a
 * model, and parameters that are trained whole beside them, as PEFT folders.
 *
 * An adapter has a parameter store of its own: the base store stays what its files say. While it is attached, the
 * linear operation adds scale * B A x to the product of each adapted weight. */
#ifndef FM_MODEL_ADAPTER_H
#define FM_MODEL_ADAPTER_H

#include "model/model.h"

typedef struct fm_adapter_config {
    int64_t rank;
    double alpha, dropout;
    bool rslora;               /* scale alpha / sqrt(rank) instead of alpha / rank */
    bool dora;                 /* a magnitude for each row */
    const char *const *target; /* names or last parts of names of modules: "q_proj"; with * and ? a pattern of either;
                                  "all" = every linear layer */
    int n_targets;
    const char *const *whole; /* the same for modules trained whole: "lm_head", "embed_tokens" */
    int n_whole;
    bool heads; /* heads with labels or numbers of their own are trained whole too */
} fm_adapter_config;

struct fm_adapter {
    fm_model *m;
    fm_params *params; /* PEFT names: base_model.model.<module>.lora_A.weight */
    fm_lora *lora;     /* [n] */
    fm_param **weight; /* [n] the adapted ones, in the order of the base store */
    int n;
    fm_param **replaced, **whole; /* [n_whole] of the base store, and what is read instead */
    int n_whole;
    int64_t rank;
    double alpha, dropout;
    bool rslora, dora;
    void *files; /* mapped, or NULL */
};

/* Attaches a new adapter to m (one at a time): parameters described, no memory; A is drawn as PEFT draws it (variance
 * of a uniform over +-1/sqrt(columns)), B is zero. FM_ERR_CONFIG names a target that no weight matches. The model owns
 * it. */
FM_MUST_CHECK fm_status fm_adapter_new(fm_model *m, const fm_adapter_config *cfg);
/* What a new adapter takes from the base, whose weights are there now: the magnitudes are the lengths of its rows. */
FM_MUST_CHECK fm_status fm_adapter_begin_values(fm_model *m, const fm_exec *x);
/* Heads that an adapter was trained with and its base need not have (PEFT: task_type SEQ_CLS, TOKEN_CLS; our own
 * folders say more in a config.json beside it). Puts them into cfg and into json, what the base's config.json says;
 * *brings: the files of the base need not hold their weights. FM_ERR_CONFIG when the adapter is of another base. */
FM_MUST_CHECK fm_status fm_adapter_heads(fm_model_config *cfg, const fm_family *family, fm_json *json, const char *dir,
                                         bool *brings);
/* Attaches what a PEFT folder holds, its weights mapped. FM_ERR_UNSUPPORTED names what PEFT can and this cannot
 * (trained biases, other ranks of alpha). */
FM_MUST_CHECK fm_status fm_adapter_open(fm_model *m, const char *dir);
/* The same without attaching it: for those who choose it row by row (fm_ctx_set_lora_mix). Freed by fm_adapter_free. */
FM_MUST_CHECK fm_status fm_adapter_open_apart(fm_adapter **out, fm_model *m, const char *dir);
/* Fills an attached adapter (f32, memory of its own) from a PEFT folder of the same shape. */
FM_MUST_CHECK fm_status fm_adapter_read(fm_model *m, const char *dir);
/* adapter_config.json and adapter_model.safetensors (f32), and with a head of its own config.json of the base with that
 * head. The folder must exist. base: what the configuration names. */
FM_MUST_CHECK fm_status fm_adapter_save(const fm_model *m, const char *dir, const char *base);
/* Adds scale * B A into the base weights (heap memory, f32), puts whole modules in their place, and detaches. */
FM_MUST_CHECK fm_status fm_adapter_merge(fm_model *m);
void fm_adapter_free(fm_adapter *a); /* detaches */

#endif
