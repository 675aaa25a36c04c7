/* GGUF vocabularies as tokenizer.json, so that one loader knows what a tokenizer is.
 *   gpt2: byte-level BPE; tokens in the form of tokenizer.json, merges listed, split pattern by name
 *   llama: SentencePiece BPE; merges follow from the scores
 *   bert: WordPiece; beginnings of words are marked instead of continuations */
#include "text/gguf_vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/vocab_json.h"

/* tokenizer.ggml.pre -> our split pattern. */
typedef struct pre_row {
    const char *name;
    const char *split;
    bool ignore_merges, nfc;
} pre_row;
static const pre_row pres[] = {
    {"gpt-2", "gpt2", false, false},
    {"llama-bpe", "llama3", true, false},
    {"llama3", "llama3", true, false},
    {"llama-v3", "llama3", true, false},
    {"qwen2", "qwen2", false, true},
    {"deepseek-r1-qwen", "qwen2", false, true},
    {"deepseek-v3", "deepseek_v3", false, false},
    {"deepseek-llm", "deepseek_llm", false, false},
    {"deepseek-coder", "deepseek_coder", false, false},
};

typedef struct vocab {
    const fm_gguf *g;
    fm_scored_token *item;
    size_t n;
    fm_str *out;
} vocab;

static bool equals(fm_gguf_text t, const char *s) {
    return t.ptr && t.len == strlen(s) && memcmp(t.ptr, s, t.len) == 0;
}

static fm_status load_array(const fm_gguf_kv **out, const fm_gguf *g, const char *key, bool texts, uint64_t n) {
    *out = fm_gguf_find(g, key);
    if (!*out) {
        return FM_OK;
    }
    bool right = (*out)->type == FM_GGUF_ARRAY && ((*out)->item == FM_GGUF_STRING) == texts;
    if (!right || (n > 0 && (*out)->n != n)) {
        FM_FAIL(FM_ERR_FORMAT, "metadata key \"%s\": expected %llu %s, found %llu of another kind or number", key,
                (unsigned long long)n, texts ? "strings" : "numbers", (unsigned long long)(*out)->n);
    }
    return FM_OK;
}

static fm_status load_tokens(vocab *v) {
    const fm_gguf_kv *tokens, *types, *scores;
    FM_TRY(load_array(&tokens, v->g, "tokenizer.ggml.tokens", true, 0));
    if (!tokens || tokens->n == 0) {
        FM_FAIL(FM_ERR_NOT_FOUND, "the file has no vocabulary (tokenizer.ggml.tokens)");
    }
    FM_TRY(load_array(&types, v->g, "tokenizer.ggml.token_type", false, tokens->n));
    FM_TRY(load_array(&scores, v->g, "tokenizer.ggml.scores", false, tokens->n));
    v->n = (size_t)tokens->n;
    v->item = fm_calloc(v->n, sizeof *v->item);
    if (!v->item) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %zu tokens", v->n);
    }
    const uint8_t *at = tokens->value;
    for (size_t i = 0; i < v->n; i++) {
        double type = types ? fm_gguf_item_num(types, i) : 1;
        fm_gguf_text text = fm_gguf_next_text(&at);
        v->item[i] = (fm_scored_token){.text = {text.ptr, text.len},
                                       .type = type >= 1 && type <= 6 ? (int32_t)type : 1,
                                       .score = scores ? (float)fm_gguf_item_num(scores, i) : 0};
        if (!fm_utf8_valid(v->item[i].text.ptr, v->item[i].text.len)) {
            FM_FAIL(FM_ERR_FORMAT, "tokenizer.ggml.tokens: token %zu is not UTF-8", i);
        }
    }
    return FM_OK;
}

static fm_status special_id(int64_t *out, const vocab *v, const char *name) {
    char key[64];
    snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", name);
    FM_TRY(fm_gguf_get_int(out, v->g, key, -1));
    *out = *out >= 0 && (uint64_t)*out < v->n ? *out : -1;
    return FM_OK;
}

/* ---- parts of tokenizer.json ------------------------------------------------------------------ */

