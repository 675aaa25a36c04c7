/* Inside of data pack and data check. */
#ifndef FM_DATA_PACK_H
#define FM_DATA_PACK_H

#include "data/columns.h"
#include "data/source.h"
#include "fathom/data.h"

typedef enum fm_long_rows { FM_LONG_CUT, FM_LONG_SPLIT, FM_LONG_DROP, FM_LONG_REFUSE } fm_long_rows;

struct fm_pack_config {
    fm_rows_config rows;
    char *tokenizer, *output, *rejects;
    int64_t cutoff_len, shard_tokens, threads;
    int long_rows; /* fm_long_rows */
    double val_size;
    bool add_bos, add_eos, overwrite_output_dir;
    fm_strlist frozen_tests;
    bool guarded; /* the caller has looked for rows of frozen test sets */
};

struct fm_check_config {
    fm_rows_config rows;
    char *tokenizer, *label;
    int64_t cutoff_len, threads;
    bool add_bos, add_eos;
    /* Questions and answers: */
    char *template_;
    int train_on;
    int64_t show;
    fm_columns columns;
};

/* Source options for rows; n inputs instead of those of the config when input is not NULL. Borrows from both. */
fm_source_options fm_source_options_of(const fm_rows_config *c, const char *const *input, size_t n_input);

/* Opens a tokenizer and gives the hash of its tokenizer.json, which is what makes two datasets compatible. */
FM_MUST_CHECK fm_status fm_pack_tokenizer(fm_tokenizer **out, char hash[33], const char *path);
/* Copies the tokenizer's files (from a folder, or one tokenizer.json) into dir, which is made. */
FM_MUST_CHECK fm_status fm_copy_tokenizer(const char *from, const char *dir);

#endif
