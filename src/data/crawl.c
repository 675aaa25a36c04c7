/* The crawler. Threads take addresses from hosts whose turn has come, one at a time from each host; asking and reading
 * happens without the lock, deciding and writing down with it. Rows and what is known of addresses become valid
 * together: the output is on disk before the database says how long it is, and a later run cuts off what is longer. */
#include "fathom/crawl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/crawl_run.h"
#include "data/html_rows.h"
#include "data/manifest.h"
#include "io/html.h"
#include "net/idn.h"

#define O(name) offsetof(fm_crawl_options, name)
static const fm_option table[] = {
    {"output", FM_OPT_STR, O(output), NULL, 0, 0, NULL, "o", "DIR",
     "Folder for the rows; DIR.crawl.db keeps the state."},
    {"seeds", FM_OPT_STR, O(seeds), NULL, 0, 0, NULL, NULL, "FILE", "More addresses to begin with, one a line."},
    {"format", FM_OPT_ENUM, O(format), "jsonl", 0, 0, "jsonl|warc", NULL, NULL,
     "Rows with the main text, or a web archive (.warc.gz)."},
    {"html", FM_OPT_ENUM, O(html), "main", 0, 0, "main|all|source", NULL, NULL, "Which text of a page."},
    {"scope", FM_OPT_ENUM, O(scope), "host", 0, 0, "host|domain|any", NULL, NULL,
     "Follow links to the hosts of the seeds, to what is below them too, or anywhere."},
    {"allow", FM_OPT_LIST, O(allow), NULL, 0, 0, NULL, NULL, "HOST", "Also hosts of this name and below it."},
    {"deny", FM_OPT_LIST, O(deny), NULL, 0, 0, NULL, NULL, "HOST", "Never hosts of this name and below it."},
    {"include", FM_OPT_LIST, O(include), NULL, 0, 0, NULL, NULL, "PATTERN",
     "Only addresses that match one of these (https://*/blog/*); seeds always."},
    {"exclude", FM_OPT_LIST, O(exclude), NULL, 0, 0, NULL, NULL, "PATTERN", "No addresses that match one of these."},
    {"depth", FM_OPT_INT, O(depth), "5", 0, 1000, NULL, NULL, NULL, "Links from a seed."},
    {"max_pages", FM_OPT_INT, O(max_pages), "10000", 0, 1e12, NULL, NULL, NULL, "Rows in all; 0 = no limit."},
    {"max_pages_per_host", FM_OPT_INT, O(max_pages_per_host), "0", 0, 1e12, NULL, NULL, NULL,
     "Pages asked of one host; 0 = no limit."},
    {"max_similar", FM_OPT_INT, O(max_similar), "5000", 1, 1e12, NULL, NULL, NULL,
     "Addresses of one host that differ in digits and parameter values only."},
    {"delay", FM_OPT_FLOAT, O(delay), "1", 0, 3600, NULL, NULL, "SECONDS",
     "Between two requests to a host; a longer Crawl-delay, or a slow answer, makes it longer."},
    {"hosts", FM_OPT_INT, O(hosts), "16", 1, 256, NULL, NULL, NULL, "Hosts asked at the same time."},
    {"retries", FM_OPT_INT, O(retries), "3", 0, 100, NULL, NULL, NULL, "More attempts after 429, 5xx or a cut line."},
    {"retry_wait", FM_OPT_FLOAT, O(retry_wait), "10", 0, 3600, NULL, NULL, "SECONDS",
     "Before the second attempt, doubled each time; Retry-After wins."},
    {"timeout", FM_OPT_INT, O(timeout), "60", 1, 3600, NULL, NULL, "SECONDS", "For one page."},
    {"max_bytes", FM_OPT_BYTES, O(max_bytes), "10MiB", 1024, 1e9, NULL, NULL, NULL,
     "Largest page, packed and unpacked."},
    {"shard_bytes", FM_OPT_BYTES, O(shard_bytes), "512MiB", 1024, 1e13, NULL, NULL, NULL, "Size of one output file."},
    {"contact", FM_OPT_STR, O(contact), NULL, 0, 0, NULL, NULL, "TEXT",
     "Address of a page or mailbox that the User-Agent gives to site owners."},
    {"no_sitemaps", FM_OPT_BOOL, O(no_sitemaps), NULL, 0, 0, NULL, NULL, NULL, "Do not read sitemaps."},
    {"overwrite", FM_OPT_BOOL, O(overwrite), NULL, 0, 0, NULL, NULL, NULL,
     "Begin anew: remove what earlier runs left."},
    {0},
};
#undef O

