/* What an evaluation ends with: findings from its own numbers, each with its evidence, and the key and value to try.
 * A finding that the numbers do not carry is not made. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/finding.h"
#include "eval/task.h"

#define WIDE_SHARE  0.05 /* half an interval, of figures between 0 and 1 */
#define WIDE_RATIO  0.10 /* and of others, relative to their value */
#define FEW_ROWS    8    /* slices and choices below are left alone */
#define SLOW_ANSWER 5.0  /* seconds an answer takes on average, 32 at a time */

typedef struct view {
    fm_json *list;
    const fm_eval *e;
    const fm_measure *m; /* the first that is shown */
    const fm_interval *v;
    const fm_eval_scores *s;
    const fm_json *report;
} view;

static const char *number(char buf[32], double v) {
    snprintf(buf, 32, "%.4g", v);
    return buf;
}
static const char *count(char buf[32], int64_t v) {
    snprintf(buf, 32, "%lld", (long long)v);
    return buf;
}

/* 1234 -> 1300: a number of rows to aim at. */
static int64_t round_up(double v) {
    double unit = pow(10, floor(log10(fmax(v, 1))) - 1);
    return (int64_t)(ceil(v / fmax(unit, 1)) * fmax(unit, 1));
}

/* True for figures between 0 and 1: means of rows that are. */
static bool is_share(const view *w) {
    return !w->m->finish && w->v->value >= 0 && w->v->value <= 1 && !w->m->lower_is_better;
}

static fm_status interval(const view *w) {
    double half = (w->v->high - w->v->low) / 2, aim = is_share(w) ? WIDE_SHARE : WIDE_RATIO * fabs(w->v->value);
    char from[32], to[32];
    fm_json *f;
    if (!isfinite(half) || half <= aim || aim <= 0) {
        return FM_OK;
    }
    double need = fmin((double)w->e->n_rows * (half / aim) * (half / aim), 1e9);
    int64_t rows = round_up(need);
    FM_TRY(fm_finding_add(w->list, &f, "wide interval",
                          "%s %.4g is known to [%.4g, %.4g] only, from %zu rows; about %lld would bring it to %.3g on "
                          "each side",
                          w->m->name, w->v->value, w->v->low, w->v->high, w->e->n_rows, (long long)rows, aim));
    bool cut = w->e->cfg->max_samples > 0;
    FM_TRY(fm_finding_advise(f, cut ? "max_samples leaves rows out" : "score more rows before trusting a difference"));
    return cut ? fm_finding_change(f, "eval", "max_samples", count(from, w->e->cfg->max_samples), count(to, rows))
               : fm_finding_change(f, "data", "rows", count(from, (int64_t)w->e->n_rows), count(to, rows));
}

/* ---- parts ------------------------------------------------------------------------------------- */

typedef struct worst_part {
    const fm_json *part;
    double value, low, high;
} worst_part;

static void look(const view *w, const fm_json *parts, worst_part *worst) {
    for (size_t i = 0; i < fm_json_size(parts); i++) {
        const fm_json *p = fm_json_at(parts, i), *m = fm_json_get(fm_json_get(p, "metrics"), w->m->name);
        double value = fm_json_num(fm_json_get(m, "value"), NAN), low = fm_json_num(fm_json_get(m, "low"), NAN),
               high = fm_json_num(fm_json_get(m, "high"), NAN);
        bool below = w->m->lower_is_better ? low > w->v->value : high < w->v->value; /* all of the interval */
        bool worse = !worst->part || (w->m->lower_is_better ? value > worst->value : value < worst->value);
        if (below && worse && fm_json_int(fm_json_get(p, "n"), 0) >= FEW_ROWS) {
            *worst = (worst_part){p, value, low, high};
        }
    }
}

static fm_status worst_slice(const view *w) {
    worst_part worst = {0};
    fm_json *f;
    look(w, fm_json_get(w->report, "groups"), &worst);
    look(w, fm_json_get(w->report, "slices"), &worst);
    if (!worst.part) {
        return FM_OK;
    }
    const char *by = fm_json_str(fm_json_get(worst.part, "by"), NULL),
               *value = fm_json_str(fm_json_get(worst.part, by ? "value" : "name"), NULL);
    FM_TRY(fm_finding_add(w->list, &f, "weak part", "%s%s%s: %s %.4g [%.4g, %.4g] over %lld rows, %.4g over all",
                          by ? by : "", by ? " " : "", value ? value : "", w->m->name, worst.value, worst.low,
                          worst.high, (long long)fm_json_int(fm_json_get(worst.part, "n"), 0), w->v->value));
    return fm_finding_advise(f, "add training rows of this kind (data synth, data balance), or weigh them more");
}

