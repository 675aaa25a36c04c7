/* See crawl_frontier.h. */
#include "data/crawl_frontier.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "data/rec.h"
#include "io/sql.h"

#define FORMAT 1

struct fm_frontier {
    fm_sql *db;
    fm_tallies tallies; /* not yet in the database */
};

#define V(...) ((const fm_sql_value[]){__VA_ARGS__}), (int)FM_ARRAY_LEN(((fm_sql_value[]){__VA_ARGS__}))

/* Keys are 64 bits, the database's integers have a sign. */
static fm_sql_value key_value(uint64_t key) {
    int64_t v;
    memcpy(&v, &key, sizeof v);
    return FM_SQL_I(v);
}

static fm_status one_int(void *arg, const fm_sql_value *column, int n) {
    FM_UNUSED(n);
    *(int64_t *)arg = column[0].i;
    return FM_OK;
}

static fm_status prepare(fm_frontier *f) {
    /* Locked while it is open: two crawlers of one folder would ask twice. */
    FM_TRY(fm_sql_exec(f->db, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
                              "BEGIN IMMEDIATE;"
                              "CREATE TABLE IF NOT EXISTS setting(name TEXT PRIMARY KEY, value INT);"
                              "CREATE TABLE IF NOT EXISTS host(id INTEGER PRIMARY KEY, origin TEXT UNIQUE,"
                              " robots TEXT, robots_at INT DEFAULT 0);"
                              "CREATE TABLE IF NOT EXISTS url(id INTEGER PRIMARY KEY, key INT UNIQUE, host INT,"
                              " kind INT, depth INT, hops INT, tries INT DEFAULT 0, not_before INT DEFAULT 0,"
                              " state INT DEFAULT 0, note TEXT, url TEXT);"
                              "CREATE INDEX IF NOT EXISTS waiting ON url(host, depth, id) WHERE state = 0;"
                              "CREATE TABLE IF NOT EXISTS seen(hash INTEGER PRIMARY KEY);"
                              "CREATE TABLE IF NOT EXISTS shape(key INTEGER PRIMARY KEY, n INT, same INT);"
                              "CREATE TABLE IF NOT EXISTS tally(why TEXT PRIMARY KEY, n INT);"));
    int64_t format = 0;
    FM_TRY(fm_frontier_setting(f, "format", &format));
    if (format > FORMAT) {
        (void)fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__, "the state of the crawl has format %lld, known is %d",
                           (long long)format, FORMAT);
        return fm_error_hint("it was written by a later version of this program");
    }
    return fm_frontier_set_setting(f, "format", FORMAT);
}

fm_status fm_frontier_open(fm_frontier **out, const char *path) {
    *out = NULL;
    fm_frontier *f = fm_calloc(1, sizeof *f);
    if (!f) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the state of a crawl");
    }
    fm_status s = fm_sql_open(&f->db, path);
    if (s == FM_OK && (s = prepare(f)) != FM_OK) {
        (void)fm_error_context("the state of the crawl cannot be used (does another crawl write it?)");
    }
    if (s != FM_OK) {
        fm_frontier_close(f);
        return s;
    }
    *out = f;
    return FM_OK;
}

void fm_frontier_close(fm_frontier *f) {
    if (f) {
        fm_sql_close(f->db);
        fm_tallies_free(&f->tallies);
        fm_free(f);
    }
}

fm_status fm_frontier_commit(fm_frontier *f) {
    for (size_t i = 0; i < f->tallies.n; i++) {
        FM_TRY(fm_sql_run(f->db, "INSERT INTO tally VALUES(?1,?2) ON CONFLICT(why) DO UPDATE SET n = n + ?2",
                          V(FM_SQL_T(f->tallies.item[i].name), FM_SQL_I(f->tallies.item[i].n)), NULL, NULL));
    }
    fm_tallies_clear(&f->tallies);
    return fm_sql_exec(f->db, "COMMIT; BEGIN IMMEDIATE");
}

/* ---- hosts ----------------------------------------------------------------------------------- */

typedef struct host_call {
    fm_frontier_host_fn fn;
    void *user;
} host_call;

