/* Optimizers against values computed in double precision by tests/golden/make_optim.py. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "train/optimizer.h"

#define N     7
#define STEPS 10

static void golden_of(const char *file, double *out, int n, const char *name) {
    char path[512];
    snprintf(path, sizeof path, FM_SOURCE_DIR "/tests/golden/data/%s", file);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    char line[1024];
    bool found = false;
    while (!found && fgets(line, sizeof line, f)) {
        char key[64];
        int at = 0;
        assert_int_equal(sscanf(line, "%63s%n", key, &at), 1);
        found = strcmp(key, name) == 0;
        for (int i = 0; found && i < n; i++) {
            int used;
            assert_int_equal(sscanf(line + at, "%lf%n", &out[i], &used), 1);
            at += used;
        }
    }
    fclose(f);
    assert_true(found);
}

static void golden(double *out, int n, const char *name) {
    golden_of("optim.txt", out, n, name);
}

/* Ten steps with gradients twice as large and scale 0.5 * 0.5. `decayed` is subject to decay, l1 and l2, `plain` is
 * not. */
static void check(const char *type, const fm_optim_options *o, const char *want_decayed, const char *want_plain,
                  bool copies) {
    fm_params *ps;
    fm_param *decayed, *plain, *skipped;
    assert_int_equal(fm_params_new(&ps), FM_OK);
    assert_int_equal(fm_params_add(ps, &(fm_param_desc){.name = "a", .n_dims = 1, .dim = {N}}, &decayed), FM_OK);
    assert_int_equal(fm_params_add(ps, &(fm_param_desc){.name = "s", .n_dims = 1, .dim = {3}}, &skipped), FM_OK);
    assert_int_equal(
        fm_params_add(ps, &(fm_param_desc){.name = "b", .n_dims = 1, .dim = {N}, .no_decay = true}, &plain), FM_OK);
    assert_int_equal(fm_params_alloc(ps, FM_F32), FM_OK);
    assert_int_equal(fm_params_alloc_grads(ps), FM_OK);
    if (copies) {
        assert_int_equal(fm_params_alloc_copies(ps, FM_BF16), FM_OK);
    }
    float *w[2] = {decayed->data, plain->data}, *g[2] = {decayed->grad, plain->grad};
    for (int i = 0; i < N; i++) {
        w[0][i] = w[1][i] = (float)(0.5 * cos(i + 1));
    }
    ((float *)skipped->data)[0] = 3;
    fm_scratch *scratch;
    assert_int_equal(fm_scratch_new(&scratch), FM_OK);
    fm_exec x = {.scratch = scratch};
    fm_optim s;
    assert_int_equal(fm_optim_init(&s, fm_optimizer_find(type), o, ps), FM_OK);
    assert_int_equal((int64_t)s.bytes, fm_optim_bytes(s.type, o, ps));
    for (int t = 1; t <= STEPS; t++) {
        fm_params_begin_step(ps);
        double sum = 0;
        for (int i = 0; i < N; i++) {
            g[0][i] = g[1][i] = (float)(2 * sin(0.7 * i + 0.3 * t) * (1 + t / 10.0));
            sum += 2 * (double)g[0][i] * (double)g[0][i];
        }
        decayed->grad_written = plain->grad_written = true;
        double norm;
        fm_param *bad;
        assert_int_equal(fm_grad_norm(ps, fm_cpu_backend(), &x, &norm, &bad, NULL), FM_OK);
        assert_null(bad);
        assert_true(fabs(norm - sqrt(sum)) < 1e-9 * norm);
        assert_int_equal(fm_optim_step(&s, fm_cpu_backend(), &x, 0.01, 0.25), FM_OK);
    }
    const char *const want[2] = {want_decayed, want_plain};
    fm_param *const p[2] = {decayed, plain};
    for (int k = 0; k < 2; k++) {
        double v[N];
        golden(v, N, want[k]);
        for (int i = 0; i < N; i++) {
            if (!(fabs((double)w[k][i] - v[i]) <= 3e-6 * fmax(0.1, fabs(v[i])))) {
                fail_msg("%s[%d] = %.9g, expected %.9g", want[k], i, (double)w[k][i], v[i]);
            }
            if (copies) {
                assert_int_equal(p[k]->copy.version, p[k]->version);
                assert_int_equal(((uint16_t *)p[k]->copy.data)[i], fm_f32_to_bf16(w[k][i]));
            }
        }
    }
    assert_float_equal(((float *)skipped->data)[0], 3, 0); /* no gradient, no update */
    /* The first parameter that is not finite is named. */
    g[1][3] = INFINITY;
    double norm;
    fm_param *bad;
    assert_int_equal(fm_grad_norm(ps, fm_cpu_backend(), &x, &norm, &bad, NULL), FM_OK);
    assert_ptr_equal(bad, plain);
    fm_optim_deinit(&s);
    fm_scratch_free(scratch);
    fm_params_free(ps);
}

