/* The operations. Shapes: T tokens (rows), D model width, V vocabulary, H heads, Hkv kv heads, Dh head width.
 * Tensors are contiguous. D dtype = the dtype of the first input; weights have the same dtype (leaves give the compute
 * dtype). Every function returns NULL with the context failed on error, and NULL for NULL inputs. */
#ifndef FM_TENSOR_OPS_H
#define FM_TENSOR_OPS_H

#include "tensor/param.h"
#include "tensor/tensor.h"

#define FM_HERE(c) fm_at((c), __FILE__, __LINE__)

/* w [V,D], ids i32 [T] -> [T,D]. On devices that run, every id is checked against V. */
fm_tensor *fm_embedding_(fm_ctx *c, fm_tensor *w, fm_tensor *ids);
#define fm_embedding(c, ...) fm_embedding_(FM_HERE(c), __VA_ARGS__)

/* x [..,K], w [N,K], b [N] or NULL -> [..,N] = x w^T + b. */
fm_tensor *fm_linear_(fm_ctx *c, fm_tensor *x, fm_tensor *w, fm_tensor *b);
#define fm_linear(c, ...) fm_linear_(FM_HERE(c), __VA_ARGS__)

/* y [..,N] + x [..,K] w^T in the storage of y, for a narrow x (an adapter): no second product is held. */
fm_tensor *fm_linear_add_(fm_ctx *c, fm_tensor *y, fm_tensor *x, fm_tensor *w);
#define fm_linear_add(c, ...) fm_linear_add_(FM_HERE(c), __VA_ARGS__)

/* Norms over the last dimension; w, b [dim]. */
fm_tensor *fm_rmsnorm_(fm_ctx *c, fm_tensor *x, fm_tensor *w, float eps);
#define fm_rmsnorm(c, ...) fm_rmsnorm_(FM_HERE(c), __VA_ARGS__)
fm_tensor *fm_layernorm_(fm_ctx *c, fm_tensor *x, fm_tensor *w, fm_tensor *b, float eps);
#define fm_layernorm(c, ...) fm_layernorm_(FM_HERE(c), __VA_ARGS__)
/* x * w + b by column, w and b [dim] or NULL: the "norm" of MobileBERT. */
fm_tensor *fm_affine_(fm_ctx *c, fm_tensor *x, fm_tensor *w, fm_tensor *b);
#define fm_affine(c, ...) fm_affine_(FM_HERE(c), __VA_ARGS__)
/* x * magnitude * inverse + b by column, the last step of DoRA (Liu et al. 2024): magnitude, b [dim] (b or NULL),
 * inverse [dim] in the accumulation type, a constant. */
fm_tensor *fm_dora_scale_(fm_ctx *c, fm_tensor *x, fm_tensor *magnitude, fm_tensor *inverse, fm_tensor *b);
#define fm_dora_scale(c, ...) fm_dora_scale_(FM_HERE(c), __VA_ARGS__)
/* Fused residual add and norm: *sum = res + x (rounded to D), returns rmsnorm(*sum) * w. */
fm_tensor *fm_add_rmsnorm_(fm_ctx *c, fm_tensor *res, fm_tensor *x, fm_tensor *w, float eps, fm_tensor **sum);
#define fm_add_rmsnorm(c, ...) fm_add_rmsnorm_(FM_HERE(c), __VA_ARGS__)

/* x [T,H,Dh], pos i32 [T], freq f64 [n_freqs] (host memory that outlives the tape). In the storage of x. */
typedef struct fm_rope_options {
    const double *freq;
    int32_t n_freqs;
    int32_t first; /* element of a head where the rotated ones begin */
    bool interleaved;
    float mscale; /* 0 = 1 */
} fm_rope_options;
fm_tensor *fm_rope_(fm_ctx *c, fm_tensor *x, fm_tensor *pos, const fm_rope_options *o);
#define fm_rope(c, ...) fm_rope_(FM_HERE(c), __VA_ARGS__)

/* q [T,H,Dh], k [S,Hkv,Dh], v [S,Hkv,Dv] -> [T,H,Dv]; see fm_attention_args. q_offsets and kv_offsets are host arrays
 * that outlive the tape; kv_offsets NULL = q_offsets. With `kv` set, k and v are NULL and keys come from the cache (no
 * gradient). */
