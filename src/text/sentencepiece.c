/* SentencePiece models (tokenizer.model): a protobuf message with pieces, trainer settings and normalizer settings.
 * Read by the few rules of the wire format that it needs; fields that do not matter are skipped.
 *
 *   1 pieces: 1 text, 2 score (float), 3 type
 *   2 trainer_spec: 3 model type, 24 blanks at the end of words, 35 byte fallback, 40-43 ids of unk bos eos pad
 *   3 normalizer_spec: 2 character map, 3 blank in front, 4 runs of blanks become one, 5 blanks become U+2581
 *
 * What the library does with a text beyond what tokenizer.json can say (rules of blanks, user-defined symbols inside
 * the normalizer, floats in the Unigram search) is kept in fm_spm. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/bpe.h"
#include "text/unicode.h"
#include "text/vocab_json.h"

#define MAX_PIECES ((size_t)1 << 24)

typedef struct reader {
    const uint8_t *p, *end;
    const uint8_t *begin; /* of the file */
    const char *name;
} reader;

typedef struct field {
    uint32_t number;
    uint64_t value;       /* varint, or the bits of a fixed value */
    const uint8_t *bytes; /* NULL unless length-delimited */
    size_t n;
} field;

static fm_status bad(const reader *r, const char *what) {
    FM_FAIL(FM_ERR_FORMAT, "%s: %s at byte %zu of the SentencePiece model", r->name, what, (size_t)(r->p - r->begin));
}

static fm_status read_varint(reader *r, uint64_t *out) {
    *out = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (r->p == r->end) {
            return bad(r, "a number is cut off");
        }
        uint8_t b = *r->p++;
        *out |= (uint64_t)(b & 0x7F) << shift;
        if (b < 0x80) {
            return FM_OK;
        }
    }
    return bad(r, "a number has more than ten bytes");
}

static fm_status read_field(reader *r, field *f) {
    uint64_t key, n;
    FM_TRY(read_varint(r, &key));
    *f = (field){.number = (uint32_t)(key >> 3)};
    size_t fixed = (key & 7) == 1 ? 8 : 4;
    switch (key & 7) {
    case 0:
        return read_varint(r, &f->value);
    case 1:
    case 5:
        if ((size_t)(r->end - r->p) < fixed) {
            return bad(r, "a value is cut off");
        }
        for (size_t i = 0; i < fixed; i++) {
            f->value |= (uint64_t)*r->p++ << (8 * i);
        }
        return FM_OK;
    case 2:
        FM_TRY(read_varint(r, &n));
        if (n > (uint64_t)(r->end - r->p)) {
            return bad(r, "a field is longer than the file");
        }
        f->bytes = r->p;
        f->n = (size_t)n;
        r->p += n;
        return FM_OK;
    default:
        return bad(r, "there is an unknown wire type");
    }
}

static reader inside(const reader *r, const field *f) {
    return (reader){f->bytes, f->bytes + f->n, r->begin, r->name};
}

typedef struct model {
    fm_scored_token *piece;
    size_t n, cap;
    uint64_t type; /* 1 Unigram, 2 BPE */
    bool suffix, byte_fallback, dummy_prefix, extra_blanks, escape;
    int32_t unk, bos, eos, pad;
    const uint8_t *map;
    size_t n_map;
} model;

static fm_status read_piece(model *m, reader r) {
    fm_scored_token t = {.type = FM_TOKEN_NORMAL};
    field f;
    while (r.p < r.end) {
        FM_TRY(read_field(&r, &f));
        if (f.number == 1 && f.bytes) {
            t.text = (fm_sv){(const char *)f.bytes, f.n};
        } else if (f.number == 2 && !f.bytes) {
            uint32_t bits = (uint32_t)f.value;
            memcpy(&t.score, &bits, sizeof(bits));
        } else if (f.number == 3 && !f.bytes) {
            t.type = f.value >= FM_TOKEN_NORMAL && f.value <= FM_TOKEN_BYTE ? (int32_t)f.value : 0;
        }
    }
    if (!t.text.len || !fm_utf8_valid(t.text.ptr, t.text.len) || memchr(t.text.ptr, 0, t.text.len)) {
        FM_FAIL(FM_ERR_FORMAT, "%s: piece %zu of the SentencePiece model is empty, has a NUL or is not UTF-8", r.name,
                m->n);
    }
    if (!isfinite(t.score) || !t.type) {
        FM_FAIL(FM_ERR_FORMAT, "%s: piece %zu of the SentencePiece model has a score or type that cannot be", r.name,
                m->n);
    }
    if (m->n == MAX_PIECES) {
        FM_FAIL(FM_ERR_FORMAT, "%s: more than %zu pieces", r.name, MAX_PIECES);
    }
    void *p = m->piece;
    FM_TRY(fm_grow(&p, &m->cap, m->n + 1, sizeof(*m->piece)));
    m->piece = p;
    m->piece[m->n++] = t;
    return FM_OK;
}

