/* Tensors, contexts and the tape.
 *
 * One forward function serves four uses. What differs is the context it is given:
 *   training   tape on, arena keeps activations
 *   inference  tape off, fm_ctx_mark / fm_ctx_reset free temporaries
 *   planning   a context on the meta device: shapes and arena use, nothing runs, data is NULL
 *   export     a recorded tape is a linear graph to walk
 *
 * Operations return a tensor, or NULL with the context failed; NULL in gives NULL out, so model code
 * reads as mathematics and checks once (fm_ctx_status). The first error is kept.
 *
 * Memory. Tensor structs and nodes live in a small host arena, element data in the data arena (a stack), gradients
 * in a region with a free list, kernel scratch apart. The same sequence of calls gives the same addresses each step.
 * A context belongs to one thread.
 *
 * Gradients. First write is =, later writes are +=; a gradient that passes unchanged (residual add) is shared by
 * reference count and copied when one side is written to. */
#ifndef FM_TENSOR_TENSOR_H
#define FM_TENSOR_TENSOR_H

#include "backend/backend.h"
#include "base/error.h"
#include "base/str.h"

#define FM_MAX_DIMS  4
#define FM_MAX_IN    8 /* of a test case; a node has as many as its operation takes */
#define FM_MAX_OUT   3
#define FM_MAX_SAVED 4

typedef struct fm_ctx fm_ctx;
typedef struct fm_tensor fm_tensor;
typedef struct fm_node fm_node;
typedef struct fm_op fm_op;
typedef struct fm_param fm_param;
typedef struct fm_grad fm_grad;

typedef enum fm_storage_kind {
    FM_STORAGE_ARENA,    /* the context's data arena */
    FM_STORAGE_HEAP,     /* fm_pages_alloc, owned by someone with a longer life */
    FM_STORAGE_MAP,      /* read-only file mapping */
    FM_STORAGE_EXTERNAL, /* the caller's memory */
    FM_STORAGE_PARAM,    /* resolved through the parameter at each use */
} fm_storage_kind;

/* What aliases of the same bytes share. The version counts in-place writes: a node notes the versions of what it
 * saved, and backward fails (naming file:line of the node) when one changed. */
typedef struct fm_storage {
    void *data; /* NULL on the meta device */
    fm_storage_kind kind;
    uint32_t version;
    int64_t arena_offset; /* FM_STORAGE_ARENA: where it begins, also on meta */
} fm_storage;

struct fm_tensor {
    fm_dtype dtype;
    uint8_t n_dims;
    bool needs_grad;
    bool computed;               /* output of a recorded operation, not a leaf */
    int64_t dim[FM_MAX_DIMS];    /* outermost first */
    int64_t stride[FM_MAX_DIMS]; /* elements */
    fm_storage *storage;
    int64_t offset_bytes; /* of element 0 in the storage */
    fm_param *param;      /* the parameter this leaf stands for, or NULL */
    fm_tensor *grad_root; /* the tensor that owns the gradient: itself, or what it is a reshape of */
    fm_grad *grad;        /* of the root; NULL until written */
    const char *name;     /* may be NULL */
};

struct fm_node {
    const fm_op *op;
    int n_in, n_out, n_saved;
    fm_tensor **in; /* [n_in]; may hold NULL for optional inputs */
    fm_tensor *out[FM_MAX_OUT];
    fm_tensor *saved[FM_MAX_SAVED]; /* beyond inputs and outputs: rstd, lse ... */
    uint32_t *in_version, out_version[FM_MAX_OUT];
    bool *keeps_in;             /* [n_in]: backward reads the data of this input; set in op->shape, default true */
    bool keeps_out[FM_MAX_OUT]; /* backward reads the data of this output; default true */
    void *attr;                 /* the op's own options, copied to the host arena */
    const char *file;
    int line;
};

/* ---- operations ------------------------------------------------------------------------------ */

typedef enum fm_input_kind {
    FM_IN_NORMAL,   /* N(0,1) * scale */
    FM_IN_POSITIVE, /* |N(0,1)| * scale + 0.5 */
    FM_IN_IDS,      /* i32 in [0, max) */
    FM_IN_POS,      /* i32 0,1,2,... */
    FM_IN_TARGETS,  /* i32 in [0,max), about one in five -100 */
} fm_input_kind;

