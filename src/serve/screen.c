/* Texts through the content filter. */
#include "serve/screen.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "serve/screen_rule.h"

#define CONTEXT  256 /* bytes of what was sent that patterns may look back at */
#define SENTENCE 400 /* bytes after which a classifier judges a text that does not come to an end */

fm_status fm_screen_parse(fm_screen **out, const char *text, size_t n, const char *path) {
    fm_yaml *y = NULL;
    *out = NULL;
    FM_TRY(fm_yaml_parse(&y, text, n, path));
    const fm_yaml *rules = y && y->kind == FM_YAML_MAP ? fm_yaml_get(y, "rules") : NULL;
    fm_status st = FM_OK;
    fm_screen *g = NULL;
    if (!rules || rules->kind != FM_YAML_LIST || rules->n == 0) {
        st = fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s: expected rules: and a list of them", path);
    } else {
        g = fm_calloc(1, sizeof *g);
        fm_screen_rule *list = fm_calloc(rules->n, sizeof *list);
        if (!g || !list) {
            fm_free(g);
            fm_free(list);
            g = NULL;
            st = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for %zu rules", rules->n);
        } else {
            g->rule = list;
        }
    }
    const char *slash = strrchr(path, '/');
    char *folder = fm_strndup(path, slash ? (size_t)(slash - path) + (slash == path) : 0);
    if (st == FM_OK && !folder) {
        st = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for a path");
    }
    for (size_t i = 0; st == FM_OK && g && i < rules->n; i++) {
        g->n++;
        st = fm_screen_rule_init(&g->rule[i], rules->child[i], folder, path);
    }
    fm_free(folder);
    fm_yaml_free(y);
    if (st != FM_OK) {
        fm_screen_free(g);
        return st;
    }
    *out = g;
    return FM_OK;
}

fm_status fm_screen_load(fm_screen **out, const char *path) {
    char *text = NULL;
    size_t n = 0;
    *out = NULL;
    FM_TRY(fm_file_read(&text, &n, path, (size_t)16 << 20));
    fm_status st = fm_screen_parse(out, text, n, path);
    fm_free(text);
    return st;
}

void fm_screen_free(fm_screen *g) {
    if (!g) {
        return;
    }
    for (int i = 0; i < g->n; i++) {
        fm_screen_rule_free(&g->rule[i]);
    }
    fm_free(g->rule);
    fm_free(g);
}

static bool applies(const fm_screen_rule *r, bool output) {
    return output ? r->output : r->input;
}

bool fm_screen_watches(const fm_screen *g, bool output) {
    bool any = false;
    for (int i = 0; g && i < g->n; i++) {
        any = any || applies(&g->rule[i], output);
    }
    return any;
}

bool fm_screen_computes(const fm_screen *g, bool output) {
    bool any = false;
    for (int i = 0; g && i < g->n; i++) {
        any = any || (g->rule[i].model && applies(&g->rule[i], output));
    }
    return any;
}

void fm_screen_text_free(fm_screen_text *t) {
    fm_str_free(&t->buf);
}

/* ---- one text -------------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b) {
    const fm_screen_span *x = a, *y = b;
    return x->at != y->at ? (x->at > y->at) - (x->at < y->at) : (x->end < y->end) - (x->end > y->end);
}

static bool ends_sentence(char c) {
    return c == '.' || c == '!' || c == '?' || c == '\n';
}

/* Where the text that a classifier may judge now ends: a whole sentence, or much text. */
static size_t judgeable(const fm_screen_text *t, bool last) {
    size_t n = t->buf.len;
    const char *text = t->buf.data;
    if (last || n - t->judged >= SENTENCE) {
        return n;
    }
    while (
        n > t->judged && !ends_sentence(text[n - 1]) &&
        !(n >= 3 && (memcmp(text + n - 3, "\xe3\x80\x82", 3) == 0 || memcmp(text + n - 3, "\xef\xbc\x81", 3) == 0))) {
        n--;
    }
    return n;
}

