/* The reference kernels against what does not come from them: numbers worked out with 40-digit arithmetic, identities,
 * and finite differences of the forward kernels in f64 for every backward kernel. */
#include "kernel_test.h"

static fm_exec ex;

static int setup(void **state) {
    (void)state;
    return fm_scratch_new(&ex.scratch) == FM_OK ? 0 : -1;
}
static int teardown(void **state) {
    (void)state;
    fm_scratch_free(ex.scratch);
    return 0;
}

static void run(fm_kernel k, const void *args) {
    if (fm_kernel_run(fm_cpu_backend_isa(FM_ISA_REF), &ex, k, FM_F64, args) != FM_OK) {
        fail_msg("%s: %s", fm_kernel_name(k), fm_error_get().message);
    }
}

static void uniform(double *x, int64_t n, uint32_t stream, double lo, double hi) {
    for (int64_t i = 0; i < n; i++) {
        x[i] = lo + (hi - lo) * fm_rng_uniform((fm_rng_key){5, stream, 0}, (uint64_t)i);
    }
}

static void near(double got, double want, double tol) {
    if (!(fabs(got - want) <= tol)) {
        fail_msg("%.15g, expected %.15g", got, want);
    }
}

/* sum of out * cot must change by grad[i] * step when x[i] does; `forward` computes out. */
typedef void (*forward_fn)(void *ctx);
static void check_gradient(forward_fn forward, void *ctx, double *x, int64_t n, const double *out, const double *cot,
                           int64_t n_out, const double *grad) {
    for (int64_t i = 0; i < n; i++) {
        double h = 1e-5, old = x[i], side[2];
        for (int s = 0; s < 2; s++) {
            x[i] = old + (s ? -h : h);
            forward(ctx);
            side[s] = 0.0;
            for (int64_t j = 0; j < n_out; j++) {
                side[s] += out[j] * cot[j];
            }
        }
        x[i] = old;
        near(grad[i], (side[0] - side[1]) / (2 * h), 2e-8 * (1 + fabs(grad[i])));
    }
}

static void literals(void **state) {
    (void)state;
    double x[] = {-1.5, 0.25, 2.0}, y[3];
    /* silu, gelu, gelu_tanh of these arguments */
    static const double want[3][3] = {{-0.2736382857095345, 0.1405441252214495, 1.761594155955765},
                                      {-0.1002108019032871, 0.1496765814207309, 1.954499736103642},
                                      {-0.1004284230197671, 0.149675350701685, 1.954597694087775}};
    for (int act = 0; act < 3; act++) {
        run(FM_K_act_fwd, &(fm_act_args){3, (fm_act)act, x, y});
        for (int i = 0; i < 3; i++) {
            near(y[i], want[act][i], 1e-15);
        }
    }
    /* rmsnorm of (3,4), eps 0: divide by sqrt(12.5); layernorm: (-1, 1) */
    double v[] = {3, 4}, w[] = {1, 2}, rstd, mean;
    run(FM_K_rmsnorm_fwd, &(fm_norm_args){.n_rows = 1, .dim = 2, .x = v, .w = w, .y = y, .rstd = &rstd});
    near(y[0], 3 / sqrt(12.5), 1e-15);
    near(y[1], 8 / sqrt(12.5), 1e-15);
    near(rstd, 1 / sqrt(12.5), 1e-15);
    run(FM_K_layernorm_fwd, &(fm_norm_args){.n_rows = 1, .dim = 2, .x = v, .w = w, .b = w, .y = y, .mean = &mean});
    near(y[0], 0.0, 1e-14);
    near(y[1], 4.0, 1e-14);
    near(mean, 3.5, 1e-15);
    /* a quarter turn in both layouts */
    double q[] = {1, 2, 3, 4, 9}, r[5], freq[] = {1.5707963267948966, 3.1415926535897932};
    int32_t pos = 1;
    fm_rope_args rope = {.n_tokens = 1,
                         .n_heads = 1,
                         .head_dim = 5,
                         .n_freqs = 2,
                         .sign = 1,
                         .mscale = 1,
                         .pos = &pos,
                         .freq = freq,
                         .x = q,
                         .y = r};
    run(FM_K_rope, &rope);
    static const double half[] = {-3, -2, 1, -4, 9}, inter[] = {-2, 1, -3, -4, 9};
    for (int i = 0; i < 5; i++) {
        near(r[i], half[i], 1e-14);
    }
    rope.interleaved = true;
    run(FM_K_rope, &rope);
    for (int i = 0; i < 5; i++) {
        near(r[i], inter[i], 1e-14);
    }
    /* backward turns back */
    rope.sign = -1;
    rope.x = rope.y = r;
    run(FM_K_rope, &rope);
    for (int i = 0; i < 5; i++) {
        near(r[i], q[i], 1e-14);
    }
    /* cross-entropy of (1,2,3), target 0: log(e + e^2 + e^3) - 1 */
    double loss;
    int32_t target = 0, arg;
    run(FM_K_cross_entropy, &(fm_cross_entropy_args){.n_rows = 1,
                                                     .n_classes = 3,
                                                     .x = (double[]){1, 2, 3},
                                                     .x_stride = 3,
                                                     .target = &target,
                                                     .ignore_index = -1,
                                                     .dscale = 1,
                                                     .loss = &loss,
                                                     .argmax = &arg});
    near(loss, 2.407605964444380, 1e-12);
    assert_int_equal(arg, 2);
}

