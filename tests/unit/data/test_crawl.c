/* Parts of the crawler that need no network: sitemaps, traps, likeness of addresses, files that grow. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/append.h"
#include "data/crawl_frontier.h"
#include "data/crawl_page.h"
#include "data/sitemap.h"
#include "io/html_links.h"
#include "io/pack.h"

static char dir[] = "/tmp/fathom-crawl-XXXXXX";

static fm_status collect(void *user, fm_sv url, bool list) {
    fm_str *s = user;
    fm_str_puts(s, list ? "[" : "(");
    fm_str_append(s, url.ptr, url.len);
    fm_str_puts(s, list ? "]" : ")");
    return FM_OK;
}

static void sitemap_is(const char *text, fm_status want_status, const char *want) {
    fm_str got = {0}, packed = {0};
    fm_str_puts(&got, "");
    fm_status s = fm_sitemap_read(text, strlen(text), collect, &got);
    assert_int_equal(s, want_status);
    assert_string_equal(got.data ? got.data : "", want);
    fm_str_clear(&got);
    assert_int_equal(fm_pack_bytes(&packed, FM_PACKING_GZIP, 0, text, strlen(text)), FM_OK);
    assert_int_equal(fm_sitemap_read(packed.data, packed.len, collect, &got), want_status);
    assert_string_equal(got.len ? got.data : "", want);
    fm_str_free(&got);
    fm_str_free(&packed);
}

static void test_sitemap(void **state) {
    (void)state;
    sitemap_is(
        "<?xml version='1.0'?>\n<urlset xmlns='x' xmlns:image='y'><url><loc>\n http://h/?a=1&amp;b </loc>"
        "<image:image><image:loc>http://h/i.png</image:loc></image:image></url><url><loc><![CDATA[http://h/2]]></loc>"
        "</url><url><loc/></url></urlset>",
        FM_OK, "(http://h/?a=1&b)(http://h/2)");
    sitemap_is("<sitemapindex><sitemap><loc>http://h/m.xml</loc></sitemap></sitemapindex>", FM_OK, "[http://h/m.xml]");
    sitemap_is("\xEF\xBB\xBFhttp://h/1\r\n\nhttps://h/2\nnot one\n", FM_OK, "(http://h/1)(https://h/2)");
    sitemap_is("", FM_OK, "");
    sitemap_is("<urlset><url><loc>http://h/1</loc></url><url><loc>http://h/2</l", FM_ERR_CORRUPT, "(http://h/1)");
    fm_str got = {0};
    assert_int_not_equal(fm_sitemap_read("\x1f\x8b\x08garbage", 10, collect, &got), FM_OK);
    fm_str_free(&got);
}

/* More bytes and more addresses than the protocol allows. */
static void test_sitemap_bounds(void **state) {
    (void)state;
    fm_str text = {0}, packed = {0}, got = {0};
    for (int i = 0; i < FM_SITEMAP_MAX_URLS + 10; i++) {
        fm_str_printf(&text, "http://h/%05d\n", i);
    }
    assert_int_equal(fm_sitemap_read(text.data, text.len, collect, &got), FM_OK);
    assert_int_equal(got.len, FM_SITEMAP_MAX_URLS * 16);
    fm_str_clear(&text);
    while (text.len <= FM_SITEMAP_MAX_BYTES) {
        fm_str_puts(&text, "                                                                                \n");
    }
    assert_int_equal(fm_pack_bytes(&packed, FM_PACKING_GZIP, 0, text.data, text.len), FM_OK);
    fm_str_clear(&got);
    assert_int_equal(fm_sitemap_read(packed.data, packed.len, collect, &got), FM_ERR_DATA);
    fm_str_free(&text);
    fm_str_free(&packed);
    fm_str_free(&got);
}

static void test_traps(void **state) {
    (void)state;
    static const char *const good[] = {"http://h/", "http://h/2024/05/17/a-title.html", "http://h/a/b/a/b/c",
                                       "http://h/a/a/b", "http://h/wiki/A/B/C/D/E/F?x=1&y=2&z=3"};
    static const char *const bad[] = {"http://h/a/a/a/b", "http://h/x/a/b/a/b/a/b", "http://h/a/1/a/2/a/3/a/4/a",
                                      "http://h/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20/21/22/23/24/25",
                                      "http://h/?a&b&c&d&e&f&g&h&i&j&k&l&m&n&o&p&q"};
    for (size_t i = 0; i < FM_ARRAY_LEN(good); i++) {
        assert_null(fm_crawl_trap(good[i]));
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(bad); i++) {
        assert_non_null(fm_crawl_trap(bad[i]));
    }
    bool open;
    uint64_t k = fm_crawl_shape_key("http://h/cal/2024/05?m=1&d=2", &open);
    assert_true(open);
    assert_true(k == fm_crawl_shape_key("http://h/cal/1999/11?d=77&m=x", &open));
    assert_true(k != fm_crawl_shape_key("http://h/cal/1999/11?d=77&n=x", &open));
    assert_true(k != fm_crawl_shape_key("http://i/cal/1999/11?d=77&m=x", &open));
    (void)fm_crawl_shape_key("http://h/about/us", &open);
    assert_false(open);
}