/* ---- multiple choice --------------------------------------------------------------------------- */

static fm_status choices(const view *w) {
    const fm_eval *e = w->e;
    double chance = 0;
    int64_t said[32] = {0}, gold[32] = {0};
    fm_json *f;
    for (size_t i = 0; i < e->n_rows; i++) {
        chance += 1 / (double)e->row[i].n_choices / (double)e->n_rows;
        said[FM_MIN(w->s->said[i], 31)]++;
        gold[FM_MIN(e->row[i].gold, 31)]++;
    }
    if (e->n_rows < FEW_ROWS) {
        return FM_OK;
    }
    if (is_share(w) && w->v->low <= chance) {
        FM_TRY(fm_finding_add(w->list, &f, "no better than guessing", "%s %.4g [%.4g, %.4g]; guessing gives %.4g",
                              w->m->name, w->v->value, w->v->low, w->v->high, chance));
        FM_TRY(fm_finding_advise(f, "the model does not know this, or reads the question in another form than it was "
                                    "trained on"));
        if (e->cfg->style != FM_STYLE_CLOZE) {
            FM_TRY(
                fm_finding_change(f, "eval", "style", e->cfg->style == FM_STYLE_LETTERS ? "letters" : "auto", "cloze"));
        }
    }
    for (int k = 0; k < 26; k++) {
        double share = (double)said[k] / (double)e->n_rows, truth = (double)gold[k] / (double)e->n_rows;
        if (share > 0.6 && share > truth + 0.3) {
            FM_TRY(fm_finding_add(w->list, &f, "always the same choice",
                                  "choice %c in %.0f%% of the rows; it is right in %.0f%%", 'A' + k, 100 * share,
                                  100 * truth));
            FM_TRY(fm_finding_advise(f, "the model prefers a place or a letter to what stands there"));
            return fm_finding_change(f, "eval", "style", e->cfg->style == FM_STYLE_CLOZE ? "cloze" : "letters",
                                     e->cfg->style == FM_STYLE_CLOZE ? "letters" : "cloze");
        }
    }
    return FM_OK;
}

/* ---- answers ----------------------------------------------------------------------------------- */

/* True when the text ends in at least four turns of one piece, 16 bytes or more together. */
static bool repeats(fm_sv t) {
    for (size_t p = 1; p <= 96 && 4 * p <= t.len; p++) {
        size_t same = 0;
        while (same + p < t.len && t.ptr[t.len - 1 - same] == t.ptr[t.len - 1 - same - p]) {
            same++;
        }
        if (same >= 3 * p && same + p >= 16) {
            return true;
        }
    }
    return false;
}

static bool is_empty(fm_sv t) {
    for (size_t i = 0; i < t.len; i++) {
        if (!strchr(" \t\r\n", t.ptr[i])) {
            return false;
        }
    }
    return true;
}

typedef struct tally {
    int64_t empty, cut, looping, unfiltered, flexible, bytes, reference_bytes;
} tally;

static bool filtered_away(const char *filter, fm_sv text) {
    const fm_eval_filter *f;
    return fm_eval_filter_find(&f, fm_sv_of(filter)) == FM_OK && fm_sv_eq(f->apply(text), "[invalid]");
}

static tally count_answers(const view *w) {
    tally t = {0};
    for (size_t i = 0; i < w->e->n_rows; i++) {
        fm_sv said = w->s->output[i];
        bool loop = repeats(said);
        t.empty += is_empty(said);
        t.looping += loop;
        t.cut += w->s->cut[i] && !loop;
        t.unfiltered += filtered_away("strict", said);
        t.flexible += filtered_away("strict", said) && !filtered_away("flexible", said);
        t.bytes += (int64_t)said.len;
        t.reference_bytes += (int64_t)w->e->row[i].target.len;
    }
    return t;
}

static fm_status to_chat(const view *w, fm_json *f) {
    return w->s->has_template && !w->e->chat ? fm_finding_change(f, "eval", "apply_chat_template", "false", "true")
                                             : FM_OK;
}

