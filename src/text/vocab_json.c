#include "text/vocab_json.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

static const char *bool_text(bool b) {
    return b ? "true" : "false";
}

void fm_put_byte_level(fm_str *out, bool prefix_space, bool use_regex) {
    fm_str_printf(out, "{\"type\":\"ByteLevel\",\"add_prefix_space\":%s,\"trim_offsets\":true,\"use_regex\":%s}",
                  bool_text(prefix_space), bool_text(use_regex));
}

void fm_put_split(fm_str *out, fm_split_kind kind, bool prefix_space) {
    if (kind == FM_SPLIT_NONE || kind == FM_SPLIT_GPT2) { /* the pattern of GPT-2 is ByteLevel's own */
        fm_put_byte_level(out, prefix_space, kind == FM_SPLIT_GPT2);
        return;
    }
    const char *regex;
    fm_str_puts(out, "{\"type\":\"Sequence\",\"pretokenizers\":[");
    for (int i = 0; (regex = fm_split_regex(kind, i)) != NULL; i++) {
        fm_str_puts(out, "{\"type\":\"Split\",\"pattern\":{\"Regex\":");
        fm_str_json(out, regex, strlen(regex));
        fm_str_puts(out, "},\"behavior\":\"Isolated\",\"invert\":false},");
    }
    fm_put_byte_level(out, prefix_space, false);
    fm_str_puts(out, "]}");
}

/* ---- templates ---- */

static void put_parts(fm_str *out, const fm_template_part *part, size_t n) {
    for (size_t i = 0; i < n; i++) {
        fm_str_puts(out, i ? "," : "");
        if (part[i].token.ptr) {
            fm_str_puts(out, "{\"SpecialToken\":{\"id\":");
            fm_str_json(out, part[i].token.ptr, part[i].token.len);
        } else {
            fm_str_printf(out, "{\"Sequence\":{\"id\":\"%c\"", part[i].seq);
        }
        fm_str_printf(out, ",\"type_id\":%d}}", part[i].type);
    }
}

void fm_put_template(fm_str *out, const fm_template_part *single, size_t n_single, const fm_template_part *pair,
                     size_t n_pair) {
    fm_str_puts(out, "{\"type\":\"TemplateProcessing\",\"single\":[");
    put_parts(out, single, n_single);
    fm_str_puts(out, "],\"pair\":[");
    put_parts(out, pair, n_pair);
    fm_str_puts(out, "],\"special_tokens\":{");
    const char *comma = "";
    for (size_t i = 0; i < n_single; i++) { /* the pair has the same tokens */
        bool seen = !single[i].token.ptr;
        for (size_t k = 0; k < i; k++) {
            seen |= single[k].token.ptr && single[k].id == single[i].id;
        }
        if (seen) {
            continue;
        }
        fm_sv t = single[i].token;
        fm_str_puts(out, comma);
        comma = ",";
        fm_str_json(out, t.ptr, t.len);
        fm_str_puts(out, ":{\"id\":");
        fm_str_json(out, t.ptr, t.len);
        fm_str_printf(out, ",\"ids\":[%lld],\"tokens\":[", (long long)single[i].id);
        fm_str_json(out, t.ptr, t.len);
        fm_str_puts(out, "]}");
    }
    fm_str_puts(out, "}}");
}

/* ---- vocabularies with scores ---- */

void fm_put_added_token(fm_str *out, int64_t id, fm_sv text, bool special) {
    fm_str_printf(out, "{\"id\":%lld,\"content\":", (long long)id);
    fm_str_json(out, text.ptr, text.len);
    fm_str_printf(out, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":%s}",
                  bool_text(special));
}

void fm_put_added_list(fm_str *out, const fm_scored_token *t, size_t n) {
    const char *comma = "";
    fm_str_puts(out, "\"added_tokens\":[");
    for (size_t i = 0; i < n; i++) {
        if (t[i].text.len &&
            (t[i].type == FM_TOKEN_UNKNOWN || t[i].type == FM_TOKEN_CONTROL || t[i].type == FM_TOKEN_USER)) {
            fm_str_puts(out, comma);
            comma = ",";
            fm_put_added_token(out, (int64_t)i, t[i].text, t[i].type != FM_TOKEN_USER);
        }
    }
    fm_str_puts(out, "],");
}

typedef struct scored {
    const fm_scored_token *item;
    size_t n;
} scored;

/* text -> index, open addressing */
typedef struct index_map {
    uint32_t *slot; /* index + 1, 0 = free */
    size_t mask;
} index_map;

static size_t hash_of(const char *p, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ (uint8_t)p[i]) * 0x100000001b3u;
    }
    return (size_t)(h ^ h >> 29);
}