static void put_string(vocab *v, fm_sv t) {
    fm_str_json(v->out, t.ptr, t.len);
}

static bool is_added(const fm_scored_token *t) {
    return t->type == FM_TOKEN_CONTROL || t->type == FM_TOKEN_USER;
}

static void put_vocab(vocab *v, bool word_pieces) {
    bool first = true;
    fm_str_puts(v->out, "\"vocab\":{");
    for (size_t i = 0; i < v->n; i++) {
        fm_sv t = v->item[i].text;
        if (v->item[i].type == FM_TOKEN_UNUSED || (is_added(&v->item[i]) && !word_pieces)) {
            continue;
        }
        fm_str_puts(v->out, first ? "" : ",");
        first = false;
        bool begins = t.len >= 3 && memcmp(t.ptr, FM_SPM_SPACE, 3) == 0;
        if (!word_pieces || is_added(&v->item[i])) {
            put_string(v, t);
        } else if (begins) {
            put_string(v, (fm_sv){t.ptr + 3, t.len - 3});
        } else {
            fm_str piece = {0};
            fm_str_puts(&piece, "##");
            fm_str_append(&piece, t.ptr, t.len);
            fm_str_json(v->out, piece.data ? piece.data : "", piece.len);
            fm_str_free(&piece);
        }
        fm_str_printf(v->out, ":%zu", i);
    }
    fm_str_puts(v->out, "}");
}

static fm_template_part token_part(const vocab *v, int64_t id, int type) {
    return (fm_template_part){.token = v->item[id].text, .id = id, .type = type};
}

/* Beginning and end tokens around one text and around two; -1 = none. */
static void put_template(vocab *v, int64_t begin, int64_t end) {
    fm_template_part part[2][6];
    size_t n[2] = {0, 0};
    for (int pair = 0; pair < 2; pair++) {
        for (int k = 0; k <= pair; k++) {
            if (begin >= 0 && (k == 0 || end < 0)) {
                part[pair][n[pair]++] = token_part(v, begin, k);
            }
            part[pair][n[pair]++] = (fm_template_part){.type = k, .seq = k ? 'B' : 'A'};
            if (end >= 0) {
                part[pair][n[pair]++] = token_part(v, end, k);
            }
        }
    }
    fm_str_puts(v->out, "\"post_processor\":");
    fm_put_template(v->out, part[0], n[0], part[1], n[1]);
    fm_str_puts(v->out, ",");
}

/* The flags say which tokens are added; without them llama.cpp's default for the model. */
static fm_status put_post_processor(vocab *v, bool bos_default, bool byte_level) {
    int64_t bos, eos;
    bool add_bos, add_eos;
    FM_TRY(special_id(&bos, v, "bos"));
    FM_TRY(special_id(&eos, v, "eos"));
    FM_TRY(fm_gguf_get_bool(&add_bos, v->g, "tokenizer.ggml.add_bos_token", bos_default));
    FM_TRY(fm_gguf_get_bool(&add_eos, v->g, "tokenizer.ggml.add_eos_token", false));
    bos = add_bos ? bos : -1;
    eos = add_eos ? eos : -1;
    if (bos >= 0 || eos >= 0) {
        put_template(v, bos, eos);
    } else if (byte_level) {
        fm_str_puts(v->out, "\"post_processor\":");
        fm_put_byte_level(v->out, false, true);
        fm_str_puts(v->out, ",");
    } else {
        fm_str_puts(v->out, "\"post_processor\":null,");
    }
    return FM_OK;
}

/* ---- kinds ----------------------------------------------------------------------------------- */

static fm_status put_merges(vocab *v) {
    const fm_gguf_kv *merges;
    FM_TRY(load_array(&merges, v->g, "tokenizer.ggml.merges", true, 0));
    fm_str_puts(v->out, ",\"merges\":[");
    const uint8_t *at = merges ? merges->value : NULL;
    for (uint64_t i = 0; merges && i < merges->n; i++) {
        fm_gguf_text t = fm_gguf_next_text(&at);
        if (!fm_utf8_valid(t.ptr, t.len)) {
            FM_FAIL(FM_ERR_FORMAT, "tokenizer.ggml.merges: merge %llu is not UTF-8", (unsigned long long)i);
        }
        fm_str_puts(v->out, i ? "," : "");
        put_string(v, (fm_sv){t.ptr, t.len});
    }
    fm_str_puts(v->out, "]}}");
    return FM_OK;
}

