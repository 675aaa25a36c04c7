/* See robots.h. */
#include "net/robots.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/url.h"

#define MOST_SITEMAPS 1000
#define LONGEST_RULE  2000

/* Whose groups a line stands in. */
enum { OURS = 1, ANYONE = 2 };

typedef struct rule {
    char *pattern; /* spelled as URLs are, without the '$' at its end */
    size_t length; /* of the pattern as it counts: with its stars and '$' */
    int whose;
    bool allow, to_end;
} rule;

struct fm_robots {
    rule *rule;
    size_t n, cap;
    char **sitemap;
    size_t n_sitemaps, sitemaps_cap;
    double delay[3]; /* by whose; -1 */
    int whose;       /* the groups that hold for us */
};

typedef struct parser {
    fm_robots *r;
    const char *agent;
    int whose;         /* of the group that is being read */
    int seen;          /* groups that there are */
    bool after_agents; /* the last line of a group named an agent: the next agent belongs to the same group */
} parser;

static bool is(fm_sv key, const char *name) {
    return key.len == strlen(name) && strncasecmp(key.ptr, name, key.len) == 0;
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* "Fathom/2.0 (x)" names "fathom"; "fathomless" does not. */
static int agent_kind(fm_sv v, const char *agent) {
    size_t n = 0;
    if (v.len && *v.ptr == '*') {
        return ANYONE;
    }
    while (n < v.len && (v.ptr[n] == '-' || v.ptr[n] == '_' || is_letter(v.ptr[n]))) {
        n++;
    }
    return n && n == strlen(agent) && strncasecmp(v.ptr, agent, n) == 0 ? OURS : 0;
}

static fm_status add_rule(parser *p, fm_sv v, bool allow) {
    fm_robots *r = p->r;
    if (!p->whose || v.len == 0 || v.len > LONGEST_RULE) {
        return FM_OK; /* an empty rule forbids nothing */
    }
    rule one = {.allow = allow, .whose = p->whose, .to_end = v.ptr[v.len - 1] == '$'};
    fm_str text = {0};
    if (*v.ptr != '/' && *v.ptr != '*') {
        fm_str_putc(&text, '/');
    }
    fm_url_escape(&text, v.ptr, v.len - one.to_end);
    one.length = text.len + one.to_end;
    fm_status s = fm_str_check(&text);
    void *at = r->rule;
    s = s == FM_OK ? fm_grow(&at, &r->cap, r->n + 1, sizeof *r->rule) : s;
    r->rule = at;
    one.pattern = fm_str_take(&text);
    if (s == FM_OK && !one.pattern && !(one.pattern = fm_strdup(""))) { /* "$" alone */
        s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for robots.txt");
    }
    if (s != FM_OK) {
        fm_free(one.pattern);
        return s;
    }
    r->rule[r->n++] = one;
    return FM_OK;
}

static fm_status add_sitemap(fm_robots *r, fm_sv v) {
    if (v.len == 0 || v.len > FM_URL_MAX || r->n_sitemaps == MOST_SITEMAPS) {
        return FM_OK;
    }
    void *at = r->sitemap;
    FM_TRY(fm_grow(&at, &r->sitemaps_cap, r->n_sitemaps + 1, sizeof *r->sitemap));
    r->sitemap = at;
    if (!(r->sitemap[r->n_sitemaps] = fm_strndup(v.ptr, v.len))) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for robots.txt");
    }
    r->n_sitemaps++;
    return FM_OK;
}

static void set_delay(const parser *p, fm_sv v) {
    char text[32];
    if (v.len == 0 || v.len >= sizeof text) {
        return;
    }
    memcpy(text, v.ptr, v.len);
    text[v.len] = '\0';
    double d = strtod(text, NULL);
    if (isfinite(d) && d >= 0) {
        p->r->delay[OURS] = p->whose & OURS ? d : p->r->delay[OURS];
        p->r->delay[ANYONE] = p->whose & ANYONE ? d : p->r->delay[ANYONE];
    }
}

