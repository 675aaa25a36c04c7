/* Checkpoint folders.
 *
 * checkpoint-N holds a Hugging Face model (config.json, model.safetensors in the compute type, tokenizer) that any
 * program can load, and beside it what an exact resume needs: optimizer.safetensors (the fp32 masters when the model
 * file is rounded, the optimizer's vectors, averaged weights), trainer_state.json, config.yaml. COMPLETE comes last and
 * lists every file with its size and hash. All of it is written into checkpoint-N.tmp, synced, then renamed: a
 * checkpoint is whole or not there. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "io/safetensors.h"
#include "model/adapter.h"
#include "fathom/template.h"
#include "train/run.h"
#include "train/weights.h"

#define PREFIX           "checkpoint-"
#define COMPLETE         "COMPLETE"
#define MANIFEST_VERSION 1

static bool has_masters(const fm_trainer *r) {
    return r->choice.compute != FM_F32;
}
static bool has_vectors(const fm_trainer *r) {
    return r->optim.n_states > 0 || has_masters(r) || r->ema.block;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void tensor_name(char *buf, size_t cap, const char *kind, const fm_param *p) {
    snprintf(buf, cap, "%s/%s", kind, p->name);
}

/* Calls fn for each vector of the optimizer file. */
typedef fm_status (*vector_fn)(void *arg, const char *name, fm_param *p, const fm_optim_shape *shape, void *data);

static int64_t bytes_of(const fm_optim_shape *s) {
    int64_t n = 1;
    for (int i = 0; i < s->n_dims; i++) {
        n *= s->dim[i];
    }
    return fm_dtype_bytes(s->dtype, n);
}

static fm_status each_vector(const fm_trainer *r, vector_fn fn, void *arg) {
    char name[512];
    for (int i = 0; i < fm_params_count(r->params); i++) {
        fm_param *p = fm_params_at(r->params, i);
        if (p->tie || p->frozen) {
            continue;
        }
        if (has_masters(r)) {
            tensor_name(name, sizeof name, "master", p);
            fm_optim_shape like = fm_optim_shape_like(p);
            FM_TRY(fn(arg, name, p, &like, p->data));
        }
        for (int k = 0; k < r->optim.n_states; k++) {
            tensor_name(name, sizeof name, r->choice.optimizer->state_name[k], p);
            void *state = fm_optim_state(&r->optim, p, k);
            fm_optim_shape shape = fm_optim_state_shape(r->choice.optimizer, p, k);
            if (state) {
                FM_TRY(fn(arg, name, p, &shape, state));
            }
        }
        if (r->ema.block) {
            tensor_name(name, sizeof name, "ema", p);
            fm_optim_shape like = fm_optim_shape_like(p);
            FM_TRY(fn(arg, name, p, &like, fm_ema_of(&r->ema, p)));
        }
    }
    return FM_OK;
}

static fm_status declare(void *arg, const char *name, fm_param *p, const fm_optim_shape *shape, void *data) {
    FM_UNUSED(p);
    FM_UNUSED(data);
    return fm_st_writer_declare(arg, name, shape->dtype, shape->n_dims, shape->dim);
}
static fm_status put(void *arg, const char *name, fm_param *p, const fm_optim_shape *shape, void *data) {
    FM_UNUSED(p);
    return fm_st_writer_put(arg, name, 0, data, bytes_of(shape));
}

static fm_status save_optimizer(const fm_trainer *r, const char *dir) {
    if (!has_vectors(r)) {
        return FM_OK;
    }
    fm_st_writer *w;
    fm_st_writer_options o = {.base = "optimizer"};
    FM_TRY(fm_st_writer_new(&w, dir, &o));
    fm_status s = fm_st_writer_metadata(w, "format", "fathom-optimizer");
    s = s == FM_OK ? fm_st_writer_metadata(w, "version", "1") : s;
    s = s == FM_OK ? fm_st_writer_metadata(w, "optim", r->choice.optimizer->name) : s;
    s = s == FM_OK ? each_vector(r, declare, w) : s;
    s = s == FM_OK ? fm_st_writer_begin(w) : s;
    s = s == FM_OK ? each_vector(r, put, w) : s;
    s = s == FM_OK ? fm_st_writer_finish(w) : s;
    fm_st_writer_free(w);
    return s;
}