static fm_status endings(const view *w, const tally *t, int64_t max_new) {
    double n = (double)w->e->n_rows;
    char from[32], to[32];
    fm_json *f;
    if (t->empty > 0 && (double)t->empty >= 0.01 * n) {
        FM_TRY(fm_finding_add(w->list, &f, "empty answers", "%lld of %.0f answers are empty", (long long)t->empty, n));
        FM_TRY(fm_finding_advise(f, "training rows with empty answers teach this (data filter), and so does a prompt "
                                    "in another form than the training's"));
        FM_TRY(to_chat(w, f));
    }
    if ((double)t->looping >= 0.05 * n && t->looping > 0) {
        FM_TRY(fm_finding_add(w->list, &f, "repetition", "%lld of %.0f answers end in one piece said again and again",
                              (long long)t->looping, n));
        FM_TRY(fm_finding_advise(f, "greedy answers of a small or little trained model do this; longer training on "
                                    "whole answers ends it, a penalty hides it"));
        FM_TRY(fm_finding_change(f, "serve", "repetition_penalty", "1", "1.1"));
    }
    if ((double)t->cut < 0.05 * n || t->cut == 0) {
        return FM_OK;
    }
    bool never = (double)(t->cut + t->looping) >= 0.95 * n && n >= FEW_ROWS &&
                 t->bytes > 2 * t->reference_bytes; /* long enough for any reference, and still no end */
    FM_TRY(fm_finding_add(w->list, &f, never ? "answers do not end" : "answers cut",
                          "%lld of %.0f answers were cut at max_new_tokens %lld; they have %lld bytes on average, the "
                          "references %lld",
                          (long long)t->cut, n, (long long)max_new, (long long)(t->bytes / (int64_t)w->e->n_rows),
                          (long long)(t->reference_bytes / (int64_t)w->e->n_rows)));
    if (!never) {
        return fm_finding_change(f, "eval", "max_new_tokens", count(from, max_new), count(to, 2 * max_new));
    }
    FM_TRY(fm_finding_advise(f, "the model has not learnt to end: a base model, or another prompt than the "
                                "training's"));
    FM_TRY(to_chat(w, f));
    const char *filter = fm_eval_pick(w->e->cfg->filter, w->e->task->filter, "strip");
    return strcmp(filter, "strip") == 0 ? fm_finding_change(f, "eval", "filter", "strip", "first_line") : FM_OK;
}

