/* MinHash signatures of texts (Broder, "On the resemblance and containment of documents", 1997), in the form of
 * datatrove: shingles (runs of n words or characters of the normalised text) are hashed, each of bands x rows functions
 * (a h + b mod 2^64) mod (2^61 - 1) is minimised over them. With the hash and seed of datatrove a signature has the
 * same bits as its own. */
#ifndef FM_DATA_MINHASH_H
#define FM_DATA_MINHASH_H

#include "data/words.h"

typedef enum fm_shingle_unit { FM_SHINGLE_AUTO, FM_SHINGLE_WORD, FM_SHINGLE_CHAR } fm_shingle_unit;
typedef enum fm_shingle_hash { FM_HASH_XXH64, FM_HASH_XXH32, FM_HASH_SHA1_64, FM_HASH_SHA1_32 } fm_shingle_hash;

typedef struct fm_minhash_params {
    fm_shingle_unit unit; /* AUTO: characters when most letters belong to a script without blanks */
    fm_shingle_hash hash; /* the 32-bit ones also cut the minima to 32 bits, as datatrove does */
    int n, bands, rows;
    uint32_t seed;
    bool short_whole; /* a text with less than n units is one shingle; else it has none */
} fm_minhash_params;

typedef struct fm_minhash fm_minhash; /* read-only once made */
FM_MUST_CHECK fm_status fm_minhash_new(fm_minhash **out, const fm_minhash_params *p);
void fm_minhash_free(fm_minhash *m);

/* One thread's room. Zero-initialise. */
typedef struct fm_minhash_room {
    fm_str normal, joined;
    fm_word_list words;
    uint32_t *begin; /* of each unit in `joined`, and behind the last */
    size_t cap;
    uint64_t *shingle;
    size_t n_shingles, shingles_cap;
} fm_minhash_room;
void fm_minhash_room_free(fm_minhash_room *r);

/* Hashes of the text's shingles into r->shingle. */
FM_MUST_CHECK fm_status fm_minhash_shingles(const fm_minhash *m, fm_minhash_room *r, fm_sv text);
/* Their minima: signature [bands * rows]. At least one shingle. */
void fm_minhash_signature(const fm_minhash *m, const uint64_t *shingle, size_t n, uint64_t *signature);

/* The chance that two texts whose shingles have this Jaccard similarity meet in a band. */
double fm_minhash_caught(int bands, int rows, double similarity);

#endif