static void test_adamw(void **state) {
    (void)state;
    fm_optim_options o = {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.1};
    check("adamw", &o, "adamw_decay", "adamw", false);
    check("adamw_torch", &o, "adamw_decay", "adamw", true);
    o.l1 = 0.02;
    o.l2 = 0.03;
    check("adamw", &o, "adamw_l1_l2", "adamw", true);
}

static void test_sgd(void **state) {
    (void)state;
    fm_optim_options o = {.weight_decay = 0.1, .l1 = 0.02, .l2 = 0.03};
    check("sgd", &o, "sgd_decay_l1_l2", "sgd", true);
    o = (fm_optim_options){.momentum = 0.9};
    check("sgd", &o, "sgd_momentum", "sgd_momentum", false);
    o = (fm_optim_options){.momentum = 0.9, .nesterov = true, .weight_decay = 0.1, .l2 = 0.03};
    check("sgd", &o, "sgd_nesterov", "sgd_nesterov_plain", true);
}

static void test_lion(void **state) {
    (void)state;
    fm_optim_options o = {.beta1 = 0.9, .beta2 = 0.99, .weight_decay = 0.1, .l1 = 0.02, .l2 = 0.03};
    check("lion", &o, "lion_l1_l2", "lion", true);
}

/* A matrix takes Muon's step, in f32 to rounding and in bf16 as near as its products are; an embedding and a norm take
 * AdamW's, and only they have a second moment. */
static void muon_case(int64_t rows, int64_t cols, bool bf16, const char *want) {
    fm_params *ps;
    fm_param *w, *embed;
    assert_int_equal(fm_params_new(&ps), FM_OK);
    fm_param_desc d = {.name = "model.layers.0.mlp.up_proj.weight", .n_dims = 2, .dim = {rows, cols}};
    assert_int_equal(fm_params_add(ps, &d, &w), FM_OK);
    d = (fm_param_desc){.name = "model.embed_tokens.weight", .n_dims = 2, .dim = {N, 1}};
    assert_int_equal(fm_params_add(ps, &d, &embed), FM_OK);
    assert_int_equal(fm_params_alloc(ps, FM_F32), FM_OK);
    assert_int_equal(fm_params_alloc_grads(ps), FM_OK);
    if (bf16) {
        assert_int_equal(fm_params_alloc_copies(ps, FM_BF16), FM_OK);
    }
    float *v = w->data, *e = embed->data;
    for (int64_t i = 0; i < rows * cols; i++) {
        v[i] = (float)(0.5 * cos((double)i + 1));
    }
    for (int i = 0; i < N; i++) {
        e[i] = (float)(0.5 * cos(i + 1));
    }
    fm_scratch *scratch;
    assert_int_equal(fm_scratch_new(&scratch), FM_OK);
    fm_exec x = {.scratch = scratch};
    fm_optim_options o = {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.1, .muon_momentum = 0.95};
    fm_optim s;
    assert_int_equal(fm_optim_init(&s, fm_optimizer_find("muon"), &o, ps), FM_OK);
    assert_non_null(fm_optim_state(&s, w, 0));
    assert_null(fm_optim_state(&s, w, 1));
    assert_non_null(fm_optim_state(&s, embed, 1));
    for (int t = 1; t <= STEPS; t++) {
        fm_params_begin_step(ps);
        for (int64_t i = 0; i < rows * cols; i++) {
            ((float *)w->grad)[i] = (float)(2 * sin(0.7 * (double)i + 0.3 * t) * (1 + t / 10.0));
        }
        for (int i = 0; i < N; i++) {
            ((float *)embed->grad)[i] = (float)(2 * sin(0.7 * i + 0.3 * t) * (1 + t / 10.0));
        }
        w->grad_written = embed->grad_written = true;
        assert_int_equal(fm_optim_step(&s, fm_cpu_backend(), &x, 0.01, 0.25), FM_OK);
    }
    double ref[15], adam[N];
    golden(ref, 15, want);
    golden(adam, N, "adamw_decay");
    for (int64_t i = 0; i < rows * cols; i++) {
        double tol = bf16 ? 4e-3 : 2e-5;
        if (!(fabs((double)v[i] - ref[i]) <= tol)) {
            fail_msg("%s[%d] = %.9g, expected %.9g", want, (int)i, (double)v[i], ref[i]);
        }
    }
    for (int i = 0; i < N; i++) {
        assert_true(fabs((double)e[i] - adam[i]) <= 3e-6 * fmax(0.1, fabs(adam[i])));
    }
    fm_optim_deinit(&s);
    fm_scratch_free(scratch);
    fm_params_free(ps);
}

