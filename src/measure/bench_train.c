/* bench train: the trainer's own steps on made-up tokens: tokens/s, MFU, memory, and where the time goes. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "fathom/train.h"
#include "measure/bench_model.h"

/* Kernels by what they are for; the rest is element-wise. */
static const struct {
    const char *name;
    fm_kernel kernel[6];
    int n;
} groups[] = {
    {"matmul", {FM_K_matmul, FM_K_bias_grad, FM_K_grouped_matmul, FM_K_grouped_outer}, 4},
    {"routing",
     {FM_K_route_fwd, FM_K_route_bwd, FM_K_expert_sort, FM_K_combine_rows, FM_K_balance_fwd, FM_K_balance_bwd},
     6},
    {"attention", {FM_K_attention_fwd, FM_K_attention_bwd}, 2},
    {"optimizer", {FM_K_adamw, FM_K_sgd, FM_K_lion, FM_K_sum_squares}, 4},
    {"loss", {FM_K_cross_entropy}, 1},
};

static void shares(fm_bench_fn fn, void *user, const char *name, const char *dtype) {
    double total = 0, grouped = 0;
    for (int k = 0; k < FM_KERNEL_COUNT; k++) {
        total += fm_profile_get((fm_kernel)k).seconds;
    }
    for (size_t g = 0; g < FM_ARRAY_LEN(groups) && total > 0; g++) {
        double s = 0;
        for (int i = 0; i < groups[g].n; i++) {
            s += fm_profile_get(groups[g].kernel[i]).seconds;
        }
        grouped += s;
        fm_bench_emit(fn, user, 100 * s / total, "%", NAN, "", "train.%s.%s.share_%s", name, dtype, groups[g].name);
    }
    fm_bench_emit(fn, user, 100 * (total - grouped) / FM_MAX(total, 1e-9), "%", NAN, "",
                  "train.%s.%s.share_elementwise", name, dtype);
}

static fm_status set(fm_train_config *c, const char *key, const char *value) {
    return fm_options_set(c, fm_train_options(), key, value, "bench");
}

typedef struct job {
    const fm_bench_options *o;
    fm_bench_fn fn;
    void *user;
} job;

static const char *batch_of(const char *shape) {
    return strcmp(shape, "a") == 0 ? "8" : strcmp(shape, "moe") == 0 ? "16" : "4";
}

/* Runs steps of a preset for `seconds`. */
static fm_status measure(const job *j, const char *preset, const char *batch, fm_dtype d, double seconds, fm_plan *p) {
    char threads[16];
    fm_train_config *c = NULL;
    snprintf(threads, sizeof threads, "%d", (int)j->o->threads);
    FM_TRY(fm_train_config_new(&c));
    fm_status s = set(c, "preset", preset);
    s = s == FM_OK ? set(c, "train_from_scratch", "true") : s;
    s = s == FM_OK ? set(c, "cutoff_len", "512") : s;
    s = s == FM_OK ? set(c, "per_device_train_batch_size", batch) : s;
    s = s == FM_OK ? set(c, "gradient_accumulation_steps", "1") : s;
    s = s == FM_OK ? set(c, "precision", d == FM_BF16 ? "bf16" : "fp32") : s;
    s = s == FM_OK ? set(c, "max_steps", "1000") : s;
    s = s == FM_OK ? set(c, "threads", threads) : s;
    *p = (fm_plan){.size = sizeof *p};
    if (s == FM_OK) {
        fm_profile_enable(true);
        fm_profile_reset();
        s = fm_train_plan(p, c, seconds);
        fm_profile_enable(false);
    }
    fm_train_config_free(c);
    return s;
}

/* A model with experts beside the dense one whose size is that of its active parameters: 8,192 tokens a step, turn by
 * turn, as many turns for each, the best of each. */
static fm_status beside_dense(const job *j, fm_dtype d) {
    double best = 0, dense = 0;
    fm_plan p;
    for (int round = 0; round < 2; round++) {
        FM_TRY(measure(j, "26m", batch_of("moe"), d, j->o->seconds / 2, &p));
        dense = FM_MAX(dense, p.tokens_per_s);
        FM_TRY(measure(j, fm_bench_preset("moe"), batch_of("moe"), d, j->o->seconds / 2, &p));
        best = FM_MAX(best, p.tokens_per_s);
    }
    fm_bench_emit(j->fn, j->user, best, "tokens/s", best / dense, "dense of the same active parameters",
                  "train.moe.%s.beside_dense", fm_dtype_get(d)->name);
    return FM_OK;
}

static fm_status one(const job *j, const char *shape, fm_dtype d) {
    const char *preset = fm_bench_preset(shape), *name = fm_dtype_get(d)->name;
    fm_plan p;
    FM_TRY(measure(j, preset, batch_of(shape), d, j->o->seconds, &p));
    double state = (double)(p.weights_bytes + p.copy_bytes + p.grad_bytes + p.optimizer_bytes),
           peak = (double)fm_mem_rss_anon_peak();
    shares(j->fn, j->user, shape, name);
    fm_bench_emit(j->fn, j->user, peak * 1e-6, "MB", state / peak, "parameters, gradients, optimizer",
                  "train.%s.%s.peak_bytes", shape, name);
    fm_bench_emit(j->fn, j->user, (peak - state) * 1e-6, "MB", NAN, "", "train.%s.%s.extra_bytes", shape, name);
    fm_bench_emit(j->fn, j->user, 100 * p.mfu * p.flops_per_step_causal / p.flops_per_step, "%", NAN, "",
                  "train.%s.%s.mfu_causal", shape, name);
    fm_bench_emit(j->fn, j->user, p.tokens_per_s, "tokens/s", p.mfu, "best 1024^3 (MFU, 6N + 12LDT)",
                  "train.%s.%s.tokens_per_s", shape, name);
    return strcmp(shape, "moe") == 0 ? beside_dense(j, d) : FM_OK;
}

static fm_status one_shape(void *arg, const char *item) {
    const job *j = arg;
    fm_dtype dtype[2];
    int n = fm_bench_dtypes(j->o, dtype);
    for (int i = 0; i < n; i++) {
        FM_TRY(one(j, item, dtype[i]));
    }
    return FM_OK;
}

static fm_status run(const fm_bench_options *o, fm_bench_fn fn, void *user) {
    job j = {.o = o, .fn = fn, .user = user};
    return fm_bench_each(o->shape, one_shape, &j);
}

const fm_bench fm_bench_train = {
    .name = "train", .summary = "training steps: tokens/s, MFU, memory, share of time by kind", .run = run};
