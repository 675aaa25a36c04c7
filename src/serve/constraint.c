/* Fields that constrain an answer, as GBNF. */
#include "serve/constraint.h"

#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "infer/grammar.h"

#define MAX_CHOICES 1024
#define CACHED      32

/* ---- fields ---------------------------------------------------------------------------------- */

static fm_status from_schema(fm_str *out, const fm_json *v) {
    fm_grammar_json_rules(out);
    return fm_grammar_add_schema(out, "fm-body", v);
}

/* A schema, or its text. */
static fm_status from_json(fm_str *out, const fm_json *v) {
    size_t n;
    const char *text = fm_json_str(v, &n);
    if (!text) {
        return from_schema(out, v);
    }
    fm_json *parsed = NULL;
    FM_TRY(fm_json_parse(&parsed, text, n, "JSON schema"));
    fm_status s = from_schema(out, parsed);
    fm_json_free(parsed);
    return s;
}

static fm_status from_regex(fm_str *out, const fm_json *v) {
    size_t n;
    const char *text = fm_json_str(v, &n);
    if (!text) {
        FM_FAIL(FM_ERR_ARGUMENT, "a regular expression: expected a string");
    }
    fm_str_puts(out, "fm-body ::= ");
    FM_TRY(fm_grammar_from_regex(out, text, n, false));
    fm_str_putc(out, '\n');
    return FM_OK;
}

static fm_status from_choice(fm_str *out, const fm_json *v) {
    size_t n = fm_json_size(v), len;
    if (!fm_json_is_array(v) || n < 1 || n > MAX_CHOICES) {
        FM_FAIL(FM_ERR_ARGUMENT, "a choice: expected a list of 1 to %d strings", MAX_CHOICES);
    }
    fm_str_puts(out, "fm-body ::= ");
    for (size_t i = 0; i < n; i++) {
        const char *text = fm_json_str(fm_json_at(v, i), &len);
        if (!text) {
            FM_FAIL(FM_ERR_ARGUMENT, "a choice: expected a list of strings");
        }
        fm_str_puts(out, i ? "| " : "");
        fm_grammar_literal(out, text, len);
    }
    fm_str_putc(out, '\n');
    return FM_OK;
}

static fm_status from_gbnf(fm_str *out, const fm_json *v) {
    size_t n;
    const char *text = fm_json_str(v, &n);
    if (!text) {
        FM_FAIL(FM_ERR_ARGUMENT, "a grammar: expected a string");
    }
    fm_str_append(out, text, n);
    fm_str_puts(out, "\nfm-body ::= root\n");
    return FM_OK;
}

static fm_status any_object(fm_str *out, const fm_json *v) {
    if (!fm_json_is_bool(v)) {
        FM_FAIL(FM_ERR_ARGUMENT, "json_object: expected true or false");
    }
    fm_grammar_json_rules(out);
    fm_str_puts(out, "fm-body ::= json-object\n");
    return FM_OK;
}

static fm_status from_response_format(fm_str *out, const fm_json *v) {
    const char *type = fm_json_str(fm_json_get(v, "type"), NULL);
    if (!type) {
        FM_FAIL(FM_ERR_ARGUMENT, "response_format.type: expected \"text\", \"json_object\" or \"json_schema\"");
    }
    if (strcmp(type, "json_object") == 0 && !fm_json_get(v, "schema")) {
        fm_grammar_json_rules(out);
        fm_str_puts(out, "fm-body ::= json-object\n");
        return FM_OK;
    }
    const fm_json *schema = fm_json_get(v, "schema"); /* as llama.cpp has it */
    if (strcmp(type, "json_schema") == 0 && !schema) {
        schema = fm_json_get(fm_json_get(v, "json_schema"), "schema");
    } else if (strcmp(type, "json_schema") != 0 && strcmp(type, "json_object") != 0) {
        FM_FAIL(FM_ERR_ARGUMENT,
                "response_format.type: expected \"text\", \"json_object\" or \"json_schema\", found \"%.40s\"", type);
    }
    if (!schema) {
        FM_FAIL(FM_ERR_ARGUMENT, "response_format.json_schema.schema: expected a JSON schema");
    }
    return from_schema(out, schema);
}

typedef struct field {
    const char *key;
    fm_status (*write)(fm_str *out, const fm_json *v);
} field;

static const field fields[] = {
    {"response_format", from_response_format},
    {"grammar", from_gbnf},
    {"json_schema", from_schema},
    {"guided_grammar", from_gbnf},
    {"guided_json", from_json},
    {"guided_regex", from_regex},
    {"guided_choice", from_choice},
};
static const field structured[] = {
    {"json", from_json},    {"regex", from_regex},       {"choice", from_choice},
    {"grammar", from_gbnf}, {"json_object", any_object},
};

