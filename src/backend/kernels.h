/* The list of kernels and the arguments of each: the whole contract between operations and devices.
 *
 * D is the element type the kernel was chosen by; A = fm_dtype_acc(D) (f64 for f64, else f32).
 * Arrays are dense, row-major, outermost dimension first, without overlap between inputs and
 * outputs unless a comment allows it. Pointers marked "or NULL" switch a part off. `acc_*` flags
 * choose += over =. Sizes may be zero, which is a no-op.
 *
 * Row invariance: in matmul without trans_a, the norms, rope, softmax, glu and attention the bits of an output
 * row depend on that row's inputs alone, never on the number of rows, their order, the split over
 * threads, or what stands beside them. Sums over rows (weight gradients) depend on the shape and
 * nothing else: fixed chunks, combined in fixed order.
 *
 * A kernel runs on the pool in its fm_exec and may take scratch from it. It returns a status only
 * for what it cannot do (FM_ERR_UNSUPPORTED) or for lack of scratch memory. */
#ifndef FM_BACKEND_KERNELS_H
#define FM_BACKEND_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/dtype.h"
#include "base/pool.h"
#include "base/rng.h"

/* X(kernel, argument struct) */
#define FM_KERNEL_LIST(X)                                                                                              \
    X(matmul, fm_matmul_args)                                                                                          \
    X(quant_matmul, fm_quant_matmul_args)                                                                              \
    X(bias_grad, fm_bias_grad_args)                                                                                    \
    X(embedding_fwd, fm_embedding_args)                                                                                \
    X(embedding_bwd, fm_embedding_bwd_args)                                                                            \
    X(rmsnorm_fwd, fm_norm_args)                                                                                       \
    X(rmsnorm_bwd, fm_norm_bwd_args)                                                                                   \
    X(layernorm_fwd, fm_norm_args)                                                                                     \
    X(layernorm_bwd, fm_norm_bwd_args)                                                                                 \
    X(affine_fwd, fm_norm_args)                                                                                        \
    X(affine_bwd, fm_norm_bwd_args)                                                                                    \
    X(rope, fm_rope_args)                                                                                              \
    X(attention_fwd, fm_attention_args)                                                                                \
    X(attention_bwd, fm_attention_bwd_args)                                                                            \
    X(index_select, fm_index_select_args)                                                                              \
    X(glu_fwd, fm_glu_args)                                                                                            \
    X(glu_bwd, fm_glu_bwd_args)                                                                                        \
    X(act_fwd, fm_act_args)                                                                                            \
    X(act_bwd, fm_act_bwd_args)                                                                                        \
    X(add, fm_binary_args)                                                                                             \
    X(mul, fm_binary_args)                                                                                             \
    X(axpby, fm_axpby_args)                                                                                            \
    X(fill, fm_fill_args)                                                                                              \
    X(cast, fm_cast_args)                                                                                              \
    X(dropout, fm_dropout_args)                                                                                        \
    X(softmax_fwd, fm_softmax_args)                                                                                    \
    X(softmax_bwd, fm_softmax_bwd_args)                                                                                \
    X(cross_entropy, fm_cross_entropy_args)                                                                            \
    X(reduce_fwd, fm_reduce_args)                                                                                      \
    X(reduce_bwd, fm_reduce_args)                                                                                      \
    X(gather_rows, fm_rows_args)                                                                                       \
    X(copy_groups, fm_copy_groups_args)                                                                                \
    X(scatter_add_rows, fm_rows_args)                                                                                  \
    X(route_fwd, fm_route_args)                                                                                        \
    X(route_bwd, fm_route_bwd_args)                                                                                    \
    X(balance_fwd, fm_balance_args)                                                                                    \
    X(balance_bwd, fm_balance_args)                                                                                    \
    X(expert_sort, fm_expert_sort_args)                                                                                \
    X(grouped_matmul, fm_grouped_matmul_args)                                                                          \
    X(grouped_outer, fm_grouped_outer_args)                                                                            \
    X(combine_rows, fm_combine_rows_args)                                                                              \
    X(glu_rows_fwd, fm_glu_rows_args)                                                                                  \
    X(glu_rows_bwd, fm_glu_rows_bwd_args)                                                                              \
    X(copy_block, fm_copy_block_args)                                                                                  \
    X(pointwise_loss, fm_pointwise_loss_args)                                                                          \
    X(sum_squares, fm_sum_squares_args)                                                                                \
    X(adamw, fm_adamw_args)                                                                                            \
    X(sgd, fm_sgd_args)                                                                                                \
    X(lion, fm_lion_args)

