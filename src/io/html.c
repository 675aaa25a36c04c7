/* The main text of a page: see html.h. */
#include "io/html.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/encoding.h"
#include "io/html_blocks.h"

void fm_html_page_free(fm_html_page *page) {
    fm_str_free(&page->title);
    fm_str_free(&page->text);
    fm_str_free(&page->language);
}

/* ---- encoding --------------------------------------------------------------------------------- */

/* The label behind "charset=" in the page's first bytes (a meta element or an XML declaration); false when none. */
static bool own_label(char *label, size_t cap, const char *p, size_t n) {
    n = FM_MIN(n, (size_t)2048);
    for (size_t i = 0; i + 8 < n; i++) {
        size_t skip = strncasecmp(p + i, "charset", 7) == 0 ? 7 : strncmp(p + i, "encoding", 8) == 0 ? 8 : 0;
        if (!skip) {
            continue;
        }
        size_t at = i + skip;
        while (at < n && (p[at] == ' ' || p[at] == '=' || p[at] == '"' || p[at] == '\'')) {
            at++;
        }
        size_t k = 0;
        while (at + k < n && k + 1 < cap && !strchr(" \"'>;/?\t\r\n", p[at + k]) && p[at + k]) {
            label[k] = p[at + k];
            k++;
        }
        label[k] = '\0';
        return k > 0;
    }
    return false;
}

/* Labels nobody knows are as if there were none. */
static fm_status find(const char **name, const char *label) {
    fm_status s = fm_encoding_find(name, label, true);
    if (s == FM_ERR_CONFIG) {
        fm_error_clear();
        return FM_OK;
    }
    return s;
}

fm_status fm_html_utf8(fm_str *out, const char *p, size_t n, const char *label) {
    char own[48];
    const char *name = NULL;
    fm_recoder *r = NULL;
    fm_str text = {0};
    fm_str_clear(out);
    bool marked = n >= 2 && (memcmp(p, "\xFF\xFE", 2) == 0 || memcmp(p, "\xFE\xFF", 2) == 0);
    if (!marked && label) {
        FM_TRY(find(&name, label));
    }
    if (!marked && !name && own_label(own, sizeof own, p, n)) {
        FM_TRY(find(&name, own));
        if (name && strncmp(name, "UTF-16", 6) == 0) { /* what could be read as ASCII is not UTF-16 */
            name = FM_UTF8;
        }
    }
    /* A page that says UTF-8 and is not is as common as one that says nothing. */
    if (!name || (strcmp(name, FM_UTF8) == 0 && !fm_utf8_valid(p, n))) {
        FM_TRY(fm_encoding_detect(&name, p, n, true));
    }
    fm_status s = FM_OK;
    if (strcmp(name, FM_UTF8) != 0) {
        s = fm_recoder_new(&r, name);
        if (s == FM_OK) {
            s = fm_recoder_feed(r, &text, p, n, true);
        }
        p = text.data ? text.data : "";
        n = text.len;
    }
    if (s == FM_OK && n >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0) {
        p += 3;
        n -= 3;
    }
    for (const char *end = p + n; s == FM_OK && p < end;) {
        uint32_t c;
        const char *run = p;
        int k = 1;
        while (p < end && *p && (k = (unsigned char)*p < 0x80 ? 1 : fm_utf8_decode(&c, p, end)) > 0) {
            p += k;
        }
        fm_str_append(out, run, (size_t)(p - run));
        if (p < end) {
            fm_str_puts(out, *p ? "\xEF\xBF\xBD" : " "); /* parsers take a NUL for the end */
            p++;
        }
    }
    fm_str_free(&text);
    fm_recoder_free(r);
    return s == FM_OK ? fm_str_check(out) : s;
}

/* ---- which blocks are content ----------------------------------------------------------------- */

typedef enum rank { BAD, SHORT, NEAR, GOOD } rank;

#define SHORT_CHARS 40  /* of letters without blanks: some eight words */
#define GOOD_CHARS  110 /* two dozen words */

static rank judge(const fm_html_block *b) {
    double links = b->chars ? (double)b->in_links / (double)b->chars : 0;
    if (b->boilerplate || links > 0.5) {
        return BAD;
    }
    if (b->kind == HTML_PRE) {
        return NEAR;
    }
    if (b->chars < SHORT_CHARS) {
        return b->in_links ? BAD : SHORT;
    }
    if (links > 0.33) {
        return BAD;
    }
    if (b->chars >= GOOD_CHARS) {
        return b->marks ? GOOD : NEAR;
    }
    return b->marks ? NEAR : SHORT;
}

/* The nearest block that is GOOD or BAD, beginning at i in steps of `step`; NEAR ones count where `near` says so. */
static rank neighbour(const rank *r, size_t n, size_t i, int step, bool near) {
    for (; i < n; i = step < 0 && i == 0 ? n : i + (size_t)step) {
        if (r[i] == GOOD || r[i] == BAD || (near && r[i] == NEAR)) {
            return r[i];
        }
    }
    return BAD;
}

