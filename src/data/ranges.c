/* Ranges of numeric columns: see ranges.h. */
#include "data/ranges.h"

#include <math.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

fm_status fm_ranges_new(fm_ranges *out, const fm_strlist *names) {
    *out = (fm_ranges){.item = fm_calloc(names->n + 1, sizeof *out->item), .n = names->n};
    if (!out->item) {
        out->n = 0;
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate %zu columns", names->n);
    }
    for (size_t i = 0; i < names->n; i++) {
        out->item[i].name = fm_strdup(names->item[i]);
        if (!out->item[i].name) {
            FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate %zu columns", names->n);
        }
    }
    return FM_OK;
}

void fm_ranges_free(fm_ranges *r) {
    for (size_t i = 0; i < r->n; i++) {
        fm_free(r->item[i].name);
    }
    fm_free(r->item);
    *r = (fm_ranges){0};
}

void fm_range_add(fm_range *r, double v) {
    r->min = r->n ? FM_MIN(r->min, v) : v;
    r->max = r->n ? FM_MAX(r->max, v) : v;
    r->n++;
    double d = v - r->mean;
    r->mean += d / (double)r->n;
    r->squares += d * (v - r->mean);
}

double fm_range_sd(const fm_range *r) {
    return r->n ? sqrt(r->squares / (double)r->n) : 0;
}

double fm_range_scale(const fm_range *r, double v) {
    double width = r->max - r->min;
    return width > 0 ? (v - r->min) / width : 0;
}

fm_status fm_ranges_put_json(const fm_ranges *r, fm_str *out) {
    fm_str_putc(out, '{');
    for (size_t i = 0; i < r->n; i++) {
        const fm_range *k = &r->item[i];
        fm_str_puts(out, i ? ", " : "");
        fm_str_json(out, k->name, strlen(k->name));
        fm_str_printf(out, ": {\"min\": %.17g, \"max\": %.17g, \"mean\": %.17g, \"sd\": %.17g, \"rows\": %lld}", k->min,
                      k->max, k->mean, fm_range_sd(k), (long long)k->n);
    }
    fm_str_putc(out, '}');
    return fm_str_check(out);
}

fm_status fm_ranges_save(const fm_ranges *r, const char *path) {
    fm_str text = {0};
    fm_str_puts(&text, "{\"format\": \"fathom ranges\", \"version\": 1, \"columns\": ");
    fm_status s = fm_ranges_put_json(r, &text);
    fm_str_puts(&text, "}\n");
    if (s == FM_OK) {
        s = fm_str_check(&text);
    }
    if (s == FM_OK) {
        s = fm_file_write_atomic(path, text.data, text.len);
    }
    fm_str_free(&text);
    return s;
}

static fm_status take(fm_range *k, const fm_json *columns, const char *path) {
    const fm_json *c = fm_json_get(columns, k->name);
    double sd;
    if (!fm_json_is_object(c) || !fm_json_is_number(fm_json_get(c, "min")) ||
        !fm_json_is_number(fm_json_get(c, "max"))) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "'%s' has no range of the column '%s'", path, k->name);
        return fm_error_hint("ranges are measured and saved by a run of the step scale without load");
    }
    FM_TRY(fm_json_get_f64(&k->min, c, "min", 0));
    FM_TRY(fm_json_get_f64(&k->max, c, "max", 0));
    FM_TRY(fm_json_get_f64(&k->mean, c, "mean", 0));
    FM_TRY(fm_json_get_f64(&sd, c, "sd", 0));
    FM_TRY(fm_json_get_i64(&k->n, c, "rows", 0));
    if (k->min > k->max || k->n < 0) {
        FM_FAIL(FM_ERR_FORMAT, "'%s': the range of '%s' is from %g to %g", path, k->name, k->min, k->max);
    }
    k->squares = sd * sd * (double)k->n;
    return FM_OK;
}

fm_status fm_ranges_load(fm_ranges *out, const fm_strlist *names, const char *path) {
    fm_json *j = NULL;
    const char *format = NULL;
    *out = (fm_ranges){0};
    FM_TRY(fm_json_load(&j, path));
    fm_status s = fm_json_get_str(&format, j, "format", "");
    if (s == FM_OK && (strcmp(format, "fathom ranges") != 0 || !fm_json_is_object(fm_json_get(j, "columns")))) {
        s = fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "'%s' is no file of ranges", path);
    }
    if (s == FM_OK) {
        s = fm_ranges_new(out, names);
    }
    for (size_t i = 0; s == FM_OK && i < out->n; i++) {
        s = take(&out->item[i], fm_json_get(j, "columns"), path);
    }
    fm_json_free(j);
    return s;
}

bool fm_rec_number(const fm_rec *r, const char *name, double *v) {
    const fm_cell *c = fm_rec_get(r, name);
    return c && fm_cell_number(c, v) && isfinite(*v);
}
