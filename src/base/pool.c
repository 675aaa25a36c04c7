/* The thread pool.
 *
 * Hand-over: the caller writes the job, then raises `generation`; a worker that sees a new number
 * runs its block and counts `pending` down. Both sides spin for about 50 microseconds first, because
 * the kernels of one step follow each other closely, and then sleep on a condition variable.
 *
 * No wake-up is lost: a sleeper raises its flag (n_sleeping, caller_sleeps) under the lock and looks
 * at the number once more before it waits; the other side changes the number first and looks at the
 * flag after. Both use sequentially consistent order, so at least one of the two sees the other. */
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cgroup.h"
#include "base/error.h"
#include "base/mem.h"

#define MAX_THREADS 1024
#define SPIN_NS     50000

typedef struct worker {
    fm_pool *pool;
    pthread_t id;
    int index; /* thread number; the caller is 0 */
    int cpu;   /* to pin to, or -1 */
    /* Result of the last job: the lowest part of this thread that failed. */
    fm_status status;
    int64_t failed_part;
    fm_error_record error;
} worker;

struct fm_pool {
    int n_threads;
    worker *workers; /* [n_threads]; 0 stands for the caller */

    /* The job: written by the caller before `generation` is raised, read-only until pending is 0. */
    fm_part_fn fn;
    void *arg;
    int64_t n_parts;
    bool dynamic;
    bool stop;

    atomic_uint generation;
    atomic_int pending;     /* workers still at it */
    atomic_llong next_part; /* dynamic hand-out */
    atomic_bool any_failed; /* dynamic: hand out no more */
    atomic_bool busy;       /* a run is in progress (misuse check) */
    atomic_int n_sleeping;
    atomic_bool caller_sleeps;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    bool pinned;
    pthread_t owner; /* made the pool; its mask is given back when it frees the pool */
};

/* The part being run by this thread: nested runs stay inside it. */
static _Thread_local const fm_pool *inside;
static _Thread_local int inside_thread;

/* The CPUs this process was given, read before any pool narrows the mask of a thread. */
static cpu_set_t first_mask;
static bool first_mask_known;
static pthread_once_t first_mask_once = PTHREAD_ONCE_INIT;

static void read_first_mask(void) {
    first_mask_known = sched_getaffinity(0, sizeof first_mask, &first_mask) == 0;
}

static int allowed_cpus(int *cpus, int cap) {
    int n = 0;
    pthread_once(&first_mask_once, read_first_mask);
    cpu_set_t set = first_mask;
    if (first_mask_known) {
        for (size_t i = 0; i < CPU_SETSIZE; i++) {
            if (CPU_ISSET(i, &set)) {
                if (n < cap) {
                    cpus[n] = (int)i;
                }
                n++;
            }
        }
    }
    return n;
}

int fm_cpu_count(void) {
    int one;
    int n = allowed_cpus(&one, 1);
    n = FM_MAX(n, 1);
    double quota;
    if (fm_cgroup_cpus(&quota)) {
        int whole = quota >= MAX_THREADS ? MAX_THREADS : (int)quota;
        n = FM_MIN(n, FM_MAX(whole + (quota - whole > 0.01), 1));
    }
    return FM_MIN(n, MAX_THREADS);
}

static void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Spins until *v differs from `old`; false when it took too long. */
static bool spin_while_uint(atomic_uint *v, unsigned old) {
    int64_t until = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < 64; i++) {
            if (atomic_load_explicit(v, memory_order_acquire) != old) {
                return true;
            }
            pause_cpu();
        }
    } while (now_ns() < until);
    return false;
}

static bool spin_until_zero(atomic_int *v) {
    int64_t until = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < 64; i++) {
            if (atomic_load_explicit(v, memory_order_acquire) == 0) {
                return true;
            }
            pause_cpu();
        }
    } while (now_ns() < until);
    return false;
}

/* First part of thread t: the smallest i with i * n_threads / n_parts >= t. */
static int64_t block_begin(int64_t n_parts, int t, int n_threads) {
    int64_t q = n_parts / n_threads, r = n_parts % n_threads;
    return q * t + (r * t + n_threads - 1) / n_threads;
}

