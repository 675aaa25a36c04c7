/* Kernels over rows (embeddings, gather, scatter, sums) and rope of each SIMD set against the reference. */
#include "kernel_test.h"

static const fm_dtype types[] = {FM_F32, FM_BF16};
#define EACH_TYPE(d) for (const fm_dtype *d = types; d < types + 2; d++)

typedef struct shape {
    int64_t n, dim, vocab;
    bool flag;
    double scale;
} shape;

static const shape shapes[] = {
    {0, 16, 3, false, 1.0},   {1, 1, 3, false, 1.0},      {5, 17, 4, true, 0.5},      {9, 64, 2, false, -1.0},
    {66, 130, 7, true, 0.25}, {201, 257, 50, false, 2.0}, {64, 1000, 300, true, 1.0},
};
#define EACH_SHAPE(s) for (const shape *s = shapes; s < shapes + sizeof shapes / sizeof *shapes; s++)

static void embedding_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_embedding_args *)args = (fm_embedding_args){s->n, s->dim, s->vocab, p[0], p[1], p[2]};
}
static void embedding_bwd_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_embedding_bwd_args *)args = (fm_embedding_bwd_args){s->n, s->dim, s->vocab, p[0], p[1], p[2]};
}
static void rows_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_rows_args *)args = (fm_rows_args){s->n, s->dim, p[0], p[1], p[2]};
}

static void embedding(void **state) {
    (void)state;
    EACH_TYPE(d) EACH_SHAPE(s) {
        kt_case f = {.name = "embedding_fwd", .k = FM_K_embedding_fwd, .d = *d, .args = embedding_args, .shape = s};
        f.buf[0] = (kt_buf){FM_I32, s->n, 0, (double)s->vocab, false};
        f.buf[1] = (kt_buf){*d, s->vocab * s->dim, -1, 1, false};
        f.buf[2] = (kt_buf){*d, s->n * s->dim, 0, 0, true};
        kt_check(&f);
        kt_case b = {.name = "embedding_bwd",
                     .k = FM_K_embedding_bwd,
                     .d = *d,
                     .rtol = 1e-5,
                     .atol = 1e-5,
                     .args = embedding_bwd_args,
                     .shape = s};
        b.buf[0] = f.buf[0];
        b.buf[1] = (kt_buf){*d, s->n * s->dim, -1, 1, false};
        b.buf[2] = (kt_buf){FM_F32, s->vocab * s->dim, -1, 1, true};
        kt_check(&b);
    }
}

static void gather_scatter(void **state) {
    (void)state;
    EACH_TYPE(d) EACH_SHAPE(s) {
        kt_case f = {.name = "gather_rows", .k = FM_K_gather_rows, .d = *d, .args = rows_args, .shape = s};
        f.buf[0] = (kt_buf){FM_I32, s->n, 0, (double)s->vocab, false};
        f.buf[1] = (kt_buf){*d, s->vocab * s->dim, -1, 1, false};
        f.buf[2] = (kt_buf){*d, s->n * s->dim, 0, 0, true};
        kt_check(&f);
        f.name = "scatter_add_rows";
        f.k = FM_K_scatter_add_rows;
        f.buf[1].out = true;
        f.buf[2] = (kt_buf){*d, s->n * s->dim, -1, 1, false};
        f.rtol = 1e-6;
        f.atol = 1e-6;
        if (*d == FM_BF16) {
            f.rtol = 0x1p-7;
            f.atol = 0.05; /* a step lost at one addition shows in the later ones */
        }
        kt_check(&f);
    }
}

static void bias_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_bias_grad_args *)args = (fm_bias_grad_args){s->n, s->dim, p[0], p[1], s->flag};
}
static void reduce_args(void *args, void **p, const void *ctx) {
    const shape *s = ctx;
    *(fm_reduce_args *)args = (fm_reduce_args){s->n, s->dim, s->scale, p[0], p[1], s->flag};
}

static void sums(void **state) {
    (void)state;
    EACH_TYPE(d) EACH_SHAPE(s) {
        kt_case c = {.name = "bias_grad",
                     .k = FM_K_bias_grad,
                     .d = *d,
                     .rtol = 1e-5,
                     .atol = 1e-5,
                     .args = bias_args,
                     .shape = s};
        c.buf[0] = (kt_buf){*d, s->n * s->dim, -1, 1, false};
        c.buf[1] = (kt_buf){FM_F32, s->dim, -1, 1, true};
        kt_check(&c);
        c.name = "reduce_fwd";
        c.k = FM_K_reduce_fwd;
        c.args = reduce_args;
        c.buf[1].n = s->n;
        kt_check(&c);
        c.name = "reduce_bwd";
        c.k = FM_K_reduce_bwd;
        c.buf[0].out = true;
        c.rtol = kt_rtol(*d, 1e-6);
        kt_check(&c);
    }
}

typedef struct rope_shape {
    int64_t tokens;
    int32_t heads, head_dim, n_freqs;
    bool interleaved, in_place, acc;
    float sign, mscale;
} rope_shape;

static void rope_args(void *args, void **p, const void *ctx) {
    const rope_shape *s = ctx;
    double *freq = p[1];
    for (int i = 0; i < s->n_freqs; i++) {
        freq[i] = pow(10000.0, -(double)i / s->n_freqs);
    }
    *(fm_rope_args *)args = (fm_rope_args){.n_tokens = s->tokens,
                                           .n_heads = s->heads,
                                           .head_dim = s->head_dim,
                                           .n_freqs = s->n_freqs,
                                           .interleaved = s->interleaved,
                                           .sign = s->sign,
                                           .mscale = s->mscale,
                                           .pos = p[0],
                                           .freq = freq,
                                           .x = p[2],
                                           .y = s->in_place ? p[2] : p[3],
                                           .acc_y = s->acc};
}

static void rope(void **state) {
    (void)state;
    static const rope_shape rows[] = {
        {1, 1, 2, 1, false, false, false, 1, 1},        {3, 2, 10, 4, true, false, false, 1, 1},
        {7, 3, 64, 32, false, true, false, 1, 1},       {5, 2, 96, 17, true, true, false, -1, 1},
        {33, 8, 128, 64, false, false, true, -1, 1.3F}, {40, 9, 128, 64, true, false, true, -1, 1},
        {50, 4, 80, 20, false, false, false, 1, 0.9F},
    };
    EACH_TYPE(d) for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const rope_shape *s = &rows[i];
        int64_t n = s->tokens * s->heads * s->head_dim;
        kt_case c = {.name = "rope",
                     .k = FM_K_rope,
                     .d = *d,
                     .rtol = kt_rtol(*d, 1e-6),
                     .atol = 2e-6,
                     .args = rope_args,
                     .shape = s};
        /* positions to two billion: the angle must be reduced in f64 */
        c.buf[0] = (kt_buf){FM_I32, s->tokens, 0, i % 2 ? 2e9 : 5000, false};
        c.buf[1] = (kt_buf){FM_F64, s->n_freqs, 0, 0, false};
        c.buf[2] = (kt_buf){*d, n, -2, 2, true};
        c.buf[3] = (kt_buf){*d, n, -2, 2, true};
        kt_check(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embedding),
        cmocka_unit_test(gather_scatter),
        cmocka_unit_test(sums),
        cmocka_unit_test(rope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
