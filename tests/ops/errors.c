/* Wrong inputs: each is refused with a status and a message that says which input, what was expected and what found. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"

static int32_t ids_bad[2] = {1, 9}, targets_ok[2] = {-100, 2}, targets_bad[2] = {0, 3};
static double data[256]; /* zeros, for inputs of any dtype */
static const double freq[4] = {1, 1, 1, 1};
static const int32_t falling[3] = {0, 2, 1}, late[2] = {1, 2}, wide[2] = {0, 9};

static fm_tensor *f32(fm_ctx *c, int n, int64_t a, int64_t b, int64_t d) {
    return fm_from_memory(c, FM_F32, n, (int64_t[]){a, b, d}, data);
}
static fm_tensor *bf16(fm_ctx *c, int n, int64_t a, int64_t b, int64_t d) {
    return fm_from_memory(c, FM_BF16, n, (int64_t[]){a, b, d}, data);
}
static fm_tensor *i32(fm_ctx *c, int64_t n, int32_t *ids) {
    return fm_from_memory(c, FM_I32, 1, &n, ids);
}
static fm_tensor *attend(fm_ctx *c, int64_t heads, fm_attention_options o) {
    return fm_attention(c, f32(c, 3, 2, heads, 4), f32(c, 3, 2, 2, 4), f32(c, 3, 2, 2, 4), NULL, &o);
}
static fm_tensor *loss(fm_ctx *c, int32_t *targets, fm_loss_options o) {
    o.ignore_index = -100;
    return fm_cross_entropy(c, f32(c, 2, 2, 3, 0), i32(c, 2, targets), &o, NULL);
}

#define BAD(name, expr)                                                                                                \
    static fm_tensor *name(fm_ctx *c) {                                                                                \
        return expr;                                                                                                   \
    }
BAD(linear_k, fm_linear(c, f32(c, 2, 2, 3, 0), f32(c, 2, 4, 5, 0), NULL))
BAD(linear_dtype, fm_linear(c, f32(c, 2, 2, 3, 0), bf16(c, 2, 4, 3, 0), NULL))
BAD(linear_bias, fm_linear(c, f32(c, 2, 2, 3, 0), f32(c, 2, 4, 3, 0), f32(c, 1, 3, 0, 0)))
BAD(linear_ids, fm_linear(c, i32(c, 2, ids_bad), f32(c, 2, 4, 3, 0), NULL))
BAD(embedding_id, fm_embedding(c, f32(c, 2, 4, 3, 0), i32(c, 2, ids_bad)))
BAD(gather_id, fm_gather(c, f32(c, 2, 4, 3, 0), i32(c, 2, ids_bad)))
BAD(rmsnorm_w, fm_rmsnorm(c, f32(c, 2, 2, 3, 0), bf16(c, 1, 3, 0, 0), 1e-5f))
BAD(layernorm_b, fm_layernorm(c, f32(c, 2, 2, 3, 0), f32(c, 1, 3, 0, 0), f32(c, 1, 2, 0, 0), 1e-5f))
BAD(add_rmsnorm_x, fm_add_rmsnorm(c, f32(c, 2, 2, 3, 0), f32(c, 2, 3, 2, 0), f32(c, 1, 3, 0, 0), 1e-5f, NULL))
BAD(add_shape, fm_add(c, f32(c, 2, 2, 3, 0), f32(c, 1, 6, 0, 0)))
BAD(mul_dtype, fm_mul(c, f32(c, 2, 2, 3, 0), bf16(c, 2, 2, 3, 0)))
BAD(glu_shape, fm_glu(c, f32(c, 2, 2, 3, 0), f32(c, 2, 2, 4, 0), FM_ACT_SILU))
BAD(rope_freqs, fm_rope(c, f32(c, 3, 2, 1, 6), i32(c, 2, ids_bad), &(fm_rope_options){.freq = freq, .n_freqs = 4}))
BAD(rope_pos, fm_rope(c, f32(c, 3, 3, 1, 8), i32(c, 2, ids_bad), &(fm_rope_options){.freq = freq, .n_freqs = 4}))
BAD(attention_heads, attend(c, 3, (fm_attention_options){0}))
BAD(attention_falling, attend(c, 2, (fm_attention_options){.n_segments = 2, .q_offsets = falling}))
BAD(attention_late, attend(c, 2, (fm_attention_options){.n_segments = 1, .q_offsets = late}))
BAD(attention_wide, attend(c, 2, (fm_attention_options){.n_segments = 1, .q_offsets = wide}))
BAD(attention_none, attend(c, 2, (fm_attention_options){.n_segments = 2}))
BAD(attention_window, attend(c, 2, (fm_attention_options){.window = -1}))
BAD(reshape_count, fm_reshape(c, f32(c, 2, 2, 3, 0), 1, (int64_t[]){5}))
BAD(reshape_free, fm_reshape(c, f32(c, 2, 2, 3, 0), 2, (int64_t[]){-1, 4}))
BAD(reshape_two, fm_reshape(c, f32(c, 2, 2, 3, 0), 2, (int64_t[]){-1, -1}))
BAD(cast_ids, fm_cast(c, f32(c, 1, 2, 0, 0), FM_I32))
BAD(sum_empty, fm_sum(c, f32(c, 2, 2, 0, 0)))
BAD(loss_target, loss(c, targets_bad, (fm_loss_options){.scale = 1}))
BAD(loss_smooth, loss(c, targets_ok, (fm_loss_options){.scale = 1, .label_smoothing = 1.0f}))
BAD(linear_ce_w, fm_linear_ce(c, f32(c, 2, 2, 3, 0), f32(c, 2, 5, 4, 0), i32(c, 2, targets_ok),
                              &(fm_loss_options){.ignore_index = -100, .scale = 1}, NULL))