/* Runs this thread's share and leaves the outcome in w. */
static void run_share(fm_pool *p, worker *w) {
    int64_t i, end;
    w->status = FM_OK;
    const fm_pool *outer = inside;
    int outer_thread = inside_thread;
    inside = p;
    inside_thread = w->index;
    if (p->dynamic) {
        i = 0;
        end = INT64_MAX;
    } else {
        i = block_begin(p->n_parts, w->index, p->n_threads);
        end = block_begin(p->n_parts, w->index + 1, p->n_threads);
    }
    for (; i < end; i++) {
        if (p->dynamic) {
            /* Parts below the lowest failing one were handed out before it, so they all run. */
            if (atomic_load_explicit(&p->any_failed, memory_order_relaxed)) {
                break;
            }
            i = atomic_fetch_add_explicit(&p->next_part, 1, memory_order_relaxed);
            if (i >= p->n_parts) {
                break;
            }
        }
        fm_status s = p->fn(p->arg, i, p->n_parts, w->index);
        if (s != FM_OK) {
            if (fm_error_get().status != s) {
                fm_error_set(s, __FILE__, __LINE__, "part %lld of %lld: %s", (long long)i, (long long)p->n_parts,
                             fm_status_text(s));
            }
            w->status = s;
            w->failed_part = i;
            fm_error_save(&w->error);
            atomic_store_explicit(&p->any_failed, true, memory_order_relaxed);
            break;
        }
    }
    inside = outer;
    inside_thread = outer_thread;
}

/* To one CPU, or (-1) to all the process has: a thread inherits the mask of the one that made it. */
static void pin_self(int cpu) {
    cpu_set_t set = first_mask;
    if (cpu >= 0) {
        CPU_ZERO(&set);
        CPU_SET((size_t)cpu, &set);
    }
    if (cpu >= 0 || first_mask_known) {
        (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set); /* a wish: speed, not results */
    }
}

