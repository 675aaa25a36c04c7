/* POST /rerank: documents in the order of their relevance to a query.
 *   {"query", "documents": [text or {"text"}], "top_n", "return_documents"}
 *       -> {"results": [{"index", "relevance_score", "document"}], "usage"}      (the form of Jina and Cohere)
 *   {"query", "texts": [text], "return_text"} -> [{"index", "score", "text"}]    (that of TEI)
 * A model with one score for a text (or two labels, of which the second is "relevant") reads query and document
 * together; its scores are probabilities unless "raw_scores" is true. Other models compare their embeddings: the
 * score is the cosine. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "serve/params.h"
#include "serve/text_batch.h"

typedef struct rerank_ask {
    int64_t top_n;
    bool tei, with_text, raw;
} rerank_ask;

typedef struct hit {
    int index;
    double score;
} hit;

static int by_score(const void *a, const void *b) {
    const hit *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score ? 1 : -1) : (x->index > y->index) - (x->index < y->index);
}

static double score_of(const fm_text_job *j, const rerank_ask *ask, int document) {
    const float *y = j->out + (int64_t)document * j->width;
    double sum = 0;
    if (j->head != FM_TEXT_EMBED) {
        double logit = j->width == 2 ? (double)y[1] - (double)y[0] : (double)y[0];
        return ask->raw ? logit : 1 / (1 + exp(-logit));
    }
    for (int i = 0; i < j->width; i++) { /* row 0 is the query */
        sum += (double)j->out[i] * (double)y[j->width + i];
    }
    return sum;
}

static const fm_json *list_of(const fm_call *c, const rerank_ask *ask) {
    return fm_json_get(c->body, ask->tei ? "texts" : "documents");
}

static const char *document_text(const fm_json *v, size_t *n) {
    const char *text = fm_json_str(v, n);
    return text ? text : fm_json_str(fm_json_get(v, "text"), n);
}

static void write_hits(fm_str *out, const fm_text_job *j, const hit *h, int n) {
    const rerank_ask *ask = j->ask;
    fm_str_puts(out, ask->tei ? "[" : "{\"model\":");
    if (!ask->tei) {
        fm_str_json(out, j->c->s->name, strlen(j->c->s->name));
        fm_str_puts(out, ",\"object\":\"list\",\"results\":[");
    }
    for (int i = 0; i < n; i++) {
        fm_str_printf(out, "%s{\"index\":%d,\"%s\":%.9g", i ? "," : "", h[i].index,
                      ask->tei ? "score" : "relevance_score", h[i].score);
        if (ask->with_text) {
            size_t len = 0;
            const char *text = document_text(fm_json_at(list_of(j->c, ask), (size_t)h[i].index), &len);
            fm_str_puts(out, ask->tei ? ",\"text\":" : ",\"document\":{\"text\":");
            fm_str_json(out, text ? text : "", text ? len : 0);
            fm_str_puts(out, ask->tei ? "" : "}");
        }
        fm_str_putc(out, '}');
    }
    fm_str_putc(out, ']');
    if (!ask->tei) {
        fm_str_printf(out, ",\"usage\":{\"prompt_tokens\":%zu,\"total_tokens\":%zu}}", j->in.ids.n, j->in.ids.n);
    }
}

static void done(fm_text_job *j, fm_status st) {
    const rerank_ask *ask = j->ask;
    int n = j->in.n - (j->head == FM_TEXT_EMBED);
    fm_str out = {0};
    hit *h = st == FM_OK ? fm_calloc((size_t)FM_MAX(n, 1), sizeof *h) : NULL;
    if (st == FM_OK && !h) {
        st = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "no memory for %d scores", n);
    }
    if (!h) {
        fm_reply_failure(j->c, st);
        return;
    }
    for (int i = 0; i < n; i++) {
        h[i] = (hit){.index = i, .score = score_of(j, ask, i)};
    }
    qsort(h, (size_t)n, sizeof *h, by_score);
    write_hits(&out, j, h, (int)FM_MIN((int64_t)n, ask->top_n));
    fm_reply_json(j->c, 200, &out);
    fm_str_free(&out);
    fm_free(h);
}

static fm_status read_texts(fm_text_job *j, const fm_call *c, const rerank_ask *ask) {
    fm_text query = {0};
    const char *key = ask->tei ? "texts" : "documents";
    const fm_json *list = list_of(c, ask);
    size_t n = fm_json_is_array(list) ? fm_json_size(list) : 0, first = j->head == FM_TEXT_EMBED;
    query.ptr = fm_json_str(fm_json_get(c->body, "query"), &query.len);
    if (!query.ptr) {
        return fm_bad_field("query", "a string");
    }
    if (n < 1 || n >= FM_MAX_INPUTS) {
        FM_FAIL(FM_ERR_ARGUMENT, "%s: expected a list of 1 to %d texts", key, FM_MAX_INPUTS - 1);
    }
    FM_TRY(fm_text_input_room(&j->in, n + first, key));
    if (first) {
        FM_TRY(fm_text_input_add(&j->in, c->s, query, NULL));
    }
    for (size_t i = 0; i < n; i++) {
        fm_text d = {0};
        d.ptr = document_text(fm_json_at(list, i), &d.len);
        if (!d.ptr) {
            FM_FAIL(FM_ERR_ARGUMENT, "%s[%zu]: expected a string or {\"text\": ...}", key, i);
        }
        FM_TRY(first ? fm_text_input_add(&j->in, c->s, d, NULL) : fm_text_input_add(&j->in, c->s, query, &d));
    }
    return FM_OK;
}

static fm_status read_ask(rerank_ask *ask, const fm_call *c) {
    ask->tei = fm_json_get(c->body, "texts") && !fm_json_get(c->body, "documents");
    FM_TRY(fm_json_get_i64(&ask->top_n, c->body, "top_n", FM_MAX_INPUTS));
    FM_TRY(fm_json_get_bool(&ask->raw, c->body, "raw_scores", false));
    FM_TRY(fm_json_get_bool(&ask->with_text, c->body, ask->tei ? "return_text" : "return_documents", false));
    return ask->top_n >= 1 ? FM_OK : fm_bad_field("top_n", "a number of 1 or more");
}

static fm_status handle(fm_call *c) {
    fm_text_job *j = NULL;
    fm_head_info h = {0};
    FM_TRY(fm_check_model(c->s, c->body));
    FM_TRY(fm_model_head_info(&h, c->s->m, 0));
    FM_TRY(fm_text_job_new(&j, c, sizeof(rerank_ask)));
    bool judges = !h.per_token && strcmp(h.kind, "lm") != 0 && (h.n_outputs == 1 || h.n_outputs == 2);
    j->head = judges ? 0 : FM_TEXT_EMBED;
    j->done = done;
    fm_status st = read_ask(j->ask, c);
    st = st == FM_OK ? read_texts(j, c, j->ask) : st;
    st = st == FM_OK ? fm_text_job_submit(j) : st;
    if (st != FM_OK) {
        fm_text_job_free(j);
    }
    return st;
}

const fm_route fm_route_rerank = {.method = "POST", .path = "/v1/rerank|/rerank", .handle = handle};
