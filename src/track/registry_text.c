/* Lists, runs and comparisons as text. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/finding.h"
#include "base/mem.h"
#include "track/registry.h"

static const char *text_of(const fm_json *o, const char *key) {
    const char *t = fm_json_str(fm_json_get(o, key), NULL);
    return t ? t : "";
}

static void pad(fm_str *s, const char *text, size_t width) {
    size_t used = (size_t)fm_utf8_width(text, strlen(text));
    fm_str_puts(s, text);
    for (; used < width; used++) {
        fm_str_putc(s, ' ');
    }
}

/* The one figure that says most of a run in a list. */
static void headline(fm_str *s, const fm_json *figures) {
    static const char *const name[] = {"acc",       "acc_norm",           "bleu",          "rougeL",
                                       "em",        "exact_match_strict", "bits_per_byte", "eval_accuracy",
                                       "eval_loss", "train_loss"};
    int n = 0;
    for (size_t i = 0; i < FM_ARRAY_LEN(name) && n < 2; i++) {
        double v = fm_json_num(fm_json_get(figures, name[i]), NAN);
        if (isfinite(v)) {
            fm_str_printf(s, "%s%s %.4g", n++ ? ", " : "", name[i], v);
        }
    }
}

static void list(fm_str *s, const fm_json *j) {
    fm_str_puts(s, "    id  kind   status       started               time  name\n");
    for (size_t i = 0; i < fm_json_size(j); i++) {
        const fm_json *r = fm_json_at(j, i), *tags = fm_json_get(r, "tags");
        char time[32] = "";
        double seconds = fm_json_num(fm_json_get(r, "seconds"), NAN);
        if (isfinite(seconds)) {
            fm_format_duration(time, sizeof time, seconds);
        }
        fm_str_printf(s, "%6lld  %-6s %-12s %-20s %7s  ", (long long)fm_json_int(fm_json_get(r, "id"), 0),
                      text_of(r, "kind"), text_of(r, "status"), text_of(r, "started"), time);
        pad(s, text_of(r, "name"), 20);
        fm_str_puts(s, "  ");
        headline(s, fm_json_get(r, "figures"));
        for (size_t k = 0; k < fm_json_size(tags); k++) {
            fm_str_printf(s, "%s%s", k ? ", " : "  #", fm_json_str(fm_json_at(tags, k), NULL));
        }
        fm_str_putc(s, '\n');
    }
}

static fm_status figure(void *arg, const char *name, fm_json *f) {
    fm_str *s = arg;
    fm_str_puts(s, "  ");
    pad(s, name, 28);
    fm_str_printf(s, " %.6g", fm_json_num(fm_json_get(f, "value"), NAN));
    if (isfinite(fm_json_num(fm_json_get(f, "low"), NAN))) {
        fm_str_printf(s, " [%.6g, %.6g]", fm_json_num(fm_json_get(f, "low"), NAN),
                      fm_json_num(fm_json_get(f, "high"), NAN));
    }
    fm_str_putc(s, '\n');
    return FM_OK;
}

static void files(fm_str *s, const char *what, const fm_json *l) {
    for (size_t i = 0; i < fm_json_size(l); i++) {
        const fm_json *f = fm_json_at(l, i);
        int64_t made_by = fm_json_int(fm_json_get(f, "made_by"), 0);
        fm_str_printf(s, "  %-8s %-10s %s  %s", what, text_of(f, "role"), text_of(f, "path"), text_of(f, "hash"));
        if (made_by > 0) {
            fm_str_printf(s, "  (made by run %lld)", (long long)made_by);
        }
        fm_str_putc(s, '\n');
    }
}

static fm_status series(void *arg, const char *name, fm_json *points) {
    size_t n = fm_json_size(points);
    const fm_json *last = n ? fm_json_at(points, n - 1) : NULL;
    fm_str_puts(arg, "  ");
    pad(arg, name, 28);
    fm_str_printf(arg, " %zu points, step %lld: %.6g\n", n, (long long)fm_json_int(fm_json_at(last, 0), 0),
                  fm_json_num(fm_json_at(last, 1), NAN));
    return FM_OK;
}

