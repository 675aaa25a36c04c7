/* The parameter store. */
#include "tensor/param.h"

#include <string.h>

#include "backend/scratch.h"
#include "base/file.h"
#include "base/str.h"

struct fm_params {
    fm_param **item;
    size_t n, cap;
    int32_t *slot; /* open addressing by name: index + 1, 0 = empty; size a power of two */
    size_t n_slots;
    void *block, *grad_block, *copy_block; /* one allocation each, or NULL */
    size_t block_bytes, grad_bytes, copy_bytes;
    void **kept;
    size_t n_kept, cap_kept;
};

static uint64_t name_hash(const char *s) {
    uint64_t h = 1469598103934665603u; /* FNV-1a */
    for (; *s; s++) {
        h = (h ^ (uint8_t)*s) * 1099511628211u;
    }
    return h ^ h >> 29;
}

fm_status fm_params_new(fm_params **out) {
    *out = fm_calloc(1, sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a parameter store");
    }
    return FM_OK;
}

static size_t acc_size(const fm_param *p) {
    return p->dtype == FM_F64 ? 8 : 4;
}

void fm_params_free(fm_params *ps) {
    if (!ps) {
        return;
    }
    fm_params_free_grads(ps);
    for (size_t i = 0; i < ps->n; i++) {
        fm_param *p = ps->item[i];
        bool copy_owned = p->copy.data && !(ps->copy_block && (uint8_t *)p->copy.data >= (uint8_t *)ps->copy_block &&
                                            (uint8_t *)p->copy.data < (uint8_t *)ps->copy_block + ps->copy_bytes);
        if (copy_owned) {
            fm_pages_free(p->copy.data, (size_t)fm_dtype_bytes(p->copy.dtype, p->numel), FM_MEM_WEIGHTS);
        }
        if (p->packed) {
            fm_dense_free(p->packed, (size_t)p->packed_bytes, FM_MEM_PACKED);
        }
        fm_free(p->name);
        fm_free(p);
    }
    if (ps->block) {
        fm_pages_free(ps->block, ps->block_bytes, FM_MEM_WEIGHTS);
    }
    if (ps->copy_block) {
        fm_pages_free(ps->copy_block, ps->copy_bytes, FM_MEM_WEIGHTS);
    }
    for (size_t i = 0; i < ps->n_kept; i++) {
        fm_free(ps->kept[i]);
    }
    fm_free(ps->kept);
    fm_free(ps->item);
    fm_free(ps->slot);
    fm_free(ps);
}

void *fm_params_keep(fm_params *ps, size_t bytes) {
    if (fm_grow((void **)&ps->kept, &ps->cap_kept, ps->n_kept + 1, sizeof *ps->kept) != FM_OK) {
        return NULL;
    }
    void *p = fm_calloc(1, bytes);
    if (p) {
        ps->kept[ps->n_kept++] = p;
    }
    return p;
}

static size_t slot_of(const fm_params *ps, const char *name) {
    size_t mask = ps->n_slots - 1, i = name_hash(name) & mask;
    while (ps->slot[i] && strcmp(ps->item[ps->slot[i] - 1]->name, name) != 0) {
        i = (i + 1) & mask;
    }
    return i;
}

static fm_status slots_room(fm_params *ps) {
    if ((ps->n + 1) * 2 <= ps->n_slots) {
        return FM_OK;
    }
    size_t n_slots = ps->n_slots ? ps->n_slots * 2 : 128;
    int32_t *slot = fm_calloc(n_slots, sizeof *slot);
    if (!slot) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu parameter names", n_slots);
    }
    fm_free(ps->slot);
    ps->slot = slot;
    ps->n_slots = n_slots;
    for (size_t i = 0; i < ps->n; i++) {
        ps->slot[slot_of(ps, ps->item[i]->name)] = (int32_t)i + 1;
    }
    return FM_OK;
}

fm_status fm_params_add(fm_params *ps, const fm_param_desc *d, fm_param **out) {
    *out = NULL;
    FM_ASSERT(d->name && d->n_dims >= 1 && d->n_dims <= FM_MAX_DIMS);
    if (fm_params_find(ps, d->name)) {
        FM_FAIL(FM_ERR_STATE, "parameter %s was added twice", d->name);
    }
    FM_TRY(slots_room(ps));
    FM_TRY(fm_grow((void **)&ps->item, &ps->cap, ps->n + 1, sizeof *ps->item));
    fm_param *p = fm_calloc(1, sizeof *p);
    char *name = p ? fm_strdup(d->name) : NULL;
    if (!name) {
        fm_free(p);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for parameter %s", d->name);
    }
    p->name = name;
    p->index = (int32_t)ps->n;
    p->n_dims = d->n_dims;
    p->numel = 1;
    for (int i = 0; i < d->n_dims; i++) {
        if (d->dim[i] <= 0 || p->numel > INT64_MAX / 16 / d->dim[i]) {
            fm_free(name);
            fm_free(p);
            FM_FAIL(FM_ERR_SHAPE, "parameter %s has dimension %d = %lld", d->name, i, (long long)d->dim[i]);
        }
        p->dim[i] = d->dim[i];
        p->numel *= d->dim[i];
    }
    p->shard_end = p->dim[0];
    p->tie = d->tie ? (d->tie->tie ? d->tie->tie : d->tie) : NULL;
    p->decay = !d->no_decay;
    p->in_files = d->in_files;
    p->frozen = p->state = d->state;
    p->file_transposed = d->file_transposed;
    p->init = d->init;
    p->init_std = d->init_std;
    p->dtype = FM_F32;
    p->version = 1;
    ps->slot[slot_of(ps, name)] = (int32_t)ps->n + 1;
    ps->item[ps->n++] = p;
    *out = p;
    return FM_OK;
}

