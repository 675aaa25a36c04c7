/* The table of benchmarks and what they share. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/error.h"
#include "measure/measure.h"

#define FM_BENCH(n) extern const fm_bench fm_bench_##n;
#include "measure/benches.def"
#undef FM_BENCH

static const fm_bench *const benches[] = {
#define FM_BENCH(n) &fm_bench_##n,
#include "measure/benches.def"
#undef FM_BENCH
};

#define F(k) .offset = offsetof(fm_bench_options, k)
static const fm_option table[] = {
    {.key = "shape",
     .type = FM_OPT_STR,
     F(shape),
     .def = "a,b",
     .help = "train, decode, prefill: a (26m preset), b (100m preset), moe (139m-a29m; train: beside its dense twin) "
             "or any "
             "preset, comma-separated."},
    {.key = "dtype", .type = FM_OPT_STR, F(dtype), .def = "all", .help = "bf16, f32 or all."},
    {.key = "seconds",
     .type = FM_OPT_FLOAT,
     F(seconds),
     .def = "5",
     .min = 0.01,
     .max = 3600,
     .help = "Seconds of each measurement."},
    {.key = "model",
     .type = FM_OPT_STR,
     F(model),
     .help = "decode, prefill, serve, eval: a model folder or GGUF file instead of random weights."},
    {.key = "input", .type = FM_OPT_STR, F(input), .aliases = "i", .help = "tokenizer, data: a text file."},
    {.key = "tokenizer",
     .type = FM_OPT_STR,
     F(tokenizer),
     .aliases = "t",
     .help = "tokenizer: a folder to encode with; without it one is trained on the input."},
    {.key = "vocab_size",
     .type = FM_OPT_INT,
     F(vocab_size),
     .def = "32000",
     .min = 300,
     .max = 1e7,
     .help = "tokenizer: size to train."},
    {.key = "threads", .type = FM_OPT_INT, F(threads), .def = "0", .min = 0, .max = 4096, .help = "Threads; 0 = all."},
    {.key = "rows", .type = FM_OPT_INT, F(rows), .def = "500", .min = 1, .max = 1e6, .help = "eval: rows to answer."},
    {.key = "check",
     .type = FM_OPT_INT,
     F(check),
     .def = "0",
     .min = 0,
     .max = 1e6,
     .help =
         "serve: instead of speed, compare the logits of so many random mixes of requests bit for bit with those of "
         "each request alone."},
    {.key = "coverage",
     .type = FM_OPT_BOOL,
     F(coverage),
     .help = "ops: print which kernels exist per operation, dtype and instruction set."},
    {0},
};

const fm_option *fm_bench_option_table(void) {
    return table;
}
int fm_bench_count(void) {
    return (int)FM_ARRAY_LEN(benches);
}
const char *fm_bench_name(int i) {
    return benches[i]->name;
}
const char *fm_bench_summary(int i) {
    return benches[i]->summary;
}

fm_status fm_bench_run(const char *name, const fm_bench_options *o, fm_bench_fn fn, void *user) {
    for (size_t i = 0; i < FM_ARRAY_LEN(benches); i++) {
        if (strcmp(benches[i]->name, name) == 0) {
            return benches[i]->run(o, fn, user);
        }
    }
    FM_FAIL(FM_ERR_ARGUMENT, "there is no benchmark '%s'", name);
}

void fm_bench_emit(fm_bench_fn fn, void *user, double value, const char *unit, double ratio, const char *limit,
                   const char *name, ...) {
    char text[160];
    va_list ap;
    va_start(ap, name);
    vsnprintf(text, sizeof text, name, ap);
    va_end(ap);
    fm_bench_line l = {.name = text, .value = value, .unit = unit, .ratio = ratio, .limit = limit};
    fn(user, &l);
}

fm_status fm_bench_env_init(fm_bench_env *e, const fm_bench_options *o) {
    memset(e, 0, sizeof *e);
    e->backend = fm_cpu_backend();
    FM_TRY(fm_pool_new(&e->pool, (int)o->threads));
    e->exec.pool = e->pool;
    fm_status s = fm_scratch_new(&e->exec.scratch);
    if (s != FM_OK) {
        fm_bench_env_deinit(e);
    }
    return s;
}

void fm_bench_env_deinit(fm_bench_env *e) {
    fm_scratch_free(e->exec.scratch);
    fm_pool_free(e->pool);
    memset(e, 0, sizeof *e);
}

int fm_bench_dtypes(const fm_bench_options *o, fm_dtype out[2]) {
    int n = 0;
    bool all = !o->dtype || strcmp(o->dtype, "all") == 0;
    if (all || strcmp(o->dtype, "bf16") == 0) {
        out[n++] = FM_BF16;
    }
    if (all || strcmp(o->dtype, "f32") == 0) {
        out[n++] = FM_F32;
    }
    return n;
}
