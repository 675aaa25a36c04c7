/* Rotary position embedding, in the storage of its input. */
#include "tensor/ops_util.h"

#include <math.h>

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_rope_options *o = n->attr;
    const fm_tensor *x = n->in[0];
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 3, NULL));
    FM_TRY(fm_in_activation(n, 0, "x"));
    FM_TRY(fm_in_check(n, 1, "pos", FM_I32, 1, x->dim));
    if (x->dim[1] > INT32_MAX || x->dim[2] > INT32_MAX || !o->freq || o->n_freqs < 1 || o->first < 0 ||
        o->first + 2 * (int64_t)o->n_freqs > x->dim[2]) {
        FM_FAIL(FM_ERR_SHAPE, "options: expected 1 to %lld frequencies (half the head size), found %d%s",
                (long long)x->dim[2] / 2, (int)o->n_freqs, o->freq ? "" : " and no table");
    }
    n->keeps_out[0] = false;
    return fm_node_out_inplace(c, n, 0) ? FM_OK : fm_ctx_status(c);
}

static fm_rope_args args_of(fm_ctx *c, const fm_node *n) {
    const fm_rope_options *o = n->attr;
    const fm_tensor *x = n->in[0];
    return (fm_rope_args){
        .n_tokens = x->dim[0],
        .n_heads = (int32_t)x->dim[1],
        .head_dim = (int32_t)x->dim[2],
        .n_freqs = o->n_freqs,
        .first = o->first,
        .interleaved = o->interleaved,
        .sign = 1,
        .mscale = o->mscale == 0 ? 1 : o->mscale,
        .pos = fm_data(c, n->in[1]),
        .freq = o->freq,
    };
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    fm_rope_args a = args_of(c, n);
    a.x = fm_data(c, n->in[0]);
    a.y = fm_data(c, n->out[0]);
    return fm_op_run(c, FM_K_rope, n->in[0]->dtype, &a);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    if (!fm_wants(n, 0)) {
        return FM_OK;
    }
    fm_rope_args a = args_of(c, n);
    a.sign = -1;
    a.x = fm_dout(c, n, 0);
    FM_TRY(fm_dmove(c, n, 0, 0, &a.y, &a.acc_y));
    return fm_op_run(c, FM_K_rope, n->in[0]->dtype, &a);
}

static const double freqs[8] = {1.0, 0.37, 0.11, 0.049, 0.013, 0.0043, 0.0011, 0.00029};

static int run_with(fm_ctx *c, fm_tensor **in, fm_tensor **out, fm_rope_options o) {
    out[0] = fm_rope(c, in[0], in[1], &o);
    return out[0] ? 1 : 0;
}
static int run_half(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return run_with(c, in, out, (fm_rope_options){.freq = freqs, .n_freqs = (int32_t)(in[0]->dim[2] / 2)});
}
static int run_pairs(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return run_with(c, in, out,
                    (fm_rope_options){.freq = freqs, .n_freqs = (int32_t)(in[0]->dim[2] / 2), .interleaved = true});
}
static int run_partial(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return run_with(c, in, out, (fm_rope_options){.freq = freqs, .n_freqs = 3, .mscale = 1.25f});
}
static int run_tail(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return run_with(c, in, out, (fm_rope_options){.freq = freqs, .n_freqs = 2, .first = 3, .interleaved = true});
}
static int run_partial_pairs(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return run_with(c, in, out, (fm_rope_options){.freq = freqs, .n_freqs = 3, .interleaved = true, .mscale = 0.75f});
}
/* The rotated value and its input are both used: gradients meet. (The add runs first: rope overwrites its input.) */
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    out[1] = fm_add(c, in[0], in[0]);
    return run_half(c, in, n_rows, out) && out[1] ? 2 : 0;
}