static fm_status read_trainer(model *m, reader r) {
    field f;
    while (r.p < r.end) {
        FM_TRY(read_field(&r, &f));
        int32_t id = f.value < MAX_PIECES ? (int32_t)f.value : -1;
        switch (f.bytes ? 0 : f.number) {
        case 3:
            m->type = f.value;
            break;
        case 24:
            m->suffix = f.value;
            break;
        case 35:
            m->byte_fallback = f.value;
            break;
        case 40:
            m->unk = id;
            break;
        case 41:
            m->bos = id;
            break;
        case 42:
            m->eos = id;
            break;
        case 43:
            m->pad = id;
            break;
        default:
            break;
        }
    }
    return FM_OK;
}

static fm_status read_normalizer(model *m, reader r) {
    field f;
    while (r.p < r.end) {
        FM_TRY(read_field(&r, &f));
        if (f.number == 2 && f.bytes) {
            m->map = f.bytes;
            m->n_map = f.n;
        } else if (!f.bytes) {
            m->dummy_prefix = f.number == 3 ? f.value : m->dummy_prefix;
            m->extra_blanks = f.number == 4 ? f.value : m->extra_blanks;
            m->escape = f.number == 5 ? f.value : m->escape;
        }
    }
    return FM_OK;
}

static fm_status read_model(model *m, const void *data, size_t n, const char *name) {
    reader r = {data, (const uint8_t *)data + n, data, name};
    field f;
    *m = (model){.type = 1, .dummy_prefix = true, .extra_blanks = true, .escape = true, .bos = 1, .eos = 2, .pad = -1};
    while (r.p < r.end) {
        FM_TRY(read_field(&r, &f));
        if (!f.bytes) {
            continue;
        }
        FM_TRY(f.number == 1   ? read_piece(m, inside(&r, &f))
               : f.number == 2 ? read_trainer(m, inside(&r, &f))
               : f.number == 3 ? read_normalizer(m, inside(&r, &f))
                               : FM_OK);
    }
    if (!m->n) {
        FM_FAIL(FM_ERR_FORMAT, "%s: the SentencePiece model has no pieces", name);
    }
    if (m->type != 1 && m->type != 2) {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "%s: SentencePiece model type %llu is not supported; expected 1 (Unigram) or 2 (BPE)", name,
                (unsigned long long)m->type);
    }
    /* The library takes the piece of type UNKNOWN, whatever the settings say. */
    m->unk = -1;
    for (size_t i = 0; i < m->n && m->unk < 0; i++) {
        m->unk = m->piece[i].type == FM_TOKEN_UNKNOWN ? (int32_t)i : -1;
    }
    if (m->unk < 0) {
        FM_FAIL(FM_ERR_FORMAT, "%s: the SentencePiece model has no piece of type UNKNOWN", name);
    }
    return FM_OK;
}

/* ---- as tokenizer.json ---- */