static fm_status one_host(void *arg, const fm_sql_value *c, int n) {
    FM_UNUSED(n);
    host_call *call = arg;
    fm_frontier_host h = {.id = c[0].i,
                          .origin = c[1].t ? c[1].t : "",
                          .robots = c[2].t,
                          .robots_at = c[3].i,
                          .waiting = c[4].i,
                          .pages = c[5].i};
    return call->fn(call->user, &h);
}

fm_status fm_frontier_hosts(fm_frontier *f, fm_frontier_host_fn fn, void *user) {
    return fm_sql_run(f->db,
                      "SELECT h.id, h.origin, h.robots, h.robots_at, coalesce(sum(u.state=0),0),"
                      " coalesce(sum(u.state=1 AND u.kind=0),0)"
                      " FROM host h LEFT JOIN url u ON u.host=h.id GROUP BY h.id ORDER BY h.id",
                      NULL, 0, one_host, &(host_call){fn, user});
}

fm_status fm_frontier_host_id(fm_frontier *f, fm_sv origin, int64_t *id, bool *added) {
    char name[FM_URL_MAX + 1];
    *id = 0;
    FM_ASSERT(origin.len < sizeof name);
    memcpy(name, origin.ptr, origin.len);
    name[origin.len] = '\0';
    FM_TRY(fm_sql_run(f->db, "SELECT id FROM host WHERE origin=?", V(FM_SQL_T(name)), one_int, id));
    *added = *id == 0;
    if (*added) {
        FM_TRY(fm_sql_run(f->db, "INSERT INTO host(origin) VALUES(?)", V(FM_SQL_T(name)), NULL, NULL));
        *id = fm_sql_last_id(f->db);
    }
    return FM_OK;
}

fm_status fm_frontier_set_robots(fm_frontier *f, int64_t host, const char *robots, int64_t at) {
    return fm_sql_run(f->db, "UPDATE host SET robots=?, robots_at=? WHERE id=?",
                      V(FM_SQL_T(robots), FM_SQL_I(at), FM_SQL_I(host)), NULL, NULL);
}

/* ---- addresses ------------------------------------------------------------------------------- */

fm_status fm_frontier_add(fm_frontier *f, const fm_crawl_item *item, bool *added) {
    int64_t id = 0;
    uint64_t key = fm_url_key(item->url) ^ (item->kind == FM_CRAWL_SITEMAP ? 0x5173u : 0u);
    FM_TRY(fm_sql_run(f->db,
                      "INSERT OR IGNORE INTO url(key, host, kind, depth, hops, url) VALUES(?,?,?,?,?,?) RETURNING id",
                      V(key_value(key), FM_SQL_I(item->host), FM_SQL_I(item->kind), FM_SQL_I(item->depth),
                        FM_SQL_I(item->hops), FM_SQL_T(item->url)),
                      one_int, &id));
    *added = id != 0;
    return FM_OK;
}

static fm_status one_item(void *arg, const fm_sql_value *c, int n) {
    FM_UNUSED(n);
    fm_crawl_item *item = arg;
    item->id = c[0].i;
    item->kind = (int)c[1].i;
    item->depth = (int)c[2].i;
    item->hops = (int)c[3].i;
    item->tries = (int)c[4].i;
    (void)snprintf(item->url, sizeof item->url, "%s", c[5].t ? c[5].t : "");
    return FM_OK;
}

fm_status fm_frontier_next(fm_frontier *f, int64_t host, int64_t now, fm_crawl_item *item, bool *found,
                           double *wait_s) {
    item->id = 0;
    item->host = host;
    *wait_s = 0;
    FM_TRY(fm_sql_run(f->db,
                      "SELECT id, kind, depth, hops, tries, url FROM url INDEXED BY waiting"
                      " WHERE host=? AND state=0 AND not_before<=? ORDER BY depth, id LIMIT 1",
                      V(FM_SQL_I(host), FM_SQL_I(now)), one_item, item));
    *found = item->id != 0;
    if (!*found) {
        int64_t first = 0;
        FM_TRY(fm_sql_run(f->db, "SELECT coalesce(min(not_before),0) FROM url WHERE host=? AND state=0",
                          V(FM_SQL_I(host)), one_int, &first));
        *wait_s = (double)FM_MAX(first - now, 1);
    }
    return FM_OK;
}