int fm_params_count(const fm_params *ps) {
    return (int)ps->n;
}
fm_param *fm_params_at(const fm_params *ps, int i) {
    return i >= 0 && (size_t)i < ps->n ? ps->item[i] : NULL;
}
fm_param *fm_params_find(const fm_params *ps, const char *name) {
    if (ps->n_slots == 0) {
        return NULL;
    }
    int32_t i = ps->slot[slot_of(ps, name)];
    return i ? ps->item[i - 1] : NULL;
}
int64_t fm_params_numel(const fm_params *ps) {
    int64_t n = 0;
    for (size_t i = 0; i < ps->n; i++) {
        n += ps->item[i]->tie ? 0 : ps->item[i]->numel;
    }
    return n;
}

static size_t align64(size_t n) {
    return (n + 63) / 64 * 64;
}

fm_status fm_params_alloc(fm_params *ps, fm_dtype dtype) {
    return fm_params_alloc_mixed(ps, dtype, dtype);
}

/* Those of int8 and nf4 lie behind the elements. */
static void place_factors(fm_param *p) {
    if (p->dtype == FM_I8 || p->dtype == FM_NF4) {
        void *behind = (uint8_t *)p->data + (fm_dtype_bytes(p->dtype, p->numel) + 3) / 4 * 4;
        if (p->dtype == FM_I8) {
            p->row_scale = behind;
        } else {
            fm_nf4_scales_place(&p->nf4, p->numel, p->nf4_twice, behind);
        }
    }
}

fm_status fm_params_alloc_mixed(fm_params *ps, fm_dtype dtype, fm_dtype frozen) {
    FM_ASSERT(!ps->block);
    size_t total = 0;
    for (size_t i = 0; i < ps->n; i++) {
        const fm_param *p = ps->item[i];
        if (!p->tie && !p->instead && !p->data) {
            total += align64((size_t)fm_param_bytes(p, p->own_dtype ? p->dtype : p->frozen ? frozen : dtype));
        }
    }
    if (total == 0) {
        return FM_OK;
    }
    FM_TRY(fm_pages_alloc(&ps->block, total, FM_MEM_WEIGHTS));
    ps->block_bytes = total;
    uint8_t *at = ps->block;
    for (size_t i = 0; i < ps->n; i++) {
        fm_param *p = ps->item[i];
        if (!p->tie && !p->instead && !p->data) {
            p->dtype = p->own_dtype ? p->dtype : p->frozen ? frozen : dtype;
            p->storage = FM_STORAGE_HEAP;
            p->data = at;
            place_factors(p);
            at += align64((size_t)fm_param_bytes(p, p->dtype));
            p->version++;
        }
    }
    return FM_OK;
}

fm_status fm_params_alloc_grads(fm_params *ps) {
    FM_ASSERT(!ps->grad_block);
    size_t total = 0;
    for (size_t i = 0; i < ps->n; i++) {
        fm_param *p = ps->item[i];
        total += p->tie || p->frozen ? 0 : align64((size_t)p->numel * acc_size(p));
    }
    if (total == 0) {
        return FM_OK;
    }
    FM_TRY(fm_pages_alloc(&ps->grad_block, total, FM_MEM_GRADS));
    ps->grad_bytes = total;
    uint8_t *at = ps->grad_block;
    for (size_t i = 0; i < ps->n; i++) {
        fm_param *p = ps->item[i];
        if (!p->tie && !p->frozen) {
            p->grad = at;
            p->grad_written = false;
            at += align64((size_t)p->numel * acc_size(p));
        }
    }
    return FM_OK;
}

void fm_params_free_grads(fm_params *ps) {
    if (ps->grad_block) {
        fm_pages_free(ps->grad_block, ps->grad_bytes, FM_MEM_GRADS);
        ps->grad_block = NULL;
        for (size_t i = 0; i < ps->n; i++) {
            ps->item[i]->grad = NULL;
            ps->item[i]->grad_written = false;
        }
    }
}

