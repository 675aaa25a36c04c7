/* privacy: personal data is masked, replaced by pseudonyms, reported, or its rows dropped.
 *
 * A pseudonym is the kind and 64 bits of HMAC-SHA-256 (RFC 2104) over kind and value with the user's key: the same
 * value has the same pseudonym wherever the key is the same, and without the key nobody can try values. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/keyed.h"
#include "data/pii.h"
#include "data/step.h"

typedef enum action { ACT_MASK, ACT_PSEUDONYM, ACT_DROP, ACT_REPORT } action;

typedef struct privacy_options {
    fm_strlist fields, kinds;
    char *names, *key_file, *into;
    int action;
} privacy_options;

static const fm_option rows[] = {
    {"fields", FM_OPT_LIST, offsetof(privacy_options, fields), "*", 0, 0, NULL, NULL, "NAMES",
     "columns to look into, with what is nested in them; '*' = all"},
    {"kinds", FM_OPT_LIST, offsetof(privacy_options, kinds), NULL, 0, 0, NULL, NULL, "NAMES",
     "email, card, phone, id-cn, iban, ip, ssn, url-credentials, name; default: all"},
    {"action", FM_OPT_ENUM, offsetof(privacy_options, action), "mask", 0, 0, "mask|pseudonym|drop|report", NULL, NULL,
     "put [EMAIL] and the like; keyed pseudonyms; drop the row; write places into a column and change nothing"},
    {"names", FM_OPT_STR, offsetof(privacy_options, names), NULL, 0, 0, NULL, NULL, "FILE",
     "names of persons, one a line"},
    {"key_file", FM_OPT_STR, offsetof(privacy_options, key_file), NULL, 0, 0, NULL, NULL, "FILE",
     "key of the pseudonyms, 16 bytes or more; keep it away from the data"},
    {"into", FM_OPT_STR, offsetof(privacy_options, into), "pii", 0, 0, NULL, NULL, "NAME", "column for report"},
    FM_STEP_OPTIONS_END,
};

typedef struct state {
    unsigned kinds;
    bool all;
    fm_pii_names *names;
    fm_keyed key;
} state;

static fm_status load_names(state *s, const char *path) {
    char *data;
    size_t n;
    FM_TRY(fm_pii_names_new(&s->names));
    FM_TRY(fm_file_read(&data, &n, path, (size_t)1 << 30));
    fm_status st = FM_OK;
    for (char *p = data, *end = data + n; p < end && st == FM_OK;) {
        char *e = memchr(p, '\n', (size_t)(end - p));
        fm_sv name = {p, (size_t)((e ? e : end) - p)};
        p = e ? e + 1 : end;
        while (name.len && (unsigned char)name.ptr[name.len - 1] <= ' ') {
            name.len--;
        }
        while (name.len && (unsigned char)*name.ptr <= ' ') {
            name.ptr++;
            name.len--;
        }
        st = fm_pii_names_add(s->names, name);
    }
    fm_free(data);
    return st;
}

static fm_status add_kind(state *s, const char *name) {
    const char *all[FM_PII_COUNT];
    for (int k = 0; k < FM_PII_COUNT; k++) {
        all[k] = fm_pii_name((fm_pii_kind)k);
        if (strcmp(all[k], name) == 0) {
            s->kinds |= 1u << k;
            return FM_OK;
        }
    }
    int best = fm_nearest_name(name, all, FM_PII_COUNT);
    fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "privacy: there is no kind '%s'", name);
    return fm_error_hint("%s%s", best >= 0 ? "did you mean " : "see fathom data privacy --help",
                         best >= 0 ? all[best] : "");
}

static fm_status privacy_open(fm_step *step) {
    const privacy_options *o = step->opt;
    state *s = step->state = fm_calloc(1, sizeof *s);
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a step");
    }
    s->all = o->fields.n == 0 || (o->fields.n == 1 && strcmp(o->fields.item[0], "*") == 0);
    s->kinds = o->kinds.n ? 0 : (1u << FM_PII_COUNT) - 1;
    for (size_t i = 0; i < o->kinds.n; i++) {
        FM_TRY(add_kind(s, o->kinds.item[i]));
    }
    if (o->action == ACT_PSEUDONYM && !o->key_file) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "pseudonyms need a key");
        return fm_error_hint("head -c 32 /dev/urandom | base64 > KEY, then --key-file KEY");
    }
    if (o->key_file) {
        FM_TRY(fm_keyed_load(&s->key, o->key_file));
    }
    return o->names ? load_names(s, o->names) : FM_OK;
}

static void privacy_close(fm_step *step) {
    state *s = step->state;
    if (s) {
        fm_pii_names_free(s->names);
        memset(&s->key, 0, sizeof s->key);
        fm_free(s);
        step->state = NULL;
    }
}

static void local_free(void *local) {
    fm_pii_spans_free(local);
}

/* ---- pseudonyms ------------------------------------------------------------------------------- */

