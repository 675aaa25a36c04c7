/* Processor features. Asked once, at the first call. */
#include "base/cpu.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include "base/error.h"
#include "base/log.h"
#include "base/pool.h"

static fm_cpu_info info;
static fm_isa chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__)
static uint64_t xgetbv0(void) {
    uint32_t a, d;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (uint64_t)d << 32 | a;
}

/* A feature counts only when the system saves its registers too (XCR0). */
static void features(fm_cpu_info *c) {
    unsigned a, b, cx, d;
    if (!__get_cpuid(1, &a, &b, &cx, &d) || !(cx & 1u << 27)) {
        return;
    }
    uint64_t xcr0 = xgetbv0();
    bool ymm = (xcr0 & 0x6) == 0x6, zmm = (xcr0 & 0xE6) == 0xE6, tiles = (xcr0 & 0x60000) == 0x60000;
    c->fma = ymm && (cx & 1u << 12);
    c->f16c = ymm && (cx & 1u << 29);
    if (!__get_cpuid_count(7, 0, &a, &b, &cx, &d)) {
        return;
    }
    unsigned max_sub = a;
    c->avx2 = ymm && (b & 1u << 5);
    const unsigned f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31;
    c->avx512 = zmm && (b & (f | dq | bw | vl)) == (f | dq | bw | vl);
    c->avx512_vnni = c->avx512 && (cx & 1u << 11);
    bool tile = (d & 1u << 24) != 0;
    c->amx_bf16 = tiles && tile && (d & 1u << 22);
    if (max_sub >= 1 && __get_cpuid_count(7, 1, &a, &b, &cx, &d)) {
        c->avx512_bf16 = c->avx512 && (a & 1u << 5);
        c->avx_vnni = ymm && (a & 1u << 4);
    }
}
#elif defined(__aarch64__)
static void features(fm_cpu_info *c) {
    /* Bits of the kernel's AT_HWCAP and AT_HWCAP2, fixed by its interface. */
    unsigned long cap = getauxval(AT_HWCAP), cap2 = getauxval(AT_HWCAP2);
    c->neon = (cap & 1ul << 1) != 0;
    c->neon_dotprod = (cap & 1ul << 20) != 0;
    c->neon_bf16 = (cap2 & 1ul << 14) != 0;
}
#else
static void features(fm_cpu_info *c) {
    FM_UNUSED(c);
}
#endif

static bool first_line(const char *path, char *buf, size_t cap) {
    FILE *f = fopen(path, "re");
    if (!f) {
        return false;
    }
    bool ok = fgets(buf, (int)cap, f) != NULL;
    fclose(f);
    buf[ok ? strcspn(buf, "\n") : 0] = '\0';
    return ok;
}

static void model_name(fm_cpu_info *c) {
    FILE *f = fopen("/proc/cpuinfo", "re");
    char line[512];
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (colon && (strncmp(line, "model name", 10) == 0 || strncmp(line, "CPU part", 8) == 0)) {
            colon += 1 + strspn(colon + 1, " \t");
            colon[strcspn(colon, "\n")] = '\0';
            snprintf(c->model, sizeof c->model, "%s%.80s", line[0] == 'C' ? "ARM part " : "", colon);
            break;
        }
    }
    if (f) {
        fclose(f);
    }
    if (!c->model[0]) {
        snprintf(c->model, sizeof c->model, "unknown");
    }
}

static void caches(fm_cpu_info *c) {
    for (int i = 0; i < 8; i++) {
        char path[128], level[16], type[32], size[32];
        const char *base = "/sys/devices/system/cpu/cpu0/cache/index";
        snprintf(path, sizeof path, "%s%d/level", base, i);
        if (!first_line(path, level, sizeof level)) {
            return;
        }
        snprintf(path, sizeof path, "%s%d/type", base, i);
        bool ok = first_line(path, type, sizeof type);
        snprintf(path, sizeof path, "%s%d/size", base, i);
        if (!ok || !first_line(path, size, sizeof size) || strcmp(type, "Instruction") == 0) {
            continue;
        }
        char *unit;
        int64_t bytes = strtoll(size, &unit, 10);
        bytes *= *unit == 'K' ? 1024 : *unit == 'M' ? 1048576 : 1;
        int64_t *to = level[0] == '1' ? &c->l1d_bytes : level[0] == '2' ? &c->l2_bytes : &c->l3_bytes;
        *to = bytes;
    }
}

static fm_isa best_isa(const fm_cpu_info *c) {
    if (c->avx512 && c->avx512_bf16 && c->avx512_vnni && c->avx2 && c->fma && c->f16c) {
        return FM_ISA_AVX512;
    }
    if (c->avx2 && c->fma && c->f16c) {
        return FM_ISA_AVX2;
    }
    return c->neon ? FM_ISA_NEON : FM_ISA_REF;
}

static void detect(void) {
    features(&info);
    model_name(&info);
    caches(&info);
    info.n_cpus = fm_cpu_count();
    char buf[128];
    if (first_line("/sys/kernel/mm/transparent_hugepage/enabled", buf, sizeof buf) && !strstr(buf, "[never]")) {
        info.hugepage_bytes = 2 << 20;
        if (first_line("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", buf, sizeof buf)) {
            info.hugepage_bytes = strtoll(buf, NULL, 10);
        }
    }
    chosen = best_isa(&info);
    const char *want = getenv("FATHOM_ISA");
    if (!want || !*want) {
        return;
    }
    for (fm_isa i = FM_ISA_REF; i < FM_ISA_COUNT; i++) {
        if (strcmp(want, fm_isa_name(i)) == 0) {
            /* Down only: never to instructions that this processor lacks. */
            if (i == FM_ISA_REF || i == chosen || (i == FM_ISA_AVX2 && chosen == FM_ISA_AVX512)) {
                chosen = i;
            } else {
                fm_warn("FATHOM_ISA=%s is not possible on this processor; using %s", want, fm_isa_name(chosen));
            }
            return;
        }
    }
    fm_warn("FATHOM_ISA: expected ref, avx2, avx512 or neon, found '%s'; using %s", want, fm_isa_name(chosen));
}

const fm_cpu_info *fm_cpu_get(void) {
    pthread_once(&once, detect);
    return &info;
}

fm_isa fm_cpu_isa(void) {
    pthread_once(&once, detect);
    return chosen;
}

const char *fm_isa_name(fm_isa isa) {
    static const char *const names[] = {"ref", "avx2", "avx512", "neon"};
    return (int)isa >= 0 && isa < FM_ISA_COUNT ? names[isa] : "?";
}
