/* Model families and whole models (internal side of fathom/model.h).
 *
 * A family is one file and one row of families.def: which config.json it reads, its weight map, its forward. The weight
 * map is made once, by build(): it adds every parameter to the store with its Hugging Face name, shape, init and tie;
 * load, save, count, shard and quantise walk the store. */
#ifndef FM_MODEL_MODEL_H
#define FM_MODEL_MODEL_H

#include "base/json.h"
#include "fathom/model.h"
#include "model/heads.h"
#include "nn/mla.h"
#include "nn/moe.h"
#include "nn/nn.h"

#define FM_MAX_EOS    16
#define FM_MAX_LAYERS 4096

/* How a model knows the order of its tokens. */
typedef enum fm_positions {
    FM_POS_ROPE,
    FM_POS_LEARNED, /* a table of max_position rows, added to the embedding */
    FM_POS_ALIBI    /* linear biases on the scores (Press et al. 2022), see fm_alibi_slopes */
} fm_positions;

/* MobileBERT (Sun et al. 2020): a thin body between bottlenecks. */
typedef struct fm_mobile_config {
    int32_t embedding_size; /* width of the word embedding */
    int32_t body;           /* intra_bottleneck_size, or hidden_size without bottlenecks */
    int32_t n_ffn;          /* feed-forward networks of a layer */
    bool bottleneck, bottleneck_attention, shared_key_query;
    bool trigram;    /* the embedding reads both neighbours too */
    bool layer_norm; /* normalization_type "layer_norm"; else "no_norm", an affine map */
    bool activated;  /* classifier_activation: the pooler has a dense layer and tanh */
} fm_mobile_config;

#define FM_MAX_COLUMNS 3
/* A column beside the decoder, see model/columns.h. */
typedef struct fm_column_config {
    int32_t n_layers, d_model, n_heads, d_ff;
    int32_t lateral; /* width of the lateral projections */
} fm_column_config;

typedef struct fm_model_config {
    char family[32];
    int32_t vocab_size, d_model, n_layers, n_heads, n_kv_heads, head_dim, d_ff;
    int64_t max_position;
    fm_act act; /* of the gated MLP */
    double norm_eps;
    double init_std;
    fm_rope_config rope;
    bool tied, qkv_bias, o_bias, mlp_bias, qk_norm;
    int32_t window;                           /* sliding window of the local layers, 0 = none */
    uint8_t global_layers[FM_MAX_LAYERS / 8]; /* bit l: layer l attends to everything though there is a window */
    double attention_dropout, hidden_dropout, embedding_dropout; /* training only */
    double neftune_alpha;                                        /* the same: noise on embeddings, 0 = none */
    int32_t bos_id, eos_id, pad_id;                              /* -1 = none */
    fm_mla_config mla;                                           /* kv_rank 0: grouped-query attention */
    fm_moe_config moe;                                           /* n_experts 0: dense */
    fm_positions positions;
    bool attn_unscaled, attn_scale_by_layer; /* GPT-2: scores not divided by sqrt(Dh); divided by layer + 1 */
    int32_t n_types;                         /* token types (segments) of an encoder's embedding */
    fm_mobile_config mobile;
    bool no_pooler;                          /* an encoder without a head has no pooler (from GGUF) */
    fm_head_config head;                     /* zero: the family's language model head */
    fm_head_config more_heads[FM_MAX_HEADS]; /* others by name on the same trunk */
    int32_t n_more_heads;
    fm_column_config column[FM_MAX_COLUMNS]; /* progressive columns after the first, which is the decoder */
    int32_t n_columns;
    int32_t n_log_vars; /* of tasks weighted by uncertainty (stage multi), 0 = none */
    int32_t n_mtp;      /* multi-token prediction layers after the last one (DeepSeek V3) */
    double mtp_weight;  /* of their loss in training, 0 = they are not trained */
} fm_model_config;
/* Ranges and divisibility; FM_ERR_CONFIG naming the field by its config.json key. */
FM_MUST_CHECK fm_status fm_model_config_check(const fm_model_config *cfg);
/* Window of a layer, 0 = none. */
int32_t fm_layer_window(const fm_model_config *cfg, int32_t layer);
bool fm_layers_mixed(const fm_model_config *cfg); /* some layers local, some global */
void fm_layer_set_global(fm_model_config *cfg, int32_t layer, bool global);
/* "local:local:global" over and over along the layers; `window` is that of the local ones. */
FM_MUST_CHECK fm_status fm_layers_from_pattern(fm_model_config *cfg, const char *pattern, int32_t window);