typedef enum fm_kernel {
#define FM_X(name, args) FM_K_##name,
    FM_KERNEL_LIST(FM_X)
#undef FM_X
        FM_KERNEL_COUNT
} fm_kernel;

const char *fm_kernel_name(fm_kernel k);

/* Where a kernel runs. */
typedef struct fm_scratch fm_scratch;
typedef struct fm_exec {
    fm_pool *pool;       /* NULL = inline */
    fm_scratch *scratch; /* never NULL */
} fm_exec;

/* Scratch memory that lives until the kernel that asked for it returns: 64-byte aligned, uninitialised.
 * Call from the kernel's calling thread only (take one block and divide it by thread). NULL when out of memory. */
void *fm_scratch_take(const fm_exec *x, int64_t bytes);

typedef fm_status (*fm_kernel_fn)(const fm_exec *x, const void *args);

/* C[m,n] (+)= op(A)[m,k] op(B)[k,n] + bias[n].  A, B, bias are D; C is D or A by c_dtype.
 * Products and sums in A. trans_a: A is stored [k,m] with row stride lda; trans_b: B is stored [n,k] with row
 * stride ldb (a weight matrix [out,in] in y = x W^T). Strides in elements.
 * With bf16 D, a pair of products may be summed before it is added to the accumulator (vdpbf16ps). */
typedef struct fm_matmul_args {
    int64_t m, n, k;
    const void *a;
    int64_t lda;
    bool trans_a;
    const void *b;
    int64_t ldb;
    bool trans_b;
    void *c;
    int64_t ldc;
    fm_dtype c_dtype;
    bool accumulate;      /* C += ...; then c_dtype must be A */
    const void *bias;     /* [n] or NULL */
    const void *b_packed; /* B as fm_matmul_pack made it, or NULL (then b is read) */
} fm_matmul_args;

/* C[m,n] = Q(A)[m,k] W[n,k]^T + bias[n], W quantised: blocks of a GGUF type (quant.h), or int8 with a factor a row. Q
 * rounds each block of 32 elements of a row of A to int8 with a factor of its own (quant_act.h). A and bias are D, C is
 * D or A. Products are exact integers inside a block; blocks are added in A in order of k. */
typedef struct fm_quant_matmul_args {
    int64_t m, n, k;
    const void *a;
    int64_t lda;
    fm_dtype w_dtype;
    const void *w;        /* [n] rows of blocks as files have them, or int8 [n,k] */
    const float *w_scale; /* [n], int8 only */
    const void *w_packed; /* W as fm_backend.quant_pack made it, or NULL (then w is read) */
    void *c;
    int64_t ldc;
    fm_dtype c_dtype;
    const void *bias; /* [n] or NULL */
} fm_quant_matmul_args;

/* dbias[n] (A type) (+)= sum over rows of dy [m,n] (D). */
typedef struct fm_bias_grad_args {
    int64_t m, n;
    const void *dy;
    void *dbias;
    bool acc_dbias;
} fm_bias_grad_args;

/* y[t,:] = w[ids[t],:]; ids were checked to lie in [0,n_vocab). */
typedef struct fm_embedding_args {
    int64_t n_tokens, dim, n_vocab;
    const int32_t *ids; /* [n_tokens] */
    const void *w;      /* [n_vocab,dim] D */
    void *y;            /* [n_tokens,dim] D */
} fm_embedding_args;