static void test_types(void **state) {
    (void)state;
    assert_true(fm_crawl_type("text/html; charset=utf-8") && fm_crawl_type("TEXT/HTML") && fm_crawl_type(""));
    assert_true(fm_crawl_type("application/xhtml+xml") && fm_crawl_type("text/plain"));
    assert_false(fm_crawl_type("text/html5") || fm_crawl_type("image/png") || fm_crawl_type("application/pdf"));
}

static void test_links(void **state) {
    (void)state;
    static const char page[] = "<html><head><base href='/b/'><link rel='canonical' href='/c'><link rel=license "
                               "href='/l'><link rel=next href=n>"
                               "<link rel=stylesheet href=s.css><meta name=ROBOTS content='index, NoFollow'><meta "
                               "http-equiv=Refresh content=\"0; "
                               "url='r.html'\"><frame src=f></head><body><a href='  x y '>1</a><a href='#top'>2</a><a "
                               "name=z>3</a><a rel='me nofollow'"
                               " href=no>4</a><map><area href=m></map><a href=''>5</a><a href=last>6";
    fm_html_links l = {0};
    assert_int_equal(fm_html_links_read(&l, page, sizeof page - 1, 100, "fathom"), FM_OK);
    fm_str all = {0};
    const char *p = l.link.data;
    for (size_t i = 0; i < l.n; i++, p += strlen(p) + 1) {
        fm_str_printf(&all, "%s|", p);
    }
    assert_true(strstr(all.data, "n|r.html|") && strstr(all.data, "x y|") && strstr(all.data, "m|last|"));
    assert_null(strstr(all.data, "css"));
    assert_null(strstr(all.data, "no|"));
    assert_string_equal(l.base.data, "/b/");
    assert_string_equal(l.canonical.data, "/c");
    assert_string_equal(l.licence.data, "/l");
    assert_true(l.nofollow && !l.noindex);
    fm_html_links_free(&l);
    assert_int_equal(fm_html_links_read(&l, page, sizeof page - 1, 2, "fathom"), FM_OK);
    assert_int_equal(l.n, 2);
    fm_html_links_free(&l);
    fm_str_free(&all);
}

static void has_file(const char *name, const char *want) {
    char path[256], *text = NULL;
    size_t n;
    snprintf(path, sizeof path, "%s/a/%s", dir, name);
    if (!want) {
        assert_false(fm_path_exists(path));
        return;
    }
    assert_int_equal(fm_file_read(&text, &n, path, 0), FM_OK);
    assert_string_equal(text, want);
    fm_free(text);
}

static void put(const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/a/%s", dir, name);
    assert_int_equal(fm_file_write_atomic(path, text, strlen(text)), FM_OK);
}

static void test_append(void **state) {
    (void)state;
    char where[256];
    snprintf(where, sizeof where, "%s/a", dir);
    fm_append_options o = {.dir = where, .prefix = "r", .suffix = ".jsonl", .rotate_bytes = 6};
    fm_append *a;
    assert_int_equal(fm_append_open(&a, &o, NULL), FM_OK);
    assert_int_equal(fm_append_write(a, "one\n", 4), FM_OK);
    assert_int_equal(fm_append_sync(a), FM_OK);
    has_file("r-000001.jsonl.open", "one\n");
    assert_int_equal(fm_append_write(a, "two\n", 4), FM_OK);
    assert_int_equal(fm_append_sync(a), FM_OK); /* full */
    has_file("r-000001.jsonl", "one\ntwo\n");
    assert_int_equal(fm_append_write(a, "three\n", 6), FM_OK);
    fm_append_close(a); /* not finished */
    has_file("r-000002.jsonl.open", "three\n");
    /* a torn row goes, the rest is gone on with */
    put("r-000002.jsonl.open", "three\n{\"to");
    assert_int_equal(fm_append_open(&a, &o, NULL), FM_OK);
    assert_int_equal(fm_append_write(a, "four\n", 5), FM_OK);
    assert_int_equal(fm_append_files(a), 2);
    assert_int_equal(fm_append_finish(a), FM_OK);
    fm_append_close(a);
    has_file("r-000002.jsonl", "three\nfour\n");
    has_file("r-000002.jsonl.open", NULL);
    /* back to a place: what is behind it goes */
    fm_append_place place = {1, 4};
    assert_int_equal(fm_append_open(&a, &o, &place), FM_OK);
    assert_int_equal(fm_append_write(a, "new\n", 4), FM_OK);
    assert_int_equal(fm_append_finish(a), FM_OK);
    fm_append_close(a);
    has_file("r-000001.jsonl", "one\nnew\n");
    has_file("r-000002.jsonl", NULL);
    place.bytes = 99; /* shorter than it was */
    assert_int_equal(fm_append_open(&a, &o, &place), FM_ERR_CORRUPT);
    /* nothing written leaves nothing */
    place = (fm_append_place){1, 8};
    o.prefix = "none";
    assert_int_equal(fm_append_open(&a, &o, NULL), FM_OK);
    assert_int_equal(fm_append_files(a), 0);
    fm_append_close(a);
    has_file("none-000001.jsonl.open", NULL);
}