fm_status fm_frontier_set(fm_frontier *f, int64_t id, fm_crawl_state state, const char *note) {
    return fm_sql_run(f->db, "UPDATE url SET state=?, note=? WHERE id=?",
                      V(FM_SQL_I((int64_t)state), FM_SQL_T(note), FM_SQL_I(id)), NULL, NULL);
}

fm_status fm_frontier_later(fm_frontier *f, int64_t id, int64_t not_before) {
    return fm_sql_run(f->db, "UPDATE url SET tries=tries+1, not_before=? WHERE id=?",
                      V(FM_SQL_I(not_before), FM_SQL_I(id)), NULL, NULL);
}

fm_status fm_frontier_skip_host(fm_frontier *f, int64_t host, const char *note, int64_t *n) {
    *n = 0;
    FM_TRY(fm_sql_run(f->db, "SELECT count(*) FROM url WHERE host=? AND state=0", V(FM_SQL_I(host)), one_int, n));
    return fm_sql_run(f->db, "UPDATE url SET state=3, note=? WHERE host=? AND state=0",
                      V(FM_SQL_T(note), FM_SQL_I(host)), NULL, NULL);
}

/* ---- texts, likeness, counts ------------------------------------------------------------------ */

fm_status fm_frontier_text(fm_frontier *f, uint64_t hash, bool *known) {
    int64_t id = 0;
    FM_TRY(fm_sql_run(f->db, "INSERT OR IGNORE INTO seen VALUES(?) RETURNING 1", V(key_value(hash)), one_int, &id));
    *known = id == 0;
    return FM_OK;
}

static fm_status one_shape(void *arg, const fm_sql_value *c, int n) {
    FM_UNUSED(n);
    *(fm_crawl_shape *)arg = (fm_crawl_shape){.n = c[0].i, .same = c[1].i};
    return FM_OK;
}

fm_status fm_frontier_shape(fm_frontier *f, uint64_t key, fm_crawl_shape *s) {
    *s = (fm_crawl_shape){0};
    return fm_sql_run(f->db, "SELECT n, same FROM shape WHERE key=?", V(key_value(key)), one_shape, s);
}

fm_status fm_frontier_set_shape(fm_frontier *f, uint64_t key, const fm_crawl_shape *s) {
    return fm_sql_run(f->db, "INSERT OR REPLACE INTO shape VALUES(?,?,?)",
                      V(key_value(key), FM_SQL_I(s->n), FM_SQL_I(s->same)), NULL, NULL);
}

fm_status fm_frontier_tally(fm_frontier *f, const char *why) {
    return fm_tally_add(&f->tallies, why, 1);
}

fm_status fm_frontier_setting(fm_frontier *f, const char *name, int64_t *value) {
    *value = 0;
    return fm_sql_run(f->db, "SELECT value FROM setting WHERE name=?", V(FM_SQL_T(name)), one_int, value);
}

fm_status fm_frontier_set_setting(fm_frontier *f, const char *name, int64_t value) {
    return fm_sql_run(f->db, "INSERT OR REPLACE INTO setting VALUES(?,?)", V(FM_SQL_T(name), FM_SQL_I(value)), NULL,
                      NULL);
}

static fm_status one_count(void *arg, const fm_sql_value *c, int n) {
    FM_UNUSED(n);
    fm_crawl_result *r = arg;
    if (r->n_counts < FM_CRAWL_COUNTS) {
        fm_crawl_count *to = &r->count[r->n_counts++];
        (void)snprintf(to->what, sizeof to->what, "%s", c[0].t ? c[0].t : "other");
        to->n = c[1].i;
    }
    return FM_OK;
}

fm_status fm_frontier_report(fm_frontier *f, fm_crawl_result *r) {
    r->n_counts = 0;
    FM_TRY(fm_sql_run(f->db, "SELECT count(*) FROM url WHERE state=0", NULL, 0, one_int, &r->n_waiting));
    FM_TRY(fm_sql_run(f->db, "SELECT count(*) FROM host", NULL, 0, one_int, &r->n_hosts));
    FM_TRY(fm_sql_run(f->db, "SELECT note, count(*) FROM url WHERE state<>0 GROUP BY note ORDER BY 2 DESC, 1 LIMIT 40",
                      NULL, 0, one_count, r));
    return fm_sql_run(f->db, "SELECT 'link: '||why, n FROM tally ORDER BY 2 DESC, 1 LIMIT 20", NULL, 0, one_count, r);
}
