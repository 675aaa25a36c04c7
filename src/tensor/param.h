/* The parameter store: what a model's weights are, apart from any computation.
 *
 * A store is filled first (fm_params_add), then given memory (fm_params_alloc), or its parameters are pointed at a file
 * mapping (fm_param_set_external). It may be read from several contexts at once as long as nobody writes; the
 * optimizer writes between steps. Copies in other dtypes and packed forms are derived: made at first use and renewed
 * when the version moved.
 *
 * Everything that handles weights (load, save, count, optimizer, LoRA, sharding, quantisation, export) goes through
 * this. */
#ifndef FM_TENSOR_PARAM_H
#define FM_TENSOR_PARAM_H

#include "backend/nf4.h"
#include "tensor/tensor.h"

typedef struct fm_params fm_params;

typedef enum fm_init_kind { FM_INIT_NORMAL, FM_INIT_ONES, FM_INIT_ZEROS } fm_init_kind;

typedef struct fm_derived {
    fm_dtype dtype;
    void *data;
    uint32_t version; /* of the master it was made from; 0 = never */
} fm_derived;

/* A low-rank addition to a weight W [n,k] (Hu et al. 2021): the linear operation gives W x + scale B A x. With a
 * magnitude (DoRA: Liu et al. 2024) each row of W + scale B A is brought to that length first. */
typedef struct fm_lora {
    fm_param *a, *b;      /* [rank,k] [n,rank] */
    fm_param *magnitude;  /* [n], or NULL */
    struct fm_dora *dora; /* lengths of the rows as they are, made anew when a weight changed (tensor/dora.h) */
    float scale;
    double dropout; /* of x, when training */
    char stream[32];
} fm_lora;

/* Additions to chosen rows: what several texts with an adapter each have in one product. */
typedef struct fm_lora_entry {
    const fm_param *weight;
    const fm_lora *lora; /* without magnitude and dropout; NULL = none */
} fm_lora_entry;
typedef struct fm_lora_part {
    const int32_t *rows; /* [n] of the activations */
    int32_t n;
    const fm_lora_entry *lora; /* by the index of the weight */
} fm_lora_part;
typedef struct fm_lora_mix {
    fm_lora_part *part; /* [n_parts], no row in two of them */
    int n_parts;
    int64_t n_rows; /* of the activations */
} fm_lora_mix;

struct fm_param {
    char *name; /* Hugging Face name */
    int32_t index;
    uint8_t n_dims;
    int64_t dim[FM_MAX_DIMS]; /* global shape, outermost first */
    int64_t numel;
    int64_t shard_begin, shard_end; /* rows of dim[0] held by this process; whole range when not sharded */
    int32_t owner;                  /* rank that updates it */
    fm_dtype dtype;                 /* of data (the master); a block type or int8: only products read it as it is */
    bool own_dtype;                 /* fm_params_alloc gives it memory of p->dtype */
    const float *row_scale;         /* [dim0] of an int8 master; not owned */
    fm_nf4_scales nf4;              /* of an nf4 master; not owned */
    bool nf4_twice;                 /* fm_params_alloc makes their scales of bytes */
    fm_storage_kind storage;
    void *data;
    const void *source;    /* a file's elements of source_dtype this was made from, rows in order; or NULL */
    fm_dtype source_dtype; /* such as FM_Q4_K: quantised products may use the blocks */
    fm_param *tie;         /* this one is the same memory as *tie (which is never tied itself), or NULL */
    bool in_files;         /* tied, yet files hold it a second time under this name */
    bool missing;          /* no file has it: an adapter must bring it */
    bool frozen;           /* no gradient, no update */
    bool state;            /* kept with the model but changed by rules of its own, never by a gradient; f32 in files */
    bool decay;            /* weight decay applies */
    int32_t group;         /* optimizer group */
    fm_init_kind init;
    double init_std;
    bool file_transposed; /* a 2-D weight that files hold as [dim1,dim0] (GPT-2) */
    void *grad;           /* fm_dtype_acc(dtype); NULL until fm_params_alloc_grads */
    bool grad_written;    /* false: next write is = */
    uint32_t version;     /* starts at 1, bumped by every change of data */
    fm_derived copy;      /* the compute-dtype copy */
    const fm_lora *lora;  /* or NULL */
    fm_param *instead;    /* read in its place (a module trained whole beside a frozen base), or NULL; no tie */
    void *packed;         /* as backend->matmul_pack made it, of the compute dtype, as trans_b */
    uint32_t packed_version;
    int64_t packed_bytes;
    fm_dtype packed_dtype;
    int32_t pack_uses; /* asked for while it was left in its file map; -1 = it stays there */
    /* Called when the last gradient contribution of a backward pass was written, or NULL. */
    void (*grad_ready)(void *user, fm_param *p);
    void *grad_ready_user;
};

typedef struct fm_param_desc {
    const char *name;
    uint8_t n_dims;
    int64_t dim[FM_MAX_DIMS];
    fm_init_kind init;
    double init_std;
    bool no_decay;
    bool state; /* frozen as well */
    bool file_transposed;
    fm_param *tie;
    bool in_files;
} fm_param_desc;