typedef struct fm_test_input {
    const char *name; /* for messages */
    uint8_t n_dims;
    int64_t dim[FM_MAX_DIMS];
    fm_input_kind kind;
    double scale; /* 0 = 1 */
    int32_t max;  /* for ids */
    bool weight;  /* made as a parameter: gradient in the accumulation type */
    bool no_grad; /* gradient not checked (and not asked for) */
    bool rows;    /* dim[0] counts rows: cut in the row-invariance test */
} fm_test_input;

/* One test of an op; the registry test runs each on every dtype and ISA. */
typedef struct fm_op_case {
    const char *name;
    int n_in;
    fm_test_input in[FM_MAX_IN];
    /* Calls the op. `n_rows` is the row count of the inputs (cut in the row-invariance test). Returns the number of
     * outputs stored, 0 on failure. */
    int (*run)(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out);
    /* The same value through simpler operations, or NULL. */
    int (*decomposed)(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out);
    bool row_invariant;
    bool prefix_only, suffix_only; /* row invariance: only the first, only the last rows may stand alone */
    bool unit_upstream;            /* the op is the root of the loss and refuses another upstream gradient than 1 */
} fm_op_case;

struct fm_op {
    const char *name;
    const char *formula; /* one line, for docs and coverage */
    const char *onnx;    /* lowering: ONNX operator(s), or NULL with the reason in onnx_why */
    const char *onnx_why;
    /* Kernels used, ended by FM_KERNEL_COUNT; for coverage and for choosing tolerances. */
    fm_kernel kernels[4];
    const char *missing_ok; /* reason when a SIMD cell may be empty, else NULL */
    /* Checks inputs, makes outputs and saved tensors (fm_node_out, fm_node_save). Runs on every device. */
    fm_status (*shape)(fm_ctx *c, fm_node *n);
    fm_status (*forward)(fm_ctx *c, fm_node *n);
    fm_status (*backward)(fm_ctx *c, fm_node *n); /* NULL: no gradient */
    /* In spacings of the output dtype, relative to the largest magnitude of the row (outputs) or tensor (gradients).
     * The test allows bf16 and f16 at most 3, as sums are kept in A. */
    double tol_fwd, tol_bwd;
    const fm_op_case *cases;
    int n_cases;
    bool grads_via_d; /* weight gradients (A) pass through values rounded to D: their tolerance counts in spacings of D
                       */
};

/* All ops, from ops.def. */
extern const fm_op *const fm_ops[];
extern const int fm_n_ops;

/* ---- context --------------------------------------------------------------------------------- */

typedef struct fm_ctx_options {
    size_t size;               /* sizeof(fm_ctx_options) */
    const fm_backend *backend; /* NULL = meta */
    fm_pool *pool;             /* shared, not owned; NULL = inline */
    fm_dtype compute;          /* dtype of activations; 0 (f64) means f64 */
    int64_t arena_bytes;       /* capacity of the data arena (activations); 0 = 256 MiB; ignored on meta */
    int64_t grad_bytes;        /* capacity for gradients of activations; 0 = 256 MiB */
    uint64_t seed;             /* of all random streams */
} fm_ctx_options;

FM_MUST_CHECK fm_status fm_ctx_new(fm_ctx **out, const fm_ctx_options *opt);
void fm_ctx_free(fm_ctx *c);

fm_status fm_ctx_status(const fm_ctx *c); /* first error, FM_OK when none; its text is in the error record */
void fm_ctx_clear_error(fm_ctx *c);
fm_status fm_ctx_fail(fm_ctx *c, fm_status s); /* marks the context failed (text already recorded); returns s */
bool fm_ctx_is_meta(const fm_ctx *c);
fm_dtype fm_ctx_compute(const fm_ctx *c);
fm_pool *fm_ctx_pool(const fm_ctx *c);
const fm_backend *fm_ctx_backend(const fm_ctx *c);
const fm_exec *fm_ctx_exec(fm_ctx *c);

