/* Vocabulary files from before tokenizer.json, as a tokenizer.json:
 *   vocab.txt                  one token a line: BERT
 *   vocab.json and merges.txt  byte-level BPE: GPT-2, RoBERTa, Qwen2
 * Which of a family it is, and its flags, are said by tokenizer_config.json (tokenizer_class). */
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "text/bpe.h"
#include "text/vocab_json.h"

#define MAX_FILE ((size_t)512 << 20)

typedef struct slow {
    const char *dir;
    const fm_json *config; /* or NULL */
    fm_str *out;
    fm_strtab ids; /* token -> id */
    fm_strtab special;
    int64_t n_ids;
} slow;

/* Text of a special token: config says it as a text or as {"content": ...}. */
static fm_sv token_text(const slow *s, const char *key, const char *def) {
    const fm_json *v = fm_json_get(s->config, key);
    size_t n;
    const char *text = fm_json_str(fm_json_is_object(v) ? fm_json_get(v, "content") : v, &n);
    return text ? (fm_sv){text, n} : fm_sv_of(def);
}

static int64_t id_of(const slow *s, fm_sv text) {
    uint32_t id;
    return fm_strtab_get(&s->ids, text.ptr, text.len, &id) ? (int64_t)id : -1;
}

static bool config_flag(const slow *s, const char *key, bool def) {
    return fm_json_bool(fm_json_get(s->config, key), def);
}

/* ---- added tokens ---- */

typedef struct added_list {
    slow *s;
    const char *comma;
} added_list;

static fm_status put_added(added_list *l, int64_t id, fm_sv text, const fm_json *flags, bool special) {
    bool seen;
    FM_TRY(fm_strtab_put(&l->s->special, text.ptr, text.len, (uint32_t)id, &seen));
    if (seen) {
        return FM_OK;
    }
    fm_str *out = l->s->out;
    fm_str_printf(out, "%s{\"id\":%lld,\"content\":", l->comma, (long long)id);
    fm_str_json(out, text.ptr, text.len);
    static const char *const names[] = {"single_word", "lstrip", "rstrip", "normalized"};
    for (size_t i = 0; i < FM_ARRAY_LEN(names); i++) {
        fm_str_printf(out, ",\"%s\":%s", names[i],
                      fm_json_bool(fm_json_get(flags, names[i]), false) ? "true" : "false");
    }
    fm_str_printf(out, ",\"special\":%s}", special ? "true" : "false");
    l->comma = ",";
    return FM_OK;
}

/* A member of added_tokens_decoder: "id": {content and flags}. */
static fm_status each_decoder(void *arg, const char *key, fm_json *value) {
    size_t n;
    int64_t id;
    const char *text = fm_json_str(fm_json_get(value, "content"), &n);
    if (!text || fm_parse_i64(&id, key) != FM_OK || id < 0 || id > INT32_MAX) {
        FM_FAIL(FM_ERR_FORMAT, "tokenizer_config.json: added_tokens_decoder[\"%.40s\"] is not a token with an id", key);
    }
    return put_added(arg, id, (fm_sv){text, n}, value, fm_json_bool(fm_json_get(value, "special"), false));
}

/* A member of added_tokens.json: "content": id. */
static fm_status each_added(void *arg, const char *key, fm_json *value) {
    int64_t id = fm_json_int(value, -1);
    if (id < 0 || id > INT32_MAX) {
        FM_FAIL(FM_ERR_FORMAT, "added_tokens.json: \"%.80s\" has no id", key);
    }
    return put_added(arg, id, fm_sv_of(key), NULL, false);
}