typedef struct fm_adapter fm_adapter;

typedef struct fm_family {
    const char *name;                 /* "llama" */
    const char *const *architectures; /* NULL-terminated: "LlamaForCausalLM" */
    const char *const *model_types;   /* NULL-terminated: "llama" */
    /* config.json -> config; keys that change the mathematics and are not supported are an error naming key and value.
     */
    fm_status (*parse)(fm_model_config *cfg, const fm_json *json);
    /* config -> members of config.json that transformers needs, set or replaced in an object. */
    fm_status (*write)(const fm_model_config *cfg, fm_json *json);
    /* Adds all parameters; *state holds handles for forward (fm_free). cfg is the model's own copy and lives as long.
     */
    fm_status (*build)(const fm_model_config *cfg, fm_params *ps, void **state);
    /* Hidden states after the final norm [n_tokens,D] (of an encoder: of the last layer). */
    fm_tensor *(*forward)(fm_ctx *c, const fm_model *m, const fm_batch *b);
    /* What differs from a decoder with "model." names; zero is that. */
    bool encoder;      /* attends to both sides: masked language model, no generation, texts pooled from the first */
    const char *trunk; /* name of the trunk in the names of weights: "bert."; NULL = "model." */
    const char *embedding;  /* tied embedding; NULL = "model.embed_tokens.weight" */
    const char *token_head; /* name of the token classification head; NULL = "score" */
    /* Adds the language model head; NULL: "lm_head.weight", or the embedding when tied. */
    fm_status (*build_lm)(const fm_model_config *cfg, fm_params *ps, const void *state, struct fm_head *head);
} fm_family;
extern const fm_family *const fm_families[];
extern const int fm_n_families;

struct fm_model {
    fm_model_config cfg;
    const fm_family *family;
    fm_params *params;
    void *state;    /* family's handles */
    fm_param *head; /* [V,D]: lm_head, or the embedding when tied; NULL when the first head is another */
    fm_head heads[1 + FM_MAX_HEADS]; /* the first is cfg.head */
    int32_t n_heads;
    struct fm_columns *columns; /* or NULL */
    int32_t column;             /* that answers: 0 = the first, as before any was added .. cfg.n_columns */
    fm_param *log_vars;         /* [cfg.n_log_vars] or NULL; not read by any forward */
    char architecture[64];      /* as transformers calls the family with this head */
    int n_trunk;                /* parameters before those of the heads */
    bool head_from_adapter;     /* weights of heads with labels may be missing: an adapter brings them */
    double *rope_freq;          /* [rope.dim/2] */
    double rope_mscale;
    bool checkpoint_layers; /* recompute each layer in backward */
    fm_adapter *adapter;    /* low-rank additions (model/adapter.h), or NULL */
    char *path;
    fm_pool *pool; /* owned when opened through the public API */
    fm_dtype compute;
    fm_tokenizer *tokenizer;
    fm_json *json;                /* config.json as read, kept for writing back unknown keys; may be NULL */
    fm_json *generation;          /* the same of generation_config.json */
    struct fm_model_files *files; /* weights in files (src/model/load.c), or NULL */
    /* Of a model from a GGUF file (src/model/gguf_load.c), else NULL: */
    struct fm_gguf_set *gguf;
    struct fm_gguf_source *gguf_sources; /* of each parameter */
    int32_t eos[FM_MAX_EOS];             /* every id that ends a text: generation_config.json, else config.json */
    int n_eos;
    fm_dtype stored;                      /* of the weights in the files, by bytes; of a built model f32 */
    int64_t stored_bytes[FM_DTYPE_COUNT]; /* by element type of the files */
    char dtype_mix[96];                   /* the same as text, made by fm_model_get_info; "" = one type */
    int64_t file_bytes;
    int32_t n_files;
    char *license; /* or NULL */
};

/* One vector a text from its hidden states. */
typedef enum fm_pooling { FM_POOL_MEAN, FM_POOL_CLS, FM_POOL_LAST } fm_pooling;
/* As the model says: 1_Pooling/config.json of its folder, metadata of its GGUF file; else the mean of an encoder, the
 * last token of a decoder. */