/* What makes two spellings one value: letters small, and of numbers digits and letters alone. */
static void normal_value(fm_str *out, fm_pii_kind kind, fm_sv v) {
    bool number = kind == FM_PII_CARD || kind == FM_PII_PHONE || kind == FM_PII_ID_CN || kind == FM_PII_IBAN ||
                  kind == FM_PII_SSN;
    fm_str_clear(out);
    for (size_t i = 0; i < v.len; i++) {
        char c = v.ptr[i] >= 'A' && v.ptr[i] <= 'Z' ? (char)(v.ptr[i] + 32) : v.ptr[i];
        if (!number || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z')) {
            fm_str_putc(out, c);
        }
    }
}

/* [EMAIL_1234567890abcdef] */
static fm_status put_pseudonym(const state *s, fm_str *out, fm_str *room, fm_pii_kind kind, fm_sv v) {
    char hex[65];
    const char *mask = fm_pii_mask(kind);
    normal_value(room, kind, v);
    FM_TRY(fm_str_check(room));
    fm_keyed_hex(&s->key, fm_pii_name(kind), room->data ? room->data : "", room->len, hex);
    fm_str_append(out, mask, strlen(mask) - 1);
    fm_str_printf(out, "_%.16s]", hex);
    return FM_OK;
}

/* ---- cells ------------------------------------------------------------------------------------ */

/* The text with its finds replaced, appended to out. */
static fm_status replace(fm_step_ctx *x, fm_str *out, fm_sv text, const fm_pii_spans *found) {
    const privacy_options *o = x->step->opt;
    size_t at = 0;
    for (size_t i = 0; i < found->n; i++) {
        const fm_pii_span *f = &found->item[i];
        fm_str_append(out, text.ptr + at, f->at - at);
        if (o->action == ACT_PSEUDONYM) {
            FM_TRY(put_pseudonym(x->step->state, out, &x->tmp[1], f->kind, (fm_sv){text.ptr + f->at, f->len}));
        } else {
            fm_str_puts(out, fm_pii_mask(f->kind));
        }
        at = f->at + f->len;
    }
    fm_str_append(out, text.ptr + at, text.len - at);
    return fm_str_check(out);
}

typedef struct finds {
    size_t n;
    const char *first; /* kind */
    fm_str *report;    /* JSON objects, or NULL */
} finds;

static fm_status note(fm_step_ctx *x, finds *f, const fm_cell *c, fm_sv text, const fm_pii_spans *found) {
    for (size_t i = 0; i < found->n; i++) {
        const fm_pii_span *s = &found->item[i];
        const char *kind = fm_pii_name(s->kind);
        FM_TRY(fm_step_count(x, kind, 1));
        f->first = f->first ? f->first : kind;
        if (f->report) { /* places in code points, as other tools count */
            size_t at = 0, len = 0;
            for (size_t k = 0; k < s->at + s->len; k++) {
                bool begins = ((unsigned char)text.ptr[k] & 0xC0) != 0x80;
                at += begins && k < s->at;
                len += begins && k >= s->at;
            }
            fm_str_puts(f->report, f->n + i ? ", " : "");
            fm_str_puts(f->report, "{\"column\": ");
            fm_str_json(f->report, c->name.ptr, c->name.len);
            fm_str_printf(f->report, ", \"kind\": \"%s\", \"at\": %zu, \"length\": %zu}", kind, at, len);
        }
    }
    f->n += found->n;
    return FM_OK;
}

/* Text, or a number: a telephone number may have been read as one. */
static fm_status plain_cell(fm_step_ctx *x, fm_cell *c, finds *f) {
    const privacy_options *o = x->step->opt;
    const state *s = x->step->state;
    fm_pii_spans *found = x->local;
    FM_TRY(fm_pii_find(found, c->text, s->kinds, s->names, false));
    if (found->n == 0) {
        return FM_OK;
    }
    FM_TRY(note(x, f, c, c->text, found));
    if (o->action == ACT_MASK || o->action == ACT_PSEUDONYM) {
        fm_str_clear(&x->tmp[0]);
        FM_TRY(replace(x, &x->tmp[0], c->text, found));
        return fm_cell_set_text(x->arena, c, x->tmp[0].data, x->tmp[0].len);
    }
    return FM_OK;
}

/* Behind the JSON string that begins at p[at], a quote. */
static size_t string_end(fm_sv v, size_t at) {
    for (size_t i = at + 1; i < v.len; i++) {
        if (v.ptr[i] == '\\') {
            i++;
        } else if (v.ptr[i] == '"') {
            return i + 1;
        }
    }
    return v.len;
}

