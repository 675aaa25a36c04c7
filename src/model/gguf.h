/* Models in GGUF files, both ways; for the files of src/model only.
 *
 * Three tables hold what differs between architectures: `archs` (gguf_names.c) which family an architecture is,
 * `names` (gguf_names.c) where each parameter lives, `keys` (gguf_config.c) which metadata makes the configuration.
 * Checked against llama.cpp (llama-cpp-python 0.3.36) by tests/interop/gguf_llama.py. */
#ifndef FM_MODEL_GGUF_H
#define FM_MODEL_GGUF_H

#include "io/gguf.h"
#include "model/model.h"

/* Architectures, as bits. */
enum {
    FM_GGUF_LLAMA = 1,
    FM_GGUF_QWEN2 = 2,
    FM_GGUF_QWEN3 = 4,
    FM_GGUF_QWEN3MOE = 8,
    FM_GGUF_DEEPSEEK = 16,
    FM_GGUF_DEEPSEEK2 = 32,
    FM_GGUF_BERT = 64,
    FM_GGUF_GPT2 = 128,
    FM_GGUF_DEEPSEEK32 = 256,
};
#define FM_GGUF_LATENT   (FM_GGUF_DEEPSEEK2 | FM_GGUF_DEEPSEEK32)
#define FM_GGUF_MOE      (FM_GGUF_LLAMA | FM_GGUF_QWEN3MOE | FM_GGUF_DEEPSEEK | FM_GGUF_LATENT)
#define FM_GGUF_DECODERS (FM_GGUF_MOE | FM_GGUF_QWEN2 | FM_GGUF_QWEN3)

typedef struct fm_gguf_arch {
    const char *name;   /* general.architecture */
    const char *family; /* of ours */
    int bit;
    bool permuted; /* rows of q and k are interleaved for ggml's NORM rope */
} fm_gguf_arch;
/* By our family; NULL when it has no GGUF architecture. */
const fm_gguf_arch *fm_gguf_arch_of_family(const char *family);
/* The row an architecture is read by: families that share one are told apart by the metadata. */
FM_MUST_CHECK fm_status fm_gguf_arch_of_file(const fm_gguf_arch **out, const fm_gguf *g);

typedef enum fm_gguf_place_kind {
    FM_GGUF_PLAIN,
    FM_GGUF_Q_ROWS, /* rows permuted where the architecture says so */
    FM_GGUF_K_ROWS,
    FM_GGUF_EXPERT,  /* slice `index` of a stack */
    FM_GGUF_KV_B,    /* attn_kv_b, or since 2025 attn_k_b (transposed per head) and attn_v_b */
    FM_GGUF_LEFT_OUT /* llama.cpp has no place for it */
} fm_gguf_place_kind;

typedef struct fm_gguf_place {
    char name[96]; /* of the GGUF tensor */
    fm_gguf_place_kind kind;
    int32_t layer, index;
} fm_gguf_place;
/* Where a parameter of this name lives; false when the architecture has no such tensor. */
bool fm_gguf_place_of(fm_gguf_place *out, const fm_gguf_arch *arch, const char *param);

/* ---- configuration --------------------------------------------------------------------------- */

/* config.json as the metadata makes it (owned), with what a fathom.file.config.json in it adds. */
FM_MUST_CHECK fm_status fm_gguf_config_read(fm_json **json, const fm_gguf_set *set, const fm_gguf_arch *arch);
int fm_gguf_pooling_number(fm_pooling p); /* of {arch}.pooling_type */
/* The same from a path, parsed. */
FM_MUST_CHECK fm_status fm_gguf_config_load(fm_model_config *cfg, const fm_family **family, fm_json **json,
                                            const char *path);
/* FM_ERR_UNSUPPORTED naming the key of config.json that llama.cpp has no counterpart for; with inexact a warning where
 * it computes something near. */
FM_MUST_CHECK fm_status fm_gguf_config_write(fm_gguf_writer *w, const fm_gguf_arch *arch, const fm_model *m,
                                             bool inexact);
#define FM_GGUF_MAX_ROPE 1024           /* rotated elements of a head */
#define FM_GGUF_FILE_KEY "fathom.file." /* + name: small files of the folder a GGUF file was made from */
/* Divisors of the rope frequencies [dim/2] that llama3 scaling makes; false when the model has none. */
bool fm_gguf_rope_factors(float *out, const fm_rope_config *rope);

/* ---- weights --------------------------------------------------------------------------------- */

/* Rows [row, row + n) of a parameter ([dim0,dim1]; vectors have dim1 1) as f32. */
typedef struct fm_gguf_source {
    const fm_gguf_weight *w, *k_b, *v_b;
    int64_t first; /* element of w where the parameter begins */
    int64_t cols;
    int32_t heads;                /* of permuted rows, 0 = in order */
    int32_t nope, v_dim, kv_rank; /* of k_b and v_b */
} fm_gguf_source;
/* Finds and checks the tensor of a parameter: FM_ERR_NOT_FOUND, FM_ERR_SHAPE, FM_ERR_DTYPE with its name. */
FM_MUST_CHECK fm_status fm_gguf_source_of(fm_gguf_source *out, const fm_gguf_set *set, const fm_gguf_arch *arch,
                                          const fm_model_config *cfg, const fm_param *p);
/* scratch: kv_rank * nope floats for k_b, else unused. */
void fm_gguf_source_rows(const fm_gguf_source *s, int64_t row, int64_t n, float *out, float *scratch);
static inline int64_t fm_gguf_source_scratch(const fm_gguf_source *s) { /* floats */
    return s->k_b ? (int64_t)s->kv_rank * s->nope : 0;
}

/* As fm_model_load_adapted for a .gguf file; also LAZY: parameters get no data, only their sources are checked. */
FM_MUST_CHECK fm_status fm_model_load_gguf(fm_model **out, const char *path, const char *adapter, fm_load_mode mode,
                                           fm_dtype master);
/* Everything that loading checks, over bytes in memory (fuzzing). */
FM_MUST_CHECK fm_status fm_model_parse_gguf(const void *data, size_t n);
/* n numbers to f32, bf16 or f16. */
void fm_gguf_encode(fm_dtype to, const float *x, void *y, int64_t n);

/* Element type a tensor gets in a file of type `file`: llama.cpp's choice, see gguf_mix.c. */
typedef struct fm_gguf_mix {
    fm_dtype base; /* of most tensors */
    bool k_m;      /* Q4_K_M: more bits for some */
    bool tied;     /* token_embd is the output matrix too */
    int32_t n_layers, n_experts, n_gqa;
    bool is_70b;
    int32_t n_v, i_v, i_down; /* counters: attn_v tensors in all, and met */
    int32_t n_fallback;       /* tensors whose rows do not fit the type's blocks */
} fm_gguf_mix;
fm_dtype fm_gguf_mix_next(fm_gguf_mix *mix, const char *name, int n_dims, const int64_t *dim);
bool fm_gguf_counts_as_v(const char *name);
/* Name, base and general.file_type of the types a file can have. */
typedef struct fm_gguf_file_type {
    const char *name;
    fm_dtype base;
    bool k_m;
    int32_t number;
} fm_gguf_file_type;
const fm_gguf_file_type *fm_gguf_file_type_find(const char *name); /* NULL when unknown */
extern const char fm_gguf_file_type_names[];

#endif