static fm_status write_manifest(const char *dir) {
    char **names, path[4096], hash[33];
    size_t n;
    FM_TRY(fm_dir_list(&names, &n, dir));
    fm_str text = {0};
    fm_str_printf(&text, "{\n  \"format\": \"fathom-checkpoint\",\n  \"version\": %d,\n  \"files\": {",
                  MANIFEST_VERSION);
    fm_status s = FM_OK;
    for (size_t i = 0; i < n && s == FM_OK; i++) {
        s = fm_path_join(path, sizeof path, dir, names[i]);
        s = s == FM_OK ? fm_file_hash(hash, path) : s;
        fm_str_puts(&text, i ? ",\n    " : "\n    ");
        fm_str_json(&text, names[i], strlen(names[i]));
        fm_str_printf(&text, ": {\"bytes\": %lld, \"hash\": \"%s\"}", (long long)fm_file_size(path), hash);
    }
    fm_names_free(names, n);
    fm_str_puts(&text, "\n  }\n}\n");
    s = s == FM_OK ? fm_str_check(&text) : s;
    s = s == FM_OK ? fm_path_join(path, sizeof path, dir, COMPLETE) : s;
    s = s == FM_OK ? fm_file_write_atomic(path, text.data, text.len) : s;
    fm_str_free(&text);
    return s;
}

/* The model, or what an adapter adds to it. */
static fm_status save_weights(const fm_trainer *r, const char *dir) {
    return r->model->adapter ? fm_adapter_save(r->model, dir, r->cfg->model_name_or_path)
                             : fm_model_save(r->model, dir, r->choice.compute, 0);
}

static fm_status write_parts(fm_trainer *r, const char *dir) {
    char path[4096];
    FM_TRY(fm_mkdirs(dir));
    fm_crash_point("ckpt.begin");
    FM_TRY(save_weights(r, dir));
    fm_crash_point("ckpt.model");
    FM_TRY(save_optimizer(r, dir));
    fm_crash_point("ckpt.optimizer");
    if (r->tokenizer[0]) {
        FM_TRY(fm_copy_tokenizer(r->tokenizer, dir));
    }
    FM_TRY(fm_path_join(path, sizeof path, dir, "config.yaml"));
    FM_TRY(fm_file_write_atomic(path, r->yaml, strlen(r->yaml)));
    FM_TRY(fm_path_join(path, sizeof path, dir, "trainer_state.json"));
    FM_TRY(fm_state_write(r, path));
    fm_crash_point("ckpt.state");
    FM_TRY(write_manifest(dir));
    fm_crash_point("ckpt.complete");
    return fm_sync_path(dir);
}

/* What the files take, so that a full disk is told of before anything is written. */
static fm_status check_space(const fm_trainer *r) {
    int64_t n = fm_params_numel(r->params);
    int64_t need = n * fm_dtype_bytes(r->choice.compute, 1) + (int64_t)r->optim.bytes + (has_masters(r) ? 4 * n : 0) +
                   (int64_t)r->ema.bytes + (4 << 20);
    int64_t left = fm_disk_free(r->cfg->output_dir);
    if (left >= 0 && left < need) {
        char a[32], b[32];
        fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "a checkpoint in %s needs %s, the disk has %s free",
                     r->cfg->output_dir, fm_format_bytes(a, sizeof a, (double)need),
                     fm_format_bytes(b, sizeof b, (double)left));
        return fm_error_hint("free space or lower save_total_limit; earlier checkpoints are as they were: go on with "
                             "resume_from_checkpoint=true");
    }
    return FM_OK;
}

static fm_status checkpoint_path(char *buf, size_t cap, const char *dir, int64_t step, const char *tail) {
    char name[64];
    snprintf(name, sizeof name, PREFIX "%lld%s", (long long)step, tail);
    return fm_path_join(buf, cap, dir, name);
}

fm_status fm_trainer_list_checkpoints(const char *dir, int64_t **steps, size_t *n) {
    *steps = NULL;
    *n = 0;
    if (!fm_path_is_dir(dir)) {
        return FM_OK;
    }
    char **names;
    size_t n_names;
    FM_TRY(fm_dir_list(&names, &n_names, dir));
    int64_t *out = fm_calloc(n_names + 1, sizeof *out);
    for (size_t i = 0; out && i < n_names; i++) {
        int64_t step;
        if (strncmp(names[i], PREFIX, strlen(PREFIX)) == 0 && names[i][strlen(PREFIX)] >= '0' &&
            names[i][strlen(PREFIX)] <= '9' && fm_parse_i64(&step, names[i] + strlen(PREFIX)) == FM_OK) {
            size_t at = (*n)++;
            for (; at > 0 && out[at - 1] > step; at--) {
                out[at] = out[at - 1];
            }
            out[at] = step;
        }
    }
    fm_names_free(names, n_names);
    if (!out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a list of checkpoints");
    }
    *steps = out;
    return FM_OK;
}