static void put_normalizer(fm_str *out, const model *m) {
    fm_str_puts(out, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
    if (m->n_map) {
        fm_str_puts(out, "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"");
        fm_str_base64(out, m->map, m->n_map);
        fm_str_puts(out, "\"},");
    }
    if (m->extra_blanks) {
        fm_str_puts(out,
                    "{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true},{\"type\":\"Replace\",\"pattern\":"
                    "{\"Regex\":\" {2,}\"},\"content\":\" \"},");
    }
    if (m->dummy_prefix && !m->suffix) {
        fm_str_puts(out, "{\"type\":\"Prepend\",\"prepend\":\"" FM_SPM_SPACE "\"},");
    }
    fm_str_puts(out, "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" FM_SPM_SPACE
                     "\"}]},\"pre_tokenizer\":null,\"post_processor\":null,\"decoder\":");
    fm_put_spm_decoder(out, m->dummy_prefix || m->extra_blanks);
}

static fm_status put_json(fm_str *out, const model *m) {
    fm_str_puts(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,");
    fm_put_added_list(out, m->piece, m->n);
    put_normalizer(out, m);
    fm_str_puts(out, ",\"model\":");
    if (m->type == 2) {
        FM_TRY(fm_put_scored_bpe(out, m->piece, m->n, m->unk, m->byte_fallback, 0));
        fm_str_puts(out, "}");
        return fm_str_check(out);
    }
    fm_str_printf(out, "{\"type\":\"Unigram\",\"unk_id\":%d,\"byte_fallback\":%s,\"vocab\":[", m->unk,
                  m->byte_fallback ? "true" : "false");
    for (size_t i = 0; i < m->n; i++) {
        fm_str_puts(out, i ? ",[" : "[");
        fm_str_json(out, m->piece[i].text.ptr, m->piece[i].text.len);
        fm_str_printf(out, ",%.17g]", (double)m->piece[i].score);
    }
    fm_str_puts(out, "]}}");
    return fm_str_check(out);
}

static fm_status put_config(fm_str *out, const model *m) {
    static const char *const keys[] = {"unk_token", "bos_token", "eos_token", "pad_token"};
    const int32_t ids[] = {m->unk, m->bos, m->eos, m->pad};
    fm_str_puts(out, "{");
    for (size_t i = 0; i < FM_ARRAY_LEN(keys); i++) {
        if (ids[i] >= 0 && (size_t)ids[i] < m->n) {
            const fm_scored_token *t = &m->piece[ids[i]];
            if (t->type == FM_TOKEN_CONTROL || t->type == FM_TOKEN_UNKNOWN) {
                fm_str_printf(out, "\"%s\":", keys[i]);
                fm_str_json(out, t->text.ptr, t->text.len);
                fm_str_puts(out, ",");
            }
        }
    }
    /* Nothing in the file says which tokens surround a text. BPE models are those of Llama and its like. */
    fm_str_printf(out, "\"add_bos_token\":%s}", m->type == 2 ? "true" : "false");
    return fm_str_check(out);
}

/* ---- rules ---- */

static fm_status build_user(fm_spm *s, const model *m) {
    size_t n = 0;
    fm_trie_key *keys = fm_malloc(m->n * sizeof(*keys));
    if (!keys) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the user-defined symbols of %zu pieces", m->n);
    }
    for (size_t i = 0; i < m->n; i++) {
        if (m->piece[i].type == FM_TOKEN_USER) {
            keys[n++] = (fm_trie_key){m->piece[i].text.ptr, m->piece[i].text.len, (int32_t)i};
        }
    }
    fm_status st = n ? fm_trie_build(&s->user, keys, n) : FM_OK;
    fm_free(keys);
    return st;
}

static fm_status make_rules(fm_spm **out, const model *m, const char *name) {
    fm_spm *s = fm_calloc(1, sizeof(*s));
    if (!s) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the rules of a SentencePiece model");
    }
    *out = s;
    *s = (fm_spm){.unigram = m->type == 1,
                  .dummy_prefix = m->dummy_prefix,
                  .extra_blanks = m->extra_blanks,
                  .escape = m->escape,
                  .suffix = m->suffix,
                  .n_types = m->n};
    s->type = fm_malloc(m->n);
    s->score = fm_malloc(m->n * sizeof(*s->score));
    if (!s->type || !s->score) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the types of %zu pieces", m->n);
    }
    for (size_t i = 0; i < m->n; i++) {
        s->type[i] = (uint8_t)m->piece[i].type;
        s->score[i] = m->piece[i].score;
    }
    if (m->n_map) {
        FM_TRY(fm_charsmap_new(&s->map, m->map, m->n_map, name));
    }
    return build_user(s, m);
}

void fm_spm_free(fm_spm *s) {
    if (s) {
        fm_charsmap_free(s->map);
        fm_trie_free(&s->user);
        fm_free(s->type);
        fm_free(s->score);
        fm_free(s);
    }
}

/* A model begins with a piece, 0x0A and a length; JSON may begin with 0x0A, too, but soon has a brace. */
bool fm_spm_is_model(const void *data, size_t n) {
    const char *p = data;
    size_t i = 0;
    while (i < n && strchr(" \t\r\n", p[i]) && p[i]) {
        i++;
    }
    return n > 2 && p[0] == '\n' && i < n && p[i] != '{' && p[i] != '[';
}

