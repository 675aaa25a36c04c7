/* trainer_state.json: where a run stands. Numbers are written so that they read back as the same bits. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "train/run.h"

#define STATE_VERSION 1

/* X(kind, member): members of fm_run_state that are plain numbers. */
#define MEMBERS(X)                                                                                                     \
    X(int, step)                                                                                                       \
    X(int, updates)                                                                                                    \
    X(int, n_tokens)                                                                                                   \
    X(int, samples_done)                                                                                               \
    X(int, rollbacks)                                                                                                  \
    X(num, best_metric)                                                                                                \
    X(int, best_step)                                                                                                  \
    X(int, bad_evals)                                                                                                  \
    X(int, evaluated_step)                                                                                             \
    X(num, eval_loss)                                                                                                  \
    X(num, eval_bits_per_byte)                                                                                         \
    X(num, last_loss)                                                                                                  \
    X(num, log_loss_sum)                                                                                               \
    X(int, log_tokens)                                                                                                 \
    X(int, log_steps)                                                                                                  \
    X(num, elapsed_s)

static fm_status fill_scale(const fm_loss_scale *l, fm_json *o) {
    FM_TRY(fm_json_set(o, "loss_scale", fm_json_new_num(l->scale)));
    return fm_json_set(o, "loss_scale_good_steps", fm_json_new_int(l->good));
}

static fm_status read_scale(fm_loss_scale *l, const fm_json *o) {
    FM_TRY(fm_json_get_f64(&l->scale, o, "loss_scale", 1));
    FM_TRY(fm_json_get_i64(&l->good, o, "loss_scale_good_steps", 0));
    if (!(l->scale >= FM_LOSS_SCALE_MIN && l->scale <= FM_LOSS_SCALE_MAX) || l->good < 0) {
        FM_FAIL(FM_ERR_FORMAT, "loss_scale %g in the checkpoint is out of range", l->scale);
    }
    return FM_OK;
}

static fm_status fill_plan(const fm_trainer *r, fm_json *o) {
    FM_TRY(fm_json_set(o, "micro_batch", fm_json_new_int(r->plan.micro_batch)));
    FM_TRY(fm_json_set(o, "step_samples", fm_json_new_int(r->plan.step_samples)));
    FM_TRY(fm_json_set(o, "eval_batch", fm_json_new_int(r->plan.eval_batch)));
    FM_TRY(fm_json_set(o, "recompute", fm_json_new_bool(r->plan.recompute)));
    FM_TRY(fm_json_set(o, "threads", fm_json_new_int(fm_pool_threads(r->pool))));
    FM_TRY(fm_json_set(o, "precision", fm_json_new_str(fm_dtype_get(r->choice.compute)->name)));
    FM_TRY(fm_json_set(o, "kernels", fm_json_new_str(r->backend->name)));
    return FM_OK;
}

void fm_state_order(char *out, size_t cap, const fm_train_config *c) {
    static const char *const kinds[] = {"none", "column", "length", "loss"};
    out[0] = 0;
    if (c->curriculum == 0) {
        return;
    }
    int n = snprintf(out, cap, "%s %s%s%s %s", kinds[c->curriculum], c->curriculum_by_weights ? "weights " : "",
                     c->curriculum_column ? c->curriculum_column : "", c->curriculum_model ? c->curriculum_model : "",
                     c->curriculum_in_steps ? "steps" : "epochs");
    for (size_t i = 0; i < c->curriculum_levels.n && n > 0 && (size_t)n < cap; i++) {
        n += snprintf(out + n, cap - (size_t)n, " %s", c->curriculum_levels.item[i]);
    }
}

static fm_status fill(const fm_trainer *r, fm_json *o) {
    const fm_run_state *st = &r->st;
    char order[sizeof((fm_kept_plan *)0)->order];
    fm_state_order(order, sizeof order, r->cfg);
    FM_TRY(fm_json_set(o, "version", fm_json_new_int(STATE_VERSION)));
#define X(kind, name) FM_TRY(fm_json_set(o, #name, fm_json_new_##kind(st->name)));
    MEMBERS(X)
#undef X
    FM_TRY(fm_json_set(o, "epoch", fm_json_new_int(st->cursor.epoch)));
    FM_TRY(fm_json_set(o, "index", fm_json_new_int(st->cursor.index)));
    FM_TRY(fm_json_set(o, "seed", fm_json_new_int(r->cfg->seed)));
    FM_TRY(fm_json_set(o, "shuffle", fm_json_new_bool(r->cfg->shuffle)));
    FM_TRY(order[0] ? fm_json_set(o, "order", fm_json_new_str(order)) : FM_OK);
    FM_TRY(fm_json_set(o, "seq_len", fm_json_new_int(r->seq_len)));
    FM_TRY(fm_json_set(o, "data_hash", fm_json_new_str(fm_dataset_hash(r->data))));
    FM_TRY(fm_guard_store(&st->guard, o));
    FM_TRY(fill_scale(&st->loss_scale, o));
    FM_TRY(fm_json_set(o, "plan", fm_json_new_object()));
    return fill_plan(r, fm_json_get(o, "plan"));
}

