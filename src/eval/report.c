/* What a run found, as one JSON object; and the file with a line for each row. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/option_row.h"
#include "eval/task.h"

#define SHOWN 600 /* bytes of a text of a worst row */

/* fm_json_set with a value that may have failed to be made. */
static fm_status set_num(fm_json *o, const char *key, double v) {
    return fm_json_set(o, key, fm_json_new_num(v));
}
static fm_status set_int(fm_json *o, const char *key, int64_t v) {
    return fm_json_set(o, key, fm_json_new_int(v));
}
static fm_status set_str(fm_json *o, const char *key, const char *v) {
    return v ? fm_json_set(o, key, fm_json_new_str(v)) : FM_OK;
}

/* A new object (or array) as member `key` of o; *out is borrowed. */
static fm_status nest(fm_json *o, const char *key, bool array, fm_json **out) {
    *out = array ? fm_json_new_array() : fm_json_new_object();
    return fm_json_set(o, key, *out);
}
static fm_status nest_item(fm_json *array, fm_json **out) {
    *out = fm_json_new_object();
    return fm_json_append(array, *out);
}

static fm_status set_text(fm_json *o, const char *key, fm_sv t, size_t most) {
    size_t n = t.len <= most ? t.len : fm_utf8_complete_prefix(t.ptr, most);
    if (n == t.len && fm_utf8_valid(t.ptr, n)) {
        return fm_json_set(o, key, fm_json_new_strn(t.len ? t.ptr : "", n));
    }
    fm_str s = {0};
    for (size_t i = 0; i < n;) { /* what a model says may end inside a character */
        uint32_t cp;
        int len = fm_utf8_decode(&cp, t.ptr + i, t.ptr + n);
        fm_str_append(&s, len > 0 ? t.ptr + i : "\xef\xbf\xbd", len > 0 ? (size_t)len : 3);
        i += len > 0 ? (size_t)len : 1;
    }
    fm_str_puts(&s, n < t.len ? "..." : "");
    fm_status st = fm_str_check(&s);
    st = st == FM_OK ? fm_json_set(o, key, fm_json_new_strn(s.data ? s.data : "", s.len)) : st;
    fm_str_free(&s);
    return st;
}

/* ---- figures ----------------------------------------------------------------------------------- */

static bool shown(const fm_eval *e, const fm_measure *m) {
    if (e->task->kind != &fm_eval_kind_mc) {
        return true;
    }
    const fm_strlist *l = &e->cfg->metrics;
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->item[i], m->name) == 0) {
            return true;
        }
    }
    const char *def = e->task->metrics ? e->task->metrics : e->task->kind->default_metrics;
    size_t n = strlen(m->name);
    for (const char *p = def; l->n == 0 && p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        if (strncmp(p, m->name, n) == 0 && (p[n] == ',' || p[n] == '\0')) {
            return true;
        }
    }
    return false;
}

static fm_status intervals(fm_eval *e, fm_interval *v, const fm_eval_scores *s, const fm_eval_scores *other,
                           const size_t *row, size_t n) {
    int at = 0;
    for (int k = 0; k < e->n_measures; k++) {
        FM_TRY(fm_bootstrap(&v[k], &e->measure[k], s->stats, other ? other->stats : NULL, e->n_stats, at, row, n,
                            e->cfg->bootstrap, e->cfg->confidence, (uint64_t)e->cfg->seed));
        at += e->measure[k].n_stats;
    }
    return FM_OK;
}

static fm_status put_metrics(fm_json *to, fm_eval *e, const fm_interval *v, int64_t n, bool whole) {
    fm_json *metrics, *one;
    FM_TRY(nest(to, "metrics", false, &metrics));
    for (int k = 0; k < e->n_measures; k++) {
        if (!shown(e, &e->measure[k])) {
            continue;
        }
        FM_TRY(nest(metrics, e->measure[k].name, false, &one));
        FM_TRY(set_num(one, "value", v[k].value));
        FM_TRY(set_num(one, "low", v[k].low));
        FM_TRY(set_num(one, "high", v[k].high));
        if (whole) {
            FM_TRY(set_num(one, "stderr", v[k].stderr_));
            FM_TRY(set_int(one, "n", n));
            FM_TRY(set_str(one, "definition", e->measure[k].definition));
            FM_TRY(fm_json_set(one, "lower_is_better", fm_json_new_bool(e->measure[k].lower_is_better)));
        }
    }
    return FM_OK;
}

