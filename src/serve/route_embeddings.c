/* POST /v1/embeddings */
#include <string.h>

#include "base/mem.h"
#include "serve/params.h"
#include "serve/text_input.h"

typedef struct job {
    fm_call *c;
    fm_text_input in;
    bool base64;
} job;

static void job_free(job *j) {
    fm_text_input_free(&j->in);
    fm_call_release(j->c);
    fm_free(j);
}

static void write_base64(fm_str *out, const uint8_t *p, size_t n) {
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0U);
        fm_str_putc(out, digit[v >> 18]);
        fm_str_putc(out, digit[v >> 12 & 63]);
        fm_str_putc(out, i + 1 < n ? digit[v >> 6 & 63] : '=');
        fm_str_putc(out, i + 2 < n ? digit[v & 63] : '=');
    }
}

static void write_vector(fm_str *out, const float *v, int64_t d, bool base64) {
    if (base64) { /* floats as they are in memory: little-endian on all machines this runs on */
        fm_str_putc(out, '"');
        write_base64(out, (const uint8_t *)v, (size_t)d * sizeof *v);
        fm_str_putc(out, '"');
        return;
    }
    fm_str_putc(out, '[');
    for (int64_t i = 0; i < d; i++) {
        fm_str_printf(out, i ? ",%.9g" : "%.9g", (double)v[i]);
    }
    fm_str_putc(out, ']');
}

static fm_status embed(job *j, fm_model *m, fm_str *out) {
    fm_serve *s = j->c->s;
    int64_t d = s->info.d_model;
    float *y = fm_malloc((size_t)(j->in.n * d) * sizeof *y);
    if (!y) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for %d vectors", j->in.n);
    }
    fm_embed_options o = {.size = sizeof o, .normalize = FM_NORMALIZE_ON};
    fm_status st = FM_OK;
    for (int i = 0; i < j->in.n && st == FM_OK;
         i++) { /* one by one: bounded memory, and the same bits in any company */
        int32_t offsets[2] = {0, j->in.offsets[i + 1] - j->in.offsets[i]};
        fm_texts t = {.size = sizeof t, .ids = j->in.ids.ids + j->in.offsets[i], .offsets = offsets, .n = 1};
        st = fm_model_embed(m, &t, &o, y + i * d);
    }
    fm_str_puts(out, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < j->in.n && st == FM_OK; i++) {
        fm_str_printf(out, "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":", i ? "," : "", i);
        write_vector(out, y + i * d, d, j->base64);
        fm_str_putc(out, '}');
    }
    fm_str_puts(out, "],\"model\":");
    fm_str_json(out, s->name, strlen(s->name));
    fm_str_printf(out, ",\"usage\":{\"prompt_tokens\":%zu,\"total_tokens\":%zu}}", j->in.ids.n, j->in.ids.n);
    fm_free(y);
    return st;
}

static void on_engine(void *user, fm_model *m) {
    job *j = user;
    fm_str out = {0};
    fm_status st = m ? embed(j, m, &out) : fm_error_set(FM_ERR_STATE, __FILE__, __LINE__, "the server is ending");
    j->c->n_prompt = (int64_t)j->in.ids.n;
    if (st == FM_OK) {
        fm_reply_json(j->c, 200, &out);
    } else {
        fm_reply_failure(j->c, st);
    }
    fm_str_free(&out);
    job_free(j);
}

static fm_status check_lengths(const fm_call *c, const fm_text_input *in) {
    for (int i = 0; i < in->n; i++) {
        int32_t n = in->offsets[i + 1] - in->offsets[i];
        if (n < 1 || n > c->s->info.max_position) {
            FM_FAIL(FM_ERR_ARGUMENT, "input: text %d has %d tokens; the context is 1 to %lld tokens long", i, (int)n,
                    (long long)c->s->info.max_position);
        }
    }
    return FM_OK;
}

static fm_status read_form(bool *base64, const fm_call *c) {
    const char *form = NULL;
    FM_TRY(fm_json_get_str(&form, c->body, "encoding_format", "float"));
    *base64 = form && strcmp(form, "base64") == 0;
    if (!form || (!*base64 && strcmp(form, "float") != 0)) {
        return fm_bad_field("encoding_format", "\"float\" or \"base64\"");
    }
    int64_t d = fm_json_int(fm_json_get(c->body, "dimensions"), c->s->info.d_model);
    if (d != c->s->info.d_model) {
        FM_FAIL(FM_ERR_ARGUMENT, "dimensions: the vectors of this model have %d", (int)c->s->info.d_model);
    }
    return FM_OK;
}

static fm_status handle(fm_call *c) {
    FM_TRY(fm_check_model(c->s, c->body));
    job *j = fm_calloc(1, sizeof *j);
    if (!j) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a request");
    }
    fm_call_keep(c);
    j->c = c;
    fm_status st = read_form(&j->base64, c);
    st = st == FM_OK ? fm_text_input_read(&j->in, c->s, c->body, "input") : st;
    st = st == FM_OK ? check_lengths(c, &j->in) : st;
    st = st == FM_OK ? fm_engine_post(c->s->e, on_engine, j) : st;
    if (st != FM_OK) {
        job_free(j);
    }
    return st;
}

const fm_route fm_route_embeddings = {.method = "POST", .path = "/v1/embeddings|/embeddings", .handle = handle};
