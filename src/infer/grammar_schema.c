/* JSON schemas to GBNF. Every keyword is enforced, harmless, or refused by name. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "infer/grammar.h"

#define MAX_DEPTH 64
#define MAX_REFS  512

static const char common[] =
    "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n"
    "json-char ::= [^\"\\\\\\x7f\\x00-\\x1f] | \"\\\\\" ([\"\\\\bfnrt/] | \"u\" [0-9a-fA-F]{4})\n"
    "json-string ::= \"\\\"\" json-char* \"\\\"\"\n"
    "json-integer ::= \"-\"? (\"0\" | [1-9] [0-9]{0,15})\n"
    "json-number ::= json-integer (\".\" [0-9]{1,16})? ([eE] [-+]? [0-9]{1,3})?\n"
    "json-boolean ::= \"true\" | \"false\"\n"
    "json-null ::= \"null\"\n"
    "json-array ::= \"[\" ws (json-value (\",\" ws json-value)*)? ws \"]\"\n"
    "json-object ::= \"{\" ws (json-string \":\" ws json-value (\",\" ws json-string \":\" ws json-value)*)? ws \"}\"\n"
    "json-value ::= json-object | json-array | json-string | json-number | json-boolean | json-null\n"
    "json-date ::= [0-9]{4} \"-\" (\"0\" [1-9] | \"1\" [0-2]) \"-\" (\"0\" [1-9] | [12] [0-9] | \"3\" [01])\n"
    "json-time ::= ([01] [0-9] | \"2\" [0-3]) \":\" [0-5] [0-9] \":\" [0-5] [0-9] (\".\" [0-9]{1,6})? (\"Z\" | [-+] "
    "([01] [0-9] | \"2\" [0-3]) \":\" [0-5] [0-9])\n"
    "json-uuid ::= [0-9a-fA-F]{8} (\"-\" [0-9a-fA-F]{4}){3} \"-\" [0-9a-fA-F]{12}\n";

typedef struct ref {
    const fm_json *schema;
    int rule;
} ref;

typedef struct schema {
    const fm_json *root;
    const char *name; /* of the rules: name-r0 ... */
    fm_str *rules;    /* finished ones */
    int n_rules, depth;
    ref refs[MAX_REFS];
    int n_refs;
} schema;

static fm_status value_of(schema *s, const fm_json *j, fm_str *out);

static fm_status unsupported(const char *what) {
    FM_FAIL(FM_ERR_UNSUPPORTED, "JSON schema: %s cannot be enforced", what);
}

void fm_grammar_literal(fm_str *out, const char *text, size_t n) {
    fm_str_putc(out, '"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') {
            fm_str_putc(out, '\\');
            fm_str_putc(out, (char)c);
        } else if (c < 0x20) {
            fm_str_printf(out, "\\x%02x", c);
        } else {
            fm_str_putc(out, (char)c);
        }
    }
    fm_str_puts(out, "\" ");
}

static fm_status literal_json(fm_str *out, const fm_json *j) {
    fm_str text = {0};
    fm_status s = fm_json_dump(&text, j, 0);
    if (s == FM_OK) {
        fm_grammar_literal(out, text.data, text.len);
    }
    fm_str_free(&text);
    return s;
}

/* "key" as JSON writes it, then a colon. */
static void key_literal(fm_str *out, const char *key) {
    fm_str text = {0};
    fm_str_json(&text, key, strlen(key));
    fm_str_putc(&text, ':');
    fm_grammar_literal(out, text.data ? text.data : "", text.len);
    fm_str_puts(out, "ws ");
    out->failed = out->failed || text.failed;
    fm_str_free(&text);
}

/* Keywords that say nothing about which texts are valid. */
static bool harmless(const char *key) {
    static const char *const names[] = {
        "title",    "description", "default",       "examples", "$schema",         "$id",
        "$comment", "$defs",       "definitions",   "readOnly", "writeOnly",       "deprecated",
        "nullable", "$anchor",     "discriminator", "strict",   "contentEncoding", "contentMediaType"};
    for (size_t i = 0; i < FM_ARRAY_LEN(names); i++) {
        if (strcmp(key, names[i]) == 0) {
            return true;
        }
    }
    return key[0] == 'x' && key[1] == '-';
}

