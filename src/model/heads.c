/* Heads: names, configuration, weights, scores. The losses are in model.c. */
#include "model/heads.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/config.h"

/* ---- tables ---------------------------------------------------------------------------------- */

#define FM_HEAD(n, k, p, l, h) {n, k, p, l, h},
static const fm_head_row rows[] = {
#include "model/heads.def"
};
#undef FM_HEAD

const fm_head_row *fm_head_row_find(const char *name) {
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        if (strcmp(rows[i].name, name) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

const fm_head_row *fm_head_row_of(const fm_head_config *h) {
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        bool labels = rows[i].n_labels == 0 || rows[i].n_labels == h->n_labels;
        if (rows[i].kind == h->kind && rows[i].problem == h->problem && labels) {
            return &rows[i];
        }
    }
    return &rows[0];
}

void fm_head_row_names(fm_str *out) {
    for (size_t i = 0; i < FM_ARRAY_LEN(rows); i++) {
        fm_str_printf(out, "%s%s", i ? ", " : "", rows[i].name);
    }
}

/* Ends of architecture names. The first of a kind is written; of a language model it is the family's own. */
static const struct {
    const char *suffix;
    fm_head_kind kind;
} suffixes[] = {
    {"ForSequenceClassification", FM_HEAD_TEXT},
    {"ForTokenClassification", FM_HEAD_TOKEN},
    {"ForCausalLM", FM_HEAD_LM},
    {"LMHeadModel", FM_HEAD_LM},
    {"ForMaskedLM", FM_HEAD_LM},
    {"ForPreTraining", FM_HEAD_LM},
    {"Model", FM_HEAD_NONE},
};

static const char *const problem_types[] = {
    [FM_PROBLEM_SINGLE] = "single_label_classification",
    [FM_PROBLEM_MULTI] = "multi_label_classification",
    [FM_PROBLEM_SPAN] = "span",
    [FM_PROBLEM_REGRESSION] = "regression",
};

/* Length of an architecture's name without the end that says its head; 0 when it has none of them. */
static size_t stem(const char *architecture, size_t *row) {
    size_t n = strlen(architecture);
    for (size_t i = 0; i < FM_ARRAY_LEN(suffixes); i++) {
        size_t k = strlen(suffixes[i].suffix);
        if (n > k && strcmp(architecture + n - k, suffixes[i].suffix) == 0) {
            *row = i;
            return n - k;
        }
    }
    return 0;
}

bool fm_head_of_architecture(const fm_family **family, fm_head_kind *kind, const char *architecture) {
    size_t row, unused, n = stem(architecture, &row);
    for (int i = 0; n && i < fm_n_families; i++) {
        for (const char *const *a = fm_families[i]->architectures; *a; a++) {
            if (stem(*a, &unused) == n && strncmp(*a, architecture, n) == 0) {
                *family = fm_families[i];
                *kind = suffixes[row].kind;
                return true;
            }
        }
    }
    return false;
}

fm_status fm_head_architecture(char *out, size_t cap, const fm_family *f, const fm_head_config *h) {
    size_t row, n = stem(f->architectures[0], &row);
    if (h->kind == FM_HEAD_LM || n == 0) {
        snprintf(out, cap, "%s", f->architectures[0]);
        return FM_OK;
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(suffixes); i++) {
        if (suffixes[i].kind == h->kind) {
            int k = snprintf(out, cap, "%.*s%s", (int)n, f->architectures[0], suffixes[i].suffix);
            if (k > 0 && (size_t)k < cap) {
                return FM_OK;
            }
        }
    }
    FM_FAIL(FM_ERR_UNSUPPORTED, "family %s has no architecture name for this head", f->name);
}

/* ---- config.json ----------------------------------------------------------------------------- */

fm_status fm_head_check(const fm_head_config *h) {
    bool scores = h->kind == FM_HEAD_TEXT || h->kind == FM_HEAD_TOKEN;
    if (scores && (h->n_labels < 1 || h->n_labels > FM_MAX_LABELS)) {
        FM_FAIL(FM_ERR_CONFIG, "num_labels%s%s: expected 1 to %d, found %d", *h->name ? " of head " : "", h->name,
                FM_MAX_LABELS, (int)h->n_labels);
    }
    return FM_OK;
}

/* Labels: num_labels, or as many as id2label has; transformers writes the latter alone. */
static fm_status parse_labels(fm_head_config *h, const fm_json *json) {
    const fm_json *map = fm_json_get(json, "id2label");
    int64_t n = fm_json_is_object(map) ? (int64_t)fm_json_size(map) : 2;
    FM_TRY(fm_json_get_i64(&n, json, "num_labels", n));
    if (n < 1 || n > FM_MAX_LABELS) {
        FM_FAIL(FM_ERR_CONFIG, "num_labels: expected 1 to %d, found %lld", FM_MAX_LABELS, (long long)n);
    }
    if (fm_json_is_object(map) && (int64_t)fm_json_size(map) != n) {
        FM_FAIL(FM_ERR_CONFIG, "id2label has %zu entries, num_labels is %lld", fm_json_size(map), (long long)n);
    }
    h->n_labels = (int32_t)n;
    h->problem = n == 1 ? FM_PROBLEM_REGRESSION : FM_PROBLEM_SINGLE; /* as transformers guesses */
    const char *type;
    FM_TRY(fm_json_get_str(&type, json, "problem_type", NULL));
    if (!type) {
        return FM_OK;
    }
    for (size_t i = 0; i < FM_ARRAY_LEN(problem_types); i++) {
        if (strcmp(type, problem_types[i]) == 0) {
            h->problem = (fm_problem)i;
            return FM_OK;
        }
    }
    FM_FAIL(FM_ERR_UNSUPPORTED,
            "problem_type \"%s\": expected regression, single_label_classification or multi_label_classification",
            type);
}

static fm_status parse_one(fm_head_config *h, const fm_model_config *cfg, const fm_json *o) {
    const char *name, *kind;
    FM_TRY(fm_json_get_str(&name, o, "name", ""));
    FM_TRY(fm_json_get_str(&kind, o, "kind", ""));
    const fm_head_row *r = fm_head_row_find(kind);
    size_t n = strlen(name);
    if (n == 0 || n >= FM_MAX_HEAD_NAME ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                     "0123456789_-") != n) {
        FM_FAIL(FM_ERR_CONFIG,
                "fathom_heads: name \"%.60s\": expected 1 to %d letters, digits, underscores and hyphens", name,
                FM_MAX_HEAD_NAME - 1);
    }
    if (!r || r->kind == FM_HEAD_LM || r->kind == FM_HEAD_NONE) {
        FM_FAIL(FM_ERR_CONFIG, "fathom_heads: head %s: kind \"%.60s\" is not known or cannot stand beside another",
                name, kind);
    }
    for (int32_t i = 0; i < cfg->n_more_heads; i++) {
        if (strcmp(cfg->more_heads[i].name, name) == 0) {
            FM_FAIL(FM_ERR_CONFIG, "fathom_heads: two heads are named %s", name);
        }
    }
    FM_TRY(parse_labels(h, o));
    memcpy(h->name, name, n + 1);
    h->kind = r->kind;
    h->problem = r->problem;
    if (r->n_labels && h->n_labels != r->n_labels) {
        FM_FAIL(FM_ERR_CONFIG, "fathom_heads: head %s: a %s head has %d label, found %d", name, kind, (int)r->n_labels,
                (int)h->n_labels);
    }
    return FM_OK;
}

