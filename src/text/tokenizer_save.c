/* Writing tokenizer.json and tokenizer_config.json. */
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "text/bpe.h"

/* The text of a token as the file has it. */
static void put_token(fm_str *out, const fm_tokenizer *t, uint32_t id) {
    const fm_tok_entry *e = &t->entry[id];
    const char *bytes = t->blob.data + e->off;
    if (e->flags & (FM_TOK_ADDED | FM_TOK_LITERAL)) {
        fm_str_append(out, bytes, e->len);
    } else {
        fm_bytes_to_mapped(out, bytes, e->len);
    }
}

static void put_quoted(fm_str *out, fm_str *scratch, const fm_tokenizer *t, uint32_t id) {
    fm_str_clear(scratch);
    put_token(scratch, t, id);
    fm_str_json(out, scratch->data ? scratch->data : "", scratch->len);
    out->failed |= scratch->failed;
}

static const char *bool_text(bool b) {
    return b ? "true" : "false";
}

static void put_added(fm_str *out, fm_str *scratch, const fm_tokenizer *t) {
    fm_str_puts(out, "  \"added_tokens\": [");
    for (size_t i = 0; i < t->n_added; i++) {
        const fm_added_token *a = &t->added[i];
        fm_str_printf(out, "%s\n    {\"id\": %d, \"content\": ", i ? "," : "", a->id);
        put_quoted(out, scratch, t, (uint32_t)a->id);
        fm_str_printf(out,
                      ", \"single_word\": %s, \"lstrip\": %s, \"rstrip\": %s, \"normalized\": %s, \"special\": %s}",
                      bool_text(a->single_word), bool_text(a->lstrip), bool_text(a->rstrip), bool_text(a->normalized),
                      bool_text(a->special));
    }
    fm_str_puts(out, t->n_added ? "\n  ],\n" : "],\n");
}

static void put_byte_level(fm_str *out, bool prefix_space, bool use_regex) {
    fm_str_printf(out, "{\"type\": \"ByteLevel\", \"add_prefix_space\": %s, \"trim_offsets\": true, \"use_regex\": %s}",
                  bool_text(prefix_space), bool_text(use_regex));
}

static void put_pre_tokenizer(fm_str *out, const fm_tokenizer *t) {
    fm_str_puts(out, "  \"pre_tokenizer\": ");
    if (t->split == FM_SPLIT_NONE || t->split == FM_SPLIT_GPT2) {
        put_byte_level(out, t->add_prefix_space, t->split == FM_SPLIT_GPT2);
    } else {
        fm_str_puts(out, "{\"type\": \"Sequence\", \"pretokenizers\": [");
        const char *regex;
        for (int i = 0; (regex = fm_split_regex(t->split, i)) != NULL; i++) {
            fm_str_puts(out, "\n    {\"type\": \"Split\", \"pattern\": {\"Regex\": ");
            fm_str_json(out, regex, strlen(regex));
            fm_str_puts(out, "}, \"behavior\": \"Isolated\", \"invert\": false},");
        }
        fm_str_puts(out, "\n    ");
        put_byte_level(out, t->add_prefix_space, false);
        fm_str_puts(out, "]}");
    }
    fm_str_puts(out, ",\n");
}

static void put_template_side(fm_str *out, fm_str *scratch, const fm_tokenizer *t, const int32_t *ids, int n,
                              int type) {
    for (int i = 0; i < n; i++) {
        fm_str_puts(out, "{\"SpecialToken\": {\"id\": ");
        put_quoted(out, scratch, t, (uint32_t)ids[i]);
        fm_str_printf(out, ", \"type_id\": %d}}, ", type);
    }
}

static void put_sequence(fm_str *out, fm_str *scratch, const fm_tokenizer *t, const char *name, int type) {
    put_template_side(out, scratch, t, t->prefix, t->n_prefix, type);
    fm_str_printf(out, "{\"Sequence\": {\"id\": \"%s\", \"type_id\": %d}}", name, type);
    if (t->n_suffix) {
        fm_str_puts(out, ", ");
        put_template_side(out, scratch, t, t->suffix, t->n_suffix, type);
        out->len -= 2; /* the last ", " */
    }
}

static void put_post_processor(fm_str *out, fm_str *scratch, const fm_tokenizer *t) {
    fm_str_puts(out, "  \"post_processor\": ");
    if (!t->n_prefix && !t->n_suffix) {
        put_byte_level(out, t->add_prefix_space, true);
        fm_str_puts(out, ",\n");
        return;
    }
    fm_str_puts(out, "{\"type\": \"TemplateProcessing\", \"single\": [");
    put_sequence(out, scratch, t, "A", 0);
    fm_str_puts(out, "], \"pair\": [");
    put_sequence(out, scratch, t, "A", 0);
    fm_str_puts(out, ", ");
    put_sequence(out, scratch, t, "B", 1);
    fm_str_puts(out, "], \"special_tokens\": {");
    int32_t ids[2 * FM_MAX_TEMPLATE];
    int n = 0;
    for (int i = 0; i < t->n_prefix + t->n_suffix; i++) {
        int32_t id = i < t->n_prefix ? t->prefix[i] : t->suffix[i - t->n_prefix];
        bool seen = false;
        for (int k = 0; k < n; k++) {
            seen |= ids[k] == id;
        }
        if (seen) {
            continue;
        }
        fm_str_puts(out, n ? ", " : "");
        ids[n++] = id;
        put_quoted(out, scratch, t, (uint32_t)id);
        fm_str_puts(out, ": {\"id\": ");
        put_quoted(out, scratch, t, (uint32_t)id);
        fm_str_printf(out, ", \"ids\": [%d], \"tokens\": [", id);
        put_quoted(out, scratch, t, (uint32_t)id);
        fm_str_puts(out, "]}");
    }
    fm_str_puts(out, "}},\n");
}