static bool has_measure(const fm_eval *e, const char *name) {
    for (int i = 0; i < e->n_measures; i++) {
        if (strcmp(e->measure[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static fm_status format(const view *w, const tally *t) {
    double n = (double)w->e->n_rows;
    fm_json *f;
    char from[32], to[32];
    if (!has_measure(w->e, "exact_match_strict") || (double)t->unfiltered < 0.05 * n || t->unfiltered == 0) {
        return FM_OK;
    }
    FM_TRY(fm_finding_add(w->list, &f, "form of answers",
                          "%lld of %.0f answers have no \"#### NUMBER\" and count as wrong in exact_match_strict; %lld "
                          "of them have a number",
                          (long long)t->unfiltered, n, (long long)t->flexible));
    FM_TRY(fm_finding_advise(f, "examples show the form; exact_match_flexible reads the last number"));
    int64_t shots = w->e->cfg->num_fewshot >= 0 ? w->e->cfg->num_fewshot : w->e->task->num_fewshot;
    return shots < 8 ? fm_finding_change(f, "eval", "num_fewshot", count(from, shots), count(to, shots < 5 ? 5 : 8))
                     : fm_finding_change(f, "eval", "metrics", "exact_match_strict", "exact_match_flexible");
}

static fm_status slow_answers(const view *w, const tally *t) {
    const fm_eval_scores *s = w->s;
    double per_answer = (double)s->generated / (double)w->e->n_rows,
           seconds = (s->first_token_ms + per_answer * s->per_token_ms) / 1000;
    fm_json *f;
    if (!(seconds > SLOW_ANSWER)) {
        return FM_OK;
    }
    FM_TRY(fm_finding_add(w->list, &f, "slow answers",
                          "an answer takes %.1f s on average: %.0f ms to its first token, %.0f tokens of %.1f ms, 32 "
                          "at a time",
                          seconds, s->first_token_ms, per_answer, s->per_token_ms));
    FM_TRY(fm_finding_advise(f, t->bytes > 2 * t->reference_bytes
                                    ? "answers are more than twice as long as the references: shorter ones are "
                                      "faster; int8 weights or a distilled smaller model too"
                                    : "int8 weights double the speed, a distilled smaller model more"));
    return fm_finding_change(f, "convert", "dtype", w->e->cfg->dtype ? w->e->cfg->dtype : "auto", "int8");
}

static fm_status answers(const view *w) {
    tally t = count_answers(w);
    int64_t max_new = w->s->max_new_tokens;
    FM_TRY(endings(w, &t, max_new));
    FM_TRY(format(w, &t));
    return slow_answers(w, &t);
}

/* ---- prompts, memory, the second model --------------------------------------------------------- */

static fm_status truncated(const view *w) {
    const fm_eval *e = w->e;
    fm_json *f;
    char from[32], to[32];
    int64_t shots = e->cfg->num_fewshot >= 0 ? e->cfg->num_fewshot : e->task->num_fewshot;
    if (w->s->n_truncated == 0) {
        return FM_OK;
    }
    FM_TRY(fm_finding_add(w->list, &f, "prompts cut", "%lld of %zu prompts were longer than the model reads",
                          (long long)w->s->n_truncated, e->n_rows));
    FM_TRY(fm_finding_advise(f, "what was cut is the beginning: instructions and examples"));
    if (shots > 0) {
        return fm_finding_change(f, "eval", "num_fewshot", count(from, shots), count(to, shots / 2));
    }
    int64_t max_new = w->s->max_new_tokens;
    return max_new > 16 ? fm_finding_change(f, "eval", "max_new_tokens", count(from, max_new), count(to, max_new / 2))
                        : FM_OK;
}

static fm_status memory(const view *w) {
    int64_t peak = fm_mem_rss_anon_peak(), total = fm_mem_total(), batch = w->e->cfg->batch_tokens;
    char from[32], to[32], a[32], b[32];
    fm_json *f;
    if (total <= 0 || (double)peak < 0.8 * (double)total) {
        return FM_OK;
    }
    FM_TRY(fm_finding_add(w->list, &f, "memory", "%s at most, of %s", fm_format_bytes(a, sizeof a, (double)peak),
                          fm_format_bytes(b, sizeof b, (double)total)));
    return fm_finding_change(f, "eval", "batch_tokens", count(from, batch), count(to, FM_MAX(batch / 2, 1)));
}

static fm_status second_model(const view *w) {
    double d = w->v->difference, low = w->v->diff_low, high = w->v->diff_high, half = (high - low) / 2;
    char a[32], from[32], to[32];
    fm_json *f;
    if (!isfinite(low)) {
        return FM_OK;
    }
    if (low > 0 || high < 0) {
        bool better = (d > 0) != w->m->lower_is_better;
        return better ? FM_OK
                      : fm_finding_add(w->list, &f, "worse than the second model",
                                       "%s differs by %.4g [%.4g, %.4g], p %.3g: more than chance", w->m->name, d, low,
                                       high, w->v->p);
    }
    FM_TRY(fm_finding_add(w->list, &f, "difference within noise",
                          "%s differs by %s [%.4g, %.4g], p %.3g, over %zu rows", w->m->name, number(a, d), low, high,
                          w->v->p, w->e->n_rows));
    FM_TRY(fm_finding_advise(f, "neither model is shown to be better"));
    double need = d != 0 ? (double)w->e->n_rows * (half / d) * (half / d) : INFINITY;
    return need < 1e7 ? fm_finding_change(f, "data", "rows", count(from, (int64_t)w->e->n_rows),
                                          count(to, round_up(1.2 * need)))
                      : FM_OK;
}

fm_status fm_eval_findings(fm_json *report, const fm_eval *e, int measure, const fm_interval *v,
                           const fm_eval_scores *s, const fm_eval_scores *other) {
    fm_json *list = fm_json_new_array();
    FM_TRY(fm_json_set(report, "findings", list));
    if (measure < 0) {
        return FM_OK;
    }
    const view w = {list, e, &e->measure[measure], &v[measure], s, report};
    FM_TRY(other ? second_model(&w) : FM_OK);
    FM_TRY(e->task->kind == &fm_eval_kind_mc ? choices(&w) : FM_OK);
    FM_TRY(e->task->kind == &fm_eval_kind_qa ? answers(&w) : FM_OK);
    FM_TRY(truncated(&w));
    FM_TRY(worst_slice(&w));
    FM_TRY(interval(&w));
    return memory(&w);
}
