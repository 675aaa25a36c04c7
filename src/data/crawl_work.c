/* What a thread of the crawler does: see crawl_run.h. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/crawl_run.h"
#include "data/sitemap.h"
#include "io/pack.h"

#define ROBOTS_AGE    86400 /* seconds that a robots.txt is believed (RFC 9309, 2.4) */
#define COMMIT_S      1.0
#define MOST_HOPS     10
#define SITEMAP_DEPTH 3 /* lists of lists */
#define LONGEST_WAIT  86400.0
#define ACCEPT        "text/html,application/xhtml+xml,text/plain;q=0.9,*/*;q=0.1"

static fm_status finish_item(crawl *c, const crawl_job *j, fm_crawl_state state, const char *note) {
    c->host[j->item.host - 1].waiting--;
    return fm_frontier_set(c->f, j->item.id, state, note);
}

fm_status crawl_commit(crawl *c) {
    FM_TRY(fm_append_sync(c->out));
    fm_append_place at = fm_append_at(c->out);
    FM_TRY(fm_frontier_set_setting(c->f, "file", at.file));
    FM_TRY(fm_frontier_set_setting(c->f, "bytes", at.bytes));
    FM_TRY(fm_frontier_set_setting(c->f, "pages", c->n_pages));
    c->commit_s = fm_now();
    fm_crash_point("crawl-commit");
    return fm_frontier_commit(c->f);
}

/* ---- choosing ----------------------------------------------------------------------------------- */

static bool limit_reached(const crawl *c) {
    return c->o->max_pages > 0 && c->n_pages >= c->o->max_pages;
}

/* The host whose turn comes first, or NULL. */
static crawl_host *first_host(crawl *c) {
    crawl_host *best = NULL;
    for (size_t i = 0; i < c->n_hosts; i++) {
        crawl_host *h = &c->host[i];
        if (!h->busy && !h->closed && h->waiting > 0 && (!best || h->next_s < best->next_s)) {
            best = h;
        }
    }
    return best;
}

/* Fills the job for a host; *found false: nothing of it is due, or the address was decided without asking. */
static fm_status take_from(crawl *c, crawl_host *h, crawl_job *j, bool *found) {
    int64_t now = fm_unix_ms() / 1000;
    double wait;
    *found = false;
    j->robots = h->robots_at == 0 || now - h->robots_at > ROBOTS_AGE;
    if (j->robots) {
        j->item = (fm_crawl_item){.host = h - c->host + 1};
        (void)snprintf(j->item.url, sizeof j->item.url, "%s/robots.txt", h->origin);
        *found = true;
        return FM_OK;
    }
    if (c->o->max_pages_per_host > 0 && h->pages >= c->o->max_pages_per_host) {
        h->closed = true;
        return FM_OK;
    }
    FM_TRY(fm_frontier_next(c->f, h - c->host + 1, now, &j->item, found, &wait));
    if (!*found) {
        h->next_s = fm_now() + FM_MIN(wait, LONGEST_WAIT);
        return FM_OK;
    }
    if (h->robots && !fm_robots_allow(h->robots, fm_url_split(j->item.url).path.ptr)) {
        *found = false;
        return finish_item(c, j, FM_CRAWL_SKIPPED, "robots.txt forbids it");
    }
    bool open;
    fm_crawl_shape shape;
    uint64_t key = fm_crawl_shape_key(j->item.url, &open);
    if (open) {
        FM_TRY(fm_frontier_shape(c->f, key, &shape));
        if (shape.same >= CRAWL_SAME_IN_A_ROW) {
            *found = false;
            return finish_item(c, j, FM_CRAWL_SKIPPED, "trap: pages without news");
        }
    }
    return FM_OK;
}

