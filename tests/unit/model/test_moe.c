/* Layers with experts: choice, load, loss-free bias, only the chosen experts touched, adapters, memory planned. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "model/adapter.h"
#include "model/model.h"

static void ok_(fm_status s, int line) {
    if (s != FM_OK) {
        print_error("line %d: %s\n", line, fm_error_get().message);
    }
    assert_int_equal(s, FM_OK);
}
#define ok(s) ok_((s), __LINE__)

static fm_ctx *context(fm_dtype d, bool meta) {
    fm_ctx *c;
    fm_ctx_options o = {.size = sizeof o, .backend = meta ? NULL : fm_cpu_backend(), .compute = d};
    o.arena_bytes = o.grad_bytes = 4 << 20;
    ok(fm_ctx_new(&c, &o));
    return c;
}

/* ---- choice: the rules on logits made by hand ---------------------------------------------------- */

static void choose(const float *logits, const float *bias, fm_router_rule rule, const int32_t *want,
                   const double *weights) {
    for (int ref = 0; ref < 2; ref++) {
        float scores[8], w[8];
        int32_t ids[8];
        fm_scratch *scratch;
        ok(fm_scratch_new(&scratch));
        fm_exec x = {.scratch = scratch};
        fm_route_args a = {
            .rule = rule, .n_rows = 1, .x = logits, .bias = bias, .scores = scores, .weights = w, .ids = ids};
        const fm_backend *b = ref ? fm_cpu_backend_isa(FM_ISA_REF) : fm_cpu_backend();
        ok(fm_kernel_run(b, &x, FM_K_route_fwd, FM_F32, &a));
        for (int j = 0; j < rule.n_active; j++) {
            assert_int_equal(ids[j], want[j]);
            assert_true(!weights || fabs((double)w[j] - weights[j]) < 1e-6);
        }
        fm_scratch_free(scratch);
    }
}

static void test_choice(void **state) {
    (void)state;
    /* Of equals the lowest index. */
    const float flat[6] = {0, 1, 1, 0, 1, 1};
    choose(flat, NULL, (fm_router_rule){.n_experts = 6, .n_active = 3, .scale = 1}, (int32_t[]){1, 2, 4}, NULL);
    /* A NaN is never better than a number, and the choice is still one of the experts. */
    const float broken[4] = {0, NAN, NAN, NAN};
    choose(broken, NULL, (fm_router_rule){.n_experts = 4, .n_active = 2, .score = FM_ROUTER_SIGMOID, .scale = 1},
           (int32_t[]){0, 1}, NULL);
    /* The bias chooses (3 before 1) and does not weigh. */
    const float logits[4] = {2, 1, 0, 0.5F}, bias[4] = {-9, 0, 0, 3};
    double s1 = 1 / (1 + exp(-1.0)), s3 = 1 / (1 + exp(-0.5));
    fm_router_rule v3 = {.n_experts = 4, .n_active = 2, .score = FM_ROUTER_SIGMOID, .norm = true, .scale = 2.5};
    choose(logits, bias, v3, (int32_t[]){3, 1}, (double[]){2.5 * s3 / (s1 + s3), 2.5 * s1 / (s1 + s3)});
    /* Groups {0,1} {2,3} {4,5}: by the best member the first wins, by the two best the last. */
    const float grouped[6] = {4, -9, 0, 0, 3, 3};
    fm_router_rule g = {.n_experts = 6, .n_active = 2, .n_groups = 3, .top_groups = 1, .scale = 1};
    choose(grouped, NULL, g, (int32_t[]){0, 1}, NULL);
    g.score = FM_ROUTER_SIGMOID;
    g.group_score = FM_GROUP_SUM_TOP2;
    choose(grouped, NULL, g, (int32_t[]){4, 5}, NULL);
    /* A closed group stays closed where all biased scores are below zero (a mask of 0 would open it). */
    const float low[4] = {0, 0, 0, 0}, below[4] = {-2, -2, -3, -3};
    fm_router_rule m = {.n_experts = 4,
                        .n_active = 2,
                        .n_groups = 2,
                        .top_groups = 1,
                        .score = FM_ROUTER_SIGMOID,
                        .group_score = FM_GROUP_SUM_TOP2,
                        .scale = 1};
    choose(low, below, m, (int32_t[]){0, 1}, NULL);
}

