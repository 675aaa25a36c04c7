/* Each row with its two neighbours in the same segment: the input of MobileBERT (Sun et al. 2020). */
#include "tensor/ops_util.h"

typedef struct attr {
    int32_t n_segments;
    const int32_t *offsets;
} attr;

static fm_status shape(fm_ctx *c, fm_node *n) {
    const attr *a = n->attr;
    const fm_tensor *x = n->in[0];
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 2, NULL));
    for (int32_t s = 0; s < a->n_segments; s++) {
        if (a->offsets[s + 1] < a->offsets[s]) {
            FM_FAIL(FM_ERR_SHAPE, "offsets: expected rising ones, found %d after %d at segment %d",
                    (int)a->offsets[s + 1], (int)a->offsets[s], (int)s);
        }
    }
    if (a->n_segments < 1 || a->offsets[0] != 0 || a->offsets[a->n_segments] != x->dim[0]) {
        FM_FAIL(FM_ERR_SHAPE, "offsets: expected %d segments over %lld rows, found %d to %d", (int)a->n_segments,
                (long long)x->dim[0], a->n_segments < 1 ? 0 : (int)a->offsets[0],
                a->n_segments < 1 ? 0 : (int)a->offsets[a->n_segments]);
    }
    n->keeps_in[0] = n->keeps_out[0] = false;
    return fm_make_out(c, n, x->dtype, 2, (int64_t[]){x->dim[0], 3 * x->dim[1]});
}

static void *at(void *p, fm_dtype d, int64_t i) {
    return p ? (uint8_t *)p + fm_dtype_bytes(d, i) : NULL;
}

/* Columns [0,E) of rows [b, e-1) are x of the next row, [2E,3E) of rows [b+1, e) x of the one before. Forward copies
 * from x to y, backward adds from dy to dx. */
static fm_status sides(fm_ctx *c, const fm_node *n, void *x, void *y, bool forward) {
    const attr *a = n->attr;
    fm_dtype d = n->in[0]->dtype;
    int64_t e = n->in[0]->dim[1];
    for (int32_t s = 0; s < a->n_segments; s++) {
        int64_t b = a->offsets[s], rows = a->offsets[s + 1] - b - 1;
        for (int side = 0; side < 2 && rows > 0; side++) {
            void *in_x = at(x, d, (b + (side ? 0 : 1)) * e);
            void *in_y = at(y, d, (b + (side ? 1 : 0)) * 3 * e + (side ? 2 * e : 0));
            fm_copy_block_args k = {.n_rows = rows,
                                    .dim = e,
                                    .x_stride = forward ? e : 3 * e,
                                    .y_stride = forward ? 3 * e : e,
                                    .x = forward ? in_x : in_y,
                                    .y = forward ? in_y : in_x,
                                    .acc_y = !forward};
            FM_TRY(fm_op_run(c, FM_K_copy_block, d, &k));
        }
    }
    return FM_OK;
}

static fm_status middle(fm_ctx *c, const fm_node *n, void *x, void *y, bool forward, bool acc) {
    fm_dtype d = n->in[0]->dtype;
    int64_t e = n->in[0]->dim[1];
    void *in_y = at(y, d, e);
    fm_copy_block_args k = {.n_rows = n->in[0]->dim[0],
                            .dim = e,
                            .x_stride = forward ? e : 3 * e,
                            .y_stride = forward ? 3 * e : e,
                            .x = forward ? x : in_y,
                            .y = forward ? in_y : x,
                            .acc_y = acc};
    return fm_op_run(c, FM_K_copy_block, d, &k);
}

static fm_status forward(fm_ctx *c, fm_node *n) {
    void *y = fm_data(c, n->out[0]), *x = fm_data(c, n->in[0]);
    FM_TRY(fm_op_zero(c, n->in[0]->dtype, fm_numel(n->out[0]), y));
    FM_TRY(middle(c, n, x, y, true, false));
    return sides(c, n, x, y, true);
}

