/* Contexts: arenas, flags, marks. */
#include "tensor/ctx.h"

#include <string.h>

#define HOST_BLOCK    ((size_t)256 * 1024)
#define DEFAULT_ARENA ((int64_t)256 << 20)

static size_t round_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

void *fm_host_take(fm_ctx *c, size_t bytes) {
    fm_host_arena *h = &c->host;
    bytes = round_up(bytes, 16);
    FM_ASSERT(bytes <= HOST_BLOCK);
    if (h->n_blocks == 0 || h->at + bytes > HOST_BLOCK) {
        size_t next = h->n_blocks == 0 ? 0 : h->at_block + 1;
        if (next == h->n_blocks) {
            fm_status s = fm_grow((void **)&h->block, &h->cap_blocks, h->n_blocks + 1, sizeof *h->block);
            if (s != FM_OK) {
                fm_ctx_fail(c, s);
                return NULL;
            }
            uint8_t *b = fm_malloc(HOST_BLOCK);
            if (!b) {
                fm_ctx_fail(c, fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__,
                                            "no memory for %zu bytes of tensor records", HOST_BLOCK));
                return NULL;
            }
            h->block[h->n_blocks++] = b;
        }
        h->at_block = next;
        h->at = 0;
    }
    void *p = h->block[h->at_block] + h->at;
    h->at += bytes;
    memset(p, 0, bytes);
    return p;
}

fm_status fm_ctx_new(fm_ctx **out, const fm_ctx_options *opt) {
    *out = NULL;
    FM_ASSERT(opt && opt->size == sizeof *opt);
    fm_ctx *c = fm_calloc(1, sizeof *c);
    if (!c) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a context");
    }
    c->backend = opt->backend ? opt->backend : &fm_meta_backend;
    c->exec.pool = opt->pool;
    c->compute = opt->compute;
    c->seed = opt->seed;
    bool meta = c->backend->kind == FM_DEVICE_META;
    fm_status s = fm_scratch_new(&c->exec.scratch);
    if (s != FM_OK) {
        goto fail;
    }
    c->data.cap = meta ? INT64_MAX / 4 : (opt->arena_bytes ? opt->arena_bytes : DEFAULT_ARENA);
    c->grads.cap = meta ? INT64_MAX / 4 : (opt->grad_bytes ? opt->grad_bytes : DEFAULT_ARENA);
    if (!meta) {
        FM_TRY_GOTO(s, fail, fm_pages_alloc((void **)&c->data.base, (size_t)c->data.cap, FM_MEM_ARENA));
        FM_TRY_GOTO(s, fail, fm_pages_alloc((void **)&c->grads.base, (size_t)c->grads.cap, FM_MEM_ARENA));
    }
    FM_TRY_GOTO(s, fail, fm_grow((void **)&c->grads.free_block, &c->grads.cap_free, 64, sizeof *c->grads.free_block));
    fm_grad_heap_reset(c);
    *out = c;
    return FM_OK;
fail:
    fm_ctx_free(c);
    return s;
}

void fm_ctx_free(fm_ctx *c) {
    if (!c) {
        return;
    }
    if (c->data.base) {
        fm_pages_free(c->data.base, (size_t)c->data.cap, FM_MEM_ARENA);
    }
    if (c->grads.base) {
        fm_pages_free(c->grads.base, (size_t)c->grads.cap, FM_MEM_ARENA);
    }
    for (size_t i = 0; i < c->host.n_blocks; i++) {
        fm_free(c->host.block[i]);
    }
    fm_free(c->host.block);
    fm_free(c->grads.free_block);
    fm_free(c->node);
    fm_free(c->leaf);
    fm_scratch_free(c->exec.scratch);
    fm_free(c);
}