/* Strings and numbers inside of arrays and objects; names of members stay. */
static fm_status nested_cell(fm_step_ctx *x, fm_cell *c, finds *f) {
    const privacy_options *o = x->step->opt;
    const state *s = x->step->state;
    fm_pii_spans *found = x->local;
    fm_str *out = &x->tmp[0];
    size_t before = f->n;
    fm_str_clear(out);
    for (size_t i = 0; i < c->text.len;) {
        char b = c->text.ptr[i];
        bool string = b == '"', number = (b >= '0' && b <= '9') || b == '-';
        if (!string && !number) {
            fm_str_putc(out, b);
            i++;
            continue;
        }
        size_t from = i + string, end = string ? string_end(c->text, i) : i + 1;
        while (number && end < c->text.len && strchr("0123456789+-.eE", c->text.ptr[end])) {
            end++;
        }
        i = end;
        fm_sv v = {c->text.ptr + from, end - from - string};
        size_t next = end;
        while (next < c->text.len && (unsigned char)c->text.ptr[next] <= ' ') {
            next++;
        }
        bool key = string && next < c->text.len && c->text.ptr[next] == ':';
        found->n = 0;
        if (!key) {
            FM_TRY(fm_pii_find(found, v, s->kinds, s->names, string));
            FM_TRY(note(x, f, c, v, found));
        }
        bool quoted = string || found->n;
        fm_str_puts(out, quoted ? "\"" : "");
        FM_TRY(replace(x, out, v, found));
        fm_str_puts(out, quoted ? "\"" : "");
    }
    FM_TRY(fm_str_check(out));
    if (f->n > before && (o->action == ACT_MASK || o->action == ACT_PSEUDONYM)) {
        c->raw = (fm_sv){NULL, 0};
        return fm_bump_sv(x->arena, &c->text, out->data, out->len);
    }
    return FM_OK;
}

static fm_status look_into(fm_step_ctx *x, fm_cell *c, finds *f) {
    switch (c->kind) {
    case FM_CELL_TEXT:
    case FM_CELL_INT:
        return plain_cell(x, c, f);
    case FM_CELL_JSON:
        return nested_cell(x, c, f);
    default:
        return FM_OK;
    }
}

static fm_status privacy_row(fm_step_ctx *x, fm_rec *r) {
    const privacy_options *o = x->step->opt;
    const state *s = x->step->state;
    fm_str report = {0};
    finds f = {.report = o->action == ACT_REPORT ? &report : NULL};
    fm_status st = FM_OK;
    for (size_t i = 0; i < r->n && s->all && st == FM_OK; i++) {
        st = look_into(x, &r->cell[i], &f);
    }
    for (size_t i = 0; i < o->fields.n && !s->all && st == FM_OK; i++) {
        fm_cell *c = fm_rec_get(r, o->fields.item[i]);
        if (!c) {
            fm_str_free(&report);
            return fm_step_drop(x, r, "missing column", o->fields.item[i]);
        }
        st = look_into(x, c, &f);
    }
    if (st == FM_OK && f.n) {
        st = fm_step_count(x, "rows with personal data", 1);
    }
    if (st == FM_OK && o->action == ACT_REPORT) {
        fm_str list = {0};
        fm_str_printf(&list, "[%s]", report.data ? report.data : "");
        st = fm_str_check(&report);
        st = st == FM_OK ? fm_str_check(&list) : st;
        st = st == FM_OK ? fm_rec_set_json(x->arena, r, o->into, list.data, list.len) : st;
        fm_str_free(&list);
    }
    fm_str_free(&report);
    FM_TRY(st);
    return f.n && o->action == ACT_DROP ? fm_step_drop(x, r, "personal data", f.first) : FM_OK;
}

const fm_step_def fm_step_privacy = {
    .name = "privacy",
    .help = "masks, replaces, reports or drops personal data",
    .about =
        "E-mail addresses, payment cards (Luhn), telephone numbers, Chinese identity numbers (checksum), IBANs, IP\n"
        "addresses, US social security numbers, passwords in URLs, and names of a list. A pseudonym is the same\n"
        "for a value everywhere and says nothing without the key.",
    .examples = "fathom data privacy -i chats.jsonl -o masked.jsonl\n"
                "fathom data privacy -i chats.jsonl -o same.jsonl --action pseudonym --key-file KEY --names staff.txt\n"
                "fathom data privacy -i chats.jsonl -o places.jsonl --action report --kinds email,card",
    .options = rows,
    .options_bytes = sizeof(privacy_options),
    .open = privacy_open,
    .close = privacy_close,
    .row = privacy_row,
    .local_bytes = sizeof(fm_pii_spans),
    .local_free = local_free,
};