/* Recording. Begin forgets the previous tape, arena content, gradients of activations and any error; parameters stay.
 */
void fm_tape_begin(fm_ctx *c); /* on, empty */
void fm_tape_off(fm_ctx *c);
/* Recording goes on where fm_tape_off broke it off: what was made meanwhile carries no gradient. */
void fm_tape_resume(fm_ctx *c);
bool fm_tape_on(const fm_ctx *c);
int fm_tape_size(const fm_ctx *c);
const fm_node *fm_tape_node(const fm_ctx *c, int i);
/* Everything since begin: drops all tensors, resets arenas. With the tape off as well. */
void fm_ctx_reset(fm_ctx *c);
/* Stack marks of the arenas; only with the tape off. */
typedef struct fm_ctx_mark_t {
    size_t data, host;
} fm_ctx_mark_t;
fm_ctx_mark_t fm_ctx_mark(const fm_ctx *c);
void fm_ctx_release(fm_ctx *c, fm_ctx_mark_t m);

/* Training mode (dropout on) and the position of this forward in the run, for random streams. */
void fm_ctx_set_training(fm_ctx *c, bool on);
bool fm_ctx_training(const fm_ctx *c);
void fm_ctx_set_step(fm_ctx *c, uint32_t step, uint64_t first_token); /* optimizer step; global index of token 0 */
fm_rng_key fm_ctx_rng(const fm_ctx *c, const char *stream);
uint64_t fm_ctx_first_token(const fm_ctx *c);
/* True while fm_checkpoint runs a function again: side effects (load counters, calibration) happen once. */
bool fm_ctx_recomputing(const fm_ctx *c);
/* Inference: linear layers keep packed copies of weights. */
void fm_ctx_set_pack(fm_ctx *c, bool on);
bool fm_ctx_pack(const fm_ctx *c);
/* Inference: linear layers add the low-rank parts of these rows; NULL = none. Borrowed. */
struct fm_lora_mix;
void fm_ctx_set_lora_mix(fm_ctx *c, const struct fm_lora_mix *mix);

/* Peaks since fm_ctx_new, exact on every device: data arena, gradient region (bytes). */
int64_t fm_ctx_arena_peak(const fm_ctx *c);
int64_t fm_ctx_grad_peak(const fm_ctx *c);
int64_t fm_ctx_arena_used(const fm_ctx *c);

/* ---- tensors --------------------------------------------------------------------------------- */

/* Arena tensor, uninitialised. */
fm_tensor *fm_new(fm_ctx *c, fm_dtype dtype, int n_dims, const int64_t *dim);
fm_tensor *fm_new_like(fm_ctx *c, const fm_tensor *t);
/* A view of the caller's memory, which must outlive its uses (on meta data may be NULL). */
fm_tensor *fm_from_memory(fm_ctx *c, fm_dtype dtype, int n_dims, const int64_t *dim, void *data);
/* Leaf for a parameter, in the compute dtype. The same parameter gives the same leaf within one tape. */
fm_tensor *fm_leaf(fm_ctx *c, fm_param *p);
/* The same in another type, for a parameter that is always read so (a router, in the accumulation type). */
fm_tensor *fm_leaf_as(fm_ctx *c, fm_param *p, fm_dtype dtype);
fm_tensor *fm_require_grad(fm_tensor *t); /* marks a leaf; returns it */

int64_t fm_numel(const fm_tensor *t);
int64_t fm_rows(const fm_tensor *t); /* product of all dimensions but the last */
int64_t fm_last(const fm_tensor *t); /* last dimension */
bool fm_contiguous(const fm_tensor *t);
/* Data for reading; parameters are brought to the compute dtype here. NULL on meta, or with the context failed. */
void *fm_data(fm_ctx *c, const fm_tensor *t);
void fm_touch(fm_tensor *t); /* an in-place write happened */
/* "[2048,768] bf16" into buf; returns buf. */
const char *fm_tensor_describe(char *buf, size_t cap, const fm_tensor *t);

/* ---- recording an operation (for files in ops/) ------------------------------------------------ */

