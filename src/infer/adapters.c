/* LoRA adapters of an engine. They come and go between passes; one that requests still use stays until they are done.
 */
#include "infer/adapters.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static void adapter_free(fm_engine_adapter *a) {
    if (a) {
        fm_adapter_free(a->a);
        fm_free(a->table);
        fm_free(a);
    }
}

static fm_status fill_table(fm_engine_adapter *x, const fm_engine *e) {
    const fm_adapter *a = x->a;
    if (a->n_whole > 0 || a->dora) {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "adapter %s: %s can be applied to the whole model only (merge it, or give it alone "
                "without a name)",
                x->name, a->dora ? "one with magnitudes (DoRA)" : "one with whole modules");
    }
    x->table = fm_calloc((size_t)fm_params_count(e->m->params), sizeof *x->table);
    if (!x->table) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for adapter %s", x->name);
    }
    for (int i = 0; i < a->n; i++) {
        const fm_param *w = a->weight[i];
        if (strstr(w->name, ".experts.") || strstr(w->name, ".gate.") || strstr(w->name, "kv_b_proj")) {
            FM_FAIL(FM_ERR_UNSUPPORTED, "adapter %s: one on %s can be applied to the whole model only (merge it)",
                    x->name, w->name);
        }
        x->table[w->index] = (fm_lora_entry){.weight = w, .lora = &a->lora[i]};
        x->rank = FM_MAX(x->rank, a->lora[i].a->dim[0]);
    }
    return FM_OK;
}

fm_status fm_engine_adapter_open(fm_engine_adapter **out, fm_engine *e, const char *name, const char *dir) {
    *out = NULL;
    if (!name || !*name || strlen(name) >= sizeof(*out)->name) {
        FM_FAIL(FM_ERR_ARGUMENT, "the name of an adapter: expected 1 to %zu characters", sizeof(*out)->name - 1);
    }
    if (!e->generates) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "adapters by name are for models that generate text");
    }
    fm_engine_adapter *x = fm_calloc(1, sizeof *x);
    if (!x) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an adapter");
    }
    snprintf(x->name, sizeof x->name, "%s", name);
    x->uses = 1;
    fm_status s = fm_adapter_open_apart(&x->a, e->m, dir);
    s = s == FM_OK ? fill_table(x, e) : s;
    if (s != FM_OK) {
        adapter_free(x);
        return s;
    }
    *out = x;
    return FM_OK;
}

fm_engine_adapter *fm_engine_adapter_find(fm_engine *e, const char *name) {
    for (fm_engine_adapter *a = e->adapters; a; a = a->next) {
        if (strcmp(a->name, name) == 0) {
            a->uses++;
            return a;
        }
    }
    return NULL;
}

void fm_engine_adapter_release(fm_engine *e, fm_engine_adapter *a) {
    if (!a) {
        return;
    }
    pthread_mutex_lock(&e->lock);
    bool last = --a->uses == 0;
    pthread_mutex_unlock(&e->lock);
    if (last) {
        adapter_free(a);
    }
}

static void widen(fm_lora_entry *all, const fm_engine_adapter *a, int n) {
    for (int i = 0; i < n; i++) {
        const fm_lora *l = a->table[i].lora;
        if (l && (!all[i].lora || l->a->dim[0] > all[i].lora->a->dim[0])) {
            all[i] = a->table[i];
        }
    }
}

fm_status fm_engine_adapter_union(fm_lora_entry **out, fm_engine *e, const fm_engine_adapter *more) {
    int n = fm_params_count(e->m->params);
    *out = NULL;
    if (!e->adapters && !more) {
        return FM_OK;
    }
    *out = fm_calloc((size_t)n, sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for adapters");
    }
    if (more) {
        widen(*out, more, n);
    }
    pthread_mutex_lock(&e->lock);
    for (const fm_engine_adapter *a = e->adapters; a; a = a->next) {
        widen(*out, a, n);
    }
    pthread_mutex_unlock(&e->lock);
    for (int32_t i = 0; i < e->n_running; i++) { /* one that was removed may still be in use */
        if (e->running[i]->adapter) {
            widen(*out, e->running[i]->adapter, n);
        }
    }
    for (const fm_request *r = e->waiting; r; r = r->next) {
        if (r->adapter) {
            widen(*out, r->adapter, n);
        }
    }
    return FM_OK;
}

void fm_engine_adapter_rows(fm_engine *e) {
    int32_t n = 0;
    e->mix.n_parts = 0;
    for (int32_t i = 0; i < e->n_running; i++) {
        const fm_engine_adapter *a = e->running[i]->adapter;
        bool seen = !a;
        for (int32_t k = 0; k < i && !seen; k++) {
            seen = e->running[k]->adapter == a && e->running[k]->n_now > 0;
        }
        if (seen || e->running[i]->n_now == 0) {
            continue;
        }
        fm_lora_part *p = &e->mix.part[e->mix.n_parts++];
        *p = (fm_lora_part){.rows = e->mix_rows + n, .lora = a->table};
        for (int32_t k = i; k < e->n_running; k++) {
            const fm_request *r = e->running[k];
            for (int32_t t = 0; r->adapter == a && t < r->n_now; t++) {
                e->mix_rows[n++] = r->pass_row + t;
                p->n++;
            }
        }
    }
}