fm_status fm_heads_parse(fm_model_config *cfg, const fm_json *json) {
    if (cfg->head.kind == FM_HEAD_TEXT || cfg->head.kind == FM_HEAD_TOKEN) {
        FM_TRY(parse_labels(&cfg->head, json));
    }
    int64_t n_log_vars;
    FM_TRY(fm_json_get_i64(&n_log_vars, json, "fathom_log_vars", 0));
    if (n_log_vars < 0 || n_log_vars > FM_MAX_HEADS) {
        FM_FAIL(FM_ERR_CONFIG, "fathom_log_vars: expected 0 to %d, found %lld", FM_MAX_HEADS, (long long)n_log_vars);
    }
    cfg->n_log_vars = (int32_t)n_log_vars;
    const fm_json *more = fm_json_get(json, "fathom_heads");
    if (fm_json_is_null(more)) {
        return FM_OK;
    }
    if (!fm_json_is_array(more) || fm_json_size(more) > FM_MAX_HEADS) {
        FM_FAIL(FM_ERR_CONFIG, "fathom_heads: expected a list of at most %d heads", FM_MAX_HEADS);
    }
    for (size_t i = 0; i < fm_json_size(more); i++) {
        FM_TRY(parse_one(&cfg->more_heads[cfg->n_more_heads], cfg, fm_json_at(more, i)));
        cfg->n_more_heads++;
    }
    return FM_OK;
}