/* ---- a model ------------------------------------------------------------------------------------- */

static fm_model *model(bool bias) {
    fm_model *m;
    fm_model_config cfg = {
        .family = "deepseek",
        .vocab_size = 40,
        .d_model = 16,
        .n_layers = 2,
        .n_heads = 2,
        .n_kv_heads = 2,
        .head_dim = 8,
        .d_ff = 24,
        .max_position = 64,
        .act = FM_ACT_SILU,
        .norm_eps = 1e-6,
        .init_std = 0.3,
        .rope = {.theta = 1e4, .dim = 8, .factor = 1},
        .moe = {.n_experts = 6, .n_active = 2, .n_shared = 1, .d_ff = 12, .first_dense = 1, .correction_bias = bias}};
    ok(fm_model_build(&m, &cfg));
    ok(fm_params_alloc(m->params, FM_F32));
    ok(fm_params_init(m->params, 3, NULL));
    return m;
}

#define N 24
static int32_t ids[N], pos[N], targets[N], ends[2] = {0, N};

static fm_batch batch(int32_t n) {
    for (int32_t i = 0; i < N; i++) {
        ids[i] = i * 7 % 40;
        pos[i] = i;
        targets[i] = (i * 7 + 7) % 40;
    }
    ends[1] = n;
    return (fm_batch){.n_tokens = n, .n_segments = 1, .ids = ids, .pos = pos, .q_offsets = ends, .targets = targets};
}

static void test_bias(void **state) {
    (void)state;
    fm_model *m = model(true);
    fm_moe_layer *l = fm_model_moe_layer(m, 1);
    assert_null(fm_model_moe_layer(m, 0));
    assert_true(l->bias && l->bias->frozen && l->bias->state);
    assert_string_equal(l->bias->name, "model.layers.1.mlp.gate.e_score_correction_bias");
    assert_true(isnan(fm_moe_max_violation(l)));
    const int64_t load[6] = {4, 9, 0, 4, 4, 3}; /* mean 4 */
    memcpy(l->load, load, sizeof load);
    assert_true(fabs(fm_moe_max_violation(l) - 1.25) < 1e-12);
    uint32_t version = l->bias->version;
    fm_moe_update_bias(l, 0.001);
    const float *b = l->bias->data, want[6] = {0, -0.001F, 0.001F, 0, 0, 0.001F};
    assert_memory_equal(b, want, sizeof want);
    assert_true(l->bias->version != version);
    /* No gradient reaches it, and training keeps all other gradients finite. */
    fm_ctx *c = context(FM_F32, false);
    fm_batch bt = batch(N);
    ok(fm_params_alloc_grads(m->params));
    assert_null(l->bias->grad);
    memset(l->load, 0, sizeof load);
    fm_ctx_set_training(c, true);
    fm_tape_begin(c);
    fm_tensor *loss =
        fm_model_loss(c, m, &bt, &(fm_loss_options){.ignore_index = -100, .scale = 1, .is_root = true}, NULL);
    ok(fm_ctx_status(c));
    ok(fm_backward(c, loss, 1));
    int64_t total = 0;
    for (int e = 0; e < 6; e++) {
        total += l->load[e];
    }
    assert_int_equal(total, N * 2);
    /* Outside of training nothing is counted. */
    fm_tape_off(c);
    fm_ctx_set_training(c, false);
    fm_ctx_reset(c);
    assert_non_null(fm_model_forward(c, m, &bt));
    for (int e = 0; e < 6; e++) {
        total -= l->load[e];
    }
    assert_int_equal(total, 0);
    fm_ctx_free(c);
    fm_model_close(m);
}

