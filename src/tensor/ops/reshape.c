/* Other dimensions over the same elements. Nothing is computed and no node is recorded: the result shares storage and
 * gradient with its input. */
#include "tensor/ops_util.h"

static fm_status dims_of(const fm_tensor *x, int n_dims, const int64_t *dim, int64_t *out) {
    if (n_dims < 1 || n_dims > FM_MAX_DIMS) {
        FM_FAIL(FM_ERR_SHAPE, "reshape: expected 1 to %d dimensions, found %d", FM_MAX_DIMS, n_dims);
    }
    int free_dim = -1;
    int64_t known = 1, numel = fm_numel(x);
    char found[96];
    for (int i = 0; i < n_dims; i++) {
        out[i] = dim[i];
        bool second = dim[i] == -1 && free_dim >= 0;
        if (dim[i] < -1 || second) {
            FM_FAIL(FM_ERR_SHAPE, "reshape: dimension %d is %lld; one may be -1, the others at least 0", i,
                    (long long)dim[i]);
        }
        if (dim[i] == -1) {
            free_dim = i;
        } else if (dim[i] > 0 && known > INT64_MAX / dim[i]) {
            FM_FAIL(FM_ERR_SHAPE, "reshape: dimension %d of %lld is too large", i, (long long)dim[i]);
        } else {
            known *= dim[i];
        }
    }
    if (free_dim >= 0) {
        out[free_dim] = known > 0 && numel % known == 0 ? numel / known : 0;
        known *= out[free_dim];
    }
    if (known != numel) {
        FM_FAIL(FM_ERR_SHAPE, "reshape: expected dimensions of %lld elements for x %s, found %lld", (long long)numel,
                fm_tensor_describe(found, sizeof found, x), (long long)known);
    }
    if (!fm_contiguous(x)) {
        FM_FAIL(FM_ERR_SHAPE, "reshape: expected dense rows, found %s with strides",
                fm_tensor_describe(found, sizeof found, x));
    }
    return FM_OK;
}

fm_tensor *fm_reshape_(fm_ctx *c, fm_tensor *x, int n_dims, const int64_t *dim) {
    int64_t d[FM_MAX_DIMS];
    if (!x || fm_ctx_status(c) != FM_OK) {
        return NULL;
    }
    fm_status s = dims_of(x, n_dims, dim, d);
    if (s != FM_OK) {
        fm_ctx_fail(c, s);
        return NULL;
    }
    return fm_alias(c, x, n_dims, d);
}

static int run(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    fm_tensor *flat = fm_reshape(c, in[0], 1, (int64_t[]){-1});
    out[0] = fm_scale(c, fm_reshape(c, flat, 3, (int64_t[]){3, -1, 2}), 1);
    return out[0] ? 1 : 0;
}
/* Gradients through two views and the tensor itself meet in one buffer. */
static int run_views(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    fm_tensor *y = fm_scale(c, in[0], 1.5), *z = fm_mul(c, y, y);
    out[0] = fm_softmax(c, fm_view2(c, z, 4, 6));
    out[1] = fm_add(c, fm_view2(c, z, 12, 2), fm_view2(c, y, 12, 2));
    return out[0] && out[1] ? 2 : 0;
}
static int decomposed_views(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    fm_tensor *y = fm_scale(c, fm_view2(c, in[0], 4, 6), 1.5);
    out[0] = fm_softmax(c, fm_mul(c, y, y));
    fm_tensor *u = fm_scale(c, fm_view2(c, in[0], 12, 2), 1.5);
    out[1] = fm_add(c, fm_mul(c, u, u), u);
    return out[0] && out[1] ? 2 : 0;
}

static const fm_op_case cases[] = {
    {.name = "there", .n_in = 1, .in = {{.name = "x", .n_dims = 2, .dim = {4, 6}}}, .run = run},
    {.name = "views",
     .n_in = 1,
     .in = {{.name = "x", .n_dims = 3, .dim = {2, 3, 4}}},
     .run = run_views,
     .decomposed = decomposed_views},
};

/* In the registry for its tests; never on a tape. */
const fm_op fm_op_reshape = {
    .name = "reshape",
    .formula = "y = x under other dimensions",
    .onnx = "Reshape",
    .kernels = {FM_KERNEL_COUNT},
    .tol_fwd = 4,
    .tol_bwd = 4,
    .cases = cases,
    .n_cases = (int)FM_ARRAY_LEN(cases),
};