/* "LABEL_0" ... where a map of the right size is not there already. */
static fm_status write_labels(const fm_head_config *h, fm_json *json) {
    const fm_json *have = fm_json_get(json, "id2label");
    if (fm_json_is_object(have) && fm_json_size(have) == (size_t)h->n_labels) {
        return FM_OK;
    }
    FM_TRY(fm_json_set(json, "id2label", fm_json_new_object()));
    FM_TRY(fm_json_set(json, "label2id", fm_json_new_object()));
    fm_json *to = fm_json_get(json, "id2label"), *from = fm_json_get(json, "label2id");
    for (int32_t i = 0; i < h->n_labels; i++) {
        char id[16], label[32];
        snprintf(id, sizeof id, "%d", (int)i);
        snprintf(label, sizeof label, "LABEL_%d", (int)i);
        FM_TRY(fm_json_set(to, id, fm_json_new_str(label)));
        FM_TRY(fm_json_set(from, label, fm_json_new_int(i)));
    }
    return FM_OK;
}

/* The object of a head of this name in the list that is there, so that its labels stay. */
static fm_json *kept(const fm_json *list, const char *name) {
    for (size_t i = 0; fm_json_is_array(list) && i < fm_json_size(list); i++) {
        const char *n = fm_json_str(fm_json_get(fm_json_at(list, i), "name"), NULL);
        if (n && strcmp(n, name) == 0) {
            return fm_json_at(list, i);
        }
    }
    return NULL;
}

static fm_status write_one(const fm_head_config *h, const fm_json *before, fm_json *list) {
    fm_json *o = fm_json_new_object();
    if (!o) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a head");
    }
    fm_status s = fm_json_append(list, o); /* owned by the list from here */
    if (s != FM_OK) {
        return s;
    }
    const fm_json *old = kept(before, h->name), *labels = fm_json_get(old, "id2label");
    FM_TRY(fm_json_set(o, "name", fm_json_new_str(h->name)));
    FM_TRY(fm_json_set(o, "kind", fm_json_new_str(fm_head_row_of(h)->name)));
    FM_TRY(fm_json_set(o, "num_labels", fm_json_new_int(h->n_labels)));
    if (fm_json_is_object(labels)) {
        fm_str text = {0};
        fm_json *copy = NULL;
        s = fm_json_dump(&text, labels, 0);
        s = s == FM_OK ? fm_json_parse(&copy, text.data, text.len, "id2label") : s;
        s = s == FM_OK ? fm_json_set(o, "id2label", copy) : s;
        fm_str_free(&text);
        FM_TRY(s);
    }
    return write_labels(h, o);
}

fm_status fm_heads_write(const fm_model_config *cfg, fm_json *json) {
    const fm_head_config *h = &cfg->head;
    if (h->kind == FM_HEAD_TEXT || h->kind == FM_HEAD_TOKEN) {
        FM_TRY(write_labels(h, json));
        FM_TRY(fm_json_set(json, "problem_type", fm_json_new_str(problem_types[h->problem])));
        fm_json_remove(json, "num_labels"); /* transformers counts id2label */
    }
    fm_json_remove(json, "fathom_log_vars");
    if (cfg->n_log_vars > 0) {
        FM_TRY(fm_json_set(json, "fathom_log_vars", fm_json_new_int(cfg->n_log_vars)));
    }
    if (cfg->n_more_heads == 0) {
        fm_json_remove(json, "fathom_heads");
        return FM_OK;
    }
    fm_json *list = fm_json_new_array();
    if (!list) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for heads");
    }
    fm_status s = FM_OK;
    for (int32_t i = 0; i < cfg->n_more_heads && s == FM_OK; i++) {
        s = write_one(&cfg->more_heads[i], fm_json_get(json, "fathom_heads"), list);
    }
    if (s != FM_OK) {
        fm_json_free(list);
        return s;
    }
    return fm_json_set(json, "fathom_heads", list);
}

