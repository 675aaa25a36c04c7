/* Writing tokenizer.json and tokenizer_config.json. */
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "text/bpe.h"
#include "text/vocab_json.h"

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

static fm_template_part token_part(const fm_tokenizer *t, int32_t id, int type) {
    const fm_tok_entry *e = &t->entry[id]; /* added: its text is as in the file */
    return (fm_template_part){.token = {t->blob.data + e->off, e->len}, .id = id, .type = type};
}

static void put_post_processor(fm_str *out, const fm_tokenizer *t) {
    fm_template_part part[2][4 * FM_MAX_TEMPLATE + 2];
    size_t n[2] = {0, 0};
    fm_str_puts(out, "  \"post_processor\": ");
    for (int pair = 0; pair < 2; pair++) {
        for (int k = 0; k <= pair; k++) {
            for (int i = 0; i < t->n_prefix; i++) {
                part[pair][n[pair]++] = token_part(t, t->prefix[i], k);
            }
            part[pair][n[pair]++] = (fm_template_part){.type = k, .seq = k ? 'B' : 'A'};
            for (int i = 0; i < t->n_suffix; i++) {
                part[pair][n[pair]++] = token_part(t, t->suffix[i], k);
            }
        }
    }
    if (n[0] == 1) {
        fm_put_byte_level(out, t->add_prefix_space, true);
    } else {
        fm_put_template(out, part[0], n[0], part[1], n[1]);
    }
    fm_str_puts(out, ",\n");
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

static void put_templates(fm_str *out, const fm_tokenizer *t) {
    if (t->tool_template) {
        fm_str_puts(out, "[{\"name\": \"default\", \"template\": ");
    }
    fm_str_json(out, t->chat_template, strlen(t->chat_template));
    if (t->tool_template) {
        fm_str_puts(out, "}, {\"name\": \"tool_use\", \"template\": ");
        fm_str_json(out, t->tool_template, strlen(t->tool_template));
        fm_str_puts(out, "}]");
    }
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
        put_templates(out, t);
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

/* The file that was read, but for a chat template that was changed since. */
static fm_status put_read_config(fm_str *out, const fm_tokenizer *t) {
    fm_json *copy = NULL;
    FM_TRY(fm_json_dump(out, t->config, 2));
    if (!t->template_changed) {
        return fm_str_check(out);
    }
    FM_TRY(fm_json_parse(&copy, out->data, out->len, "tokenizer_config.json"));
    fm_json_remove(copy, "chat_template");
    fm_str_clear(out);
    fm_status s = FM_OK;
    if (t->chat_template) {
        put_templates(out, t);
        fm_json *templates = NULL;
        s = fm_str_check(out);
        s = s == FM_OK ? fm_json_parse(&templates, out->data, out->len, "chat template") : s;
        s = s == FM_OK ? fm_json_set(copy, "chat_template", templates) : s;
        fm_str_clear(out);
    }
    if (s == FM_OK) {
        s = fm_json_dump(out, copy, 2);
    }
    fm_json_free(copy);
    return s;
}

static void put_json(fm_str *out, fm_str *scratch, const fm_tokenizer *t) {
    fm_str_puts(out, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n");
    put_added(out, scratch, t);
    fm_str_puts(out, "  \"normalizer\": null,\n");
    fm_str_puts(out, "  \"pre_tokenizer\": ");
    fm_put_split(out, t->split, t->add_prefix_space);
    fm_str_puts(out, ",\n");
    put_post_processor(out, t);
    fm_str_puts(out, "  \"decoder\": ");
    fm_put_byte_level(out, true, true);
    fm_str_puts(out, ",\n");
    put_model(out, scratch, t);
}

/* What was read is written back as it was; what was trained here is composed. */
fm_status fm_tokenizer_save(const fm_tokenizer *t, const char *dir) {
    FM_TRY(fm_mkdirs(dir));
    fm_str out = {0}, scratch = {0};
    if (t->source.len) {
        fm_str_append(&out, t->source.data, t->source.len);
    } else {
        put_json(&out, &scratch, t);
    }
    fm_status s = write_text(&out, dir, "tokenizer.json");
    if (s == FM_OK) {
        fm_str_clear(&out);
        if (t->config) {
            s = put_read_config(&out, t);
        } else {
            put_config(&out, &scratch, t);
        }
    }
    if (s == FM_OK) {
        s = write_text(&out, dir, "tokenizer_config.json");
    }
    fm_str_free(&out);
    fm_str_free(&scratch);
    return s;
}
