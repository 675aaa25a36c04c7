#include "backend/cpu/simd/simd.h"

extern const fm_kernel_row FM_SIMD_FN(optim_rows)[];
const fm_kernel_row FM_SIMD_FN(optim_rows)[] = {{FM_KERNEL_COUNT, FM_DTYPE_COUNT, NULL}};