static fm_status backward(fm_ctx *c, fm_node *n) {
    void *dx, *dy = fm_dout(c, n, 0);
    bool acc;
    if (!fm_wants(n, 0)) {
        return FM_OK;
    }
    FM_TRY(fm_din(c, n, 0, &dx, &acc));
    FM_TRY(middle(c, n, dx, dy, false, acc));
    return sides(c, n, dx, dy, false);
}

static const int32_t three[] = {0, 4, 5, 9}, gap[] = {0, 0, 7}, large[] = {0, 30, 31, 67};
#define RUN(name, off)                                                                                                 \
    static int name(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {                                      \
        FM_UNUSED(n_rows);                                                                                             \
        out[0] = fm_trigram(c, in[0], (int32_t)FM_ARRAY_LEN(off) - 1, off);                                            \
        return out[0] ? 1 : 0;                                                                                         \
    }
RUN(run_three, three)
RUN(run_gap, gap)
RUN(run_large, large)
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    int r = run_three(c, in, n_rows, out);
    out[1] = fm_scale(c, in[0], 2); /* its gradient is there when that of the op arrives */
    return r && out[1] ? 2 : 0;
}
/* Rows chosen from x with a row of zeros behind it, which x brings along. */
static int run_one(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    static const int32_t one[] = {0, 5};
    out[0] = fm_trigram(c, fm_scale(c, in[0], 1), 1, one);
    return out[0] ? 1 : 0;
}
#define E 3
static int decomposed_one(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    static int32_t next[] = {1, 2, 3, 4, 4}, before[] = {0, 0, 1, 2, 3};
    static double place[3][3 * E * E], edge[2][5 * 3 * E];
    fm_tensor *sum = NULL;
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < E; i++) {
            place[k][(k * E + i) * E + i] = 1;
        }
    }
    for (int r = 0; r < 5; r++) { /* the rows at the edges have no neighbour on that side */
        for (int j = 0; j < 3 * E; j++) {
            edge[0][r * 3 * E + j] = r < 4;
            edge[1][r * 3 * E + j] = r > 0;
        }
    }
    for (int k = 0; k < 3; k++) {
        fm_tensor *x = in[0];
        if (k != 1) {
            x = fm_gather(c, x, fm_from_memory(c, FM_I32, 1, (int64_t[]){5}, k == 0 ? next : before));
        }
        x = fm_linear(c, x, fm_from_memory(c, FM_F64, 2, (int64_t[]){3 * E, E}, place[k]), NULL);
        if (k != 1) {
            x = fm_mul(c, x, fm_from_memory(c, FM_F64, 2, (int64_t[]){5, 3 * E}, edge[k / 2]));
        }
        sum = sum ? fm_add(c, sum, x) : x;
    }
    out[0] = sum;
    return sum ? 1 : 0;
}

#define IN(T, D) .n_in = 1, .in = {{.name = "x", .n_dims = 2, .dim = {T, D}}}
static const fm_op_case cases[] = {
    {.name = "segments", IN(9, 7), .run = run_three},
    {.name = "empty segment", IN(7, 5), .run = run_gap},
    {.name = "one segment", IN(5, E), .run = run_one, .decomposed = decomposed_one},
    {.name = "twice", IN(9, 4), .run = run_twice},
    {.name = "large", IN(67, 129), .run = run_large},
};

const fm_op fm_op_trigram = {
    .name = "trigram",
    .formula = "y[t] = x[t+1], x[t], x[t-1] side by side, zeros beyond the segment",
    .onnx = "Pad, Slice, Concat",
    .kernels = {FM_K_copy_block, FM_K_fill, FM_KERNEL_COUNT},
    .shape = shape,
    .forward = forward,
    .backward = backward,
    .tol_fwd = 0,
    .tol_bwd = 3,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};

fm_tensor *fm_trigram_(fm_ctx *c, fm_tensor *x, int32_t n_segments, const int32_t *offsets) {
    attr a = {.n_segments = n_segments, .offsets = offsets};
    return fm_apply(c, &fm_op_trigram, 1, 1, &x, &a, sizeof a, NULL);
}
