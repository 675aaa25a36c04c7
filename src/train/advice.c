/* Advice after a run: findings from its log and its newest checkpoint. A finding says what was seen, in numbers, and
 * which keys to change; one that the numbers do not carry is not made. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/finding.h"
#include "base/log.h"
#include "train/run.h"

#define MAX_POINTS 100000

typedef struct point {
    double step, value, epoch;
} point;

typedef struct history {
    point *loss, *eval;
    size_t n_loss, n_eval, cap_loss, cap_eval;
    double rate, mfu; /* highest; of the last line, NaN = not measured */
    char rows[200];   /* of the first skipped step */
} history;

static void history_free(history *h) {
    fm_free(h->loss);
    fm_free(h->eval);
}

static fm_status add(point **list, size_t *n, size_t *cap, point p) {
    void *q = *list;
    if (!isfinite(p.value) || *n >= MAX_POINTS) {
        return FM_OK;
    }
    FM_TRY(fm_grow(&q, cap, *n + 1, sizeof p));
    *list = q;
    (*list)[(*n)++] = p;
    return FM_OK;
}

static fm_status add_line(history *h, const char *line, size_t n) {
    fm_json *j = NULL;
    if (fm_json_parse(&j, line, n, "trainer_log.jsonl") != FM_OK) { /* a line that a kill cut short */
        fm_error_clear();
        return FM_OK;
    }
    point p = {.step = fm_json_num(fm_json_get(j, "step"), NAN), .epoch = fm_json_num(fm_json_get(j, "epoch"), NAN)};
    p.value = fm_json_num(fm_json_get(j, "loss"), NAN);
    fm_status s = fm_json_bool(fm_json_get(j, "skipped"), false) ? FM_OK : add(&h->loss, &h->n_loss, &h->cap_loss, p);
    p.value = fm_json_num(fm_json_get(j, "eval_loss"), NAN);
    s = s == FM_OK ? add(&h->eval, &h->n_eval, &h->cap_eval, p) : s;
    const char *rows = fm_json_str(fm_json_get(j, "rows"), NULL);
    if (rows && !*h->rows) {
        snprintf(h->rows, sizeof h->rows, "%.*s", (int)fm_utf8_complete_prefix(rows, FM_MIN(strlen(rows), 199)), rows);
    }
    h->rate = fmax(h->rate, fm_json_num(fm_json_get(j, "learning_rate"), 0));
    h->mfu = fm_json_num(fm_json_get(j, "mfu"), h->mfu);
    fm_json_free(j);
    return s;
}

static fm_status read_log(history *h, const char *dir) {
    char path[4096], *text;
    size_t n;
    FM_TRY(fm_path_join(path, sizeof path, dir, "trainer_log.jsonl"));
    if (!fm_path_exists(path)) {
        fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "%s has no trainer_log.jsonl", dir);
        return fm_error_hint("name the output_dir of a run");
    }
    FM_TRY(fm_file_read(&text, &n, path, 0));
    fm_status s = FM_OK;
    for (size_t at = 0; at < n && s == FM_OK;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t len = end ? (size_t)(end - text) - at : n - at;
        s = len > 0 ? add_line(h, text + at, len) : FM_OK;
        at += len + 1;
    }
    fm_free(text);
    return s;
}

/* The configuration and state of the newest checkpoint. */
static fm_status newest(const char *dir, fm_train_config **cfg, fm_run_state *st, fm_kept_plan *plan) {
    int64_t *steps;
    size_t n;
    char name[64], at[4096], path[4096];
    FM_TRY(fm_trainer_list_checkpoints(dir, &steps, &n));
    int64_t step = n > 0 ? steps[n - 1] : -1;
    fm_free(steps);
    if (step < 0) {
        FM_FAIL(FM_ERR_NOT_FOUND, "%s has no checkpoint: its configuration is not known", dir);
    }
    snprintf(name, sizeof name, "checkpoint-%lld", (long long)step);
    FM_TRY(fm_path_join(at, sizeof at, dir, name));
    FM_TRY(fm_path_join(path, sizeof path, at, "trainer_state.json"));
    FM_TRY(fm_state_read(path, st, plan));
    FM_TRY(fm_path_join(path, sizeof path, at, "config.yaml"));
    FM_TRY(fm_train_config_new(cfg));
    fm_status s = fm_options_load_yaml(*cfg, fm_train_options(), path);
    if (s != FM_OK) {
        fm_train_config_free(*cfg);
        *cfg = NULL;
    }
    return s;
}

/* ---- findings --------------------------------------------------------------------------------- */

static double mean(const point *p, size_t begin, size_t end) {
    double sum = 0;
    for (size_t i = begin; i < end; i++) {
        sum += p[i].value;
    }
    return end > begin ? sum / (double)(end - begin) : NAN;
}

