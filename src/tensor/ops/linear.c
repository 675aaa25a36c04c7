/* Matrix product with a weight stored [out,in], and an optional bias. */
#include <string.h>

#include "backend/scratch.h"
#include "tensor/dora.h"
#include "tensor/ctx.h"
#include "tensor/ops_util.h"
#include "tensor/param.h"

static fm_status shape(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0], *w = n->in[1];
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 0, NULL));
    FM_TRY(fm_in_check(n, 1, "w", (int)x->dtype, 2, (int64_t[]){-1, fm_last(x)}));
    FM_TRY(fm_in_vector(n, 2, "b", w->dim[0], 1));
    if (w->dim[0] < 1 || w->dim[1] < 1) {
        FM_FAIL(FM_ERR_SHAPE, "input w: expected at least one row and column, found [%lld,%lld]", (long long)w->dim[0],
                (long long)w->dim[1]);
    }
    n->keeps_in[0] = fm_wants(n, 1);
    n->keeps_in[1] = fm_wants(n, 0);
    n->keeps_in[2] = false;
    n->keeps_out[0] = false;
    int64_t dim[FM_MAX_DIMS];
    memcpy(dim, x->dim, sizeof dim);
    dim[x->n_dims - 1] = w->dim[0];
    return fm_make_out(c, n, x->dtype, x->n_dims, dim);
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0], *w = n->in[1];
    fm_matmul_args a = {
        .m = fm_rows(x),
        .n = w->dim[0],
        .k = w->dim[1],
        .a = fm_data(c, x),
        .lda = w->dim[1],
        .c = fm_data(c, n->out[0]),
        .ldc = w->dim[0],
        .c_dtype = x->dtype,
        .bias = fm_data(c, n->in[2]),
    };
    return fm_weight_product(c, w, &a, x->dtype);
}

/* The product adds only into the accumulation type, so a narrower dx goes through a temporary when it holds something
 * already. */
fm_status fm_linear_dx(fm_ctx *c, fm_node *n, int i_x, int i_w) {
    const fm_tensor *x = n->in[i_x], *w = n->in[i_w];
    fm_dwrite dx = {0};
    fm_matmul_args a = {
        .m = fm_rows(x),
        .n = w->dim[1],
        .k = w->dim[0],
        .a = fm_dout(c, n, 0),
        .lda = w->dim[0],
        .ldb = w->dim[1],
        .ldc = w->dim[1],
        .c_dtype = x->dtype,
    };
    fm_scratch *scratch = fm_ctx_is_meta(c) ? NULL : fm_ctx_exec(c)->scratch;
    fm_scratch_mark mark = scratch ? fm_scratch_save(scratch) : (fm_scratch_mark){0};
    FM_TRY(fm_weight_numbers(c, w, x->dtype, &a.b));
    bool direct = x->dtype == fm_dtype_acc(x->dtype);
    if (direct) {
        FM_TRY(fm_din(c, n, i_x, &a.c, &a.accumulate));
    } else {
        FM_TRY(fm_dwrite_begin(c, n, i_x, &dx));
        a.c = dx.data;
    }
    fm_status s = fm_op_run(c, FM_K_matmul, x->dtype, &a);
    if (scratch) {
        fm_scratch_restore(scratch, mark);
    }
    FM_TRY(s);
    return direct ? FM_OK : fm_dwrite_end(c, &dx);
}

fm_status fm_linear_dw(fm_ctx *c, fm_node *n, int i_x, int i_w) {
    const fm_tensor *x = n->in[i_x], *w = n->in[i_w];
    int64_t rows = fm_rows(x);
    if (rows == 0) { /* a product over no rows writes nothing */
        void *dw;
        return fm_dweight_add(c, n, i_w, &dw);
    }
    fm_matmul_args a = {
        .m = w->dim[0],
        .n = w->dim[1],
        .k = rows,
        .a = fm_dout(c, n, 0),
        .lda = w->dim[0],
        .trans_a = true,
        .b = fm_data(c, x),
        .ldb = w->dim[1],
        .ldc = w->dim[1],
        .c_dtype = fm_dtype_acc(x->dtype),
    };
    FM_TRY(fm_dweight(c, n, i_w, &a.c, &a.accumulate));
    return fm_op_run(c, FM_K_matmul, x->dtype, &a);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    const fm_tensor *x = n->in[0], *w = n->in[1];
    int64_t rows = fm_rows(x);
    FM_TRY(fm_wants(n, 0) ? fm_linear_dx(c, n, 0, 1) : FM_OK);
    FM_TRY(fm_wants(n, 1) ? fm_linear_dw(c, n, 0, 1) : FM_OK);
    if (fm_wants(n, 2) && rows == 0) {
        void *db;
        FM_TRY(fm_dweight_add(c, n, 2, &db));
    } else if (fm_wants(n, 2)) {
        fm_bias_grad_args a = {.m = rows, .n = w->dim[0], .dy = fm_dout(c, n, 0)};
        FM_TRY(fm_dweight(c, n, 2, &a.dbias, &a.acc_dbias));
        FM_TRY(fm_op_run(c, FM_K_bias_grad, x->dtype, &a));
    }
    return FM_OK;
}

