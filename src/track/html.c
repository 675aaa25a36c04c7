/* The page of a run: one file with style and drawings inside, no scripts, nothing from the network. Every text from
 * outside goes through put(). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "track/html.h"
#include "track/registry.h"

#define WIDTH       640
#define HEIGHT      200
#define LEFT        64 /* room for the numbers of the axis */
#define BOTTOM      24
#define MOST_POINTS 800

static const char style[] =
    "<style>:root{color-scheme:light dark;--f:#1c2733;--b:#fff;--l:#d5dce3;--m:#5b6b7b;--a:#1565c0;--w:#c62828}"
    "@media(prefers-color-scheme:dark){:root{--f:#e3e8ee;--b:#14191f;--l:#37424d;--m:#9aa7b4;--a:#64b5f6;--w:#ef9a9a}}"
    "body{font:15px/1.5 system-ui,sans-serif;color:var(--f);background:var(--b);max-width:1000px;margin:2em "
    "auto;padding:0 "
    "1em}h1{font-size:1.5em;margin:0}h2{font-size:1.15em;margin:2em 0 .5em;border-bottom:1px solid var(--l)}"
    "table{border-collapse:collapse;margin:.5em 0}td,th{padding:.2em .8em .2em 0;text-align:left;vertical-align:top;"
    "border-bottom:1px solid "
    "var(--l);overflow-wrap:anywhere}th{color:var(--m);font-weight:600}td.n,th.n{text-align:right;"
    "font-variant-numeric:tabular-nums;white-space:nowrap}pre{white-space:pre-wrap;overflow-wrap:anywhere;border:1px "
    "solid "
    "var(--l);padding:.7em;font-size:13px}.m{color:var(--m)}svg{max-width:100%;height:auto}svg "
    "text{fill:var(--m);font:11px "
    "system-ui,sans-serif}svg .g{stroke:var(--l)}svg .p{fill:none;stroke-width:1.6}.cards{display:flex;"
    "flex-wrap:wrap;gap:1em}.failed,.interrupted{color:var(--w)}details{margin:.5em 0}</style>";

void fm_html_put(fm_str *s, const char *text) {
    for (const char *p = text ? text : ""; *p; p++) {
        switch (*p) {
        case '<':
            fm_str_puts(s, "&lt;");
            break;
        case '>':
            fm_str_puts(s, "&gt;");
            break;
        case '&':
            fm_str_puts(s, "&amp;");
            break;
        case '"':
            fm_str_puts(s, "&quot;");
            break;
        case '\'':
            fm_str_puts(s, "&#39;");
            break;
        default:
            fm_str_putc(s, (unsigned char)*p < 32 && *p != '\n' && *p != '\t' ? ' ' : *p);
        }
    }
}

static const char *text_of(const fm_json *o, const char *key) {
    return fm_json_str(fm_json_get(o, key), NULL);
}

const char *fm_html_number(char *buf, size_t cap, double v) {
    if (!isfinite(v)) {
        snprintf(buf, cap, "–");
    } else if (fabs(v) >= 1e5 && v == floor(v)) {
        fm_format_count(buf, cap, v);
    } else {
        snprintf(buf, cap, "%.5g", v);
    }
    return buf;
}

void fm_html_heading(fm_str *s, const char *text) {
    fm_str_puts(s, "<h2>");
    fm_html_put(s, text);
    fm_str_puts(s, "</h2>\n");
}

static void pair(fm_str *s, const char *key, const char *value) {
    if (value && *value) {
        fm_str_puts(s, "<tr><th>");
        fm_html_put(s, key);
        fm_str_puts(s, "</th><td>");
        fm_html_put(s, value);
        fm_str_puts(s, "</td></tr>\n");
    }
}

static void cell(fm_str *s, double v) {
    char buf[40];
    fm_str_printf(s, "<td class=n>%s</td>", fm_html_number(buf, sizeof buf, v));
}

/* ---- curves ------------------------------------------------------------------------------------ */

/* A round step near span / 4. */
static double tick(double span) {
    double raw = span / 4, power = pow(10, floor(log10(raw))), m = raw / power;
    return power * (m < 1.5 ? 1 : m < 3.5 ? 2 : m < 7.5 ? 5 : 10);
}

typedef struct axes {
    double x0, x1, y0, y1;
} axes;

static double at_x(const axes *a, double x) {
    return LEFT + (x - a->x0) / (a->x1 - a->x0) * (WIDTH - LEFT - 8);
}
static double at_y(const axes *a, double y) {
    return 8 + (a->y1 - y) / (a->y1 - a->y0) * (HEIGHT - BOTTOM - 8);
}

