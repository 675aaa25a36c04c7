/* Allocation, the ledger and failure injection. See mem.h. */
#include "base/mem.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/error.h"

#define HUGE_PAGE ((size_t)2 << 20)

static atomic_llong current[FM_MEM_TAG_COUNT];
static atomic_llong peak[FM_MEM_TAG_COUNT];
static atomic_llong rss_anon_peak;

static atomic_llong n_allocs;
static atomic_llong fail_at; /* absolute value of n_allocs at which to fail; 0 = never */
static atomic_bool fail_sticky;

const char *fm_mem_tag_name(fm_mem_tag tag) {
    static const char *const names[] = {
#define FM_X(sym, name) name,
        FM_MEM_TAG_LIST(FM_X)
#undef FM_X
    };
    return tag >= 0 && tag < FM_MEM_TAG_COUNT ? names[tag] : "?";
}

void fm_ledger_add(fm_mem_tag tag, int64_t bytes) {
    long long now = atomic_fetch_add_explicit(&current[tag], bytes, memory_order_relaxed) + bytes;
    long long high = atomic_load_explicit(&peak[tag], memory_order_relaxed);
    while (now > high &&
           !atomic_compare_exchange_weak_explicit(&peak[tag], &high, now, memory_order_relaxed, memory_order_relaxed)) {
    }
}

int64_t fm_ledger_current(fm_mem_tag tag) {
    return atomic_load_explicit(&current[tag], memory_order_relaxed);
}

int64_t fm_ledger_peak(fm_mem_tag tag) {
    return atomic_load_explicit(&peak[tag], memory_order_relaxed);
}

void fm_ledger_reset_peak(void) {
    for (int i = 0; i < FM_MEM_TAG_COUNT; i++) {
        atomic_store_explicit(&peak[i], atomic_load_explicit(&current[i], memory_order_relaxed), memory_order_relaxed);
    }
    atomic_store_explicit(&rss_anon_peak, 0, memory_order_relaxed);
}

void fm_mem_fail_at(int64_t n, bool sticky) {
    atomic_store(&n_allocs, 0);
    atomic_store(&fail_sticky, sticky);
    atomic_store(&fail_at, n);
}

int64_t fm_mem_alloc_count(void) {
    return atomic_load(&n_allocs);
}

/* Counts one allocation; true when it must be refused. */
static bool refused(void) {
    long long k = atomic_fetch_add_explicit(&n_allocs, 1, memory_order_relaxed) + 1;
    long long at = atomic_load_explicit(&fail_at, memory_order_relaxed);
    return at > 0 && (k == at || (k > at && atomic_load_explicit(&fail_sticky, memory_order_relaxed)));
}

/* The C library knows the size of each block, so no header of our own is needed: pointers stay what
 * malloc gave, which is what valgrind and the sanitizers understand best. */
static void *charge(void *p) {
    if (p) {
        fm_ledger_add(FM_MEM_MISC, (int64_t)malloc_usable_size(p));
    }
    return p;
}

void *fm_malloc(size_t size) {
    if (refused() || size > PTRDIFF_MAX) {
        return NULL;
    }
    return charge(malloc(size ? size : 1));
}

void *fm_calloc(size_t n, size_t size) {
    size_t total;
    if (refused() || __builtin_mul_overflow(n, size, &total) || total > PTRDIFF_MAX) {
        return NULL;
    }
    return charge(calloc(total ? total : 1, 1));
}

void *fm_realloc(void *p, size_t size) {
    if (refused() || size > PTRDIFF_MAX) {
        return NULL;
    }
    int64_t old = p ? (int64_t)malloc_usable_size(p) : 0;
    void *q = realloc(p, size ? size : 1);
    if (q) {
        fm_ledger_add(FM_MEM_MISC, (int64_t)malloc_usable_size(q) - old);
    }
    return q;
}