/* Mean loss of the last quarter of the log, of the one before, and of the lowest one. */
static void quarters(const history *h, double *last, double *before, double *lowest) {
    size_t n = h->n_loss;
    *last = mean(h->loss, n * 3 / 4, n);
    *before = mean(h->loss, n / 2, n * 3 / 4);
    *lowest = fmin(mean(h->loss, 0, n / 4), fmin(mean(h->loss, n / 4, n / 2), fmin(*before, *last)));
}

static fm_finding *begin(fm_advice *a, const char *kind) {
    FM_ASSERT(a->n < (int)FM_ARRAY_LEN(a->finding));
    fm_finding *f = &a->finding[a->n++];
    *f = (fm_finding){.kind = kind};
    return f;
}

static void change(fm_finding *f, const char *key, double from, double to) {
    fm_advice_change *c = &f->change[f->n_changes++];
    c->key = key;
    snprintf(c->from, sizeof c->from, "%.6g", from);
    snprintf(c->to, sizeof c->to, "%.6g", to);
}

static void change_word(fm_finding *f, const char *key, const char *from, const char *to) {
    fm_advice_change *c = &f->change[f->n_changes++];
    c->key = key;
    snprintf(c->from, sizeof c->from, "%s", from);
    snprintf(c->to, sizeof c->to, "%s", to);
}

/* Went away, or kept being thrown back: half the rate (1e-5 is low enough for any fine-tuning), shorter steps. */
static bool divergence(fm_advice *a, const history *h, const fm_train_config *c, const fm_run_state *st) {
    double last = NAN, before = NAN, lowest = NAN;
    if (h->n_loss >= 8) {
        quarters(h, &last, &before, &lowest);
    }
    bool risen = isfinite(last) && last > 1.2 * lowest && last > before;
    if (!risen && st->rollbacks == 0 && st->guard.skipped < 5) {
        return false;
    }
    fm_finding *f = begin(a, "divergence");
    int n = snprintf(f->evidence, sizeof f->evidence, "%lld steps skipped, %lld rollbacks",
                     (long long)st->guard.skipped, (long long)st->rollbacks);
    if (risen && n > 0) {
        snprintf(f->evidence + n, sizeof f->evidence - (size_t)n,
                 "; loss %.4g over the last quarter of the run, %.4g in its best", last, lowest);
    }
    if (*h->rows) {
        snprintf(f->advice, sizeof f->advice, "look at the rows of the first skipped step: %s", h->rows);
    }
    double rate = c->learning_rate > 0 ? c->learning_rate : h->rate;
    if (rate > 1e-5) {
        change(f, "learning_rate", rate, fmax(1e-5, rate / 2));
    }
    if (c->max_grad_norm <= 0 || c->max_grad_norm > 0.5) {
        change(f, "max_grad_norm", c->max_grad_norm, c->max_grad_norm <= 0 ? 1 : 0.5);
    }
    return true;
}

static void against_overfitting(fm_finding *f, const fm_train_config *c) {
    if (c->dropout < 0.3) {
        change(f, "dropout", c->dropout, c->dropout < 0.1 ? 0.1 : fmin(0.3, c->dropout + 0.1));
    }
    if (c->early_stopping_patience == 0) {
        change(f, "early_stopping_patience", 0, 3);
    }
    if (!c->load_best_model_at_end) {
        change_word(f, "load_best_model_at_end", "false", "true");
    }
    snprintf(f->advice, sizeof f->advice,
             "more rows help most: new ones, or made from these (data augment, data synth)");
}

/* The training loss at the time of an evaluation: mean of the few lines up to it. */
static double loss_before(const history *h, double step) {
    size_t end = 0;
    while (end < h->n_loss && h->loss[end].step <= step) {
        end++;
    }
    return mean(h->loss, end > 4 ? end - 4 : 0, end);
}

/* The evaluation has been better before, while the loss of the training rows went on falling; or it stands still far
 * above a training loss that falls away from it over epochs. */
