/* Chunk borders by the rules of conlleval (Tjong Kim Sang & Buchholz 2000). */
#include "data/entities.h"

#include <string.h>

fm_entity_tag fm_entity_tag_of(const char *p, size_t n) {
    fm_entity_tag t = {.kind = n > 0 ? p[0] : 'O', .type = p + (n > 0), .type_len = n - (n > 0)};
    const char *dash = t.type_len > 0 ? memchr(t.type, '-', t.type_len) : NULL;
    if (dash) {
        t.type_len -= (size_t)(dash + 1 - t.type);
        t.type = dash + 1;
    }
    return t.type_len > 0 ? t : (fm_entity_tag){.kind = t.kind, .type = "_", .type_len = 1};
}

fm_entity_tag fm_entity_tag_none(void) {
    return (fm_entity_tag){.kind = 'O', .type = ""};
}

bool fm_entity_same_type(const fm_entity_tag *a, const fm_entity_tag *b) {
    return a->type_len == b->type_len && memcmp(a->type, b->type, a->type_len) == 0;
}

static bool among(char c, const char *set) {
    return c && strchr(set, c) != NULL;
}

bool fm_entity_ends(const fm_entity_tag *before, const fm_entity_tag *now) {
    return among(before->kind, "ES") || (among(before->kind, "BI") && among(now->kind, "BSO")) ||
           (!among(before->kind, "O.") && !fm_entity_same_type(before, now));
}

bool fm_entity_begins(const fm_entity_tag *before, const fm_entity_tag *now) {
    return among(now->kind, "BS") || (among(before->kind, "ESO") && among(now->kind, "EI")) ||
           (!among(now->kind, "O.") && !fm_entity_same_type(before, now));
}

static fm_entity_tag tag_at(const char *const *names, const int32_t *ids, int64_t i, int64_t n) {
    return i < 0    ? fm_entity_tag_none()
           : i >= n ? fm_entity_tag_of("O", 1)
                    : fm_entity_tag_of(names[ids[i]], strlen(names[ids[i]]));
}

void fm_entities_count(fm_entity_counts *out, const char *const *names, const int32_t *said, const int32_t *wanted,
                       int64_t n) {
    const int32_t *ids[2] = {said, wanted};
    bool open[2] = {false, false}, both = false; /* both: the open entities began together, with one type */
    for (int64_t i = 0; i <= n; i++) {
        bool end[2], begin[2];
        fm_entity_tag now[2];
        for (int k = 0; k < 2; k++) {
            fm_entity_tag before = tag_at(names, ids[k], i - 1, n);
            now[k] = tag_at(names, ids[k], i, n);
            end[k] = open[k] && fm_entity_ends(&before, &now[k]);
            begin[k] = i < n && fm_entity_begins(&before, &now[k]);
        }
        out->right += both && end[0] && end[1];
        both = both && !end[0] && !end[1];
        for (int k = 0; k < 2; k++) {
            open[k] = (open[k] && !end[k]) || begin[k];
        }
        out->said += begin[0];
        out->wanted += begin[1];
        if (begin[0] || begin[1]) {
            both = begin[0] && begin[1] && fm_entity_same_type(&now[0], &now[1]);
        }
    }
}

double fm_entity_precision(const fm_entity_counts *c) {
    return c->said > 0 ? (double)c->right / (double)c->said : 0;
}
double fm_entity_recall(const fm_entity_counts *c) {
    return c->wanted > 0 ? (double)c->right / (double)c->wanted : 0;
}
double fm_entity_f1(const fm_entity_counts *c) {
    return c->said + c->wanted > 0 ? 2 * (double)c->right / (double)(c->said + c->wanted) : 0;
}
