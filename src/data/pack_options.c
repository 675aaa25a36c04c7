/* Keys of data pack and data check. */
#include "data/pack.h"
#include "data/rows_options.h"

#include "base/error.h"
#include "base/mem.h"

static const fm_option pack_table[] = {
    FM_ROWS_OPTIONS(fm_pack_config),
    {"tokenizer", FM_OPT_STR, offsetof(fm_pack_config, tokenizer), NULL, 0, 0, NULL, "t", "DIR",
     "tokenizer.json or the folder that holds it"},
    {"output", FM_OPT_STR, offsetof(fm_pack_config, output), NULL, 0, 0, NULL, "o|out|output_dir", "DIR",
     "folder to write; with val_size it gets the parts train and val"},
    {"cutoff_len", FM_OPT_INT, offsetof(fm_pack_config, cutoff_len), "0", 0, 1e9, NULL, "max_length|sequence_len",
     "TOKENS", "longest document in tokens, BOS and EOS counted; 0 = no limit (training cuts windows itself)"},
    {"long_rows", FM_OPT_ENUM, offsetof(fm_pack_config, long_rows), "cut", 0, 0, "cut|split|drop|refuse", NULL, NULL,
     "what happens to rows longer than cutoff_len; all are counted"},
    {"val_size", FM_OPT_FLOAT, offsetof(fm_pack_config, val_size), "0", 0, 0.9, NULL, "val_set_size", "SHARE",
     "share of documents held out, chosen by the hash of the text, so that added rows move none"},
    {"shard_tokens", FM_OPT_INT, offsetof(fm_pack_config, shard_tokens), "64M", 1, 4e9, NULL, NULL, "TOKENS",
     "tokens in one shard file; also what stays in memory while packing"},
    {"add_bos", FM_OPT_BOOL, offsetof(fm_pack_config, add_bos), "false", 0, 0, NULL, NULL, NULL,
     "begin each document with the BOS token"},
    {"add_eos", FM_OPT_BOOL, offsetof(fm_pack_config, add_eos), "true", 0, 0, NULL, NULL, NULL,
     "end each document with the EOS token (a cut document has no end and gets none)"},
    {"rejects", FM_OPT_STR, offsetof(fm_pack_config, rejects), NULL, 0, 0, NULL, NULL, "FILE",
     "file for rows set aside, with the reason; default OUTPUT/rejects.jsonl"},
    {"frozen_tests", FM_OPT_LIST, offsetof(fm_pack_config, frozen_tests), NULL, 0, 0, NULL, NULL, "FILE",
     "test sets of `fathom data freeze` whose rows are refused, beside those known on this machine"},
    {"overwrite_output_dir", FM_OPT_BOOL, offsetof(fm_pack_config, overwrite_output_dir), "false", 0, 0, NULL,
     "overwrite", NULL, "replace a dataset that is there"},
    {"threads", FM_OPT_INT, offsetof(fm_pack_config, threads), "0", 0, 4096, NULL, "preprocessing_num_workers", "N",
     "threads of the tokenizer; 0 = all CPUs"},
    {0},
};

static const fm_option check_table[] = {
    FM_ROWS_OPTIONS(fm_check_config),
    {"tokenizer", FM_OPT_STR, offsetof(fm_check_config, tokenizer), NULL, 0, 0, NULL, "t", "DIR",
     "counts tokens with this tokenizer; without it rows are only read"},
    {"cutoff_len", FM_OPT_INT, offsetof(fm_check_config, cutoff_len), "0", 0, 1e9, NULL, "max_length|sequence_len",
     "TOKENS", "reports rows longer than this; 0 = none"},
    {"add_bos", FM_OPT_BOOL, offsetof(fm_check_config, add_bos), "false", 0, 0, NULL, NULL, NULL,
     "count a BOS token for each row"},
    {"add_eos", FM_OPT_BOOL, offsetof(fm_check_config, add_eos), "true", 0, 0, NULL, NULL, NULL,
     "count an EOS token for each row"},
    {"label", FM_OPT_STR, offsetof(fm_check_config, label), "label", 0, 0, NULL, "label_column", "NAME",
     "class column: warns when its largest class has more than 3 times the rows of its smallest"},
    {"template", FM_OPT_STR, offsetof(fm_check_config, template_), NULL, 0, 0, NULL, "chat_template", "NAME|FILE",
     "reads rows as stage sft does, with this chat template (auto: the tokenizer's own), and shows which tokens carry "
     "loss"},
    {"train_on", FM_OPT_ENUM, offsetof(fm_check_config, train_on), "answers", 0, 0, "answers|last|all", NULL, NULL,
     "with template: which text carries loss"},
    {"show", FM_OPT_INT, offsetof(fm_check_config, show), "3", 0, 1e9, NULL, NULL, "N",
     "with template: rows shown token by token"},
    FM_COLUMNS_OPTIONS(fm_check_config),
    {"threads", FM_OPT_INT, offsetof(fm_check_config, threads), "0", 0, 4096, NULL, "preprocessing_num_workers", "N",
     "threads of the tokenizer; 0 = all CPUs"},
    {0},
};

const fm_option *fm_pack_options(void) {
    return pack_table;
}
const fm_option *fm_check_options(void) {
    return check_table;
}

static fm_status config_new(void **out, size_t size, const fm_option *table) {
    *out = fm_calloc(1, size);
    if (!*out) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a configuration");
    }
    fm_status s = fm_options_init(*out, table);
    if (s != FM_OK) {
        fm_options_free(*out, table);
        fm_free(*out);
        *out = NULL;
    }
    return s;
}

fm_status fm_pack_config_new(fm_pack_config **out) {
    void *p;
    fm_status s = config_new(&p, sizeof **out, pack_table);
    *out = p;
    return s;
}
fm_status fm_check_config_new(fm_check_config **out) {
    void *p;
    fm_status s = config_new(&p, sizeof **out, check_table);
    *out = p;
    return s;
}
void fm_pack_config_free(fm_pack_config *c) {
    if (c) {
        fm_options_free(c, pack_table);
        fm_free(c);
    }
}
void fm_check_config_free(fm_check_config *c) {
    if (c) {
        fm_options_free(c, check_table);
        fm_free(c);
    }
}

fm_source_options fm_source_options_of(const fm_rows_config *c, const char *const *input, size_t n_input) {
    return (fm_source_options){.input = input ? input : (const char *const *)c->input.item,
                               .n_input = input ? n_input : c->input.n,
                               .format = c->format,
                               .txt_unit = c->txt_unit,
                               .text_column = c->text_column,
                               .text_template = c->text_template};
}
