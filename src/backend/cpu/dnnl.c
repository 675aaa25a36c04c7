/* oneDNN as a provider of matrix products: opened at run time, called single-threaded from each thread of
 * our pool on its own part of C.
 *
 * Both programming interfaces are supported, 2.x (operation descriptors) and 3.x; the one of the header
 * this file was built with, and the library must have the same major version.
 *
 * Primitives are kept in a small cache by shape and form, all made by the thread that starts a product, with
 * OpenMP set to one thread there: oneDNN fixes the number of threads when a primitive is made. Scratch memory is
 * ours. oneDNN does not promise bits of a row that are free of the number of rows, so where that matters
 * (generation, batched serving) our own kernel is to be used; see providers.c for the order and the measurements. */
#include "backend/cpu/cpu.h"

#include "base/error.h"

#ifndef FM_HAVE_DNNL

const fm_dnnl_info *fm_dnnl_get(void) {
    static const fm_dnnl_info none = {.why_not = "built without the oneDNN header"};
    return &none;
}
fm_status fm_dnnl_matmul_f32(const fm_exec *x, const void *args) {
    FM_UNUSED(x);
    FM_UNUSED(args);
    FM_FAIL(FM_ERR_UNSUPPORTED, "oneDNN: %s", fm_dnnl_get()->why_not);
}
fm_status fm_dnnl_matmul_bf16(const fm_exec *x, const void *args) {
    return fm_dnnl_matmul_f32(x, args);
}

#else

#include <dlfcn.h>
#include <dnnl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/cpu.h"

#define CACHE_SIZE 128
#define ALIGN      64
#define MAX_SIZES  3 /* fm_split gives at most two whole sizes and a tail */

#if DNNL_VERSION_MAJOR == 2
#define FUNCTIONS_BY_VERSION(X)                                                                                        \
    X(dnnl_memory_desc_init_by_strides)                                                                                \
    X(dnnl_matmul_desc_init)                                                                                           \
    X(dnnl_primitive_desc_create)
typedef const dnnl_memory_desc_t *desc_ptr;
#elif DNNL_VERSION_MAJOR == 3
#define FUNCTIONS_BY_VERSION(X)                                                                                        \
    X(dnnl_memory_desc_create_with_strides)                                                                            \
    X(dnnl_memory_desc_destroy)                                                                                        \
    X(dnnl_matmul_primitive_desc_create)
typedef const_dnnl_memory_desc_t desc_ptr;
#else
#error "oneDNN 2.x or 3.x is needed (or configure with -DFATHOM_DNNL=OFF)"
#endif

#define FUNCTIONS(X)                                                                                                   \
    X(dnnl_version)                                                                                                    \
    X(dnnl_engine_create)                                                                                              \
    X(dnnl_stream_create)                                                                                              \
    X(dnnl_stream_wait)                                                                                                \
    X(dnnl_stream_destroy)                                                                                             \
    X(dnnl_post_ops_create)                                                                                            \
    X(dnnl_post_ops_append_sum)                                                                                        \
    X(dnnl_post_ops_destroy)                                                                                           \
    X(dnnl_primitive_attr_create)                                                                                      \
    X(dnnl_primitive_attr_set_post_ops)                                                                                \
    X(dnnl_primitive_attr_set_scratchpad_mode)                                                                         \
    X(dnnl_primitive_attr_destroy)                                                                                     \
    X(dnnl_primitive_desc_query_md)                                                                                    \
    X(dnnl_primitive_desc_destroy)                                                                                     \
    X(dnnl_primitive_create)                                                                                           \
    X(dnnl_primitive_execute)                                                                                          \
    X(dnnl_primitive_destroy)                                                                                          \
    X(dnnl_memory_desc_get_size)                                                                                       \
    X(dnnl_memory_create)                                                                                              \
    X(dnnl_memory_destroy)                                                                                             \
    FUNCTIONS_BY_VERSION(X)

static struct api {
#define FM_X(name) __typeof__(name) *name;
    FUNCTIONS(FM_X)
#undef FM_X
    void (*omp_set_num_threads)(int); /* NULL in a build without OpenMP */
    int (*omp_get_max_threads)(void);
    dnnl_engine_t engine;
} api;