char *fm_strdup(const char *s) {
    return fm_strndup(s, strlen(s));
}

char *fm_strndup(const char *s, size_t n) {
    char *p = fm_malloc(n + 1);
    if (p) {
        memcpy(p, s, n);
        p[n] = '\0';
    }
    return p;
}

void fm_free(void *p) {
    if (p) {
        fm_ledger_add(FM_MEM_MISC, -(int64_t)malloc_usable_size(p));
        free(p);
    }
}

fm_status fm_grow(void **p, size_t *cap, size_t need, size_t elem) {
    if (need <= *cap) {
        return FM_OK;
    }
    size_t n = *cap < 8 ? 8 : *cap;
    while (n < need) {
        n = n > SIZE_MAX / 2 ? need : n * 2;
    }
    size_t bytes;
    if (__builtin_mul_overflow(n, elem, &bytes)) {
        FM_FAIL(FM_ERR_NO_MEMORY, "%zu elements of %zu bytes do not fit in the address space", n, elem);
    }
    void *q = fm_realloc(*p, bytes);
    if (!q) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate %zu bytes", bytes);
    }
    *p = q;
    *cap = n;
    return FM_OK;
}

static size_t round_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

static size_t page_size(void) {
    long n = sysconf(_SC_PAGESIZE);
    return n > 0 ? (size_t)n : 4096;
}

/* At least one page; aligned to huge pages, which are asked for, when there is room for one. */
static fm_status map_pages(void **out, size_t bytes) {
    size_t size = round_up(bytes ? bytes : 1, page_size());
    size_t extra = bytes >= HUGE_PAGE ? HUGE_PAGE : 0;
    char *p = mmap(NULL, size + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "cannot map %zu bytes", bytes);
        return fm_error_hint("use a smaller model, batch or sequence length");
    }
    if (extra) {
        size_t head = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
        if (head) {
            munmap(p, head);
        }
        if (extra - head) {
            munmap(p + head + size, extra - head);
        }
        p += head;
#ifdef MADV_HUGEPAGE
        madvise(p, size, MADV_HUGEPAGE); /* advice only: without it the pages are small, not wrong */
#endif
    }
    *out = p;
    return FM_OK;
}

fm_status fm_pages_alloc(void **out, size_t bytes, fm_mem_tag tag) {
    *out = NULL;
    if (refused() || bytes > PTRDIFF_MAX - 2 * HUGE_PAGE) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot map %zu bytes for %s", bytes, fm_mem_tag_name(tag));
    }
    FM_TRY(map_pages(out, bytes));
    fm_ledger_add(tag, (int64_t)bytes);
    return FM_OK;
}

void fm_pages_free(void *p, size_t bytes, fm_mem_tag tag) {
    if (!p) {
        return;
    }
    (void)fm_mem_rss_anon(); /* a sample for the peak, while the pages are still there */
    munmap(p, round_up(bytes ? bytes : 1, page_size()));
    fm_ledger_add(tag, -(int64_t)bytes);
}

/* ---- dense blocks ---------------------------------------------------------------------------- */

#define SHELF_BYTES ((size_t)64 << 20) /* of address space; memory is taken as it is touched */
#define DENSE_ALIGN 64

/* Blocks are cut from the front; what is freed is not used again before the shelf is empty and goes. */
typedef struct shelf {
    struct shelf *next;
    char *base;
    size_t size, used;
    int64_t n_blocks;
} shelf;

static pthread_mutex_t shelf_lock = PTHREAD_MUTEX_INITIALIZER;
static shelf *shelves; /* the newest first */

static fm_status shelf_new(size_t bytes) {
    shelf *s = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a list of blocks");
    }
    s->size = FM_MAX(SHELF_BYTES, round_up(bytes, HUGE_PAGE));
    void *base;
    fm_status status = map_pages(&base, s->size);
    if (status != FM_OK) {
        fm_free(s);
        return status;
    }
    s->base = base;
    s->next = shelves;
    shelves = s;
    return FM_OK;
}

