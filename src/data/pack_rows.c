/* Rows to documents: tokens in batches on all threads, then cut, split, drop or refuse, then train or val. */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/pack_run.h"

#define BATCH_ROWS  8192
#define BATCH_BYTES ((size_t)8 << 20)

void fm_pack_reject(fm_packer *p, const char *file, int64_t line, const char *reason) {
    p->r.n_bad++;
    if (p->fn) {
        fm_bad_row row = {.file = file, .line = line, .reason = reason};
        p->fn(p->user, &row);
    }
    if (p->rejects_status != FM_OK) {
        return;
    }
    if (!p->rejects_file) {
        p->rejects_file = fopen(p->rejects, "abe");
    }
    fm_str s = {0};
    fm_str_puts(&s, "{\"file\": ");
    fm_str_json(&s, file, strlen(file));
    fm_str_printf(&s, ", \"line\": %lld, \"reason\": ", (long long)line);
    fm_str_json(&s, reason, strlen(reason));
    fm_str_puts(&s, "}\n");
    p->rejects_status = fm_str_check(&s);
    if (p->rejects_status == FM_OK && (!p->rejects_file || fwrite(s.data, 1, s.len, p->rejects_file) != s.len)) {
        p->rejects_status =
            fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot write %s: %s", p->rejects, strerror(errno));
    }
    fm_str_free(&s);
}

static fm_status add(fm_packer *p, bool val, const int32_t *ids, int64_t n, int64_t bytes, int64_t line,
                     uint32_t piece) {
    p->r.n_documents++;
    return fm_shard_writer_add(val ? p->val : p->train, ids, n, bytes, p->file, line, piece);
}

/* Source bytes behind ids. */
static int64_t bytes_of(const fm_packer *p, const int32_t *ids, int64_t n) {
    int64_t bytes = 0;
    for (int64_t i = 0; i < n; i++) {
        size_t len = 0;
        bytes += fm_tokenizer_token(p->tok, ids[i], &len) ? (int64_t)len : 0;
    }
    return bytes;
}

/* Body with BOS before (when configured) and EOS after (when this piece ends the row). */
static fm_status emit(fm_packer *p, bool val, const int32_t *body, int64_t n, bool ends, int64_t bytes, int64_t line,
                      uint32_t piece) {
    FM_TRY(fm_grow((void **)&p->doc, &p->cap_doc, (size_t)n + 2, sizeof *p->doc));
    int64_t k = 0;
    if (p->c->add_bos) {
        p->doc[k++] = p->bos;
    }
    memcpy(p->doc + k, body, (size_t)n * sizeof *body);
    k += n;
    if (p->c->add_eos && ends) {
        p->doc[k++] = p->eos;
    }
    return add(p, val, p->doc, k, bytes, line, piece);
}

static fm_status long_row(fm_packer *p, bool val, const int32_t *ids, int64_t n, int64_t bytes, int64_t line) {
    const int64_t limit = p->c->cutoff_len, extra = p->c->add_bos + p->c->add_eos, bos = p->c->add_bos;
    switch ((fm_long_rows)p->c->long_rows) {
    case FM_LONG_DROP:
        p->r.n_dropped++;
        return FM_OK;
    case FM_LONG_REFUSE:
        fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "%s:%lld has %lld tokens, cutoff_len is %lld",
                     fm_json_str(fm_json_at(p->files, p->file), NULL), (long long)line, (long long)n + (long long)extra,
                     (long long)limit);
        return fm_error_hint("raise cutoff_len, or set long_rows to cut, split or drop");
    case FM_LONG_CUT:
        p->r.n_cut++;
        return emit(p, val, ids, limit - bos, false, bytes_of(p, ids, limit - bos), line, 0);
    case FM_LONG_SPLIT:
        p->r.n_split++;
        for (int64_t at = 0, room = limit - extra; at < n;) {
            int64_t k = FM_MIN(room, n - at);
            bool last = at + k == n;
            int64_t part = last ? bytes : bytes_of(p, ids + at, k);
            FM_TRY(emit(p, val, ids + at, k, last, part, line, (uint32_t)(at / room)));
            bytes = bytes > part ? bytes - part : 0;
            at += k;
        }
        return FM_OK;
    }
    return FM_OK;
}

/* The share held out goes by the hash of the text: a row is on the same side in every run and with any other rows. */
static bool held_out(const fm_packer *p, const fm_text *t) {
    return p->val && (double)(fm_hash64(t->ptr, t->len, 0x76616c) >> 11) * 0x1p-53 < p->c->val_size;
}

fm_status fm_pack_drain(fm_packer *p) {
    if (p->n == 0) {
        return FM_OK;
    }
    fm_text *texts = fm_calloc(p->n, sizeof *texts);
    if (!texts) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a batch of %zu rows", p->n);
    }
    for (size_t i = 0; i < p->n; i++) {
        size_t begin = i ? p->end[i - 1] : 0;
        texts[i] = (fm_text){.ptr = p->text.data + begin, .len = p->end[i] - begin};
    }
    fm_encode_options eo = {.size = sizeof eo, .n_threads = (int)p->c->threads};
    fm_token_batch b = {0};
    fm_status s = fm_tokenizer_encode_batch(&b, p->tok, texts, p->n, &eo);
    const int64_t extra = p->c->add_bos + p->c->add_eos;
    for (size_t i = 0; s == FM_OK && i < p->n; i++) {
        const int32_t *ids = b.ids + b.offset[i];
        int64_t n = (int64_t)(b.offset[i + 1] - b.offset[i]), bytes = (int64_t)texts[i].len;
        bool val = held_out(p, &texts[i]);
        p->r.n_bytes += bytes;
        if (p->c->cutoff_len > 0 && n + extra > p->c->cutoff_len) {
            s = long_row(p, val, ids, n, bytes, p->line[i]);
        } else if (n + extra > 0) {
            s = emit(p, val, ids, n, true, bytes, p->line[i], 0);
        }
    }
    fm_token_batch_free(&b);
    fm_free(texts);
    p->n = 0;
    fm_str_clear(&p->text);
    return s;
}

fm_status fm_pack_row(fm_packer *p, const fm_source_row *row) {
    FM_TRY(fm_grow((void **)&p->end, &p->cap_end, p->n + 1, sizeof *p->end));
    FM_TRY(fm_grow((void **)&p->line, &p->cap_line, p->n + 1, sizeof *p->line));
    fm_str_append(&p->text, row->text.ptr, row->text.len);
    FM_TRY(fm_str_check(&p->text));
    p->end[p->n] = p->text.len;
    p->line[p->n++] = row->line;
    return p->n >= BATCH_ROWS || p->text.len >= BATCH_BYTES ? fm_pack_drain(p) : FM_OK;
}