BAD(linear_ce_targets, fm_linear_ce(c, f32(c, 2, 3, 4, 0), f32(c, 2, 5, 4, 0), i32(c, 2, targets_ok),
                                    &(fm_loss_options){.ignore_index = -100, .scale = 1}, NULL))
BAD(linear_add_rows, fm_linear_add(c, f32(c, 2, 2, 3, 0), f32(c, 2, 4, 5, 0), f32(c, 2, 3, 5, 0)))
BAD(linear_add_w, fm_linear_add(c, f32(c, 2, 2, 3, 0), f32(c, 2, 2, 5, 0), f32(c, 2, 4, 5, 0)))
BAD(dora_magnitude, fm_dora_scale(c, f32(c, 2, 2, 3, 0), f32(c, 1, 2, 0, 0), f32(c, 1, 3, 0, 0), NULL))
BAD(dora_inverse, fm_dora_scale(c, f32(c, 2, 2, 3, 0), f32(c, 1, 3, 0, 0), bf16(c, 1, 3, 0, 0), NULL))
BAD(affine_w, fm_affine(c, f32(c, 2, 2, 3, 0), f32(c, 1, 2, 0, 0), NULL))
static fm_tensor *split_sum(fm_ctx *c) {
    fm_tensor *out[2];
    return fm_split_columns(c, f32(c, 2, 2, 3, 0), 2, (int64_t[]){1, 1}, out) ? out[0] : NULL;
}
static fm_tensor *split_none(fm_ctx *c) {
    fm_tensor *out[2];
    return fm_split_columns(c, f32(c, 2, 2, 3, 0), 2, (int64_t[]){3, 0}, out) ? out[0] : NULL;
}
BAD(trigram_rows, fm_trigram(c, f32(c, 2, 2, 3, 0), 1, wide))
BAD(trigram_falling, fm_trigram(c, f32(c, 2, 2, 3, 0), 2, falling))
static const float too_much[] = {0, 2}, endless[] = {0, INFINITY};
BAD(bce_target,
    fm_pointwise_loss(c, f32(c, 2, 1, 2, 0),
                      &(fm_pointwise_options){.kind = FM_POINTWISE_BCE, .target = too_much, .scale = 1}, NULL))
BAD(mse_target,
    fm_pointwise_loss(c, f32(c, 2, 1, 2, 0),
                      &(fm_pointwise_options){.kind = FM_POINTWISE_MSE, .target = endless, .scale = 1}, NULL))
static fm_tensor *dropout_p(fm_ctx *c) {
    fm_ctx_set_training(c, true);
    return fm_dropout(c, f32(c, 1, 2, 0, 0), 1.0, "x");
}
/* The first of two errors is the one that is told. */
static fm_tensor *first_kept(fm_ctx *c) {
    fm_tensor *y = fm_add(c, f32(c, 1, 2, 0, 0), f32(c, 1, 3, 0, 0));
    return fm_softmax(c, fm_mul(c, y, y));
}
static fm_tensor *cache_grad(fm_ctx *c) {
    static const int32_t kv_off[2] = {0, 2};
    fm_kv_view kv = {.k = data, .v = data, .dtype = FM_F32, .k_stride = 4, .v_stride = 4, .kv_offsets = kv_off};
    fm_tensor *q = fm_require_grad(f32(c, 3, 2, 1, 4));
    return fm_attention(c, q, NULL, NULL, NULL, &(fm_attention_options){.kv = &kv, .n_kv_heads = 1, .v_dim = 4});
}
/* A root loss under another operation. */
static fm_tensor *not_root(fm_ctx *c) {
    fm_tensor *x = fm_require_grad(f32(c, 2, 2, 3, 0));
    fm_loss_options o = {.ignore_index = -100, .scale = 1, .is_root = true};
    fm_tensor *l = fm_scale(c, fm_linear_ce(c, x, f32(c, 2, 5, 3, 0), i32(c, 2, targets_ok), &o, NULL), 2);
    return l && fm_backward(c, l, 1) == FM_OK ? l : NULL;
}

