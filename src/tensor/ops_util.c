/* Shared parts of operations. */
#include "tensor/ops_util.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tensor/ctx.h"

static bool plain_float(fm_dtype d) {
    return d == FM_F64 || d == FM_F32 || d == FM_BF16 || d == FM_F16;
}

static void expected_text(char *buf, size_t cap, int dtype, int n_dims, const int64_t *dim) {
    fm_str s = {0};
    fm_str_putc(&s, '[');
    for (int i = 0; i < n_dims; i++) {
        if (dim && dim[i] >= 0) {
            fm_str_printf(&s, "%s%lld", i ? "," : "", (long long)dim[i]);
        } else {
            fm_str_printf(&s, "%s*", i ? "," : "");
        }
    }
    fm_str_printf(&s, "%s] %s", n_dims ? "" : "..", dtype < 0 ? "float" : fm_dtype_get((fm_dtype)dtype)->name);
    snprintf(buf, cap, "%s", s.data ? s.data : "?");
    fm_str_free(&s);
}

fm_status fm_in_check(const fm_node *n, int i, const char *name, int dtype, int n_dims, const int64_t *dim) {
    const fm_tensor *t = n->in[i];
    bool type_ok = dtype < 0 ? plain_float(t->dtype) : t->dtype == (fm_dtype)dtype;
    bool shape_ok = n_dims == 0 || t->n_dims == n_dims;
    for (int k = 0; shape_ok && dim && k < n_dims; k++) {
        shape_ok = dim[k] < 0 || t->dim[k] == dim[k];
    }
    if (!type_ok || !shape_ok) {
        char want[96], found[96];
        expected_text(want, sizeof want, dtype, n_dims, dim);
        FM_FAIL(shape_ok ? FM_ERR_DTYPE : FM_ERR_SHAPE, "input %s: expected %s, found %s", name, want,
                fm_tensor_describe(found, sizeof found, t));
    }
    if (!fm_contiguous(t)) {
        char found[96];
        FM_FAIL(FM_ERR_SHAPE, "input %s: expected dense rows, found %s with strides", name,
                fm_tensor_describe(found, sizeof found, t));
    }
    return FM_OK;
}

fm_status fm_in_like(const fm_node *n, int i, const char *name, int j) {
    return fm_in_check(n, i, name, (int)n->in[j]->dtype, n->in[j]->n_dims, n->in[j]->dim);
}

fm_status fm_in_vector(const fm_node *n, int i, const char *name, int64_t len, int j) {
    return n->in[i] ? fm_in_check(n, i, name, (int)n->in[j]->dtype, 1, &len) : FM_OK;
}

fm_status fm_in_activation(const fm_node *n, int i, const char *name) {
    const fm_tensor *t = n->in[i];
    if (t->param && t->needs_grad) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "input %s: expected an activation, found the trainable parameter %s", name,
                t->param->name);
    }
    return FM_OK;
}

fm_status fm_ids_check(const char *name, const int32_t *ids, int64_t n, int64_t limit, const int32_t *also) {
    for (int64_t t = 0; t < n; t++) {
        if ((ids[t] < 0 || ids[t] >= limit) && !(also && ids[t] == *also)) {
            FM_FAIL(FM_ERR_DATA, "input %s: expected values in [0, %lld), found %d at %lld", name, (long long)limit,
                    (int)ids[t], (long long)t);
        }
    }
    return FM_OK;
}

fm_status fm_make_out(fm_ctx *c, fm_node *n, fm_dtype dtype, int n_dims, const int64_t *dim) {
    return fm_node_out(c, n, dtype, n_dims, dim) ? FM_OK : fm_ctx_status(c);
}
fm_status fm_make_save(fm_ctx *c, fm_node *n, fm_dtype dtype, int n_dims, const int64_t *dim) {
    return fm_node_save(c, n, dtype, n_dims, dim) ? FM_OK : fm_ctx_status(c);
}

fm_status fm_op_run(fm_ctx *c, fm_kernel k, fm_dtype d, const void *args) {
    FM_TRY(fm_ctx_status(c));
    return fm_run(c, k, d, args);
}