static bool overfitting(fm_advice *a, const history *h, const fm_train_config *c) {
    size_t best = 0, n = h->n_eval;
    for (size_t i = 1; i < n; i++) {
        best = h->eval[i].value < h->eval[best].value ? i : best;
    }
    if (n < 3) {
        return false;
    }
    double first = h->eval[0].value, end = h->eval[n - 1].value, low = h->eval[best].value;
    double before = NAN, after = NAN;
    for (size_t i = 0; i < h->n_loss; i++) {
        before = h->loss[i].step <= h->eval[best].step ? h->loss[i].value : before;
        after = h->loss[i].value;
    }
    if (best + 1 < n && end >= 1.01 * low && after < before) {
        fm_finding *f = begin(a, "overfitting");
        snprintf(f->evidence, sizeof f->evidence,
                 "eval loss %.4g at step %.0f (epoch %.2g), %.4g at the end; training loss %.4g, then %.4g", low,
                 h->eval[best].step, h->eval[best].epoch, end, before, after);
        against_overfitting(f, c);
        return true;
    }
    double gap0 = first - loss_before(h, h->eval[0].step), gap1 = end - loss_before(h, h->eval[n - 1].step);
    bool still = h->eval[n - 2].value < 1.01 * end;
    if (!(h->eval[n - 1].epoch >= 2 && still && gap1 > 0.3 * end && gap1 > 2 * fmax(gap0, 0))) {
        return false;
    }
    fm_finding *f = begin(a, "overfitting");
    snprintf(f->evidence, sizeof f->evidence,
             "eval loss %.4g stands still, %.4g above the training loss; after the first evaluation it was %.4g above",
             end, gap1, gap0);
    against_overfitting(f, c);
    return true;
}

/* Eval loss at a step, between the evaluations around it. */
static double eval_at(const history *h, double step) {
    for (size_t i = 1; i < h->n_eval; i++) {
        const point *p = &h->eval[i - 1], *q = &h->eval[i];
        if (p->step <= step && step <= q->step && q->step > p->step) {
            return p->value + (q->value - p->value) * (step - p->step) / (q->step - p->step);
        }
    }
    return NAN;
}

/* Within the first epoch every row is new, so evaluations at a quarter, half and the whole of the steps are a learning
 * curve: each doubling gains the same share of the gain before it (a power law towards a floor). */
static void learning_curve(fm_advice *a, const history *h) {
    if (h->n_eval < 3 || h->eval[h->n_eval - 1].epoch > 1.01) {
        return;
    }
    double end = h->eval[h->n_eval - 1].step, whole = h->eval[h->n_eval - 1].value, half = eval_at(h, end / 2),
           quarter = eval_at(h, end / 4), gain = half - whole, earlier = quarter - half;
    if (!(gain > 0 && earlier > 0)) {
        return;
    }
    double next = gain * fmin(gain / earlier, 1);
    if (next < 0.01 * whole) {
        return;
    }
    fm_finding *f = begin(a, "learning curve");
    snprintf(f->evidence, sizeof f->evidence,
             "eval loss %.4g with a quarter of the rows, %.4g with half, %.4g with all: twice as many would give about "
             "%.4g",
             quarter, half, whole, whole - next);
    snprintf(f->advice, sizeof f->advice, "add rows to dataset; more epochs over these gain less");
}

/* Still falling when it ended. */
static void underfitting(fm_advice *a, const history *h, const fm_train_config *c) {
    double last, before, lowest;
    if (h->n_loss < 8) {
        return;
    }
    quarters(h, &last, &before, &lowest);
    size_t n = h->n_eval;
    bool improving = n < 2 || h->eval[n - 1].value < h->eval[n - 2].value;
    if (!(last < 0.97 * before) || !improving) {
        return;
    }
    fm_finding *f = begin(a, "underfitting");
    snprintf(f->evidence, sizeof f->evidence, "loss still falls: %.4g in the third quarter, %.4g in the last", before,
             last);
    if (c->max_steps > 0) {
        change(f, "max_steps", (double)c->max_steps, 2 * (double)c->max_steps);
    } else {
        change(f, "num_train_epochs", c->num_train_epochs, 2 * c->num_train_epochs);
    }
}

static void memory(fm_advice *a, const fm_train_config *c, const fm_kept_plan *p) {
    bool lowered = p->micro_batch < c->per_device_train_batch_size;
    if (!lowered && !(p->recompute && c->gradient_checkpointing == FM_AUTO)) {
        return;
    }
    fm_finding *f = begin(a, "memory");
    snprintf(f->evidence, sizeof f->evidence, "memory held %lld of %lld windows a pass%s", (long long)p->micro_batch,
             (long long)c->per_device_train_batch_size, p->recompute ? ", and layers were computed twice" : "");
    if (c->optim && strcmp(c->optim, "adamw") == 0) {
        change_word(f, "optim", "adamw", "adamw_8bit");
    } else if (c->cutoff_len > 256) {
        change(f, "cutoff_len", (double)c->cutoff_len, (double)c->cutoff_len / 2);
    }
}