static void matmul_flags(void **state) {
    (void)state;
    double a[] = {1, 2, 3, 4, 5, 6}, at[] = {1, 4, 2, 5, 3, 6}; /* [2,3] and its transpose */
    double b[] = {1, -1, 2, 0, 3, 1}, bt[] = {1, 2, 3, -1, 0, 1};
    static const double want[] = {14, 2, 32, 2};
    double bias[] = {10, 20};
    for (int flags = 0; flags < 16; flags++) {
        double c[] = {1, 1, 9, 1, 1, 9};
        bool ta = flags & 1, tb = flags & 2, acc = flags & 4, with_bias = flags & 8;
        run(FM_K_matmul, &(fm_matmul_args){.m = 2,
                                           .n = 2,
                                           .k = 3,
                                           .a = ta ? at : a,
                                           .lda = ta ? 2 : 3,
                                           .trans_a = ta,
                                           .b = tb ? bt : b,
                                           .ldb = tb ? 3 : 2,
                                           .trans_b = tb,
                                           .c = c,
                                           .ldc = 3,
                                           .c_dtype = FM_F64,
                                           .accumulate = acc,
                                           .bias = with_bias ? bias : NULL});
        for (int i = 0; i < 4; i++) {
            near(c[i / 2 * 3 + i % 2], want[i] + (acc ? 1 : 0) + (with_bias ? bias[i % 2] : 0), 0.0);
        }
        near(c[2] + c[5], 18, 0.0);
    }
}

static void norm_forward(void *ctx) {
    run(((fm_norm_args *)ctx)->mean ? FM_K_layernorm_fwd : FM_K_rmsnorm_fwd, ctx);
}

static void norm_gradients(void **state) {
    (void)state;
    enum { R = 3, D = 5, N = R * D };
    for (int layer = 0; layer < 2; layer++) {
        double x[N], w[D], b[D], y[N], rstd[R], mean[R], dy[N], dx[N], dw[D] = {0}, db[D] = {0};
        uniform(x, N, 1, -2, 2);
        uniform(w, D, 2, 0.5, 1.5);
        uniform(b, D, 3, -1, 1);
        uniform(dy, N, 4, -1, 1);
        fm_norm_args f = {.n_rows = R,
                          .dim = D,
                          .eps = 0.01F,
                          .x = x,
                          .w = w,
                          .b = layer ? b : NULL,
                          .y = y,
                          .rstd = rstd,
                          .mean = layer ? mean : NULL};
        norm_forward(&f);
        run(layer ? FM_K_layernorm_bwd : FM_K_rmsnorm_bwd, &(fm_norm_bwd_args){.n_rows = R,
                                                                               .dim = D,
                                                                               .x = x,
                                                                               .w = w,
                                                                               .rstd = rstd,
                                                                               .mean = mean,
                                                                               .dy = dy,
                                                                               .dx = dx,
                                                                               .dw = dw,
                                                                               .db = db});
        check_gradient(norm_forward, &f, x, N, y, dy, N, dx);
        check_gradient(norm_forward, &f, w, D, y, dy, N, dw);
        if (layer) {
            check_gradient(norm_forward, &f, b, D, y, dy, N, db);
        }
    }
}

static void act_forward(void *ctx) {
    run(FM_K_act_fwd, ctx);
}
static void glu_forward(void *ctx) {
    run(FM_K_glu_fwd, ctx);
}

static void act_gradients(void **state) {
    (void)state;
    enum { N = 9 };
    for (int act = 0; act < FM_ACT_COUNT; act++) {
        double x[N], up[N], y[N], dy[N], dx[N], dup[N];
        uniform(x, N, 1, -3, 3);
        uniform(up, N, 2, -2, 2);
        uniform(dy, N, 3, -1, 1);
        fm_act_args f = {N, (fm_act)act, x, y};
        run(FM_K_act_bwd, &(fm_act_bwd_args){N, (fm_act)act, x, dy, dx, false});
        check_gradient(act_forward, &f, x, N, y, dy, N, dx);
        fm_glu_args g = {N, (fm_act)act, x, up, y};
        run(FM_K_glu_bwd, &(fm_glu_bwd_args){N, (fm_act)act, x, up, dy, dx, dup, NULL});
        check_gradient(glu_forward, &g, x, N, y, dy, N, dx);
        check_gradient(glu_forward, &g, up, N, y, dy, N, dup);
    }
}