static bool bounds(axes *a, const fm_json *const *points, int n) {
    *a = (axes){INFINITY, -INFINITY, INFINITY, -INFINITY};
    for (int k = 0; k < n; k++) {
        for (size_t i = 0; i < fm_json_size(points[k]); i++) {
            const fm_json *p = fm_json_at(points[k], i);
            double x = fm_json_num(fm_json_at(p, 0), NAN), y = fm_json_num(fm_json_at(p, 1), NAN);
            if (isfinite(x) && isfinite(y)) {
                *a = (axes){fmin(a->x0, x), fmax(a->x1, x), fmin(a->y0, y), fmax(a->y1, y)};
            }
        }
    }
    if (!isfinite(a->x0)) {
        return false;
    }
    double pad = (a->y1 - a->y0) * 0.05;
    pad = pad > 0 ? pad : fmax(fabs(a->y1) * 0.1, 1e-9);
    a->y0 -= pad;
    a->y1 += pad;
    a->x1 = a->x1 > a->x0 ? a->x1 : a->x0 + 1;
    return true;
}

/* Colours that are told apart on light and dark ground; a single curve has that of the page. */
static void colour(char buf[32], int k, int n) {
    static const int hue[] = {211, 14, 140, 285, 45, 180, 330, 95};
    if (n == 1) {
        snprintf(buf, 32, "var(--a)");
    } else {
        snprintf(buf, 32, "hsl(%d,70%%,%d%%)", hue[k % 8], 48 + 12 * (k / 8 % 2));
    }
}

static void grid(fm_str *s, const axes *a) {
    char label[40];
    double step = tick(a->y1 - a->y0);
    for (int64_t k = (int64_t)ceil(a->y0 / step); (double)k * step <= a->y1; k++) {
        double y = (double)k * step;
        fm_str_printf(s, "<line class=g x1=%d x2=%d y1=%.1f y2=%.1f /><text x=%d y=%.1f text-anchor=end>%s</text>",
                      LEFT, WIDTH - 8, at_y(a, y), at_y(a, y), LEFT - 6, at_y(a, y) + 4,
                      fm_html_number(label, sizeof label, fabs(y) < step * 1e-9 ? 0 : y));
    }
    step = tick(a->x1 - a->x0);
    for (int64_t k = (int64_t)ceil(a->x0 / step); (double)k * step <= a->x1; k++) {
        double x = (double)k * step;
        fm_str_printf(s, "<text x=%.1f y=%d text-anchor=middle>%s</text>", at_x(a, x), HEIGHT - 6,
                      fm_html_number(label, sizeof label, x));
    }
}

static void line(fm_str *s, const axes *a, const fm_json *points, const char *stroke) {
    size_t n = fm_json_size(points), stride = (n + MOST_POINTS - 1) / MOST_POINTS;
    fm_str_printf(s, "<polyline class=p style=\"stroke:%s\" points=\"", stroke);
    for (size_t i = 0; i < n; i++) {
        const fm_json *p = fm_json_at(points, i);
        double x = fm_json_num(fm_json_at(p, 0), NAN), y = fm_json_num(fm_json_at(p, 1), NAN);
        if ((i % stride == 0 || i + 1 == n) && isfinite(x) && isfinite(y)) {
            fm_str_printf(s, "%.1f,%.1f ", at_x(a, x), at_y(a, y));
        }
    }
    fm_str_puts(s, "\"/>");
    if (n == 1) {
        fm_str_printf(s, "<circle cx=%.1f cy=%.1f r=3 style=\"fill:%s\"/>",
                      at_x(a, fm_json_num(fm_json_at(fm_json_at(points, 0), 0), 0)),
                      at_y(a, fm_json_num(fm_json_at(fm_json_at(points, 0), 1), 0)), stroke);
    }
}