fm_status fm_op_zero(fm_ctx *c, fm_dtype d, int64_t n, void *y) {
    fm_fill_args a = {.n = n, .value = 0, .y = y};
    return fm_op_run(c, FM_K_fill, d, &a);
}

fm_status fm_op_add_to(fm_ctx *c, fm_dtype d, int64_t n, const void *x, void *y) {
    fm_axpby_args a = {.n = n, .alpha = 1, .beta = 1, .x = x, .y = y};
    return fm_op_run(c, FM_K_axpby, d, &a);
}

fm_tensor *fm_alias(fm_ctx *c, fm_tensor *x, int n_dims, const int64_t *dim) {
    fm_tensor *t = fm_tensor_struct(c, x->dtype, n_dims, dim);
    if (t) {
        t->storage = x->storage;
        t->offset_bytes = x->offset_bytes;
        t->param = x->param;
        t->needs_grad = x->needs_grad;
        t->grad_root = x->grad_root;
        t->name = x->name;
    }
    return t;
}

fm_status fm_temp_take(fm_ctx *c, fm_temp *t, fm_dtype d, int64_t numel) {
    *t = (fm_temp){0};
    FM_TRY(fm_grad_alloc(c, &t->grad, d, numel));
    t->data = t->grad->data;
    return FM_OK;
}

void fm_temp_drop(fm_ctx *c, fm_temp *t) {
    if (t->grad) {
        fm_grad_unref(c, t->grad);
    }
    *t = (fm_temp){0};
}

static fm_status dwrite_open(fm_ctx *c, fm_node *n, int i, fm_dwrite *w, bool acc) {
    w->dtype = n->in[i]->dtype;
    w->numel = fm_numel(n->in[i]);
    if (acc) {
        w->sum = w->data;
        FM_TRY(fm_temp_take(c, &w->temp, w->dtype, w->numel));
        w->data = w->temp.data;
    }
    return FM_OK;
}

fm_status fm_dwrite_begin(fm_ctx *c, fm_node *n, int i, fm_dwrite *w) {
    bool acc;
    *w = (fm_dwrite){0};
    FM_TRY(fm_din(c, n, i, &w->data, &acc));
    return dwrite_open(c, n, i, w, acc);
}

fm_status fm_dwrite_begin_move(fm_ctx *c, fm_node *n, int o, int i, fm_dwrite *w) {
    bool acc;
    *w = (fm_dwrite){0};
    FM_TRY(fm_dmove(c, n, o, i, &w->data, &acc));
    return dwrite_open(c, n, i, w, acc);
}

fm_status fm_dwrite_end(fm_ctx *c, fm_dwrite *w) {
    if (w->temp.grad) {
        FM_TRY(fm_op_add_to(c, w->dtype, w->numel, w->data, w->sum));
        fm_temp_drop(c, &w->temp);
    }
    return FM_OK;
}

fm_status fm_dtake(fm_ctx *c, fm_node *n, int o, fm_temp *t) {
    fm_grad *g = n->out[o]->grad_root->grad;
    if (!g || g->refs != 1) {
        return fm_temp_take(c, t, n->out[o]->dtype, fm_numel(n->out[o]));
    }
    g->refs++;
    *t = (fm_temp){.data = g->data, .grad = g};
    return FM_OK;
}

fm_status fm_dgive(fm_ctx *c, fm_node *n, int i, fm_temp *t) {
    if (!fm_wants(n, i)) {
        return FM_OK;
    }
    FM_ASSERT(n->in[i]->dtype == t->grad->dtype && !n->in[i]->param);
    return fm_grad_give(c, n->in[i], t->grad);
}

/* ---- sums ------------------------------------------------------------------------------------- */

static fm_reduce_args reduce_args(const fm_node *n) {
    const fm_reduce_attr *a = n->attr;
    const fm_tensor *x = n->in[0];
    fm_reduce_args r = {
        .n_rows = a->all ? 1 : fm_rows(x),
        .dim = a->all ? fm_numel(x) : fm_last(x),
        .scale = 1,
    };
    if (a->mean) {
        r.scale = 1.0 / (double)r.dim;
    }
    return r;
}

