/* Addresses of pages and robots.txt: the examples of RFC 3986 and RFC 9309, and what real sites write. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "net/idn.h"
#include "net/robots.h"
#include "net/url.h"

/* Hosts in other scripts are the same host in whatever form (the forms are those that Firefox and Python's idna show).
 */
static void test_idn(void **state) {
    (void)state;
    static const struct {
        const char *ref, *want; /* NULL = refused */
    } cases[] = {
        {"http://M\xC3\xBCnchen.de/a", "http://xn--mnchen-3ya.de/a"},
        {"//XN--MNCHEN-3YA.de:80/a", "http://xn--mnchen-3ya.de/a"},
        {"http://mu\xCC\x88nchen.de:8080", "http://xn--mnchen-3ya.de:8080/"}, /* u and a combining mark */
        {"http://www.xn--mnchen-3ya.b\xC3\xBC"
         "cher.example/",
         "http://www.xn--mnchen-3ya.xn--bcher-kva.example/"},
        {"https://\xE4\xBE\x8B\xE5\xAD\x90\xE3\x80\x82\xE6\xB5\x8B\xE8\xAF\x95/x", "https://xn--fsqu00a.xn--0zwm56d/x"},
        {"http://stra\xC3\x9F"
         "e.de/",
         "http://xn--strae-oqa.de/"},
        {"http://\xEF\xBD\x81\xEF\xBD\x82.com/", "http://ab.com/"}, /* full width */
        {"http://a\xEF\xBC\x8F"
         "b.com/",
         NULL}, /* a full-width slash is none */
        {"http://\xEF\xBC\x85"
         "41.com/",
         NULL},
        {"http://a\xC3.de/", NULL}, /* no UTF-8 */
        {"http://\xC3\xBC@h/", NULL},
        {"http://h/\xC3\xBC", "http://h/%C3%BC"},
    };
    fm_str out = {0};
    if (fm_idn_open() != FM_OK) {
        fm_error_clear();
        skip();
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(cases); i++) {
        const bool good = fm_url_canonical(&out, "http://a/", cases[i].ref, strlen(cases[i].ref));
        if (good != (cases[i].want != NULL) || (good && strcmp(out.data, cases[i].want) != 0)) {
            fail_msg("'%s': '%s'", cases[i].ref, good ? out.data : "refused");
        }
    }
    fm_str_free(&out);
}

static void test_join(void **state) {
    (void)state;
    static const char base[] = "http://a/b/c/d;p?q";
    static const struct {
        const char *ref, *want; /* NULL = refused */
    } cases[] = {
        /* RFC 3986, 5.4, without fragments */
        {"g", "http://a/b/c/g"},
        {"./g", "http://a/b/c/g"},
        {"g/", "http://a/b/c/g/"},
        {"/g", "http://a/g"},
        {"//g", "http://g/"},
        {"?y", "http://a/b/c/d;p?y"},
        {"g?y", "http://a/b/c/g?y"},
        {"#s", "http://a/b/c/d;p?q"},
        {"g;x", "http://a/b/c/g;x"},
        {"", "http://a/b/c/d;p?q"},
        {".", "http://a/b/c/"},
        {"./", "http://a/b/c/"},
        {"..", "http://a/b/"},
        {"../g", "http://a/b/g"},
        {"../..", "http://a/"},
        {"../../g", "http://a/g"},
        {"../../../g", "http://a/g"},
        {"/./g", "http://a/g"},
        {"/../g", "http://a/g"},
        {"g.", "http://a/b/c/g."},
        {"..g", "http://a/b/c/..g"},
        {"./../g", "http://a/b/g"},
        {"g/./h", "http://a/b/c/g/h"},
        {"g/../h", "http://a/b/c/h"},
        {"g?y/../x", "http://a/b/c/g?y/../x"},
        {"http:g", NULL},
        /* one spelling */
        {"HTTP://WWW.Example.ORG.:80/%7Ea/%2e%2E/b%2f%e4%zz", "http://www.example.org/b%2F%E4%25zz"},
        {"https://h:443", "https://h/"},
        {"https://h:8443?x=1", "https://h:8443/?x=1"},
        {"  \n/with blank/\xC3\xA4\t ", "http://a/with%20blank/%C3%A4"},
        {"\\x\\y?a\\b", "http://a/x/y?a%5Cb"},
        {"/p?utm_source=x&id=7&PHPSESSID=abc&sid=1", "http://a/p?id=7"},
        {"/p?utm_source=x", "http://a/p"},
        {"/p;jsessionid=AB12?x=1", "http://a/p?x=1"},
        {"/p;v=1/q", "http://a/p;v=1/q"},
        {"/p?&&a&&", "http://a/p?a"},
        {"http://[::1]:8080/x", "http://[::1]:8080/x"},
        {"http://h:/x", "http://h/x"},
        /* refused */
        {"mailto:a@b", NULL},
        {"javascript:void(0)", NULL},
        {"ftp://h/", NULL},
        {"http://user:pw@h/", NULL},
        {"http://", NULL},
        {"http:///x", NULL},
        {"http://h:99999/", NULL},
        {"http://h:8a/", NULL},
        {"http://[::1/", NULL},
        {"http://h%41/", NULL},
    };
    fm_str out = {0};
    for (size_t i = 0; i < FM_ARRAY_LEN(cases); i++) {
        bool good = fm_url_canonical(&out, base, cases[i].ref, strlen(cases[i].ref));
        if (good != (cases[i].want != NULL) || (good && strcmp(out.data, cases[i].want) != 0)) {
            fail_msg("'%s' gives '%s', expected '%s'", cases[i].ref, good ? out.data : "(refused)",
                     cases[i].want ? cases[i].want : "(refused)");
        }
        if (good) { /* the spelling of a spelling is itself */
            fm_str again = {0};
            assert_true(fm_url_canonical(&again, NULL, out.data, out.len));
            assert_string_equal(again.data, out.data);
            fm_str_free(&again);
        }
    }
    assert_false(fm_url_canonical(&out, NULL, "/x", 2));
    char deep[FM_URL_MAX + 2]; /* too long */
    memset(deep, 'a', sizeof deep);
    memcpy(deep, "http://h/", 9);
    assert_false(fm_url_canonical(&out, NULL, deep, sizeof deep));
    assert_true(fm_url_canonical(&out, NULL, deep, 3000));
    fm_str_free(&out);
}

