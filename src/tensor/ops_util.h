/* What the files of ops/ share beyond tensor.h: checks of inputs with exact messages, temporary memory, and gradients
 * of kernels that can only write, not add. */
#ifndef FM_TENSOR_OPS_UTIL_H
#define FM_TENSOR_OPS_UTIL_H

#include "tensor/ops.h"

#define FM_OP(name) extern const fm_op fm_op_##name;
#include "tensor/ops.def"
#undef FM_OP

#define FM_ANY_FLOAT (-1) /* f64, f32, bf16 or f16 */

/* Checks input i: dense, of type dtype (or FM_ANY_FLOAT), with n_dims dimensions (0 = any number) equal to dim
 * (-1 = any; dim NULL = all any). The message says which input, what was expected and what was found. */
FM_MUST_CHECK fm_status fm_in_check(const fm_node *n, int i, const char *name, int dtype, int n_dims,
                                    const int64_t *dim);
/* Input i has the dtype and dimensions of input j. */
FM_MUST_CHECK fm_status fm_in_like(const fm_node *n, int i, const char *name, int j);
/* Input i (optional: NULL passes) is [len] of the dtype of input j. */
FM_MUST_CHECK fm_status fm_in_vector(const fm_node *n, int i, const char *name, int64_t len, int j);
/* Input i is not a trainable parameter (its gradient could not be shared with an activation). */
FM_MUST_CHECK fm_status fm_in_activation(const fm_node *n, int i, const char *name);
/* Every element of the i32 array lies in [0, limit) or equals *also (NULL: no such value). For devices that run. */
FM_MUST_CHECK fm_status fm_ids_check(const char *name, const int32_t *ids, int64_t n, int64_t limit,
                                     const int32_t *also);

/* Outputs and saved tensors as a status: the tensor is n->out[] / n->saved[]. */
FM_MUST_CHECK fm_status fm_make_out(fm_ctx *c, fm_node *n, fm_dtype dtype, int n_dims, const int64_t *dim);
FM_MUST_CHECK fm_status fm_make_save(fm_ctx *c, fm_node *n, fm_dtype dtype, int n_dims, const int64_t *dim);

/* fm_run after a look at the context: the arguments were filled by fm_data, which may have failed it. */
FM_MUST_CHECK fm_status fm_op_run(fm_ctx *c, fm_kernel k, fm_dtype d, const void *args);
/* y = 0, or y += x, over n elements. */
FM_MUST_CHECK fm_status fm_op_zero(fm_ctx *c, fm_dtype d, int64_t n, void *y);
FM_MUST_CHECK fm_status fm_op_add_to(fm_ctx *c, fm_dtype d, int64_t n, const void *x, void *y);

/* A tensor of the same bytes under other dimensions: storage, parameter and gradient root are those of x. */
fm_tensor *fm_alias(fm_ctx *c, fm_tensor *x, int n_dims, const int64_t *dim);

/* Temporary memory from the gradient region, legal in shape, forward and backward. A failing op may leave it: the
 * region is emptied by the next fm_tape_begin or fm_ctx_reset. */
typedef struct fm_temp {
    void *data; /* NULL on meta */
    fm_grad *grad;
} fm_temp;
FM_MUST_CHECK fm_status fm_temp_take(fm_ctx *c, fm_temp *t, fm_dtype d, int64_t numel);
void fm_temp_drop(fm_ctx *c, fm_temp *t);

/* Gradient of activation input i for a kernel that writes with =. Between begin and end, write w.data; end adds it when
 * a gradient was there already. begin of one input must precede begin of the next one; w.data is never shared, so
 * several may be open at once, also when they are the same tensor. */
typedef struct fm_dwrite {
    void *data;
    void *sum; /* what data is added to, or NULL */
    fm_dtype dtype;
    int64_t numel;
    fm_temp temp;
} fm_dwrite;
FM_MUST_CHECK fm_status fm_dwrite_begin(fm_ctx *c, fm_node *n, int i, fm_dwrite *w);
/* As begin; may hand over the buffer of output o's gradient, so the kernel must allow dx to be dy. The last one opened,
 * with those of other inputs ended. */
FM_MUST_CHECK fm_status fm_dwrite_begin_move(fm_ctx *c, fm_node *n, int o, int i, fm_dwrite *w);
FM_MUST_CHECK fm_status fm_dwrite_end(fm_ctx *c, fm_dwrite *w);

/* One gradient for several inputs: take gives a private buffer of the shape of output o (that output's gradient itself
 * when nobody else holds it); after it was written, fm_dgive each input, then fm_temp_drop. */
FM_MUST_CHECK fm_status fm_dtake(fm_ctx *c, fm_node *n, int o, fm_temp *t);
FM_MUST_CHECK fm_status fm_dgive(fm_ctx *c, fm_node *n, int i, fm_temp *t);

/* Gradients of y = x w^T (out 0) for inputs i_x, which wants one, and i_w: dx = dy w and dw = dy^T x. */
FM_MUST_CHECK fm_status fm_linear_dx(fm_ctx *c, fm_node *n, int i_x, int i_w);
FM_MUST_CHECK fm_status fm_linear_dw(fm_ctx *c, fm_node *n, int i_x, int i_w);

/* sum, mean and sum_all: y[r] = scale * sum_j x[r,j]. */
typedef struct fm_reduce_attr {
    bool all, mean; /* one row of everything; scale 1/dim */
} fm_reduce_attr;
FM_MUST_CHECK fm_status fm_reduce_shape(fm_ctx *c, fm_node *n);
FM_MUST_CHECK fm_status fm_reduce_forward(fm_ctx *c, fm_node *n);
FM_MUST_CHECK fm_status fm_reduce_backward(fm_ctx *c, fm_node *n);

/* Shared by the losses. Outputs: [1] A total, [T] A token losses. */
FM_MUST_CHECK fm_status fm_loss_shape(fm_ctx *c, fm_node *n, int i_targets, int64_t n_rows, int64_t n_classes,
                                      fm_dtype acc, const fm_loss_options *o);
/* total = scale * sum of token losses. */
FM_MUST_CHECK fm_status fm_loss_total(fm_ctx *c, fm_node *n, double scale);
/* Gradient that reached the total; 1 on meta. With is_root, fails when it is not 1. */
FM_MUST_CHECK fm_status fm_loss_upstream(fm_ctx *c, fm_node *n, const fm_loss_options *o, double *out);
/* Rows of logits held at a time: about 8 MiB in A, a multiple of 64, at least 64, at most n_rows. */
int64_t fm_loss_chunk(int64_t n_rows, int64_t n_classes);

#endif