static void softmax_forward(void *ctx) {
    run(FM_K_softmax_fwd, ctx);
}
static void ce_forward(void *ctx) {
    run(FM_K_cross_entropy, ctx);
}

static void loss_gradients(void **state) {
    (void)state;
    enum { R = 3, D = 4, N = R * D };
    double x[N], y[N], dy[N], dx[N], loss[R], cot[R];
    uniform(x, N, 1, -2, 2);
    uniform(dy, N, 2, -1, 1);
    fm_softmax_args f = {R, D, x, y};
    softmax_forward(&f);
    for (int r = 0; r < R; r++) {
        near(y[r * D] + y[r * D + 1] + y[r * D + 2] + y[r * D + 3], 1.0, 1e-14);
    }
    run(FM_K_softmax_bwd, &(fm_softmax_bwd_args){R, D, y, dy, dx, false});
    check_gradient(softmax_forward, &f, x, N, y, dy, N, dx);

    int32_t target[] = {1, -100, 3};
    float weight[] = {0.5F, 1.0F, 2.0F};
    fm_cross_entropy_args c = {.n_rows = R,
                               .n_classes = D,
                               .x = x,
                               .x_stride = D,
                               .target = target,
                               .ignore_index = -100,
                               .smooth = 0.25F,
                               .z_loss = 0.125F,
                               .dscale = 3.0,
                               .weight = weight,
                               .dx = dx,
                               .dx_stride = D,
                               .loss = loss};
    ce_forward(&c);
    near(loss[1], 0.0, 0.0);
    c.dx = NULL;
    for (int r = 0; r < R; r++) {
        cot[r] = 3.0;
    }
    check_gradient(ce_forward, &c, x, N, loss, cot, R, dx);
}

static void attention_forward(void *ctx) {
    run(FM_K_attention_fwd, ctx);
}

/* All options at once and one by one; two segments, one with more keys than queries. */
static void attention_gradients(void **state) {
    (void)state;
    enum { H = 4, HK = 2, D = 3, DV = 2, NQ = 5, NK = 7 };
    static const int32_t q_offsets[] = {0, 3, 5}, kv_offsets[] = {0, 3, 7};
    static const float alibi[H] = {0.5F, 0.25F, 0.125F, 0.0625F};
    static const int32_t selected[NQ * 3] = {0, -1, -1, 0, 1, -1, 2, 0, -1, 2, 1, -1, 3, 0, 2};
    for (int flags = 0; flags < 64; flags++) {
        double q[NQ * H * D], k[NK * HK * D], v[NK * HK * DV], out[NQ * H * DV], lse[NQ * H], dout[NQ * H * DV];
        double dq[NQ * H * D], dk[NK * HK * D], dv[NK * HK * DV], sink[H], dsink[H] = {0};
        uniform(q, NQ * H * D, 1, -1, 1);
        uniform(k, NK * HK * D, 2, -1, 1);
        uniform(v, NK * HK * DV, 3, -1, 1);
        uniform(dout, NQ * H * DV, 4, -1, 1);
        uniform(sink, H, 5, -1, 1);
        fm_attention_args f = {.n_segments = 2,
                               .n_heads = H,
                               .n_kv_heads = HK,
                               .head_dim = D,
                               .v_dim = DV,
                               .q_offsets = q_offsets,
                               .q = q,
                               .mask = flags & 1 ? FM_MASK_FULL : FM_MASK_CAUSAL,
                               .window = flags & 2 ? 2 : 0,
                               .scale = 0.75F,
                               .softcap = flags & 4 ? 0.5F : 0.0F,
                               .alibi = flags & 8 ? alibi : NULL,
                               .sink = flags & 16 ? sink : NULL,
                               .selected = flags & 32 ? selected : NULL,
                               .max_selected = 3,
                               .out = out,
                               .lse = lse};
        f.kv = (fm_kv_view){
            .k = k, .v = v, .dtype = FM_F64, .k_stride = HK * D, .v_stride = HK * DV, .kv_offsets = kv_offsets};
        attention_forward(&f);
        run(FM_K_attention_bwd,
            &(fm_attention_bwd_args){.f = f, .dout = dout, .dq = dq, .dk = dk, .dv = dv, .dsink = dsink});
        check_gradient(attention_forward, &f, q, NQ * H * D, out, dout, NQ * H * DV, dq);
        check_gradient(attention_forward, &f, k, NK * HK * D, out, dout, NQ * H * DV, dk);
        check_gradient(attention_forward, &f, v, NK * HK * DV, out, dout, NQ * H * DV, dv);
        if (f.sink) {
            check_gradient(attention_forward, &f, sink, H, out, dout, NQ * H * DV, dsink);
        }
    }
}

