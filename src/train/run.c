/* The loop over steps. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "train/continual.h"
#include "train/run.h"

/* ---- sinks ----------------------------------------------------------------------------------- */

static void sink_failed(fm_trainer *r, int i, const char *what) {
    fm_warn("%s cannot %s: %s; it is left out from here on", r->sinks[i].name, what, fm_error_get().message);
    if (r->sinks[i].end && r->sink_on[i]) {
        r->sinks[i].end(r->sink_state[i], NULL);
    }
    r->sink_on[i] = false;
}

static void begin_sinks(fm_trainer *r) {
    const char *dir = r->cfg->output_dir, *slash = strrchr(dir, '/');
    fm_train_info info = {.size = sizeof info,
                          .output_dir = dir,
                          .run_name = r->cfg->run_name    ? r->cfg->run_name
                                      : slash && slash[1] ? slash + 1
                                                          : dir,
                          .stage = r->choice.objective->name,
                          .precision = fm_dtype_get(r->choice.compute)->name,
                          .kernels = r->backend->name,
                          .report_to = r->cfg->report_to ? r->cfg->report_to : "none",
                          .config_yaml = r->yaml,
                          .data_hash = fm_dataset_hash(r->data),
                          .first_step = r->resumed_step,
                          .n_steps = r->n_steps,
                          .n_params = fm_params_numel(r->model->params),
                          .tokens_per_step = r->plan.step_samples * r->seq_len,
                          .threads = fm_pool_threads(r->pool)};
    for (int i = 0; i < r->n_sinks; i++) {
        if (!r->sinks[i].begin || r->sinks[i].begin(&r->sink_state[i], r->sinks[i].user, &info) == FM_OK) {
            r->sink_on[i] = true;
        } else {
            sink_failed(r, i, "begin");
        }
    }
}

static void end_sinks(fm_trainer *r, const fm_train_result *result) {
    for (int i = 0; i < r->n_sinks; i++) {
        if (r->sink_on[i] && r->sinks[i].end) {
            r->sinks[i].end(r->sink_state[i], result);
        }
        r->sink_on[i] = false;
    }
}

static double elapsed(const fm_trainer *r) {
    return r->st.elapsed_s + fm_now() - r->start_s;
}

/* What went through the model: of examples the questions too. */
static int64_t tokens_done(const fm_trainer *r) {
    return r->choice.objective->examples ? r->st.samples_done * r->seq_len : r->st.n_tokens;
}

/* Tokens per second of this part of the run, evaluation and checkpoints not counted. */
static double token_rate(const fm_trainer *r) {
    double s = fm_now() - r->start_s - r->phase_s[FM_PHASE_EVAL] - r->phase_s[FM_PHASE_SAVE];
    return s > 0 ? (double)(tokens_done(r) - r->start_tokens) / s : 0;
}

static double mfu_of(const fm_trainer *r, double rate) {
    return r->ceiling > 0 ? fm_flops_per_token(r->model, r->seq_len) * rate / r->ceiling : NAN;
}

static void emit(fm_trainer *r, const fm_eval_result *eval) {
    fm_train_event e = {.size = sizeof e,
                        .step = r->st.step,
                        .n_steps = r->n_steps,
                        .epoch = (double)r->st.samples_done / (double)r->sampler.n_samples,
                        .loss = r->st.last_loss,
                        .learning_rate = r->lr,
                        .grad_norm = r->grad_norm,
                        .tokens_per_s = token_rate(r),
                        .eval_loss = eval ? eval->loss : NAN,
                        .eval_perplexity = eval ? eval->perplexity : NAN,
                        .eval_bits_per_byte = eval ? eval->bits_per_byte : NAN,
                        .n_tokens = r->st.n_tokens,
                        .memory_bytes = fm_mem_rss_anon(),
                        .elapsed_s = elapsed(r),
                        .skipped = r->skipped,
                        .skipped_rows = r->skipped ? r->skipped_rows : NULL,
                        .layer_grad_norm = r->layers.norm,
                        .n_layers = r->layers.n_layers,
                        .expert_max_violation = r->max_violation};
    fm_train_metric metric[FM_MAX_METRICS];
    for (int i = 0; eval && i < eval->n_metrics; i++) {
        metric[i] = (fm_train_metric){.name = eval->metric[i].name, .value = eval->metric[i].value};
    }
    e.metrics = metric;
    e.n_metrics = eval ? eval->n_metrics : 0;
    e.mfu = mfu_of(r, e.tokens_per_s);
    int64_t done = r->st.step - r->resumed_step;
    e.remaining_s = done > 0 ? (fm_now() - r->start_s) / (double)done * (double)(r->n_steps - r->st.step) : NAN;
    for (int i = 0; i < r->n_sinks; i++) {
        if (r->sink_on[i] && r->sinks[i].event && r->sinks[i].event(r->sink_state[i], &e) != FM_OK) {
            sink_failed(r, i, "write");
        }
    }
}

