/* Running kernels, their profile, and the meta device. */
#include "backend/backend.h"

#include <stdatomic.h>

#include "backend/scratch.h"
#include "base/error.h"
#include "base/file.h"

static const char *const kernel_names[FM_KERNEL_COUNT] = {
#define FM_X(name, args) #name,
    FM_KERNEL_LIST(FM_X)
#undef FM_X
};

const char *fm_kernel_name(fm_kernel k) {
    return (unsigned)k < FM_KERNEL_COUNT ? kernel_names[k] : "unknown";
}

const fm_backend fm_meta_backend = {.name = "meta", .kind = FM_DEVICE_META};

static atomic_bool profile_on;
static struct { atomic_llong ns, calls; } profile[FM_KERNEL_COUNT];

void fm_profile_enable(bool on) {
    atomic_store(&profile_on, on);
}

void fm_profile_reset(void) {
    for (int i = 0; i < FM_KERNEL_COUNT; i++) {
        atomic_store(&profile[i].ns, 0);
        atomic_store(&profile[i].calls, 0);
    }
}

fm_kernel_time fm_profile_get(fm_kernel k) {
    fm_kernel_time t = {0};
    if ((unsigned)k < FM_KERNEL_COUNT) {
        t.seconds = (double)atomic_load(&profile[k].ns) * 1e-9;
        t.calls = atomic_load(&profile[k].calls);
    }
    return t;
}

fm_status fm_kernel_run(const fm_backend *b, const fm_exec *x, fm_kernel k, fm_dtype d, const void *args) {
    FM_ASSERT((unsigned)k < FM_KERNEL_COUNT && (unsigned)d < FM_DTYPE_COUNT);
    fm_kernel_fn fn = b->kernel[k][d];
    if (!fn) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "kernel %s for %s does not exist on device %s", kernel_names[k],
                fm_dtype_get(d)->name, b->name);
    }
    fm_scratch_mark mark = fm_scratch_save(x->scratch);
    bool timed = atomic_load_explicit(&profile_on, memory_order_relaxed);
    double start = timed ? fm_now() : 0.0;
    fm_status s = fn(x, args);
    if (timed) {
        atomic_fetch_add(&profile[k].ns, (long long)((fm_now() - start) * 1e9));
        atomic_fetch_add(&profile[k].calls, 1);
    }
    fm_scratch_restore(x->scratch, mark);
    return s;
}