FM_MUST_CHECK fm_status fm_model_pooling(fm_pooling *out, const fm_model *m);

const fm_family *fm_family_find(const char *name); /* NULL when unknown */

/* An empty model from a config: parameters described, no memory. Freed by fm_model_close. Then: fm_params_alloc and
 * fm_params_init on m->params, or fm_model_load instead. Normal weights have std cfg->init_std (0.02 in every published
 * config of these families), residual projections included, as transformers initialises them; norms are ones, biases
 * zeros. */
FM_MUST_CHECK fm_status fm_model_build(fm_model **out, const fm_model_config *cfg);
/* As fm_model_build from a folder's config.json; weights are mapped (map = true: master dtype is the file's) or copied
 * into allocated master weights of dtype `master`. Every parameter must be found with its shape; extra tensors are an
 * error unless known to be harmless (rotary inv_freq). Prediction layers (cfg.n_mtp) of which the files hold nothing
 * are left out with a warning: programs that drop them leave their number in config.json. */
FM_MUST_CHECK fm_status fm_model_load(fm_model **out, const char *path, bool map, fm_dtype master);
typedef enum fm_load_mode {
    FM_LOAD_COPY, /* allocated masters */
    FM_LOAD_MAP,  /* the file's memory where it holds numbers; quantised weights become f32 (fp8: bf16) */
    FM_LOAD_KEEP, /* as MAP, but blocks and int8 matrices stay as they are (tensor/param.h says what reads them) */
    FM_LOAD_LAZY, /* GGUF only: no data */
} fm_load_mode;
FM_MUST_CHECK fm_status fm_model_load_as(fm_model **out, const char *path, fm_load_mode mode, fm_dtype master);
/* The same for an adapter (PEFT folder, or NULL), which is not attached: with the heads that it brings. */
FM_MUST_CHECK fm_status fm_model_load_adapted(fm_model **out, const char *path, const char *adapter, fm_load_mode mode,
                                              fm_dtype master);
/* Writes config.json, model.safetensors (sharded past max_shard bytes), generation_config.json, in dtype. The folder
 * must exist; tokenizer files are the caller's business. */
FM_MUST_CHECK fm_status fm_model_save(const fm_model *m, const char *dir, fm_dtype dtype, int64_t max_shard);
FM_MUST_CHECK fm_status fm_model_config_load(fm_model_config *cfg, const fm_family **family, const char *path);
/* Of the cfg->n_mtp prediction layers those, from the first, that a folder has tensors of; all when it has no weights.
 */
int32_t fm_model_stored_mtp(const fm_model_config *cfg, const char *path);
FM_MUST_CHECK fm_status fm_model_config_from_preset(fm_model_config *cfg, const char *name, int32_t vocab_size);
/* Any size by one number: depth, width and head count that give n_params within 3%. */
FM_MUST_CHECK fm_status fm_model_config_from_params(fm_model_config *cfg, int64_t n_params, int32_t vocab_size);
/* A config of a new model with other positions, or with local layers: pattern as fm_layers_from_pattern (NULL: all
 * local), window 0 and pattern NULL: none. The family becomes one that transformers has for it. */
FM_MUST_CHECK fm_status fm_model_config_reshape(fm_model_config *cfg, fm_positions positions, const char *pattern,
                                                int32_t window);
/* Parameters of the model on paper (tied ones counted once); of these, those that one token meets. */
int64_t fm_model_config_params(const fm_model_config *cfg);
int64_t fm_model_config_params_active(const fm_model_config *cfg);
int64_t fm_model_config_params_layer(const fm_model_config *cfg, int32_t layer, bool active);
int64_t fm_model_config_params_mtp(const fm_model_config *cfg); /* of prediction layers, not in the counts above */
int64_t fm_model_params_active(const fm_model *m);              /* of the parameters in its store */
int64_t fm_model_config_params_embedding(const fm_model_config *cfg); /* of these, in embedding and head */
/* What the cache holds of a token in each layer: latent attention has one key head and no values, in their place the
 * keys of its indexer when it has one. */
