/* Entities in a sequence of tags, as conlleval and seqeval count them: a tag is "O" or a letter (B, I, E, S), a hyphen
 * and a type. An entity is right when its type and both its ends are. */
#ifndef FM_TRAIN_ENTITIES_H
#define FM_TRAIN_ENTITIES_H

#include <stdint.h>

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