static void test_parts(void **state) {
    (void)state;
    fm_url_parts u = fm_url_split("https://h.org:8080/a/b?x=1&y");
    assert_true(fm_sv_eq(u.origin, "https://h.org:8080") && fm_sv_eq(u.host, "h.org"));
    assert_true(fm_sv_eq(u.path, "/a/b") && fm_sv_eq(u.query, "x=1&y"));
    u = fm_url_split("http://[::1]/");
    assert_true(fm_sv_eq(u.host, "[::1]") && fm_sv_eq(u.path, "/") && u.query.len == 0);
    assert_true(fm_url_key("http://a/p?x=1&y=2") == fm_url_key("http://a/p?y=2&x=1"));
    assert_true(fm_url_key("http://a/p?x=1&y=2") != fm_url_key("http://a/p?x=2&y=1"));
    assert_true(fm_url_key("http://a/p") != fm_url_key("http://a/q"));
}

typedef struct question {
    const char *path;
    bool allow;
} question;

static void ask(const char *text, const char *agent, const question *q, size_t n) {
    fm_robots *r;
    assert_int_equal(fm_robots_parse(&r, text, strlen(text), agent), FM_OK);
    for (size_t i = 0; i < n; i++) {
        if (fm_robots_allow(r, q[i].path) != q[i].allow) {
            fail_msg("%s: expected %s in\n%s", q[i].path, q[i].allow ? "allowed" : "forbidden", text);
        }
    }
    fm_robots_free(r);
}
#define ASK(text, ...)                                                                                                 \
    do {                                                                                                               \
        static const question q_[] = {__VA_ARGS__};                                                                    \
        ask(text, "fathom", q_, FM_ARRAY_LEN(q_));                                                                     \
    } while (0)

static void test_robots_groups(void **state) {
    (void)state;
    ASK("", {"/", true}, {"/x", true});
    ASK("User-agent: *\nDisallow: /\n", {"/", false}, {"/x", false}, {"/robots.txt", true});
    ASK("User-agent: *\nDisallow:\n", {"/x", true});
    /* our own group replaces the one for all, also when it forbids nothing */
    ASK("User-agent: *\nDisallow: /\n\nUser-agent: Fathom/1.0\nDisallow: /p\n", {"/x", true}, {"/p", false});
    ASK("User-agent: fathom\nDisallow:\nUser-agent: *\nDisallow: /\n", {"/x", true});
    ASK("User-agent: fathomless\nDisallow: /\n", {"/x", true});
    /* groups of one agent are joined; several agents share a group, with other lines between them */
    ASK("User-agent: fathom\nDisallow: /a\nUser-agent: x\nDisallow: /b\nUser-agent: FATHOM\nDisallow: /c\n",
        {"/a", false}, {"/b", true}, {"/c", false});
    ASK("user-agent: x\nCrawl-delay: 5\n# note\n\nuser-agent : fathom # us\nDISALLOW : /a # why\n", {"/a", false},
        {"/b", true});
    /* rules before any agent belong to nobody; a byte order mark, CR and CRLF line ends, no colon */
    ASK("Disallow: /\nUser-agent: *\nDisallow: /a\n", {"/b", true}, {"/a", false});
    ASK("\xEF\xBB\xBFUser-agent: *\r\nDisallow /x\rDisallow: /a\r\n", {"/a", false}, {"/x", true});
}