static fm_status put_all_added(slow *s, const char *const (*names)[2], size_t n_names) {
    added_list l = {s, ""};
    char path[4096];
    fm_json *file = NULL;
    fm_str_puts(s->out, "\"added_tokens\":[");
    fm_json *decoder = fm_json_get(s->config, "added_tokens_decoder");
    if (fm_json_is_object(decoder)) {
        FM_TRY(fm_json_each(decoder, each_decoder, &l));
    }
    for (size_t i = 0; i < n_names; i++) {
        fm_sv text = token_text(s, names[i][0], names[i][1]);
        int64_t id = id_of(s, text);
        if (text.len && id >= 0) {
            FM_TRY(put_added(&l, id, text, NULL, true));
        }
    }
    FM_TRY(fm_path_join(path, sizeof(path), s->dir, "added_tokens.json"));
    if (fm_path_exists(path)) {
        FM_TRY(fm_json_load(&file, path));
        fm_status st = fm_json_is_object(file) ? fm_json_each(file, each_added, &l) : FM_OK;
        fm_json_free(file);
        FM_TRY(st);
    }
    fm_str_puts(s->out, "],");
    return fm_str_check(s->out);
}

/* ---- vocab.txt ---- */

/* Of equal lines the last one counts. */
static fm_status put_lines(slow *s, fm_str *vocab, const char *text, size_t n, const char *path) {
    size_t line = 0;
    for (size_t i = 0; i < n; i++) {
        line += text[i] == '\n';
    }
    line += n && text[n - 1] != '\n';
    s->n_ids = (int64_t)line;
    const char *comma = "";
    for (const char *end = text + n; line > 0;) {
        const char *stop = end > text && end[-1] == '\n' ? end - 1 : end, *from = stop;
        while (from > text && from[-1] != '\n') {
            from--;
        }
        end = from;
        size_t len = (size_t)(stop - from);
        len -= len && from[len - 1] == '\r';
        line--;
        if (!fm_utf8_valid(from, len) || memchr(from, 0, len)) {
            FM_FAIL(FM_ERR_FORMAT, "%s: line %zu is not UTF-8 or has a NUL", path, line + 1);
        }
        bool seen;
        FM_TRY(fm_strtab_put(&s->ids, from, len, (uint32_t)line, &seen));
        if (!seen) {
            fm_str_puts(vocab, comma);
            comma = ",";
            fm_str_json(vocab, from, len);
            fm_str_printf(vocab, ":%zu", line);
        }
    }
    return fm_str_check(vocab);
}