/* A field that asks for nothing. */
static bool empty(const fm_json *v) {
    const char *type = fm_json_str(fm_json_get(v, "type"), NULL), *text = fm_json_str(v, NULL);
    return fm_json_is_null(v) || (type && strcmp(type, "text") == 0) || (text && !*text) ||
           (fm_json_is_bool(v) && !fm_json_bool(v, true));
}

static fm_status read_fields(fm_str *rules, const char **found, const fm_json *o, const field *f, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const fm_json *v = fm_json_get(o, f[i].key);
        if (empty(v)) {
            continue;
        }
        if (*found) {
            FM_FAIL(FM_ERR_ARGUMENT, "%s and %s: only one of them can say what the answer looks like", *found,
                    f[i].key);
        }
        *found = f[i].key;
        FM_TRY(f[i].write(rules, v));
    }
    return FM_OK;
}

fm_status fm_constraint_read(fm_str *rules, bool *any, const fm_json *body) {
    const char *found = NULL;
    FM_TRY(read_fields(rules, &found, body, fields, FM_ARRAY_LEN(fields)));
    FM_TRY(read_fields(rules, &found, fm_json_get(body, "structured_outputs"), structured, FM_ARRAY_LEN(structured)));
    *any = found != NULL;
    return fm_str_check(rules);
}

/* ---- grammars made lately -------------------------------------------------------------------- */

typedef struct cached {
    fm_str text; /* the start, a line end, the rules */
    uint64_t hash, used;
    fm_grammar *g; /* NULL: an empty place */
} cached;

struct fm_grammars {
    pthread_mutex_t lock;
    cached at[CACHED];
    uint64_t clock;
};

fm_status fm_grammars_new(fm_grammars **out) {
    *out = fm_calloc(1, sizeof **out);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for grammars");
    }
    pthread_mutex_init(&(*out)->lock, NULL);
    return FM_OK;
}

void fm_grammars_free(fm_grammars *g) {
    if (!g) {
        return;
    }
    for (int i = 0; i < CACHED; i++) {
        fm_grammar_free(g->at[i].g);
        fm_str_free(&g->at[i].text);
    }
    pthread_mutex_destroy(&g->lock);
    fm_free(g);
}

/* Under the lock. */
static fm_grammar *find(fm_grammars *g, const fm_str *text, uint64_t hash) {
    for (int i = 0; i < CACHED; i++) {
        cached *c = &g->at[i];
        if (c->g && c->hash == hash && c->text.len == text->len && memcmp(c->text.data, text->data, text->len) == 0) {
            c->used = ++g->clock;
            return fm_grammar_keep(c->g);
        }
    }
    return NULL;
}

/* In the place of the one used longest ago; takes the text. */
static void put(fm_grammars *g, fm_str *text, uint64_t hash, fm_grammar *made) {
    cached *c = &g->at[0];
    for (int i = 1; i < CACHED; i++) {
        c = g->at[i].used < c->used ? &g->at[i] : c;
    }
    fm_grammar_free(c->g);
    fm_str_free(&c->text);
    *c = (cached){.text = *text, .hash = hash, .used = ++g->clock, .g = fm_grammar_keep(made)};
    *text = (fm_str){0};
}

fm_status fm_grammars_get(fm_grammar **out, fm_grammars *g, const fm_str *rules, const char *start) {
    fm_str text = {0};
    *out = NULL;
    fm_str_puts(&text, start);
    fm_str_putc(&text, '\n');
    fm_str_append(&text, rules->data ? rules->data : "", rules->len);
    fm_status s = fm_str_check(&text);
    if (s == FM_OK) {
        uint64_t hash = fm_hash64(text.data, text.len, 0);
        pthread_mutex_lock(&g->lock);
        *out = find(g, &text, hash);
        pthread_mutex_unlock(&g->lock);
        if (!*out) {
            s = fm_grammar_make(out, FM_GRAMMAR_GBNF, rules->data ? rules->data : "", rules->len, start);
        }
        if (s == FM_OK && text.data) {
            pthread_mutex_lock(&g->lock);
            fm_grammar *other = find(g, &text, hash); /* perhaps another thread was faster */
            if (other) {
                fm_grammar_free(other);
            } else {
                put(g, &text, hash, *out);
            }
            pthread_mutex_unlock(&g->lock);
        }
    }
    fm_str_free(&text);
    return s;
}