/* ---- weights --------------------------------------------------------------------------------- */

/* n 0: a vector of `cols`. */
static fm_status add(fm_model *m, fm_param **out, const char *prefix, const char *name, int64_t n, int64_t cols) {
    char full[160];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    fm_param_desc d = {.name = full,
                       .n_dims = n > 0 ? 2 : 1,
                       .dim = {n > 0 ? n : cols, cols},
                       .init = n > 0 ? FM_INIT_NORMAL : FM_INIT_ZEROS,
                       .init_std = m->cfg.init_std,
                       .no_decay = n == 0};
    return fm_params_add(m->params, &d, out);
}

static fm_status add_dense(fm_model *m, fm_head *h, const char *prefix) {
    int64_t d = m->cfg.d_model;
    h->dense_act = FM_ACT_TANH;
    FM_TRY(add(m, &h->dense_w, prefix, "pooler.dense.weight", d, d));
    return add(m, &h->dense_b, prefix, "pooler.dense.bias", 0, d);
}

/* The trunk's own pooler; MobileBERT may have none. */
static fm_status add_pooler(fm_model *m, fm_head *h) {
    bool without = (m->cfg.mobile.embedding_size > 0 && !m->cfg.mobile.activated) ||
                   (m->cfg.no_pooler && m->cfg.head.kind == FM_HEAD_NONE);
    const char *trunk = m->cfg.head.kind == FM_HEAD_NONE ? "" : m->family->trunk;
    return m->family->encoder && !without ? add_dense(m, h, trunk) : FM_OK;
}

static fm_status build_lm(fm_model *m, fm_head *h) {
    const fm_family *f = m->family;
    if (f->build_lm) {
        FM_TRY(f->build_lm(&m->cfg, m->params, m->state, h));
    } else if (m->cfg.tied) {
        h->w = fm_params_find(m->params, f->embedding ? f->embedding : "model.embed_tokens.weight");
        FM_ASSERT(h->w);
    } else {
        FM_TRY(add(m, &h->w, "", "lm_head.weight", m->cfg.vocab_size, m->cfg.d_model));
    }
    m->head = h->w;
    return FM_OK;
}

static fm_status build_main(fm_model *m, fm_head *h) {
    const fm_family *f = m->family;
    int64_t d = m->cfg.d_model, n = m->cfg.head.n_labels;
    const char *token = f->token_head ? f->token_head : "score";
    char prefix[64];
    switch (h->cfg->kind) {
    case FM_HEAD_LM:
        return build_lm(m, h);
    case FM_HEAD_NONE:
        return add_pooler(m, h);
    case FM_HEAD_TEXT:
        FM_TRY(add_pooler(m, h));
        if (!f->encoder) {
            return add(m, &h->w, "score.", "weight", n, d);
        }
        FM_TRY(add(m, &h->w, "classifier.", "weight", n, d));
        return add(m, &h->b, "classifier.", "bias", 0, n);
    case FM_HEAD_TOKEN:
        snprintf(prefix, sizeof prefix, "%s.", token);
        FM_TRY(add(m, &h->w, prefix, "weight", n, d));
        return add(m, &h->b, prefix, "bias", 0, n);
    }
    FM_FAIL(FM_ERR_ARGUMENT, "head kind %d is not known", (int)h->cfg->kind);
}

/* A head by name brings all it needs, so that it is the same beside any main head. */
static fm_status build_named(fm_model *m, fm_head *h) {
    char prefix[32 + FM_MAX_HEAD_NAME];
    snprintf(prefix, sizeof prefix, "heads.%s.", h->cfg->name);
    if (h->cfg->kind == FM_HEAD_TEXT && m->family->encoder) {
        FM_TRY(add_dense(m, h, prefix));
    }
    FM_TRY(add(m, &h->w, prefix, "weight", h->cfg->n_labels, m->cfg.d_model));
    return add(m, &h->b, prefix, "bias", 0, h->cfg->n_labels);
}