fm_status fm_reduce_shape(fm_ctx *c, fm_node *n) {
    const fm_reduce_attr *a = n->attr;
    const fm_tensor *x = n->in[0];
    FM_TRY(fm_in_check(n, 0, "x", FM_ANY_FLOAT, 0, NULL));
    if (fm_numel(x) == 0) {
        char found[96];
        FM_FAIL(FM_ERR_SHAPE, "input x: expected at least one element, found %s",
                fm_tensor_describe(found, sizeof found, x));
    }
    n->keeps_in[0] = n->keeps_out[0] = false;
    int64_t one = 1;
    bool scalar = a->all || x->n_dims == 1;
    return fm_make_out(c, n, fm_dtype_acc(x->dtype), scalar ? 1 : x->n_dims - 1, scalar ? &one : x->dim);
}

fm_status fm_reduce_forward(fm_ctx *c, fm_node *n) {
    fm_reduce_args r = reduce_args(n);
    r.x = fm_data(c, n->in[0]);
    r.y = fm_data(c, n->out[0]);
    return fm_op_run(c, FM_K_reduce_fwd, n->in[0]->dtype, &r);
}

fm_status fm_reduce_backward(fm_ctx *c, fm_node *n) {
    if (!fm_wants(n, 0)) {
        return FM_OK;
    }
    fm_reduce_args r = reduce_args(n);
    r.y = fm_dout(c, n, 0);
    FM_TRY(fm_din(c, n, 0, &r.x, &r.acc_x));
    return fm_op_run(c, FM_K_reduce_bwd, n->in[0]->dtype, &r);
}

/* ---- losses ------------------------------------------------------------------------------------ */

fm_status fm_loss_shape(fm_ctx *c, fm_node *n, int i_targets, int64_t n_rows, int64_t n_classes, fm_dtype acc,
                        const fm_loss_options *o) {
    FM_TRY(fm_in_check(n, i_targets, "targets", FM_I32, 1, &n_rows));
    if (n_classes < 1) {
        FM_FAIL(FM_ERR_SHAPE, "expected at least one class, found %lld", (long long)n_classes);
    }
    if (!(o->label_smoothing >= 0 && o->label_smoothing < 1) || !(o->z_loss >= 0)) {
        FM_FAIL(FM_ERR_ARGUMENT, "options: expected label_smoothing in [0,1) and z_loss of at least 0, found %g and %g",
                (double)o->label_smoothing, (double)o->z_loss);
    }
    n->keeps_out[0] = n->keeps_out[1] = false;
    FM_TRY(fm_make_out(c, n, acc, 1, (int64_t[]){1}));
    return fm_make_out(c, n, acc, 1, &n_rows);
}

fm_status fm_loss_total(fm_ctx *c, fm_node *n, double scale) {
    fm_reduce_args r = {
        .n_rows = 1,
        .dim = n->out[1]->dim[0],
        .scale = scale,
        .x = fm_data(c, n->out[1]),
        .y = fm_data(c, n->out[0]),
    };
    return r.dim == 0 ? fm_op_zero(c, n->out[0]->dtype, 1, r.y) : fm_op_run(c, FM_K_reduce_fwd, n->out[0]->dtype, &r);
}

fm_status fm_loss_upstream(fm_ctx *c, fm_node *n, const fm_loss_options *o, double *out) {
    const void *d = fm_dout(c, n, 0);
    *out = d ? fm_load_as_f64(n->out[0]->dtype, d, 0) : 1;
    if (o->is_root && *out != 1) {
        FM_FAIL(FM_ERR_STATE, "is_root says that the loss is differentiated with upstream gradient 1, found %g", *out);
    }
    return FM_OK;
}

int64_t fm_loss_chunk(int64_t n_rows, int64_t n_classes) {
    int64_t rows = ((int64_t)8 << 20) / (4 * FM_MAX(n_classes, 1)) / 64 * 64;
    return FM_MIN(FM_MAX(rows, 64), n_rows);
}
