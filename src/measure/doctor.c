/* doctor: what is here, what was measured, what will be slow and why. */
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/ceiling.h"
#include "backend/cpu/cpu.h"
#include "base/error.h"
#include "base/file.h"
#include "base/str.h"
#include "measure/measure.h"

typedef struct report {
    fm_fact_fn fn;
    void *user;
} report;

FM_PRINTF(7, 8)
static void fact(const report *r, const char *group, const char *name, double value, const char *unit, bool slow,
                 const char *fmt, ...) {
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fm_fact f = {.group = group, .name = name, .text = text, .value = value, .unit = unit, .slow = slow};
    r->fn(r->user, &f);
}

static void cpu_facts(const report *r) {
    const fm_cpu_info *c = fm_cpu_get();
    char a[32], b[32], d[32];
    fact(r, "cpu", "model", NAN, "", false, "%s", c->model[0] ? c->model : "unknown");
    fact(r, "cpu", "cpus", c->n_cpus, "", false, "%d usable by this process", c->n_cpus);
    fact(r, "cpu", "features", NAN, "", false, "%s%s%s%s%s%s%s%s%s", c->avx2 ? "avx2 " : "", c->fma ? "fma " : "",
         c->f16c ? "f16c " : "", c->avx512 ? "avx512 " : "", c->avx512_bf16 ? "avx512_bf16 " : "",
         c->avx512_vnni ? "avx512_vnni " : "", c->amx_bf16 ? "amx_bf16 " : "", c->neon ? "neon " : "",
         c->neon_bf16 ? "neon_bf16 " : "");
    fact(r, "cpu", "caches", NAN, "", false, "L1d %s, L2 %s, L3 %s", fm_format_bytes(a, sizeof a, (double)c->l1d_bytes),
         fm_format_bytes(b, sizeof b, (double)c->l2_bytes), fm_format_bytes(d, sizeof d, (double)c->l3_bytes));
    const char *forced = getenv("FATHOM_ISA");
    fact(r, "cpu", "kernels", NAN, "", forced != NULL, "%s%s%s", fm_cpu_backend()->name,
         forced ? ", forced by FATHOM_ISA=" : "", forced ? forced : "");
}

static void memory_facts(const report *r) {
    const fm_cpu_info *c = fm_cpu_get();
    char a[32], b[32];
    int64_t avail = fm_mem_available();
    fact(r, "memory", "ram", (double)fm_mem_total(), "bytes", avail < ((int64_t)4 << 30),
         "%s, %s available to this process", fm_format_bytes(a, sizeof a, (double)fm_mem_total()),
         fm_format_bytes(b, sizeof b, (double)avail));
    fact(r, "memory", "huge pages", (double)c->hugepage_bytes, "bytes", c->hugepage_bytes == 0, "%s",
         c->hugepage_bytes ? "transparent huge pages on request"
                           : "off: first use of fresh memory runs at a fraction of bandwidth "
                             "(echo madvise > /sys/kernel/mm/transparent_hugepage/enabled)");
}

/* Writes and reads one file of 64 MiB; the page cache is asked to drop it in between. */
static fm_status disk_facts(const report *r, const char *dir) {
    enum { BYTES = 64 << 20, STEP = 4 << 20 };
    char path[4096], a[32];
    int64_t room = fm_disk_free(dir);
    fact(r, "disk", "free", (double)room, "bytes", room >= 0 && room < ((int64_t)5 << 30), "%s in %s",
         room < 0 ? "unknown" : fm_format_bytes(a, sizeof a, (double)room), dir);
    if (room < (int64_t)BYTES * 4) {
        return FM_OK;
    }
    FM_TRY(fm_path_join(path, sizeof path, dir, ".fathom-doctor-XXXXXX"));
    int fd = mkstemp(path);
    if (fd < 0) {
        fact(r, "disk", "write", NAN, "", true, "%s cannot be written to", dir);
        return FM_OK;
    }
    char *buf = fm_malloc(STEP);
    bool ok = buf != NULL;
    double t = fm_now();
    if (ok) {
        memset(buf, 0x5a, STEP);
    }
    for (int i = 0; i < BYTES / STEP && ok; i++) {
        ok = write(fd, buf, STEP) == STEP;
    }
    ok = ok && fsync(fd) == 0;
    double write_s = fm_now() - t;
    ok = ok && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0 && lseek(fd, 0, SEEK_SET) == 0;
    t = fm_now();
    for (int i = 0; i < BYTES / STEP && ok; i++) {
        ok = read(fd, buf, STEP) == STEP;
    }
    double read_s = fm_now() - t;
    close(fd);
    unlink(path);
    fm_free(buf);
    if (ok) {
        fact(r, "disk", "write", BYTES / write_s, "bytes/s", BYTES / write_s < 50e6, "%.0f MB/s with sync",
             BYTES / write_s * 1e-6);
        fact(r, "disk", "read", BYTES / read_s, "bytes/s", BYTES / read_s < 100e6, "%.0f MB/s", BYTES / read_s * 1e-6);
    }
    return FM_OK;
}

static void library_facts(const report *r) {
    const fm_dnnl_info *d = fm_dnnl_get();
    if (d->available) {
        fact(r, "libraries", "oneDNN", NAN, "", false, "%d.%d.%d, opened at run time", d->major, d->minor, d->patch);
    } else {
        fact(r, "libraries", "oneDNN", NAN, "", false, "not used: %s (own kernels do the work)",
             d->why_not ? d->why_not : "not found");
    }
}

static fm_status measured_facts(const report *r) {
    fm_pool *pool = NULL;
    fm_exec x = {0};
    FM_TRY(fm_pool_new(&pool, 0));
    fm_status s = fm_scratch_new(&x.scratch);
    x.pool = pool;
    double f32 = 0, bf16 = 0, read = 0;
    const fm_backend *b = fm_cpu_backend();
    if (s == FM_OK) {
        s = fm_ceiling_matmul(b, &x, FM_F32, 0.4, &f32);
    }
    if (s == FM_OK) {
        s = fm_ceiling_matmul(b, &x, FM_BF16, 0.4, &bf16);
    }
    if (s == FM_OK) {
        s = fm_ceiling_read(pool, 0.4, &read);
    }
    if (s == FM_OK) {
        int n = fm_pool_threads(pool);
        fact(r, "measured", "matmul f32", f32 * 1e-9, "GFLOP/s", false, "%.0f GFLOP/s at 1024^3, %d threads",
             f32 * 1e-9, n);
        fact(r, "measured", "matmul bf16", bf16 * 1e-9, "GFLOP/s", bf16 < 1.2 * f32,
             "%.0f GFLOP/s at 1024^3, %d threads%s", bf16 * 1e-9, n,
             bf16 < 1.2 * f32 ? ": no gain over f32 on this CPU, train with precision=fp32" : "");
        fact(r, "measured", "memory read", read * 1e-9, "GB/s", read < 8e9, "%.1f GB/s, %d threads", read * 1e-9, n);
        fact(r, "measured", "decode ceiling", read / 2e9, "", false,
             "a bf16 model of 1B parameters cannot exceed %.0f tokens/s (bandwidth / weights)", read / 2e9);
    }
    fm_scratch_free(x.scratch);
    fm_pool_free(pool);
    return s;
}

fm_status fm_doctor(const char *dir, fm_fact_fn fn, void *user) {
    report r = {.fn = fn, .user = user};
    cpu_facts(&r);
    memory_facts(&r);
    FM_TRY(disk_facts(&r, dir ? dir : "."));
    library_facts(&r);
    return measured_facts(&r);
}