static void test_muon(void **state) {
    (void)state;
    muon_case(5, 3, false, "muon_tall");
    muon_case(3, 5, false, "muon_wide");
    muon_case(5, 3, true, "muon_tall");
    muon_case(3, 5, true, "muon_wide");
}

#define MUON_OFF                                                                                                       \
    1e-3 /* ten steps move a weight by up to 0.1. The gradients have rank 2: no direction is noise alone               \
          */

/* Against the implementations that people use (make_optim_reference.py), with one thread and with three. */
static void reference(const char *type, int64_t rows, int64_t cols, bool decay, int threads, const char *want) {
    fm_params *ps;
    fm_param *w;
    int64_t n = rows * FM_MAX(cols, 1);
    bool eight = n >= 4096;
    fm_param_desc d = {.name = "w", .n_dims = cols ? 2 : 1, .dim = {rows, cols}, .no_decay = !decay};
    assert_int_equal(fm_params_new(&ps), FM_OK);
    assert_int_equal(fm_params_add(ps, &d, &w), FM_OK);
    assert_int_equal(fm_params_alloc(ps, FM_F32), FM_OK);
    assert_int_equal(fm_params_alloc_grads(ps), FM_OK);
    assert_int_equal(fm_params_alloc_copies(ps, FM_BF16), FM_OK);
    for (int64_t i = 0; i < n; i++) {
        ((float *)w->data)[i] = (float)(0.5 * cos((double)i + 1));
    }
    fm_scratch *scratch;
    fm_pool *pool;
    assert_int_equal(fm_scratch_new(&scratch), FM_OK);
    assert_int_equal(fm_pool_new(&pool, threads), FM_OK);
    fm_exec x = {.scratch = scratch, .pool = pool};
    fm_optim_options o = {.beta1 = 0.9,
                          .beta2 = 0.95,
                          .epsilon = 1e-8,
                          .weight_decay = 0.1,
                          .momentum = 0.9,
                          .nesterov = true,
                          .muon_momentum = 0.95};
    bool muon = strcmp(type, "muon") == 0; /* its products are bf16 here and there, summed in other orders */
    fm_optim s;
    assert_int_equal(fm_optim_init(&s, fm_optimizer_find(type), &o, ps), FM_OK);
    if (eight) {
        assert_true(s.bytes < (size_t)(n * 9 / 4)); /* 2.03 bytes a weight, rounded up */
    }
    for (int t = 1; t <= STEPS; t++) {
        fm_params_begin_step(ps);
        for (int64_t i = 0; i < n; i++) {
            ((float *)w->grad)[i] = (float)(2 * sin(0.7 * (double)i + 0.3 * t) * (1 + t / 10.0));
        }
        w->grad_written = true;
        assert_int_equal(fm_optim_step(&s, fm_cpu_backend(), &x, 0.01, 0.25), FM_OK);
    }
    double ref[40];
    int other = 0;
    golden_of("optim_reference.txt", ref, 40, want);
    for (int i = 0; i < 40; i++) {
        double v = (double)((float *)w->data)[i], off = fabs(v - ref[i]);
        other += !muon && off > 4e-6;
        if (off > (eight ? 3e-4 : muon ? MUON_OFF : 4e-6)) {
            fail_msg("%s[%d] = %.9g, expected %.9g", want, i, v, ref[i]);
        }
        assert_int_equal(((uint16_t *)w->copy.data)[i], fm_f32_to_bf16(((float *)w->data)[i]));
    }
    assert_true(other <= 2); /* in 8 bits: moments that lie on a border between two codes to the last bit */
    fm_optim_deinit(&s);
    fm_pool_free(pool);
    fm_scratch_free(scratch);
    fm_params_free(ps);
}

static void test_references(void **state) {
    (void)state;
    for (int threads = 1; threads <= 3; threads += 2) {
        reference("adamw_8bit", 5000, 0, true, threads, "adamw_8bit");
        reference("adamw", 50, 0, true, threads, "adamw");
        reference("sgd", 50, 0, false, threads, "sgd");
        reference("lion", 50, 0, true, threads, "lion");
        reference("muon", 2, 25, true, threads, "muon");
        reference("adafactor", 7, 9, true, threads, "adafactor_matrix");
        reference("adafactor", 50, 0, true, threads, "adafactor_vector");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_adamw), cmocka_unit_test(test_sgd),
                                       cmocka_unit_test(test_lion), cmocka_unit_test(test_references),
                                       cmocka_unit_test(test_muon)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
