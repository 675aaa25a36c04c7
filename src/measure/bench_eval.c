/* bench eval: a generative evaluation with random weights: the time that `fathom eval` takes for so many rows, what a
 * row costs in processor time, and how full the passes of the engine are. */
#include <math.h>
#include <sys/resource.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "eval/task.h"
#include "measure/bench_model.h"

#define TOKENS 128 /* of an answer: random weights do not end one before */
#define SHARED 32  /* of a prompt: description and examples */
#define LEAST  24  /* behind them; every row has another length up to */
#define MOST   152

static double processor_s(void) {
    struct rusage u = {0};
    (void)getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

typedef struct job {
    const fm_bench_options *o;
    fm_bench_fn fn;
    void *user;
} job;

/* ids [rows,SHARED+MOST] */
static void fill(int32_t *ids, fm_eval_request *req, int64_t rows, int32_t vocab) {
    for (int64_t i = 0; i < rows; i++, ids += SHARED + MOST) {
        int32_t n = SHARED + LEAST + (int32_t)(i * 37 % (MOST - LEAST + 1));
        for (int32_t k = 0; k < n; k++) {
            ids[k] = (int32_t)(((int64_t)k * 7919 + (k < SHARED ? 0 : i * 104729 + 13)) % vocab);
        }
        req[i] = (fm_eval_request){.ids = ids, .n_ids = n};
    }
}

static fm_status answer(const job *j, fm_model *m, const char *name, int64_t rows, const fm_eval_request *req,
                        fm_eval_scores *s) {
    const fm_eval_generation g = {.max_new_tokens = TOKENS};
    double begin = fm_now(), cpu = processor_s();
    FM_TRY(fm_eval_generate(m, req, (size_t)rows, &g, s));
    double seconds = fm_now() - begin, n = (double)rows;
    cpu = processor_s() - cpu;
    fm_bench_emit(j->fn, j->user, seconds, "s", NAN, NULL, "eval %s: %lld rows, %lld tokens of answers", name,
                  (long long)rows, (long long)s->generated);
    fm_bench_emit(j->fn, j->user, seconds / n * 500, "s", NAN, NULL, "eval %s: 500 such rows", name);
    fm_bench_emit(j->fn, j->user, (double)s->generated / seconds, "tok/s", NAN, NULL, "eval %s", name);
    fm_bench_emit(j->fn, j->user, cpu / n, "s", NAN, NULL, "eval %s: processor time of a row", name);
    fm_bench_emit(j->fn, j->user, s->passes > 0 ? (double)s->pass_sequences / (double)s->passes : (double)NAN,
                  "answers", NAN, NULL, "eval %s: in a pass", name);
    return FM_OK;
}

static fm_status one_model(void *arg, fm_model *m, const char *name) {
    const job *j = arg;
    int64_t rows = j->o->rows > 0 ? j->o->rows : 500;
    fm_eval_scores s = {0};
    fm_eval_request *req = fm_calloc((size_t)rows, sizeof *req);
    int32_t *ids = fm_calloc((size_t)rows, (SHARED + MOST) * sizeof *ids);
    s.output = fm_calloc((size_t)rows, sizeof *s.output);
    s.cut = fm_calloc((size_t)rows, sizeof *s.cut);
    fm_status st = FM_OK;
    if (!req || !ids || !s.output || !s.cut) {
        st = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for %lld rows", (long long)rows);
    } else {
        fill(ids, req, rows, m->cfg.vocab_size);
        st = answer(j, m, name, rows, req, &s);
    }
    fm_free(s.output);
    fm_free(s.cut);
    fm_bump_free(&s.arena);
    fm_free(ids);
    fm_free(req);
    return st;
}

static fm_status run(const fm_bench_options *o, fm_bench_fn fn, void *user) {
    job j = {.o = o, .fn = fn, .user = user};
    return fm_bench_models(o, one_model, &j);
}

extern const fm_bench fm_bench_eval;
const fm_bench fm_bench_eval = {
    .name = "eval", .summary = "answers of a generative evaluation: time of 500 rows, how full passes are", .run = run};
