/* Which addresses are taken up: see crawl_run.h. */
#include <fnmatch.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "data/crawl_run.h"
#include "net/idn.h"

#define MOST_SITEMAPS 1000 /* of one host */

fm_sv crawl_bare_host(fm_sv h) {
    return h.len > 4 && strncasecmp(h.ptr, "www.", 4) == 0 ? (fm_sv){h.ptr + 4, h.len - 4} : h;
}

/* The name itself or one below it. */
static bool below(fm_sv h, const char *name, bool exact) {
    size_t n = strlen(name);
    if (h.len == n) {
        return strncasecmp(h.ptr, name, n) == 0;
    }
    return !exact && h.len > n && h.ptr[h.len - n - 1] == '.' && strncasecmp(h.ptr + h.len - n, name, n) == 0;
}

static bool any_below(const fm_strlist *names, fm_sv h) {
    for (size_t i = 0; i < names->n; i++) {
        const char *name = names->item[i];
        char ascii[FM_IDN_MAX];
        bool other = false; /* a name in another script */
        for (const char *p = name; *p; p++) {
            other = other || (unsigned char)*p >= 0x80;
        }
        if (other && fm_idn_ascii(ascii, name, strlen(name))) {
            name = ascii;
        }
        if (below(h, name, false)) {
            return true;
        }
    }
    return false;
}

static bool any_matches(const fm_strlist *patterns, const char *url) {
    for (size_t i = 0; i < patterns->n; i++) {
        if (fnmatch(patterns->item[i], url, 0) == 0) {
            return true;
        }
    }
    return false;
}

/* Numbers instead of names, and names of this machine, are followed from seeds only: a page must not lead a crawler
 * to what the outside cannot see. */
static bool is_private(fm_sv h) {
    bool letters = false;
    for (size_t i = 0; i < h.len; i++) {
        letters = letters || (h.ptr[i] | 32) >= 'g';
    }
    return !letters || !memchr(h.ptr, '.', h.len) || below(h, "localhost", false) || below(h, "local", false) ||
           below(h, "internal", false);
}

static bool in_scope(const crawl *c, const char *url) {
    fm_sv h = fm_url_split(url).host, bare = crawl_bare_host(h);
    if (any_below(&c->o->deny, h)) {
        return false;
    }
    if (any_below(&c->o->allow, h)) {
        return true;
    }
    for (size_t i = 0; i < c->n_seeds; i++) {
        if (below(bare, c->seed_host[i], c->o->scope == CRAWL_HOST)) {
            return true;
        }
    }
    return c->o->scope == CRAWL_ANY && !is_private(h);
}

/* ---- hosts and addresses: all with the lock held ------------------------------------------------- */

fm_status crawl_add_host(crawl *c, const char *origin, size_t n, crawl_host **out) {
    void *p = c->host;
    FM_TRY(fm_grow(&p, &c->hosts_cap, c->n_hosts + 1, sizeof *c->host));
    c->host = p;
    crawl_host *h = &c->host[c->n_hosts];
    *h = (crawl_host){.origin = fm_strndup(origin, n)};
    if (!h->origin) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a host");
    }
    c->n_hosts++;
    *out = h;
    return FM_OK;
}

fm_status crawl_add_url(crawl *c, const char *url, int kind, int depth, int hops, bool seed) {
    fm_crawl_item item = {.kind = kind, .depth = depth, .hops = hops};
    fm_crawl_shape shape = {0};
    bool open = false, added = false;
    size_t n = strlen(url);
    if (n >= sizeof item.url) {
        return FM_OK;
    }
    memcpy(item.url, url, n + 1);
    const char *why = NULL;
    if (!seed) {
        why = !in_scope(c, url)                                                               ? "outside the scope"
              : kind == FM_CRAWL_PAGE && depth > c->o->depth                                  ? "too far from a seed"
              : c->o->include.n && kind == FM_CRAWL_PAGE && !any_matches(&c->o->include, url) ? "not included"
              : any_matches(&c->o->exclude, url)                                              ? "excluded"
                                                                                              : fm_crawl_trap(url);
    }
    if (why) {
        return fm_frontier_tally(c->f, why);
    }
    uint64_t key = fm_crawl_shape_key(url, &open);
    if (open && !seed) {
        FM_TRY(fm_frontier_shape(c->f, key, &shape));
        if (shape.n >= c->o->max_similar || shape.same >= CRAWL_SAME_IN_A_ROW) {
            return fm_frontier_tally(c->f, shape.same >= CRAWL_SAME_IN_A_ROW ? "trap: pages without news"
                                                                             : "too many similar");
        }
    }
    bool new_host;
    crawl_host *h;
    FM_TRY(fm_frontier_host_id(c->f, fm_url_split(url).origin, &item.host, &new_host));
    if (new_host) {
        fm_url_parts u = fm_url_split(url);
        FM_TRY(crawl_add_host(c, u.origin.ptr, u.origin.len, &h));
    }
    h = &c->host[item.host - 1];
    if (kind == FM_CRAWL_SITEMAP && ++h->n_sitemaps > MOST_SITEMAPS) {
        return fm_frontier_tally(c->f, "too many sitemaps");
    }
    FM_TRY(fm_frontier_add(c->f, &item, &added));
    h->waiting += added;
    if (added && open) {
        shape.n++;
        FM_TRY(fm_frontier_set_shape(c->f, key, &shape));
    }
    return FM_OK;
}

fm_status crawl_add_ref(crawl *c, const char *base, const char *ref, size_t n, int kind, int depth, int hops) {
    fm_str url = {0};
    fm_status s = FM_OK;
    if (fm_url_canonical(&url, base, ref, n)) {
        s = crawl_add_url(c, url.data, kind, depth, hops, false);
    }
    s = s == FM_OK && url.failed ? fm_str_check(&url) : s;
    fm_str_free(&url);
    return s;
}