static fm_status dense_alloc(void **out, size_t bytes) {
    if (!shelves || shelves->size - shelves->used < bytes) {
        FM_TRY(shelf_new(bytes));
    }
    *out = shelves->base + shelves->used;
    shelves->used += bytes;
    shelves->n_blocks++;
    return FM_OK;
}

fm_status fm_dense_alloc(void **out, size_t bytes, fm_mem_tag tag) {
    *out = NULL;
    if (refused() || bytes > PTRDIFF_MAX - 2 * HUGE_PAGE) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot map %zu bytes for %s", bytes, fm_mem_tag_name(tag));
    }
    pthread_mutex_lock(&shelf_lock);
    fm_status s = dense_alloc(out, round_up(FM_MAX(bytes, 1), DENSE_ALIGN));
    pthread_mutex_unlock(&shelf_lock);
    if (s == FM_OK) {
        fm_ledger_add(tag, (int64_t)bytes);
    }
    return s;
}

/* Whole pages inside a block go back at once. */
static void give_back(char *p, size_t bytes) {
    size_t page = page_size(), head = (page - (uintptr_t)p % page) % page;
    if (bytes > head && (bytes - head) / page > 0) {
        (void)madvise(p + head, (bytes - head) / page * page, MADV_DONTNEED);
    }
}

void fm_dense_free(void *p, size_t bytes, fm_mem_tag tag) {
    if (!p) {
        return;
    }
    (void)fm_mem_rss_anon();
    pthread_mutex_lock(&shelf_lock);
    for (shelf **at = &shelves; *at; at = &(*at)->next) {
        shelf *s = *at;
        if ((char *)p < s->base || (char *)p >= s->base + s->used) {
            continue;
        }
        if (--s->n_blocks == 0) {
            *at = s->next;
            munmap(s->base, s->size);
            fm_free(s);
        } else {
            give_back(p, round_up(FM_MAX(bytes, 1), DENSE_ALIGN));
        }
        break;
    }
    pthread_mutex_unlock(&shelf_lock);
    fm_ledger_add(tag, -(int64_t)bytes);
}

/* Bytes after `key` in a "Key:   123 kB" file; -1 when missing. */
static int64_t proc_kb(const char *path, const char *key) {
    FILE *f = fopen(path, "re");
    if (!f) {
        return -1;
    }
    char line[256];
    int64_t bytes = -1;
    size_t n = strlen(key);
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, key, n) == 0 && line[n] == ':') {
            bytes = (int64_t)strtoll(line + n + 1, NULL, 10) * 1024;
            break;
        }
    }
    fclose(f);
    return bytes;
}

int64_t fm_mem_rss_anon(void) {
    long long now = FM_MAX(proc_kb("/proc/self/status", "RssAnon"), 0);
    long long high = atomic_load_explicit(&rss_anon_peak, memory_order_relaxed);
    while (now > high && !atomic_compare_exchange_weak_explicit(&rss_anon_peak, &high, now, memory_order_relaxed,
                                                                memory_order_relaxed)) {
    }
    return now;
}

/* The kernel keeps a high-water mark only for the sum with mapped files, so the peak is the largest
 * sample: one is taken at each call and before any big buffer is given back. */
int64_t fm_mem_rss_anon_peak(void) {
    (void)fm_mem_rss_anon();
    return atomic_load_explicit(&rss_anon_peak, memory_order_relaxed);
}

int64_t fm_mem_total(void) {
    return FM_MAX(proc_kb("/proc/meminfo", "MemTotal"), 0);
}

int64_t fm_mem_available(void) {
    int64_t n = FM_MAX(proc_kb("/proc/meminfo", "MemAvailable"), 0);
    int64_t left;
    if (fm_cgroup_memory_left(&left) && left < n) {
        n = left;
    }
    return n;
}