/* By length and links first, then by the neighbours. first [n]: not changed while second is filled. */
static void choose(fm_html_blocks *b, rank *first, rank *second) {
    for (size_t i = 0; i < b->n; i++) {
        first[i] = judge(&b->item[i]);
    }
    for (size_t i = 0; i < b->n; i++) {
        second[i] = first[i];
        if (first[i] == SHORT || first[i] == NEAR) {
            rank before = i ? neighbour(first, b->n, i - 1, -1, first[i] == SHORT) : BAD;
            rank behind = neighbour(first, b->n, i + 1, 1, first[i] == SHORT);
            bool one = before >= NEAR || behind >= NEAR, both = before >= NEAR && behind >= NEAR;
            second[i] = (first[i] == NEAR ? one : both) ? GOOD : BAD;
        }
    }
    /* A heading goes with what stands under it. */
    for (size_t i = b->n; i > 0; i--) {
        size_t k = i - 1;
        if (b->item[k].kind == HTML_HEADING && !b->item[k].boilerplate && b->item[k].in_links * 2 <= b->item[k].chars) {
            for (size_t next = i; next < b->n && next < i + 2; next++) {
                if (second[next] == GOOD) {
                    second[k] = GOOD;
                }
            }
        }
    }
    /* What stands in one division with content is content, short lines and tables too. */
    const void *good = NULL;
    for (size_t pass = 0; pass < 2; pass++) {
        for (size_t k = 0; k < b->n; k++) {
            size_t i = pass ? b->n - 1 - k : k;
            good = first[i] == GOOD ? b->item[i].group : good;
            if (good && b->item[i].group == good && first[i] != BAD) {
                second[i] = GOOD;
            }
        }
        good = NULL;
    }
    for (size_t i = 0; i < b->n; i++) {
        b->item[i].keep = second[i] == GOOD;
    }
}

static size_t kept(const fm_html_blocks *b) {
    size_t sum = 0;
    for (size_t i = 0; i < b->n; i++) {
        sum += b->item[i].keep ? b->item[i].chars : 0;
    }
    return sum;
}

static fm_status choose_main(fm_html_blocks *b) {
    size_t in_main = 0, content = 0;
    for (size_t i = 0; i < b->n; i++) {
        fm_html_block *k = &b->item[i];
        content += k->boilerplate ? 0 : k->chars;
        in_main += k->in_main && !k->boilerplate ? k->chars : 0;
    }
    if (in_main >= 200 && in_main * 4 > content) { /* the page itself says where its content is */
        for (size_t i = 0; i < b->n; i++) {
            fm_html_block *k = &b->item[i];
            bool links = k->in_links * 5 > k->chars * 4;
            k->keep = k->in_main && !k->boilerplate && !(links && k->chars < GOOD_CHARS && k->marks == 0);
        }
        return FM_OK;
    }
    rank *r = fm_calloc(2 * b->n + 1, sizeof *r);
    if (!r) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot judge %zu blocks of a page", b->n);
    }
    choose(b, r, r + b->n);
    fm_free(r);
    size_t n = kept(b);
    if (n < 200 && n * 2 < content) { /* a short page: all that is not links */
        for (size_t i = 0; i < b->n; i++) {
            fm_html_block *k = &b->item[i];
            k->keep = !k->boilerplate && k->in_links * 2 <= k->chars;
        }
    }
    return FM_OK;
}

static void put_blocks(fm_str *out, const fm_html_blocks *b) {
    const fm_html_block *last = NULL;
    for (size_t i = 0; i < b->n; i++) {
        const fm_html_block *k = &b->item[i];
        if (!k->keep) {
            continue;
        }
        bool list = last && last == k - 1 && last->kind == k->kind && (k->kind == HTML_ITEM || k->kind == HTML_ROW);
        fm_str_puts(out, !last ? "" : list ? "\n" : "\n\n");
        fm_str_puts(out, k->kind == HTML_ITEM ? "- " : "");
        fm_str_append(out, b->text.data + k->at, k->len);
        last = k;
    }
}

fm_status fm_html_text(fm_html_page *out, const char *p, size_t n, const fm_html_options *o) {
    fm_str utf8 = {0};
    fm_html_blocks b = {0};
    memset(out, 0, sizeof *out);
    fm_status s = fm_html_utf8(&utf8, p, n, o->encoding);
    if (s == FM_OK && utf8.len) {
        s = fm_html_cut(&b, out, utf8.data, utf8.len);
    }
    if (s == FM_OK && !o->all) {
        s = choose_main(&b);
    }
    for (size_t i = 0; o->all && i < b.n; i++) {
        b.item[i].keep = true;
    }
    if (s == FM_OK) {
        put_blocks(&out->text, &b);
        s = fm_str_check(&out->text);
    }
    fm_str_free(&utf8);
    fm_html_blocks_free(&b);
    return s;
}