static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_linear(c, in[0], in[1], in[2]);
    return out[0] ? 1 : 0;
}
/* x reaches the loss twice, so that the second gradient of x and of w is added. */
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    out[0] = fm_linear(c, in[0], in[1], in[2]);
    out[1] = fm_linear(c, in[0], in[1], NULL);
    return out[0] && out[1] ? 2 : 0;
}
/* With packed weights, where the backend packs. */
static int run_packed(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    fm_ctx_set_pack(c, true);
    int r = run(c, in, n_rows, out);
    fm_ctx_set_pack(c, false);
    return r;
}

/* With a quantised weight: the harness's w is not read, its shape is. */
static int run_quantised(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    static const fm_dtype types[] = {FM_Q8_0, FM_Q4_K};
    static uint8_t blocks[FM_ARRAY_LEN(types)][16384];
    int64_t n = in[1]->dim[0], k = in[1]->dim[1];
    fm_params *ps;
    int made = 0;
    fm_ctx_set_pack(c, true);
    if (fm_params_new(&ps) != FM_OK) {
        return 0;
    }
    for (size_t t = 0; t < FM_ARRAY_LEN(types); t++) {
        const fm_dtype_info *info = fm_dtype_get(types[t]);
        int64_t bytes = fm_dtype_bytes(types[t], n * k);
        FM_ASSERT(bytes > 0 && bytes <= (int64_t)sizeof blocks[0]);
        for (int64_t i = 0; i < bytes; i++) {
            blocks[t][i] = (uint8_t)(i * 151 + i / 7);
        }
        for (int64_t i = 0; i < bytes; i += info->block_bytes) {
            fm_store_from_f64(FM_F16, blocks[t] + i, 0, 0.001 * (double)(i % 11 + 1)); /* factors that stay finite */
            if (types[t] == FM_Q4_K) {
                fm_store_from_f64(FM_F16, blocks[t] + i, 1, 0.002 * (double)(i % 5));
            }
        }
        fm_param *p = NULL;
        fm_param_desc d = {.name = info->name, .n_dims = 2, .dim = {n, k}};
        if (fm_params_add(ps, &d, &p) == FM_OK) {
            p->frozen = true;
            fm_param_set_external(p, types[t], blocks[t], FM_STORAGE_EXTERNAL);
            out[t] = fm_linear(c, in[0], fm_leaf(c, p), in[2]);
            made += out[t] != NULL;
        }
    }
    fm_ctx_set_pack(c, false);
    fm_params_free(ps); /* nothing is recorded: neither x nor these have a gradient */
    return made == (int)FM_ARRAY_LEN(types) ? made : 0;
}

#define X(...)                                                                                                         \
    { .name = "x", .n_dims = sizeof((int64_t[]){__VA_ARGS__}) / 8, .dim = {__VA_ARGS__}, .rows = true }
#define W(N, K)                                                                                                        \
    { .name = "w", .n_dims = 2, .dim = {N, K}, .scale = 0.25, .weight = true }
#define B(N)                                                                                                           \
    { .name = "b", .n_dims = 1, .dim = {N}, .weight = true }
static const fm_op_case cases[] = {
    {.name = "odd", .n_in = 2, .in = {X(5, 7), W(3, 7)}, .run = run, .row_invariant = true},
    {.name = "bias", .n_in = 3, .in = {X(9, 17), W(13, 17), B(13)}, .run = run, .row_invariant = true},
    {.name = "three dims", .n_in = 3, .in = {X(4, 3, 6), W(5, 6), B(5)}, .run = run, .row_invariant = true},
    {.name = "one row", .n_in = 3, .in = {X(1, 33), W(34, 33), B(34)}, .run = run},
    {.name = "vector", .n_in = 2, .in = {{.name = "x", .n_dims = 1, .dim = {8}}, W(4, 8)}, .run = run},
    {.name = "twice", .n_in = 3, .in = {X(6, 8), W(10, 8), B(10)}, .run = run_twice},
    {.name = "no grad of x",
     .n_in = 2,
     .in = {{.name = "x", .n_dims = 2, .dim = {6, 8}, .no_grad = true}, W(10, 8)},
     .run = run},
    {.name = "large", .n_in = 3, .in = {X(131, 259), W(150, 259), B(150)}, .run = run, .row_invariant = true},
    {.name = "deep", .n_in = 2, .in = {X(37, 1031), W(65, 1031)}, .run = run, .row_invariant = true},
    {.name = "quantised",
     .n_in = 3,
     .in = {{.name = "x", .n_dims = 2, .dim = {21, 256}, .rows = true, .no_grad = true},
            {.name = "w", .n_dims = 2, .dim = {37, 256}, .weight = true, .no_grad = true},
            {.name = "b", .n_dims = 1, .dim = {37}, .weight = true, .no_grad = true}},
     .run = run_quantised,
     .row_invariant = true},
    {.name = "packed", .n_in = 3, .in = {X(35, 96), W(80, 96), B(80)}, .run = run_packed, .row_invariant = true},
};
#undef X
#undef W
#undef B