static fm_status read_bert(slow *s, const char *path) {
    static const char *const names[][2] = {{"pad_token", "[PAD]"},
                                           {"unk_token", "[UNK]"},
                                           {"cls_token", "[CLS]"},
                                           {"sep_token", "[SEP]"},
                                           {"mask_token", "[MASK]"}};
    char *text = NULL;
    size_t n = 0;
    fm_str vocab = {0};
    FM_TRY(fm_file_read(&text, &n, path, MAX_FILE));
    fm_status st = put_lines(s, &vocab, text, n, path);
    if (st == FM_OK) {
        fm_str_puts(s->out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,");
        st = put_all_added(s, names, FM_ARRAY_LEN(names));
    }
    if (st == FM_OK) {
        const fm_json *accents = fm_json_get(s->config, "strip_accents");
        fm_sv cls = token_text(s, "cls_token", "[CLS]"), sep = token_text(s, "sep_token", "[SEP]");
        fm_sv unk = token_text(s, "unk_token", "[UNK]");
        fm_template_part c = {cls, id_of(s, cls), 0, 0}, e = {sep, id_of(s, sep), 0, 0}, e1 = {sep, e.id, 1, 0};
        fm_template_part a = {.seq = 'A'}, b = {.seq = 'B', .type = 1};
        fm_str_printf(s->out,
                      "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":%s,"
                      "\"strip_accents\":%s,\"lowercase\":%s},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
                      "\"post_processor\":",
                      config_flag(s, "tokenize_chinese_chars", true) ? "true" : "false",
                      !fm_json_is_bool(accents)      ? "null"
                      : fm_json_bool(accents, false) ? "true"
                                                     : "false",
                      config_flag(s, "do_lower_case", true) ? "true" : "false");
        if (c.id >= 0 && e.id >= 0) {
            fm_put_template(s->out, (fm_template_part[]){c, a, e}, 3, (fm_template_part[]){c, a, e, b, e1}, 5);
        } else {
            fm_str_puts(s->out, "null");
        }
        fm_str_puts(s->out,
                    ",\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},\"model\":{\"type\":"
                    "\"WordPiece\",\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,"
                    "\"unk_token\":");
        fm_str_json(s->out, unk.ptr, unk.len);
        fm_str_puts(s->out, ",\"vocab\":{");
        fm_str_append(s->out, vocab.data ? vocab.data : "", vocab.len);
        fm_str_puts(s->out, "}}}");
        st = fm_str_check(s->out);
    }
    fm_str_free(&vocab);
    fm_free(text);
    return st;
}

/* ---- vocab.json and merges.txt ---- */

typedef struct bpe_class {
    const char *name; /* tokenizer_class without "Tokenizer", "TokenizerFast" */
    const char *split;
    bool nfc, roberta;
} bpe_class;

static const bpe_class classes[] = {
    {"GPT2", "gpt2", false, false},   {"CodeGen", "gpt2", false, false}, {"Qwen2", "qwen2", true, false},
    {"Roberta", "gpt2", false, true}, {"Bart", "gpt2", false, true},     {"Longformer", "gpt2", false, true},
    {"LED", "gpt2", false, true},
};

static fm_status find_class(const bpe_class **out, const slow *s) {
    const char *name = fm_json_str(fm_json_get(s->config, "tokenizer_class"), NULL);
    *out = &classes[0];
    for (size_t i = 0; name && i < FM_ARRAY_LEN(classes); i++) {
        size_t n = strlen(classes[i].name);
        const char *rest = name + n;
        if (!strncmp(name, classes[i].name, n) && (!strcmp(rest, "Tokenizer") || !strcmp(rest, "TokenizerFast"))) {
            *out = &classes[i];
            return FM_OK;
        }
    }
    if (name && strcmp(name, "PreTrainedTokenizerFast") != 0) {
        (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
                           "%s: tokenizer_class \"%.80s\" with vocab.json and merges.txt is not supported", s->dir,
                           name);
        return fm_error_hint("Save it as tokenizer.json: AutoTokenizer.from_pretrained(...).save_pretrained(...)");
    }
    return FM_OK;
}

static fm_status each_id(void *arg, const char *key, fm_json *value) {
    slow *s = arg;
    int64_t id = fm_json_int(value, -1);
    return id < 0 || id > INT32_MAX ? FM_OK /* the loader names it */
                                    : fm_strtab_put(&s->ids, key, strlen(key), (uint32_t)id, NULL);
}

static fm_status put_merges(slow *s, const char *path) {
    char *text = NULL;
    size_t n = 0, line = 0;
    const char *comma = "";
    fm_status st = fm_file_read(&text, &n, path, MAX_FILE);
    for (const char *p = text, *end = text + n; st == FM_OK && p < end; line++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        stop = stop ? stop : end;
        size_t len = (size_t)(stop - p);
        len -= len && p[len - 1] == '\r';
        const char *blank = len ? memchr(p, ' ', len) : NULL;
        bool version = line == 0 && len >= 8 && memcmp(p, "#version", 8) == 0;
        if (len && !version) {
            if (!blank || !fm_utf8_valid(p, len) || memchr(p, 0, len)) {
                (void)fm_error_set(FM_ERR_FORMAT, __FILE__, __LINE__,
                                   "%s: line %zu is not two tokens with a blank between", path, line + 1);
                st = FM_ERR_FORMAT;
                break;
            }
            fm_str_puts(s->out, comma);
            comma = ",";
            fm_str_puts(s->out, "[");
            fm_str_json(s->out, p, (size_t)(blank - p));
            fm_str_puts(s->out, ",");
            fm_str_json(s->out, blank + 1, len - (size_t)(blank + 1 - p));
            fm_str_puts(s->out, "]");
        }
        p = stop + 1;
    }
    fm_free(text);
    return st;
}

static fm_status compose_bpe(slow *s, const bpe_class *c, const fm_json *vocab, const char *merges) {
    static const char *const gpt2[][2] = {{"bos_token", "<|endoftext|>"},
                                          {"eos_token", "<|endoftext|>"},
                                          {"unk_token", "<|endoftext|>"},
                                          {"pad_token", ""}};
    static const char *const roberta[][2] = {{"bos_token", "<s>"},   {"pad_token", "<pad>"},   {"eos_token", "</s>"},
                                             {"unk_token", "<unk>"}, {"mask_token", "<mask>"}, {"cls_token", "<s>"},
                                             {"sep_token", "</s>"}};
    bool prefix = config_flag(s, "add_prefix_space", false);
    fm_str_puts(s->out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,");
    FM_TRY(c->roberta ? put_all_added(s, roberta, FM_ARRAY_LEN(roberta)) : put_all_added(s, gpt2, FM_ARRAY_LEN(gpt2)));
    fm_str_puts(s->out, c->nfc ? "\"normalizer\":{\"type\":\"NFC\"}," : "\"normalizer\":null,");
    fm_str_puts(s->out, "\"pre_tokenizer\":");
    fm_put_split(s->out, fm_split_find(c->split), prefix);
    fm_str_puts(s->out, ",\"post_processor\":");
    fm_sv cls = token_text(s, "cls_token", "<s>"), sep = token_text(s, "sep_token", "</s>");
    if (c->roberta && id_of(s, cls) >= 0 && id_of(s, sep) >= 0) {
        fm_str_puts(s->out, "{\"type\":\"RobertaProcessing\",\"sep\":[");
        fm_str_json(s->out, sep.ptr, sep.len);
        fm_str_printf(s->out, ",%lld],\"cls\":[", (long long)id_of(s, sep));
        fm_str_json(s->out, cls.ptr, cls.len);
        fm_str_printf(s->out, ",%lld],\"trim_offsets\":true,\"add_prefix_space\":%s}", (long long)id_of(s, cls),
                      prefix ? "true" : "false");
    } else {
        fm_put_byte_level(s->out, prefix, true);
    }
    fm_str_puts(s->out, ",\"decoder\":");
    fm_put_byte_level(s->out, prefix, true);
    fm_str_puts(s->out,
                ",\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,"
                "\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":false,"
                "\"vocab\":");
    FM_TRY(fm_json_dump(s->out, vocab, 0));
    fm_str_puts(s->out, ",\"merges\":[");
    FM_TRY(put_merges(s, merges));
    fm_str_puts(s->out, "]}}");
    return fm_str_check(s->out);
}

static fm_status read_bpe(slow *s, const char *path, const char *merges) {
    const bpe_class *c;
    fm_json *vocab = NULL;
    FM_TRY(find_class(&c, s));
    FM_TRY(fm_json_load(&vocab, path));
    fm_status st = fm_json_is_object(vocab) ? fm_json_each(vocab, each_id, s) : FM_OK;
    if (st == FM_OK) {
        st = compose_bpe(s, c, vocab, merges);
    }
    fm_json_free(vocab);
    return st;
}

fm_status fm_slow_vocab_read(fm_str *json, const char *dir, const fm_json *config) {
    slow s = {.dir = dir, .config = config, .out = json};
    char text[4096], vocab[4096], merges[4096];
    FM_TRY(fm_path_join(text, sizeof(text), dir, "vocab.txt"));
    FM_TRY(fm_path_join(vocab, sizeof(vocab), dir, "vocab.json"));
    FM_TRY(fm_path_join(merges, sizeof(merges), dir, "merges.txt"));
    if (!fm_path_exists(text) && !(fm_path_exists(vocab) && fm_path_exists(merges))) {
        FM_FAIL(FM_ERR_NOT_FOUND, "%s has no tokenizer.json, tokenizer.model, vocab.txt, or vocab.json with merges.txt",
                dir);
    }
    fm_status st = fm_path_exists(text) ? read_bert(&s, text) : read_bpe(&s, vocab, merges);
    fm_strtab_free(&s.ids);
    fm_strtab_free(&s.special);
    return st;
}
