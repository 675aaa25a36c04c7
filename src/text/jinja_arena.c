/* Memory of a render and of a parsed template; strings, lists and dicts in it. */
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "text/jinja_value.h"
#include "text/unicode.h"

#define FIRST_BLOCK ((size_t)16 << 10)
#define BIG_BLOCK   ((size_t)1 << 20)
#define SMALL_DICT  8

struct fmj_block {
    fmj_block *next;
    size_t used, cap;
    _Alignas(16) unsigned char data[];
};

void *fmj_arena_alloc(fmj_arena *a, size_t n) {
    if (n > SIZE_MAX / 2 || (a->limit > 0 && (n > a->limit || a->used > a->limit - n))) {
        a->failed = fm_error_set(FM_ERR_DATA, __FILE__, __LINE__,
                                 "the template takes more than %zu MiB of memory for its values", a->limit >> 20);
        return NULL;
    }
    n = (n + 15) & ~(size_t)15;
    fmj_block *b = a->block;
    if (!b || b->cap - b->used < n) {
        size_t cap = !b ? FIRST_BLOCK : b->cap >= BIG_BLOCK / 2 ? BIG_BLOCK : 2 * b->cap;
        cap = n > cap ? n : cap;
        b = fm_malloc(sizeof *b + cap);
        if (!b) {
            a->failed = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "cannot allocate %zu bytes for a template",
                                     sizeof *b + cap);
            return NULL;
        }
        b->next = a->block;
        b->used = 0;
        b->cap = cap;
        a->block = b;
    }
    void *p = b->data + b->used;
    b->used += n;
    a->used += n;
    return p;
}

void fmj_arena_free(fmj_arena *a) {
    while (a->block) {
        fmj_block *next = a->block->next;
        fm_free(a->block);
        a->block = next;
    }
    *a = (fmj_arena){0};
}

fm_status fmj_step(fmj_run *r, size_t n) {
    if (n > (size_t)INT64_MAX || (r->steps -= (int64_t)n) < 0) {
        FM_FAIL(FM_ERR_DATA, "the template takes more than %lld steps", (long long)r->limits.steps);
    }
    return FM_OK;
}

/* ---- Strings ------------------------------------------------------------------------------------ */

fm_status fmj_str_view(fmj_run *r, fmj_value *out, const char *p, size_t n) {
    fmj_str *s = fmj_alloc(r, sizeof *s);
    FMJ_CHECK(s);
    *s = (fmj_str){.p = p, .n = n, .chars = -1};
    *out = (fmj_value){.type = FMJ_STR, .u.s = s};
    return FM_OK;
}

fm_status fmj_str_copy(fmj_run *r, fmj_value *out, const char *p, size_t n) {
    char *copy = fmj_alloc(r, n);
    FMJ_CHECK(copy);
    memcpy(copy, n ? p : "", n);
    return fmj_str_view(r, out, copy, n);
}

fm_status fmj_str_cat(fmj_run *r, fmj_value *out, const fmj_str *a, const fmj_str *b) {
    char *p = fmj_alloc(r, a->n + b->n);
    FMJ_CHECK(p);
    memcpy(p, a->p, a->n);
    memcpy(p + a->n, b->p, b->n);
    FM_TRY(fmj_str_view(r, out, p, a->n + b->n));
    if (a->chars >= 0 && b->chars >= 0) {
        out->u.s->chars = a->chars + b->chars;
    }
    return FM_OK;
}

fm_status fmj_str_take(fmj_run *r, fmj_value *out, fm_str *s) {
    fm_status st = fm_str_check(s);
    if (st == FM_OK) {
        st = fmj_str_copy(r, out, s->data ? s->data : "", s->len);
    }
    fm_str_free(s);
    return st;
}

int64_t fmj_chars(fmj_str *s) {
    if (s->chars < 0) {
        int64_t n = 0;
        for (size_t i = 0; i < s->n; i++) { /* bytes that go on with a character are 10xxxxxx */
            n += ((unsigned char)s->p[i] & 0xC0) != 0x80;
        }
        s->chars = n;
    }
    return s->chars;
}

size_t fmj_char_offset(fmj_str *s, int64_t i) {
    if (fmj_chars(s) == (int64_t)s->n) {
        return (size_t)i;
    }
    if (i == s->chars) {
        return s->n;
    }
    size_t at = 0;
    for (; at < s->n; at++) {
        if (((unsigned char)s->p[at] & 0xC0) != 0x80 && i-- == 0) {
            break;
        }
    }
    return at;
}