void fm_model_kv_shape(const fm_model_config *cfg, int32_t *n_kv_heads, int32_t *k_dim, int32_t *v_dim);
/* Layers that a cache holds, without those of prediction layers. */
int32_t fm_model_kv_layers(const fm_model_config *cfg);
int64_t fm_model_kv_bytes_per_token(const fm_model_config *cfg, fm_dtype dtype);

/* Experts of a layer, or NULL for a dense one. */
fm_moe_layer *fm_model_moe_layer(const fm_model *m, int32_t layer);

/* Hidden states after the final norm [n_tokens,D]. The arrays of b outlive the tape; b itself need not. With the tape
 * off the arena holds one layer's temporaries at a time. */
fm_tensor *fm_model_forward(fm_ctx *c, const fm_model *m, const fm_batch *b);
/* Logits [n_rows,V] in f32 of the rows of hidden given by idx (i32 [n_rows] tensor), or of all when idx is NULL. With
 * the tape off they are the sums as the product made them, the ones the training loss reads (not rounded to a narrower
 * compute type). */
fm_tensor *fm_model_head(fm_ctx *c, const fm_model *m, fm_tensor *hidden, fm_tensor *idx);
/* Forward, head b->head and its loss, [1]:
 *   language model   targets [n_tokens], or [n_rows] of b->rows; by chunks of rows, see fm_linear_ce
 *   token labels     targets [n_tokens], or values [n_tokens,C] when they are numbers or several may hold
 *   text labels      labels [n_segments], or values [n_segments,C]
 * The weights of o are used, or else those of b, one per row of the loss. *token_loss (or NULL) gets the loss of each
 * row: of a text, a token, or a chosen row. o->is_root holds for language models; other losses are small. In training a
 * model with experts adds its balance loss (cfg.moe.aux_alpha), weighted by this batch's share of the trained rows. */
fm_tensor *fm_model_loss(fm_ctx *c, const fm_model *m, const fm_batch *b, const fm_loss_options *o,
                         fm_tensor **token_loss);

/* The same from hidden states h. */
fm_tensor *fm_head_loss(fm_ctx *c, const fm_model *m, fm_tensor *h, const fm_batch *b, const fm_loss_options *o,
                        fm_tensor **token_loss);
/* Logits [n,V] of the tokens rows[n] of packed texts. */
FM_MUST_CHECK fm_status fm_model_logits_at(fm_model *m, const fm_texts *texts, const int32_t *rows, int32_t n,
                                           float *out);
/* Loss of each token of packed texts against targets [offsets[n]] (-100: 0), by the language model head; out
 * [offsets[n]]. The model was opened for inference. */
FM_MUST_CHECK fm_status fm_model_token_losses(fm_model *m, const fm_texts *texts, const int32_t *targets, float *out);
/* Losses of several heads over one forward pass: part[n] are the same tokens (the trunk's fields are read from the
 * first) with the head, targets, rows, labels and values of each; o[n] their options, weights included, no root.
 * loss[n] are [1] each. *aux: the balance loss of experts times `share`, to be added once, or NULL. False when it
 * failed. */
bool fm_model_losses(fm_ctx *c, const fm_model *m, int n, const fm_batch *part, const fm_loss_options *o, double share,
                     fm_tensor **loss, fm_tensor **aux);

/* Multi-token prediction: layer `depth` (0 .. n_mtp-1). Row i of hidden [n_tokens,D] is what fm_model_forward, or the
 * layer before this one, gave for token i; b->ids[i] is the token depth + 1 places later. Returns the hidden states
 * [n_tokens,D] whose fm_model_head are logits of the token after that one: drafts to be checked by the model itself. A
 * cache b->kv needs cfg.n_layers + cfg.n_mtp layers. */
fm_tensor *fm_model_mtp_forward(fm_ctx *c, const fm_model *m, int32_t depth, const fm_batch *b, fm_tensor *hidden);
/* cfg.mtp_weight times the mean over the layers of the sum of losses, scaled by o like the main loss; in training
 * fm_model_loss adds it. [1] */
fm_tensor *fm_model_mtp_loss(fm_ctx *c, const fm_model *m, const fm_batch *b, const fm_loss_options *o,
                             fm_tensor *hidden);
/* Adds what these layers have besides their blocks; after the heads. */
FM_MUST_CHECK fm_status fm_model_mtp_build(fm_model *m);

#endif