fm_status fm_state_write(const fm_trainer *r, const char *path) {
    fm_json *o = fm_json_new_object();
    fm_str text = {0};
    fm_status s = fill(r, o);
    s = s == FM_OK ? fm_json_dump(&text, o, 2) : s;
    s = s == FM_OK ? fm_file_write_atomic(path, text.data, text.len) : s;
    fm_str_free(&text);
    fm_json_free(o);
    return s;
}

static fm_status copy_text(char *out, size_t cap, const fm_json *o, const char *key) {
    const char *text;
    FM_TRY(fm_json_get_str(&text, o, key, ""));
    snprintf(out, cap, "%s", text);
    return FM_OK;
}

static fm_status read_state(const fm_json *o, const char *path, fm_run_state *st, fm_kept_plan *p) {
    int64_t version;
    FM_TRY(fm_json_get_i64(&version, o, "version", 0));
    if (version < 1 || version > STATE_VERSION) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "%s has version %lld, this program reads up to %d", path, (long long)version,
                STATE_VERSION);
    }
    *st = (fm_run_state){0};
#define int_GET     fm_json_get_i64
#define num_GET     fm_json_get_f64
#define int_MISSING 0
#define num_MISSING NAN /* null stands for what is not a number */
#define X(kind, name)                                                                                                  \
    if (fm_json_is_null(fm_json_get(o, #name))) {                                                                      \
        st->name = kind##_MISSING;                                                                                     \
    } else {                                                                                                           \
        FM_TRY(kind##_GET(&st->name, o, #name, kind##_MISSING));                                                       \
    }
    MEMBERS(X)
#undef X
    FM_TRY(fm_json_get_i64(&st->cursor.epoch, o, "epoch", 0));
    FM_TRY(fm_json_get_i64(&st->cursor.index, o, "index", 0));
    FM_TRY(fm_guard_load(&st->guard, o));
    FM_TRY(read_scale(&st->loss_scale, o));
    *p = (fm_kept_plan){0};
    FM_TRY(fm_json_get_i64(&p->seq_len, o, "seq_len", 0));
    FM_TRY(fm_json_get_i64(&p->seed, o, "seed", 0));
    FM_TRY(fm_json_get_bool(&p->shuffle, o, "shuffle", true));
    FM_TRY(copy_text(p->order, sizeof p->order, o, "order"));
    FM_TRY(copy_text(p->data_hash, sizeof p->data_hash, o, "data_hash"));
    const fm_json *plan = fm_json_get(o, "plan");
    if (!plan) {
        FM_FAIL(FM_ERR_FORMAT, "%s has no plan", path);
    }
    FM_TRY(fm_json_get_i64(&p->micro_batch, plan, "micro_batch", 0));
    FM_TRY(fm_json_get_i64(&p->step_samples, plan, "step_samples", 0));
    FM_TRY(fm_json_get_i64(&p->eval_batch, plan, "eval_batch", 1));
    FM_TRY(fm_json_get_i64(&p->threads, plan, "threads", 0));
    FM_TRY(fm_json_get_bool(&p->recompute, plan, "recompute", false));
    FM_TRY(copy_text(p->precision, sizeof p->precision, plan, "precision"));
    FM_TRY(copy_text(p->kernels, sizeof p->kernels, plan, "kernels"));
    if (st->step < 0 || st->cursor.epoch < 0 || st->cursor.index < 0 || p->micro_batch < 1 || p->step_samples < 1) {
        FM_FAIL(FM_ERR_FORMAT, "%s: step, epoch, index or plan is out of range", path);
    }
    return FM_OK;
}

fm_status fm_state_read(const char *path, fm_run_state *st, fm_kept_plan *plan) {
    fm_json *o;
    FM_TRY(fm_json_load(&o, path));
    fm_status s = read_state(o, path, st, plan);
    fm_json_free(o);
    return s;
}