static fm_status check_keyword(void *arg, const char *key, fm_json *value) {
    static const char *const names[] = {"type",
                                        "properties",
                                        "required",
                                        "additionalProperties",
                                        "items",
                                        "enum",
                                        "const",
                                        "anyOf",
                                        "oneOf",
                                        "allOf",
                                        "$ref",
                                        "minItems",
                                        "maxItems",
                                        "prefixItems",
                                        "minLength",
                                        "maxLength",
                                        "pattern",
                                        "format",
                                        "minimum",
                                        "maximum",
                                        "exclusiveMinimum",
                                        "exclusiveMaximum",
                                        "multipleOf"};
    FM_UNUSED(arg);
    FM_UNUSED(value);
    for (size_t i = 0; i < FM_ARRAY_LEN(names); i++) {
        if (strcmp(key, names[i]) == 0) {
            return FM_OK;
        }
    }
    if (harmless(key)) {
        return FM_OK;
    }
    char what[80];
    snprintf(what, sizeof what, "\"%.60s\"", key);
    return unsupported(what);
}

/* ---- references ------------------------------------------------------------------------------ */

static fm_status resolve(const schema *s, const char *path, const fm_json **out) {
    const fm_json *j = s->root;
    const char *p = path;
    if (*p++ != '#') {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "JSON schema: $ref \"%.100s\": only references into this schema (#/...) are "
                "supported",
                path);
    }
    while (*p == '/' && j) {
        char part[256];
        size_t n = 0;
        for (p++; *p && *p != '/' && n < sizeof part - 1; p++) {
            if (*p == '~' && (p[1] == '0' || p[1] == '1')) {
                part[n++] = *++p == '0' ? '~' : '/';
            } else {
                part[n++] = *p;
            }
        }
        part[n] = '\0';
        int64_t i;
        j = fm_json_is_array(j) && fm_parse_i64(&i, part) == FM_OK ? fm_json_at(j, (size_t)i) : fm_json_get(j, part);
    }
    if (!j || *p) {
        FM_FAIL(FM_ERR_ARGUMENT, "JSON schema: $ref \"%.100s\" leads nowhere", path);
    }
    *out = j;
    return FM_OK;
}

/* A rule for what is referred to; made once, so that recursion ends. */
static fm_status reference(schema *s, const fm_json *target, fm_str *out) {
    for (int i = 0; i < s->n_refs; i++) {
        if (s->refs[i].schema == target) {
            fm_str_printf(out, "%s-r%d ", s->name, s->refs[i].rule);
            return FM_OK;
        }
    }
    if (s->n_refs == MAX_REFS) {
        FM_FAIL(FM_ERR_ARGUMENT, "JSON schema: more than %d references", MAX_REFS);
    }
    int rule = s->n_rules++;
    s->refs[s->n_refs++] = (ref){target, rule};
    fm_str body = {0};
    fm_status st = value_of(s, target, &body);
    if (st == FM_OK) {
        fm_str_printf(s->rules, "%s-r%d ::= %s\n", s->name, rule, body.data ? body.data : "");
        fm_str_printf(out, "%s-r%d ", s->name, rule);
        st = fm_str_check(&body);
    }
    fm_str_free(&body);
    return st;
}

/* ---- strings, arrays ------------------------------------------------------------------------- */

static fm_status bound(const fm_json *j, const char *key, int64_t def, int64_t *out) {
    const fm_json *v = fm_json_get(j, key);
    double x = fm_json_num(v, (double)def);
    *out = def;
    if (v && !(fm_json_is_number(v) && x == floor(x) && x >= 0 && x <= 2000)) {
        FM_FAIL(FM_ERR_ARGUMENT, "JSON schema: %s: expected a whole number from 0 to 2000", key);
    }
    *out = v ? (int64_t)x : def;
    return FM_OK;
}

static void times(fm_str *out, int64_t min, int64_t max) {
    if (max < 0) {
        fm_str_printf(out, "{%lld,} ", (long long)min);
    } else {
        fm_str_printf(out, "{%lld,%lld} ", (long long)min, (long long)max);
    }
}

