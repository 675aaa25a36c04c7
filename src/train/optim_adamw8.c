/* AdamW with moments in 8 bits (Dettmers et al. 2022): blocks of 256 values share a scale, their largest magnitude, and
 * each is the nearest of 256 numbers that lie densely near zero ("dynamic" data type). Small parameters keep 32 bits,
 * as there is little to gain. Memory of the moments: 2.03 bytes a weight in the place of 8. */
#include <math.h>
#include <string.h>

#include "backend/nf4.h"
#include "base/error.h"
#include "train/optim_adam.h"

#define BLOCK 256
#define SMALL 4096

static int n_states(const fm_optim_options *o) {
    (void)o;
    return 4;
}

static bool small(const fm_param *p) {
    return p->numel < SMALL;
}

/* Moments, and the scales of their blocks. */
static fm_optim_shape shape_of(const fm_param *p, int k) {
    bool scale = k % 2 == 1;
    if (small(p)) {
        return scale ? (fm_optim_shape){0} : fm_optim_shape_like(p);
    }
    if (scale) {
        return (fm_optim_shape){.dtype = FM_F32, .n_dims = 1, .dim = {(p->numel + BLOCK - 1) / BLOCK}};
    }
    fm_optim_shape s = fm_optim_shape_like(p);
    s.dtype = FM_U8;
    return s;
}

typedef struct step {
    const fm_optim_update *u;
    uint8_t *m, *v;
    float *m_scale, *v_scale;
    double bias1, bias2;
} step;

static void unpack(const fm_code8 *c, const uint8_t *q, float scale, int n, float *out) {
    for (int i = 0; i < n; i++) {
        out[i] = c->value[q[i]] * scale;
    }
}

static void pack(const fm_code8 *c, const float *x, int n, uint8_t *q, float *scale) {
    float top = 0;
    for (int i = 0; i < n; i++) {
        top = fmaxf(top, fabsf(x[i]));
    }
    *scale = top;
    for (int i = 0; i < n; i++) {
        q[i] = fm_code8_nearest(c, top > 0 ? x[i] / top : 0);
    }
}

static void update_block(const step *s, int64_t block) {
    const fm_optim_update *u = s->u;
    const fm_optim_options *o = u->o;
    int64_t at = block * BLOCK;
    int n = (int)FM_MIN(u->p->numel - at, BLOCK);
    float *w = (float *)u->p->data + at, m[BLOCK], v[BLOCK];
    const float *g = (const float *)u->p->grad + at;
    if (u->t == 1) { /* zeroed memory is no zero of the codes */
        memset(m, 0, sizeof m);
        memset(v, 0, sizeof v);
    } else {
        unpack(fm_code8_get(true), s->m + at, s->m_scale[block], n, m);
        unpack(fm_code8_get(false), s->v + at, s->v_scale[block], n, v);
    }
    for (int i = 0; i < n; i++) {
        double wi = (double)w[i], gi = (double)g[i] * u->grad_scale + u->l2 * wi;
        gi += wi > 0 ? u->l1 : wi < 0 ? -u->l1 : 0;
        double mi = o->beta1 * (double)m[i] + (1 - o->beta1) * gi,
               vi = o->beta2 * (double)v[i] + (1 - o->beta2) * gi * gi;
        m[i] = (float)mi;
        v[i] = (float)vi;
        w[i] = (float)(wi - u->lr * (mi / s->bias1 / (sqrt(vi / s->bias2) + o->epsilon) + u->decay * wi));
        if (u->w_bf16) {
            u->w_bf16[at + i] = fm_f32_to_bf16(w[i]);
        }
    }
    pack(fm_code8_get(true), m, n, s->m + at, &s->m_scale[block]);
    pack(fm_code8_get(false), v, n, s->v + at, &s->v_scale[block]);
}

static fm_status update_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    const step *s = arg;
    int64_t begin, end;
    FM_UNUSED(thread);
    fm_split((s->u->p->numel + BLOCK - 1) / BLOCK, part, n_parts, 1, &begin, &end);
    for (int64_t b = begin; b < end; b++) {
        update_block(s, b);
    }
    return FM_OK;
}

static fm_status update(const fm_backend *b, const fm_exec *x, const fm_optim_update *u) {
    if (small(u->p)) {
        fm_optim_update plain = *u;
        plain.state[1] = u->state[2];
        return fm_adamw_update(b, x, &plain);
    }
    FM_ASSERT(u->p->dtype == FM_F32);
    step s = {.u = u,
              .m = u->state[0],
              .m_scale = u->state[1],
              .v = u->state[2],
              .v_scale = u->state[3],
              .bias1 = 1 - pow(u->o->beta1, (double)u->t),
              .bias2 = 1 - pow(u->o->beta2, (double)u->t)};
    return fm_pool_run(x->pool, fm_pool_threads(x->pool), update_part, &s);
}

static const char *const aliases[] = {"adamw_bnb_8bit", "adamw8bit", NULL};

extern const fm_optimizer fm_optimizer_adamw8;
const fm_optimizer fm_optimizer_adamw8 = {
    .name = "adamw_8bit",
    .aliases = aliases,
    .state_name = {"exp_avg", "exp_avg_scale", "exp_avg_sq", "exp_avg_sq_scale"},
    .n_states = n_states,
    .shape_of = shape_of,
    .update = update,
};
