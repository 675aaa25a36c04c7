/* A trial: what a run will take, and whether it learns at all, from its first steps. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "train/run.h"

#define EVAL_WINDOWS 64 /* of the evaluation that is measured */

typedef struct series {
    double *loss, *elapsed;
    size_t n, cap_loss, cap_elapsed;
    double begin_s, setup_s;
} series;

static fm_status on_begin(void **state, void *user, const fm_train_info *info) {
    series *s = user;
    FM_UNUSED(info);
    s->setup_s = fm_now() - s->begin_s;
    *state = user;
    return FM_OK;
}

static fm_status on_event(void *state, const fm_train_event *e) {
    series *s = state;
    void *loss = s->loss, *elapsed = s->elapsed;
    FM_TRY(fm_grow(&loss, &s->cap_loss, s->n + 1, sizeof *s->loss));
    s->loss = loss;
    FM_TRY(fm_grow(&elapsed, &s->cap_elapsed, s->n + 1, sizeof *s->elapsed));
    s->elapsed = elapsed;
    s->loss[s->n] = e->loss;
    s->elapsed[s->n++] = e->elapsed_s;
    return FM_OK;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The first step warms up, the last one has the evaluation in it. */
static double median_step(series *s) {
    size_t n = 0, last = s->n > 3 ? s->n - 1 : s->n;
    for (size_t i = 1; i < last; i++) {
        s->elapsed[n++] = s->elapsed[i] - s->elapsed[i - 1]; /* places already read */
    }
    if (n == 0) {
        return s->n > 0 ? s->elapsed[0] : NAN;
    }
    /* Differences were put over the values they came from: element i-1 is read before it is written. */
    qsort(s->elapsed, n, sizeof *s->elapsed, by_value);
    return s->elapsed[n / 2];
}

static double mean(const double *x, size_t begin, size_t end) {
    double sum = 0;
    for (size_t i = begin; i < end; i++) {
        sum += x[i];
    }
    return end > begin ? sum / (double)(end - begin) : NAN;
}

/* Of single steps about the steps beside them, so that a fall is none. */
static double spread(const double *x, size_t n) {
    double sum = 0;
    for (size_t i = 1; i < n; i++) {
        sum += (x[i] - x[i - 1]) * (x[i] - x[i - 1]) / 2;
    }
    return n > 1 ? sqrt(sum / (double)(n - 1)) : 0;
}

/* ---- configuration --------------------------------------------------------------------------- */

static fm_status replace(char **field, const char *text) {
    char *copy = fm_strdup(text);
    if (!copy) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a configuration");
    }
    fm_free(*field);
    *field = copy;
    return FM_OK;
}

static fm_status parse_amount(fm_train_config *c, const char *amount) {
    char number[32];
    size_t n = amount ? strlen(amount) : 0;
    bool share = !amount || (n > 0 && amount[n - 1] == '%');
    double v = 1;
    if (amount && n < sizeof number) {
        snprintf(number, sizeof number, "%.*s", (int)(share ? n - 1 : n), amount);
    }
    if (amount && (n >= sizeof number || fm_parse_f64(&v, number) != FM_OK || !(v > 0) || (share && v > 100) ||
                   (!share && (v != floor(v) || v > 1e6)))) {
        (void)fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__,
                           "trial: expected a share or a number of steps, found "
                           "\"%.40s\"",
                           amount);
        return fm_error_hint("such as 1%% (at least 10 and at most 200 steps) or 50");
    }
    c->trial_share = share ? v / 100 : 0;
    c->trial_steps = share ? 0 : (int64_t)v;
    return FM_OK;
}