/* One query, two keys, worked by hand: scores 0 and log 3 give weights 1/4 and 3/4. Then the same keys in pages that
 * lie in another order, hidden keys, and a query that sees nothing. */
static void attention_literals(void **state) {
    (void)state;
    double q[] = {1.0}, k[] = {0.0, 1.0986122886681098}, v[] = {4.0, 8.0}, out[2], lse[2];
    static const int32_t q_offsets[] = {0, 1}, kv_offsets[] = {0, 2};
    fm_attention_args f = {.n_segments = 1,
                           .n_heads = 1,
                           .n_kv_heads = 1,
                           .head_dim = 1,
                           .v_dim = 1,
                           .q_offsets = q_offsets,
                           .q = q,
                           .scale = 1.0F,
                           .out = out,
                           .lse = lse};
    f.kv = (fm_kv_view){.k = k, .v = v, .dtype = FM_F64, .k_stride = 1, .v_stride = 1, .kv_offsets = kv_offsets};
    attention_forward(&f);
    near(out[0], 7.0, 1e-14);
    near(lse[0], log(4.0), 1e-14);
    double sink[] = {1.3862943611198906}; /* log 4: half of the weight */
    f.sink = sink;
    attention_forward(&f);
    near(out[0], 3.5, 1e-14);
    near(lse[0], log(8.0), 1e-14);
    f.sink = NULL;
    f.window = 1;
    attention_forward(&f);
    near(out[0], 8.0, 1e-14);
    f.window = 0;
    double pages_k[] = {9, 1.0986122886681098, 9, 0.0}, pages_v[] = {9, 8.0, 9, 4.0};
    static const int32_t table[] = {3, 1};
    f.kv.k = pages_k;
    f.kv.v = pages_v;
    f.kv.block_table = table;
    f.kv.block_tokens = 1;
    f.kv.max_blocks = 2;
    attention_forward(&f);
    near(out[0], 7.0, 1e-14);
    /* two queries, one key: the first is before it and sees nothing */
    static const int32_t two[] = {0, 2}, one[] = {0, 1};
    double q2[] = {1.0, 1.0};
    f.q = q2;
    f.q_offsets = two;
    f.kv.kv_offsets = one;
    attention_forward(&f);
    near(out[0], 0.0, 0.0);
    assert_true(isinf(lse[0]) && lse[0] < 0);
    near(out[1], 4.0, 1e-14);
}

/* Two steps worked out with exact arithmetic from the formulas of the papers. */
static void optimizers(void **state) {
    (void)state;
    double w = 1.0, g = 0.5, m = 0.0, v = 0.0;
    fm_adamw_args a = {.n = 1,
                       .w = &w,
                       .g = &g,
                       .m = &m,
                       .v = &v,
                       .lr = 0.1,
                       .beta1 = 0.9,
                       .beta2 = 0.99,
                       .eps = 1e-8,
                       .decay = 0.01,
                       .bias1 = 0.1,
                       .bias2 = 0.01,
                       .grad_scale = 1};
    run(FM_K_adamw, &a);
    near(w, 1.0 - 0.1 * (0.5 / (0.5 + 1e-8) + 0.01), 1e-12); /* the first step has the size of lr */
    near(m, 0.05, 1e-15);
    near(v, 0.0025, 1e-15);
    double sw = 1.0, sg = 0.5, sm = 1.0;
    uint16_t copy;
    fm_sgd_args s = {.n = 1,
                     .w = &sw,
                     .g = &sg,
                     .m = &sm,
                     .w_bf16 = &copy,
                     .lr = 0.1,
                     .momentum = 0.5,
                     .decay = 0.2,
                     .l1 = 0.25,
                     .l2 = 0.125,
                     .grad_scale = 2,
                     .zero_grad = true};
    run(FM_K_sgd, &s);
    near(sm, 0.5 + 1.375, 1e-15);
    near(sw, 1.0 - 0.1 * 1.875 - 0.02, 1e-15);
    near(sg, 0.0, 0.0);
    near((double)fm_bf16_to_f32(copy), sw, 0.004);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals),           cmocka_unit_test(matmul_flags),   cmocka_unit_test(norm_gradients),
        cmocka_unit_test(act_gradients),      cmocka_unit_test(loss_gradients), cmocka_unit_test(attention_gradients),
        cmocka_unit_test(attention_literals), cmocka_unit_test(optimizers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