void fm_html_curves(fm_str *s, const char *name, const fm_json *const *points, const char *const *label, int n) {
    axes a;
    char text[40], stroke[32];
    if (!bounds(&a, points, n)) {
        return;
    }
    fm_str_puts(s, "<figure style=\"margin:0\"><figcaption>");
    fm_html_put(s, name);
    for (int k = 0; k < n; k++) {
        size_t last = fm_json_size(points[k]);
        if (last == 0) {
            continue;
        }
        colour(stroke, k, n);
        fm_str_puts(s, " <span class=m>");
        if (label) {
            fm_str_printf(s, "<b style=\"color:%s\">— </b>", stroke);
            fm_html_put(s, label[k]);
            fm_str_putc(s, ' ');
        }
        fm_str_printf(
            s, "last %s</span>",
            fm_html_number(text, sizeof text, fm_json_num(fm_json_at(fm_json_at(points[k], last - 1), 1), NAN)));
    }
    fm_str_printf(s, "</figcaption><svg viewBox=\"0 0 %d %d\" width=\"%d\" role=img><title>", WIDTH, HEIGHT, WIDTH);
    fm_html_put(s, name);
    fm_str_puts(s, "</title>");
    grid(s, &a);
    for (int k = 0; k < n; k++) {
        if (fm_json_size(points[k]) > 0) {
            colour(stroke, k, n);
            line(s, &a, points[k], stroke);
        }
    }
    fm_str_puts(s, "</svg></figure>\n");
}

typedef struct curves_arg {
    fm_str *s;
    bool both; /* loss and eval_loss were drawn together */
} curves_arg;

static fm_status curve(void *arg, const char *name, fm_json *points) {
    const curves_arg *a = arg;
    const fm_json *one = points;
    if (!a->both || (strcmp(name, "loss") != 0 && strcmp(name, "eval_loss") != 0)) {
        fm_html_curves(a->s, name, &one, NULL, 1);
    }
    return FM_OK;
}

/* Training and validation on one pair of axes: their distance is what one looks for. */
static fm_status curves(fm_str *s, fm_json *series) {
    static const char *const label[] = {"training", "validation"};
    const fm_json *points[] = {fm_json_get(series, "loss"), fm_json_get(series, "eval_loss")};
    curves_arg a = {s, fm_json_size(points[0]) > 0 && fm_json_size(points[1]) > 0};
    if (a.both) {
        fm_html_curves(s, "loss", points, label, 2);
    }
    return fm_json_each(series, curve, &a);
}

/* ---- tables ------------------------------------------------------------------------------------ */

static fm_status figure_row(void *arg, const char *name, fm_json *f) {
    fm_str *s = arg;
    fm_str_puts(s, "<tr><td>");
    fm_html_put(s, name);
    fm_str_puts(s, "</td>");
    cell(s, fm_json_num(fm_json_get(f, "value"), NAN));
    cell(s, fm_json_num(fm_json_get(f, "low"), NAN));
    cell(s, fm_json_num(fm_json_get(f, "high"), NAN));
    fm_str_puts(s, "<td class=m>");
    fm_html_put(s, text_of(f, "definition"));
    fm_str_puts(s, "</td></tr>\n");
    return FM_OK;
}

static void files(fm_str *s, const char *title, const fm_json *list) {
    if (fm_json_size(list) == 0) {
        return;
    }
    fm_html_heading(s, title);
    fm_str_puts(s, "<table><tr><th>what<th>path<th>hash (XXH3)<th class=n>bytes<th class=n>made by run</tr>\n");
    for (size_t i = 0; i < fm_json_size(list); i++) {
        const fm_json *f = fm_json_at(list, i);
        static const char *const key[] = {"role", "path", "hash"};
        fm_str_puts(s, "<tr>");
        for (size_t k = 0; k < FM_ARRAY_LEN(key); k++) {
            fm_str_puts(s, "<td>");
            fm_html_put(s, text_of(f, key[k]));
            fm_str_puts(s, "</td>");
        }
        cell(s, fm_json_num(fm_json_get(f, "bytes"), NAN));
        cell(s, fm_json_num(fm_json_get(f, "made_by"), NAN));
        fm_str_puts(s, "</tr>\n");
    }
    fm_str_puts(s, "</table>\n");
}

static fm_status column_name(void *arg, const char *key, fm_json *v) {
    FM_UNUSED(v);
    fm_str_puts(arg, "<th class=n>");
    fm_html_put(arg, key);
    fm_str_puts(arg, "</th>");
    return FM_OK;
}

typedef struct row_arg {
    fm_str *s;
    const fm_json *metrics;
} row_arg;

static fm_status column_value(void *arg, const char *key, fm_json *v) {
    FM_UNUSED(v);
    const row_arg *a = arg;
    const fm_json *m = fm_json_get(a->metrics, key);
    char value[40], low[40], high[40];
    double l = fm_json_num(fm_json_get(m, "low"), NAN);
    fm_str_printf(a->s, "<td class=n>%s",
                  fm_html_number(value, sizeof value, fm_json_num(fm_json_get(m, "value"), NAN)));
    if (isfinite(l)) {
        fm_str_printf(a->s, " <span class=m>[%s, %s]</span>", fm_html_number(low, sizeof low, l),
                      fm_html_number(high, sizeof high, fm_json_num(fm_json_get(m, "high"), NAN)));
    }
    fm_str_puts(a->s, "</td>");
    return FM_OK;
}