static fm_status shorten(fm_train_config *c, const char *amount, bool keep) {
    char dir[4096];
    FM_TRY(parse_amount(c, amount));
    if (!c->output_dir) {
        FM_FAIL(FM_ERR_CONFIG, "output_dir is not set");
    }
    if (!keep) {
        if ((size_t)snprintf(dir, sizeof dir, "%s.trial", c->output_dir) >= sizeof dir) {
            FM_FAIL(FM_ERR_ARGUMENT, "output_dir is longer than %zu bytes", sizeof dir);
        }
        FM_TRY(replace(&c->output_dir, dir));
    }
    FM_TRY(replace(&c->resume_from_checkpoint, "false"));
    FM_TRY(replace(&c->report_to, "none"));
    c->overwrite_output_dir = true;
    c->save_strategy = FM_WHEN_NO; /* one at the end */
    c->save_minutes = 0;
    c->logging_steps = 1;
    c->eval_strategy = c->eval_strategy == FM_WHEN_NO ? FM_WHEN_NO : FM_WHEN_STEPS;
    c->eval_steps = 0;
    c->eval_on_start = false;
    c->eval_max_samples = c->eval_max_samples > 0 ? FM_MIN(c->eval_max_samples, EVAL_WINDOWS) : EVAL_WINDOWS;
    c->load_best_model_at_end = c->early_stopping = false;
    c->early_stopping_patience = 0;
    return FM_OK;
}

/* ---- what it says ---------------------------------------------------------------------------- */

/* How often something is done every `every` steps, and once at the end. */
static int64_t times(int strategy, int64_t every, double epochs, int64_t steps) {
    return strategy == FM_WHEN_EPOCH              ? (int64_t)ceil(epochs)
           : strategy == FM_WHEN_NO || every <= 0 ? 1
                                                  : steps / every + (steps % every != 0);
}

static fm_finding *add(fm_advice *a, const char *kind) {
    if (a->n == (int)FM_ARRAY_LEN(a->finding)) {
        return NULL;
    }
    fm_finding *f = &a->finding[a->n++];
    *f = (fm_finding){.kind = kind};
    return f;
}

/* noise: by how much means of a quarter differ by the rows they saw. */
static void judge(fm_trial *t, int64_t skipped, double noise, const fm_train_config *c) {
    bool given = c->model_name_or_path && !c->train_from_scratch;
    fm_finding *f;
    if (skipped > 0 && (f = add(&t->advice, "divergence")) != NULL) {
        snprintf(f->evidence, sizeof f->evidence,
                 "%lld of %lld steps were skipped: loss or gradients were no numbers or far off", (long long)skipped,
                 (long long)t->steps);
        snprintf(f->advice, sizeof f->advice, "halve learning_rate, or set max_grad_norm=1");
    }
    if (t->first_loss > 1.15 * t->guess_loss && (f = add(&t->advice, "loss")) != NULL) {
        snprintf(f->evidence, sizeof f->evidence, "the loss begins at %.4g; a guess among all tokens costs %.4g",
                 t->first_loss, t->guess_loss);
        snprintf(f->advice, sizeof f->advice, "%s",
                 given ? "is the tokenizer that of the model, and are its weights whole?"
                       : "a lower learning_rate or longer warm-up");
    } else if (given && t->first_loss > 0.9 * t->guess_loss && (f = add(&t->advice, "loss")) != NULL) {
        snprintf(f->evidence, sizeof f->evidence,
                 "the loss begins at %.4g, about what a guess costs (%.4g): the model knows nothing of these rows",
                 t->first_loss, t->guess_loss);
        snprintf(f->advice, sizeof f->advice, "look at tokenizer and template with 'fathom data check'");
    }
    if (t->steps >= 10 && !(t->last_loss < t->first_loss - noise) && (f = add(&t->advice, "loss")) != NULL) {
        snprintf(f->evidence, sizeof f->evidence, "the loss did not fall: %.4g in the first quarter, %.4g in the last",
                 t->first_loss, t->last_loss);
        snprintf(f->advice, sizeof f->advice, "another learning_rate (now %g), or a longer trial", c->learning_rate);
    }
}

/* What the log of the trial says of memory and speed; of its loss the trial is too short. */
static void add_advice(fm_trial *t, const char *dir) {
    fm_advice a = {.size = sizeof a};
    if (fm_train_advise(&a, dir) != FM_OK) {
        fm_error_clear();
        return;
    }
    for (int i = 0; i < a.n && t->advice.n < (int)FM_ARRAY_LEN(t->advice.finding); i++) {
        if (strcmp(a.finding[i].kind, "memory") == 0 || strcmp(a.finding[i].kind, "slow") == 0) {
            t->advice.finding[t->advice.n++] = a.finding[i];
        }
    }
}