/* dw[ids[t],:] += dy[t,:], tokens in order for each row. dw is A. */
typedef struct fm_embedding_bwd_args {
    int64_t n_tokens, dim, n_vocab;
    const int32_t *ids;
    const void *dy; /* [n_tokens,dim] D */
    void *dw;       /* [n_vocab,dim] A */
} fm_embedding_bwd_args;

/* rmsnorm: s = x (+ res); y = s * rstd * w, rstd = 1/sqrt(mean(s^2) + eps)   (Zhang & Sennrich 2019)
 * layernorm: y = (s - mean) * rstd * w + b                                   (Ba et al. 2016)
 * affine: y = s * w + b, the norm without statistics of MobileBERT           (Sun et al. 2020)
 * With res: s is rounded to D and stored to sum (the new residual stream), and the norm reads the rounded value. */
typedef struct fm_norm_args {
    int64_t n_rows, dim;
    float eps;
    const void *x;   /* [n_rows,dim] D */
    const void *res; /* [n_rows,dim] D or NULL */
    const void *w;   /* [dim] D, or NULL = ones */
    const void *b;   /* [dim] D or NULL; not rmsnorm */
    void *sum;       /* [n_rows,dim] D; written when res is given */
    void *y;         /* [n_rows,dim] D */
    void *rstd;      /* [n_rows] A, or NULL when not wanted */
    void *mean;      /* [n_rows] A, layernorm only, or NULL */
} fm_norm_args;

/* Gradients of the norm. x is the normalised input (sum when the forward had res). dx is
 * dnorm/dx (+ dsum when given: the gradient that reaches the residual stream from above). */
typedef struct fm_norm_bwd_args {
    int64_t n_rows, dim;
    const void *x, *w;       /* as forward */
    const void *rstd, *mean; /* as forward, not NULL (mean: layernorm only; affine: neither) */
    const void *dy;          /* [n_rows,dim] D */
    const void *dsum;        /* [n_rows,dim] D or NULL; may be the same storage as dx */
    void *dx;                /* [n_rows,dim] D, or NULL */
    bool acc_dx;             /* with dsum NULL only */
    void *dw, *db;           /* [dim] A, += always; NULL when not wanted */
} fm_norm_bwd_args;

/* Rotary position embedding (Su et al. 2021). x is [n_tokens,n_heads,head_dim], row stride x_stride
 * elements between tokens; elements first .. first+2*n_freqs of each head rotate, the others are copied.
 * Pair i turns by angle pos[t] * freq[i]; pairs are (i, i+n_freqs) (half) or (2i, 2i+1) (interleaved). The angle is
 * computed in f64, cos and sin rounded to A, then multiplied by mscale.
 * backward: sign -1. y may be x. */
typedef struct fm_rope_args {
    int64_t n_tokens;
    int32_t n_heads, head_dim, n_freqs;
    int32_t first;
    bool interleaved;
    float sign;         /* +1 forward, -1 backward */
    float mscale;       /* YaRN attention factor; 1 otherwise */
    const int32_t *pos; /* [n_tokens] */
    const double *freq; /* [n_freqs] radians per position */
    const void *x;
    void *y;
    bool acc_y; /* y += instead of =; backward only */
} fm_rope_args;

/* Keys and values as attention reads them. Row r of segment s is
 * contiguous: k + (kv_offsets[s] + r) * k_stride;
 * paged (block_table not NULL): row r lives in block block_table[s*max_blocks + r/block_tokens], at row r%block_tokens.
 * Strides in elements between rows; heads inside a row are dense [n_kv_heads, dim]. */