static fm_status string_of(const fm_json *j, fm_str *out) {
    int64_t min, max;
    size_t n = 0;
    const char *pattern = fm_json_str(fm_json_get(j, "pattern"), &n),
               *format = fm_json_str(fm_json_get(j, "format"), NULL);
    bool lengths = fm_json_get(j, "minLength") || fm_json_get(j, "maxLength");
    FM_TRY(bound(j, "minLength", 0, &min));
    FM_TRY(bound(j, "maxLength", -1, &max));
    if (pattern) {
        if (lengths) {
            return unsupported("\"pattern\" together with a length");
        }
        fm_str_puts(out, "\"\\\"\" (");
        FM_TRY(fm_grammar_from_regex(out, pattern, n, true));
        fm_str_puts(out, ") \"\\\"\" ");
    } else if (format && strcmp(format, "date") == 0) {
        fm_str_puts(out, "\"\\\"\" json-date \"\\\"\" ");
    } else if (format && strcmp(format, "time") == 0) {
        fm_str_puts(out, "\"\\\"\" json-time \"\\\"\" ");
    } else if (format && strcmp(format, "date-time") == 0) {
        fm_str_puts(out, "\"\\\"\" json-date \"T\" json-time \"\\\"\" ");
    } else if (format && strcmp(format, "uuid") == 0) {
        fm_str_puts(out, "\"\\\"\" json-uuid \"\\\"\" ");
    } else if (lengths) { /* other formats are remarks, as the standard has it */
        fm_str_puts(out, "\"\\\"\" json-char");
        times(out, min, max);
        fm_str_puts(out, "\"\\\"\" ");
    } else {
        fm_str_puts(out, "json-string ");
    }
    return FM_OK;
}

static fm_status tuple_of(schema *s, const fm_json *prefix, fm_str *out) {
    fm_str_puts(out, "\"[\" ws ");
    for (size_t i = 0; i < fm_json_size(prefix); i++) {
        fm_str_puts(out, i ? "\",\" ws " : "");
        FM_TRY(value_of(s, fm_json_at(prefix, i), out));
    }
    fm_str_puts(out, "ws \"]\" ");
    return FM_OK;
}

static fm_status array_of(schema *s, const fm_json *j, fm_str *out) {
    int64_t min, max;
    const fm_json *items = fm_json_get(j, "items"), *prefix = fm_json_get(j, "prefixItems");
    FM_TRY(bound(j, "minItems", 0, &min));
    FM_TRY(bound(j, "maxItems", -1, &max));
    if (prefix) {
        int64_t n = (int64_t)fm_json_size(prefix);
        if (!fm_json_is_array(prefix) || (items && !(fm_json_is_bool(items) && !fm_json_bool(items, true)))) {
            return unsupported("\"prefixItems\" with more \"items\"");
        }
        if ((fm_json_get(j, "minItems") && min != n) || (max >= 0 && max != n)) {
            return unsupported("\"prefixItems\" with another number of items");
        }
        return tuple_of(s, prefix, out);
    }
    if (max >= 0 && max < min) {
        FM_FAIL(FM_ERR_ARGUMENT, "JSON schema: maxItems is less than minItems");
    }
    fm_str item = {0};
    fm_status st = FM_OK;
    if (items) {
        st = value_of(s, items, &item);
    } else {
        fm_str_puts(&item, "json-value ");
    }
    if (st == FM_OK && max == 0) {
        fm_str_puts(out, "\"[\" ws \"]\" ");
    } else if (st == FM_OK) { /* the item is written twice: a rule, or nested lists double at every level */
        int rule = s->n_rules++;
        fm_str_printf(s->rules, "%s-i%d ::= %s\n", s->name, rule, item.data ? item.data : "");
        fm_str_printf(out, "\"[\" ws %s%s-i%d (\",\" ws %s-i%d)", min == 0 ? "(" : "", s->name, rule, s->name, rule);
        times(out, FM_MAX(min - 1, 0), max < 0 ? -1 : max - 1);
        fm_str_printf(out, "%sws \"]\" ", min == 0 ? ")? " : "");
        st = fm_str_check(&item);
    }
    fm_str_free(&item);
    return st;
}

/* ---- objects --------------------------------------------------------------------------------- */

typedef struct property {
    const char *key;
    const fm_json *schema;
    bool required;
} property;

typedef struct properties {
    property *p;
    size_t n, cap;
    const fm_json *required;
} properties;