/* Subjects, in the order of the data. */
static fm_status put_groups(fm_json *to, fm_eval *e, const fm_eval_scores *s) {
    fm_json *groups = NULL;
    size_t *row = fm_calloc(e->n_rows, sizeof *row);
    if (!row) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for groups");
    }
    fm_status st = FM_OK;
    for (size_t i = 0; i < e->n_rows && st == FM_OK;) {
        size_t n = 0;
        const char *name = e->row[i].subject;
        for (; i < e->n_rows && e->row[i].subject == name; i++) {
            row[n++] = i;
        }
        if (!*name) {
            break;
        }
        fm_interval v[FM_MAX_MEASURES];
        fm_json *one;
        st = groups ? FM_OK : nest(to, "groups", true, &groups);
        st = st == FM_OK ? intervals(e, v, s, NULL, row, n) : st;
        st = st == FM_OK ? nest_item(groups, &one) : st;
        st = st == FM_OK ? set_str(one, "name", name) : st;
        st = st == FM_OK ? set_int(one, "n", (int64_t)n) : st;
        st = st == FM_OK ? put_metrics(one, e, v, (int64_t)n, false) : st;
    }
    fm_free(row);
    return st;
}

typedef struct slice_arg {
    fm_eval *e;
    const fm_eval_scores *s;
    fm_json *list;
} slice_arg;

static fm_status on_slice(void *arg, const char *by, const char *value, const size_t *row, size_t n) {
    slice_arg *a = arg;
    fm_interval v[FM_MAX_MEASURES];
    fm_json *one;
    FM_TRY(intervals(a->e, v, a->s, NULL, row, n));
    FM_TRY(nest_item(a->list, &one));
    FM_TRY(set_str(one, "by", by));
    FM_TRY(set_text(one, "value", fm_sv_of(value), SHOWN));
    FM_TRY(set_int(one, "n", (int64_t)n));
    return put_metrics(one, a->e, v, (int64_t)n, false);
}

/* ---- rows -------------------------------------------------------------------------------------- */

static fm_status set_numbers(fm_json *o, const char *key, const double *v, int32_t n) {
    fm_json *list = fm_json_new_array();
    FM_TRY(fm_json_set(o, key, list));
    for (int32_t i = 0; i < n; i++) {
        FM_TRY(fm_json_append(list, fm_json_new_num(v[i])));
    }
    return FM_OK;
}

static fm_status put_scores(fm_json *o, const fm_eval *e, const fm_eval_scores *s, size_t i) {
    const double *v = s->stats + i * (size_t)e->n_stats;
    for (int k = 0; k < e->n_measures; k++) {
        if (shown(e, &e->measure[k])) {
            FM_TRY(set_num(o, e->measure[k].name, fm_measure_value(&e->measure[k], v)));
        }
        v += e->measure[k].n_stats;
    }
    if (e->row[i].n_choices > 0) {
        const fm_eval_row *r = &e->row[i];
        FM_TRY(set_int(o, "said", s->said[i]));
        FM_TRY(set_num(o, "margin", s->rank[i]));
        FM_TRY(set_numbers(o, "logprobs", s->choice_logprob + r->choice_at, r->n_choices));
        FM_TRY(s->choice_alone ? set_numbers(o, "logprobs_alone", s->choice_alone + r->choice_at, r->n_choices)
                               : FM_OK);
        return set_text(o, "said_text", r->choice_text[s->said[i]], SHOWN);
    }
    return s->output[i].ptr ? set_text(o, "output", s->output[i], SIZE_MAX) : FM_OK;
}

static fm_status put_row(fm_json *o, const fm_eval *e, size_t i, size_t most) {
    const fm_eval_row *r = &e->row[i];
    FM_TRY(set_str(o, "file", r->file));
    FM_TRY(set_int(o, "line", r->rec->line));
    const fm_cell *id = fm_rec_get(r->rec, "id");
    FM_TRY(id ? set_text(o, "id", id->text, SHOWN) : FM_OK);
    FM_TRY(*r->subject ? set_str(o, "subject", r->subject) : FM_OK);
    FM_TRY(set_text(o, e->task->kind == &fm_eval_kind_ppl ? "text" : "question", r->question, most));
    if (r->n_choices > 0) {
        FM_TRY(set_int(o, "gold", r->gold));
        return set_text(o, "gold_text", r->choice_text[r->gold], most);
    }
    return r->target.ptr ? set_text(o, "reference", r->target, most) : FM_OK;
}

typedef struct ranked {
    double rank;
    size_t row;
} ranked;
static int by_rank(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    int c = (x->rank > y->rank) - (x->rank < y->rank);
    return c != 0 ? c : (x->row > y->row) - (x->row < y->row);
}