/* y = x * C + (x R^T) * S with tables C, S [T,H,Dh] and the rotation R [Dh,Dh] of signed unit entries. */
#define DEC_T 5
#define DEC_H 2
#define DEC_D 10
static int decomposed_with(fm_ctx *c, fm_tensor **in, fm_tensor **out, int n_freqs, bool interleaved, double mscale) {
    static double rot[DEC_D * DEC_D], cosine[DEC_T * DEC_H * DEC_D], sine[DEC_T * DEC_H * DEC_D];
    for (int i = 0; i < DEC_D * DEC_D; i++) {
        rot[i] = 0;
    }
    for (int i = 0; i < DEC_T * DEC_H * DEC_D; i++) {
        cosine[i] = 1;
        sine[i] = 0;
    }
    for (int f = 0; f < n_freqs; f++) {
        int a = interleaved ? 2 * f : f, b = interleaved ? 2 * f + 1 : f + n_freqs;
        rot[a * DEC_D + b] = -1;
        rot[b * DEC_D + a] = 1;
        for (int th = 0; th < DEC_T * DEC_H; th++) {
            int t = th / DEC_H;
            double angle = t * freqs[f];
            cosine[th * DEC_D + a] = cosine[th * DEC_D + b] = cos(angle) * mscale;
            sine[th * DEC_D + a] = sine[th * DEC_D + b] = sin(angle) * mscale;
        }
    }
    const int64_t *dim = in[0]->dim;
    fm_tensor *turned = fm_linear(c, in[0], fm_from_memory(c, FM_F64, 2, (int64_t[]){DEC_D, DEC_D}, rot), NULL);
    fm_tensor *s = fm_mul(c, turned, fm_from_memory(c, FM_F64, 3, dim, sine));
    out[0] = fm_add(c, fm_mul(c, in[0], fm_from_memory(c, FM_F64, 3, dim, cosine)), s);
    return out[0] ? 1 : 0;
}
static int decomposed_half(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return decomposed_with(c, in, out, DEC_D / 2, false, 1);
}
static int decomposed_pairs(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return decomposed_with(c, in, out, DEC_D / 2, true, 1);
}
static int decomposed_partial(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return decomposed_with(c, in, out, 3, false, 1.25);
}
static int decomposed_partial_pairs(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return decomposed_with(c, in, out, 3, true, 0.75);
}

#define IN(T, H, D)                                                                                                    \
    .n_in = 2, .in = {{.name = "x", .n_dims = 3, .dim = {T, H, D}, .rows = true},                                      \
                      {.name = "pos", .n_dims = 1, .dim = {T}, .kind = FM_IN_POS, .rows = true}}
#define DEC IN(DEC_T, DEC_H, DEC_D)
static const fm_op_case cases[] = {
    {.name = "half", DEC, .run = run_half, .decomposed = decomposed_half, .row_invariant = true},
    {.name = "interleaved", DEC, .run = run_pairs, .decomposed = decomposed_pairs, .row_invariant = true},
    {.name = "partial", DEC, .run = run_partial, .decomposed = decomposed_partial, .row_invariant = true},
    {.name = "partial interleaved",
     DEC,
     .run = run_partial_pairs,
     .decomposed = decomposed_partial_pairs,
     .row_invariant = true},
    {.name = "tail", IN(5, 2, 9), .run = run_tail, .row_invariant = true},
    {.name = "twice", IN(4, 3, 8), .run = run_twice},
    {.name = "large", IN(131, 5, 16), .run = run_half, .row_invariant = true},
    {.name = "large interleaved", IN(131, 5, 16), .run = run_pairs, .row_invariant = true},
};

const fm_op fm_op_rope = {
    .name = "rope",
    .formula = "(x_a, x_b) turned by pos * freq_i",
    .onnx = "Mul, Cos, Sin, Slice, Neg, Concat, Add",
    .kernels = {FM_K_rope, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 4,
    .tol_bwd = 4,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_rope_(fm_ctx *c, fm_tensor *x, fm_tensor *pos, const fm_rope_options *o) {
    return fm_apply(c, &fm_op_rope, 2, 2, (fm_tensor *[]){x, pos}, o, sizeof *o, NULL);
}