const fm_option *fm_crawl_option_table(void) {
    return table;
}

/* ---- begin and end -------------------------------------------------------------------------------- */

static fm_status add_seed(crawl *c, const char *text, size_t n, const char *where) {
    fm_str url = {0};
    if (!fm_url_canonical(&url, NULL, text, n)) {
        for (size_t i = 0; i < n; i++) { /* a name in another script needs a library */
            if ((unsigned char)text[i] >= 0x80 && fm_idn_open() != FM_OK) {
                fm_str_free(&url);
                return fm_error_context("%s: '%.*s'", where, (int)FM_MIN(n, (size_t)200), text);
            }
        }
        fm_status s = url.failed
                          ? fm_str_check(&url)
                          : fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "%s: '%.*s' is no http or https URL",
                                         where, (int)FM_MIN(n, (size_t)200), text);
        fm_str_free(&url);
        return s;
    }
    fm_sv h = crawl_bare_host(fm_url_split(url.data).host);
    void *p = c->seed_host;
    fm_status s = fm_grow(&p, &c->seeds_cap, c->n_seeds + 1, sizeof *c->seed_host);
    c->seed_host = p;
    if (s == FM_OK && !(c->seed_host[c->n_seeds++] = fm_strndup(h.ptr, h.len))) {
        c->n_seeds--;
        s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for seeds");
    }
    s = s == FM_OK ? crawl_add_url(c, url.data, FM_CRAWL_PAGE, 0, 0, true) : s;
    fm_str_free(&url);
    return s;
}

static fm_status add_seeds(crawl *c) {
    char *text = NULL;
    size_t n = 0;
    for (size_t i = 0; i < c->o->seed.n; i++) {
        FM_TRY(add_seed(c, c->o->seed.item[i], strlen(c->o->seed.item[i]), "seed"));
    }
    if (c->o->seeds) {
        FM_TRY(fm_file_read(&text, &n, c->o->seeds, (size_t)1 << 30));
        fm_status s = FM_OK;
        for (size_t at = 0; at < n && s == FM_OK;) {
            size_t k = strcspn(text + at, "\r\n"), skip = strspn(text + at, " \t");
            if (k > skip && text[at + skip] != '#') {
                s = add_seed(c, text + at + skip, k - skip, c->o->seeds);
            }
            at += k + 1;
        }
        fm_free(text);
        FM_TRY(s);
    }
    if (c->n_seeds == 0) {
        FM_FAIL(FM_ERR_ARGUMENT, "no address to begin with");
    }
    return FM_OK;
}

static fm_status load_host(void *user, const fm_frontier_host *known) {
    crawl *c = user;
    crawl_host *h;
    FM_TRY(crawl_add_host(c, known->origin, strlen(known->origin), &h));
    h->waiting = known->waiting;
    h->pages = known->pages;
    h->robots_at = known->robots_at;
    return known->robots ? fm_robots_parse(&h->robots, known->robots, strlen(known->robots), FM_CRAWL_AGENT) : FM_OK;
}

static fm_status clear_old(const crawl *c) {
    static const char *const ends[] = {"", "-wal", "-shm"};
    char path[4096];
    FM_TRY(fm_remove_tree(c->o->output));
    for (size_t i = 0; i < FM_ARRAY_LEN(ends); i++) {
        if (snprintf(path, sizeof path, "%s%s", c->state_path.data, ends[i]) < (int)sizeof path && unlink(path) != 0 &&
            errno != ENOENT) {
            FM_FAIL(FM_ERR_IO, "%s: %s", path, strerror(errno));
        }
    }
    return FM_OK;
}

