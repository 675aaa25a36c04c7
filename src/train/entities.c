/* Chunk borders by the rules of conlleval (Tjong Kim Sang & Buchholz 2000). */
#include "train/entities.h"

#include <stdbool.h>
#include <string.h>

typedef struct tag {
    char letter;
    const char *type;
} tag;

static tag tag_of(const char *const *names, const int32_t *ids, int64_t i, int64_t n) {
    static const char none[] = "";
    if (i < 0 || i >= n) {
        return (tag){'O', none};
    }
    const char *s = names[ids[i]];
    return (tag){s[0], s[0] && s[1] == '-' ? s + 2 : none};
}

static bool among(char c, const char *set) {
    return c && strchr(set, c) != NULL;
}

static bool ends(tag before, tag now) {
    return among(before.letter, "ES") || (among(before.letter, "BI") && among(now.letter, "BSO")) ||
           (before.letter != 'O' && strcmp(before.type, now.type) != 0);
}
static bool begins(tag before, tag now) {
    return among(now.letter, "BS") || (among(before.letter, "ESO") && among(now.letter, "EI")) ||
           (now.letter != 'O' && strcmp(before.type, now.type) != 0);
}

void fm_entities_count(fm_entity_counts *out, const char *const *names, const int32_t *said, const int32_t *wanted,
                       int64_t n) {
    const int32_t *ids[2] = {said, wanted};
    bool open[2] = {false, false}, both = false; /* both: the open entities began together, with one type */
    for (int64_t i = 0; i <= n; i++) {
        bool end[2], begin[2];
        tag now[2];
        for (int k = 0; k < 2; k++) {
            tag before = tag_of(names, ids[k], i - 1, n);
            now[k] = tag_of(names, ids[k], i, n);
            end[k] = open[k] && ends(before, now[k]);
            begin[k] = i < n && begins(before, now[k]);
        }
        out->right += both && end[0] && end[1];
        both = both && !end[0] && !end[1];
        for (int k = 0; k < 2; k++) {
            open[k] = (open[k] && !end[k]) || begin[k];
        }
        out->said += begin[0];
        out->wanted += begin[1];
        if (begin[0] || begin[1]) {
            both = begin[0] && begin[1] && strcmp(now[0].type, now[1].type) == 0;
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