/* Keeps the newest K and the best; failures here cost disk space and nothing else. */
static void remove_old(const fm_trainer *r) {
    int64_t *steps;
    size_t n;
    if (r->cfg->save_total_limit <= 0 || fm_trainer_list_checkpoints(r->cfg->output_dir, &steps, &n) != FM_OK) {
        return;
    }
    for (size_t i = 0; i + (size_t)r->cfg->save_total_limit < n; i++) {
        char path[4096];
        if (steps[i] == r->st.best_step ||
            checkpoint_path(path, sizeof path, r->cfg->output_dir, steps[i], "") != FM_OK) {
            continue;
        }
        if (fm_remove_tree(path) != FM_OK) {
            fm_warn("cannot remove the old checkpoint %s: %s", path, fm_error_get().message);
        }
    }
    fm_free(steps);
}

void fm_trainer_remove_partial(const fm_trainer *r) {
    char **names, path[4096];
    size_t n;
    if (fm_dir_list(&names, &n, r->cfg->output_dir) != FM_OK) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(names[i]);
        if (strncmp(names[i], PREFIX, strlen(PREFIX)) == 0 && len > 4 && strcmp(names[i] + len - 4, ".tmp") == 0 &&
            fm_path_join(path, sizeof path, r->cfg->output_dir, names[i]) == FM_OK && fm_remove_tree(path) != FM_OK) {
            fm_warn("cannot remove %s: %s", path, fm_error_get().message);
        }
    }
    fm_names_free(names, n);
}

fm_status fm_trainer_save(fm_trainer *r) {
    if (r->saved_step == r->st.step) {
        return FM_OK;
    }
    char tmp[4096], path[4096];
    FM_TRY(fm_mkdirs(r->cfg->output_dir));
    FM_TRY(check_space(r));
    FM_TRY(checkpoint_path(tmp, sizeof tmp, r->cfg->output_dir, r->st.step, ".tmp"));
    FM_TRY(checkpoint_path(path, sizeof path, r->cfg->output_dir, r->st.step, ""));
    FM_TRY(fm_remove_tree(tmp));
    fm_status s = write_parts(r, tmp);
    if (s != FM_OK) {
        fm_error_record keep;
        fm_error_save(&keep);
        (void)!fm_remove_tree(tmp);
        fm_error_restore(&keep);
        s = fm_error_context("while writing checkpoint %s", path);
        if (!keep.hint[0]) {
            fm_error_hint("earlier checkpoints are as they were: go on with --resume");
        }
        return s;
    }
    fm_crash_point("ckpt.rename");
    FM_TRY(fm_remove_tree(path)); /* a damaged one, or the same step written before */
    FM_TRY(fm_rename_dir(tmp, path));
    fm_crash_point("ckpt.renamed");
    r->saved_step = r->st.step;
    r->save_s = fm_now();
    remove_old(r);
    fm_crash_point("ckpt.done");
    return FM_OK;
}

/* The chat template that the answers were learned with goes with the model. */
static fm_status save_template(const fm_trainer *r) {
    fm_tokenizer *tok;
    fm_template *t = NULL;
    char path[4096];
    FM_TRY(fm_path_join(path, sizeof path, r->cfg->output_dir, "chat_template.jinja"));
    FM_TRY(fm_tokenizer_open(&tok, r->tokenizer));
    fm_status s = fm_template_open(&t, r->cfg->template_, tok);
    if (s == FM_OK) {
        const char *text = fm_template_source(t);
        s = fm_file_write_atomic(path, text, strlen(text));
    }
    fm_template_free(t);
    fm_tokenizer_free(tok);
    return s;
}

fm_status fm_trainer_save_final(fm_trainer *r) {
    FM_TRY(fm_mkdirs(r->cfg->output_dir));
    if (r->tokenizer[0]) {
        FM_TRY(fm_copy_tokenizer(r->tokenizer, r->cfg->output_dir));
    }
    if (r->cfg->template_ && r->choice.objective->examples) {
        FM_TRY(save_template(r));
    }
    fm_crash_point("final.model");
    bool averaged = r->cfg->ema_save && r->ema.block;
    FM_TRY(averaged ? fm_ema_swap(&r->ema, r->pool) : FM_OK);
    fm_status s = save_weights(r, r->cfg->output_dir);
    if (averaged) {
        FM_TRY(s);
        fm_info("the weights written are the averaged ones");
        s = fm_ema_swap(&r->ema, r->pool);
    }
    return s;
}

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct verify_job {
    const char *dir;
    int64_t n_files;
} verify_job;