/* ---- when ------------------------------------------------------------------------------------ */

static double metric_of(const fm_trainer *r, const fm_eval_result *e) {
    const char *m = r->cfg->metric_for_best_model;
    for (int i = 0; i < e->n_metrics; i++) {
        if (strcmp(m, e->metric[i].name) == 0) {
            return e->metric[i].value;
        }
    }
    return strcmp(m, "eval_perplexity") == 0      ? e->perplexity
           : strcmp(m, "eval_bits_per_byte") == 0 ? e->bits_per_byte
           : strcmp(m, "loss") == 0               ? r->st.last_loss
                                                  : e->loss;
}

/* Whether the metric is the best so far; *gain whether it counts for early stopping. */
static bool note_metric(fm_trainer *r, double m, bool *gain) {
    double sign = fm_train_more_is_better(r->cfg) ? 1 : -1, before = r->st.best_metric;
    bool first = r->st.best_step < 0;
    bool best = isfinite(m) && (first || sign * (m - before) > 0);
    *gain = isfinite(m) && (first || sign * (m - before) > r->cfg->early_stopping_threshold);
    if (best) {
        r->st.best_metric = m;
        r->st.best_step = r->st.step;
    }
    return best;
}

static fm_status save(fm_trainer *r) {
    double mark = fm_now(), kept = r->st.elapsed_s;
    r->st.elapsed_s = elapsed(r);
    fm_status s = fm_trainer_save(r);
    r->st.elapsed_s = kept;
    fm_trainer_charge(r, FM_PHASE_SAVE, &mark);
    return s;
}

/* Evaluation after a step: fills *e; *stop when patience is over. A new best is saved when it will be wanted. */
static fm_status evaluate(fm_trainer *r, fm_eval_result *e, bool *stop) {
    FM_TRY(fm_trainer_evaluate(r, e));
    r->st.evaluated_step = r->st.step;
    r->st.eval_loss = e->loss;
    r->st.eval_bits_per_byte = e->bits_per_byte;
    bool gain, best = note_metric(r, metric_of(r, e), &gain);
    r->st.bad_evals = gain ? 0 : r->st.bad_evals + 1;
    *stop = fm_train_patience(r->cfg) > 0 && r->st.bad_evals >= fm_train_patience(r->cfg);
    bool wanted = r->cfg->load_best_model_at_end || fm_train_patience(r->cfg) > 0;
    return best && wanted && r->st.step > 0 ? save(r) : FM_OK;
}

static void close_log_window(fm_trainer *r) {
    if (r->st.log_tokens > 0) {
        r->st.last_loss = r->st.log_loss_sum / (double)r->st.log_tokens;
    }
    r->st.log_loss_sum = 0;
    r->st.log_tokens = r->st.log_steps = 0;
}

/* Whether this step is one of `every`, or the last of an epoch. */
static bool due(const fm_trainer *r, int strategy, int64_t every, int64_t samples_before) {
    if (strategy == FM_WHEN_EPOCH) {
        return r->st.samples_done / r->sampler.n_samples > samples_before / r->sampler.n_samples;
    }
    return strategy == FM_WHEN_STEPS && every > 0 && r->st.step % every == 0;
}

/* What follows a step: log line, evaluation, checkpoint. *stop ends the run early. */
static fm_status after_step(fm_trainer *r, int64_t samples_before, bool *stop) {
    const fm_train_config *c = r->cfg;
    int64_t step = r->st.step;
    bool last = step >= r->n_steps, log = step % c->logging_steps == 0 || step == 1 || last || r->skipped;
    bool eval = r->eval_data && c->eval_strategy != FM_WHEN_NO &&
                (due(r, c->eval_strategy, c->eval_steps, samples_before) || last);
    fm_eval_result e;
    if (log || eval) {
        close_log_window(r);
    }
    if (eval) {
        FM_TRY(evaluate(r, &e, stop));
    }
    if (log || eval) {
        emit(r, eval ? &e : NULL);
    }
    bool time = c->save_minutes > 0 && fm_now() - r->save_s >= 60 * c->save_minutes;
    if (due(r, c->save_strategy, c->save_steps, samples_before) || time || last || *stop) {
        FM_TRY(save(r));
    }
    return FM_OK;
}