static fm_status open_output(crawl *c) {
    fm_append_place place = {0};
    const fm_crawl_options *o = c->o;
    int64_t format = 0;
    FM_TRY(fm_frontier_setting(c->f, "file", &place.file));
    FM_TRY(fm_frontier_setting(c->f, "bytes", &place.bytes));
    FM_TRY(fm_frontier_setting(c->f, "pages", &c->n_before));
    FM_TRY(fm_frontier_setting(c->f, "output", &format));
    if (format && format != o->format + 1) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "'%s' was begun in another format", o->output);
        return fm_error_hint("give the same --format, another folder, or --overwrite");
    }
    FM_TRY(fm_frontier_set_setting(c->f, "output", o->format + 1));
    c->n_pages = c->n_before;
    fm_append_options ao = {.dir = o->output,
                            .prefix = "pages",
                            .suffix = o->format == CRAWL_WARC ? ".warc.gz" : ".jsonl",
                            .rotate_bytes = o->shard_bytes};
    return fm_append_open(&c->out, &ao, &place);
}

static fm_status start(crawl *c) {
    const fm_crawl_options *o = c->o;
    size_t n = o->output ? strlen(o->output) : 0;
    while (n > 1 && o->output[n - 1] == '/') {
        n--;
    }
    if (n == 0) {
        (void)fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "no output folder");
        return fm_error_hint("name it with --output DIR");
    }
    fm_str_append(&c->state_path, o->output, n);
    fm_str_puts(&c->state_path, ".crawl.db");
    fm_str_puts(&c->agent, "fathom/" FATHOM_VERSION " (crawler");
    if (o->contact) {
        fm_str_printf(&c->agent, "; +%s", o->contact);
    }
    fm_str_putc(&c->agent, ')');
    FM_TRY(fm_str_check(&c->state_path));
    FM_TRY(fm_str_check(&c->agent));
    if (o->contact && strpbrk(o->contact, "\r\n")) {
        FM_FAIL(FM_ERR_ARGUMENT, "contact: a line end has no place in a header");
    }
    if (o->overwrite) {
        FM_TRY(clear_old(c));
    } else if (fm_path_exists(o->output) && !fm_path_exists(c->state_path.data)) {
        (void)fm_error_set(FM_ERR_EXISTS, __FILE__, __LINE__, "'%s' exists and is no output of a crawl", o->output);
        return fm_error_hint("another folder, or --overwrite to remove it");
    }
    if (o->format == CRAWL_JSONL && o->html != FM_HTML_SOURCE) { /* without the library no page could be read */
        fm_html_page page = {0};
        fm_status s = fm_html_text(&page, "<p>x", 4, &(fm_html_options){0});
        fm_html_page_free(&page);
        FM_TRY(s);
    }
    FM_TRY(fm_frontier_open(&c->f, c->state_path.data));
    FM_TRY(fm_frontier_hosts(c->f, load_host, c));
    FM_TRY(open_output(c));
    FM_TRY(add_seeds(c));
    return crawl_commit(c);
}

static fm_status run_threads(crawl *c) {
    int n = (int)c->o->hosts, started = 0;
    crawl_job *jobs = fm_calloc((size_t)n, sizeof *jobs);
    pthread_t *threads = fm_calloc((size_t)n, sizeof *threads);
    fm_status s =
        jobs && threads ? FM_OK : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for %d threads", n);
    for (int i = 0; i < n && s == FM_OK; i++) {
        jobs[i].c = c;
        s = fm_http_new(&jobs[i].http);
    }
    for (; started < n && s == FM_OK; started++) {
        if (pthread_create(&threads[started], NULL, crawl_work, &jobs[started]) != 0) {
            s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "cannot start thread %d of %d", started + 1, n);
            pthread_mutex_lock(&c->lock);
            c->ended = true;
            pthread_mutex_unlock(&c->lock);
            break;
        }
    }
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int i = 0; jobs && i < n; i++) {
        fm_http_free(jobs[i].http);
        fm_str_free(&jobs[i].head);
        fm_str_free(&jobs[i].body);
        fm_crawl_page_free(&jobs[i].page);
    }
    fm_free(jobs);
    fm_free(threads);
    return s;
}

