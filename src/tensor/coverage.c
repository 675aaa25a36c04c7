#include "tensor/coverage.h"

#include <stdio.h>
#include <string.h>

#define MAX_KERNELS ((int)FM_ARRAY_LEN(((fm_op *)0)->kernels))

/* The first kernel of the op that the column lacks, or FM_KERNEL_COUNT. */
static fm_kernel lacks(const fm_op *op, const fm_coverage_column *col) {
    for (int k = 0; k < MAX_KERNELS && op->kernels[k] != FM_KERNEL_COUNT; k++) {
        if (!col->backend->kernel[op->kernels[k]][col->dtype]) {
            return op->kernels[k];
        }
    }
    return FM_KERNEL_COUNT;
}

static bool used_by_an_op(fm_kernel k) {
    for (int i = 0; i < fm_n_ops; i++) {
        for (int j = 0; j < MAX_KERNELS && fm_ops[i]->kernels[j] != FM_KERNEL_COUNT; j++) {
            if (fm_ops[i]->kernels[j] == k) {
                return true;
            }
        }
    }
    return false;
}

static void header(fm_str *out, const char *first, int n, const fm_coverage_column *col) {
    fm_str_printf(out, "%-20s", first);
    for (int j = 0; j < n; j++) {
        char name[32];
        snprintf(name, sizeof name, "%s.%s", col[j].name, fm_dtype_get(col[j].dtype)->name);
        fm_str_printf(out, " %-12s", name);
    }
    fm_str_putc(out, '\n');
}

fm_status fm_ops_coverage(fm_str *out, int n_columns, const fm_coverage_column *columns, int *n_missing) {
    *n_missing = 0;
    header(out, "operation", n_columns, columns);
    for (int i = 0; i < fm_n_ops; i++) {
        const fm_op *op = fm_ops[i];
        fm_str_printf(out, "%-20s", op->name);
        for (int j = 0; j < n_columns; j++) {
            const char *cell = "-"; /* no kernel of its own */
            if (op->kernels[0] != FM_KERNEL_COUNT) {
                bool all = lacks(op, &columns[j]) == FM_KERNEL_COUNT;
                cell = all ? "yes" : op->missing_ok ? "ref" : "MISSING";
                *n_missing += !all && !op->missing_ok;
            }
            fm_str_printf(out, " %-12s", cell);
        }
        fm_str_putc(out, '\n');
    }
    header(out, "\nother kernels", n_columns, columns);
    for (fm_kernel k = 0; k < FM_KERNEL_COUNT; k++) {
        if (!used_by_an_op(k)) {
            fm_str_printf(out, "%-20s", fm_kernel_name(k));
            for (int j = 0; j < n_columns; j++) {
                fm_str_printf(out, " %-12s", columns[j].backend->kernel[k][columns[j].dtype] ? "yes" : "no");
            }
            fm_str_putc(out, '\n');
        }
    }
    for (int i = 0; i < fm_n_ops; i++) {
        for (int j = 0; j < n_columns; j++) {
            fm_kernel k = lacks(fm_ops[i], &columns[j]);
            if (k != FM_KERNEL_COUNT) {
                fm_str_printf(out, "%s: no kernel %s for %s in %s%s%s\n", fm_ops[i]->name, fm_kernel_name(k),
                              fm_dtype_get(columns[j].dtype)->name, columns[j].name, fm_ops[i]->missing_ok ? ": " : "",
                              fm_ops[i]->missing_ok ? fm_ops[i]->missing_ok : "");
            }
        }
    }
    return fm_str_check(out);
}