/* Waits for work. *found false: there is no more. */
static fm_status take(crawl *c, crawl_job *j, bool *found) {
    for (;;) {
        *found = false;
        if (c->ended || c->failed != FM_OK || fm_cancelled() || limit_reached(c)) {
            return FM_OK;
        }
        crawl_host *h = first_host(c);
        double now = fm_now(), wait = h ? h->next_s - now : 0.2;
        if (h && wait <= 0) {
            FM_TRY(take_from(c, h, j, found));
            if (*found) {
                h->busy = true;
                c->busy++;
                return FM_OK;
            }
            continue;
        }
        if (!h && c->busy == 0) {
            c->ended = true;
            pthread_cond_broadcast(&c->changed);
            return FM_OK;
        }
        if (now - c->commit_s > COMMIT_S) {
            FM_TRY(crawl_commit(c));
        }
        struct timespec until;
        int64_t ms = fm_unix_ms() + (int64_t)(FM_MIN(wait, 0.2) * 1e3) + 1;
        until = (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
        (void)pthread_cond_timedwait(&c->changed, &c->lock, &until);
    }
}

/* ---- asking: without the lock ------------------------------------------------------------------- */

static fm_status on_body(void *user, const void *data, size_t n, bool restart) {
    crawl_job *j = user;
    FM_UNUSED(restart);
    if (j->robots) {
        size_t room = FM_ROBOTS_MAX - j->body.len;
        fm_str_append(&j->body, data, FM_MIN(room, n));
        j->full = n > room;
        return j->full ? FM_ERR_DATA : fm_str_check(&j->body);
    }
    if (j->body.len == 0 && j->item.kind == FM_CRAWL_PAGE && !fm_crawl_type(j->reply.type)) {
        j->refused = "no page or text by its type";
    } else if (n > j->max_body - j->body.len || j->reply.length > (int64_t)j->max_body) {
        j->refused = "longer than max_bytes";
    }
    if (j->refused) {
        return FM_ERR_DATA;
    }
    fm_str_append(&j->body, data, n);
    return fm_str_check(&j->body);
}

static fm_status ask(crawl_job *j) {
    const fm_crawl_options *o = j->c->o;
    j->refused = NULL;
    j->full = false;
    fm_str_clear(&j->head);
    fm_str_clear(&j->body);
    fm_crawl_page_free(&j->page);
    j->max_body = j->item.kind == FM_CRAWL_SITEMAP ? FM_SITEMAP_MAX_BYTES : (size_t)o->max_bytes;
    fm_http_request q = {.url = j->item.url,
                         .sink = on_body,
                         .user = j,
                         .agent = j->c->agent.data,
                         .accept = j->robots || j->item.kind == FM_CRAWL_SITEMAP ? "*/*" : ACCEPT,
                         .gzip = !j->robots,
                         .no_redirects = !j->robots,
                         .timeout_s = (int)o->timeout,
                         .head = &j->head};
    double start = fm_now();
    fm_status s = fm_http_get(j->http, &q, &j->reply);
    j->took_s = fm_now() - start;
    if (s == FM_ERR_DATA && (j->refused || j->full)) {
        fm_error_clear();
        s = FM_OK;
    }
    if (s == FM_ERR_ARGUMENT) { /* the client does not take the address */
        fm_error_clear();
        j->refused = "address refused";
        s = FM_OK;
    }
    FM_TRY(s);
    FM_TRY(fm_str_check(&j->head));
    bool good = j->reply.code == 200 && !*j->reply.error && !j->refused && !j->robots;
    if (good && j->item.kind == FM_CRAWL_PAGE) {
        return fm_crawl_page_make(&j->page, j->item.url, j->item.depth, &j->head, &j->body, o);
    }
    return good ? fm_crawl_unpack(&j->page, &j->head, &j->body, FM_SITEMAP_MAX_BYTES) : FM_OK;
}

/* ---- writing down: with the lock held ------------------------------------------------------------ */

/* How long to leave a host alone after its n-th failure in a row. */
static double wait_after(const crawl *c, const crawl_job *j, int n) {
    double w = c->o->retry_wait * (double)(1 << FM_MIN(n, 20));
    return FM_MIN(FM_MAX(w, j->reply.retry_after), LONGEST_WAIT);
}

/* By number: hosts move when one is added. */
static fm_status sitemaps_of(crawl *c, size_t host) {
    char url[FM_URL_MAX + 1];
    const fm_robots *robots = c->host[host].robots;
    const char *at;
    if (c->o->no_sitemaps || c->host[host].pages > 0) {
        return FM_OK;
    }
    (void)snprintf(url, sizeof url, "%s/", c->host[host].origin);
    for (size_t i = 0; robots && (at = fm_robots_sitemap(robots, i)); i++) {
        FM_TRY(crawl_add_ref(c, url, at, strlen(at), FM_CRAWL_SITEMAP, 0, 0));
    }
    return crawl_add_ref(c, url, "/sitemap.xml", 12, FM_CRAWL_SITEMAP, 0, 0);
}

static fm_status record_robots(crawl *c, const crawl_job *j) {
    size_t at = (size_t)j->item.host - 1;
    crawl_host *h = &c->host[at];
    int code = j->reply.code;
    int64_t n, now = fm_unix_ms() / 1000;
    bool got = code == 200 && (!*j->reply.error || j->full);
    bool none = !got && ((code >= 400 && code < 500 && code != 429 && code != 408) || (code >= 300 && code < 400));
    if (got || none) {
        fm_robots_free(h->robots);
        h->robots = NULL;
        h->fails = 0;
        h->robots_at = now;
        const char *text = j->body.data ? j->body.data : "";
        if (got) {
            FM_TRY(fm_robots_parse(&h->robots, text, j->body.len, FM_CRAWL_AGENT));
        }
        FM_TRY(fm_frontier_set_robots(c->f, j->item.host, got ? text : NULL, now));
        return sitemaps_of(c, at);
    }
    /* No answer means "no" for now (RFC 9309, 2.3.1.4). */
    if (h->fails >= c->o->retries) {
        h->closed = true;
        h->waiting = 0;
        return fm_frontier_skip_host(c->f, j->item.host, "robots.txt cannot be read", &n);
    }
    h->next_s = fm_now() + wait_after(c, j, h->fails++);
    return FM_OK;
}

typedef struct sitemap_call {
    crawl *c;
    const crawl_job *j;
} sitemap_call;

static fm_status on_sitemap(void *user, fm_sv url, bool list) {
    sitemap_call *call = user;
    int depth = call->j->item.depth + 1;
    if (list && depth >= SITEMAP_DEPTH) {
        return FM_OK;
    }
    return crawl_add_ref(call->c, call->j->item.url, url.ptr, url.len, list ? FM_CRAWL_SITEMAP : FM_CRAWL_PAGE,
                         list ? depth : 1, 0);
}

static fm_status record_sitemap(crawl *c, const crawl_job *j) {
    sitemap_call call = {c, j};
    const fm_str *body = &j->page.message.body;
    if (j->page.message.bad) {
        return finish_item(c, j, FM_CRAWL_FAILED, "broken sitemap");
    }
    fm_status s = fm_sitemap_read(body->data ? body->data : "", body->len, on_sitemap, &call);
    if (s == FM_ERR_CORRUPT || s == FM_ERR_DATA || s == FM_ERR_FORMAT) {
        fm_error_clear();
        return finish_item(c, j, FM_CRAWL_FAILED, "broken sitemap");
    }
    FM_TRY(s);
    return finish_item(c, j, FM_CRAWL_DONE, "sitemap");
}

static fm_status record_page(crawl *c, const crawl_job *j) {
    const fm_crawl_page *p = &j->page;
    bool known = false, same = false, open;
    const char *note = p->skip;
    const char *link = p->links.data;
    if (limit_reached(c)) { /* other threads were quicker: it stays for a later run */
        return FM_OK;
    }
    if (!p->message.bad) {
        FM_TRY(fm_frontier_text(c->f, p->text, &known));
        FM_TRY(fm_frontier_text(c->f, p->shape, &same));
        note = note ? note : known ? "text seen before" : NULL;
    }
    uint64_t key = fm_crawl_shape_key(j->item.url, &open);
    if (open) {
        fm_crawl_shape shape;
        FM_TRY(fm_frontier_shape(c->f, key, &shape));
        shape.same = same ? shape.same + 1 : 0;
        FM_TRY(fm_frontier_set_shape(c->f, key, &shape));
    }
    for (size_t i = 0; i < p->n_links; i++) {
        FM_TRY(crawl_add_url(c, link, FM_CRAWL_PAGE, j->item.depth + 1, 0, false));
        link += strlen(link) + 1;
    }
    c->host[j->item.host - 1].pages++;
    if (note) {
        return finish_item(c, j, FM_CRAWL_SKIPPED, note);
    }
    if (c->o->format == CRAWL_WARC) {
        fm_str packed = {0};
        fm_status s = fm_pack_bytes(&packed, FM_PACKING_GZIP, 0, p->row.data, p->row.len);
        s = s == FM_OK ? fm_append_write(c->out, packed.data, packed.len) : s;
        fm_str_free(&packed);
        FM_TRY(s);
    } else {
        FM_TRY(fm_append_write(c->out, p->row.data, p->row.len));
    }
    c->n_pages++;
    return finish_item(c, j, FM_CRAWL_DONE, "page");
}

static fm_status record_failure(crawl *c, const crawl_job *j) {
    crawl_host *h = &c->host[j->item.host - 1];
    char note[64];
    int code = j->reply.code;
    bool again = j->reply.transient && j->item.tries < c->o->retries;
    if (j->reply.transient) {
        double wait = wait_after(c, j, FM_MAX(h->fails, j->item.tries));
        h->fails++;
        if (again || code == 429 || code == 503) { /* the host asks for rest, not the page */
            h->next_s = fm_now() + wait;
        }
        if (again) {
            return fm_frontier_later(c->f, j->item.id, fm_unix_ms() / 1000 + (int64_t)wait);
        }
    }
    if (j->item.kind == FM_CRAWL_SITEMAP && code >= 400 && code < 500) {
        return finish_item(c, j, FM_CRAWL_SKIPPED, "no sitemap");
    }
    (void)snprintf(note, sizeof note, code >= 400 ? "answered %d" : "no connection, or it was cut", code);
    return finish_item(c, j, FM_CRAWL_FAILED, note);
}

static fm_status record(crawl *c, const crawl_job *j) {
    int code = j->reply.code;
    if (j->robots) {
        return record_robots(c, j);
    }
    if (j->refused) {
        return finish_item(c, j, FM_CRAWL_SKIPPED, j->refused);
    }
    if (*j->reply.error) {
        return record_failure(c, j);
    }
    c->host[j->item.host - 1].fails = 0;
    if (code >= 300 && code < 400) {
        if (j->item.hops >= MOST_HOPS) {
            return finish_item(c, j, FM_CRAWL_FAILED, "too many redirects");
        }
        FM_TRY(crawl_add_ref(c, j->item.url, j->reply.location, strlen(j->reply.location), j->item.kind, j->item.depth,
                             j->item.hops + 1));
        return finish_item(c, j, FM_CRAWL_DONE, "redirect");
    }
    if (code != 200) {
        return finish_item(c, j, FM_CRAWL_SKIPPED, "an answer without a page");
    }
    return j->item.kind == FM_CRAWL_SITEMAP ? record_sitemap(c, j) : record_page(c, j);
}

static void let_go(crawl *c, const crawl_job *j) {
    crawl_host *h = &c->host[j->item.host - 1];
    double said = h->robots ? fm_robots_delay(h->robots) : 0, now = fm_now();
    double delay = FM_MAX(c->o->delay, said);
    delay = c->o->delay > 0 ? FM_MAX(delay, FM_MIN(j->took_s, 10)) : delay; /* a slow host is under load */
    h->next_s = FM_MAX(h->next_s, now + FM_MIN(delay, LONGEST_WAIT));
    h->busy = false;
    c->busy--;
    pthread_cond_broadcast(&c->changed);
}

static void show(crawl *c) {
    char detail[96];
    int64_t waiting = 0;
    for (size_t i = 0; i < c->n_hosts; i++) {
        waiting += c->host[i].waiting;
    }
    (void)snprintf(detail, sizeof detail, "%lld known and waiting, %zu hosts", (long long)waiting, c->n_hosts);
    fm_meter_update(&c->meter, (double)c->n_pages, detail);
}

void *crawl_work(void *arg) {
    crawl_job *j = arg;
    crawl *c = j->c;
    pthread_mutex_lock(&c->lock);
    for (;;) {
        bool found;
        fm_status s = take(c, j, &found);
        if (s == FM_OK && found) {
            pthread_mutex_unlock(&c->lock);
            s = ask(j);
            pthread_mutex_lock(&c->lock);
            s = s == FM_OK ? record(c, j) : s;
            let_go(c, j);
        }
        if (s == FM_OK && fm_now() - c->commit_s > COMMIT_S) {
            s = crawl_commit(c);
            show(c);
        }
        if (s != FM_OK && c->failed == FM_OK) {
            c->failed = s;
            fm_error_save(&c->error);
        }
        if (s != FM_OK || !found) {
            break;
        }
    }
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}
