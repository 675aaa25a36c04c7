/* The page that shows runs side by side: where configurations differ, results with intervals, curves over each other.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "track/html.h"
#include "track/registry.h"

typedef struct page {
    fm_str *s;
    fm_json *const *run;
    const char *const *label; /* [n] number and name */
    int n, from;
} page;

static const char *text_of(const fm_json *o, const char *key) {
    return fm_json_str(fm_json_get(o, key), NULL);
}

static void head(const page *p) {
    fm_str_puts(p->s, "<table><tr><th></th>");
    for (int i = 0; i < p->n; i++) {
        fm_str_puts(p->s, "<th>");
        fm_html_put(p->s, p->label[i]);
        fm_str_puts(p->s, "</th>");
    }
    fm_str_puts(p->s, "</tr>\n");
}

static void facts(const page *p) {
    static const char *const key[] = {"kind", "status", "started", "code", "output_dir"};
    char buf[40];
    head(p);
    for (size_t k = 0; k < FM_ARRAY_LEN(key); k++) {
        fm_str_printf(p->s, "<tr><th>%s</th>", key[k]);
        for (int i = 0; i < p->n; i++) {
            fm_str_puts(p->s, "<td>");
            fm_html_put(p->s, text_of(p->run[i], key[k]));
            fm_str_puts(p->s, "</td>");
        }
        fm_str_puts(p->s, "</tr>\n");
    }
    fm_str_puts(p->s, "<tr><th>time</th>");
    for (int i = 0; i < p->n; i++) {
        double seconds = fm_json_num(fm_json_get(p->run[i], "seconds"), NAN);
        fm_str_printf(p->s, "<td>%s</td>", isfinite(seconds) ? fm_format_duration(buf, sizeof buf, seconds) : "");
    }
    fm_str_puts(p->s, "</tr>\n</table>\n");
}

static void differences(const page *p, const fm_json *list) {
    fm_html_heading(p->s, "Configuration where it differs");
    head(p);
    for (size_t k = 0; k < fm_json_size(list); k++) {
        const fm_json *row = fm_json_at(list, k);
        fm_str_puts(p->s, "<tr><th>");
        fm_html_put(p->s, text_of(row, "key"));
        fm_str_puts(p->s, "</th>");
        for (size_t i = 0; i < fm_json_size(fm_json_get(row, "values")); i++) {
            const char *v = fm_json_str(fm_json_at(fm_json_get(row, "values"), i), NULL);
            fm_str_puts(p->s, "<td>");
            fm_html_put(p->s, v ? v : "–");
            fm_str_puts(p->s, "</td>");
        }
        fm_str_puts(p->s, "</tr>\n");
    }
    fm_str_puts(p->s, "</table>\n");
}

/* True when an earlier run has the member: it was shown with that one. */
static bool shown(const page *p, const char *part, const char *key) {
    for (int i = 0; i < p->from; i++) {
        if (fm_json_get(fm_json_get(p->run[i], part), key)) {
            return true;
        }
    }
    return false;
}

static fm_status result(void *arg, const char *name, fm_json *unused) {
    const page *p = arg;
    char v[40], low[40], high[40];
    FM_UNUSED(unused);
    if (shown(p, "figures", name)) {
        return FM_OK;
    }
    fm_str_puts(p->s, "<tr><th>");
    fm_html_put(p->s, name);
    fm_str_puts(p->s, "</th>");
    for (int i = 0; i < p->n; i++) {
        const fm_json *f = fm_json_get(fm_json_get(p->run[i], "figures"), name);
        double value = fm_json_num(fm_json_get(f, "value"), NAN), l = fm_json_num(fm_json_get(f, "low"), NAN);
        fm_str_printf(p->s, "<td>%s", fm_html_number(v, sizeof v, value));
        if (isfinite(l)) {
            fm_str_printf(p->s, " <span class=m>[%s, %s]</span>", fm_html_number(low, sizeof low, l),
                          fm_html_number(high, sizeof high, fm_json_num(fm_json_get(f, "high"), NAN)));
        }
        fm_str_puts(p->s, "</td>");
    }
    fm_str_puts(p->s, "</tr>\n");
    return FM_OK;
}

static fm_status series(void *arg, const char *name, fm_json *unused) {
    const page *p = arg;
    const fm_json *points[FM_MOST_COMPARED] = {0};
    FM_UNUSED(unused);
    if (shown(p, "series", name)) {
        return FM_OK;
    }
    for (int i = 0; i < p->n; i++) {
        points[i] = fm_json_get(fm_json_get(p->run[i], "series"), name);
    }
    fm_html_curves(p->s, name, points, p->label, p->n);
    return FM_OK;
}

static fm_status write_page(page *p, const fm_json *compared) {
    fm_html_begin(p->s, "Runs side by side");
    facts(p);
    differences(p, fm_json_get(compared, "config"));
    fm_html_heading(p->s, "Results");
    head(p);
    for (p->from = 0; p->from < p->n; p->from++) {
        FM_TRY(fm_json_each(fm_json_get(p->run[p->from], "figures"), result, p));
    }
    fm_str_puts(p->s, "</table>\n");
    fm_html_heading(p->s, "Curves over steps");
    fm_str_puts(p->s, "<div class=cards>\n");
    for (p->from = 0; p->from < p->n; p->from++) {
        FM_TRY(fm_json_each(fm_json_get(p->run[p->from], "series"), series, p));
    }
    fm_str_puts(p->s, "</div>\n");
    for (int i = 0; i < p->n; i++) {
        const fm_json *list = fm_json_get(fm_json_get(p->run[i], "report"), "findings");
        if (fm_json_size(list) > 0) {
            fm_html_heading(p->s, p->label[i]);
            fm_html_findings(p->s, list);
        }
    }
    fm_str_puts(p->s, "</html>\n");
    return fm_str_check(p->s);
}

fm_status fm_compare_html(fm_str *out, fm_json *const *run, int n, const fm_json *compared) {
    char label[FM_MOST_COMPARED][80];
    const char *labels[FM_MOST_COMPARED];
    FM_ASSERT(n <= FM_MOST_COMPARED);
    for (int i = 0; i < n; i++) {
        const char *name = text_of(run[i], "name");
        size_t keep = name ? fm_utf8_complete_prefix(name, FM_MIN(strlen(name), 40)) : 0;
        snprintf(label[i], sizeof label[i], "%lld %.*s", (long long)fm_json_int(fm_json_get(run[i], "id"), 0),
                 (int)keep, name ? name : "");
        labels[i] = label[i];
    }
    page p = {.s = out, .run = run, .label = labels, .n = n};
    return write_page(&p, compared);
}