/* Groups or slices of an evaluation: a line each, a column for each figure. */
static fm_status parts(fm_str *s, const char *title, const fm_json *list, fm_json *columns) {
    if (fm_json_size(list) == 0) {
        return FM_OK;
    }
    fm_html_heading(s, title);
    fm_str_puts(s, "<table><tr><th></th><th class=n>rows</th>");
    FM_TRY(fm_json_each(columns, column_name, s));
    fm_str_puts(s, "</tr>\n");
    for (size_t i = 0; i < fm_json_size(list); i++) {
        const fm_json *p = fm_json_at(list, i);
        fm_str_puts(s, "<tr><td>");
        fm_html_put(s, text_of(p, "name"));
        fm_html_put(s, text_of(p, "by"));
        fm_str_puts(s, text_of(p, "by") ? ": " : "");
        fm_html_put(s, text_of(p, "value"));
        fm_str_puts(s, "</td>");
        cell(s, fm_json_num(fm_json_get(p, "n"), NAN));
        FM_TRY(fm_json_each(columns, column_value, &(row_arg){s, fm_json_get(p, "metrics")}));
        fm_str_puts(s, "</tr>\n");
    }
    fm_str_puts(s, "</table>\n");
    return FM_OK;
}

static fm_status difference_row(void *arg, const char *key, fm_json *m) {
    fm_str *s = arg;
    fm_str_puts(s, "<tr><td>");
    fm_html_put(s, key);
    fm_str_puts(s, "</td>");
    static const char *const part[] = {"value", "difference", "low", "high", "p"};
    for (size_t i = 0; i < FM_ARRAY_LEN(part); i++) {
        cell(s, fm_json_num(fm_json_get(m, part[i]), NAN));
    }
    fm_str_puts(s, "</tr>\n");
    return FM_OK;
}

static void rows(fm_str *s, const char *title, const fm_json *list, bool open) {
    static const char *const key[] = {"question", "text", "gold_text", "reference", "said_text", "output"};
    if (fm_json_size(list) == 0) {
        return;
    }
    fm_html_heading(s, title);
    for (size_t i = 0; i < fm_json_size(list); i++) {
        const fm_json *r = fm_json_at(list, i);
        fm_str_puts(s, open ? "<details open><summary>" : "<details><summary>");
        fm_html_put(s, text_of(r, "file"));
        fm_str_printf(s, ":%lld</summary><table>", (long long)fm_json_int(fm_json_get(r, "line"), 0));
        for (size_t k = 0; k < FM_ARRAY_LEN(key); k++) {
            pair(s, key[k], text_of(r, key[k]));
        }
        fm_str_puts(s, "</table></details>\n");
    }
}

static fm_status evaluation(fm_str *s, const fm_json *j) {
    fm_json *columns = fm_json_get(j, "metrics");
    if (!columns) {
        return FM_OK;
    }
    FM_TRY(parts(s, "Subjects", fm_json_get(j, "groups"), columns));
    FM_TRY(parts(s, "Slices", fm_json_get(j, "slices"), columns));
    const fm_json *c = fm_json_get(j, "compare");
    if (c) {
        fm_html_heading(s, "Second model, same rows");
        fm_str_puts(s, "<p>");
        fm_html_put(s, text_of(c, "model"));
        fm_str_puts(s,
                    "</p><table><tr><th></th><th class=n>there</th><th class=n>difference</th><th class=n>low</th><th "
                    "class=n>high</th><th class=n>p</th></tr>\n");
        FM_TRY(fm_json_each(fm_json_get(c, "metrics"), difference_row, s));
        fm_str_puts(s, "</table>\n");
    }
    rows(s, "Samples", fm_json_get(j, "samples"), true);
    rows(s, "Worst rows", fm_json_get(j, "worst"), false);
    const fm_json *e = fm_json_get(j, "efficiency");
    char a[40], b[40];
    fm_str_printf(s, "<p class=m>%s tokens at %s tokens/s",
                  fm_html_number(a, sizeof a, fm_json_num(fm_json_get(e, "tokens"), NAN)),
                  fm_html_number(b, sizeof b, fm_json_num(fm_json_get(e, "tokens_per_second"), NAN)));
    fm_str_printf(s, ", peak memory %s</p>\n",
                  fm_format_bytes(a, sizeof a, fm_json_num(fm_json_get(e, "peak_memory_bytes"), 0)));
    return FM_OK;
}