fm_status fm_heads_build(fm_model *m) {
    m->heads[0].cfg = &m->cfg.head;
    m->n_heads = 1;
    m->n_trunk = fm_params_count(m->params);
    FM_TRY(build_main(m, &m->heads[0]));
    for (int32_t i = 0; i < m->cfg.n_more_heads; i++) {
        fm_head *h = &m->heads[m->n_heads++];
        h->cfg = &m->cfg.more_heads[i];
        FM_TRY(build_named(m, h));
    }
    return m->cfg.n_log_vars > 0 ? add(m, &m->log_vars, "heads.", "log_vars", 0, m->cfg.n_log_vars) : FM_OK;
}

int fm_head_find(const fm_model *m, const char *name) {
    for (int i = 0; i < m->n_heads; i++) {
        if (strcmp(m->heads[i].cfg->name, name ? name : "") == 0) {
            return i;
        }
    }
    return -1;
}

/* ---- scores ---------------------------------------------------------------------------------- */

/* The product straight into the accumulation type. */
static fm_status matmul_wide(fm_ctx *c, fm_tensor *x, fm_param *w, fm_param *b, fm_tensor *y) {
    int64_t n = w->dim[0], k = w->dim[1];
    fm_tensor *weight = fm_leaf(c, w), *bias = fm_leaf_or_null(c, b);
    if (!weight || (b && !bias)) {
        return fm_ctx_status(c);
    }
    fm_matmul_args a = {.m = fm_rows(x),
                        .n = n,
                        .k = k,
                        .a = fm_data(c, x),
                        .lda = k,
                        .c = fm_data(c, y),
                        .ldc = n,
                        .c_dtype = y->dtype,
                        .bias = fm_data(c, bias)};
    return fm_weight_product(c, weight, &a, x->dtype);
}

fm_tensor *fm_product_wide(fm_ctx *c, fm_tensor *x, fm_param *w, fm_param *b) {
    if (!x) {
        return NULL;
    }
    fm_dtype wide = fm_dtype_acc(x->dtype);
    if (fm_tape_on(c)) {
        fm_tensor *y = fm_linear(c, x, fm_leaf(c, w), fm_leaf_or_null(c, b));
        return y && y->dtype != wide ? fm_cast(c, y, wide) : y;
    }
    fm_tensor *y = fm_new(c, wide, 2, (int64_t[]){fm_rows(x), w->dim[0]});
    fm_status s = y ? matmul_wide(c, x, w, b, y) : fm_ctx_status(c);
    if (s != FM_OK) {
        fm_ctx_fail(c, s);
        return NULL;
    }
    return y;
}

static fm_tensor *transform(fm_ctx *c, const fm_head *h, fm_tensor *x) {
    if (h->dense_w) {
        x = fm_activation(c, fm_linear(c, x, fm_leaf(c, h->dense_w), fm_leaf_or_null(c, h->dense_b)), h->dense_act);
    }
    if (h->norm_w) {
        x = fm_layernorm(c, x, fm_leaf(c, h->norm_w), fm_leaf_or_null(c, h->norm_b), (float)h->norm_eps);
    }
    return x;
}

fm_tensor *fm_head_transform(fm_ctx *c, const fm_head *h, fm_tensor *x) {
    return x ? transform(c, h, x) : NULL;
}

fm_tensor *fm_head_logits(fm_ctx *c, const fm_model *m, fm_tensor *x) {
    const fm_head *h = &m->heads[0];
    fm_tensor *part[2];
    if (h->cfg->kind != FM_HEAD_LM) {
        fm_ctx_fail(c,
                    fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__,
                                 "the model has no language model head but one for %s", fm_head_row_of(h->cfg)->name));
        return NULL;
    }
    x = fm_head_transform(c, h, x);
    if (!x || !h->side_w) {
        return fm_product_wide(c, x, h->w, h->b);
    }
    if (!fm_split_columns(c, x, 2, (int64_t[]){h->w->dim[1], h->side_w->dim[1]}, part)) {
        return NULL;
    }
    return fm_add(c, fm_product_wide(c, part[0], h->w, h->b), fm_product_wide(c, part[1], h->side_w, NULL));
}