/* Classifiers see each sentence with what stands before it in the buffer; one they find is the span. */
static fm_status judge(fm_screen_text *t, fm_screen_spans *spans, bool last, size_t *hold) {
    size_t end = judgeable(t, last);
    for (int i = 0; i < t->g->n && end > t->judged; i++) {
        fm_screen_rule *r = &t->g->rule[i];
        bool found = false;
        if (r->model && applies(r, t->output)) {
            FM_TRY(fm_screen_rule_judge(&found, r, t->buf.data, end));
        }
        if (found) {
            FM_TRY(fm_grow((void **)&spans->item, &spans->cap, spans->n + 1, sizeof *spans->item));
            spans->item[spans->n++] = (fm_screen_span){.at = t->judged, .end = end, .rule = r};
        }
    }
    t->judged = end;
    *hold = FM_MIN(*hold, end);
    return FM_OK;
}

/* Sends buf[sent..to) with the finds in it masked, up to the first that blocks. */
static void release(fm_screen_text *t, const fm_screen_spans *spans, size_t to, fm_str *out) {
    for (size_t i = 0; i < spans->n && !t->blocked; i++) {
        fm_screen_rule *r = spans->item[i].rule;
        size_t at = FM_MAX(spans->item[i].at, t->sent), end = spans->item[i].end;
        if (end > to || end <= t->sent) {
            continue; /* not yet, or in what another find has covered */
        }
        atomic_fetch_add(&r->finds[t->output], 1);
        t->found = r->name;
        if (r->action == FM_SCREEN_FLAG) {
            continue;
        }
        fm_str_append(out, t->buf.data + t->sent, at - t->sent);
        t->sent = end;
        if (r->action == FM_SCREEN_BLOCK) {
            t->blocked = true;
        } else {
            fm_str_puts(out, r->mask);
        }
    }
    if (!t->blocked && to > t->sent) {
        fm_str_append(out, t->buf.data + t->sent, to - t->sent);
        t->sent = to;
    }
}

static size_t whole_characters(const char *text, size_t n) {
    while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80) {
        n--;
    }
    return n;
}

/* Flagged spans end up in order too; a find that reaches past `hold` moves it. */
static fm_status scan(fm_screen_text *t, fm_screen_spans *spans, bool last, size_t *hold) {
    size_t n = last ? t->buf.len : fm_utf8_complete_prefix(t->buf.data, t->buf.len);
    *hold = n;
    for (int i = 0; i < t->g->n; i++) {
        if (applies(&t->g->rule[i], t->output)) {
            FM_TRY(fm_screen_rule_find(spans, &t->g->rule[i], t->buf.data, n, last, hold));
        }
    }
    if (fm_screen_computes(t->g, t->output)) {
        FM_TRY(judge(t, spans, last, hold));
    }
    if (spans->n > 1) {
        qsort(spans->item, spans->n, sizeof *spans->item, by_place);
    }
    for (size_t i = spans->n; i-- > 0;) {
        if (spans->item[i].end > *hold && spans->item[i].at < *hold && !last) {
            *hold = spans->item[i].at;
        }
    }
    if (t->buf.len - *hold > FM_SCREEN_HOLD) {
        *hold = t->buf.len - FM_SCREEN_HOLD;
    }
    *hold = last ? t->buf.len : whole_characters(t->buf.data, *hold);
    return FM_OK;
}

fm_status fm_screen_push(fm_screen_text *t, const char *text, size_t n, bool last, fm_str *out) {
    fm_screen_spans spans = {0};
    size_t hold = 0;
    if (t->blocked) {
        return FM_OK;
    }
    fm_str_append(&t->buf, text, n);
    FM_TRY(fm_str_check(&t->buf));
    if (t->buf.len == t->sent) {
        return FM_OK;
    }
    FM_ASSERT(t->buf.data);
    fm_status st = scan(t, &spans, last, &hold);
    if (st == FM_OK) {
        release(t, &spans, FM_MAX(hold, t->sent), out);
        st = fm_str_check(out);
    }
    fm_free(spans.item);
    if (t->sent > (size_t)2 * CONTEXT + SENTENCE) { /* keep what may be looked back at */
        size_t drop = whole_characters(t->buf.data, t->sent - CONTEXT);
        drop = FM_MIN(drop, t->judged > 0 ? t->judged : drop);
        memmove(t->buf.data, t->buf.data + drop, t->buf.len - drop + 1);
        t->buf.len -= drop;
        t->sent -= drop;
        t->judged -= FM_MIN(drop, t->judged);
    }
    return st;
}

/* ---- requests -------------------------------------------------------------------------------- */