typedef struct fm_attention_options {
    int32_t n_segments;
    const int32_t *q_offsets, *kv_offsets;
    fm_mask_kind mask;
    int32_t window;
    float scale; /* 0 = 1/sqrt(Dh) */
    float softcap;
    const float *alibi; /* [H] or NULL */
    const fm_kv_view *kv;
    int32_t n_kv_heads, v_dim; /* with kv only */
    fm_tensor *selected;       /* i32 [T,K] of fm_index_select, or NULL: only these keys are seen */
} fm_attention_options;
fm_tensor *fm_attention_(fm_ctx *c, fm_tensor *q, fm_tensor *k, fm_tensor *v, fm_tensor *sink,
                         const fm_attention_options *o);
#define fm_attention(c, ...) fm_attention_(FM_HERE(c), __VA_ARGS__)

/* The K keys of each query with the largest sum_h w_h relu(q_h . k), i32 [T,K]; see fm_index_select_args. q [T,H,D], w
 * [T,H], k [S,D], or NULL with a view of a cache in kv. Offsets as in fm_attention. Nothing is differentiated. */
typedef struct fm_index_options {
    int32_t n_segments, n_selected;
    const int32_t *q_offsets;
    const fm_kv_view *kv;
} fm_index_options;
fm_tensor *fm_index_select_(fm_ctx *c, fm_tensor *q, fm_tensor *w, fm_tensor *k, const fm_index_options *o);
#define fm_index_select(c, ...) fm_index_select_(FM_HERE(c), __VA_ARGS__)

/* act(gate) * up; act(x). Same shapes. */
fm_tensor *fm_glu_(fm_ctx *c, fm_tensor *gate, fm_tensor *up, fm_act act);
#define fm_glu(c, ...) fm_glu_(FM_HERE(c), __VA_ARGS__)
fm_tensor *fm_activation_(fm_ctx *c, fm_tensor *x, fm_act act);
#define fm_activation(c, ...) fm_activation_(FM_HERE(c), __VA_ARGS__)

fm_tensor *fm_add_(fm_ctx *c, fm_tensor *a, fm_tensor *b);
#define fm_add(c, ...) fm_add_(FM_HERE(c), __VA_ARGS__)
fm_tensor *fm_mul_(fm_ctx *c, fm_tensor *a, fm_tensor *b);
#define fm_mul(c, ...) fm_mul_(FM_HERE(c), __VA_ARGS__)
fm_tensor *fm_scale_(fm_ctx *c, fm_tensor *x, double alpha);
#define fm_scale(c, ...) fm_scale_(FM_HERE(c), __VA_ARGS__)

/* Dropout with probability p in training mode, x itself otherwise. `stream` names the random stream and must
 * outlive the tape. Rows are tokens. */
fm_tensor *fm_dropout_(fm_ctx *c, fm_tensor *x, double p, const char *stream);
#define fm_dropout(c, ...) fm_dropout_(FM_HERE(c), __VA_ARGS__)

fm_tensor *fm_softmax_(fm_ctx *c, fm_tensor *x);
#define fm_softmax(c, ...) fm_softmax_(FM_HERE(c), __VA_ARGS__)

/* Over the last dimension: [..,dim] -> [..] in the accumulation type. fm_sum_all gives [1]. */
fm_tensor *fm_sum_(fm_ctx *c, fm_tensor *x);
#define fm_sum(c, ...) fm_sum_(FM_HERE(c), __VA_ARGS__)
fm_tensor *fm_mean_(fm_ctx *c, fm_tensor *x);
#define fm_mean(c, ...) fm_mean_(FM_HERE(c), __VA_ARGS__)
fm_tensor *fm_sum_all_(fm_ctx *c, fm_tensor *x);
#define fm_sum_all(c, ...) fm_sum_all_(FM_HERE(c), __VA_ARGS__)

fm_tensor *fm_cast_(fm_ctx *c, fm_tensor *x, fm_dtype to);
#define fm_cast(c, ...) fm_cast_(FM_HERE(c), __VA_ARGS__)

/* x [S,..], idx i32 [T] -> rows of x. */
fm_tensor *fm_gather_(fm_ctx *c, fm_tensor *x, fm_tensor *idx);
#define fm_gather(c, ...) fm_gather_(FM_HERE(c), __VA_ARGS__)