static fm_status gpt2_json(vocab *v) {
    fm_gguf_text pre;
    const pre_row *row = NULL;
    FM_TRY(fm_gguf_get_text(&pre, v->g, "tokenizer.ggml.pre"));
    for (size_t i = 0; i < FM_ARRAY_LEN(pres); i++) {
        row = equals(pre, pres[i].name) ? &pres[i] : row;
    }
    fm_split_kind kind = row ? fm_split_find(row->split) : FM_SPLIT_COUNT;
    if (kind == FM_SPLIT_COUNT) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "tokenizer.ggml.pre \"%.*s\" is not supported", (int)FM_MIN(pre.len, 40),
                pre.ptr ? pre.ptr : "");
    }
    fm_str_puts(v->out, row->nfc ? "\"normalizer\":{\"type\":\"NFC\"}," : "\"normalizer\":null,");
    fm_str_puts(v->out, "\"pre_tokenizer\":");
    fm_put_split(v->out, kind, false);
    fm_str_puts(v->out, ",");
    FM_TRY(put_post_processor(v, strcmp(row->split, "llama3") == 0, true));
    fm_str_puts(v->out, "\"decoder\":");
    fm_put_byte_level(v->out, false, true);
    fm_str_printf(v->out,
                  ",\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,"
                  "\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":%s,",
                  row->ignore_merges ? "true" : "false");
    put_vocab(v, false);
    return put_merges(v);
}

static fm_status llama_json(vocab *v) {
    bool prefix;
    int64_t unk;
    FM_TRY(fm_gguf_get_bool(&prefix, v->g, "tokenizer.ggml.add_space_prefix", true));
    FM_TRY(special_id(&unk, v, "unknown"));
    for (size_t i = 0; i < v->n && unk < 0; i++) {
        unk = v->item[i].type == FM_TOKEN_UNKNOWN ? (int64_t)i : unk;
    }
    fm_str_printf(v->out,
                  "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[%s{\"type\":\"Replace\",\"pattern\":"
                  "{\"String\":\" \"},\"content\":\"" FM_SPM_SPACE "\"}]},\"pre_tokenizer\":null,",
                  prefix ? "{\"type\":\"Prepend\",\"prepend\":\"" FM_SPM_SPACE "\"}," : "");
    FM_TRY(put_post_processor(v, true, false));
    for (size_t i = 0; i < v->n; i++) { /* special tokens of these files stand in the vocabulary, too */
        v->item[i].type = v->item[i].type == FM_TOKEN_CONTROL ? FM_TOKEN_NORMAL : v->item[i].type;
    }
    fm_str_puts(v->out, "\"decoder\":");
    fm_put_spm_decoder(v->out, prefix);
    fm_str_puts(v->out, ",\"model\":");
    FM_TRY(fm_put_scored_bpe(v->out, v->item, v->n, unk, true, 1u << FM_TOKEN_USER | 1u << FM_TOKEN_UNUSED));
    fm_str_puts(v->out, "}");
    return fm_str_check(v->out);
}