bool fmj_str_eq(const fmj_str *s, const char *cstr) {
    size_t n = strlen(cstr);
    return s->n == n && memcmp(s->p, cstr, n) == 0;
}

/* ---- Lists and dicts ---------------------------------------------------------------------------- */

fm_status fmj_list_new(fmj_run *r, fmj_list **out, size_t n) {
    *out = NULL;
    if (n > SIZE_MAX / 2 / sizeof(fmj_value)) {
        FM_FAIL(FM_ERR_DATA, "a list of %zu items is too long", n);
    }
    fmj_list *l = fmj_alloc(r, sizeof *l);
    FMJ_CHECK(l);
    *l = (fmj_list){.n = n};
    l->item = fmj_alloc(r, n * sizeof *l->item);
    FMJ_CHECK(l->item);
    *out = l;
    return FM_OK;
}

fm_status fmj_dict_new(fmj_run *r, fmj_dict **out, size_t cap) {
    fmj_dict *d = fmj_alloc(r, sizeof *d);
    FMJ_CHECK(d);
    *d = (fmj_dict){.cap = cap};
    if (cap > 0) {
        d->e = fmj_alloc(r, cap * sizeof *d->e);
        FMJ_CHECK(d->e);
    }
    *out = d;
    return FM_OK;
}

static uint64_t hash_value(const fmj_value *k) {
    uint64_t h = 0;
    switch (k->type) {
    case FMJ_STR:
        return fm_hash64(k->u.s->p, k->u.s->n, 1);
    case FMJ_BOOL:
    case FMJ_INT: {
        int64_t i = fmj_as_int(k);
        return fm_hash64(&i, sizeof i, 2);
    }
    case FMJ_FLOAT: /* 1.0 and 1 are one key */
        if (k->u.f >= -9e18 && k->u.f <= 9e18 && k->u.f == (double)(int64_t)k->u.f) {
            int64_t i = (int64_t)k->u.f;
            return fm_hash64(&i, sizeof i, 2);
        }
        return fm_hash64(&k->u.f, sizeof k->u.f, 3);
    case FMJ_TUPLE:
        for (size_t i = 0; i < k->u.list->n; i++) {
            h = h * 1000003u + hash_value(&k->u.list->item[i]);
        }
        return h;
    default:
        return k->type;
    }
}

/* Equality of keys: hashable values only, so that it needs no run. */
static bool key_equal(const fmj_value *a, const fmj_value *b) {
    if (a->type == FMJ_STR || b->type == FMJ_STR) {
        return a->type == b->type && a->u.s->n == b->u.s->n && memcmp(a->u.s->p, b->u.s->p, a->u.s->n) == 0;
    }
    if (fmj_is_number(a) && fmj_is_number(b)) {
        return fmj_is_int(a) && fmj_is_int(b) ? fmj_as_int(a) == fmj_as_int(b) : fmj_as_float(a) == fmj_as_float(b);
    }
    if (a->type != b->type) {
        return false;
    }
    if (a->type == FMJ_TUPLE) {
        bool same = a->u.list->n == b->u.list->n;
        for (size_t i = 0; same && i < a->u.list->n; i++) {
            same = key_equal(&a->u.list->item[i], &b->u.list->item[i]);
        }
        return same;
    }
    return a->type == FMJ_NONE || a->type == FMJ_UNDEFINED || a->u.obj == b->u.obj;
}

static fm_status hash_check(const fmj_value *key, int depth) {
    if (key->type == FMJ_LIST || key->type == FMJ_DICT || key->type == FMJ_VIEW || depth > 100) {
        FM_FAIL(FM_ERR_DATA, "unhashable type: '%s'", fmj_type_name(key));
    }
    for (size_t i = 0; key->type == FMJ_TUPLE && i < key->u.list->n; i++) {
        FM_TRY(hash_check(&key->u.list->item[i], depth + 1));
    }
    return FM_OK;
}

fm_status fmj_hash_check(fmj_run *r, const fmj_value *key) {
    FM_TRY(fmj_step(r, 1 + (key->type == FMJ_TUPLE ? key->u.list->n : 0)));
    return hash_check(key, 0);
}

fmj_value *fmj_dict_find(const fmj_dict *d, const fmj_value *key) {
    if (!d->index) {
        for (size_t i = 0; i < d->n; i++) {
            if (key_equal(&d->e[i].key, key)) {
                return &d->e[i].value;
            }
        }
        return NULL;
    }
    for (size_t h = hash_value(key) & (d->n_index - 1); d->index[h]; h = (h + 1) & (d->n_index - 1)) {
        fmj_entry *e = &d->e[d->index[h] - 1];
        if (key_equal(&e->key, key)) {
            return &e->value;
        }
    }
    return NULL;
}