typedef struct rewriting {
    fm_screen *g;
    fm_str *out;
    bool content, blocked, masked, first;
    const char *found;
} rewriting;

static fm_status rewrite(rewriting *w, fm_json *v);

static fm_status rewrite_text(rewriting *w, const fm_json *v) {
    size_t n = 0;
    const char *text = fm_json_str(v, &n);
    fm_screen_text t = {.g = w->g};
    fm_str safe = {0};
    fm_status st = fm_screen_push(&t, text, n, true, &safe);
    w->blocked = w->blocked || t.blocked;
    w->masked = w->masked || safe.len != n || (n > 0 && memcmp(safe.data, text, n) != 0);
    w->found = t.found ? t.found : w->found;
    fm_str_json(w->out, safe.data ? safe.data : "", safe.len);
    fm_str_free(&safe);
    fm_screen_text_free(&t);
    return st;
}

/* Members whose strings are read by the model; the others are settings. */
static bool holds_content(const char *key) {
    static const char *const keys[] = {"messages",  "prompt", "input",        "text",    "text_pair", "query",
                                       "documents", "texts",  "instructions", "content", "suffix"};
    for (size_t i = 0; i < FM_ARRAY_LEN(keys); i++) {
        if (strcmp(key, keys[i]) == 0) {
            return true;
        }
    }
    return false;
}

static fm_status rewrite_member(void *arg, const char *key, fm_json *value) {
    rewriting *w = arg;
    bool content = w->content;
    fm_str_puts(w->out, w->first ? "" : ",");
    w->first = false;
    fm_str_json(w->out, key, strlen(key));
    fm_str_putc(w->out, ':');
    w->content = content ? strcmp(key, "role") != 0 && strcmp(key, "type") != 0 : holds_content(key);
    fm_status st = rewrite(w, value);
    w->content = content;
    return st;
}

static fm_status rewrite(rewriting *w, fm_json *v) {
    if (fm_json_is_object(v)) {
        bool first = w->first;
        fm_str_putc(w->out, '{');
        w->first = true;
        FM_TRY(fm_json_each(v, rewrite_member, w));
        fm_str_putc(w->out, '}');
        w->first = first;
        return FM_OK;
    }
    if (w->content && fm_json_is_array(v)) {
        fm_str_putc(w->out, '[');
        for (size_t i = 0; i < fm_json_size(v); i++) {
            fm_str_puts(w->out, i ? "," : "");
            FM_TRY(rewrite(w, fm_json_at(v, i)));
        }
        fm_str_putc(w->out, ']');
        return FM_OK;
    }
    return w->content && fm_json_is_string(v) ? rewrite_text(w, v) : fm_json_dump(w->out, v, 0);
}

fm_status fm_screen_request(fm_screen *g, fm_json **body, bool *blocked, const char **found) {
    fm_str out = {0};
    rewriting w = {.g = g, .out = &out};
    fm_json *clean = NULL;
    fm_status st = rewrite(&w, *body);
    st = st == FM_OK ? fm_str_check(&out) : st;
    if (st == FM_OK && w.masked && !w.blocked) {
        st = fm_json_parse(&clean, out.data, out.len, "the request without what was masked");
    }
    fm_str_free(&out);
    if (clean) {
        fm_json_free(*body);
        *body = clean;
    }
    *blocked = w.blocked;
    *found = w.found;
    return st;
}

void fm_screen_metrics(fm_str *out, const fm_screen *g, const char *labels) {
    static const char *const actions[] = {"block", "mask", "flag"};
    if (!g) {
        return;
    }
    fm_str_puts(out, "# HELP fathom:filter_finds_total What the content filter found.\n"
                     "# TYPE fathom:filter_finds_total counter\n");
    for (int i = 0; i < g->n; i++) {
        const fm_screen_rule *r = &g->rule[i];
        for (int d = 0; d < 2; d++) {
            if (applies(r, d == 1)) {
                fm_str_printf(out, "fathom:filter_finds_total{%s,rule=", labels);
                fm_str_json(out, r->name, strlen(r->name));
                fm_str_printf(out, ",action=\"%s\",direction=\"%s\"} %llu\n", actions[r->action],
                              d ? "output" : "input", (unsigned long long)atomic_load(&r->finds[d]));
            }
        }
    }
}