typedef struct fm_kv_view {
    const void *k, *v;
    fm_dtype dtype; /* D in training; may be another type in a cache */
    int64_t k_stride, v_stride;
    const int32_t *kv_offsets;  /* [n_segments+1]; lengths = differences, also when paged */
    const int32_t *block_table; /* [n_segments,max_blocks] or NULL */
    int32_t block_tokens, max_blocks;
} fm_kv_view;

typedef enum fm_mask_kind { FM_MASK_CAUSAL, FM_MASK_FULL } fm_mask_kind;

/* Attention over packed segments: for query i of a segment with nq queries and nk keys, its position is
 * p = nk - nq + i, and it sees key j when (causal) j <= p, and (window > 0) j > p - window, and (selected) j is listed.
 *   s_j = scale * q.k_j  [softcap: c*tanh(s/c)]  + alibi[h] * (j - p)
 *   o = sum_j softmax(s)_j v_j, the softmax denominator also counts exp(sink[h]) when given.
 * Key tiles are counted from key 0 of the segment, so a row's bits do not depend on its query tile.
 * Head h reads kv head h / (n_heads/n_kv_heads). head_dim of v may differ (v_dim). A query that sees no key gives 0. */
typedef struct fm_attention_args {
    int32_t n_segments, n_heads, n_kv_heads, head_dim, v_dim;
    const int32_t *q_offsets; /* [n_segments+1] rows of q */
    const void *q;            /* [n_tokens,n_heads,head_dim] D */
    fm_kv_view kv;
    fm_mask_kind mask;
    int32_t window;          /* 0 = none */
    float scale, softcap;    /* softcap 0 = none */
    const float *alibi;      /* [n_heads] slopes or NULL */
    const void *sink;        /* [n_heads] D or NULL */
    const int32_t *selected; /* [n_tokens,max_selected] keys of the segment, rising, -1 ends a list; or NULL */
    int32_t max_selected;
    void *out; /* [n_tokens,n_heads,v_dim] D */
    void *lse; /* [n_tokens,n_heads] A: log of the denominator with the maximum added; or NULL */
} fm_attention_args;

typedef struct fm_attention_bwd_args {
    fm_attention_args f; /* forward arguments, out and lse filled; kv contiguous, dtype D, dense strides */
    const void *dout;    /* [n_tokens,n_heads,v_dim] D */
    void *dq;            /* [n_tokens,n_heads,head_dim] D, or NULL */
    void *dk, *dv;       /* [n_kv,n_kv_heads,head_dim or v_dim] D; both or none */
    bool acc_dq, acc_dk, acc_dv;
    void *dsink; /* [n_heads] A, +=, or NULL */
} fm_attention_bwd_args;

/* Lightning indexer (DeepSeek V3.2): the keys that each query attends to. Query i of a segment sees the keys j <= p of
 * fm_attention_args; of these the n_selected with the largest
 *   I_j = sum_h w[i,h] * relu(q[i,h] . k_j)
 * are listed, all when they are fewer; of equal ones the earlier. NaN counts as the least. */
typedef struct fm_index_select_args {
    int32_t n_segments, n_heads, dim, n_selected;
    const int32_t *q_offsets; /* [n_segments+1] rows of q */
    const void *q, *w;        /* [n_tokens,n_heads,dim], [n_tokens,n_heads] D */
    fm_kv_view kv;            /* k of one head of dim; v is not read */
    int32_t *ids;             /* [n_tokens,n_selected] rising, then -1 */
} fm_index_select_args;

/* X(symbol, name). gelu is exact (erf), gelu_tanh the tanh form (Hendrycks & Gimpel 2016); relu2 = relu^2. */
#define FM_ACT_LIST(X)                                                                                                 \
    X(FM_ACT_SILU, "silu")                                                                                             \
    X(FM_ACT_GELU, "gelu")                                                                                             \
    X(FM_ACT_GELU_TANH, "gelu_tanh")                                                                                   \
    X(FM_ACT_RELU, "relu")                                                                                             \
    X(FM_ACT_RELU2, "relu2")                                                                                           \
    X(FM_ACT_SIGMOID, "sigmoid")                                                                                       \
    X(FM_ACT_TANH, "tanh")