/* What the numbers of the run say, and the keys to change. */
void fm_html_findings(fm_str *s, const fm_json *list) {
    if (fm_json_size(list) == 0) {
        return;
    }
    fm_html_heading(s, "Findings");
    fm_str_puts(s, "<ul>\n");
    for (size_t i = 0; i < fm_json_size(list); i++) {
        const fm_json *f = fm_json_at(list, i), *changes = fm_json_get(f, "changes");
        fm_str_puts(s, "<li><b>");
        fm_html_put(s, text_of(f, "kind"));
        fm_str_puts(s, "</b>: ");
        fm_html_put(s, text_of(f, "evidence"));
        if (text_of(f, "advice")) {
            fm_str_puts(s, "<br><span class=m>");
            fm_html_put(s, text_of(f, "advice"));
            fm_str_puts(s, "</span>");
        }
        for (size_t k = 0; k < fm_json_size(changes); k++) {
            static const char *const part[] = {"for", "key", "from", "to"}, *const behind[] = {" ", ": ", " → ", ""};
            fm_str_puts(s, "<br><code>");
            for (size_t p = 0; p < FM_ARRAY_LEN(part); p++) {
                fm_html_put(s, text_of(fm_json_at(changes, k), part[p]));
                fm_str_puts(s, behind[p]);
            }
            fm_str_puts(s, "</code>");
        }
        fm_str_puts(s, "</li>\n");
    }
    fm_str_puts(s, "</ul>\n");
}

/* What the run learned from, as its packed form counts it. */
static fm_status card_row(void *arg, const char *key, fm_json *v) {
    char buf[40];
    fm_str list = {0};
    for (size_t i = 0; i < fm_json_size(v) && fm_json_is_array(v); i++) {
        const char *t = fm_json_str(fm_json_at(v, i), NULL);
        fm_str_printf(&list, "%s%s", i ? ", " : "", t ? t : "");
    }
    const char *t = fm_json_str(v, NULL);
    pair(arg, key, t ? t : list.data ? list.data : fm_html_number(buf, sizeof buf, fm_json_num(v, NAN)));
    fm_status s = list.failed ? fm_str_check(&list) : FM_OK;
    fm_str_free(&list);
    return s;
}

static fm_status data_card(fm_str *s, fm_json *card) {
    if (fm_json_size(card) == 0) {
        return FM_OK;
    }
    fm_html_heading(s, "Data card");
    fm_str_puts(s, "<table>\n");
    FM_TRY(fm_json_each(card, card_row, s));
    fm_str_puts(s, "</table>\n");
    return FM_OK;
}

static fm_status evaluation_figure(void *arg, const char *name, fm_json *f) {
    fm_str *s = arg;
    char v[40], low[40], high[40];
    double l = fm_json_num(fm_json_get(f, "low"), NAN);
    fm_html_put(s, name);
    fm_str_printf(s, " %s", fm_html_number(v, sizeof v, fm_json_num(fm_json_get(f, "value"), NAN)));
    if (isfinite(l)) {
        fm_str_printf(s, " <span class=m>[%s, %s]</span>", fm_html_number(low, sizeof low, l),
                      fm_html_number(high, sizeof high, fm_json_num(fm_json_get(f, "high"), NAN)));
    }
    fm_str_puts(s, "<br>");
    return FM_OK;
}

/* Evaluations of the model that the run wrote. */
static fm_status evaluations(fm_str *s, const fm_json *list) {
    const fm_json *samples = NULL;
    if (fm_json_size(list) == 0) {
        return FM_OK;
    }
    fm_html_heading(s, "Evaluations of this model");
    fm_str_puts(s, "<table><tr><th class=n>run</th><th>task</th><th>when</th><th>test set</th><th>figures</th></tr>\n");
    for (size_t i = 0; i < fm_json_size(list); i++) {
        const fm_json *e = fm_json_at(list, i);
        const char *frozen = text_of(e, "frozen");
        fm_str_puts(s, "<tr>");
        cell(s, fm_json_num(fm_json_get(e, "id"), NAN));
        fm_str_puts(s, "<td>");
        fm_html_put(s, text_of(e, "name"));
        fm_str_puts(s, "</td><td>");
        fm_html_put(s, text_of(e, "started"));
        fm_str_puts(s, "</td><td>");
        fm_html_put(s, text_of(e, "data"));
        fm_str_puts(s, frozen ? "<br>frozen, hash " : "");
        fm_html_put(s, frozen);
        fm_str_puts(s, "</td><td>");
        FM_TRY(fm_json_each(fm_json_get(e, "figures"), evaluation_figure, s));
        fm_str_puts(s, "</td></tr>\n");
        samples = fm_json_size(fm_json_get(e, "samples")) > 0 ? fm_json_get(e, "samples") : samples;
    }
    fm_str_puts(s, "</table>\n");
    rows(s, "Samples of its newest evaluation", samples, true);
    return FM_OK;
}