static const struct {
    const char *name;
    fm_tensor *(*call)(fm_ctx *c);
    fm_status status;
    const char *text[3]; /* parts of the message */
} bad[] = {
    {"linear k", linear_k, FM_ERR_SHAPE, {"linear", "input w: expected [*,3] f32", "found [4,5] f32"}},
    {"linear_add rows", linear_add_rows, FM_ERR_SHAPE, {"linear_add", "expected 2 rows", "found 4"}},
    {"linear_add w", linear_add_w, FM_ERR_SHAPE, {"linear_add", "input w: expected [3,5] f32", "found [4,5] f32"}},
    {"dora_scale magnitude", dora_magnitude, FM_ERR_SHAPE, {"dora_scale", "input magnitude", "found [2]"}},
    {"dora_scale inverse", dora_inverse, FM_ERR_DTYPE, {"dora_scale", "input inverse", "bf16"}},
    {"linear dtype", linear_dtype, FM_ERR_DTYPE, {"linear", "input w: expected [*,3] f32", "found [4,3] bf16"}},
    {"linear bias", linear_bias, FM_ERR_SHAPE, {"linear", "input b: expected [4] f32", "found [3] f32"}},
    {"linear ids", linear_ids, FM_ERR_DTYPE, {"linear", "input x: expected [..] float", "found [2] i32"}},
    {"embedding id", embedding_id, FM_ERR_DATA, {"embedding", "input ids: expected values in [0, 4)", "found 9 at 1"}},
    {"gather id", gather_id, FM_ERR_DATA, {"gather", "input idx: expected values in [0, 4)", "found 9 at 1"}},
    {"rmsnorm w", rmsnorm_w, FM_ERR_DTYPE, {"rmsnorm", "input w: expected [3] f32", "found [3] bf16"}},
    {"layernorm b", layernorm_b, FM_ERR_SHAPE, {"layernorm", "input b: expected [3] f32", "found [2] f32"}},
    {"add_rmsnorm x", add_rmsnorm_x, FM_ERR_SHAPE, {"add_rmsnorm", "input x: expected [2,3]", "found [3,2]"}},
    {"add shape", add_shape, FM_ERR_SHAPE, {"add", "input b: expected [2,3] f32", "found [6] f32"}},
    {"mul dtype", mul_dtype, FM_ERR_DTYPE, {"mul", "input b: expected [2,3] f32", "found [2,3] bf16"}},
    {"glu shape", glu_shape, FM_ERR_SHAPE, {"glu", "input up: expected [2,3] f32", "found [2,4] f32"}},
    {"rope freqs", rope_freqs, FM_ERR_SHAPE, {"rope", "expected 1 to 3 frequencies", "found 4"}},
    {"rope pos", rope_pos, FM_ERR_SHAPE, {"rope", "input pos: expected [3] i32", "found [2] i32"}},
    {"attention heads", attention_heads, FM_ERR_SHAPE, {"attention", "expected a multiple of 2 heads", "found 3"}},
    {"attention falling", attention_falling, FM_ERR_SHAPE, {"attention", "rising offsets", "found 1 after 2"}},
    {"attention late", attention_late, FM_ERR_SHAPE, {"attention", "expected to begin at 0", "found 1"}},
    {"attention wide", attention_wide, FM_ERR_SHAPE, {"attention", "expected to end at 2", "found 9"}},
    {"attention none", attention_none, FM_ERR_ARGUMENT, {"attention", "2 segments without q_offsets", ""}},
    {"attention window", attention_window, FM_ERR_ARGUMENT, {"attention", "window", "found -1"}},
    {"attention cache", cache_grad, FM_ERR_UNSUPPORTED, {"attention", "cache has no gradient", ""}},
    {"reshape count", reshape_count, FM_ERR_SHAPE, {"reshape", "expected dimensions of 6 elements", "found 5"}},
    {"reshape free", reshape_free, FM_ERR_SHAPE, {"reshape", "expected dimensions of 6 elements", "[2,3] f32"}},
    {"reshape two", reshape_two, FM_ERR_SHAPE, {"reshape", "one may be -1", ""}},
    {"cast ids", cast_ids, FM_ERR_DTYPE, {"cast", "expected f64, f32, bf16 or f16", "found i32"}},
    {"sum empty", sum_empty, FM_ERR_SHAPE, {"sum", "expected at least one element", "found [2,0]"}},
    {"loss target",
     loss_target,
     FM_ERR_DATA,
     {"cross_entropy", "input targets: expected values in [0, 3)", "found 3 at 1"}},
    {"loss smooth", loss_smooth, FM_ERR_ARGUMENT, {"cross_entropy", "label_smoothing in [0,1)", "found 1"}},
    {"linear_ce w", linear_ce_w, FM_ERR_SHAPE, {"linear_ce", "input w: expected [*,3] f32", "found [5,4] f32"}},
    {"linear_ce targets",
     linear_ce_targets,
     FM_ERR_SHAPE,
     {"linear_ce", "input targets: expected [3] i32", "found [2]"}},
    {"affine w", affine_w, FM_ERR_SHAPE, {"affine", "input w: expected [3] f32", "found [2] f32"}},
    {"split sum", split_sum, FM_ERR_SHAPE, {"split", "expected rows of 2 elements", "found 3"}},
    {"split none", split_none, FM_ERR_ARGUMENT, {"split", "part 1: expected at least one column", "found 0"}},
    {"trigram rows", trigram_rows, FM_ERR_SHAPE, {"trigram", "segments over 2 rows", "found 0 to 9"}},
    {"trigram falling", trigram_falling, FM_ERR_SHAPE, {"trigram", "rising ones", "found 1 after 2"}},
    {"bce target", bce_target, FM_ERR_DATA, {"pointwise_loss", "expected values in [0, 1]", "found 2 at 1"}},
    {"mse target", mse_target, FM_ERR_DATA, {"pointwise_loss", "expected finite values", "found inf at 1"}},
    {"dropout p", dropout_p, FM_ERR_ARGUMENT, {"dropout", "expected [0,1)", "found 1"}},
    {"first kept", first_kept, FM_ERR_SHAPE, {"add", "input b: expected [2] f32", "found [3] f32"}},
    {"not root", not_root, FM_ERR_STATE, {"linear_ce", "upstream gradient 1", "found 2"}},
};

