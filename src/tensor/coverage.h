/* Which operations have kernels where: the table behind `fathom bench ops --coverage` and the coverage test. */
#ifndef FM_TENSOR_COVERAGE_H
#define FM_TENSOR_COVERAGE_H

#include "tensor/tensor.h"

/* A column: one kernel set without fallbacks and one dtype. */
typedef struct fm_coverage_column {
    const fm_backend *backend;
    const char *name; /* "avx2" */
    fm_dtype dtype;
} fm_coverage_column;

/* Appends a table operation x column to *out, and below it one line for every kernel that is missing. A cell is "yes",
 * "ref" (a kernel is missing and the op says why it may be) or "MISSING"; *n_missing counts the last kind. */
FM_MUST_CHECK fm_status fm_ops_coverage(fm_str *out, int n_columns, const fm_coverage_column *columns, int *n_missing);

#endif