/* Quantised masters are made numbers when they are used. */
static bool takes_copy(const fm_param *p, fm_dtype dtype) {
    return !p->tie && !p->instead && p->dtype != dtype && !fm_param_quantised(p);
}

fm_status fm_params_alloc_copies(fm_params *ps, fm_dtype dtype) {
    FM_ASSERT(!ps->copy_block);
    size_t total = 0;
    for (size_t i = 0; i < ps->n; i++) {
        fm_param *p = ps->item[i];
        total += !takes_copy(p, dtype) ? 0 : align64((size_t)fm_dtype_bytes(dtype, p->numel));
    }
    if (total == 0) {
        return FM_OK;
    }
    FM_TRY(fm_pages_alloc(&ps->copy_block, total, FM_MEM_WEIGHTS));
    ps->copy_bytes = total;
    uint8_t *at = ps->copy_block;
    for (size_t i = 0; i < ps->n; i++) {
        fm_param *p = ps->item[i];
        if (takes_copy(p, dtype)) {
            FM_ASSERT(!p->copy.data);
            p->copy = (fm_derived){.dtype = dtype, .data = at, .version = 0};
            at += align64((size_t)fm_dtype_bytes(dtype, p->numel));
        }
    }
    return FM_OK;
}

void fm_param_set_external(fm_param *p, fm_dtype dtype, void *data, fm_storage_kind kind) {
    FM_ASSERT(!p->tie);
    p->dtype = dtype;
    p->data = data;
    p->storage = kind;
    p->version++;
}

void fm_params_begin_step(fm_params *ps) {
    for (size_t i = 0; i < ps->n; i++) {
        ps->item[i]->grad_written = false;
    }
}

void fm_param_changed(fm_param *p) {
    p->version++;
}

/* ---- initial values -------------------------------------------------------------------------- */

#define INIT_CHUNK 65536

typedef struct init_job {
    fm_param *p;
    fm_rng_key key;
} init_job;

static fm_status init_chunk(void *arg, int64_t part, int64_t n_parts, int thread) {
    FM_UNUSED(n_parts);
    FM_UNUSED(thread);
    const init_job *j = arg;
    int64_t begin = part * INIT_CHUNK, end = FM_MIN(begin + INIT_CHUNK, j->p->numel);
    for (int64_t i = begin; i < end; i++) {
        double v = fm_rng_normal(j->key, (uint64_t)i);
        for (uint64_t again = 1; (v > 3 || v < -3) && again < 64; again++) {
            v = fm_rng_normal(j->key, (uint64_t)i + (again << 48));
        }
        fm_store_from_f64(j->p->dtype, j->p->data, i, v * j->p->init_std);
    }
    return FM_OK;
}

fm_status fm_param_init(fm_param *p, uint64_t seed, fm_pool *pool) {
    if (!p->data || p->storage == FM_STORAGE_MAP) {
        FM_FAIL(FM_ERR_STATE, "parameter %s has no writable memory to initialise", p->name);
    }
    if (p->init == FM_INIT_NORMAL) {
        init_job j = {.p = p, .key = {.seed = seed, .stream = fm_rng_stream(p->name), .step = 0}};
        FM_TRY(fm_pool_run(pool, (p->numel + INIT_CHUNK - 1) / INIT_CHUNK, init_chunk, &j));
    } else {
        for (int64_t i = 0; i < p->numel; i++) {
            fm_store_from_f64(p->dtype, p->data, i, p->init == FM_INIT_ONES ? 1.0 : 0.0);
        }
    }
    fm_param_changed(p);
    return FM_OK;
}

fm_status fm_params_init(fm_params *ps, uint64_t seed, fm_pool *pool) {
    for (size_t k = 0; k < ps->n; k++) {
        if (!ps->item[k]->tie && !ps->item[k]->instead && !fm_param_quantised(ps->item[k])) {
            FM_TRY(fm_param_init(ps->item[k], seed, pool));
        }
    }
    return FM_OK;
}

/* ---- derived copies -------------------------------------------------------------------------- */

fm_status fm_param_acquire(const fm_backend *b, const fm_exec *x, fm_param *p, fm_dtype dtype, void **out) {
    *out = NULL;
    if (p->tie) {
        p = p->tie;
    }
    if (!p->data) {
        FM_FAIL(FM_ERR_STATE, "parameter %s has no data", p->name);
    }
    if (p->dtype == dtype) {
        *out = p->data;
        return FM_OK;
    }
    if (p->copy.data && p->copy.dtype != dtype) {
        FM_FAIL(FM_ERR_STATE, "parameter %s is wanted as %s but its copy is %s", p->name, fm_dtype_get(dtype)->name,
                fm_dtype_get(p->copy.dtype)->name);
    }
    if (!p->copy.data) {
        FM_TRY(fm_pages_alloc(&p->copy.data, (size_t)fm_dtype_bytes(dtype, p->numel), FM_MEM_WEIGHTS));
        p->copy.dtype = dtype;
        p->copy.version = 0;
    }
    if (p->copy.version != p->version) {
        FM_TRY(fm_param_rows(b, x, p, 0, p->dim[0], dtype, p->copy.data));
        p->copy.version = p->version;
    }
    *out = p->copy.data;
    return FM_OK;
}