static fm_status verify_file(void *arg, const char *name, fm_json *value) {
    verify_job *j = arg;
    char path[4096], hash[33];
    if (strchr(name, '/')) {
        FM_FAIL(FM_ERR_FORMAT, "%s/" COMPLETE " names a file outside the checkpoint: %s", j->dir, name);
    }
    FM_TRY(fm_path_join(path, sizeof path, j->dir, name));
    int64_t bytes = fm_json_int(fm_json_get(value, "bytes"), -1);
    const char *want = fm_json_str(fm_json_get(value, "hash"), NULL);
    if (fm_file_size(path) != bytes) {
        FM_FAIL(FM_ERR_CORRUPT, "%s has %lld bytes, expected %lld", path, (long long)fm_file_size(path),
                (long long)bytes);
    }
    FM_TRY(fm_file_hash(hash, path));
    if (!want || strcmp(hash, want) != 0) {
        FM_FAIL(FM_ERR_CORRUPT, "%s is damaged: its hash is %s, expected %s", path, hash, want ? want : "one");
    }
    j->n_files++;
    return FM_OK;
}

fm_status fm_checkpoint_verify(const char *dir) {
    char path[4096];
    FM_TRY(fm_path_join(path, sizeof path, dir, COMPLETE));
    if (!fm_path_exists(path)) {
        FM_FAIL(FM_ERR_CORRUPT, "%s has no " COMPLETE " mark", dir);
    }
    fm_json *o;
    FM_TRY(fm_json_load(&o, path));
    verify_job j = {.dir = dir};
    int64_t version = fm_json_int(fm_json_get(o, "version"), 0);
    fm_json *files = fm_json_get(o, "files");
    fm_status s = FM_OK;
    if (version < 1 || version > MANIFEST_VERSION || !fm_json_is_object(files)) {
        s = fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "%s has version %lld, this program reads up to %d",
                         path, (long long)version, MANIFEST_VERSION);
    }
    s = s == FM_OK ? fm_json_each(files, verify_file, &j) : s;
    fm_json_free(o);
    return s;
}

fm_status fm_trainer_find_checkpoint(const fm_trainer *r, char *dir, size_t cap, bool *found) {
    const char *want = r->cfg->resume_from_checkpoint;
    *found = false;
    if (!want || strcmp(want, "false") == 0 || strcmp(want, "none") == 0) {
        return FM_OK;
    }
    bool any = strcmp(want, "true") == 0 || strcmp(want, "auto") == 0;
    if (!any) {
        FM_TRY(fm_checkpoint_verify(want));
        *found = true;
        if ((size_t)snprintf(dir, cap, "%s", want) >= cap) {
            FM_FAIL(FM_ERR_ARGUMENT, "path is longer than %zu bytes: %s", cap, want);
        }
        return FM_OK;
    }
    int64_t *steps;
    size_t n;
    FM_TRY(fm_trainer_list_checkpoints(r->cfg->output_dir, &steps, &n));
    fm_status s = FM_OK;
    for (size_t i = n; i > 0 && s == FM_OK && !*found; i--) {
        s = checkpoint_path(dir, cap, r->cfg->output_dir, steps[i - 1], "");
        if (s == FM_OK && fm_checkpoint_verify(dir) == FM_OK) {
            *found = true;
        } else if (s == FM_OK) {
            fm_warn("checkpoint %s cannot be used: %s%s", dir, fm_error_get().message,
                    i > 1 ? "; trying the one before" : "");
        }
    }
    fm_free(steps);
    FM_TRY(s);
    if (*found || strcmp(want, "true") != 0) {
        return FM_OK;
    }
    if (n > 0) {
        fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "none of the %zu checkpoints in %s can be used", n,
                     r->cfg->output_dir);
        return fm_error_hint("start again with overwrite_output_dir=true");
    }
    fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "there is no checkpoint in %s", r->cfg->output_dir);
    return fm_error_hint("leave resume_from_checkpoint out to start, or set it to auto");
}

typedef struct load_job {
    const fm_safetensors *st;
    const char *dir;
    bool weights_only;
} load_job;

