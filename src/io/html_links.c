/* See html_links.h. */
#include "io/html_links.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/html_tree.h"

void fm_html_links_free(fm_html_links *l) {
    fm_str_free(&l->link);
    fm_str_free(&l->base);
    fm_str_free(&l->canonical);
    fm_str_free(&l->licence);
    memset(l, 0, sizeof *l);
}

/* A word between blanks and commas. */
static bool has_word(const char *text, const char *word) {
    size_t n = strlen(word);
    while (text && *text) {
        text += strspn(text, " \t\r\n,");
        size_t k = strcspn(text, " \t\r\n,");
        if (k == n && strncasecmp(text, word, n) == 0) {
            return true;
        }
        text += k;
    }
    return false;
}

void fm_html_robots_words(const char *text, bool *noindex, bool *nofollow) {
    bool none = has_word(text, "none");
    *noindex = *noindex || none || has_word(text, "noindex");
    *nofollow = *nofollow || none || has_word(text, "nofollow");
}

#ifdef FM_HAVE_XML2

static void set_once(fm_str *s, const char *v) {
    if (v && *v && s->len == 0) {
        fm_str_puts(s, v);
    }
}

/* content="5; url=next.html" */
static const char *refresh_target(const char *content) {
    const char *p = content ? strcasestr(content, "url=") : NULL;
    if (!p) {
        return NULL;
    }
    p += 4;
    return p + (*p == '\'' || *p == '"');
}

static void add_link(fm_html_links *l, const char *href, size_t max) {
    if (!href || l->n >= max) {
        return;
    }
    size_t n = strlen(href);
    while (n && strchr("'\" ", href[n - 1])) {
        n--;
    }
    if (n && *href != '#') {
        fm_str_append(&l->link, href, n);
        fm_str_putc(&l->link, '\0');
        l->n++;
    }
}

static void take_meta(fm_html_links *l, const xmlNode *e, size_t max, const char *agent) {
    const char *name = fm_html_attribute(e, "name"), *content = fm_html_attribute(e, "content");
    const char *http = fm_html_attribute(e, "http-equiv");
    if (name && (strcasecmp(name, "robots") == 0 || strcasecmp(name, agent) == 0)) {
        fm_html_robots_words(content, &l->noindex, &l->nofollow);
    } else if (http && strcasecmp(http, "refresh") == 0) {
        add_link(l, refresh_target(content), max);
    }
}

static void take_element(fm_html_links *l, const xmlNode *e, size_t max, const char *agent) {
    const char *name = (const char *)e->name, *rel = fm_html_attribute(e, "rel"), *href = fm_html_attribute(e, "href");
    if (strcmp(name, "a") == 0 || strcmp(name, "area") == 0) {
        if (has_word(rel, "license")) {
            set_once(&l->licence, href);
        }
        if (!has_word(rel, "nofollow")) {
            add_link(l, href, max);
        }
    } else if (strcmp(name, "link") == 0) {
        if (has_word(rel, "canonical")) {
            set_once(&l->canonical, href);
        } else if (has_word(rel, "license")) {
            set_once(&l->licence, href);
        } else if (has_word(rel, "next") || has_word(rel, "prev")) {
            add_link(l, href, max);
        }
    } else if (strcmp(name, "frame") == 0) {
        add_link(l, fm_html_attribute(e, "src"), max);
    } else if (strcmp(name, "meta") == 0) {
        take_meta(l, e, max, agent);
    } else if (strcmp(name, "base") == 0) {
        set_once(&l->base, href);
    }
}

fm_status fm_html_links_read(fm_html_links *out, const char *p, size_t n, size_t max, const char *agent) {
    xmlDoc *doc;
    FM_TRY(fm_html_parse(&doc, p, n));
    xmlNode *root = doc ? doc->children : NULL;
    while (root && root->type != XML_ELEMENT_NODE) {
        root = root->next;
    }
    for (xmlNode *at = root; at;) {
        bool element = at->type == XML_ELEMENT_NODE;
        if (element) {
            take_element(out, at, max, agent);
        }
        at = element && at->children ? at->children : fm_html_after(at, root);
    }
    if (doc) {
        fm_xml.xmlFreeDoc(doc);
    }
    FM_TRY(fm_str_check(&out->link));
    FM_TRY(fm_str_check(&out->base));
    FM_TRY(fm_str_check(&out->canonical));
    return fm_str_check(&out->licence);
}

#else
fm_status fm_html_links_read(fm_html_links *out, const char *p, size_t n, size_t max, const char *agent) {
    FM_UNUSED(out);
    FM_UNUSED(p);
    FM_UNUSED(n);
    FM_UNUSED(max);
    FM_UNUSED(agent);
    return fm_xml_open();
}
#endif
