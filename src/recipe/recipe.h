/* Inside of recipes. */
#ifndef FM_RECIPE_RECIPE_H
#define FM_RECIPE_RECIPE_H

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "fathom/recipe.h"

typedef struct fm_texts_list {
    char **item;
    size_t n, cap;
} fm_texts_list;
FM_MUST_CHECK fm_status fm_list_add(fm_texts_list *l, const char *text, size_t n);
void fm_list_free(fm_texts_list *l);

/* How a command says where its result goes. */
typedef enum fm_stage_output {
    FM_OUT_OPTION, /* an option: --output=PATH */
    FM_OUT_LAST,   /* the last argument */
    FM_OUT_STDOUT  /* what it prints */
} fm_stage_output;

typedef struct fm_recipe_stage_ {
    char *name, *command;     /* command: one or two words */
    char *output;             /* path */
    fm_texts_list args;       /* positional, with ${...} filled in */
    fm_texts_list key, value; /* options in file order; a list has its key again for each item */
    fm_texts_list input;      /* files that no argument names */
    size_t line;
    bool names_output; /* ${out} stands somewhere: nothing is added */
} fm_stage;

struct fm_recipe {
    char *path, *name, *output_dir, *text;
    fm_texts_list var, var_value;
    fm_stage *stage;
    size_t n, cap;
};

/* What a stage's result depends on: name and value, in a fixed order (state.c). */
typedef struct fm_stage_parts {
    fm_texts_list name, value;
} fm_stage_parts;
FM_MUST_CHECK fm_status fm_parts_add(fm_stage_parts *p, const char *name, const char *value);
void fm_parts_free(fm_stage_parts *p);

/* What is known of a stage from before. */
typedef struct fm_stage_record {
    bool found, done;
    fm_stage_parts parts;
    char output_hash[33], signature[33];
    double seconds;
    fm_json *inputs; /* path -> [signature, hash] */
} fm_stage_record;
FM_MUST_CHECK fm_status fm_record_load(fm_stage_record *out, const fm_recipe *r, const fm_stage *s);
void fm_record_deinit(fm_stage_record *rec);
FM_MUST_CHECK fm_status fm_record_save(const fm_stage_record *rec, const fm_recipe *r, const fm_stage *s);

/* Hash of what a file or folder holds; files that say when or how fast (logs, checkpoints, events) do not count. ""
 * when it is not there. The signature is of names, sizes and times alone: as long as it stays, so does the hash. */
FM_MUST_CHECK fm_status fm_tree_hash(char out[33], const char *path);
FM_MUST_CHECK fm_status fm_tree_signature(char out[33], const char *path);

/* Where a command's result goes; *key is its option. */
fm_stage_output fm_stage_output_of(const char *command, const char **key);

#endif