static fm_status show(fm_str *s, const fm_json *j) {
    fm_str_printf(s, "run %lld  %s  %s  %s  %s\n", (long long)fm_json_int(fm_json_get(j, "id"), 0), text_of(j, "name"),
                  text_of(j, "kind"), text_of(j, "status"), text_of(j, "started"));
    fm_str_printf(s, "  code     %s\n", text_of(j, "code"));
    const fm_json *e = fm_json_get(j, "environment");
    fm_str_printf(s, "  machine  %s, %s, %lld CPUs, %s\n", text_of(e, "host"), text_of(e, "cpu"),
                  (long long)fm_json_int(fm_json_get(e, "cpus"), 0), text_of(e, "kernels"));
    files(s, "read", fm_json_get(j, "inputs"));
    files(s, "written", fm_json_get(j, "artefacts"));
    fm_str_puts(s, "results\n");
    FM_TRY(fm_json_each(fm_json_get(j, "figures"), figure, s));
    const fm_json *evaluations = fm_json_get(j, "evaluations");
    for (size_t i = 0; i < fm_json_size(evaluations); i++) {
        const fm_json *v = fm_json_at(evaluations, i);
        fm_str_printf(s, "evaluated in run %lld: %s on %s%s%s\n", (long long)fm_json_int(fm_json_get(v, "id"), 0),
                      text_of(v, "name"), text_of(v, "data"), *text_of(v, "frozen") ? ", frozen test set " : "",
                      text_of(v, "frozen"));
        FM_TRY(fm_json_each(fm_json_get(v, "figures"), figure, s));
    }
    const fm_json *findings = fm_json_get(fm_json_get(j, "report"), "findings");
    if (fm_json_size(findings) > 0) {
        fm_str_puts(s, "findings\n");
        fm_finding_text(s, findings, "  ");
    }
    if (fm_json_size(fm_json_get(j, "series")) > 0) {
        fm_str_puts(s, "series\n");
        FM_TRY(fm_json_each(fm_json_get(j, "series"), series, s));
    }
    fm_str_printf(s, "configuration\n%s\n", text_of(j, "config"));
    return FM_OK;
}

static void compare(fm_str *s, const fm_json *j) {
    const fm_json *runs = fm_json_get(j, "runs");
    static const char *const part[][2] = {{"config", "key"}, {"figures", "name"}};
    char cell[64];
    pad(s, "", 30);
    for (size_t i = 0; i < fm_json_size(runs); i++) {
        const fm_json *r = fm_json_at(runs, i);
        snprintf(cell, sizeof cell, "%lld %.16s", (long long)fm_json_int(fm_json_get(r, "id"), 0), text_of(r, "name"));
        fm_str_puts(s, " ");
        pad(s, cell, 22);
    }
    fm_str_putc(s, '\n');
    for (size_t p = 0; p < FM_ARRAY_LEN(part); p++) {
        const fm_json *l = fm_json_get(j, part[p][0]);
        for (size_t i = 0; i < fm_json_size(l); i++) {
            const fm_json *row = fm_json_at(l, i), *v = fm_json_get(row, "values");
            pad(s, text_of(row, part[p][1]), 30);
            for (size_t k = 0; k < fm_json_size(v); k++) {
                const char *t = fm_json_str(fm_json_at(v, k), NULL);
                double d = fm_json_num(fm_json_at(v, k), NAN);
                snprintf(cell, sizeof cell, "-");
                if (t) {
                    snprintf(cell, sizeof cell, "%.40s", t);
                } else if (isfinite(d)) {
                    snprintf(cell, sizeof cell, "%.6g", d);
                }
                fm_str_puts(s, " ");
                pad(s, cell, 22);
            }
            fm_str_putc(s, '\n');
        }
    }
}

fm_status fm_registry_text(char **out, const char *json) {
    fm_json *j;
    fm_str s = {0};
    *out = NULL;
    FM_TRY(fm_json_parse(&j, json, strlen(json), "runs"));
    fm_status st = FM_OK;
    if (fm_json_is_array(j)) {
        list(&s, j);
    } else if (fm_json_get(j, "runs")) {
        compare(&s, j);
    } else if (fm_json_get(j, "findings")) {
        fm_finding_text(&s, fm_json_get(j, "findings"), "");
        fm_str_puts(&s, s.len == 0 ? "nothing to change: its numbers carry no finding\n" : "");
    } else {
        st = show(&s, j);
    }
    st = st == FM_OK ? fm_str_check(&s) : st;
    if (st == FM_OK) {
        *out = fm_str_take(&s);
    }
    fm_str_free(&s);
    fm_json_free(j);
    return st;
}