static void put_model(fm_str *out, fm_str *scratch, const fm_tokenizer *t) {
    fm_str_puts(out, "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": ");
    if (t->unk_token) {
        fm_str_json(out, t->unk_token, strlen(t->unk_token));
    } else {
        fm_str_puts(out, "null");
    }
    fm_str_printf(out,
                  ",\n    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n"
                  "    \"fuse_unk\": %s,\n    \"byte_fallback\": false,\n    \"ignore_merges\": %s,\n    \"vocab\": {",
                  bool_text(t->fuse_unk), bool_text(t->ignore_merges));
    const char *comma = "\n";
    for (size_t i = 0; i < t->n_ids; i++) {
        if (t->entry[i].flags & FM_TOK_VOCAB) {
            fm_str_printf(out, "%s      ", comma);
            put_quoted(out, scratch, t, (uint32_t)i);
            fm_str_printf(out, ": %zu", i);
            comma = ",\n";
        }
    }
    fm_str_puts(out, "\n    },\n    \"merges\": [");
    comma = "\n";
    /* "a b" is read by every version of the library; a pair is needed where a token holds a blank. */
    bool pairs = false;
    for (size_t i = 0; i < t->n_ids && !pairs; i++) {
        const fm_tok_entry *e = &t->entry[i];
        pairs = (e->flags & FM_TOK_VOCAB) && (e->flags & (FM_TOK_LITERAL | FM_TOK_ADDED)) && e->len &&
                memchr(t->blob.data + e->off, ' ', e->len);
    }
    for (size_t i = 0; i < t->n_merges; i++) {
        fm_str_printf(out, "%s      ", comma);
        comma = ",\n";
        if (pairs) {
            fm_str_putc(out, '[');
            put_quoted(out, scratch, t, t->merges[i].left);
            fm_str_puts(out, ", ");
            put_quoted(out, scratch, t, t->merges[i].right);
            fm_str_putc(out, ']');
            continue;
        }
        fm_str_clear(scratch);
        put_token(scratch, t, t->merges[i].left);
        fm_str_putc(scratch, ' ');
        put_token(scratch, t, t->merges[i].right);
        fm_str_json(out, scratch->data ? scratch->data : "", scratch->len);
        out->failed |= scratch->failed;
    }
    fm_str_puts(out, "\n    ]\n  }\n}\n");
}

static void put_config_token(fm_str *out, fm_str *scratch, const fm_tokenizer *t, const char *key, int32_t id) {
    fm_str_printf(out, "  \"%s\": ", key);
    if (id >= 0) {
        put_quoted(out, scratch, t, (uint32_t)id);
    } else {
        fm_str_puts(out, "null");
    }
    fm_str_puts(out, ",\n");
}

static void put_config(fm_str *out, fm_str *scratch, const fm_tokenizer *t) {
    fm_str_printf(out,
                  "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n  \"add_bos_token\": %s,\n"
                  "  \"add_eos_token\": %s,\n  \"clean_up_tokenization_spaces\": false,\n",
                  bool_text(t->add_bos), bool_text(t->add_eos));
    put_config_token(out, scratch, t, "bos_token", t->bos);
    put_config_token(out, scratch, t, "eos_token", t->eos);
    put_config_token(out, scratch, t, "pad_token", t->pad);
    put_config_token(out, scratch, t, "unk_token", t->unk);
    if (t->chat_template) {
        fm_str_puts(out, "  \"chat_template\": ");
        fm_str_json(out, t->chat_template, strlen(t->chat_template));
        fm_str_puts(out, ",\n");
    }
    fm_str_puts(out, "  \"model_max_length\": 1000000000000000019884624838656\n}\n");
}

static fm_status write_text(fm_str *s, const char *dir, const char *name) {
    char path[4096];
    FM_TRY(fm_str_check(s));
    FM_TRY(fm_path_join(path, sizeof(path), dir, name));
    return fm_file_write_atomic(path, s->data, s->len);
}

fm_status fm_tokenizer_save(const fm_tokenizer *t, const char *dir) {
    FM_TRY(fm_mkdirs(dir));
    fm_str out = {0}, scratch = {0};
    fm_str_puts(&out, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n");
    put_added(&out, &scratch, t);
    fm_str_puts(&out, t->nfc ? "  \"normalizer\": {\"type\": \"NFC\"},\n" : "  \"normalizer\": null,\n");
    put_pre_tokenizer(&out, t);
    put_post_processor(&out, &scratch, t);
    fm_str_puts(&out, "  \"decoder\": ");
    put_byte_level(&out, true, true);
    fm_str_puts(&out, ",\n");
    put_model(&out, &scratch, t);
    fm_status s = write_text(&out, dir, "tokenizer.json");
    if (s == FM_OK) {
        fm_str_clear(&out);
        put_config(&out, &scratch, t);
        s = write_text(&out, dir, "tokenizer_config.json");
    }
    fm_str_free(&out);
    fm_str_free(&scratch);
    return s;
}