/* ---- coming and going ------------------------------------------------------------------------ */

typedef struct change {
    fm_engine *e;
    fm_engine_adapter *a;
    pthread_mutex_t lock;
    pthread_cond_t over;
    bool done;
    fm_error_record error;
} change;

static void add_now(void *user, fm_model *m) {
    change *c = user;
    fm_engine *e = c->e;
    fm_status s =
        m ? fm_engine_plan_ctx(e, c->a) : fm_error_set(FM_ERR_STATE, __FILE__, __LINE__, "the engine is ending");
    if (s == FM_OK) {
        pthread_mutex_lock(&e->lock);
        for (fm_engine_adapter *a = e->adapters; a; a = a->next) {
            if (strcmp(a->name, c->a->name) == 0) {
                s = fm_error_set(FM_ERR_EXISTS, __FILE__, __LINE__, "there is an adapter \"%s\" already", a->name);
            }
        }
        if (s == FM_OK) {
            c->a->serial = ++e->n_adapters;
            c->a->next = e->adapters;
            e->adapters = c->a;
        }
        pthread_mutex_unlock(&e->lock);
    }
    if (s != FM_OK) {
        fm_error_save(&c->error);
    }
    pthread_mutex_lock(&c->lock);
    c->done = true;
    pthread_cond_signal(&c->over);
    pthread_mutex_unlock(&c->lock);
}

fm_status fm_engine_add_adapter(fm_engine *e, const char *name, const char *dir) {
    change c = {.e = e, .error = {.status = FM_OK}};
    FM_TRY(fm_engine_adapter_open(&c.a, e, name, dir));
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.over, NULL);
    fm_status s = fm_engine_post(e, add_now, &c);
    if (s == FM_OK) {
        pthread_mutex_lock(&c.lock);
        while (!c.done) {
            pthread_cond_wait(&c.over, &c.lock);
        }
        pthread_mutex_unlock(&c.lock);
        s = c.error.status;
        if (s != FM_OK) {
            fm_error_restore(&c.error);
        }
    }
    pthread_cond_destroy(&c.over);
    pthread_mutex_destroy(&c.lock);
    if (s != FM_OK) {
        adapter_free(c.a);
    }
    return s;
}

fm_status fm_engine_remove_adapter(fm_engine *e, const char *name) {
    pthread_mutex_lock(&e->lock);
    fm_engine_adapter **at = &e->adapters;
    while (*at && strcmp((*at)->name, name) != 0) {
        at = &(*at)->next;
    }
    fm_engine_adapter *a = *at;
    if (a) {
        *at = a->next;
    }
    pthread_mutex_unlock(&e->lock);
    if (!a) {
        FM_FAIL(FM_ERR_NOT_FOUND, "there is no adapter \"%s\" here", name);
    }
    fm_engine_adapter_release(e, a);
    return FM_OK;
}

/* The i-th, NULL past the end. The lock is held. */
static const fm_engine_adapter *adapter_at(const fm_engine *e, int i) {
    const fm_engine_adapter *a = e->adapters;
    for (; a && i > 0; i--) {
        a = a->next;
    }
    return a;
}

bool fm_engine_adapter_name(char *out, size_t cap, fm_engine *e, int i) {
    if (!e) {
        return false;
    }
    pthread_mutex_lock(&e->lock);
    const fm_engine_adapter *a = adapter_at(e, i);
    if (a) {
        snprintf(out, cap, "%s", a->name);
    }
    pthread_mutex_unlock(&e->lock);
    return a != NULL;
}

bool fm_engine_has_adapter(fm_engine *e, const char *name) {
    if (!e) {
        return false;
    }
    pthread_mutex_lock(&e->lock);
    bool found = false;
    for (const fm_engine_adapter *a = e->adapters; a; a = a->next) {
        found = found || strcmp(a->name, name) == 0;
    }
    pthread_mutex_unlock(&e->lock);
    return found;
}

bool fm_engine_adapter_requests(int *running, int *waiting, fm_engine *e, int i) {
    *running = *waiting = 0;
    if (!e) {
        return false;
    }
    pthread_mutex_lock(&e->lock);
    const fm_engine_adapter *a = adapter_at(e, i);
    if (a) {
        *running = a->running;
        *waiting = FM_MAX(a->uses - 1 - a->running, 0);
    }
    pthread_mutex_unlock(&e->lock);
    return a != NULL;
}

void fm_engine_adapter_count(fm_engine *e) {
    for (fm_engine_adapter *a = e->adapters; a; a = a->next) {
        a->running = 0;
    }
    for (int32_t i = 0; i < e->n_running; i++) {
        if (e->running[i]->adapter) {
            e->running[i]->adapter->running++;
        }
    }
}