static void test_frontier(void **state) {
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s/f.db", dir);
    fm_frontier *f;
    fm_status s = fm_frontier_open(&f, path);
    if (s == FM_ERR_UNSUPPORTED) {
        skip();
    }
    assert_int_equal(s, FM_OK);
    fm_crawl_item item = {.depth = 2};
    bool added, found, known;
    double wait;
    int64_t n;
    assert_int_equal(fm_frontier_host_id(f, fm_sv_of("http://h"), &item.host, &added), FM_OK);
    assert_true(added && item.host == 1);
    strcpy(item.url, "http://h/far");
    assert_int_equal(fm_frontier_add(f, &item, &added), FM_OK);
    assert_true(added);
    strcpy(item.url, "http://h/near?a=1&b=2");
    item.depth = 1;
    assert_int_equal(fm_frontier_add(f, &item, &added), FM_OK);
    strcpy(item.url, "http://h/near?b=2&a=1"); /* the same page */
    assert_int_equal(fm_frontier_add(f, &item, &added), FM_OK);
    assert_false(added);
    assert_int_equal(fm_frontier_next(f, 1, 100, &item, &found, &wait), FM_OK);
    assert_true(found);
    assert_string_equal(item.url, "http://h/near?a=1&b=2");
    assert_int_equal(fm_frontier_later(f, item.id, 150), FM_OK);
    assert_int_equal(fm_frontier_next(f, 1, 100, &item, &found, &wait), FM_OK);
    assert_string_equal(item.url, "http://h/far");
    assert_int_equal(fm_frontier_set(f, item.id, FM_CRAWL_DONE, "page"), FM_OK);
    assert_int_equal(fm_frontier_next(f, 1, 100, &item, &found, &wait), FM_OK);
    assert_true(!found && wait == 50);
    assert_int_equal(fm_frontier_text(f, 7, &known), FM_OK);
    assert_false(known);
    assert_int_equal(fm_frontier_tally(f, "why"), FM_OK);
    assert_int_equal(fm_frontier_commit(f), FM_OK);
    assert_int_equal(fm_frontier_text(f, 8, &known), FM_OK);
    fm_frontier_close(f); /* what came behind the commit is lost */
    assert_int_equal(fm_frontier_open(&f, path), FM_OK);
    assert_int_equal(fm_frontier_text(f, 7, &known), FM_OK);
    assert_true(known);
    assert_int_equal(fm_frontier_text(f, 8, &known), FM_OK);
    assert_false(known);
    assert_int_equal(fm_frontier_next(f, 1, 150, &item, &found, &wait), FM_OK);
    assert_true(found && item.tries == 1);
    assert_int_equal(fm_frontier_skip_host(f, 1, "no", &n), FM_OK);
    assert_int_equal(n, 1);
    fm_crawl_result r = {0};
    assert_int_equal(fm_frontier_report(f, &r), FM_OK);
    assert_true(r.n_waiting == 0 && r.n_hosts == 1 && r.n_counts == 3);
    assert_string_equal(r.count[2].what, "link: why");
    fm_frontier_close(f);
}

static int make_dir(void **state) {
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
    (void)state;
    return fm_remove_tree(dir) == FM_OK ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sitemap),  cmocka_unit_test(test_sitemap_bounds), cmocka_unit_test(test_traps),
        cmocka_unit_test(test_types),    cmocka_unit_test(test_links),          cmocka_unit_test(test_append),
        cmocka_unit_test(test_frontier),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