const fm_op fm_op_linear = {
    .name = "linear",
    .formula = "y = x w^T + b",
    .onnx = "Transpose, MatMul, Add",
    .kernels = {FM_K_matmul, FM_K_bias_grad, FM_K_quant_matmul, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 16,
    .tol_bwd = 12,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

/* A x, scaled. */
static fm_tensor *lower(fm_ctx *c, fm_tensor *x, const fm_lora *l) {
    return fm_scale(c, fm_linear(c, x, fm_leaf(c, l->a), NULL), (double)l->scale);
}

/* As PEFT computes it: dropout leaves W x as it is and falls on what is added to it. */
static fm_tensor *dora(fm_ctx *c, fm_tensor *x, fm_tensor *w, fm_tensor *b, const fm_lora *l) {
    fm_tensor *dropped = l->dropout > 0 ? fm_dropout(c, x, l->dropout, l->stream) : x, *rest = NULL;
    fm_tensor *base = fm_apply(c, &fm_op_linear, 2, 3, (fm_tensor *[]){dropped, w, NULL}, NULL, 0, NULL);
    if (dropped != x) {
        fm_tensor *whole = fm_apply(c, &fm_op_linear, 2, 3, (fm_tensor *[]){x, w, NULL}, NULL, 0, NULL);
        rest = fm_add(c, whole, fm_scale(c, base, -1)); /* before the base becomes the sum */
    }
    fm_tensor *sum = fm_linear_add(c, base, lower(c, dropped, l), fm_leaf(c, l->b));
    fm_tensor *y = fm_dora_scale(c, sum, fm_leaf(c, l->magnitude), fm_dora_inverse(c, w, l), b);
    return dropped == x ? y : fm_add(c, y, rest);
}

/* y += scale B A x in the rows of each part. */
static fm_tensor *add_parts(fm_ctx *c, const fm_lora_mix *mix, fm_tensor *x, const fm_param *w, fm_tensor *y) {
    for (int i = 0; i < mix->n_parts; i++) {
        const fm_lora_part *p = &mix->part[i];
        const fm_lora_entry *l = &p->lora[w->index];
        if (l->weight != w || !l->lora) {
            continue;
        }
        FM_ASSERT(x && fm_rows(x) == mix->n_rows && x->n_dims == 2);
        fm_tensor *idx = fm_from_memory(c, FM_I32, 1, (int64_t[]){p->n}, (void *)(uintptr_t)p->rows);
        fm_tensor *low = fm_linear(c, fm_gather(c, x, idx), fm_leaf(c, l->lora->a), NULL);
        fm_tensor *add = fm_linear(c, fm_scale(c, low, (double)l->lora->scale), fm_leaf(c, l->lora->b), NULL);
        if (!add) {
            return NULL;
        }
        fm_rows_args a = {.n = p->n, .dim = fm_last(y), .idx = p->rows, .x = fm_data(c, y), .y = fm_data(c, add)};
        if (!fm_ctx_is_meta(c) && fm_op_run(c, FM_K_scatter_add_rows, y->dtype, &a) != FM_OK) {
            fm_ctx_fail(c, fm_error_get().status);
            return NULL;
        }
    }
    return y;
}

/* Adapters have no adapters: their own products are plain, and their parameters are not the model's, whose index the
 * tables go by. */
static fm_tensor *add_mix(fm_ctx *c, fm_tensor *x, const fm_param *w, fm_tensor *y) {
    const fm_lora_mix *mix = c->mix;
    c->mix = NULL;
    y = add_parts(c, mix, x, w, y);
    c->mix = mix;
    return y;
}

fm_tensor *fm_linear_(fm_ctx *c, fm_tensor *x, fm_tensor *w, fm_tensor *b) {
    const fm_lora *l = w && w->param ? w->param->lora : NULL;
    if (l && x && l->magnitude) {
        return dora(c, x, w, b, l);
    }
    fm_tensor *y = fm_apply(c, &fm_op_linear, 2, 3, (fm_tensor *[]){x, w, b}, NULL, 0, NULL);
    if (y && w && c->mix && w->param) {
        y = add_mix(c, x, w->param, y);
    }
    if (!l || !y) {
        return y;
    }
    fm_tensor *dropped = l->dropout > 0 ? fm_dropout(c, x, l->dropout, l->stream) : x;
    return fm_linear_add(c, y, lower(c, dropped, l), fm_leaf(c, l->b));
}