static fm_status add_property(void *arg, const char *key, fm_json *value) {
    properties *ps = arg;
    FM_TRY(fm_grow((void **)&ps->p, &ps->cap, ps->n + 1, sizeof *ps->p));
    bool required = false;
    for (size_t i = 0; i < fm_json_size(ps->required); i++) {
        const char *name = fm_json_str(fm_json_at(ps->required, i), NULL);
        required = required || (name && strcmp(name, key) == 0);
    }
    ps->p[ps->n++] = (property){key, value, required};
    return FM_OK;
}

/* What may follow from property i on: rule a<i> when none was written yet, b<i> when one was. In this order, which is
 * that of the schema. */
static fm_status write_tails(schema *s, const properties *ps, int base) {
    for (size_t i = ps->n; i-- > 0;) {
        fm_str *r = s->rules;
        fm_str body = {0};
        key_literal(&body, ps->p[i].key);
        fm_status st = value_of(s, ps->p[i].schema, &body);
        if (st == FM_OK) {
            int next = base + (int)i + 1, at = base + (int)i;
            const char *N = s->name;
            fm_str_printf(r, "%s-v%d ::= %s\n", N, at, body.data ? body.data : "");
            fm_str_printf(r, "%s-b%d ::= \",\" ws %s-v%d %s-b%d", N, at, N, at, N, next);
            if (!ps->p[i].required) {
                fm_str_printf(r, " | %s-b%d", N, next);
            }
            fm_str_printf(r, "\n%s-a%d ::= %s-v%d %s-b%d", N, at, N, at, N, next);
            if (!ps->p[i].required) {
                fm_str_printf(r, " | %s-a%d", N, next);
            }
            fm_str_putc(r, '\n');
            st = fm_str_check(&body);
        }
        fm_str_free(&body);
        FM_TRY(st);
    }
    return FM_OK;
}

static fm_status object_with(schema *s, const fm_json *j, const properties *ps, fm_str *out) {
    const fm_json *more = fm_json_get(j, "additionalProperties");
    int base = s->n_rules;
    s->n_rules += (int)ps->n + 2;
    /* As the OpenAI API: what is not listed is not written, unless the schema says so. */
    bool any = fm_json_is_object(more) || (more ? fm_json_bool(more, false) : ps->n == 0);
    for (size_t i = 0; i < fm_json_size(ps->required); i++) {
        const char *name = fm_json_str(fm_json_at(ps->required, i), NULL);
        bool found = false;
        for (size_t k = 0; k < ps->n && name; k++) {
            found = found || strcmp(ps->p[k].key, name) == 0;
        }
        if (!found) {
            return unsupported("a required property that is not among \"properties\"");
        }
    }
    if (any) {
        fm_str pair = {0};
        fm_str_puts(&pair, "json-string \":\" ws (");
        fm_status st = FM_OK;
        if (fm_json_is_object(more)) {
            st = value_of(s, more, &pair);
        } else {
            fm_str_puts(&pair, "json-value ");
        }
        fm_str_puts(&pair, ")");
        st = st == FM_OK ? fm_str_check(&pair) : st;
        if (st == FM_OK) {
            int x = s->n_rules++, last = base + (int)ps->n;
            const char *N = s->name;
            fm_str_printf(s->rules, "%s-x%d ::= %s\n", N, x, pair.data);
            fm_str_printf(s->rules, "%s-a%d ::= \"\" | %s-x%d (\",\" ws %s-x%d)*\n", N, last, N, x, N, x);
            fm_str_printf(s->rules, "%s-b%d ::= (\",\" ws %s-x%d)*\n", N, last, N, x);
        }
        fm_str_free(&pair);
        FM_TRY(st);
    } else {
        int last = base + (int)ps->n;
        fm_str_printf(s->rules, "%s-a%d ::= \"\"\n%s-b%d ::= \"\"\n", s->name, last, s->name, last);
    }
    FM_TRY(write_tails(s, ps, base));
    fm_str_printf(out, "\"{\" ws %s-a%d ws \"}\" ", s->name, base);
    return FM_OK;
}

static fm_status object_of(schema *s, const fm_json *j, fm_str *out) {
    fm_json *listed = fm_json_get(j, "properties");
    properties ps = {.required = fm_json_get(j, "required")};
    fm_status st = listed ? fm_json_each(listed, add_property, &ps) : FM_OK;
    st = st == FM_OK ? object_with(s, j, &ps, out) : st;
    fm_free(ps.p);
    return st;
}