static fm_status add_line(parser *p, fm_sv line) {
    const char *hash = memchr(line.ptr, '#', line.len);
    line.len = hash ? (size_t)(hash - line.ptr) : line.len;
    const char *colon = line.len ? memchr(line.ptr, ':', line.len) : NULL;
    if (!colon) {
        return FM_OK;
    }
    fm_sv key = fm_sv_trim((fm_sv){line.ptr, (size_t)(colon - line.ptr)});
    fm_sv v = fm_sv_trim((fm_sv){colon + 1, line.len - (size_t)(colon + 1 - line.ptr)});
    if (is(key, "user-agent")) {
        int kind = agent_kind(v, p->agent);
        p->whose = p->after_agents ? p->whose | kind : kind;
        p->seen |= kind;
        p->after_agents = true;
    } else if (is(key, "allow") || is(key, "disallow")) {
        p->after_agents = false;
        return add_rule(p, v, is(key, "allow"));
    } else if (is(key, "crawl-delay")) { /* other lines do not end a list of agents (RFC 9309, 2.2.4) */
        set_delay(p, v);
    } else if (is(key, "sitemap")) {
        return add_sitemap(p->r, v);
    }
    return FM_OK;
}

fm_status fm_robots_parse(fm_robots **out, const char *text, size_t n, const char *agent) {
    *out = NULL;
    fm_robots *r = fm_calloc(1, sizeof *r);
    if (!r) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for robots.txt");
    }
    r->delay[OURS] = r->delay[ANYONE] = -1;
    parser p = {.r = r, .agent = agent};
    fm_status s = FM_OK;
    n = FM_MIN(n, FM_ROBOTS_MAX);
    size_t at = n >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    while (at < n && s == FM_OK) {
        size_t k = at;
        while (k < n && text[k] != '\n' && text[k] != '\r') {
            k++;
        }
        s = add_line(&p, (fm_sv){text + at, k - at});
        at = k + 1;
    }
    r->whose = p.seen & OURS ? OURS : ANYONE;
    if (s != FM_OK) {
        fm_robots_free(r);
        return s;
    }
    *out = r;
    return FM_OK;
}

void fm_robots_free(fm_robots *r) {
    if (!r) {
        return;
    }
    for (size_t i = 0; i < r->n; i++) {
        fm_free(r->rule[i].pattern);
    }
    for (size_t i = 0; i < r->n_sitemaps; i++) {
        fm_free(r->sitemap[i]);
    }
    fm_free(r->rule);
    fm_free(r->sitemap);
    fm_free(r);
}

/* Pieces between stars are looked for from left to right: the leftmost place of each is the best one, but for the last
 * piece of a rule that ends in '$', which must be at the end. */
static bool fits(const rule *r, const char *path) {
    const char *p = r->pattern, *at = path, *end = path + strlen(path);
    for (bool first = true;; first = false) {
        size_t k = strcspn(p, "*");
        bool last = p[k] == '\0';
        if (last && r->to_end) {
            return (size_t)(end - at) >= k && (!first || (size_t)(end - at) == k) && memcmp(end - k, p, k) == 0;
        }
        const char *found = first ? ((size_t)(end - at) >= k && memcmp(at, p, k) == 0 ? at : NULL)
                            : k   ? memmem(at, (size_t)(end - at), p, k)
                                  : at;
        if (!found) {
            return false;
        }
        at = found + k;
        if (last) {
            return true;
        }
        p += k + 1;
    }
}

bool fm_robots_allow(const fm_robots *r, const char *path) {
    size_t best = 0;
    bool allow = true;
    if (strcmp(path, "/robots.txt") == 0) {
        return true;
    }
    for (size_t i = 0; i < r->n; i++) {
        const rule *one = &r->rule[i];
        bool more = one->length > best || (one->length == best && one->allow && !allow);
        if ((one->whose & r->whose) && more && fits(one, path)) {
            best = one->length;
            allow = one->allow;
        }
    }
    return allow;
}

double fm_robots_delay(const fm_robots *r) {
    return r->delay[r->whose];
}

const char *fm_robots_sitemap(const fm_robots *r, size_t i) {
    return i < r->n_sitemaps ? r->sitemap[i] : NULL;
}
