/* HTML to blocks: a walk over libxml2's tree. See html_blocks.h. */
#include "io/html_blocks.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/html_tree.h"

void fm_html_blocks_free(fm_html_blocks *b) {
    fm_str_free(&b->text);
    fm_free(b->item);
    memset(b, 0, sizeof *b);
}

#ifdef FM_HAVE_XML2

/* What is known of an element by its name. */
enum {
    BLOCK = 1,   /* begins and ends a block */
    SKIP = 2,    /* never text */
    NOISE = 4,   /* not content on most pages */
    HEADING = 8, /* h1 .. h6 */
    MAIN = 16,   /* article, main */
    ANY = 32,    /* a class may say that it is not content */
};

static const struct {
    const char *name;
    int flags;
} elements[] = {
    {"a", 0},
    {"address", BLOCK},
    {"article", BLOCK | MAIN},
    {"aside", BLOCK | NOISE},
    {"audio", SKIP},
    {"blockquote", BLOCK},
    {"body", BLOCK},
    {"button", SKIP},
    {"canvas", SKIP},
    {"caption", BLOCK},
    {"center", BLOCK},
    {"datalist", SKIP},
    {"dd", BLOCK},
    {"details", BLOCK},
    {"dialog", BLOCK | NOISE},
    {"div", BLOCK | ANY},
    {"dl", BLOCK | ANY},
    {"dt", BLOCK},
    {"embed", SKIP},
    {"fieldset", BLOCK},
    {"figcaption", BLOCK},
    {"figure", BLOCK},
    {"footer", BLOCK | NOISE},
    {"form", BLOCK},
    {"frame", SKIP},
    {"h1", BLOCK | HEADING},
    {"h2", BLOCK | HEADING},
    {"h3", BLOCK | HEADING},
    {"h4", BLOCK | HEADING},
    {"h5", BLOCK | HEADING},
    {"h6", BLOCK | HEADING},
    {"head", SKIP},
    {"header", BLOCK | NOISE},
    {"hr", BLOCK},
    {"iframe", SKIP},
    {"input", SKIP},
    {"legend", BLOCK},
    {"li", BLOCK | ANY},
    {"main", BLOCK | MAIN},
    {"menu", BLOCK | NOISE},
    {"nav", BLOCK | NOISE},
    {"noframes", SKIP},
    {"noscript", SKIP},
    {"object", SKIP},
    {"ol", BLOCK | ANY},
    {"optgroup", SKIP},
    {"option", SKIP},
    {"p", BLOCK | ANY},
    {"pre", BLOCK},
    {"script", SKIP},
    {"section", BLOCK | ANY},
    {"select", SKIP},
    {"span", ANY},
    {"style", SKIP},
    {"summary", BLOCK},
    {"svg", SKIP},
    {"table", BLOCK | ANY},
    {"tbody", BLOCK},
    {"td", ANY},
    {"template", SKIP},
    {"textarea", SKIP},
    {"tfoot", BLOCK},
    {"th", 0},
    {"thead", BLOCK},
    {"title", SKIP},
    {"tr", BLOCK},
    {"ul", BLOCK | ANY},
    {"video", SKIP},
};

static int flags_of(const char *name) {
    size_t lo = 0, hi = FM_ARRAY_LEN(elements);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int c = strcmp(name, elements[mid].name);
        if (c == 0) {
            return elements[mid].flags;
        }
        if (c < 0) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return 0;
}

const char *fm_html_attribute(const xmlNode *e, const char *name) {
    for (const xmlAttr *a = e->properties; a; a = a->next) {
        if (strcmp((const char *)a->name, name) == 0) {
            return a->children && a->children->content ? (const char *)a->children->content : "";
        }
    }
    return NULL;
}

