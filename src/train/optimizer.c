/* Optimizers over the parameter store, and the gradient norm. */
#include "train/optimizer.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

#define FM_OPTIMIZER(n) extern const fm_optimizer fm_optimizer_##n;
#include "train/optimizers.def"
#undef FM_OPTIMIZER

static const fm_optimizer *const types[] = {
#define FM_OPTIMIZER(n) &fm_optimizer_##n,
#include "train/optimizers.def"
#undef FM_OPTIMIZER
};

const fm_optimizer *fm_optimizer_find(const char *name) {
    for (size_t i = 0; i < FM_ARRAY_LEN(types); i++) {
        if (strcmp(types[i]->name, name) == 0) {
            return types[i];
        }
        for (const char *const *a = types[i]->aliases; a && *a; a++) {
            if (strcmp(*a, name) == 0) {
                return types[i];
            }
        }
    }
    return NULL;
}

void fm_optimizer_names(fm_str *out) {
    for (size_t i = 0; i < FM_ARRAY_LEN(types); i++) {
        fm_str_printf(out, "%s%s", i ? ", " : "", types[i]->name);
    }
}

static bool trained(const fm_param *p) {
    return !p->tie && !p->frozen;
}

fm_optim_shape fm_optim_shape_like(const fm_param *p) {
    fm_optim_shape s = {.dtype = fm_dtype_acc(p->dtype), .n_dims = p->n_dims};
    memcpy(s.dim, p->dim, sizeof s.dim);
    return s;
}

fm_optim_shape fm_optim_state_shape(const fm_optimizer *type, const fm_param *p, int k) {
    return type->shape_of ? type->shape_of(p, k) : fm_optim_shape_like(p);
}

static size_t state_bytes(const fm_optimizer *type, const fm_param *p, int k) {
    fm_optim_shape s = fm_optim_state_shape(type, p, k);
    int64_t n = s.n_dims > 0;
    for (int i = 0; i < s.n_dims; i++) {
        n *= s.dim[i];
    }
    return n > 0 ? ((size_t)fm_dtype_bytes(s.dtype, n) + 63) / 64 * 64 : 0;
}

int64_t fm_optim_bytes(const fm_optimizer *type, const fm_optim_options *o, const fm_params *ps) {
    int64_t total = 0;
    for (int i = 0; i < fm_params_count(ps); i++) {
        const fm_param *p = fm_params_at(ps, i);
        for (int k = 0; k < type->n_states(o) && trained(p); k++) {
            total += (int64_t)state_bytes(type, p, k);
        }
    }
    return total;
}

int64_t fm_optim_scratch_bytes(const fm_optimizer *type, const fm_params *ps) {
    int64_t most = 0;
    for (int i = 0; i < fm_params_count(ps) && type->scratch_bytes; i++) {
        const fm_param *p = fm_params_at(ps, i);
        most = trained(p) ? FM_MAX(most, type->scratch_bytes(p)) : most;
    }
    return most;
}

fm_status fm_optim_init(fm_optim *s, const fm_optimizer *type, const fm_optim_options *o, fm_params *ps) {
    *s = (fm_optim){.type = type, .o = *o, .ps = ps, .n_states = type->n_states(o)};
    s->bytes = (size_t)fm_optim_bytes(type, o, ps);
    return s->bytes == 0 ? FM_OK : fm_pages_alloc(&s->block, s->bytes, FM_MEM_OPTIMIZER);
}

fm_status fm_optim_init_on_disk(fm_optim *s, const fm_optimizer *type, const fm_optim_options *o, fm_params *ps,
                                const char *path) {
    *s = (fm_optim){.type = type, .o = *o, .ps = ps, .n_states = type->n_states(o), .on_disk = true};
    s->bytes = (size_t)fm_optim_bytes(type, o, ps);
    return s->bytes == 0 ? FM_OK : fm_disk_memory(&s->block, path, s->bytes);
}

fm_status fm_optim_to_disk(fm_optim *s, const char *path) {
    void *block = NULL;
    if (s->on_disk || s->bytes == 0) {
        return FM_OK;
    }
    FM_TRY(fm_disk_memory(&block, path, s->bytes));
    memcpy(block, s->block, s->bytes);
    fm_map_release(block, s->bytes);
    fm_pages_free(s->block, s->bytes, FM_MEM_OPTIMIZER);
    s->block = block;
    s->on_disk = true;
    return FM_OK;
}

void fm_optim_deinit(fm_optim *s) {
    if (s->on_disk) {
        fm_disk_memory_free(s->block, s->bytes);
    } else if (s->block) {
        fm_pages_free(s->block, s->bytes, FM_MEM_OPTIMIZER);
    }
    s->block = NULL;
}

void *fm_optim_state(const fm_optim *s, const fm_param *p, int k) {
    if (k >= s->n_states || !trained(p) || state_bytes(s->type, p, k) == 0) {
        return NULL;
    }
    uint8_t *at = s->block;
    for (int i = 0; i < p->index; i++) {
        const fm_param *q = fm_params_at(s->ps, i);
        for (int j = 0; j < s->n_states && trained(q); j++) {
            at += state_bytes(s->type, q, j);
        }
    }
    for (int j = 0; j < k; j++) {
        at += state_bytes(s->type, p, j);
    }
    return at;
}

fm_status fm_optim_step(fm_optim *s, const fm_backend *b, const fm_exec *x, double lr, double grad_scale) {
    s->t++;
    uint8_t *at = s->block;
    for (int i = 0; i < fm_params_count(s->ps); i++) {
        fm_param *p = fm_params_at(s->ps, i);
        if (!trained(p)) {
            continue;
        }
        uint8_t *first = at;
        fm_optim_update u = {.o = &s->o, .p = p, .lr = lr, .grad_scale = grad_scale, .t = s->t};
        for (int k = 0; k < s->n_states; k++) {
            size_t n = state_bytes(s->type, p, k);
            u.state[k] = n > 0 ? at : NULL;
            at += n;
        }
        if (!p->grad || !p->grad_written) {
            continue;
        }
        if (p->decay) {
            u.decay = s->o.weight_decay;
            u.l1 = s->o.l1;
            u.l2 = s->o.l2;
        }
        bool copy = p->copy.data && p->copy.dtype == FM_BF16 && p->dtype == FM_F32;
        u.w_bf16 = copy ? p->copy.data : NULL;
        FM_TRY(s->type->update(b, x, &u));
        if (s->on_disk && at > first) {
            fm_map_release(first, (size_t)(at - first));
        }
        fm_param_changed(p);
        if (copy) {
            p->copy.version = p->version;
        }
    }
    return FM_OK;
}

fm_status fm_grad_norm(const fm_params *ps, const fm_backend *b, const fm_exec *x, double *norm, fm_param **bad,
                       double *per_param) {
    double total = 0;
    *bad = NULL;
    for (int i = 0; i < fm_params_count(ps); i++) {
        fm_param *p = fm_params_at(ps, i);
        double sum = 0;
        int64_t n_bad = 0;
        if (trained(p) && p->grad && p->grad_written) {
            fm_sum_squares_args a = {.n = p->numel, .x = p->grad, .out = &sum, .n_nonfinite = &n_bad};
            FM_TRY(fm_kernel_run(b, x, FM_K_sum_squares, fm_dtype_acc(p->dtype), &a));
        }
        if (n_bad > 0 && !*bad) {
            *bad = p;
        }
        if (per_param) {
            per_param[i] = sum;
        }
        total += sum;
    }
    *norm = sqrt(total);
    return FM_OK;
}