void fm_param_release(fm_param *p) {
    FM_UNUSED(p);
}

/* Weights in a file map are packed late and within a budget. The packed form is a second copy, which the first pass
 * over a model should not wait for, and which a model near the size of memory has no room for: such weights are read
 * where they are (the same bits, at about half the speed of one row). Small ones are packed at once. */
#define PACK_AFTER 3 /* uses */
#define PACK_SMALL ((int64_t)1 << 20)

/* Rows packed at a time when they are converted first: a multiple of every kernel's panel width. */
#define PACK_ROWS 960

static bool pack_later(fm_param *p, fm_dtype dtype, int64_t bytes) {
    if (p->storage != FM_STORAGE_MAP || p->dtype != dtype || bytes < PACK_SMALL) {
        return false;
    }
    if (p->pack_uses < 0) {
        return true;
    }
    if (++p->pack_uses <= PACK_AFTER) {
        return true;
    }
    /* Packed weights may take half of what this process can have. */
    int64_t packed = fm_ledger_current(FM_MEM_PACKED);
    if (packed + bytes > (fm_mem_available() + packed) / 2) {
        p->pack_uses = -1; /* do not ask again */
        return true;
    }
    return false;
}

/* Rows are converted in scratch and packed block by block, so that no copy of the whole weight is made. */
static fm_status pack_converted(const fm_backend *b, const fm_exec *x, const fm_param *p, fm_dtype dtype) {
    int64_t n = p->dim[0], k = p->dim[1];
    fm_scratch_mark mark = fm_scratch_save(x->scratch);
    void *rows = fm_scratch_take(x, fm_dtype_bytes(dtype, FM_MIN(n, PACK_ROWS) * k));
    fm_status s = FM_OK;
    if (!rows) {
        s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory to pack %s", p->name);
    }
    for (int64_t r = 0; r < n && s == FM_OK; r += PACK_ROWS) {
        int64_t m = FM_MIN(PACK_ROWS, n - r);
        s = fm_param_rows(b, x, p, r, m, dtype, rows);
        if (s == FM_OK) {
            uint8_t *dst = (uint8_t *)p->packed + (r ? b->matmul_pack_bytes(dtype, r, k) : 0);
            s = b->matmul_pack(x, dtype, m, k, rows, k, true, dst);
        }
    }
    fm_scratch_restore(x->scratch, mark);
    return s;
}

fm_status fm_param_packed(const fm_backend *b, const fm_exec *x, fm_param *p, fm_dtype dtype, void **out) {
    *out = NULL;
    if (p->tie) {
        p = p->tie;
    }
    if (!b->matmul_pack_bytes || p->n_dims != 2) {
        return FM_OK;
    }
    int64_t n = p->dim[0], k = p->dim[1], bytes = b->matmul_pack_bytes(dtype, n, k);
    if (bytes <= 0) {
        return FM_OK;
    }
    if (p->packed && p->packed_version == p->version && p->packed_dtype == dtype) {
        *out = p->packed;
        return FM_OK;
    }
    if (!p->packed && pack_later(p, dtype, bytes)) {
        return FM_OK;
    }
    if (!p->data) {
        FM_FAIL(FM_ERR_STATE, "parameter %s has no data", p->name);
    }
    if (p->packed && p->packed_bytes != bytes) {
        fm_dense_free(p->packed, (size_t)p->packed_bytes, FM_MEM_PACKED);
        p->packed = NULL;
    }
    if (!p->packed) {
        FM_TRY(fm_dense_alloc(&p->packed, (size_t)bytes, FM_MEM_PACKED));
        p->packed_bytes = bytes;
    }
    p->packed_version = 0; /* of no use until it is whole */
    if (p->dtype != dtype && !p->copy.data) {
        FM_TRY(pack_converted(b, x, p, dtype));
    } else {
        void *w;
        FM_TRY(fm_param_acquire(b, x, p, dtype, &w));
        FM_TRY(b->matmul_pack(x, dtype, n, k, w, k, true, p->packed));
    }
    if (p->storage == FM_STORAGE_MAP) {
        fm_map_release(p->data, (size_t)fm_dtype_bytes(p->dtype, p->numel)); /* read again only when asked for plain */
    }
    p->packed_version = p->version;
    p->packed_dtype = dtype;
    *out = p->packed;
    return FM_OK;
}