static void slow(fm_advice *a, const history *h, const fm_train_config *c, const fm_kept_plan *p) {
    int64_t batch = c->per_device_train_batch_size;
    if (!(h->mfu < 0.2) || p->micro_batch < batch || p->recompute) {
        return;
    }
    fm_finding *f = begin(a, "slow");
    snprintf(f->evidence, sizeof f->evidence, "%.0f%% of the machine's best matrix rate, with %lld windows a pass",
             100 * h->mfu, (long long)batch);
    change(f, "per_device_train_batch_size", (double)batch, 2 * (double)batch);
    if (c->gradient_accumulation_steps > 1) { /* the same effective batch */
        change(f, "gradient_accumulation_steps", (double)c->gradient_accumulation_steps,
               ceil((double)c->gradient_accumulation_steps / 2));
    }
}

fm_status fm_train_advise(fm_advice *out, const char *output_dir) {
    FM_ASSERT(out && out->size >= sizeof *out);
    history h = {.mfu = NAN};
    fm_train_config *c = NULL;
    fm_run_state st = {0};
    fm_kept_plan plan;
    out->n = 0;
    fm_status s = read_log(&h, output_dir);
    s = s == FM_OK ? newest(output_dir, &c, &st, &plan) : s;
    if (s == FM_OK) {
        if (!divergence(out, &h, c, &st) && !overfitting(out, &h, c)) {
            underfitting(out, &h, c);
            learning_curve(out, &h);
        }
        memory(out, c, &plan);
        slow(out, &h, c, &plan);
    }
    fm_train_config_free(c);
    history_free(&h);
    return s;
}

fm_status fm_train_advice_apply(const fm_advice *a, const char *output_dir, const char *path) {
    fm_train_config *c = NULL;
    fm_run_state st = {0};
    fm_kept_plan plan;
    char *yaml = NULL, out[4096];
    FM_TRY(newest(output_dir, &c, &st, &plan));
    fm_status s = FM_OK;
    for (int i = 0; i < a->n && s == FM_OK; i++) {
        for (int k = 0; k < a->finding[i].n_changes && s == FM_OK; k++) {
            const fm_advice_change *g = &a->finding[i].change[k];
            s = fm_options_set(c, fm_train_options(), g->key, g->to, "advice");
        }
    }
    /* The run that was looked at stays as it is. */
    snprintf(out, sizeof out, "%s-advised", output_dir);
    s = s == FM_OK ? fm_options_set(c, fm_train_options(), "output_dir", out, "advice") : s;
    s = s == FM_OK ? fm_options_set(c, fm_train_options(), "resume_from_checkpoint", NULL, "advice") : s;
    s = s == FM_OK ? fm_options_dump_yaml(&yaml, c, fm_train_options()) : s;
    s = s == FM_OK ? fm_file_write_atomic(path, yaml, strlen(yaml)) : s;
    fm_string_free(yaml);
    fm_train_config_free(c);
    return s;
}

fm_status fm_train_advice_json(char **out, const fm_advice *a) {
    fm_json *o = fm_json_new_object(), *list = fm_json_new_array(), *f;
    fm_str text = {0};
    *out = NULL;
    fm_status s = fm_json_set(o, "findings", list);
    for (int i = 0; i < a->n && s == FM_OK; i++) {
        s = fm_finding_add(list, &f, a->finding[i].kind, "%s", a->finding[i].evidence);
        s = s == FM_OK && *a->finding[i].advice ? fm_finding_advise(f, a->finding[i].advice) : s;
        for (int k = 0; k < a->finding[i].n_changes && s == FM_OK; k++) {
            const fm_advice_change *c = &a->finding[i].change[k];
            s = fm_finding_change(f, "train", c->key, c->from, c->to);
        }
    }
    s = s == FM_OK ? fm_json_dump(&text, o, 0) : s;
    if (s == FM_OK) {
        *out = fm_str_take(&text);
    }
    fm_str_free(&text);
    fm_json_free(o);
    return s;
}

void fm_trainer_report_advice(const fm_trainer *r) {
    fm_advice a = {.size = sizeof a};
    if (fm_train_advise(&a, r->cfg->output_dir) != FM_OK) { /* no log was written */
        fm_error_clear();
        return;
    }
    for (int i = 0; i < a.n; i++) {
        const fm_finding *f = &a.finding[i];
        fm_str text = {0};
        for (int k = 0; k < f->n_changes; k++) {
            fm_str_printf(&text, "%s%s=%s", k ? " " : "; try ", f->change[k].key, f->change[k].to);
        }
        fm_info("%s: %s%s%s%s", f->kind, f->evidence, *f->advice ? "; " : "", f->advice,
                text.data && !text.failed ? text.data : "");
        fm_str_free(&text);
    }
    if (a.n > 0) {
        fm_info("fathom advise %s --apply FILE.yaml writes the changed configuration", r->cfg->output_dir);
    }
}