static fm_dnnl_info info;
static char why_not[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* POSIX lets a data pointer from dlsym be a function pointer, ISO C does not: copy it. */
static bool find(void *lib, const char *name, void *fn) {
    void *sym = dlsym(lib, name);
    memcpy(fn, &sym, sizeof sym);
    return sym != NULL;
}

static void open_library(void) {
    info.why_not = why_not;
    char file[32];
    (void)snprintf(file, sizeof file, "libdnnl.so.%d", DNNL_VERSION_MAJOR);
    void *lib = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!lib) {
        (void)snprintf(why_not, sizeof why_not, "%s cannot be opened: %s", file, dlerror());
        return;
    }
#define FM_X(name)                                                                                                     \
    if (!find(lib, #name, &api.name)) {                                                                                \
        (void)snprintf(why_not, sizeof why_not, "%s has no function %s", file, #name);                                 \
        return;                                                                                                        \
    }
    FUNCTIONS(FM_X)
#undef FM_X
    const dnnl_version_t *v = api.dnnl_version();
    info.major = v->major;
    info.minor = v->minor;
    info.patch = v->patch;
    if (v->major != DNNL_VERSION_MAJOR) {
        (void)snprintf(why_not, sizeof why_not, "%s is version %d, built for version %d", file, v->major,
                       DNNL_VERSION_MAJOR);
        return;
    }
    bool omp = find(lib, "omp_set_num_threads", &api.omp_set_num_threads) &&
               find(lib, "omp_get_max_threads", &api.omp_get_max_threads);
    if (!(v->cpu_runtime == DNNL_RUNTIME_SEQ || (v->cpu_runtime == DNNL_RUNTIME_OMP && omp))) {
        (void)snprintf(why_not, sizeof why_not, "%s uses a threading library that cannot be limited to one thread",
                       file);
        return;
    }
    if (api.dnnl_engine_create(&api.engine, dnnl_cpu, 0) != dnnl_success) {
        (void)snprintf(why_not, sizeof why_not, "%s: no CPU engine", file);
        return;
    }
    info.available = true;
    info.why_not = NULL;
}

const fm_dnnl_info *fm_dnnl_get(void) {
    pthread_once(&once, open_library);
    return &info;
}

/* Sets OpenMP to one thread in this thread; returns what was set before. */
static int omp_single(void) {
    int before = 0;
    if (api.omp_set_num_threads) {
        before = api.omp_get_max_threads();
        if (before != 1) {
            api.omp_set_num_threads(1);
        }
    }
    return before;
}
static void omp_restore(int before) {
    if (before > 1) {
        api.omp_set_num_threads(before);
    }
}

/* Compared as bytes: always start from zeroed storage. */
typedef struct prim_key {
    int64_t m, n, k, lda, ldb, ldc;
    int32_t bf16, trans_a, trans_b, c_f32, accumulate, bias;
} prim_key;

typedef struct prim {
    prim_key key;
    dnnl_primitive_t primitive;
    /* of a, b, bias, c, scratch. 2.x descriptors are values, 3.x ones are owned. */
    dnnl_memory_desc_t a, b, bias, c, scratch;
    int64_t scratch_bytes;
    int users;
    uint64_t used; /* time of last use */
} prim;

static prim cache[CACHE_SIZE];
static uint64_t cache_clock;
static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;

#if DNNL_VERSION_MAJOR == 2
static desc_ptr desc(const dnnl_memory_desc_t *d) {
    return d;
}
static bool desc_make(dnnl_memory_desc_t *d, int64_t rows, int64_t cols, dnnl_data_type_t type, int64_t row_stride,
                      int64_t col_stride) {
    const dnnl_dims_t dims = {rows, cols}, strides = {row_stride, col_stride};
    return api.dnnl_memory_desc_init_by_strides(d, 2, dims, type, strides) == dnnl_success;
}
static void desc_free(dnnl_memory_desc_t *d) {
    FM_UNUSED(d);
}
static bool desc_copy_scratch(prim *p, dnnl_primitive_desc_t pd) {
    desc_ptr s = api.dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    if (s) {
        p->scratch = *s;
        p->scratch_bytes = (int64_t)api.dnnl_memory_desc_get_size(s);
    }
    return true;
}
static bool desc_matmul(prim *p, dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *pd) {
    dnnl_matmul_desc_t d;
    return api.dnnl_matmul_desc_init(&d, &p->a, &p->b, p->key.bias ? &p->bias : NULL, &p->c) == dnnl_success &&
           api.dnnl_primitive_desc_create(pd, &d, attr, api.engine, NULL) == dnnl_success;
}
static bool append_sum(dnnl_post_ops_t ops) {
    return api.dnnl_post_ops_append_sum(ops, 1.0F) == dnnl_success;
}
#else
static desc_ptr desc(const dnnl_memory_desc_t *d) {
    return *d;
}
static bool desc_make(dnnl_memory_desc_t *d, int64_t rows, int64_t cols, dnnl_data_type_t type, int64_t row_stride,
                      int64_t col_stride) {
    const dnnl_dims_t dims = {rows, cols}, strides = {row_stride, col_stride};
    return api.dnnl_memory_desc_create_with_strides(d, 2, dims, type, strides) == dnnl_success;
}
static void desc_free(dnnl_memory_desc_t *d) {
    if (*d) {
        (void)api.dnnl_memory_desc_destroy(*d);
    }
}
static bool desc_copy_scratch(prim *p, dnnl_primitive_desc_t pd) {
    desc_ptr s = api.dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    p->scratch_bytes = s ? (int64_t)api.dnnl_memory_desc_get_size(s) : 0;
    /* The queried one belongs to pd. Scratch is plain bytes. */
    const dnnl_dims_t dims = {p->scratch_bytes}, strides = {1};
    return p->scratch_bytes == 0 ||
           api.dnnl_memory_desc_create_with_strides(&p->scratch, 1, dims, dnnl_u8, strides) == dnnl_success;
}
static bool desc_matmul(prim *p, dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *pd) {
    return api.dnnl_matmul_primitive_desc_create(pd, api.engine, p->a, p->b, p->key.bias ? p->bias : NULL, p->c,
                                                 attr) == dnnl_success;
}
static bool append_sum(dnnl_post_ops_t ops) {
    return api.dnnl_post_ops_append_sum(ops, 1.0F, 0, dnnl_data_type_undef) == dnnl_success;
}
#endif

static void prim_deinit(prim *p) {
    if (p->primitive) {
        (void)api.dnnl_primitive_destroy(p->primitive);
    }
    desc_free(&p->a);
    desc_free(&p->b);
    desc_free(&p->bias);
    desc_free(&p->c);
    desc_free(&p->scratch);
    memset(p, 0, sizeof *p);
}

/* Fills p from p->key; false when oneDNN cannot do it. */
static bool prim_make(prim *p) {
    const prim_key *k = &p->key;
    const dnnl_data_type_t in = k->bf16 ? dnnl_bf16 : dnnl_f32;
    bool ok = desc_make(&p->a, k->m, k->k, in, k->trans_a ? 1 : k->lda, k->trans_a ? k->lda : 1) &&
              desc_make(&p->b, k->k, k->n, in, k->trans_b ? 1 : k->ldb, k->trans_b ? k->ldb : 1) &&
              desc_make(&p->c, k->m, k->n, k->c_f32 ? dnnl_f32 : dnnl_bf16, k->ldc, 1) &&
              (!k->bias || desc_make(&p->bias, 1, k->n, in, k->n, 1));
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    dnnl_primitive_desc_t pd = NULL;
    ok = ok && api.dnnl_primitive_attr_create(&attr) == dnnl_success &&
         api.dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) == dnnl_success;
    if (ok && k->accumulate) {
        ok = api.dnnl_post_ops_create(&ops) == dnnl_success && append_sum(ops) &&
             api.dnnl_primitive_attr_set_post_ops(attr, ops) == dnnl_success;
    }
    ok = ok && desc_matmul(p, attr, &pd) && desc_copy_scratch(p, pd) &&
         api.dnnl_primitive_create(&p->primitive, pd) == dnnl_success;
    if (pd) {
        (void)api.dnnl_primitive_desc_destroy(pd);
    }
    if (ops) {
        (void)api.dnnl_post_ops_destroy(ops);
    }
    if (attr) {
        (void)api.dnnl_primitive_attr_destroy(attr);
    }
    return ok;
}

/* The primitive for a key, held until prim_release; NULL when oneDNN cannot do it, or all places are in use. */
static prim *prim_acquire(const prim_key *key) {
    prim *found = NULL, *oldest = NULL;
    pthread_mutex_lock(&cache_lock);
    for (int i = 0; i < CACHE_SIZE && !found; i++) {
        prim *p = &cache[i];
        if (p->primitive && memcmp(&p->key, key, sizeof *key) == 0) {
            found = p;
        } else if (p->users == 0 && (!oldest || p->used < oldest->used)) {
            oldest = p;
        }
    }
    if (!found && oldest) {
        prim_deinit(oldest);
        oldest->key = *key;
        if (prim_make(oldest)) {
            found = oldest;
        } else {
            prim_deinit(oldest);
        }
    }
    if (found) {
        found->users++;
        found->used = ++cache_clock;
    }
    pthread_mutex_unlock(&cache_lock);
    return found;
}

static void prim_release(prim *p) {
    pthread_mutex_lock(&cache_lock);
    p->users--;
    pthread_mutex_unlock(&cache_lock);
}

/* A product split into parts along m or n. */
typedef struct job {
    const fm_matmul_args *g;
    bool bf16, along_m;
    int64_t total;            /* rows or columns split */
    int64_t sizes[MAX_SIZES]; /* the different sizes of parts */
    prim *prims[MAX_SIZES];
    int n_sizes;
    char *scratch;
    int64_t scratch_bytes; /* per thread */
} job;

static bool add_memory(dnnl_exec_arg_t *args, int *n, int which, const dnnl_memory_desc_t *d, const void *data) {
    dnnl_exec_arg_t *arg = &args[*n];
    arg->arg = which;
    void *p;
    memcpy(&p, &data, sizeof p); /* inputs are not written, but the type has no const */
    if (api.dnnl_memory_create(&arg->memory, desc(d), api.engine, p) != dnnl_success) {
        return false;
    }
    ++*n;
    return true;
}

static fm_status run_part(void *arg, int64_t part, int64_t n_parts, int thread) {
    const job *w = arg;
    const fm_matmul_args *g = w->g;
    int64_t begin, end;
    fm_split(w->total, part, n_parts, ALIGN, &begin, &end);
    if (begin == end) {
        return FM_OK;
    }
    int which = 0;
    while (w->sizes[which] != end - begin) {
        which++;
    }
    const prim *p = w->prims[which];
    const int64_t es = w->bf16 ? 2 : 4, c_es = g->c_dtype == FM_F32 ? 4 : 2;
    const char *a = g->a, *b = g->b, *bias = g->bias;
    char *c = g->c;
    if (w->along_m) {
        a += begin * (g->trans_a ? 1 : g->lda) * es;
        c += begin * g->ldc * c_es;
    } else {
        b += begin * (g->trans_b ? g->ldb : 1) * es;
        c += begin * c_es;
        bias = bias ? bias + begin * es : NULL;
    }
    int before = omp_single();
    dnnl_exec_arg_t args[5];
    int n = 0;
    dnnl_stream_t stream = NULL;
    bool ok = api.dnnl_stream_create(&stream, api.engine, dnnl_stream_default_flags) == dnnl_success &&
              add_memory(args, &n, DNNL_ARG_SRC, &p->a, a) && add_memory(args, &n, DNNL_ARG_WEIGHTS, &p->b, b) &&
              add_memory(args, &n, DNNL_ARG_DST, &p->c, c) &&
              (!bias || add_memory(args, &n, DNNL_ARG_BIAS, &p->bias, bias)) &&
              (p->scratch_bytes == 0 ||
               add_memory(args, &n, DNNL_ARG_SCRATCHPAD, &p->scratch, w->scratch + thread * w->scratch_bytes)) &&
              api.dnnl_primitive_execute(p->primitive, stream, n, args) == dnnl_success &&
              api.dnnl_stream_wait(stream) == dnnl_success;
    for (int i = 0; i < n; i++) {
        (void)api.dnnl_memory_destroy(args[i].memory);
    }
    if (stream) {
        (void)api.dnnl_stream_destroy(stream);
    }
    omp_restore(before);
    if (!ok) {
        FM_FAIL(FM_ERR_NO_MEMORY, "oneDNN failed to run a matrix product %lld x %lld x %lld", (long long)g->m,
                (long long)g->n, (long long)g->k);
    }
    return FM_OK;
}

/* The primitive for parts of `size` rows or columns; false when oneDNN cannot do it. */
static bool acquire_size(job *w, int64_t size) {
    const fm_matmul_args *g = w->g;
    for (int i = 0; i < w->n_sizes; i++) {
        if (w->sizes[i] == size) {
            return true;
        }
    }
    prim_key key;
    memset(&key, 0, sizeof key);
    key.m = w->along_m ? size : g->m;
    key.n = w->along_m ? g->n : size;
    key.k = g->k;
    key.lda = g->lda;
    key.ldb = g->ldb;
    key.ldc = g->ldc;
    key.bf16 = w->bf16;
    key.trans_a = g->trans_a;
    key.trans_b = g->trans_b;
    key.c_f32 = g->c_dtype == FM_F32;
    key.accumulate = g->accumulate;
    key.bias = g->bias != NULL;
    prim *p = w->n_sizes < MAX_SIZES ? prim_acquire(&key) : NULL;
    if (!p) {
        return false;
    }
    w->scratch_bytes = FM_MAX(w->scratch_bytes, (p->scratch_bytes + ALIGN - 1) / ALIGN * ALIGN);
    w->sizes[w->n_sizes] = size;
    w->prims[w->n_sizes++] = p;
    return true;
}

static bool acquire_all(job *w, int64_t n_parts) {
    for (int64_t i = 0; i < n_parts; i++) {
        int64_t begin, end;
        fm_split(w->total, i, n_parts, ALIGN, &begin, &end);
        if (end > begin && !acquire_size(w, end - begin)) {
            return false;
        }
    }
    return true;
}

static fm_status matmul(const fm_exec *x, const fm_matmul_args *g, bool bf16) {
    if (g->m <= 0 || g->n <= 0) {
        return FM_OK;
    }
    if (!fm_dnnl_get()->available) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "oneDNN: %s", info.why_not);
    }
    if (g->k <= 0 || !g->b || (bf16 && !fm_cpu_get()->avx512_bf16)) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "oneDNN: no empty sums, only packed weights, or bf16 without the instructions");
    }
    const int threads = fm_pool_threads(x->pool);
    job w = {.g = g, .bf16 = bf16, .along_m = g->m >= threads * ALIGN || g->m >= g->n};
    w.total = w.along_m ? g->m : g->n;
    const int64_t n_parts = g->m * g->n * g->k < 300000 ? 1 : FM_MIN(threads, (w.total + ALIGN - 1) / ALIGN);
    int before = omp_single();
    bool ok = acquire_all(&w, n_parts);
    omp_restore(before);
    fm_status status = FM_OK;
    if (!ok) {
        status = fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
                              "oneDNN cannot do the matrix product %lld x %lld x %lld in this form", (long long)g->m,
                              (long long)g->n, (long long)g->k);
    } else if (w.scratch_bytes > 0) {
        w.scratch = fm_scratch_take(x, w.scratch_bytes * threads);
        if (!w.scratch) {
            status = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__,
                                  "oneDNN matrix product: no memory for %lld bytes of scratch",
                                  (long long)w.scratch_bytes * threads);
        }
    }
    if (status == FM_OK) {
        status = fm_pool_run(x->pool, n_parts, run_part, &w);
    }
    for (int i = 0; i < w.n_sizes; i++) {
        prim_release(w.prims[i]);
    }
    return status;
}

fm_status fm_dnnl_matmul_f32(const fm_exec *x, const void *args) {
    return matmul(x, args, false);
}
fm_status fm_dnnl_matmul_bf16(const fm_exec *x, const void *args) {
    return matmul(x, args, true);
}

#endif
