/* State of one data pack run, shared by pack.c (files, resume, finish) and pack_rows.c (rows to documents). */
#ifndef FM_DATA_PACK_RUN_H
#define FM_DATA_PACK_RUN_H

#include <stdio.h>

#include "base/json.h"
#include "base/progress.h"
#include "data/pack.h"
#include "data/shard_write.h"

typedef struct fm_packer {
    const fm_pack_config *c;
    fm_pack_report r; /* counts of finished and current files */
    fm_bad_row_fn fn;
    void *user;
    fm_tokenizer *tok;
    char tok_hash[33];
    int32_t bos, eos;
    char work[4096];    /* OUTPUT.partial */
    char rejects[4096]; /* path of the rejects file while packing */
    FILE *rejects_file; /* NULL until the first reject */
    fm_status rejects_status;
    fm_shard_writer *train, *val; /* val NULL without val_size */
    fm_json *files;               /* names, in the order of document sources */
    uint32_t file;                /* index of the current one */
    fm_meter meter;
    double start_s;
    /* Rows waiting for the tokenizer. */
    fm_str text;
    size_t *end;
    int64_t *line;
    size_t n, cap_end, cap_line;
    int32_t *doc; /* one document with BOS and EOS */
    size_t cap_doc;
} fm_packer;

/* Counts and writes a row that is set aside. */
void fm_pack_reject(fm_packer *p, const char *file, int64_t line, const char *reason);
/* Adds a row; encodes when the batch is full. */
FM_MUST_CHECK fm_status fm_pack_row(fm_packer *p, const fm_source_row *row);
/* Encodes what waits. */
FM_MUST_CHECK fm_status fm_pack_drain(fm_packer *p);

#endif
