/* Option tables as text: help, and a YAML file of all values. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/option_row.h"
#include "base/str.h"

#define FIELD(type, obj, row) ((const type *)(const void *)((const char *)(obj) + (row)->offset))

/* Shortest text that reads back as v. YAML 1.1 readers want a dot before the exponent. */
static void put_float(fm_str *out, double v) {
    char buf[48];
    if (isinf(v)) {
        fm_str_puts(out, v < 0 ? "-inf" : "inf");
        return;
    }
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(buf, sizeof buf, "%.*g", digits, v);
        if (strtod(buf, NULL) == v) {
            break;
        }
    }
    char *e = strchr(buf, 'e');
    if (e && !strchr(buf, '.')) {
        fm_str_append(out, buf, (size_t)(e - buf));
        fm_str_puts(out, ".0");
        fm_str_puts(out, e);
    } else {
        fm_str_puts(out, buf);
        if (!e && !strchr(buf, '.')) {
            fm_str_puts(out, ".0");
        }
    }
}

static void put_choice(fm_str *out, const char *choices, int index) {
    for (; choices && index > 0; index--) {
        choices = strchr(choices, '|');
        choices = choices ? choices + 1 : NULL;
    }
    fm_str_append(out, choices ? choices : "", choices ? strcspn(choices, "|") : 0);
}

/* A value as YAML, which for all but choices is JSON too. */
static void put_value(fm_str *s, const void *obj, const fm_option *r) {
    switch (r->type) {
    case FM_OPT_BOOL:
        fm_str_puts(s, *FIELD(bool, obj, r) ? "true" : "false");
        break;
    case FM_OPT_INT:
    case FM_OPT_BYTES:
        fm_str_printf(s, "%lld", (long long)*FIELD(int64_t, obj, r));
        break;
    case FM_OPT_FLOAT:
        put_float(s, *FIELD(double, obj, r));
        break;
    case FM_OPT_ENUM:
        put_choice(s, r->choices, *FIELD(int, obj, r));
        break;
    case FM_OPT_STR: {
        const char *v = *FIELD(char *, obj, r);
        fm_str_json(s, v ? v : "", v ? strlen(v) : 0); /* a JSON string is a YAML string */
        break;
    }
    case FM_OPT_LIST: {
        const fm_strlist *l = FIELD(fm_strlist, obj, r);
        fm_str_putc(s, '[');
        for (size_t i = 0; i < l->n; i++) {
            fm_str_puts(s, i ? ", " : "");
            fm_str_json(s, l->item[i], strlen(l->item[i]));
        }
        fm_str_putc(s, ']');
        break;
    }
    }
}

fm_status fm_options_dump_yaml(char **out, const void *obj, const fm_option *table) {
    fm_str s = {0};
    *out = NULL;
    for (const fm_option *r = table; r->key; r++) {
        fm_str_printf(&s, "%s: ", r->key);
        put_value(&s, obj, r);
        fm_str_putc(&s, '\n');
    }
    fm_str_append(&s, "", 0); /* an empty table is an empty text, not NULL */
    fm_status status = fm_str_check(&s);
    if (status != FM_OK) {
        fm_str_free(&s);
        return status;
    }
    *out = fm_str_take(&s);
    return FM_OK;
}

/* "  -l, --learning-rate FLOAT" */
static void put_flag(fm_str *out, const fm_option *r) {
    static const char *const metavar[] = {"", "INT", "FLOAT", "TEXT", "", "A,B,..", "SIZE"};
    char short_flag = '\0';
    for (const char *a = r->aliases; a && *a;) {
        size_t n = strcspn(a, "|");
        short_flag = n == 1 ? *a : short_flag;
        a += n + (a[n] == '|');
    }
    if (short_flag) {
        fm_str_printf(out, "  -%c, --", short_flag);
    } else {
        fm_str_puts(out, "      --");
    }
    for (const char *c = r->key; *c; c++) {
        fm_str_putc(out, *c == '_' ? '-' : *c);
    }
    const char *m = r->metavar ? r->metavar : r->type == FM_OPT_ENUM ? r->choices : metavar[r->type];
    if (m && *m) {
        fm_str_printf(out, " %s", m);
    }
}

/* Words of `text` in lines of at most `columns`, each indented. Starts on a line already at `indent`. */
static void put_wrapped(fm_str *out, const char *text, int indent, int columns) {
    int at = indent;
    bool first = true;
    while (*text) {
        size_t n = strcspn(text, " ");
        if (n) {
            int w = fm_utf8_width(text, n);
            if (!first && at + 1 + w > columns) {
                fm_str_printf(out, "\n%*s", indent, "");
                at = indent;
                first = true;
            }
            if (!first) {
                fm_str_putc(out, ' ');
                at++;
            }
            fm_str_append(out, text, n);
            at += w;
            first = false;
        }
        text += n + (text[n] == ' ');
    }
    fm_str_putc(out, '\n');
}

fm_status fm_options_help(char **out, const fm_option *table, int columns) {
    enum { LEFT = 30 };
    fm_str s = {0}, left = {0}, right = {0};
    *out = NULL;
    columns = FM_MAX(columns, LEFT + 20);
    for (const fm_option *r = table; r->key; r++) {
        fm_str_clear(&left);
        fm_str_clear(&right);
        put_flag(&left, r);
        fm_str_puts(&right, r->help ? r->help : "");
        if (r->def && *r->def && !(r->type == FM_OPT_BOOL && strcmp(r->def, "false") == 0)) {
            fm_str_printf(&right, " [%s]", r->def);
        }
        if (left.failed || right.failed) {
            s.failed = true;
            break;
        }
        int w = fm_utf8_width(left.data, left.len);
        fm_str_puts(&s, left.data);
        if (w + 2 > LEFT) {
            fm_str_printf(&s, "\n%*s", LEFT, "");
        } else {
            fm_str_printf(&s, "%*s", LEFT - w, "");
        }
        put_wrapped(&s, right.data, LEFT, columns);
    }
    fm_str_append(&s, "", 0);
    fm_str_free(&left);
    fm_str_free(&right);
    fm_status status = fm_str_check(&s);
    if (status != FM_OK) {
        fm_str_free(&s);
        return status;
    }
    *out = fm_str_take(&s);
    return FM_OK;
}

fm_status fm_option_text(fm_str *out, const void *obj, const fm_option *row) {
    if (row->type == FM_OPT_STR) {
        const char *v = *FIELD(char *, obj, row);
        fm_str_puts(out, v ? v : "");
    } else if (row->type == FM_OPT_LIST) {
        const fm_strlist *l = FIELD(fm_strlist, obj, row);
        for (size_t i = 0; i < l->n; i++) {
            fm_str_puts(out, i ? "," : "");
            fm_str_puts(out, l->item[i]);
        }
    } else {
        put_value(out, obj, row);
    }
    return fm_str_check(out);
}