/* Words of a class or id that say "not content"; whole words between characters that are neither letter nor digit. */
static bool names_noise(const char *text) {
    static const char *const words[] = {
        "ad",         "ads",     "advert",   "advertisement", "banner",  "breadcrumb",      "breadcrumbs", "comment",
        "comments",   "consent", "cookie",   "cookies",       "disqus",  "footer",          "login",       "masthead",
        "menu",       "menubar", "modal",    "nav",           "navbar",  "navigation",      "newsletter",  "pager",
        "pagination", "popup",   "promo",    "recommended",   "related", "recommendations", "share",       "sharing",
        "sidebar",    "sidenav", "signup",   "skiplink",      "social",  "sponsor",         "sponsored",   "submenu",
        "subscribe",  "toolbar", "topnav",   "widget",        "tooltip", "copyright",       "dropdown",    "sitemap",
        "taglist",    "tags",    "trending", "mastfoot",
    };
    while (text && *text) {
        while (*text && !isalnum((unsigned char)*text)) {
            text++;
        }
        size_t n = 0;
        while (isalnum((unsigned char)text[n])) {
            n++;
        }
        for (size_t i = 0; n && i < FM_ARRAY_LEN(words); i++) {
            if (strlen(words[i]) == n && strncasecmp(text, words[i], n) == 0) {
                return true;
            }
        }
        text += n;
    }
    return false;
}

static bool has(const char *style, const char *key, const char *value) {
    const char *p = style ? strcasestr(style, key) : NULL;
    if (!p) {
        return false;
    }
    p += strlen(key);
    p += strspn(p, " \t:");
    return strncasecmp(p, value, strlen(value)) == 0;
}

static bool is_hidden(const xmlNode *e) {
    const char *hidden = fm_html_attribute(e, "aria-hidden"), *style = fm_html_attribute(e, "style");
    return fm_html_attribute(e, "hidden") || (hidden && strcasecmp(hidden, "true") == 0) ||
           has(style, "display", "none") || has(style, "visibility", "hidden");
}

static bool role_is(const xmlNode *e, const char *list) {
    const char *role = fm_html_attribute(e, "role");
    size_t n = role ? strlen(role) : 0;
    for (const char *p = list; n && *p;) {
        size_t k = strcspn(p, "|");
        if (k == n && strncasecmp(p, role, n) == 0) {
            return true;
        }
        p += k + (p[k] == '|');
    }
    return false;
}

/* The next node in document order behind `at` and all that is in it; NULL at the end of `top`. `leave` is called for
 * each element left. */
xmlNode *fm_html_after(xmlNode *at, const xmlNode *top) {
    while (at != top && !at->next) {
        at = at->parent;
        if (!at) {
            return NULL;
        }
    }
    return at == top ? NULL : at->next;
}

/* Characters of text below each element that is not skipped, in its _private; returns those of `top`. Leaves are passed
 * in order and added to all elements above them by a running sum: an element's is the sum at its end minus that at its
 * beginning. */
static size_t measure(xmlNode *top) {
    uintptr_t sum = 0;
    xmlNode *n = top;
    while (n) {
        bool skip = n->type != XML_ELEMENT_NODE || (flags_of((const char *)n->name) & SKIP);
        if (n->type == XML_TEXT_NODE && n->content) {
            for (const xmlChar *c = n->content; *c; c++) {
                sum += *c > ' ';
            }
        }
        n->_private = (void *)sum;
        if (!skip && n->children) {
            n = n->children;
            continue;
        }
        for (;;) { /* ends of elements */
            n->_private = (void *)(sum - (uintptr_t)n->_private);
            if (n == top || n->next) {
                break;
            }
            n = n->parent;
        }
        n = n == top ? NULL : n->next;
    }
    return (size_t)(uintptr_t)top->_private;
}

static size_t measured(const xmlNode *n) {
    return (size_t)(uintptr_t)n->_private;
}

/* ---- the walk --------------------------------------------------------------------------------- */

typedef struct walk {
    fm_html_blocks *out;
    const xmlNode *top, *main;
    size_t total;
    fm_html_block cur; /* the block being made */
    int links, noise, pre, in_main, rows, items;
    int heading;
    bool space; /* a blank is due before the next character */
    bool in_cell;
    fm_status failed;
} walk;

