/* The report as a table for people. */
#include <math.h>
#include <string.h>

#include "base/finding.h"
#include "eval/task.h"

typedef struct table {
    fm_str *s;
    const fm_json *columns; /* the metrics of the whole: one column each */
    size_t width;           /* of the first column */
} table;

static void pad(fm_str *s, const char *text, size_t width) {
    size_t n = strlen(text), used = (size_t)fm_utf8_width(text, n);
    fm_str_puts(s, text);
    for (; used < width; used++) {
        fm_str_putc(s, ' ');
    }
}

static fm_status put_name(void *arg, const char *key, fm_json *value) {
    FM_UNUSED(value);
    fm_str_printf(((table *)arg)->s, " %28s", key);
    return FM_OK;
}

/* Four digits behind the point; figures above 10 need fewer. */
static const char *figure(char *buf, size_t cap, double v) {
    if (!isfinite(v)) {
        snprintf(buf, cap, "-");
    } else {
        snprintf(buf, cap, "%.*f", fabs(v) < 10 ? 4 : 2, v);
    }
    return buf;
}

static void put_cell(fm_str *s, const fm_json *m) {
    char v[32], low[32], high[32], all[112];
    figure(v, sizeof v, fm_json_num(fm_json_get(m, "value"), NAN));
    figure(low, sizeof low, fm_json_num(fm_json_get(m, "low"), NAN));
    figure(high, sizeof high, fm_json_num(fm_json_get(m, "high"), NAN));
    if (strcmp(low, "-") == 0) {
        snprintf(all, sizeof all, "%s", v);
    } else {
        snprintf(all, sizeof all, "%s [%s, %s]", v, low, high);
    }
    fm_str_printf(s, " %28s", all);
}

typedef struct line {
    fm_str *s;
    const fm_json *metrics;
} line;
static fm_status put_one(void *arg, const char *key, fm_json *value) {
    FM_UNUSED(value);
    line *l = arg;
    put_cell(l->s, fm_json_get(l->metrics, key));
    return FM_OK;
}

static fm_status put_line(table *t, const char *name, int64_t n, const fm_json *metrics) {
    char count[32];
    snprintf(count, sizeof count, " %8lld", (long long)n);
    pad(t->s, name, t->width);
    fm_str_puts(t->s, count);
    FM_TRY(fm_json_each((fm_json *)(uintptr_t)t->columns, put_one, &(line){t->s, metrics}));
    fm_str_putc(t->s, '\n');
    return FM_OK;
}

static fm_status put_definition(void *arg, const char *key, fm_json *value) {
    const char *d = fm_json_str(fm_json_get(value, "definition"), NULL);
    fm_str_printf(arg, "%s: %s\n", key, d ? d : "");
    return FM_OK;
}

static fm_status put_difference(void *arg, const char *key, fm_json *value) {
    char v[32], d[32], low[32], high[32];
    fm_str_printf(arg, "  %s: %s there, difference %s [%s, %s], p %.3g\n", key,
                  figure(v, sizeof v, fm_json_num(fm_json_get(value, "value"), NAN)),
                  figure(d, sizeof d, fm_json_num(fm_json_get(value, "difference"), NAN)),
                  figure(low, sizeof low, fm_json_num(fm_json_get(value, "low"), NAN)),
                  figure(high, sizeof high, fm_json_num(fm_json_get(value, "high"), NAN)),
                  fm_json_num(fm_json_get(value, "p"), NAN));
    return FM_OK;
}

/* One line of a text, shortened. */
static void put_text(fm_str *s, const char *what, const fm_json *j) {
    size_t n;
    const char *p = fm_json_str(j, &n);
    if (!p) {
        return;
    }
    size_t keep = fm_utf8_complete_prefix(p, FM_MIN(n, 160));
    fm_str_printf(s, "    %-10s", what);
    for (size_t i = 0; i < keep; i++) {
        fm_str_putc(s, (unsigned char)p[i] < 32 ? ' ' : p[i]);
    }
    fm_str_puts(s, keep < n ? "...\n" : "\n");
}

static void put_worst(fm_str *s, const fm_json *list) {
    for (size_t i = 0; i < fm_json_size(list) && i < 10; i++) {
        const fm_json *r = fm_json_at(list, i);
        const char *file = fm_json_str(fm_json_get(r, "file"), NULL);
        fm_str_printf(s, "  %s:%lld\n", file ? file : "", (long long)fm_json_int(fm_json_get(r, "line"), 0));
        put_text(s, "question", fm_json_get(r, "question"));
        put_text(s, "text", fm_json_get(r, "text"));
        put_text(s, "answer", fm_json_get(r, "gold_text"));
        put_text(s, "answer", fm_json_get(r, "reference"));
        put_text(s, "said", fm_json_get(r, "said_text"));
        put_text(s, "said", fm_json_get(r, "output"));
    }
}