typedef struct when {
    int save, eval;
    int64_t save_steps, eval_steps, eval_max;
} when;

static void fill(fm_trial *t, const fm_train_config *c, const fm_train_result *r, series *s, const when *w) {
    size_t quarter = FM_MAX(s->n / 4, 1);
    bool language =
        c->stage && (strcmp(c->stage, "pt") == 0 || strcmp(c->stage, "sft") == 0 || strcmp(c->stage, "mlm") == 0);
    int64_t windows = w->eval_max > 0 ? FM_MIN(w->eval_max, r->eval_windows) : r->eval_windows,
            measured = FM_MIN(c->eval_max_samples, r->eval_windows);
    snprintf(t->output_dir, sizeof t->output_dir, "%s", r->output_dir);
    t->steps = r->steps;
    t->n_steps = r->whole_steps;
    t->tokens_per_step = r->tokens_per_step;
    t->memory_bytes = fm_mem_rss_anon_peak();
    t->first_loss = mean(s->loss, 0, FM_MIN(quarter, s->n));
    t->last_loss = mean(s->loss, s->n - FM_MIN(quarter, s->n), s->n);
    t->guess_loss = language ? log((double)FM_MAX(r->vocab, 1)) : NAN;
    t->step_s = median_step(s);
    t->tokens_per_s = t->step_s > 0 ? (double)t->tokens_per_step / t->step_s : NAN;
    t->setup_s = s->setup_s;
    t->eval_s = measured > 0 ? r->eval_seconds * (double)windows / (double)measured : 0;
    t->save_s = r->save_seconds;
    t->n_evals = r->eval_windows > 0 && w->eval != FM_WHEN_NO
                     ? times(w->eval, w->eval_steps, c->num_train_epochs, t->n_steps)
                     : 0;
    t->n_saves = times(w->save, w->save_steps, c->num_train_epochs, t->n_steps);
    t->total_s =
        t->setup_s + (double)t->n_steps * t->step_s + (double)t->n_evals * t->eval_s + (double)t->n_saves * t->save_s;
    judge(t, r->skipped_steps, spread(s->loss, s->n) / sqrt((double)quarter), c);
    add_advice(t, c->output_dir);
}

fm_status fm_train_trial_sink(fm_trial *out, fm_train_config *cfg, const char *amount, bool keep,
                              const fm_train_sink *log) {
    FM_ASSERT(out && out->size >= sizeof out->size);
    fm_trial t = {.advice = {.size = sizeof t.advice}};
    fm_train_result r = {.size = sizeof r};
    series s = {.begin_s = fm_now()};
    when w = {cfg->save_strategy, cfg->eval_strategy, cfg->save_steps, cfg->eval_steps, cfg->eval_max_samples};
    const fm_train_sink sinks[] = {{.name = "trial", .user = &s, .begin = on_begin, .event = on_event}, *log};
    FM_TRY(shorten(cfg, amount, keep));
    fm_status st = fm_train_run_sinks(cfg, sinks, (int)FM_ARRAY_LEN(sinks), &r);
    if (st == FM_OK && s.n > 0) {
        fill(&t, cfg, &r, &s, &w);
    } else if (st == FM_OK) {
        st = fm_error_set(FM_ERR_STATE, __FILE__, __LINE__, "the trial took no step");
    }
    fm_free(s.loss);
    fm_free(s.elapsed);
    if (!keep) {
        fm_error_record record;
        fm_error_save(&record);
        if (fm_remove_tree(cfg->output_dir) != FM_OK) {
            fm_warn("cannot remove %s: %s", cfg->output_dir, fm_error_get().message);
        }
        fm_error_restore(&record);
    }
    FM_TRY(st);
    size_t size = out->size;
    t.size = size;
    memcpy(out, &t, FM_MIN(size, sizeof t));
    return FM_OK;
}