typedef enum fm_act {
#define FM_X(sym, name) sym,
    FM_ACT_LIST(FM_X)
#undef FM_X
        FM_ACT_COUNT
} fm_act;

/* y = act(gate) * up (Shazeer 2020: SwiGLU, GEGLU). */
typedef struct fm_glu_args {
    int64_t n;
    fm_act act;
    const void *gate, *up; /* [n] D */
    void *y;               /* [n] D */
} fm_glu_args;
typedef struct fm_glu_bwd_args {
    int64_t n;
    fm_act act;
    const void *gate, *up, *dy;
    void *dgate, *dup; /* [n] D, =; may be the storage of gate and up */
    void *y;           /* [n] D or NULL: forward output computed again beside the gradients */
} fm_glu_bwd_args;

typedef struct fm_act_args {
    int64_t n;
    fm_act act;
    const void *x;
    void *y;
} fm_act_args;
typedef struct fm_act_bwd_args {
    int64_t n;
    fm_act act;
    const void *x, *dy;
    void *dx;
    bool acc_dx;
} fm_act_bwd_args;

/* y = a + b or a * b; y may be a or b. */
typedef struct fm_binary_args {
    int64_t n;
    const void *a, *b;
    void *y;
} fm_binary_args;

/* y = alpha*x + beta*y; beta 0 does not read y. Same storage allowed. */
typedef struct fm_axpby_args {
    int64_t n;
    double alpha, beta;
    const void *x;
    void *y;
} fm_axpby_args;

typedef struct fm_fill_args {
    int64_t n;
    double value;
    void *y;
} fm_fill_args;

/* y = (to) x, D is the type of x. */
typedef struct fm_cast_args {
    int64_t n;
    fm_dtype to;
    const void *x;
    void *y;
    bool acc_y; /* y += cast(x) */
} fm_cast_args;

/* Element (t, j) is kept when fm_rng_u32(key, (first_token + t) * dim + j) >= p * 2^32, and scaled by
 * 1/(1-p). backward is the same call on dy. y may be x. */
typedef struct fm_dropout_args {
    int64_t n_tokens, dim;
    double p;
    fm_rng_key key;
    uint64_t first_token; /* global index of row 0 */
    const void *x;
    void *y;
    bool acc_y;
} fm_dropout_args;

/* Softmax over the last dimension. */
typedef struct fm_softmax_args {
    int64_t n_rows, dim;
    const void *x;
    void *y;
} fm_softmax_args;
typedef struct fm_softmax_bwd_args {
    int64_t n_rows, dim;
    const void *y, *dy;
    void *dx;
    bool acc_dx;
} fm_softmax_bwd_args;

/* Per row t with target c (ignored rows: target == ignore_index, loss 0, gradient 0):
 *   lse = log sum_j exp(x_j);  p = softmax(x)
 *   loss_t = (1-smooth) (lse - x_c) + smooth (lse - mean_j x_j) + z_loss lse^2
 *   dx_j = dscale * [ p_j (1 + 2 z_loss lse) - (1-smooth) [j==c] - smooth/n ]
 * x is in A (f32 logits, not yet rounded to D); dx is D and may share storage with x.
 * loss_t is not scaled by dscale. weight[t] (or NULL = 1) multiplies loss_t and dx. */
typedef struct fm_cross_entropy_args {
    int64_t n_rows, n_classes;
    const void *x;         /* [n_rows,n_classes] A */
    int64_t x_stride;      /* elements between rows of x */
    const int32_t *target; /* [n_rows] */
    int32_t ignore_index;
    float smooth, z_loss;
    double dscale;
    const float *weight; /* [n_rows] or NULL */
    void *dx;            /* [n_rows,n_classes] D or NULL */
    int64_t dx_stride;
    void *loss;      /* [n_rows] A */
    int32_t *argmax; /* [n_rows] or NULL: index of the largest logit (lowest on ties) */
} fm_cross_entropy_args;

