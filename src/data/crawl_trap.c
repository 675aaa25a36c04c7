/* Addresses that machines make without end: see crawl_page.h. Links that lead ever deeper (a relative link to a folder
 * that answers to everything), calendars, sorted and filtered lists, ids of visits that no list names. */
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/str.h"
#include "data/crawl_page.h"
#include "net/url.h"

#define MOST_BYTES      2000
#define MOST_SEGMENTS   24
#define MOST_PARAMETERS 16
#define LONGEST_CYCLE   6

static bool same(fm_sv a, fm_sv b) {
    return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0;
}

/* A run of 1 to 6 segments three times in a row, or one segment five times anywhere. */
static bool repeats(const fm_sv *seg, size_t n) {
    for (size_t k = 1; k <= LONGEST_CYCLE; k++) {
        size_t equal = 0;
        for (size_t i = k; i < n; i++) {
            equal = same(seg[i], seg[i - k]) ? equal + 1 : 0;
            if (equal >= 2 * k) {
                return true;
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        size_t count = 0;
        for (size_t j = i; j < n; j++) {
            count += same(seg[i], seg[j]);
        }
        if (count >= 5) {
            return true;
        }
    }
    return false;
}

const char *fm_crawl_trap(const char *url) {
    fm_url_parts u = fm_url_split(url);
    fm_sv seg[MOST_SEGMENTS];
    size_t n = 0, params = u.query.len > 0;
    if (strlen(url) > MOST_BYTES) {
        return "address too long";
    }
    for (const char *p = u.path.ptr, *end = p + u.path.len; p < end;) {
        const char *next = memchr(p + 1, '/', (size_t)(end - p - 1));
        next = next ? next : end;
        if (next - p > 1) {
            if (n == MOST_SEGMENTS) {
                return "path too deep";
            }
            seg[n++] = (fm_sv){p + 1, (size_t)(next - p - 1)};
        }
        p = next;
    }
    for (size_t i = 0; i < u.query.len; i++) {
        params += u.query.ptr[i] == '&';
    }
    return params > MOST_PARAMETERS ? "too many parameters" : repeats(seg, n) ? "path repeats itself" : NULL;
}

uint64_t fm_crawl_shape_key(const char *url, bool *open) {
    fm_url_parts u = fm_url_split(url);
    uint64_t key = fm_hash64(u.origin.ptr, u.origin.len, 1);
    char buf[2 * FM_URL_MAX];
    size_t n = 0;
    *open = u.query.len > 0;
    for (size_t i = 0; i < u.path.len; i++) {
        bool digit = u.path.ptr[i] >= '0' && u.path.ptr[i] <= '9';
        *open = *open || digit;
        if (!digit || n == 0 || buf[n - 1] != '#') {
            buf[n++] = digit ? '#' : u.path.ptr[i];
        }
    }
    key = fm_hash64(buf, n, key);
    uint64_t names = 0; /* of parameters, in any order */
    for (const char *p = u.query.ptr, *end = p + u.query.len; p < end;) {
        size_t k = 0;
        while (p + k < end && p[k] != '=' && p[k] != '&') {
            k++;
        }
        names += fm_hash64(p, k, 2);
        const char *next = memchr(p, '&', (size_t)(end - p));
        p = next ? next + 1 : end;
    }
    return key ^ names;
}