static void end_block(walk *w) {
    fm_html_blocks *b = w->out;
    w->space = false;
    w->cur.len = b->text.len - w->cur.at;
    while (w->cur.len && strchr(" \n|", b->text.data[w->cur.at + w->cur.len - 1])) {
        w->cur.len--;
    }
    if (w->cur.chars == 0 || w->failed != FM_OK) {
        if (!b->text.failed) {
            b->text.len = w->cur.at;
        }
    } else {
        void *p = b->item;
        w->failed = fm_grow(&p, &b->cap, b->n + 1, sizeof *b->item);
        if (w->failed == FM_OK) {
            b->item = p;
            b->item[b->n++] = w->cur;
        }
    }
    w->cur = (fm_html_block){.at = b->text.len,
                             .boilerplate = w->noise > 0,
                             .in_main = w->in_main > 0,
                             .kind = w->pre       ? HTML_PRE
                                     : w->heading ? HTML_HEADING
                                     : w->rows    ? HTML_ROW
                                     : w->items   ? HTML_ITEM
                                                  : HTML_TEXT};
}

/* Characters of scripts that write without blanks between words. */
static bool is_dense(uint32_t c) {
    return (c >= 0x2E80 && c < 0xA4D0) || (c >= 0xAC00 && c < 0xD7A4) || (c >= 0xF900 && c < 0xFB00) ||
           (c >= 0xE00 && c < 0xE80) || (c >= 0x20000 && c < 0x32000);
}

static bool is_mark(uint32_t c) {
    static const uint32_t marks[] = {'.', '!', '?', ',', ';', 0x3002, 0xFF0C, 0xFF01, 0xFF1F, 0xFF1B, 0x3001};
    for (size_t i = 0; i < FM_ARRAY_LEN(marks); i++) {
        if (c == marks[i]) {
            return true;
        }
    }
    return false;
}

/* The div, section or other container around a node: up through paragraphs, lists and tables. */
static const xmlNode *container(const xmlNode *n) {
    static const char inner[] =
        "|a|b|blockquote|code|dd|dl|dt|em|figure|figcaption|font|h1|h2|h3|h4|h5|h6|i|li|ol|p|pre|"
        "small|span|strong|table|tbody|td|tfoot|th|thead|tr|tt|u|ul|";
    for (; n->parent && n->parent->type == XML_ELEMENT_NODE; n = n->parent) {
        char word[16];
        const char *name = (const char *)n->parent->name;
        if (snprintf(word, sizeof word, "|%s|", name) >= (int)sizeof word || !strstr(inner, word)) {
            return n->parent;
        }
    }
    return n;
}

static void add_text(walk *w, const xmlNode *node) {
    fm_str *t = &w->out->text;
    const char *p = (const char *)node->content;
    const char *end = p + strlen(p);
    while (p < end) {
        uint32_t c;
        int k = fm_utf8_decode(&c, p, end);
        if (k == 0) {
            p++;
            continue;
        }
        bool blank = c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == 0xA0;
        if (blank && w->pre) {
            if (c != '\r' && (w->cur.chars || c == '\n' || c == ' ' || c == '\t')) {
                fm_str_putc(t, c == 0xA0 ? ' ' : (char)c);
            }
        } else if (blank) {
            w->space = true;
        } else {
            if (w->space && t->len > w->cur.at && t->data[t->len - 1] != '\n' && t->data[t->len - 1] != ' ') {
                fm_str_putc(t, ' ');
            }
            w->space = false;
            fm_str_append(t, p, (size_t)k);
            if (w->cur.chars == 0) {
                w->cur.group = container(node);
            }
            size_t weight = is_dense(c) ? 3 : 1;
            w->cur.chars += weight;
            w->cur.in_links += w->links ? weight : 0;
            w->cur.marks += is_mark(c);
        }
        p += k;
    }
}