static fm_status environment_row(void *arg, const char *key, fm_json *v) {
    char buf[40];
    const char *t = fm_json_str(v, NULL);
    if (!t && strstr(key, "bytes")) {
        t = fm_format_bytes(buf, sizeof buf, fm_json_num(v, 0));
    } else if (!t) {
        t = fm_html_number(buf, sizeof buf, fm_json_num(v, NAN));
    }
    pair(arg, key, t);
    return FM_OK;
}

void fm_html_begin(fm_str *s, const char *title) {
    fm_str_puts(s, "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
                   "content=\"width=device-width\"><title>");
    fm_html_put(s, title);
    fm_str_printf(s, "</title>%s<h1>", style);
    fm_html_put(s, title);
    fm_str_puts(s, "</h1>\n");
}

fm_status fm_run_html(fm_str *s, const fm_json *run) {
    char buf[64];
    const char *name = text_of(run, "name"), *status = text_of(run, "status");
    fm_html_begin(s, name ? name : "run");
    fm_str_printf(s, "<p class=m>run %lld, ", (long long)fm_json_int(fm_json_get(run, "id"), 0));
    fm_html_put(s, text_of(run, "kind"));
    fm_str_puts(s, ", <span class=\"");
    fm_html_put(s, status);
    fm_str_puts(s, "\">");
    fm_html_put(s, status);
    fm_str_puts(s, "</span>, ");
    fm_html_put(s, text_of(run, "started"));
    double seconds = fm_json_num(fm_json_get(run, "seconds"), NAN);
    const char *frozen = text_of(fm_json_get(run, "report"), "frozen");
    if (frozen) {
        fm_str_puts(s, ", frozen test set ");
        fm_html_put(s, frozen);
    }
    if (isfinite(seconds)) {
        fm_str_printf(s, ", %s", fm_format_duration(buf, sizeof buf, seconds));
    }
    fm_str_puts(s, "</p>\n");
    fm_json *figures = fm_json_get(run, "figures"), *series = fm_json_get(run, "series");
    if (fm_json_size(figures) > 0) {
        fm_html_heading(s, "Results");
        fm_str_puts(
            s, "<table><tr><th></th><th class=n>value</th><th class=n>low</th><th class=n>high</th><th></th></tr>\n");
        FM_TRY(fm_json_each(figures, figure_row, s));
        fm_str_puts(s, "</table>\n");
    }
    fm_html_findings(s, fm_json_get(fm_json_get(run, "report"), "findings"));
    if (fm_json_size(series) > 0) {
        fm_html_heading(s, "Curves over steps");
        fm_str_puts(s, "<div class=cards>\n");
        FM_TRY(curves(s, series));
        fm_str_puts(s, "</div>\n");
    }
    FM_TRY(evaluation(s, fm_json_get(run, "report")));
    FM_TRY(evaluations(s, fm_json_get(run, "evaluations")));
    FM_TRY(data_card(s, fm_json_get(fm_json_get(run, "report"), "data")));
    files(s, "Read", fm_json_get(run, "inputs"));
    files(s, "Written", fm_json_get(run, "artefacts"));
    fm_html_heading(s, "Environment");
    fm_str_puts(s, "<table>\n");
    pair(s, "code", text_of(run, "code"));
    FM_TRY(fm_json_each(fm_json_get(run, "environment"), environment_row, s));
    fm_str_puts(s, "</table>\n");
    if (text_of(run, "config")) {
        fm_html_heading(s, "Configuration");
        fm_str_puts(s, "<pre>");
        fm_html_put(s, text_of(run, "config"));
        fm_str_puts(s, "</pre>\n");
    }
    fm_str_puts(s, "</html>\n");
    return fm_str_check(s);
}