/* fwd: y[r] = scale * sum_j x[r,j] (A type sums, y is A).  bwd: x[r,j] (+)= scale * y[r] (x is the output). */
typedef struct fm_reduce_args {
    int64_t n_rows, dim;
    double scale;
    void *x; /* [n_rows,dim] D; read by fwd, written by bwd */
    void *y; /* [n_rows] A; written by fwd, read by bwd */
    bool acc_x;
} fm_reduce_args;

/* gather: y[i,:] = x[idx[i],:].  scatter_add: x[idx[i],:] += y[i,:] in order of i. All D. */
typedef struct fm_rows_args {
    int64_t n, dim;
    const int32_t *idx; /* [n], checked by the caller */
    void *x, *y;
} fm_rows_args;

/* ---- mixture of experts ------------------------------------------------------------------------
 * E experts, K of them per token. An assignment is a pair (t, j), j < K, with flat index i = t * K + j; the expert_sort
 * kernel orders assignments by expert, so that the rows of one expert lie together. */

typedef enum fm_router_score { FM_ROUTER_SOFTMAX, FM_ROUTER_SIGMOID } fm_router_score;
/* How a group of experts is scored when only the best groups may be chosen from. */
typedef enum fm_group_score { FM_GROUP_MAX, FM_GROUP_SUM_TOP2 } fm_group_score;

typedef struct fm_router_rule {
    int32_t n_experts, n_active;
    int32_t n_groups, top_groups; /* n_groups 0 or 1 = any expert may be chosen */
    fm_router_score score;
    fm_group_score group_score;
    bool norm;    /* chosen scores are divided by their sum + 1e-20 */
    double scale; /* and multiplied by this */
} fm_router_rule;

/* s = softmax(x) or sigmoid(x) per row; c = s + bias. Chosen: of the top_groups groups (consecutive experts) with the
 * best score over c, the K experts with the largest c; of equals the lowest index; in falling order of c.
 * weight_j = scale * s_j [/ (sum of the chosen s + 1e-20)]: the bias chooses and does not weigh (DeepSeek V3).
 * D is the type of everything but ids. */
typedef struct fm_route_args {
    fm_router_rule rule;
    int64_t n_rows;
    const void *x;    /* [n_rows,E] logits */
    const void *bias; /* [E] or NULL */
    void *scores;     /* [n_rows,E] */
    void *weights;    /* [n_rows,K] */
    int32_t *ids;     /* [n_rows,K] */
} fm_route_args;
/* The choice is constant. */
typedef struct fm_route_bwd_args {
    fm_router_rule rule;
    int64_t n_rows;
    const void *scores;
    const int32_t *ids;
    const void *dweights; /* [n_rows,K] or NULL */
    const void *dscores;  /* [n_rows,E] or NULL */
    void *dx;             /* [n_rows,E] */
    bool acc_dx;
} fm_route_bwd_args;

/* Balance loss over the rows of n_parts arrays (layers) together: for segment s of n_s rows in all of them,
 * f_e = E / (K n_s) * (how often s chose e), P_e = mean over its rows of s_e [/ sum_j s_j];
 * y = sum over segments of n_s / n * sum_e f_e P_e (Dai et al. 2024; V3: per sequence; Fedus et al. 2021). f is
 * constant for gradients.  fwd writes y, bwd writes dx (+)= *dy * dy/dx. */
typedef struct fm_balance_args {
    int32_t n_parts;
    int64_t n_rows; /* of each part */
    int32_t n_experts, n_active;
    int32_t n_segments;
    const int32_t *offsets; /* [n_segments+1], or NULL: one segment */
    bool normalise;
    const void *const *x;      /* [n_parts] each [n_rows,E] scores D */
    const int32_t *const *ids; /* [n_parts] each [n_rows,K] */
    void *y;                   /* [1] D */
    const void *dy;            /* [1] D */
    void *const *dx;           /* [n_parts] each [n_rows,E] D, or NULL: not wanted */
    const bool *acc_dx;        /* [n_parts] */
} fm_balance_args;