fm_status fm_spm_read(fm_str *json, fm_str *config, fm_spm **spm, const void *data, size_t n, const char *name) {
    model m = {0};
    fm_status s;
    *spm = NULL;
    FM_TRY_GOTO(s, done, read_model(&m, data, n, name));
    FM_TRY_GOTO(s, done, put_json(json, &m));
    FM_TRY_GOTO(s, done, put_config(config, &m));
    FM_TRY_GOTO(s, done, make_rules(spm, &m, name));
done:
    fm_free(m.piece);
    if (s != FM_OK) {
        fm_spm_free(*spm);
        *spm = NULL;
    }
    return s;
}

/* ---- normalising ---- */

/* What the text at p becomes (*to, *n_to); returns the bytes used. */
static size_t next_part(const fm_spm *s, const uint8_t *p, const uint8_t *end, const char **to, size_t *n_to) {
    if (s->user.n) {
        size_t best = 0;
        int32_t node = 0;
        for (const uint8_t *q = p; q < end && (node = fm_trie_step(&s->user, node, *q)) >= 0; q++) {
            best = s->user.node[node].value >= 0 ? (size_t)(q + 1 - p) : best;
        }
        if (best) {
            *to = (const char *)p;
            *n_to = best;
            return best;
        }
    }
    size_t used = s->map ? fm_charsmap_find(s->map, p, (size_t)(end - p), true, to) : 0;
    if (used) {
        *n_to = strlen(*to);
        return used;
    }
    uint32_t cp;
    used = fm_uni_next(&cp, p, end);
    bool stray = used == 1 && *p >= 0x80;
    *to = stray ? "\xEF\xBF\xBD" : (const char *)p;
    *n_to = stray ? 3 : used;
    return used;
}

static void put_escaped(fm_str *out, const fm_spm *s, const char *p, size_t n) {
    for (const char *end = p + n; p < end;) {
        const char *blank = s->escape ? memchr(p, ' ', (size_t)(end - p)) : NULL;
        const char *stop = blank ? blank : end;
        fm_str_append(out, p, (size_t)(stop - p));
        if (blank) {
            fm_str_append(out, FM_SPM_SPACE, 3);
        }
        p = stop + (blank != NULL);
    }
}

/* Bytes from p on that stay as they are, whatever follows them: printable ASCII that no rule begins with. */
static size_t plain_run(const fm_spm *s, const uint8_t *p, const uint8_t *end) {
    const uint8_t *q = p;
    if (!s->user.n) {
        while (q<end && * q> ' ' && *q < 0x7F &&
               (!s->map || (q + 1 < end && q[1] < 0x80 && fm_charsmap_plain(s->map, *q)))) {
            q++;
        }
    }
    return (size_t)(q - p);
}

fm_status fm_spm_normalize(fm_bpe_worker *w, const uint8_t **p, size_t *n) {
    const fm_spm *s = w->t->spm;
    const uint8_t *at = *p, *end = at + *n;
    fm_str *out = &w->text;
    const char *to, *space = s->escape ? FM_SPM_SPACE : " ";
    size_t n_to, n_space = strlen(space);
    fm_str_clear(out);
    while (s->extra_blanks && at < end) {
        size_t used = next_part(s, at, end, &to, &n_to);
        if (n_to != 1 || *to != ' ') {
            break;
        }
        at += used;
    }
    if (at < end && s->dummy_prefix && !s->suffix) {
        fm_str_append(out, space, n_space);
    }
    bool content = at < end;
    for (bool after_blank = s->extra_blanks; at < end;) {
        size_t plain = plain_run(s, at, end);
        if (plain) {
            fm_str_append(out, (const char *)at, plain);
            at += plain;
            after_blank = false;
            continue;
        }
        at += next_part(s, at, end, &to, &n_to);
        while (after_blank && n_to && *to == ' ') {
            to++;
            n_to--;
        }
        if (n_to) {
            put_escaped(out, s, to, n_to);
            after_blank = s->extra_blanks && to[n_to - 1] == ' ';
        }
    }
    while (s->extra_blanks && out->len >= n_space && memcmp(out->data + out->len - n_space, space, n_space) == 0) {
        out->len -= n_space;
    }
    if (content && s->dummy_prefix && s->suffix) {
        fm_str_append(out, space, n_space);
    }
    FM_TRY(fm_text_end(out));
    *p = (const uint8_t *)out->data;
    *n = out->len;
    return FM_OK;
}
