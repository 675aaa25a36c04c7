/* Entities in a sequence of tags, as conlleval and seqeval count them: a tag is "O" or a letter (B, I, E, S), a hyphen
 * and a type. An entity is right when its type and both its ends are. */
#ifndef FM_DATA_ENTITIES_H
#define FM_DATA_ENTITIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A tag taken apart; the type of "O", and of a tag without one, is "_". `type` points into the tag. */
typedef struct fm_entity_tag {
    char kind;
    const char *type;
    size_t type_len;
} fm_entity_tag;
fm_entity_tag fm_entity_tag_of(const char *p, size_t n);
/* What stands before the first tag: its type is one that no tag has. */
fm_entity_tag fm_entity_tag_none(void);
bool fm_entity_same_type(const fm_entity_tag *a, const fm_entity_tag *b);
/* Whether an entity that `before` belongs to ends before `now`; whether one begins at `now`. */
bool fm_entity_ends(const fm_entity_tag *before, const fm_entity_tag *now);
bool fm_entity_begins(const fm_entity_tag *before, const fm_entity_tag *now);

typedef struct fm_entity_counts {
    int64_t right, said, wanted;
} fm_entity_counts;

/* names [n_labels]; said, wanted [n] ids of tags. Adds to *out. */
void fm_entities_count(fm_entity_counts *out, const char *const *names, const int32_t *said, const int32_t *wanted,
                       int64_t n);
/* 0 where nothing was said or wanted, as seqeval. */
double fm_entity_precision(const fm_entity_counts *c);
double fm_entity_recall(const fm_entity_counts *c);
double fm_entity_f1(const fm_entity_counts *c);

#endif