/* The manifest of the folder, in the form that data runs carry along. */
static fm_status write_manifest(const crawl *c, const fm_crawl_result *r) {
    char path[4096];
    fm_json *doc = fm_json_new_object(), *inputs = fm_json_new_array(), *counts = fm_json_new_object();
    fm_str text = {0};
    fm_status s = fm_manifest_begin(doc);
    s = s == FM_OK ? fm_json_set(doc, "rows", fm_json_new_int(r->n_pages)) : s;
    for (size_t i = 0; i < c->n_seeds && i < 1000 && s == FM_OK; i++) {
        fm_json *e = fm_json_new_object();
        s = fm_json_set(e, "file", fm_json_new_str(c->seed_host[i]));
        s = s == FM_OK ? fm_json_append(inputs, e) : (fm_json_free(e), s);
    }
    for (int i = 0; i < r->n_counts && s == FM_OK; i++) {
        s = fm_json_set(counts, r->count[i].what, fm_json_new_int(r->count[i].n));
    }
    s = s == FM_OK ? fm_json_set(doc, "inputs", inputs) : (fm_json_free(inputs), s);
    s = s == FM_OK ? fm_json_set(doc, "crawl", counts) : (fm_json_free(counts), s);
    s = s == FM_OK ? fm_json_dump(&text, doc, 2) : s;
    s = s == FM_OK ? fm_path_join(path, sizeof path, c->o->output, "manifest.json") : s;
    s = s == FM_OK ? fm_file_write_atomic(path, text.data, text.len) : s;
    fm_str_free(&text);
    fm_json_free(doc);
    return s;
}

static void release(crawl *c) {
    for (size_t i = 0; i < c->n_hosts; i++) {
        fm_free(c->host[i].origin);
        fm_robots_free(c->host[i].robots);
    }
    for (size_t i = 0; i < c->n_seeds; i++) {
        fm_free(c->seed_host[i]);
    }
    fm_free(c->host);
    fm_free(c->seed_host);
    fm_append_close(c->out);
    fm_frontier_close(c->f);
    fm_str_free(&c->agent);
    fm_str_free(&c->state_path);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
}

static fm_status run(crawl *c, fm_crawl_result *out) {
    FM_TRY(start(c));
    fm_meter_start(&c->meter, "crawling", "pages", (double)c->o->max_pages);
    FM_TRY(run_threads(c));
    bool cancelled = c->failed == FM_ERR_CANCELLED || fm_cancelled();
    if (c->failed != FM_OK && !cancelled) {
        fm_error_restore(&c->error);
        return c->failed;
    }
    FM_TRY(crawl_commit(c));
    fm_meter_end(&c->meter, (double)c->n_pages, "");
    if (cancelled) {
        (void)fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "interrupted after %lld pages",
                           (long long)(c->n_pages - c->n_before));
        return fm_error_hint("the same command goes on where this one stopped");
    }
    out->n_files = fm_append_files(c->out);
    FM_TRY(fm_append_finish(c->out));
    FM_TRY(fm_frontier_report(c->f, out));
    out->n_pages = c->n_pages;
    out->n_before = c->n_before;
    out->seconds = fm_now() - c->start_s;
    return write_manifest(c, out);
}

fm_status fm_crawl(fm_crawl_result *out, const fm_crawl_options *opt) {
    memset(out, 0, sizeof *out);
    if (opt->size != sizeof *opt) {
        FM_FAIL(FM_ERR_ARGUMENT, "fm_crawl_options.size is %zu, expected %zu", opt->size, sizeof *opt);
    }
    crawl c = {.o = opt, .start_s = fm_now(), .commit_s = fm_now()};
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.changed, NULL);
    fm_status s = run(&c, out);
    release(&c);
    return s;
}