static fm_status loop(fm_trainer *r, fm_train_result *result) {
    fm_meter meter;
    fm_meter_start(&meter, "training", "steps", (double)r->n_steps);
    bool stop = fm_train_patience(r->cfg) > 0 && r->st.bad_evals >= fm_train_patience(r->cfg);
    if (r->st.step == 0 && r->eval_data && r->cfg->eval_on_start) {
        fm_eval_result e;
        FM_TRY(evaluate(r, &e, &stop));
        emit(r, &e);
    }
    while (r->st.step < r->n_steps && r->st.samples_done < r->total_samples && !stop) {
        int64_t before = r->st.samples_done;
        FM_TRY(fm_trainer_step(r));
        FM_TRY(after_step(r, before, &stop));
        char detail[128], rate[32];
        double tps = token_rate(r);
        snprintf(detail, sizeof detail, "loss %.4f, %s tokens/s", r->loss, fm_format_count(rate, sizeof rate, tps));
        fm_meter_update(&meter, (double)r->st.step, detail);
        fm_crash_point("step.done");
    }
    snprintf(result->stopped_by, sizeof result->stopped_by, "%s",
             stop && r->st.step < r->n_steps ? "early_stopping" : "end");
    fm_meter_end(&meter, (double)r->st.step, "");
    return FM_OK;
}

static void fill_result(fm_trainer *r, fm_train_result *out) {
    out->steps = r->st.step;
    out->tokens = r->st.n_tokens;
    out->skipped_steps = r->st.guard.skipped;
    out->train_loss = r->st.last_loss;
    out->eval_loss = r->st.eval_loss;
    out->eval_bits_per_byte = r->st.eval_bits_per_byte;
    out->best_metric = r->st.best_metric;
    out->best_step = r->st.best_step;
    out->seconds = elapsed(r);
    out->tokens_per_s = token_rate(r);
    out->mfu = mfu_of(r, out->tokens_per_s);
    out->whole_steps = r->whole_steps;
    out->eval_windows = r->eval_data ? r->eval_sampler.n_samples : 0;
    out->tokens_per_step = r->plan.step_samples * r->seq_len;
    out->eval_seconds = r->phase_s[FM_PHASE_EVAL];
    out->save_seconds = r->phase_s[FM_PHASE_SAVE];
    out->vocab = r->model->cfg.vocab_size;
    snprintf(out->output_dir, sizeof out->output_dir, "%s", r->cfg->output_dir);
}

/* The result folder holds the last weights, or the best. */
static fm_status finish(fm_trainer *r) {
    if (r->cfg->load_best_model_at_end && r->st.best_step > 0 && r->st.best_step != r->st.step) {
        char name[64], path[4096];
        snprintf(name, sizeof name, "checkpoint-%lld", (long long)r->st.best_step);
        FM_TRY(fm_path_join(path, sizeof path, r->cfg->output_dir, name));
        FM_TRY(fm_checkpoint_verify(path));
        FM_TRY(fm_trainer_load_weights(r, path));
        fm_info("the result is the best checkpoint: step %lld, %s %g", (long long)r->st.best_step,
                r->cfg->metric_for_best_model, r->st.best_metric);
        if (strcmp(r->cfg->metric_for_best_model, "eval_loss") == 0) {
            r->st.eval_loss = r->st.best_metric;
        }
    }
    FM_TRY(fm_trainer_save_final(r));
    return fm_continual_finish(r);
}

static fm_status interrupted(fm_trainer *r, fm_train_result *result) {
    fm_error_record keep;
    fm_error_save(&keep);
    snprintf(result->stopped_by, sizeof result->stopped_by, "interrupt");
    if (r->st.step > 0) {
        FM_TRY(save(r));
        fm_info("interrupted: step %lld is saved in %s", (long long)r->st.step, r->cfg->output_dir);
    }
    fm_error_restore(&keep);
    return fm_error_hint("go on with --resume");
}

fm_status fm_train_run_sinks(const fm_train_config *cfg, const fm_train_sink *sinks, int n_sinks,
                             fm_train_result *out) {
    FM_ASSERT(out && out->size >= sizeof out->size && n_sinks <= 8);
    fm_trainer r = {.cfg = cfg, .sinks = sinks, .n_sinks = n_sinks};
    fm_train_result result = {.train_loss = NAN,
                              .eval_loss = NAN,
                              .eval_bits_per_byte = NAN,
                              .best_metric = NAN,
                              .mfu = NAN,
                              .best_step = -1};
    fm_status s = fm_trainer_setup(&r);
    if (s == FM_OK) {
        fm_profile_reset();
        fm_profile_enable(true);
        r.start_s = r.save_s = fm_now();
        r.start_tokens = tokens_done(&r);
        begin_sinks(&r);
        s = loop(&r, &result);
        if (s == FM_ERR_CANCELLED) {
            s = interrupted(&r, &result);
        }
        fm_profile_enable(false);
        fill_result(&r, &result);
        s = s == FM_OK ? finish(&r) : s;
        result.eval_loss = r.st.eval_loss;
        end_sinks(&r, s == FM_OK || s == FM_ERR_CANCELLED ? &result : NULL);
        if (s == FM_OK) {
            fm_trainer_report_profile(&r);
            if (r.whole_steps == r.n_steps) { /* a trial says what it found itself */
                fm_trainer_report_advice(&r);
            }
        }
    }
    fm_trainer_deinit(&r);
    size_t size = out->size;
    result.size = size;
    memcpy(out, &result, FM_MIN(size, sizeof result));
    return s;
}