static fm_status bert_json(vocab *v) {
    int64_t cls, sep, unk;
    FM_TRY(special_id(&cls, v, "cls"));
    FM_TRY(special_id(&sep, v, "seperator")); /* llama.cpp's spelling */
    if (cls < 0) {
        FM_TRY(special_id(&cls, v, "bos"));
    }
    if (sep < 0) {
        FM_TRY(special_id(&sep, v, "eos"));
    }
    FM_TRY(special_id(&unk, v, "unknown"));
    fm_str_puts(v->out,
                "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"
                "\"strip_accents\":null,\"lowercase\":true},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},");
    put_template(v, cls, sep);
    fm_str_puts(v->out, "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},\"model\":{\"type\":"
                        "\"WordPiece\",\"unk_token\":");
    if (unk >= 0) {
        put_string(v, v->item[unk].text);
    } else {
        fm_str_puts(v->out, "\"[UNK]\"");
    }
    fm_str_puts(v->out, ",\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,");
    put_vocab(v, true);
    fm_str_puts(v->out, "}}");
    return FM_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static fm_status put_config(vocab *v, fm_str *config) {
    static const char *const names[] = {"bos", "eos", "unknown", "padding"};
    static const char *const keys[] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    fm_gguf_text t;
    bool flag;
    fm_str_puts(config, "{");
    for (size_t i = 0; i < FM_ARRAY_LEN(names); i++) {
        int64_t id;
        FM_TRY(special_id(&id, v, names[i]));
        if (id >= 0) {
            fm_str_printf(config, "\"%s\":", keys[i]);
            fm_str_json(config, v->item[id].text.ptr, v->item[id].text.len);
            fm_str_puts(config, ",");
        }
    }
    FM_TRY(fm_gguf_get_text(&t, v->g, "tokenizer.chat_template"));
    if (t.ptr) {
        fm_gguf_text tools = {NULL, 0};
        FM_TRY(fm_gguf_get_text(&tools, v->g, "tokenizer.chat_template.tool_use"));
        fm_str_puts(config, "\"chat_template\":[{\"name\":\"default\",\"template\":");
        fm_str_json(config, t.ptr, t.len);
        if (tools.ptr) {
            fm_str_puts(config, "},{\"name\":\"tool_use\",\"template\":");
            fm_str_json(config, tools.ptr, tools.len);
        }
        fm_str_puts(config, "}],");
    }
    FM_TRY(fm_gguf_get_bool(&flag, v->g, "tokenizer.ggml.add_eos_token", false));
    fm_str_printf(config, "\"add_eos_token\":%s}", flag ? "true" : "false");
    return fm_str_check(config);
}

static fm_status compose(vocab *v, fm_str *config) {
    static const struct {
        const char *name;
        fm_status (*json)(vocab *v);
    } kinds[] = {{"gpt2", gpt2_json}, {"llama", llama_json}, {"bert", bert_json}};
    fm_gguf_text model;
    FM_TRY(fm_gguf_get_text(&model, v->g, "tokenizer.ggml.model"));
    FM_TRY(load_tokens(v));
    FM_TRY(put_config(v, config));
    fm_str_puts(v->out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,");
    fm_put_added_list(v->out, v->item, v->n);
    for (size_t i = 0; i < FM_ARRAY_LEN(kinds); i++) {
        if (equals(model, kinds[i].name)) {
            FM_TRY(kinds[i].json(v));
            return fm_str_check(v->out);
        }
    }
    FM_FAIL(FM_ERR_UNSUPPORTED, "tokenizer.ggml.model \"%.*s\" is not supported; expected gpt2, llama or bert",
            (int)FM_MIN(model.len, 40), model.ptr ? model.ptr : "");
}

fm_status fm_gguf_tokenizer_json(fm_str *json, fm_str *config, const fm_gguf *g) {
    fm_gguf_text whole, beside;
    FM_TRY(fm_gguf_get_text(&whole, g, "tokenizer.huggingface.json"));
    FM_TRY(fm_gguf_get_text(&beside, g, "fathom.file.tokenizer_config.json"));
    if (whole.ptr && beside.ptr) {
        fm_str_append(json, whole.ptr, whole.len);
        fm_str_append(config, beside.ptr, beside.len);
        FM_TRY(fm_str_check(json));
        return fm_str_check(config);
    }
    fm_str own = {0};
    vocab v = {.g = g, .out = &own};
    fm_status s = compose(&v, config);
    if (s == FM_OK) {
        fm_gguf_text use = whole.ptr ? whole : (fm_gguf_text){own.data, own.len};
        fm_str_append(json, use.ptr, use.len);
        s = fm_str_check(json);
    }
    fm_free(v.item);
    fm_str_free(&own);
    return s;
}