/* ---- values ---------------------------------------------------------------------------------- */

static fm_status any_of(schema *s, const fm_json *list, fm_str *out) {
    if (!fm_json_is_array(list) || fm_json_size(list) == 0) {
        FM_FAIL(FM_ERR_ARGUMENT, "JSON schema: anyOf and oneOf: expected a list of schemas");
    }
    fm_str_putc(out, '(');
    for (size_t i = 0; i < fm_json_size(list); i++) {
        fm_str_puts(out, i ? "| " : "");
        FM_TRY(value_of(s, fm_json_at(list, i), out));
    }
    fm_str_puts(out, ") ");
    return FM_OK;
}

/* The bounds as the newer drafts write them (a number) and as draft 4 did (true beside the bound). */
static fm_status exclusive(const fm_json *j, const char *key, double sign, double *bound, bool *out) {
    const fm_json *v = fm_json_get(j, key);
    if (fm_json_is_bool(v)) {
        *out = fm_json_bool(v, false);
    } else if (fm_json_is_number(v)) {
        double x = fm_json_num(v, 0);
        if (isnan(*bound) || sign * x >= sign * *bound) {
            *bound = x;
            *out = true;
        }
    } else if (v) {
        FM_FAIL(FM_ERR_ARGUMENT, "JSON schema: %s: expected a number", key);
    }
    return FM_OK;
}

static fm_status number_of(const fm_json *j, bool whole, fm_str *out) {
    const fm_json *min = fm_json_get(j, "minimum"), *max = fm_json_get(j, "maximum");
    fm_number_bounds b = {.min = fm_json_num(min, NAN), .max = fm_json_num(max, NAN)};
    if ((min && !fm_json_is_number(min)) || (max && !fm_json_is_number(max))) {
        FM_FAIL(FM_ERR_ARGUMENT, "JSON schema: minimum and maximum: expected numbers");
    }
    if (fm_json_get(j, "multipleOf") && !(whole && fm_json_num(fm_json_get(j, "multipleOf"), 0) == 1)) {
        return unsupported("\"multipleOf\"");
    }
    FM_TRY(exclusive(j, "exclusiveMinimum", 1, &b.min, &b.above_min));
    FM_TRY(exclusive(j, "exclusiveMaximum", -1, &b.max, &b.below_max));
    return fm_grammar_number(out, whole, &b);
}

static fm_status typed(schema *s, const fm_json *j, const char *type, fm_str *out) {
    static const struct { const char *type, *rule; } simple[] = {{"boolean", "json-boolean "}, {"null", "json-null "}};
    for (size_t i = 0; i < FM_ARRAY_LEN(simple); i++) {
        if (strcmp(type, simple[i].type) == 0) {
            fm_str_puts(out, simple[i].rule);
            return FM_OK;
        }
    }
    if (strcmp(type, "integer") == 0 || strcmp(type, "number") == 0) {
        return number_of(j, strcmp(type, "integer") == 0, out);
    }
    if (strcmp(type, "string") == 0) {
        return string_of(j, out);
    }
    if (strcmp(type, "array") == 0) {
        return array_of(s, j, out);
    }
    if (strcmp(type, "object") == 0) {
        return object_of(s, j, out);
    }
    FM_FAIL(FM_ERR_ARGUMENT, "JSON schema: there is no type \"%.40s\"", type);
}

static fm_status of_types(schema *s, const fm_json *j, fm_str *out) {
    const fm_json *type = fm_json_get(j, "type");
    const char *name = fm_json_str(type, NULL);
    if (name) {
        return typed(s, j, name, out);
    }
    if (fm_json_is_array(type) && fm_json_size(type) > 0) {
        fm_str_putc(out, '(');
        for (size_t i = 0; i < fm_json_size(type); i++) {
            name = fm_json_str(fm_json_at(type, i), NULL);
            fm_str_puts(out, i ? "| " : "");
            FM_TRY(typed(s, j, name ? name : "", out));
        }
        fm_str_puts(out, ") ");
        return FM_OK;
    }
    if (fm_json_get(j, "properties") || fm_json_get(j, "required")) {
        return object_of(s, j, out);
    }
    if (fm_json_get(j, "items") || fm_json_get(j, "prefixItems")) {
        return array_of(s, j, out);
    }
    if (fm_json_get(j, "pattern") || fm_json_get(j, "minLength") || fm_json_get(j, "maxLength")) {
        return string_of(j, out);
    }
    if (fm_json_get(j, "minimum") || fm_json_get(j, "maximum") || fm_json_get(j, "exclusiveMinimum") ||
        fm_json_get(j, "exclusiveMaximum") || fm_json_get(j, "multipleOf")) {
        return unsupported("a bound of numbers without \"type\"");
    }
    fm_str_puts(out, "json-value ");
    return FM_OK;
}