FM_MUST_CHECK fm_status fm_params_new(fm_params **out);
void fm_params_free(fm_params *ps);
/* The returned parameter lives as long as the store. A name may occur once. */
FM_MUST_CHECK fm_status fm_params_add(fm_params *ps, const fm_param_desc *d, fm_param **out);
/* Zeroed memory that lives as long as the store, for handles of layers; NULL when out of memory. */
void *fm_params_keep(fm_params *ps, size_t bytes);
int fm_params_count(const fm_params *ps);
fm_param *fm_params_at(const fm_params *ps, int i); /* in the order of adding */
fm_param *fm_params_find(const fm_params *ps, const char *name);
int64_t fm_params_numel(const fm_params *ps); /* tied ones counted once */

/* One zeroed block for all untied parameters without memory of their own, in `dtype`. */
FM_MUST_CHECK fm_status fm_params_alloc(fm_params *ps, fm_dtype dtype);
/* The same with another type for the frozen ones, which need no precision to be updated in. */
FM_MUST_CHECK fm_status fm_params_alloc_mixed(fm_params *ps, fm_dtype dtype, fm_dtype frozen);
/* One zeroed block of gradients for all that are not frozen. */
FM_MUST_CHECK fm_status fm_params_alloc_grads(fm_params *ps);
/* One block of compute-dtype copies (so that the optimizer can write them in its pass). No-op when dtype is the
 * master's. */
FM_MUST_CHECK fm_status fm_params_alloc_copies(fm_params *ps, fm_dtype dtype);
void fm_params_free_grads(fm_params *ps);
/* Points a parameter at memory it does not own (a file mapping). */
void fm_param_set_external(fm_param *p, fm_dtype dtype, void *data, fm_storage_kind kind);
void fm_params_begin_step(fm_params *ps); /* grad_written = false for all */

/* Fills every untied parameter that is not quantised by its init rule: N(0, init_std^2) truncated at 3 std, ones or
 * zeros; random numbers are keyed by (seed, name, element index), so that the values do not depend on order, sharding
 * or threads. */
FM_MUST_CHECK fm_status fm_params_init(fm_params *ps, uint64_t seed, fm_pool *pool);
FM_MUST_CHECK fm_status fm_param_init(fm_param *p, uint64_t seed, fm_pool *pool); /* one of them */

void fm_param_changed(fm_param *p); /* bumps the version */

/* Data in `dtype`, through the derived copy when it is not the master's. Contexts call this through fm_data. */
FM_MUST_CHECK fm_status fm_param_acquire(const fm_backend *b, const fm_exec *x, fm_param *p, fm_dtype dtype,
                                         void **out);
void fm_param_release(fm_param *p);
/* Packed form of a 2-D weight [n,k] for y = x W^T, or NULL in *out when the backend packs nothing, or when the
 * weight is better read where it is (in a file map: at first, and when packing would take too much memory). */
FM_MUST_CHECK fm_status fm_param_packed(const fm_backend *b, const fm_exec *x, fm_param *p, fm_dtype dtype, void **out);

/* ---- quantised masters (param_quant.c, param_quantise.c) ------------------------------------------------------- */

bool fm_param_quantised(const fm_param *p);
/* Whether blocks of type d fill the rows of p: int8, nf4 and the types of GGUF that can be written. */
bool fm_param_quantisable(const fm_param *p, fm_dtype d);
/* Bytes of an own master of type d, the factors of int8 and nf4 included. */
int64_t fm_param_bytes(const fm_param *p, fm_dtype d);
/* Fills p, a quantised master in memory of its own, from `from` of any type and the same shape; blocks of the same type
 * are copied. FM_ERR_NUMERIC names p when it holds what is not a number. */
FM_MUST_CHECK fm_status fm_param_quantise(const fm_backend *b, const fm_exec *x, fm_param *p, const fm_param *from);
/* Rows [row, row + n) of the master, whatever its type, as dtype (f32, bf16, f16 or f64) into out. */
FM_MUST_CHECK fm_status fm_param_rows(const fm_backend *b, const fm_exec *x, const fm_param *p, int64_t row, int64_t n,
                                      fm_dtype dtype, void *out);
/* A weight in type d for one product: its own data or copy, or, of a quantised master, numbers in scratch memory that
 * last until the caller restores the scratch (fm_scratch_save). */
FM_MUST_CHECK fm_status fm_weight_numbers(fm_ctx *c, const fm_tensor *w, fm_dtype d, const void **out);
/* C = A W^T + bias for a leaf w [n,k] read in type d: a has m, n, k, a, lda, c, ldc, c_dtype and bias. Where the
 * context packs weights (inference), quantised ones are multiplied as they are, plain ones in their packed form. */
FM_MUST_CHECK fm_status fm_weight_product(fm_ctx *c, const fm_tensor *w, fm_matmul_args *a, fm_dtype d);

#endif