/* Keeps the caller off its workers' CPUs: on one of them two threads run at the rate of one. */
static void pin_caller(const fm_pool *p) {
    cpu_set_t set = first_mask;
    for (int t = 1; t < p->n_threads; t++) {
        CPU_CLR((size_t)p->workers[t].cpu, &set);
    }
    (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

static void *worker_main(void *arg) {
    worker *w = arg;
    fm_pool *p = w->pool;
    pin_self(w->cpu);
    unsigned seen = 0;
    for (;;) {
        if (!spin_while_uint(&p->generation, seen)) {
            pthread_mutex_lock(&p->lock);
            atomic_fetch_add(&p->n_sleeping, 1);
            while (atomic_load(&p->generation) == seen) {
                pthread_cond_wait(&p->wake, &p->lock);
            }
            atomic_fetch_sub(&p->n_sleeping, 1);
            pthread_mutex_unlock(&p->lock);
        }
        seen = atomic_load(&p->generation);
        if (p->stop) {
            return NULL;
        }
        run_share(p, w);
        if (atomic_fetch_sub(&p->pending, 1) == 1 && atomic_load(&p->caller_sleeps)) {
            pthread_mutex_lock(&p->lock);
            pthread_cond_signal(&p->done);
            pthread_mutex_unlock(&p->lock);
        }
    }
}

static void publish(fm_pool *p) {
    atomic_fetch_add(&p->generation, 1);
    if (atomic_load(&p->n_sleeping) > 0) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
}

static void wait_workers(fm_pool *p) {
    if (spin_until_zero(&p->pending)) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->caller_sleeps, true);
    while (atomic_load(&p->pending) != 0) {
        pthread_cond_wait(&p->done, &p->lock);
    }
    atomic_store(&p->caller_sleeps, false);
    pthread_mutex_unlock(&p->lock);
}

static fm_status run_inline(fm_pool *p, int64_t n_parts, fm_part_fn fn, void *arg) {
    int thread = p && inside && inside_thread < p->n_threads ? inside_thread : 0;
    for (int64_t i = 0; i < n_parts; i++) {
        FM_TRY(fn(arg, i, n_parts, thread));
    }
    return FM_OK;
}

static fm_status run(fm_pool *p, int64_t n_parts, fm_part_fn fn, void *arg, bool dynamic) {
    if (n_parts <= 0) {
        return FM_OK;
    }
    if (!p || p->n_threads == 1 || inside || n_parts == 1) {
        return run_inline(p, n_parts, fn, arg);
    }
    FM_ASSERT(!atomic_exchange(&p->busy, true));
    p->fn = fn;
    p->arg = arg;
    p->n_parts = n_parts;
    p->dynamic = dynamic;
    atomic_store_explicit(&p->next_part, 0, memory_order_relaxed);
    atomic_store_explicit(&p->any_failed, false, memory_order_relaxed);
    atomic_store_explicit(&p->pending, p->n_threads - 1, memory_order_relaxed);
    publish(p);
    run_share(p, &p->workers[0]);
    wait_workers(p);
    const worker *first = NULL;
    for (int t = 0; t < p->n_threads; t++) {
        const worker *w = &p->workers[t];
        if (w->status != FM_OK && (!first || w->failed_part < first->failed_part)) {
            first = w;
        }
    }
    fm_status s = FM_OK;
    if (first) {
        s = first->status;
        fm_error_restore(&first->error);
    }
    atomic_store(&p->busy, false);
    return s;
}

fm_status fm_pool_run(fm_pool *p, int64_t n_parts, fm_part_fn fn, void *arg) {
    return run(p, n_parts, fn, arg, false);
}

fm_status fm_pool_run_dynamic(fm_pool *p, int64_t n_parts, fm_part_fn fn, void *arg) {
    return run(p, n_parts, fn, arg, true);
}

/* Stops and joins workers 1 .. n-1 (those that were started), then frees all. */
static void shut_down(fm_pool *p, int n_started) {
    p->stop = true;
    publish(p);
    for (int t = 1; t < n_started; t++) {
        pthread_join(p->workers[t].id, NULL);
    }
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    fm_free(p->workers);
    fm_free(p);
}

fm_status fm_pool_new(fm_pool **out, int n_threads) {
    *out = NULL;
    if (n_threads == 0) {
        const char *env = getenv("FATHOM_THREADS");
        n_threads = fm_cpu_count();
        if (env && *env) {
            char *end;
            long v = strtol(env, &end, 10);
            if (*end || v < 1 || v > MAX_THREADS) {
                FM_FAIL(FM_ERR_CONFIG, "FATHOM_THREADS: expected a number from 1 to %d, found '%s'", MAX_THREADS, env);
            }
            n_threads = (int)v;
        }
    }
    if (n_threads < 1 || n_threads > MAX_THREADS) {
        FM_FAIL(FM_ERR_ARGUMENT, "number of threads: expected 1 to %d, found %d", MAX_THREADS, n_threads);
    }
    fm_pool *p = fm_calloc(1, sizeof *p);
    worker *workers = fm_calloc((size_t)n_threads, sizeof *workers);
    if (!p || !workers) {
        fm_free(p);
        fm_free(workers);
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a pool of %d threads", n_threads);
    }
    p->n_threads = n_threads;
    p->workers = workers;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);

    /* Workers get a CPU each, the caller keeps the others. FATHOM_PIN=0 pins nothing: for several processes that
     * share one machine. */
    int cpus[MAX_THREADS];
    const char *pin = getenv("FATHOM_PIN");
    bool pinned = allowed_cpus(cpus, MAX_THREADS) >= n_threads && n_threads > 1 && !(pin && strcmp(pin, "0") == 0);
    for (int t = 0; t < n_threads; t++) {
        workers[t].pool = p;
        workers[t].index = t;
        workers[t].cpu = pinned ? cpus[t] : -1;
    }
    for (int t = 1; t < n_threads; t++) {
        int err = pthread_create(&workers[t].id, NULL, worker_main, &workers[t]);
        if (err) {
            shut_down(p, t);
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot start thread %d of %d: %s", t, n_threads, strerror(err));
        }
    }
    p->pinned = pinned;
    p->owner = pthread_self();
    if (pinned) {
        pin_caller(p);
    }
    *out = p;
    return FM_OK;
}

void fm_pool_free(fm_pool *p) {
    if (p) {
        if (p->pinned && pthread_equal(p->owner, pthread_self())) {
            pin_self(-1);
        }
        shut_down(p, p->n_threads);
    }
}

int fm_pool_threads(const fm_pool *p) {
    return p ? p->n_threads : 1;
}

void fm_split(int64_t n, int64_t part, int64_t n_parts, int64_t align, int64_t *begin, int64_t *end) {
    FM_ASSERT(n >= 0 && align > 0 && n_parts > 0 && part >= 0 && part < n_parts);
    int64_t units = n / align + (n % align != 0);
    int64_t q = units / n_parts, r = units % n_parts;
    int64_t first = q * part + FM_MIN(part, r);
    int64_t last = first + q + (part < r);
    *begin = FM_MIN(first * align, n);
    *end = last > n / align ? n : last * align;
}
