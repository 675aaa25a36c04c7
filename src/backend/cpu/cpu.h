/* The CPU backend. */
#ifndef FM_BACKEND_CPU_CPU_H
#define FM_BACKEND_CPU_CPU_H

#include "backend/backend.h"

/* The table for this machine and FATHOM_ISA, filled once; never fails. FATHOM_MATMUL=onednn takes matrix products
 * from oneDNN where it can do them, at the price of row invariance; the default is own. */
const fm_backend *fm_cpu_backend(void);
/* The table of one kernel set without fallbacks, for coverage and comparison; NULL when this CPU cannot
 * run it or it was not built. FM_ISA_REF is the reference. */
const fm_backend *fm_cpu_backend_isa(fm_isa isa);

/* Kernel sets: each SIMD source file exports rows; simd.def lists the files. A row list ends with fn NULL. */
extern const fm_kernel_row fm_ref_rows[];

/* oneDNN (dnnl.c): opened at run time. */
typedef struct fm_dnnl_info {
    bool available;
    int major, minor, patch;
    const char *why_not; /* when not available */
} fm_dnnl_info;
const fm_dnnl_info *fm_dnnl_get(void);
fm_status fm_dnnl_matmul_f32(const fm_exec *x, const void *args);
fm_status fm_dnnl_matmul_bf16(const fm_exec *x, const void *args);

#endif