/* a [T,A], b [T,B] -> [T,A+B]. */
fm_tensor *fm_concat_cols_(fm_ctx *c, fm_tensor *a, fm_tensor *b);
#define fm_concat_cols(c, ...) fm_concat_cols_(FM_HERE(c), __VA_ARGS__)
/* Keys and values of latent attention (DeepSeek V2, arXiv 2405.04434): kv [T,H*(nope+v)], each head's key part before
 * its value, and the rotated part pe [T,rope] that all heads share -> keys [T,H,nope+rope] and *values [T,H,v]. */
fm_tensor *fm_mla_keys_(fm_ctx *c, fm_tensor *kv, fm_tensor *pe, int32_t n_heads, int32_t nope, fm_tensor **values);
#define fm_mla_keys(c, ...) fm_mla_keys_(FM_HERE(c), __VA_ARGS__)
/* x [..,K] -> at most FM_MAX_OUT tensors [..,size[p]], the sizes summing to K. False with the context failed; out then
 * holds NULLs. */
bool fm_split_columns_(fm_ctx *c, fm_tensor *x, int n_parts, const int64_t *size, fm_tensor **out);
#define fm_split_columns(c, ...) fm_split_columns_(FM_HERE(c), __VA_ARGS__)

/* x [T,E] -> [T,3E]: rows t+1, t and t-1 side by side, zeros beyond the ends of a segment. offsets [n_segments+1] is a
 * host array that outlives the tape. */
fm_tensor *fm_trigram_(fm_ctx *c, fm_tensor *x, int32_t n_segments, const int32_t *offsets);
#define fm_trigram(c, ...) fm_trigram_(FM_HERE(c), __VA_ARGS__)

/* Same elements, other shape; shares storage and gradient. One dimension may be -1. */
fm_tensor *fm_reshape_(fm_ctx *c, fm_tensor *x, int n_dims, const int64_t *dim);
#define fm_reshape(c, ...)      fm_reshape_(FM_HERE(c), __VA_ARGS__)
#define fm_view2(c, x, a, b)    fm_reshape((c), (x), 2, (const int64_t[]){(a), (b)})
#define fm_view3(c, x, a, b, d) fm_reshape((c), (x), 3, (const int64_t[]){(a), (b), (d)})

/* ---- mixture of experts: E experts, K per token, N = T * K rows ---------------------------------- */

/* x [T,D], w [E,D] in the accumulation type -> [T,E] in the accumulation type: a product that is not rounded, whatever
 * the compute type (a router). */
fm_tensor *fm_linear_acc_(fm_ctx *c, fm_tensor *x, fm_tensor *w);
#define fm_linear_acc(c, ...) fm_linear_acc_(FM_HERE(c), __VA_ARGS__)
/* logits [T,E], bias [E] or NULL (no gradient) -> weights [T,K] of the chosen experts; *ids i32 [T,K], *scores [T,E]
 * (differentiable). See fm_route_args. The choice is constant for gradients: what is differentiated is the weight of
 * the experts that were chosen. */
fm_tensor *fm_route_(fm_ctx *c, fm_tensor *logits, fm_tensor *bias, const fm_router_rule *rule, fm_tensor **ids,
                     fm_tensor **scores);
#define fm_route(c, ...) fm_route_(FM_HERE(c), __VA_ARGS__)
/* Loss [1] over n pairs of scores and ids of one shape (layers), 1 where scores and choices are even; see
 * fm_balance_args. offsets outlives the tape. */
typedef struct fm_balance_options {
    int32_t n_segments;
    const int32_t *offsets; /* [n_segments+1], or NULL: all rows together */
    bool normalise;         /* scores do not add up to 1 (sigmoid) */
} fm_balance_options;
fm_tensor *fm_balance_loss_(fm_ctx *c, int n, fm_tensor *const *scores, fm_tensor *const *ids,
                            const fm_balance_options *o);