static void put_efficiency(fm_str *s, const fm_json *e) {
    char a[32], b[32], c[32];
    double first = fm_json_num(fm_json_get(e, "first_token_ms"), NAN);
    fm_str_printf(s, "%s, %s tokens (%s/s), %lld more were shared, peak memory %s\n",
                  fm_format_duration(a, sizeof a, fm_json_num(fm_json_get(e, "seconds"), 0)),
                  fm_format_count(b, sizeof b, fm_json_num(fm_json_get(e, "tokens"), 0)),
                  fm_format_count(c, sizeof c, fm_json_num(fm_json_get(e, "tokens_per_second"), 0)),
                  (long long)fm_json_int(fm_json_get(e, "prompt_tokens_reused"), 0),
                  fm_format_bytes((char[32]){0}, 32, fm_json_num(fm_json_get(e, "peak_memory_bytes"), 0)));
    if (isfinite(first)) {
        fm_str_printf(s, "first token after %.1f ms, then %.2f ms a token; %.1f answers in a pass\n", first,
                      fm_json_num(fm_json_get(e, "ms_per_token"), NAN),
                      fm_json_num(fm_json_get(e, "answers_per_pass"), NAN));
    }
}

static fm_status render(fm_str *s, const fm_json *j) {
    table t = {.s = s, .columns = fm_json_get(j, "metrics"), .width = 28};
    const fm_json *groups = fm_json_get(j, "groups"), *slices = fm_json_get(j, "slices"),
                  *c = fm_json_get(j, "compare");
    const char *task = fm_json_str(fm_json_get(j, "task"), NULL), *model = fm_json_str(fm_json_get(j, "model"), NULL);
    int64_t n = fm_json_int(fm_json_get(j, "n_rows"), 0), cut = fm_json_int(fm_json_get(j, "n_truncated"), 0);
    const char *frozen = fm_json_str(fm_json_get(j, "frozen"), NULL);
    fm_str_printf(s, "%s of %s%s%s\n\n", task ? task : "", model ? model : "", frozen ? ", frozen test set " : "",
                  frozen ? frozen : "");
    pad(s, "", t.width);
    fm_str_printf(s, " %8s", "rows");
    FM_TRY(fm_json_each((fm_json *)(uintptr_t)t.columns, put_name, &t));
    fm_str_putc(s, '\n');
    FM_TRY(put_line(&t, "all", n, t.columns));
    for (size_t i = 0; i < fm_json_size(groups); i++) {
        const fm_json *g = fm_json_at(groups, i);
        const char *name = fm_json_str(fm_json_get(g, "name"), NULL);
        FM_TRY(put_line(&t, name ? name : "", fm_json_int(fm_json_get(g, "n"), 0), fm_json_get(g, "metrics")));
    }
    for (size_t i = 0; i < fm_json_size(slices); i++) {
        const fm_json *g = fm_json_at(slices, i);
        char name[256];
        const char *by = fm_json_str(fm_json_get(g, "by"), NULL), *value = fm_json_str(fm_json_get(g, "value"), NULL);
        snprintf(name, sizeof name, "%s: %s", by ? by : "", value ? value : "");
        FM_TRY(put_line(&t, name, fm_json_int(fm_json_get(g, "n"), 0), fm_json_get(g, "metrics")));
    }
    fm_str_putc(s, '\n');
    FM_TRY(fm_json_each((fm_json *)(uintptr_t)t.columns, put_definition, s));
    double confidence = fm_json_num(fm_json_get(j, "confidence"), NAN);
    if (isfinite(confidence)) {
        fm_str_printf(s, "[low, high]: %.4g%% of a bootstrap over rows\n", 100 * confidence);
    }
    if (cut > 0) {
        fm_str_printf(s, "%lld prompts lost their beginning: they were longer than the model reads\n", (long long)cut);
    }
    put_efficiency(s, fm_json_get(j, "efficiency"));
    if (c) {
        const char *other = fm_json_str(fm_json_get(c, "model"), NULL);
        fm_str_printf(s, "\nAgainst %s, on the same rows:\n", other ? other : "");
        FM_TRY(fm_json_each(fm_json_get(c, "metrics"), put_difference, s));
    }
    if (fm_json_size(fm_json_get(j, "worst")) > 0) {
        fm_str_puts(s, "\nWorst rows:\n");
        put_worst(s, fm_json_get(j, "worst"));
    }
    if (fm_json_size(fm_json_get(j, "findings")) > 0) {
        fm_str_puts(s, "\nFindings:\n");
        fm_finding_text(s, fm_json_get(j, "findings"), "  ");
    }
    return fm_str_check(s);
}

fm_status fm_eval_text(char **out, const char *json) {
    fm_json *j;
    fm_str s = {0};
    *out = NULL;
    FM_TRY(fm_json_parse(&j, json, strlen(json), "report"));
    fm_status st = render(&s, j);
    fm_json_free(j);
    if (st == FM_OK) {
        *out = fm_str_take(&s);
    }
    fm_str_free(&s);
    return st;
}