fmj_value *fmj_dict_find_str(const fmj_dict *d, const char *p, size_t n) {
    fmj_str s = {.p = p, .n = n, .chars = -1};
    fmj_value key = {.type = FMJ_STR, .u.s = &s};
    return fmj_dict_find(d, &key);
}

static void index_put(fmj_dict *d, size_t i) {
    size_t h = hash_value(&d->e[i].key) & (d->n_index - 1);
    while (d->index[h]) {
        h = (h + 1) & (d->n_index - 1);
    }
    d->index[h] = (uint32_t)i + 1;
}

static fm_status index_grow(fmj_run *r, fmj_dict *d) {
    size_t n = d->n_index ? 2 * d->n_index : 32;
    if (n > UINT32_MAX / 2) {
        FM_FAIL(FM_ERR_DATA, "a dict of %zu items is too large", d->n);
    }
    uint32_t *index = fmj_alloc(r, n * sizeof *index);
    FMJ_CHECK(index);
    memset(index, 0, n * sizeof *index);
    d->index = index;
    d->n_index = n;
    for (size_t i = 0; i < d->n; i++) {
        index_put(d, i);
    }
    return FM_OK;
}

fm_status fmj_dict_put(fmj_run *r, fmj_dict *d, const fmj_value *key, const fmj_value *value) {
    FM_TRY(fmj_hash_check(r, key));
    fmj_value *found = fmj_dict_find(d, key);
    if (found) {
        *found = *value;
        return FM_OK;
    }
    if (d->n == d->cap) {
        size_t cap = d->cap ? 2 * d->cap : 4;
        fmj_entry *e = fmj_alloc(r, cap * sizeof *e);
        FMJ_CHECK(e);
        if (d->e) {
            memcpy(e, d->e, d->n * sizeof *e);
        }
        d->e = e;
        d->cap = cap;
    }
    FM_ASSERT(d->e);
    d->e[d->n] = (fmj_entry){*key, *value};
    d->n++;
    if (d->n > SMALL_DICT && 2 * d->n > d->n_index) {
        return index_grow(r, d);
    }
    if (d->index) {
        index_put(d, d->n - 1);
    }
    return FM_OK;
}

fm_status fmj_dict_put_name(fmj_run *r, fmj_dict *d, const char *key, const fmj_value *value) {
    fmj_value k;
    FM_TRY(fmj_str_view(r, &k, key, strlen(key)));
    return fmj_dict_put(r, d, &k, value);
}

/* ---- JSON --------------------------------------------------------------------------------------- */

typedef struct json_dict {
    fmj_run *r;
    fmj_dict *d;
} json_dict;

static fm_status add_member(void *arg, const char *key, fm_json *value) {
    json_dict *j = arg;
    fmj_value k, v;
    FM_TRY(fmj_str_view(j->r, &k, key, strlen(key)));
    FM_TRY(fmj_from_json(j->r, &v, value));
    return fmj_dict_put(j->r, j->d, &k, &v);
}

fm_status fmj_from_json(fmj_run *r, fmj_value *out, fm_json *j) {
    size_t n = 0;
    FM_TRY(fmj_step(r, 1));
    if (fm_json_is_string(j)) {
        const char *p = fm_json_str(j, &n);
        return fmj_str_view(r, out, p, n);
    }
    if (fm_json_is_object(j)) {
        json_dict arg = {.r = r};
        FM_TRY(fmj_dict_new(r, &arg.d, fm_json_size(j)));
        *out = fmj_of_dict(arg.d);
        return fm_json_each(j, add_member, &arg);
    }
    if (fm_json_is_array(j)) {
        fmj_list *l;
        FM_TRY(fmj_list_new(r, &l, fm_json_size(j)));
        FM_ASSERT(l);
        for (size_t i = 0; i < l->n; i++) {
            FM_TRY(fmj_from_json(r, &l->item[i], fm_json_at(j, i)));
        }
        *out = fmj_of_list(FMJ_LIST, l);
        return FM_OK;
    }
    if (fm_json_is_int(j)) {
        *out = fmj_int(fm_json_int(j, 0));
    } else if (fm_json_is_number(j)) {
        *out = fmj_float(fm_json_num(j, 0));
    } else {
        *out = fm_json_is_bool(j) ? fmj_bool(fm_json_bool(j, false)) : fmj_none();
    }
    return FM_OK;
}