#define fm_balance_loss(c, ...) fm_balance_loss_(FM_HERE(c), __VA_ARGS__)
/* Assignments sorted by expert; see fm_expert_sort_args. */
typedef struct fm_dispatch {
    fm_tensor *offsets; /* i32 [E+1]; NULL: failed */
    fm_tensor *order;   /* i32 [N] */
    fm_tensor *row;     /* i32 [N] */
    int32_t n_experts, n_active;
} fm_dispatch;
fm_dispatch fm_expert_sort_(fm_ctx *c, fm_tensor *ids, int32_t n_experts);
#define fm_expert_sort(c, ...) fm_expert_sort_(FM_HERE(c), __VA_ARGS__)
/* Product of the rows of each expert with its own weight [n_out,K']; w[E], NULL for an expert without rows.
 *   GATHER   x [T,K'] -> [N,n_out]: sorted row r reads row order[r] / K of x
 *   ROWS     x [N,K'] -> [N,n_out]: sorted rows
 *   COMBINE  x [N,K'] -> [T,n_out]: sorted rows, summed over the experts of a token in the order of its choices
 * With w2 (GATHER and ROWS) *y2 is the same of a second set of weights. */
typedef enum fm_group_mode { FM_GROUP_GATHER, FM_GROUP_ROWS, FM_GROUP_COMBINE } fm_group_mode;
fm_tensor *fm_grouped_linear_(fm_ctx *c, fm_tensor *x, const fm_dispatch *d, fm_group_mode mode, int64_t n_out,
                              fm_tensor *const *w, fm_tensor *const *w2, fm_tensor **y2);
#define fm_grouped_linear(c, ...) fm_grouped_linear_(FM_HERE(c), __VA_ARGS__)
/* weights[order[r]] * act(gate[r,:]) * up[r,:]; weights [T,K] in the accumulation type. */
fm_tensor *fm_glu_rows_(fm_ctx *c, fm_tensor *gate, fm_tensor *up, fm_tensor *weights, fm_tensor *order, fm_act act);
#define fm_glu_rows(c, ...) fm_glu_rows_(FM_HERE(c), __VA_ARGS__)

typedef struct fm_loss_options {
    int32_t ignore_index; /* -100 by habit; targets equal to it carry no loss */
    float label_smoothing, z_loss;
    double scale;        /* multiplies the loss sum and its gradient: 1 / trained tokens of the whole step */
    const float *weight; /* [T] or NULL */
    /* The loss is the root and its upstream gradient is 1 (the trainer's case): gradients are formed in the forward
     * pass, chunk by chunk, so the head's product is not done twice. Backward fails if the upstream is not 1. Without
     * it the logits are computed again in backward. */
    bool is_root;
} fm_loss_options;
/* logits [T,V] (any dtype), targets i32 [T] -> [1] in A: scale * sum of losses. *token_loss ([T] A, or NULL) is not
 * differentiable. */
fm_tensor *fm_cross_entropy_(fm_ctx *c, fm_tensor *logits, fm_tensor *targets, const fm_loss_options *o,
                             fm_tensor **token_loss);
#define fm_cross_entropy(c, ...) fm_cross_entropy_(FM_HERE(c), __VA_ARGS__)
/* The same from x [T,D] and w [V,D], by chunks of rows: all logits are never held. */
fm_tensor *fm_linear_ce_(fm_ctx *c, fm_tensor *x, fm_tensor *w, fm_tensor *targets, const fm_loss_options *o,
                         fm_tensor **token_loss);
#define fm_linear_ce(c, ...) fm_linear_ce_(FM_HERE(c), __VA_ARGS__)

/* x [T,C], target [T,C] -> [1] in A: scale * sum over rows of weight * mean over columns; see fm_pointwise_loss_args.
 * target and weight are host arrays that outlive the tape. *row_loss ([T] A, or NULL) is not differentiable. */
typedef struct fm_pointwise_options {
    fm_pointwise_kind kind;
    const float *target; /* NaN = none */
    const float *weight; /* [T] or NULL */
    double scale;
} fm_pointwise_options;
fm_tensor *fm_pointwise_loss_(fm_ctx *c, fm_tensor *x, const fm_pointwise_options *o, fm_tensor **row_loss);
#define fm_pointwise_loss(c, ...) fm_pointwise_loss_(FM_HERE(c), __VA_ARGS__)
/* loss [1] and log-variances [n] of tasks -> [1] in A: exp(-s) loss, and s/2 more when it pays, s = log_var[index]. */
fm_tensor *fm_uncertainty_(fm_ctx *c, fm_tensor *loss, fm_tensor *log_var, int32_t index, bool pays);
#define fm_uncertainty(c, ...) fm_uncertainty_(FM_HERE(c), __VA_ARGS__)

#endif