static void null_passes(fm_ctx *c) {
    fm_ctx_reset(c);
    fm_tensor *x = f32(c, 2, 2, 3, 0);
    n_checks++;
    if (fm_linear(c, x, NULL, NULL) || fm_add(c, NULL, x) || fm_rope(c, NULL, NULL, &(fm_rope_options){0}) ||
        fm_reshape(c, NULL, 1, NULL) || fm_attention(c, x, NULL, x, NULL, &(fm_attention_options){0}) ||
        fm_ctx_status(c) != FM_OK) {
        fail("a missing input gives no tensor and no error of its own");
    }
}

int mode_errors(const char *only) {
    fm_ctx *c;
    if (fm_ctx_new(&c, &(fm_ctx_options){.size = sizeof(fm_ctx_options),
                                         .backend = fm_cpu_backend(),
                                         .compute = FM_F32,
                                         .arena_bytes = 1 << 20,
                                         .grad_bytes = 1 << 20}) != FM_OK) {
        fail("context: %s", fm_error_get().message);
        return 1;
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(bad); i++) {
        if (only && strcmp(only, bad[i].text[0]) != 0) {
            continue;
        }
        fm_tape_begin(c);
        fm_ctx_set_training(c, false);
        fm_error_clear();
        fm_tensor *y = bad[i].call(c);
        fm_error e = fm_error_get();
        bool told = true;
        for (int k = 0; k < 3; k++) {
            told = told && strstr(e.message, bad[i].text[k]);
        }
        n_checks++;
        if (y || fm_ctx_status(c) != bad[i].status || e.status != bad[i].status || !told) {
            fail("%s: expected %s about \"%s\" and \"%s\", found %s: %s", bad[i].name, fm_status_name(bad[i].status),
                 bad[i].text[1], bad[i].text[2], fm_status_name(fm_ctx_status(c)), e.message);
        }
    }
    null_passes(c);
    fm_ctx_free(c);
    return n_failures;
}