/* Rows of the tokens that stand for the texts: the first of an encoder, the last of a decoder. */
static fm_tensor *pooled_rows(fm_ctx *c, const fm_model *m, fm_tensor *hidden, const fm_batch *b) {
    fm_tensor *idx = fm_new(c, FM_I32, 1, (int64_t[]){b->n_segments});
    int32_t *row = idx ? fm_data(c, idx) : NULL;
    for (int32_t s = 0; row && s < b->n_segments; s++) {
        row[s] = m->family->encoder ? b->q_offsets[s] : b->q_offsets[s + 1] - 1;
        if (b->q_offsets[s] >= b->q_offsets[s + 1]) {
            fm_ctx_fail(c, fm_error_set(FM_ERR_DATA, __FILE__, __LINE__, "text %d has no tokens", (int)s));
            return NULL;
        }
    }
    return fm_gather(c, hidden, idx);
}

fm_tensor *fm_head_scores(fm_ctx *c, const fm_model *m, int head, fm_tensor *hidden, const fm_batch *b) {
    FM_ASSERT(head >= 0 && head < m->n_heads);
    const fm_head *h = &m->heads[head];
    if (!hidden) {
        return NULL;
    }
    if (h->cfg->kind == FM_HEAD_LM) {
        return fm_head_logits(c, m, hidden);
    }
    fm_tensor *x = h->cfg->kind == FM_HEAD_TOKEN ? hidden : pooled_rows(c, m, hidden, b);
    x = fm_head_transform(c, h, x);
    if (x && m->cfg.hidden_dropout > 0 && h->w) {
        x = fm_dropout(c, x, m->cfg.hidden_dropout, "dropout.head");
    }
    return h->w ? fm_product_wide(c, x, h->w, h->b) : x;
}

/* Places and targets of answers: index [2 S L] of the scores (as one column), mask [2 S, L] 0 or -1e9 behind the end of
 * a text, target [2 S]. */
static void span_rows(const fm_batch *b, int64_t len, int32_t *index, float *mask, int32_t *target) {
    int64_t r = 0;
    for (int32_t s = 0; s < b->n_segments; s++) {
        int32_t begin = b->q_offsets[s], n = b->q_offsets[s + 1] - begin;
        if (isnan(b->values[2 * s])) {
            continue;
        }
        for (int end = 0; end < 2; end++, r++) {
            for (int64_t t = 0; t < len; t++) {
                index[r * len + t] = 2 * (begin + (int32_t)FM_MIN(t, (int64_t)n - 1)) + end;
                mask[r * len + t] = t < n ? 0 : -1e9F;
            }
            target[r] = (int32_t)b->values[2 * s + end];
        }
    }
}

fm_tensor *fm_span_loss(fm_ctx *c, fm_tensor *scores, const fm_batch *b, const fm_loss_options *o,
                        fm_tensor **row_loss) {
    int64_t n = 0, len = 1;
    bool meta = fm_ctx_is_meta(c);
    for (int32_t s = 0; scores && s < b->n_segments; s++) {
        if (meta || !isnan(b->values[2 * s])) {
            n++;
            len = FM_MAX(len, b->q_offsets[s + 1] - b->q_offsets[s]);
        }
    }
    if (n == 0) {
        return NULL;
    }
    fm_tensor *index = fm_new(c, FM_I32, 1, (int64_t[]){2 * n * len}),
              *target = fm_new(c, FM_I32, 1, &(int64_t){2 * n});
    fm_tensor *mask = fm_new(c, FM_F32, 2, (int64_t[]){2 * n, len});
    if (!index || !target || !mask) {
        return NULL;
    }
    if (!meta) {
        span_rows(b, len, fm_data(c, index), fm_data(c, mask), fm_data(c, target));
    }
    mask = scores->dtype != FM_F32 ? fm_cast(c, mask, scores->dtype) : mask;
    fm_tensor *x = fm_reshape(c, scores, 2, (int64_t[]){-1, 1});
    x = fm_reshape(c, fm_gather(c, x, index), 2, (int64_t[]){2 * n, len});
    fm_loss_options half = {.ignore_index = -100, .scale = 0.5 * o->scale};
    return fm_cross_entropy(c, fm_add(c, x, mask), target, &half, row_loss);
}