/* Stable counting sort of n assignments: offsets[e] = first row of expert e, order[row] = assignment, row[assignment]
 * its inverse. D is not read. */
typedef struct fm_expert_sort_args {
    int64_t n;
    int32_t n_experts;
    const int32_t *ids; /* [n] in [0,n_experts) */
    int32_t *offsets;   /* [n_experts+1] */
    int32_t *order;     /* [n] */
    int32_t *row;       /* [n] */
} fm_expert_sort_args;

/* Which rows of an array stand for the sorted rows: row r is index[r] / div, or r where index is NULL. */
typedef struct fm_row_map {
    const int32_t *index;
    int32_t div;
} fm_row_map;

/* For each group g and its rows r in [offsets[g], offsets[g+1]):  C[r,:] = A[map r,:] op(B_g) [+ A2[r,:] op(B2_g)],
 * sums in A, rounded once. B_g [n,k] (trans_b) or [k,n]; b[g] is not read for an empty group. */
typedef struct fm_grouped_matmul_args {
    int32_t n_groups;
    const int32_t *offsets; /* [n_groups+1], from 0 */
    int64_t n, k;
    const void *a; /* rows of k elements, D */
    fm_row_map a_map;
    const void *const *b; /* [n_groups] D */
    bool trans_b;
    const void *const *b_packed; /* [n_groups], as fm_matmul_pack makes it (then b is not read), or NULL */
    const void *a2;              /* [rows,k] or NULL */
    const void *const *b2;
    void *c; /* [rows,n] D */
} fm_grouped_matmul_args;

/* For each group: C_g [m,n] (A) (+)= sum over its rows r of A[map r,:]^T B[map r,:]. An empty group adds nothing, or
 * becomes 0. c[g] NULL: not wanted. */
typedef struct fm_grouped_outer_args {
    int32_t n_groups;
    const int32_t *offsets;
    int64_t m, n;
    const void *a, *b; /* rows of m, of n elements, D */
    fm_row_map a_map, b_map;
    void *const *c;         /* [n_groups] */
    const bool *accumulate; /* [n_groups] */
} fm_grouped_outer_args;

/* y[t,:] (+)= sum over j of x[row[t*K+j],:], j in order, sums in A. */
typedef struct fm_combine_rows_args {
    int64_t n_tokens, dim;
    int32_t n_active;
    const int32_t *row; /* [n_tokens,K] */
    const void *x;      /* [n_tokens*K,dim] D */
    void *y;            /* [n_tokens,dim] D */
    bool acc_y;
} fm_combine_rows_args;

/* y[r,:] = scale[order[r]] * act(gate[r,:]) * up[r,:].  bwd: dscale[order[r]] = sum_j dy act(gate) up (A). */
typedef struct fm_glu_rows_args {
    int64_t n_rows, dim;
    fm_act act;
    const void *gate, *up; /* [n_rows,dim] D */
    const void *scale;     /* [n_rows] A */
    const int32_t *order;  /* [n_rows] a permutation */
    void *y;
} fm_glu_rows_args;
typedef struct fm_glu_rows_bwd_args {
    int64_t n_rows, dim;
    fm_act act;
    const void *gate, *up, *dy;
    const void *scale;
    const int32_t *order;
    void *dgate, *dup; /* D, = */
    void *dscale;      /* [n_rows] A, = */
} fm_glu_rows_bwd_args;
/* y[r * y_stride + j] (+)= x[r * x_stride + j] for j < dim: columns cut out of rows, or put into them. D. */
typedef struct fm_copy_block_args {
    int64_t n_rows, dim, x_stride, y_stride;
    const void *x;
    void *y;
    bool acc_y;
} fm_copy_block_args;

