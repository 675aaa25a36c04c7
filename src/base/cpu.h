/* What the processor can do, and which kernel set is used. */
#ifndef FM_BASE_CPU_H
#define FM_BASE_CPU_H

#include <stdbool.h>
#include <stdint.h>

typedef enum fm_isa { FM_ISA_REF, FM_ISA_AVX2, FM_ISA_AVX512, FM_ISA_NEON, FM_ISA_COUNT } fm_isa;

typedef struct fm_cpu_info {
    char model[96];
    int n_cpus; /* usable by this process */
    bool avx2, fma, f16c, avx512, avx512_bf16, avx512_vnni, avx_vnni, amx_bf16, neon, neon_bf16, neon_dotprod;
    int64_t l1d_bytes, l2_bytes, l3_bytes; /* 0 when unknown */
    int64_t hugepage_bytes;                /* 0 when transparent huge pages are off */
} fm_cpu_info;

const fm_cpu_info *fm_cpu_get(void);
/* Best kernel set that this CPU runs, lowered by FATHOM_ISA=ref|avx2|avx512|neon. avx512 means F, BW, DQ,
 * VL, BF16 and VNNI together; a CPU without BF16 uses avx2. */
fm_isa fm_cpu_isa(void);
const char *fm_isa_name(fm_isa isa);

#endif