fm_status fm_ctx_status(const fm_ctx *c) {
    return c->status;
}
void fm_ctx_clear_error(fm_ctx *c) {
    c->status = FM_OK;
}
fm_status fm_ctx_fail(fm_ctx *c, fm_status s) {
    if (c->status == FM_OK) {
        c->status = s;
    }
    return s;
}
bool fm_ctx_is_meta(const fm_ctx *c) {
    return c->backend->kind == FM_DEVICE_META;
}
fm_dtype fm_ctx_compute(const fm_ctx *c) {
    return c->compute;
}
fm_pool *fm_ctx_pool(const fm_ctx *c) {
    return c->exec.pool;
}
const fm_backend *fm_ctx_backend(const fm_ctx *c) {
    return c->backend;
}
const fm_exec *fm_ctx_exec(fm_ctx *c) {
    return &c->exec;
}
void fm_ctx_set_training(fm_ctx *c, bool on) {
    c->training = on;
}
bool fm_ctx_training(const fm_ctx *c) {
    return c->training;
}
void fm_ctx_set_step(fm_ctx *c, uint32_t step, uint64_t first_token) {
    c->step = step;
    c->first_token = first_token;
}
fm_rng_key fm_ctx_rng(const fm_ctx *c, const char *stream) {
    return (fm_rng_key){.seed = c->seed, .stream = fm_rng_stream(stream), .step = c->step};
}
uint64_t fm_ctx_first_token(const fm_ctx *c) {
    return c->first_token;
}
bool fm_ctx_recomputing(const fm_ctx *c) {
    return c->recomputing;
}
void fm_ctx_set_pack(fm_ctx *c, bool on) {
    c->pack = on;
}
void fm_ctx_set_lora_mix(fm_ctx *c, const struct fm_lora_mix *mix) {
    c->mix = mix;
}
bool fm_ctx_pack(const fm_ctx *c) {
    return c->pack;
}
int64_t fm_ctx_arena_peak(const fm_ctx *c) {
    return c->data.peak;
}
int64_t fm_ctx_grad_peak(const fm_ctx *c) {
    return c->grads.peak;
}
int64_t fm_ctx_arena_used(const fm_ctx *c) {
    return c->data.used;
}

fm_ctx *fm_at(fm_ctx *c, const char *file, int line) {
    c->file = file;
    c->line = line;
    return c;
}

void fm_ctx_reset(fm_ctx *c) {
    c->n_nodes = 0;
    c->host.at_block = 0;
    c->host.at = 0;
    c->data.used = 0;
    fm_leaf_clear(c);
    fm_grad_heap_reset(c);
    c->status = FM_OK;
    c->recomputing = false;
}

fm_ctx_mark_t fm_ctx_mark(const fm_ctx *c) {
    return (fm_ctx_mark_t){.data = (size_t)c->data.used, .host = c->host.at_block * HOST_BLOCK + c->host.at};
}

void fm_ctx_release(fm_ctx *c, fm_ctx_mark_t m) {
    FM_ASSERT(!c->tape_on);
    c->data.used = (int64_t)m.data;
    /* at == HOST_BLOCK is a full block, which the division would take for the start of the next. */
    c->host.at_block = m.host / HOST_BLOCK;
    c->host.at = m.host % HOST_BLOCK;
    if (c->host.at == 0 && c->host.at_block > 0) {
        c->host.at_block -= 1;
        c->host.at = HOST_BLOCK;
    }
    fm_leaf_clear(c);
}

void fm_tape_begin(fm_ctx *c) {
    fm_ctx_reset(c);
    c->tape_on = true;
}
void fm_tape_off(fm_ctx *c) {
    c->tape_on = false;
}
void fm_tape_resume(fm_ctx *c) {
    c->tape_on = true;
}
bool fm_tape_on(const fm_ctx *c) {
    return c->tape_on;
}
int fm_tape_size(const fm_ctx *c) {
    return (int)c->n_nodes;
}
const fm_node *fm_tape_node(const fm_ctx *c, int i) {
    return i >= 0 && (size_t)i < c->n_nodes ? c->node[i] : NULL;
}

fm_status fm_run(fm_ctx *c, fm_kernel k, fm_dtype d, const void *args) {
    if (fm_ctx_is_meta(c)) {
        return FM_OK;
    }
    return fm_kernel_run(c->backend, &c->exec, k, d, args);
}