/* Where content is, by a page that says so: its article or main element. */
static const xmlNode *find_main(xmlNode *top, size_t total) {
    const xmlNode *best = NULL;
    for (xmlNode *n = top; n;) {
        bool element = n->type == XML_ELEMENT_NODE;
        int f = element ? flags_of((const char *)n->name) : 0;
        bool says = element && ((f & MAIN) || role_is(n, "main|article"));
        const char *prop = element ? fm_html_attribute(n, "itemprop") : NULL;
        says = says || (prop && strcmp(prop, "articleBody") == 0);
        /* Several articles are a list of teasers unless one is most of it; of nested ones the inner is taken. */
        if (says && !is_hidden(n) && measured(n) * 4 > total && (!best || measured(n) * 4 > measured(best) * 3)) {
            best = n;
        }
        n = n->children && element && !(f & SKIP) ? n->children : fm_html_after(n, top);
    }
    return best;
}

static bool is_noise(const walk *w, const xmlNode *e, int flags) {
    bool inside = w->in_main > 0;
    if (strcmp((const char *)e->name, "header") == 0 && (inside || e->parent == w->top)) {
        return inside ? false : measured(e) * 2 < w->total;
    }
    if (measured(e) * 5 > w->total * 2) { /* most of the page: whatever it is called */
        return false;
    }
    if ((flags & NOISE) || role_is(e, "navigation|banner|contentinfo|search|menu|menubar|complementary|dialog|alert")) {
        return true;
    }
    return (flags & ANY) && (names_noise(fm_html_attribute(e, "class")) || names_noise(fm_html_attribute(e, "id")));
}

static bool named(const xmlNode *e, const char *name) {
    return strcmp((const char *)e->name, name) == 0;
}

/* An element begins (by = 1) or ends (by = -1). */
static void mark(walk *w, const xmlNode *e, int flags, int by) {
    w->links += named(e, "a") ? by : 0;
    w->pre += named(e, "pre") ? by : 0;
    w->rows += named(e, "tr") ? by : 0;
    w->items += named(e, "li") || named(e, "dd") || named(e, "dt") ? by : 0;
    w->heading += flags & HEADING ? by : 0;
    w->in_main += e == w->main ? by : 0;
}

/* An element begins; true when what is in it is passed over. */
static bool enter(walk *w, xmlNode *e, int *pass) {
    int f = flags_of((const char *)e->name);
    *pass = 0;
    if ((f & SKIP) || is_hidden(e)) {
        return true;
    }
    if (named(e, "br")) {
        if (w->out->text.len > w->cur.at) {
            fm_str_putc(&w->out->text, '\n');
        }
        w->space = false;
        return false;
    }
    bool noise = e != w->main && is_noise(w, e, f);
    w->noise += noise;
    *pass = noise;
    mark(w, e, f, 1);
    if (f & BLOCK || noise || e == w->main) {
        end_block(w);
    }
    if ((named(e, "td") || named(e, "th")) && w->out->text.len > w->cur.at) {
        fm_str_puts(&w->out->text, " | ");
        w->space = false;
    }
    return false;
}

static void leave(walk *w, const xmlNode *e, bool noise) {
    int f = flags_of((const char *)e->name);
    if (named(e, "br")) {
        return;
    }
    if (f & BLOCK || noise || e == w->main) {
        end_block(w);
    }
    mark(w, e, f, -1);
    w->noise -= noise;
    w->cur.boilerplate = w->noise > 0;
    w->cur.in_main = w->in_main > 0;
    w->cur.kind = w->pre ? HTML_PRE : w->heading ? HTML_HEADING : w->rows ? HTML_ROW : w->items ? HTML_ITEM : HTML_TEXT;
}

/* Walks the tree without recursion: pages nest without bound. Whether an element counted as noise is kept in the lowest
 * bit of its _private, whose measure is no longer needed then. */