static fm_status load_vector(void *arg, const char *name, fm_param *p, const fm_optim_shape *shape, void *data) {
    const load_job *j = arg;
    bool master = strncmp(name, "master/", 7) == 0;
    if (j->weights_only && !master && strncmp(name, "ema/", 4) != 0) {
        return FM_OK;
    }
    const fm_st_tensor *t;
    FM_TRY(fm_safetensors_get(&t, j->st, name));
    if (t->dtype != shape->dtype || t->bytes != bytes_of(shape)) {
        FM_FAIL(FM_ERR_SHAPE, "%s: %s has %lld bytes of %s, expected %lld of %s", j->dir, name, (long long)t->bytes,
                t->dtype_name, (long long)bytes_of(shape), fm_dtype_get(shape->dtype)->name);
    }
    memcpy(data, t->data, (size_t)t->bytes);
    fm_st_release_pages(t);
    if (master) {
        fm_param_changed(p);
    }
    return FM_OK;
}

static fm_status load_vectors(fm_trainer *r, const char *dir, bool weights_only) {
    if (!has_vectors(r)) {
        return FM_OK;
    }
    char path[4096];
    FM_TRY(fm_path_join(path, sizeof path, dir, "optimizer.safetensors"));
    fm_safetensors *st;
    FM_TRY(fm_safetensors_open(&st, path));
    load_job j = {.st = st, .dir = dir, .weights_only = weights_only};
    fm_status s = each_vector(r, load_vector, &j);
    fm_safetensors_close(st);
    return s;
}

fm_status fm_trainer_load_weights(fm_trainer *r, const char *dir) {
    fm_scratch *scratch;
    FM_TRY(fm_scratch_new(&scratch));
    fm_exec x = {.pool = r->pool, .scratch = scratch};
    /* The weights under an adapter are those the run began with; read once. */
    bool whole = !r->model->adapter, base = whole || !r->base_read;
    fm_status s = base ? fm_weights_read(r->model, whole ? dir : r->cfg->model_name_or_path, (uint64_t)r->cfg->seed,
                                         !whole && r->cfg->mtp_from_scratch, r->backend, &x)
                       : FM_OK;
    r->base_read = true;
    s = s == FM_OK && !whole ? fm_adapter_read(r->model, dir) : s;
    fm_scratch_free(scratch);
    FM_TRY(s);
    return has_masters(r) || r->ema.block ? load_vectors(r, dir, true) : FM_OK;
}

fm_status fm_trainer_load(fm_trainer *r, const char *dir) {
    FM_TRY(fm_trainer_load_weights(r, dir));
    FM_TRY(load_vectors(r, dir, false));
    char path[4096];
    fm_kept_plan plan;
    FM_TRY(fm_path_join(path, sizeof path, dir, "trainer_state.json"));
    FM_TRY(fm_state_read(path, &r->st, &plan));
    r->sampler.at = r->st.cursor;
    r->optim.t = r->st.updates;
    return FM_OK;
}

fm_status fm_trainer_roll_back(fm_trainer *r, bool *done) {
    int64_t *steps;
    size_t n;
    char path[4096], file[4096];
    *done = false;
    FM_TRY(fm_trainer_list_checkpoints(r->cfg->output_dir, &steps, &n));
    fm_status s = FM_OK;
    for (size_t i = n; i-- > 0 && !*done && s == FM_OK;) {
        s = checkpoint_path(path, sizeof path, r->cfg->output_dir, steps[i], "");
        *done = s == FM_OK && steps[i] <= r->st.step && fm_checkpoint_verify(path) == FM_OK;
    }
    fm_free(steps);
    if (s != FM_OK || !*done) {
        return s;
    }
    fm_run_state then = {0};
    fm_kept_plan plan;
    FM_TRY(fm_path_join(file, sizeof file, path, "trainer_state.json"));
    FM_TRY(fm_state_read(file, &then, &plan));
    FM_TRY(fm_trainer_load_weights(r, path));
    FM_TRY(load_vectors(r, path, false));
    r->optim.t = r->st.updates = then.updates;
    r->st.guard = then.guard;
    r->st.guard.skipped_in_row = 0;
    r->st.rollbacks++;
    fm_warn("going back to the weights of step %lld (%s), with rate %g and the rows that follow", (long long)then.step,
            path, r->learning_rate * pow(0.5, (double)r->st.rollbacks));
    return FM_OK;
}