static void test_robots_rules(void **state) {
    (void)state;
    /* RFC 9309, 5.2: the longest match */
    ASK("User-Agent: fathom\nAllow: /example/page/\nDisallow: /example/page/disallowed.gif\n",
        {"/example/page/x", true}, {"/example/page/disallowed.gif", false});
    ASK("User-agent: *\nDisallow: /p\nAllow: /p\n", {"/p", true});
    ASK("User-agent: *\nAllow: /p\nDisallow: /p\n", {"/p", true});
    ASK("User-agent: *\nDisallow: /\nAllow: /$\n", {"/", true}, {"/x", false});
    /* '*' and '$' */
    ASK("User-agent: *\nDisallow: /*.php$\n", {"/a.php", false}, {"/a.php?x", true}, {"/a.phpx", true},
        {"/.php", false});
    ASK("User-agent: *\nDisallow: /fish*\n", {"/fish", false}, {"/fishheads/y", false}, {"/Fish", true});
    ASK("User-agent: *\nDisallow: *\n", {"/x", false});
    ASK("User-agent: *\nDisallow: /a*b*c$\n", {"/abc", false}, {"/aXbXc", false}, {"/aXbXcX", true}, {"/acb", true},
        {"/abcbc", false});
    ASK("User-agent: *\nDisallow: /aba$\nDisallow: /x*aba$\n", {"/aba", false}, {"/ababa", true}, {"/xab", true},
        {"/xaba", false});
    ASK("User-agent: *\nDisallow: /*?\n", {"/a?b", false}, {"/a", true});
    ASK("User-agent: *\nDisallow: a/\n", {"/a/b", false}); /* a slash that was left out */
    /* spellings: %XX */
    ASK("User-agent: *\nDisallow: /foo/bar/\xE3\x83\x84\nDisallow: /%7ejoe/\nDisallow: /a%3cd\n",
        {"/foo/bar/%E3%83%84", false}, {"/~joe/x", false}, {"/a%3Cd", false});
}

static void test_robots_other(void **state) {
    (void)state;
    fm_robots *r;
    static const char text[] = "Sitemap: https://h/a.xml\nUser-agent: *\nCrawl-delay: 2.5\nDisallow: /x\n"
                               "sitemap:https://h/b.xml.gz # more\nUser-agent: y\nCrawl-delay: 9\nCrawl-delay: -1\n";
    assert_int_equal(fm_robots_parse(&r, text, sizeof text - 1, "fathom"), FM_OK);
    assert_true(fm_robots_delay(r) == 2.5);
    assert_string_equal(fm_robots_sitemap(r, 0), "https://h/a.xml");
    assert_string_equal(fm_robots_sitemap(r, 1), "https://h/b.xml.gz");
    assert_null(fm_robots_sitemap(r, 2));
    fm_robots_free(r);
    assert_int_equal(fm_robots_parse(&r, text, sizeof text - 1, "y"), FM_OK);
    assert_true(fm_robots_delay(r) == 9);
    assert_true(fm_robots_allow(r, "/x"));
    fm_robots_free(r);
    assert_int_equal(fm_robots_parse(&r, "User-agent: fathom\nDisallow: /", 30, "fathom"), FM_OK);
    assert_true(fm_robots_delay(r) == -1);
    fm_robots_free(r);
    /* a page that is no robots.txt forbids nothing */
    assert_int_equal(fm_robots_parse(&r, "<html><p>404: not found</p>", 27, "fathom"), FM_OK);
    assert_true(fm_robots_allow(r, "/x"));
    fm_robots_free(r);
}

/* Each allocation refused in turn. */
static void test_memory(void **state) {
    (void)state;
    static const char text[] = "User-agent: *\nDisallow: /a\nAllow: /b\nSitemap: http://h/\nDisallow: $\n";
    fm_status s = FM_ERR_NO_MEMORY;
    for (int64_t i = 1; s != FM_OK; i++) {
        fm_robots *r = NULL;
        fm_mem_fail_at(i, false);
        s = fm_robots_parse(&r, text, sizeof text - 1, "fathom");
        fm_mem_fail_at(0, false);
        assert_true(s == FM_OK ? r != NULL : r == NULL && s == FM_ERR_NO_MEMORY);
        fm_robots_free(r);
        assert_true(i < 100);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_join),          cmocka_unit_test(test_idn),          cmocka_unit_test(test_parts),
        cmocka_unit_test(test_robots_groups), cmocka_unit_test(test_robots_rules), cmocka_unit_test(test_robots_other),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
