/* Patterns of Split and Replace: a fixed text or a regular expression. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/pipe.h"
#include "text/unicode.h"

fm_status fm_pattern_load(fm_pattern *out, const fm_json *o, const char *what) {
    size_t n;
    const char *s = fm_json_str(fm_json_get(o, "String"), &n);
    if (!s) {
        s = fm_json_str(o, &n);
    }
    if (s) {
        fm_str_append(&out->literal, s, n);
        return fm_text_end(&out->literal);
    }
    s = fm_json_str(fm_json_get(o, "Regex"), &n);
    if (!s) {
        FM_FAIL(FM_ERR_FORMAT, "%s: a pattern is neither {\"String\": ...} nor {\"Regex\": ...}", what);
    }
    return fm_regex_compile(&out->regex, s, n, what);
}

void fm_pattern_free(fm_pattern *p) {
    fm_str_free(&p->literal);
    fm_regex_free(p->regex);
    *p = (fm_pattern){0};
}

fm_status fm_spans_put(fm_spans *s, size_t off, size_t len, bool match) {
    if (s->n == s->cap) {
        void *p = s->item;
        FM_TRY(fm_grow(&p, &s->cap, s->n + 1, sizeof(*s->item)));
        s->item = p;
    }
    s->item[s->n++] = (fm_span){off, len, match};
    return FM_OK;
}

/* Finds the next match; an empty one moves the search on by a character. */
static fm_status next_match(const fm_pattern *p, fm_regex_search *search, const uint8_t *text, size_t n, size_t from,
                            bool *found, size_t *start, size_t *stop) {
    if (p->regex) {
        return fm_regex_next(search, found, start, stop, text, n, from);
    }
    const uint8_t *at =
        p->literal.len && from < n ? memmem(text + from, n - from, p->literal.data, p->literal.len) : NULL;
    *found = at != NULL;
    if (at) {
        *start = (size_t)(at - text);
        *stop = *start + p->literal.len;
    }
    return FM_OK;
}

fm_status fm_pattern_spans(fm_spans *out, const fm_pattern *p, const uint8_t *text, size_t n) {
    fm_regex_search search = {p->regex, NULL};
    size_t from = 0, done = 0, last = SIZE_MAX, start, stop;
    bool found = true;
    fm_status s = FM_OK;
    while (s == FM_OK && from <= n) {
        s = next_match(p, &search, text, n, from, &found, &start, &stop);
        if (s != FM_OK || !found) {
            break;
        }
        from = stop;
        if (stop > start || stop != last) { /* no empty match just behind another */
            if (start > done) {
                FM_TRY_GOTO(s, end, fm_spans_put(out, done, start - done, false));
            }
            FM_TRY_GOTO(s, end, fm_spans_put(out, start, stop - start, true));
            done = last = stop;
        }
        if (stop == start) {
            uint32_t cp;
            from += stop < n ? fm_uni_next(&cp, text + stop, text + n) : 1;
        }
    }
    if (s == FM_OK && done < n) {
        s = fm_spans_put(out, done, n - done, false);
    }
end:
    fm_regex_search_end(&search);
    return s;
}

fm_status fm_pattern_replace(fm_str *out, const fm_pattern *p, const uint8_t *text, size_t n, const fm_str *with) {
    fm_spans spans = {0};
    fm_status s = FM_OK;
    if (!p->regex) { /* no list of places */
        size_t done = 0, start = 0, stop = 0;
        bool found = true;
        while (next_match(p, NULL, text, n, done, &found, &start, &stop) == FM_OK && found) {
            fm_str_append(out, (const char *)text + done, start - done);
            fm_str_append(out, with->data, with->len);
            done = stop;
        }
        fm_str_append(out, (const char *)text + done, n - done);
        return fm_text_end(out);
    }
    s = fm_pattern_spans(&spans, p, text, n);
    for (size_t i = 0; s == FM_OK && i < spans.n; i++) {
        const fm_span *a = &spans.item[i];
        if (a->match) {
            fm_str_append(out, with->data, with->len);
        } else {
            fm_str_append(out, (const char *)text + a->off, a->len);
        }
    }
    fm_free(spans.item);
    return s == FM_OK ? fm_text_end(out) : s;
}