static fm_status value_here(schema *s, const fm_json *j, fm_str *out) {
    const fm_json *v;
    if (fm_json_is_bool(j) && fm_json_bool(j, false)) {
        fm_str_puts(out, "json-value ");
        return FM_OK;
    }
    if (!fm_json_is_object(j)) {
        FM_FAIL(FM_ERR_ARGUMENT, "JSON schema: expected an object");
    }
    FM_TRY(fm_json_each((fm_json *)(uintptr_t)j, check_keyword, NULL));
    if ((v = fm_json_get(j, "$ref"))) {
        const fm_json *target = NULL;
        FM_TRY(resolve(s, fm_json_str(v, NULL) ? fm_json_str(v, NULL) : "", &target));
        return reference(s, target, out);
    }
    if ((v = fm_json_get(j, "const"))) {
        return literal_json(out, v);
    }
    if ((v = fm_json_get(j, "enum"))) {
        if (!fm_json_is_array(v) || fm_json_size(v) == 0) {
            FM_FAIL(FM_ERR_ARGUMENT, "JSON schema: enum: expected a list of values");
        }
        fm_str_putc(out, '(');
        for (size_t i = 0; i < fm_json_size(v); i++) {
            fm_str_puts(out, i ? "| " : "");
            FM_TRY(literal_json(out, fm_json_at(v, i)));
        }
        fm_str_puts(out, ") ");
        return FM_OK;
    }
    if ((v = fm_json_get(j, "anyOf")) || (v = fm_json_get(j, "oneOf"))) {
        if (fm_json_get(j, "properties")) {
            return unsupported("\"anyOf\" beside \"properties\"");
        }
        return any_of(s, v, out);
    }
    if ((v = fm_json_get(j, "allOf"))) {
        if (fm_json_size(v) != 1 || fm_json_get(j, "properties")) {
            return unsupported("\"allOf\" of several schemas");
        }
        return value_of(s, fm_json_at(v, 0), out);
    }
    return of_types(s, j, out);
}

static fm_status value_of(schema *s, const fm_json *j, fm_str *out) {
    if (++s->depth > MAX_DEPTH) {
        FM_FAIL(FM_ERR_ARGUMENT, "JSON schema: more than %d levels", MAX_DEPTH);
    }
    if (out->len + s->rules->len > (size_t)8 << 20) {
        FM_FAIL(FM_ERR_ARGUMENT, "JSON schema: its grammar is too large");
    }
    fm_status st = value_here(s, j, out);
    s->depth--;
    return st;
}

void fm_grammar_json_rules(fm_str *out) {
    fm_str_puts(out, common);
}

fm_status fm_grammar_add_schema(fm_str *out, const char *name, const fm_json *root) {
    fm_str body = {0};
    schema *s = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a JSON schema");
    }
    s->root = root;
    s->name = name;
    s->rules = out;
    fm_status st = value_of(s, root, &body);
    if (st == FM_OK) {
        fm_str_printf(out, "%s ::= %s\n", name, body.data ? body.data : "");
        st = fm_str_check(&body);
    }
    st = st == FM_OK ? fm_str_check(out) : st;
    fm_free(s);
    fm_str_free(&body);
    return st;
}

fm_status fm_grammar_from_schema(fm_str *out, const char *text, size_t n) {
    fm_json *root = NULL;
    FM_TRY(fm_json_parse(&root, text, n, "JSON schema"));
    fm_grammar_json_rules(out);
    fm_status st = fm_grammar_add_schema(out, "root", root);
    fm_json_free(root);
    return st;
}