static fm_status walk_tree(walk *w, xmlNode *top) {
    for (xmlNode *n = top; n && w->failed == FM_OK;) {
        bool down = false;
        if (n->type == XML_TEXT_NODE && n->content) {
            add_text(w, n);
        } else if (n->type == XML_ELEMENT_NODE) {
            int noise;
            bool skip = enter(w, n, &noise);
            n->_private = (void *)(uintptr_t)(skip ? 2 : noise);
            down = !skip && n->children;
            if (!skip && !down) {
                leave(w, n, noise);
            }
        } else if (n->type == XML_ENTITY_REF_NODE && n->content) {
            add_text(w, n);
        }
        if (down) {
            n = n->children;
            continue;
        }
        while (n != top && !n->next) {
            n = n->parent;
            leave(w, n, (uintptr_t)n->_private & 1);
        }
        n = n == top ? NULL : n->next;
        if (w->out->text.failed) {
            return fm_str_check(&w->out->text);
        }
    }
    end_block(w);
    FM_TRY(w->failed);
    return fm_str_check(&w->out->text);
}

static void take_head(fm_html_page *page, xmlNode *root) {
    const char *lang = fm_html_attribute(root, "lang");
    if (lang) {
        fm_str_puts(&page->language, lang);
    }
    for (xmlNode *n = root; n; n = n->children && n->type == XML_ELEMENT_NODE ? n->children : fm_html_after(n, root)) {
        if (n->type == XML_ELEMENT_NODE && named(n, "title") && page->title.len == 0) {
            for (const xmlNode *t = n->children; t; t = t->next) {
                for (const char *p = (const char *)t->content; p && *p; p++) {
                    bool blank = *p == ' ' || *p == '\n' || *p == '\r' || *p == '\t';
                    if (!blank || (page->title.len && page->title.data[page->title.len - 1] != ' ')) {
                        fm_str_putc(&page->title, blank ? ' ' : *p);
                    }
                }
            }
            while (page->title.len && page->title.data[page->title.len - 1] == ' ') {
                page->title.data[--page->title.len] = '\0';
            }
            return;
        }
    }
}

fm_status fm_html_parse(xmlDoc **doc, const char *p, size_t n) {
    *doc = NULL;
    FM_TRY(fm_xml_open());
    if (n > INT_MAX) {
        FM_FAIL(FM_ERR_DATA, "a page of %zu bytes is too long", n);
    }
    htmlParserCtxtPtr ctx = fm_xml.htmlNewParserCtxt();
    if (!ctx) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate an HTML parser");
    }
    *doc = fm_xml.htmlCtxtReadMemory(ctx, p, (int)n, NULL, "UTF-8",
                                     HTML_PARSE_RECOVER | HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING | HTML_PARSE_NONET |
                                         HTML_PARSE_COMPACT | HTML_PARSE_IGNORE_ENC);
    fm_xml.htmlFreeParserCtxt(ctx);
    return FM_OK;
}

fm_status fm_html_cut(fm_html_blocks *out, fm_html_page *page, const char *p, size_t n) {
    xmlDoc *doc;
    FM_TRY(fm_html_parse(&doc, p, n));
    xmlNode *root = doc ? doc->children : NULL;
    while (root && root->type != XML_ELEMENT_NODE) {
        root = root->next;
    }
    fm_status s = FM_OK;
    if (root) {
        take_head(page, root);
        walk w = {.out = out, .top = root, .total = measure(root)};
        w.main = find_main(root, w.total);
        s = walk_tree(&w, root);
    }
    if (doc) {
        fm_xml.xmlFreeDoc(doc);
    }
    FM_TRY(s);
    FM_TRY(fm_str_check(&page->language));
    return fm_str_check(&page->title);
}

#else
fm_status fm_html_cut(fm_html_blocks *out, fm_html_page *page, const char *p, size_t n) {
    FM_UNUSED(out);
    FM_UNUSED(page);
    FM_UNUSED(p);
    FM_UNUSED(n);
    return fm_xml_open();
}
#endif