/* Index of the text, or v->n; *free_slot is where it would go. */
static size_t map_find(const index_map *m, const scored *v, const char *p, size_t n, size_t *free_slot) {
    size_t i = hash_of(p, n) & m->mask;
    for (; m->slot[i]; i = (i + 1) & m->mask) {
        fm_sv t = v->item[m->slot[i] - 1].text;
        if (t.len == n && memcmp(t.ptr, p, n) == 0) {
            *free_slot = i;
            return m->slot[i] - 1;
        }
    }
    *free_slot = i;
    return v->n;
}

static fm_status map_build(index_map *m, const scored *v) {
    size_t cap = 16;
    while (cap < 2 * v->n) {
        cap *= 2;
    }
    *m = (index_map){fm_calloc(cap, sizeof *m->slot), cap - 1};
    if (!m->slot) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an index of %zu tokens", v->n);
    }
    for (size_t i = 0; i < v->n; i++) {
        size_t at;
        fm_sv t = v->item[i].text;
        if (v->item[i].type == FM_TOKEN_NORMAL && map_find(m, v, t.ptr, t.len, &at) == v->n) {
            m->slot[at] = (uint32_t)i + 1;
        }
    }
    return FM_OK;
}

typedef struct merge {
    uint32_t left, right, whole;
    float score;
} merge;

/* Best score first; merges of one score in the order of what they make. */
static int by_score(const void *a, const void *b) {
    const merge *x = a, *y = b;
    if (x->score != y->score) {
        return x->score > y->score ? -1 : 1;
    }
    if (x->whole != y->whole) {
        return x->whole < y->whole ? -1 : 1;
    }
    return x->left != y->left ? (x->left < y->left ? -1 : 1) : (x->right > y->right) - (x->right < y->right);
}

#define MAX_PIECE 256 /* bytes of a token that merges are looked for in; longer ones are separators and the like */

static fm_status find_merges(merge **out, size_t *n, const scored *v) {
    index_map map;
    size_t cap = 0, slot;
    *out = NULL;
    *n = 0;
    FM_TRY(map_build(&map, v));
    fm_status s = FM_OK;
    for (size_t i = 0; i < v->n && s == FM_OK; i++) {
        fm_sv t = v->item[i].text;
        if (v->item[i].type != FM_TOKEN_NORMAL || t.len > MAX_PIECE) {
            continue;
        }
        for (size_t k = 1; k < t.len && s == FM_OK; k++) {
            size_t a = map_find(&map, v, t.ptr, k, &slot);
            size_t b = a < v->n ? map_find(&map, v, t.ptr + k, t.len - k, &slot) : v->n;
            if (b < v->n) {
                void *p = *out;
                s = fm_grow(&p, &cap, *n + 1, sizeof **out);
                *out = p;
                if (s == FM_OK) {
                    (*out)[(*n)++] = (merge){(uint32_t)a, (uint32_t)b, (uint32_t)i, v->item[i].score};
                }
            }
        }
    }
    fm_free(map.slot);
    if (s == FM_OK && *n > 0) {
        qsort(*out, *n, sizeof **out, by_score);
    }
    return s;
}

fm_status fm_put_scored_bpe(fm_str *out, const fm_scored_token *t, size_t n, int64_t unk, bool byte_fallback,
                            unsigned left_out) {
    const scored v = {t, n};
    merge *m;
    size_t n_merges;
    const char *comma = "";
    fm_str_puts(out, "{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":");
    if (unk >= 0) {
        fm_str_json(out, t[unk].text.ptr, t[unk].text.len);
    } else {
        fm_str_puts(out, "null");
    }
    fm_str_printf(out,
                  ",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":true,"
                  "\"byte_fallback\":%s,\"ignore_merges\":false,\"vocab\":{",
                  bool_text(byte_fallback));
    for (size_t i = 0; i < n; i++) {
        if (!(left_out & 1u << t[i].type)) {
            fm_str_puts(out, comma);
            comma = ",";
            fm_str_json(out, t[i].text.ptr, t[i].text.len);
            fm_str_printf(out, ":%zu", i);
        }
    }
    fm_str_puts(out, "},\"merges\":[");
    fm_status s = find_merges(&m, &n_merges, &v);
    for (size_t i = 0; i < n_merges && s == FM_OK; i++) {
        fm_sv a = t[m[i].left].text, b = t[m[i].right].text;
        fm_str_puts(out, i ? ",[" : "[");
        fm_str_json(out, a.ptr, a.len);
        fm_str_puts(out, ",");
        fm_str_json(out, b.ptr, b.len);
        fm_str_puts(out, "]");
    }
    fm_str_puts(out, "]}");
    fm_free(m);
    return s == FM_OK ? fm_str_check(out) : s;
}

void fm_put_spm_decoder(fm_str *out, bool prefix) {
    fm_str_printf(out,
                  "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"" FM_SPM_SPACE
                  "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}%s]}",
                  prefix ? ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}" : "");
}