/* Losses of scores x against numbers t, row by row; a NaN target and a row of weight 0 carry neither loss nor gradient:
 *   bce: loss_r = mean_j max(x,0) - x t + log(1 + exp(-|x|))       (independent yes or no per column, t in [0,1])
 *   mse: loss_r = mean_j (x - t)^2
 *   dx_rj = dscale * weight_r * d(loss_r)/d(x_rj)
 * loss_r is multiplied by weight_r, not by dscale. The mean counts all columns. */
typedef enum fm_pointwise_kind { FM_POINTWISE_BCE, FM_POINTWISE_MSE } fm_pointwise_kind;
typedef struct fm_pointwise_loss_args {
    int64_t n_rows, dim;
    fm_pointwise_kind kind;
    const void *x;       /* [n_rows,dim] D */
    const float *target; /* [n_rows,dim] */
    const float *weight; /* [n_rows] or NULL */
    double dscale;
    void *dx;   /* [n_rows,dim] D or NULL */
    void *loss; /* [n_rows] A */
} fm_pointwise_loss_args;

/* Parts of rows, dense or with gaps: y[r,g,j] = x[r,g,j] for n_groups groups of n_cols elements, groups x_group or
 * y_group elements apart, rows x_row or y_row (all D). x_group 0: one group goes to all of y's. sum: y[r,j] = sum_g
 * x[r,g,j], sums in A, groups in order. */
typedef struct fm_copy_groups_args {
    int64_t n_rows, n_groups, n_cols;
    const void *x;
    int64_t x_row, x_group;
    void *y;
    int64_t y_row, y_group;
    bool sum;
} fm_copy_groups_args;

/* *out (f64) = sum of squares of x [n] (D), sums in fixed chunks; *n_nonfinite counts NaN and infinities. */
typedef struct fm_sum_squares_args {
    int64_t n;
    const void *x;
    double *out;
    int64_t *n_nonfinite;
} fm_sum_squares_args;

/* AdamW (Loshchilov & Hutter 2019): one pass over a parameter. D is the type of w, g, m, v (f32, or f64).
 *   g' = g * grad_scale;  m = b1 m + (1-b1) g';  v = b2 v + (1-b2) g'^2
 *   w -= lr * ( (m/bias1) / (sqrt(v/bias2) + eps) + decay * w ) ;  then l1/l2: g' += l2*w + l1*sign(w) before the
 * moments */
typedef struct fm_adamw_args {
    int64_t n;
    void *w, *g, *m, *v;
    uint16_t *w_bf16; /* [n] rounded copy written in the same pass, or NULL */
    double lr, beta1, beta2, eps, decay, l1, l2;
    double bias1, bias2; /* 1 - beta^t */
    double grad_scale;
    bool zero_grad; /* g = 0 afterwards */
} fm_adamw_args;

/* SGD with momentum (PyTorch form): g' = g*grad_scale + l2*w + l1*sign(w); m = momentum*m + g'; w -= lr*(m or g' +
 * momentum*m) + lr*decay*w. */
typedef struct fm_sgd_args {
    int64_t n;
    void *w, *g, *m; /* m NULL when momentum is 0 */
    uint16_t *w_bf16;
    double lr, momentum, decay, l1, l2, grad_scale;
    bool nesterov;
    bool zero_grad;
} fm_sgd_args;

/* Lion (Chen et al. 2023): g' = g*grad_scale + l2*w + l1*sign(w); w -= lr*(sign(b1 m + (1-b1) g') + decay*w); m = b2 m
 * + (1-b2) g'. sign(0) = 0. */
typedef struct fm_lion_args {
    int64_t n;
    void *w, *g, *m;
    uint16_t *w_bf16;
    double lr, beta1, beta2, decay, l1, l2, grad_scale;
    bool zero_grad;
} fm_lion_args;

#endif
