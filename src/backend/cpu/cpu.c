/* Filling the kernel tables of the CPU. */
#include "backend/cpu/cpu.h"

#include <pthread.h>

#include "backend/cpu/providers.h"
#include "backend/cpu/quant_layout.h"
#include "backend/cpu/simd/gemm.h"
#include "base/error.h"

#if defined(__x86_64__)
#define FM_SIMD_FILE(name)                                                                                             \
    extern const fm_kernel_row fm_avx2_##name##_rows[];                                                                \
    extern const fm_kernel_row fm_avx512_##name##_rows[];
#elif defined(__aarch64__)
extern const fm_kernel_row fm_neondot_quant_rows[];
#define FM_SIMD_FILE(name) extern const fm_kernel_row fm_neon_##name##_rows[];
#else
#define FM_SIMD_FILE(name)
#endif
#include "backend/cpu/simd.def"
#undef FM_SIMD_FILE

static fm_backend sets[FM_ISA_COUNT]; /* each kernel set alone */
static fm_backend best;               /* all up to the chosen one, overlaid */
static bool present[FM_ISA_COUNT];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void overlay(fm_backend *b, const fm_kernel_row *rows) {
    for (const fm_kernel_row *r = rows; r->fn; r++) {
        b->kernel[r->kernel][r->dtype] = r->fn;
    }
}

static void add_ref(fm_backend *b) {
    overlay(b, fm_ref_rows);
}

#if defined(__x86_64__)
static void add_avx2(fm_backend *b) {
#define FM_SIMD_FILE(name) overlay(b, fm_avx2_##name##_rows);
#include "backend/cpu/simd.def"
#undef FM_SIMD_FILE
    b->matmul_pack_bytes = fm_avx2_matmul_pack_bytes;
    b->matmul_pack = fm_avx2_matmul_pack;
    b->quant_pack_bytes = fm_qp_bytes;
    b->quant_pack = fm_avx2_quant_pack;
}

static void add_avx512(fm_backend *b) {
#define FM_SIMD_FILE(name) overlay(b, fm_avx512_##name##_rows);
#include "backend/cpu/simd.def"
#undef FM_SIMD_FILE
    b->matmul_pack_bytes = fm_avx512_matmul_pack_bytes;
    b->matmul_pack = fm_avx512_matmul_pack;
    b->quant_pack_bytes = fm_qp_bytes;
    b->quant_pack = fm_avx512_quant_pack;
}
#elif defined(__aarch64__)
static void add_neon(fm_backend *b) {
#define FM_SIMD_FILE(name) overlay(b, fm_neon_##name##_rows);
#include "backend/cpu/simd.def"
#undef FM_SIMD_FILE
    b->matmul_pack_bytes = fm_neon_matmul_pack_bytes;
    b->matmul_pack = fm_neon_matmul_pack;
    b->quant_pack_bytes = fm_qp_bytes;
    b->quant_pack = fm_neon_quant_pack;
    if (fm_cpu_get()->neon_dotprod) {
        overlay(b, fm_neondot_quant_rows);
    }
}
#endif

/* A later set is overlaid on an earlier one when the chosen set includes it. */
static const struct isa_row {
    fm_isa isa;
    const char *name;
    void (*add)(fm_backend *b);
} isas[] = {
    {FM_ISA_REF, "cpu.ref", add_ref},
#if defined(__x86_64__)
    {FM_ISA_AVX2, "cpu.avx2", add_avx2},
    {FM_ISA_AVX512, "cpu.avx512", add_avx512},
#elif defined(__aarch64__)
    {FM_ISA_NEON, "cpu.neon", add_neon},
#endif
};

static bool runs(fm_isa isa) {
    const fm_cpu_info *c = fm_cpu_get();
    switch (isa) {
    case FM_ISA_REF:
        return true;
    case FM_ISA_AVX2:
        return c->avx2 && c->fma && c->f16c;
    case FM_ISA_AVX512:
        return c->avx512 && c->avx512_bf16 && c->avx512_vnni;
    case FM_ISA_NEON:
        return c->neon;
    default:
        return false;
    }
}

static void fill(void) {
    fm_isa chosen = fm_cpu_isa();
    best.kind = FM_DEVICE_CPU;
    for (size_t i = 0; i < FM_ARRAY_LEN(isas); i++) {
        const struct isa_row *row = &isas[i];
        if (!runs(row->isa)) {
            continue;
        }
        fm_backend *alone = &sets[row->isa];
        alone->name = row->name;
        alone->kind = FM_DEVICE_CPU;
        row->add(alone);
        present[row->isa] = true;
        if (row->isa <= chosen) {
            best.name = row->name;
            row->add(&best);
        }
    }
    fm_matmul_providers_apply(&best);
}

const fm_backend *fm_cpu_backend(void) {
    pthread_once(&once, fill);
    return &best;
}

const fm_backend *fm_cpu_backend_isa(fm_isa isa) {
    pthread_once(&once, fill);
    return (unsigned)isa < FM_ISA_COUNT && present[isa] ? &sets[isa] : NULL;
}