/* The lowest ranks; with `other` the rows that lost most against it. */
static fm_status put_worst(fm_json *to, fm_eval *e, const fm_eval_scores *s, const fm_eval_scores *other) {
    fm_json *list, *one;
    FM_TRY(nest(to, "worst", true, &list));
    ranked *k = fm_calloc(e->n_rows, sizeof *k);
    if (!k) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the worst rows");
    }
    for (size_t i = 0; i < e->n_rows; i++) {
        k[i] = (ranked){s->rank[i] - (other ? other->rank[i] : 0), i};
    }
    qsort(k, e->n_rows, sizeof *k, by_rank);
    fm_status st = FM_OK;
    for (size_t i = 0; i < FM_MIN(e->n_rows, (size_t)e->cfg->worst) && st == FM_OK; i++) {
        if (other && k[i].rank >= 0) {
            break;
        }
        st = nest_item(list, &one);
        st = st == FM_OK ? put_row(one, e, k[i].row, SHOWN) : st;
        st = st == FM_OK ? put_scores(one, e, s, k[i].row) : st;
        if (st == FM_OK && other) {
            fm_json *theirs;
            st = nest(one, "other", false, &theirs);
            st = st == FM_OK ? put_scores(theirs, e, other, k[i].row) : st;
        }
    }
    fm_free(k);
    return st;
}

#define N_SAMPLES 5

/* Rows as they come, spread over the data: what answers look like, not only bad ones. */
static fm_status put_samples(fm_json *to, const fm_eval *e, const fm_eval_scores *s) {
    fm_json *list, *one;
    size_t n = FM_MIN(e->n_rows, (size_t)N_SAMPLES);
    FM_TRY(nest(to, "samples", true, &list));
    for (size_t k = 0; k < n && e->task->kind != &fm_eval_kind_ppl; k++) {
        size_t i = k * e->n_rows / n;
        FM_TRY(nest_item(list, &one));
        FM_TRY(put_row(one, e, i, SHOWN));
        FM_TRY(put_scores(one, e, s, i));
    }
    return FM_OK;
}

fm_status fm_eval_write_rows(const fm_eval *e, const fm_eval_scores *s, const fm_eval_scores *other) {
    fm_str line = {0};
    fm_status st = FM_OK;
    char tmp[4096];
    if (snprintf(tmp, sizeof tmp, "%s.tmp", e->cfg->rows_output) >= (int)sizeof tmp) {
        FM_FAIL(FM_ERR_ARGUMENT, "the path of rows_output is too long");
    }
    FILE *f = fopen(tmp, "wbe");
    if (!f) {
        FM_FAIL(FM_ERR_IO, "cannot write %s: %s", tmp, strerror(errno));
    }
    for (size_t i = 0; i < e->n_rows && st == FM_OK; i++) {
        fm_json *o = fm_json_new_object(), *theirs;
        fm_str_clear(&line);
        st = o ? put_row(o, e, i, SIZE_MAX) : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for a row");
        st = st == FM_OK ? put_scores(o, e, s, i) : st;
        if (st == FM_OK && other) {
            st = nest(o, "other", false, &theirs);
            st = st == FM_OK ? put_scores(theirs, e, other, i) : st;
        }
        st = st == FM_OK ? fm_json_dump(&line, o, 0) : st;
        fm_str_putc(&line, '\n');
        st = st == FM_OK ? fm_str_check(&line) : st;
        if (st == FM_OK && fwrite(line.data, 1, line.len, f) != line.len) {
            st = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot write %s: %s", tmp, strerror(errno));
        }
        fm_json_free(o);
    }
    fm_str_free(&line);
    if (fclose(f) != 0 && st == FM_OK) {
        st = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot write %s: %s", tmp, strerror(errno));
    }
    if (st == FM_OK && rename(tmp, e->cfg->rows_output) != 0) {
        st = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot write %s: %s", e->cfg->rows_output, strerror(errno));
    }
    if (st != FM_OK) {
        (void)remove(tmp);
    }
    return st;
}

/* ---- the whole --------------------------------------------------------------------------------- */

static fm_status put_compare(fm_json *to, fm_eval *e, const fm_interval *v, const fm_eval_scores *s,
                             const fm_eval_scores *other) {
    fm_json *c, *metrics, *one;
    const fm_eval_config *cfg = e->cfg;
    FM_TRY(nest(to, "compare", false, &c));
    FM_TRY(set_str(c, "model", cfg->compare ? cfg->compare : cfg->model));
    FM_TRY(set_str(c, "adapter", cfg->compare_adapter));
    FM_TRY(nest(c, "metrics", false, &metrics));
    for (int k = 0; k < e->n_measures; k++) {
        if (shown(e, &e->measure[k])) {
            FM_TRY(nest(metrics, e->measure[k].name, false, &one));
            FM_TRY(set_num(one, "value", v[k].value - v[k].difference));
            FM_TRY(set_num(one, "difference", v[k].difference));
            FM_TRY(set_num(one, "low", v[k].diff_low));
            FM_TRY(set_num(one, "high", v[k].diff_high));
            FM_TRY(set_num(one, "p", v[k].p));
        }
    }
    return put_worst(c, e, s, other);
}