/* Runs an op: shape, forward (not on meta), and records it when the tape is on and an input needs a gradient. NULL
 * entries of in are optional inputs. Returns out[0], or NULL with the context failed. attr is copied. The node's
 * outputs are stored to outs when it is not NULL. If any non-optional input is NULL, returns NULL at once: list the
 * required ones first and pass their number. */
fm_tensor *fm_apply(fm_ctx *c, const fm_op *op, int n_required, int n_in, fm_tensor *const *in, const void *attr,
                    size_t attr_size, fm_tensor **outs);
fm_tensor *fm_node_out(fm_ctx *c, fm_node *n, fm_dtype dtype, int n_dims, const int64_t *dim); /* next output */
fm_tensor *
fm_node_save(fm_ctx *c, fm_node *n, fm_dtype dtype, int n_dims,
             const int64_t *dim); /* next saved; always made: ask fm_node_records first for what only backward needs */
/* Next output in the storage of in[i] (an in-place op). Bumps the version when the op has run. */
fm_tensor *fm_node_out_inplace(fm_ctx *c, fm_node *n, int i);
bool fm_node_records(const fm_ctx *c,
                     const fm_node *n); /* will backward be asked for? valid inside shape and forward */

/* Sets file:line of the next op; used by the macros of ops.h. */
fm_ctx *fm_at(fm_ctx *c, const char *file, int line);

/* ---- gradients ---------------------------------------------------------------------------------- */

/* Backward from a one-element tensor with d(loss)/d(loss) = seed. Gradients of leaves and parameters stay, those of
 * intermediate tensors are freed as soon as their producer has run. */
FM_MUST_CHECK fm_status fm_backward(fm_ctx *c, fm_tensor *loss, double seed);
/* Gradient of a leaf tensor after fm_backward: data (dtype in *dtype), or NULL when none flowed. */
void *fm_grad_of(const fm_tensor *t, fm_dtype *dtype);

/* For backward functions. */
/* Gradient of output i, dtype of the output; NULL when none flowed (treat as zero) or on meta: use fm_has_dout to ask.
 */
bool fm_has_dout(const fm_node *n, int i);
void *fm_dout(fm_ctx *c, fm_node *n, int i);
bool fm_wants(const fm_node *n, int i); /* does input i need a gradient? */
/* Where to write the gradient of activation input i; *acc says += instead of =. The buffer is not shared. */
FM_MUST_CHECK fm_status fm_din(fm_ctx *c, fm_node *n, int i, void **data, bool *acc);
/* The same for a weight: type fm_dtype_acc(dtype); parameters' gradients are found through the store. */
FM_MUST_CHECK fm_status fm_dweight(fm_ctx *c, fm_node *n, int i, void **data, bool *acc);
/* As fm_dweight, zero-filled when new, for kernels that always add. */
FM_MUST_CHECK fm_status fm_dweight_add(fm_ctx *c, fm_node *n, int i, void **data);
/* The gradient of output o is also that of input i (residual add): shared, or added when there is one. */
FM_MUST_CHECK fm_status fm_dshare(fm_ctx *c, fm_node *n, int o, int i);
/* As fm_din, but hands over the buffer of output o's gradient when nobody else needs it (in-place backward; then
 * *data is also the output's gradient and *acc is false). */
FM_MUST_CHECK fm_status fm_dmove(fm_ctx *c, fm_node *n, int o, int i, void **data, bool *acc);

/* Runs a kernel of the context's backend with dtype d; does nothing on meta. */
FM_MUST_CHECK fm_status fm_run(fm_ctx *c, fm_kernel k, fm_dtype d, const void *args);

/* Frees the activations of fn: forward runs it with the tape off and keeps only its outputs; backward runs it again
 * with the tape on. fn must be a pure function of in, args and parameters. At most 4 inputs and outputs. */
typedef fm_status (*fm_checkpoint_fn)(fm_ctx *c, void *args, fm_tensor *const *in, fm_tensor **out);
FM_MUST_CHECK fm_status fm_checkpoint(fm_ctx *c, fm_checkpoint_fn fn, const void *args, size_t args_size, int n_in,
                                      fm_tensor *const *in, int n_out, fm_tensor **out);

#endif
