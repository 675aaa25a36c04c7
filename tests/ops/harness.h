/* Runs one case of an operation on a backend and dtype and brings values and gradients back as f64. */
#ifndef FM_TESTS_OPS_HARNESS_H
#define FM_TESTS_OPS_HARNESS_H

#include "backend/cpu/cpu.h"
#include "tensor/ops.h"

typedef int (*case_fn)(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out);

/* Inputs of a case as f64, rounded to the dtype under test; the upstream gradients R of its outputs too. */
typedef struct case_values {
    const fm_op *op;
    const fm_op_case *cs;
    fm_dtype dtype;
    int64_t n_rows; /* dim[0] of the inputs marked rows; 0 when there is none */
    int64_t numel[FM_MAX_IN];
    double *v[FM_MAX_IN];    /* float inputs */
    int32_t *ids[FM_MAX_IN]; /* i32 inputs */
} case_values;

typedef struct array {
    fm_dtype dtype;
    int64_t numel, last, dim0;
    double *v;
    void *bits; /* as the op stored them */
} array;

typedef struct result {
    int n_out;
    array out[FM_MAX_OUT];
    bool differentiable[FM_MAX_OUT];
    array grad[FM_MAX_IN]; /* v NULL: none flowed */
} result;

/* A place to run: backend, pool, dtype, with the memory for one case. */
typedef struct place {
    fm_ctx *c;
    fm_params *params;
    fm_param *param[FM_MAX_IN];
    void *buffer[FM_MAX_IN];
    const case_values *cv;
    fm_dtype dtype;
    bool fixed; /* which outputs count was settled by an earlier taped run (a run without tape cannot tell) */
    bool differentiable[FM_MAX_OUT];
} place;

void values_new(case_values *cv, const fm_op *op, const fm_op_case *cs, fm_dtype dtype);
void values_free(case_values *cv);
/* R of element i of output o. */
double upstream(const case_values *cv, int o, int64_t i);

void place_new(place *p, const case_values *cv, const fm_backend *b, fm_pool *pool, fm_dtype dtype);
void place_free(place *p);
/* Runs fn on rows [begin, end) of the inputs marked rows (all rows: 0, cv->n_rows). False with the error record set. */
bool place_run(place *p, case_fn fn, int64_t begin, int64_t end, bool backward, result *r);
void result_free(result *r);
/* sum of R * out over the differentiable outputs (the first output alone with unit_upstream). */
double result_loss(const case_values *cv, const result *r);

/* A kernel set is an fm_isa, or SET_DEFAULT: the table this machine uses, with matrix products of other providers. */
#define SET_DEFAULT FM_ISA_COUNT
#define N_SETS      (FM_ISA_COUNT + 1)
const char *set_name(int set);
/* The reference table overlaid by one kernel set; NULL when this machine cannot run it. */
const fm_backend *overlay(int set);
/* Does the kernel set have a kernel of its own for the op and dtype? */
bool set_has(int set, const fm_op *op, fm_dtype d);
/* Is there anything to test? f16 has reference kernels only. */
bool set_runs(int set, const fm_op *op, fm_dtype d);

void *must(void *p); /* aborts on NULL */
void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
extern int n_failures, n_checks;

int mode_check(const char *only);
int mode_grad(const char *only);
int mode_fused(const char *only);
int mode_rows(const char *only);
int mode_coverage(const char *only);
int mode_meta(const char *only);
int mode_errors(const char *only);

#endif