static fm_status put_efficiency(fm_json *to, const fm_eval *e, const fm_eval_scores *s) {
    fm_json *o;
    FM_TRY(nest(to, "efficiency", false, &o));
    FM_TRY(set_num(o, "load_seconds", s->load_seconds));
    FM_TRY(set_num(o, "seconds", s->seconds));
    FM_TRY(set_num(o, "rows_per_second", s->seconds > 0 ? (double)e->n_rows / s->seconds : (double)NAN));
    FM_TRY(set_int(o, "tokens", s->tokens));
    FM_TRY(set_num(o, "tokens_per_second", s->seconds > 0 ? (double)s->tokens / s->seconds : (double)NAN));
    FM_TRY(set_int(o, "prompt_tokens_reused", s->saved));
    if (s->generated > 0) {
        FM_TRY(set_int(o, "generated_tokens", s->generated));
        FM_TRY(set_num(o, "first_token_ms", s->first_token_ms));
        FM_TRY(set_num(o, "ms_per_token", s->per_token_ms));
        FM_TRY(set_num(o, "answers_per_pass",
                       s->passes > 0 ? (double)s->pass_sequences / (double)s->passes : (double)NAN));
    }
    return set_int(o, "peak_memory_bytes", fm_mem_rss_anon_peak());
}

/* Keys that are not at their default. */
static fm_status put_settings(fm_json *to, const fm_eval_config *cfg) {
    fm_json *o;
    fm_eval_config *def;
    FM_TRY(nest(to, "settings", false, &o));
    FM_TRY(fm_eval_config_new(&def));
    fm_status st = FM_OK;
    for (const fm_option *r = fm_eval_options(); r->key && st == FM_OK; r++) {
        fm_str a = {0}, b = {0};
        st = fm_option_text(&a, cfg, r);
        st = st == FM_OK ? fm_option_text(&b, def, r) : st;
        st = st == FM_OK ? fm_str_check(&a) : st;
        st = st == FM_OK ? fm_str_check(&b) : st;
        if (st == FM_OK && strcmp(a.data ? a.data : "", b.data ? b.data : "") != 0) {
            st = set_str(o, r->key, a.data ? a.data : "");
        }
        fm_str_free(&a);
        fm_str_free(&b);
    }
    fm_eval_config_free(def);
    return st;
}

static fm_status fill(fm_json *o, fm_eval *e, const fm_eval_scores *s, const fm_eval_scores *other) {
    fm_interval v[FM_MAX_MEASURES] = {0};
    fm_json *list;
    const fm_eval_config *c = e->cfg;
    FM_TRY(set_str(o, "task", e->task->name));
    FM_TRY(set_str(o, "model", c->model));
    FM_TRY(set_str(o, "adapter", c->adapter));
    FM_TRY(e->frozen[0] ? set_str(o, "frozen", e->frozen) : FM_OK);
    FM_TRY(set_int(o, "n_rows", (int64_t)e->n_rows));
    FM_TRY(set_int(o, "n_truncated", s->n_truncated));
    FM_TRY(set_num(o, "confidence", c->bootstrap > 0 ? c->confidence : (double)NAN));
    FM_TRY(intervals(e, v, s, other, NULL, e->n_rows));
    FM_TRY(put_metrics(o, e, v, (int64_t)e->n_rows, true));
    FM_TRY(put_groups(o, e, s));
    if (c->slice_by.n > 0 || c->terms.n > 0) {
        FM_TRY(nest(o, "slices", true, &list));
        FM_TRY(fm_eval_slices(e, on_slice, &(slice_arg){e, s, list}));
    }
    FM_TRY(put_worst(o, e, s, NULL));
    FM_TRY(put_samples(o, e, s));
    if (other) {
        FM_TRY(put_compare(o, e, v, s, other));
    }
    FM_TRY(put_efficiency(o, e, s));
    int k = 0;
    while (k < e->n_measures && !shown(e, &e->measure[k])) {
        k++;
    }
    FM_TRY(fm_eval_findings(o, e, k < e->n_measures ? k : -1, v, s, other));
    return put_settings(o, c);
}

fm_status fm_eval_report(fm_json **out, fm_eval *e, const fm_eval_scores *s, const fm_eval_scores *other) {
    *out = fm_json_new_object();
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a report");
    }
    return fill(*out, e, s, other);
}