/* Decoding one token reads the weights of its experts only: copies in the compute type exist for them alone. */
static void test_touches_chosen_only(void **state) {
    (void)state;
    fm_model *m = model(false);
    fm_ctx *c = context(FM_BF16, false);
    fm_batch b = batch(1);
    assert_non_null(fm_model_forward(c, m, &b));
    ok(fm_ctx_status(c));
    int touched = 0;
    for (int e = 0; e < 6; e++) {
        const fm_gated_mlp *x = &fm_model_moe_layer(m, 1)->expert[e];
        touched += x->gate_w->copy.data != NULL;
        assert_true((x->gate_w->copy.data != NULL) == (x->down_w->copy.data != NULL));
    }
    assert_int_equal(touched, 2);
    fm_ctx_free(c);
    fm_model_close(m);
}

/* Experts keep the promise of the plan: forward and backward on the meta device peak where the run does. */
static void test_planned_memory(void **state) {
    (void)state;
    for (int recompute = 0; recompute < 2; recompute++) {
        int64_t arena[2], grads[2];
        for (int meta = 0; meta < 2; meta++) {
            fm_model *m = model(false);
            m->cfg.moe.aux_alpha = 0.01;
            m->checkpoint_layers = recompute;
            fm_ctx *c = context(FM_BF16, meta);
            fm_batch b = batch(N);
            ok(fm_params_alloc_grads(m->params));
            fm_ctx_set_training(c, true);
            fm_tape_begin(c);
            fm_tensor *loss =
                fm_model_loss(c, m, &b, &(fm_loss_options){.ignore_index = -100, .scale = 1, .is_root = true}, NULL);
            ok(fm_ctx_status(c));
            ok(fm_backward(c, loss, 1));
            arena[meta] = fm_ctx_arena_peak(c);
            grads[meta] = fm_ctx_grad_peak(c);
            fm_ctx_free(c);
            fm_model_close(m);
        }
        assert_int_equal(arena[0], arena[1]);
        assert_int_equal(grads[0], grads[1]);
    }
}

/* ---- adapters ------------------------------------------------------------------------------------ */

static void logits(const fm_model *m, float *out) {
    fm_ctx *c = context(FM_F32, false);
    fm_batch b = batch(N);
    fm_tensor *y = fm_model_head(c, m, fm_model_forward(c, m, &b), NULL);
    ok(fm_ctx_status(c));
    memcpy(out, fm_data(c, y), N * 40 * sizeof *out);
    fm_ctx_free(c);
}

/* Adapters of experts and of the router: attached they give what they give when merged into the weights. */
static void test_adapters(void **state) {
    (void)state;
    static float plain[N * 40], attached[N * 40], merged[N * 40];
    static const char *const targets_of[] = {"gate_proj", "down_proj", "gate"};
    fm_model *m = model(false);
    logits(m, plain);
    ok(fm_adapter_new(m, &(fm_adapter_config){.rank = 3, .alpha = 6, .target = targets_of, .n_targets = 3}));
    fm_params *ps = m->adapter->params;
    ok(fm_params_alloc(ps, FM_F32));
    ok(fm_params_init(ps, 5, NULL));
    for (int i = 0; i < fm_params_count(ps); i++) {
        fm_param *p = fm_params_at(ps, i);
        for (int64_t k = 0; k < p->numel; k++) {
            ((float *)p->data)[k] += 0.05F * (float)((k * 5 + i) % 7 - 3);
        }
        fm_param_changed(p);
    }
    logits(m, attached);
    ok(fm_adapter_merge(m));
    logits(m, merged);
    double off = 0, moved = 0, size = 0;
    for (int i = 0; i < N * 40; i++) {
        off += pow((double)attached[i] - (double)merged[i], 2);
        moved += pow((double)attached[i] - (double)plain[i], 2);
        size += pow((double)merged[i], 2);
    }
    assert_true(sqrt(off / size) < 1e-5);
    assert_true(sqrt(moved / size) > 1e-2);
    fm_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_bias),
        cmocka_unit_test(test_touches_chosen_only),
        cmocka_unit_test(test_planned_memory),
        cmocka_unit_test(test_adapters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
