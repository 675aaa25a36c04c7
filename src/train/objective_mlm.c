/* Masked tokens (Devlin et al. 2019): of each window the share mlm_probability of its tokens is to be guessed, special
 * ones never; of those 80% are replaced by the mask token, 10% by a random one, 10% stay.
 *
 * Which ones is a function of (seed, epoch, first token of the window): other ones each epoch, the same after a resume
 * and for any micro-batch. The number is the same for every window, so a step has fixed shapes: the hidden states of
 * these rows alone go through the head. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/objective.h"

#define IGNORE (-100)

typedef struct mlm {
    fm_windows w; /* first: the helpers of windows take it */
    int32_t mask_id;
    bool *special;      /* [vocab] never masked and never put in a random place */
    int32_t per_window; /* rows of a window */
    int64_t cap;
    int32_t *ids;       /* [n,seq_len] with masks */
    int32_t *row;       /* [n,per_window] token of the window */
    int32_t *target;    /* [n,per_window] */
    int64_t *n_trained; /* [n] */
    int32_t *rows;      /* [n * per_window] of the micro-batch in work */
    struct draw {
        uint32_t key;
        int32_t t;
    } * draw; /* [seq_len] */
} mlm;

static void close_mlm(void *state) {
    mlm *m = state;
    if (m) {
        fm_free(m->special);
        fm_free(m->ids);
        fm_free(m->row);
        fm_free(m->target);
        fm_free(m->n_trained);
        fm_free(m->rows);
        fm_free(m->draw);
        fm_windows_close(state);
    }
}

/* The mask token by the names it has in published vocabularies. */
static fm_status find_tokens(mlm *m, const fm_objective_env *env) {
    static const char *const names[] = {"[MASK]", "<mask>", "<|mask|>", "<|mdm_mask|>"};
    const fm_tokenizer *t = env->tokenizer;
    if (!t) { /* planning */
        return FM_OK;
    }
    m->mask_id = -1;
    for (size_t i = 0; i < FM_ARRAY_LEN(names) && m->mask_id < 0; i++) {
        m->mask_id = fm_tokenizer_find(t, names[i], strlen(names[i]));
    }
    if (m->mask_id < 0 || m->mask_id >= env->model->cfg.vocab_size) {
        (void)fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "stage mlm needs a mask token, the tokenizer has none");
        return fm_error_hint("train the tokenizer with a special token [MASK]");
    }
    for (int32_t i = 0; i < env->vocab; i++) {
        m->special[i] = fm_tokenizer_is_special(t, i);
    }
    return FM_OK;
}

static fm_status open_mlm(void **state, const fm_objective_env *env) {
    mlm *m = fm_calloc(1, sizeof *m);
    *state = m;
    if (!m) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an objective");
    }
    m->w.env = *env;
    m->w.env.mlm_probability = env->mlm_probability > 0 ? env->mlm_probability : 0.15;
    if (!env->model->family->encoder || env->model->cfg.head.kind != FM_HEAD_LM) {
        (void)fm_error_set(
            FM_ERR_CONFIG, __FILE__, __LINE__,
            "stage mlm trains encoders with a masked language model head; this is %s %s with a head for %s",
            env->model->family->encoder ? "an encoder," : "a decoder,", env->model->family->name,
            fm_head_row_of(&env->model->cfg.head)->name);
        return fm_error_hint("stage: pt trains decoders");
    }
    m->per_window = FM_MAX(1, (int32_t)lround(m->w.env.mlm_probability * env->seq_len));
    m->special = fm_calloc((size_t)env->vocab, sizeof *m->special);
    m->draw = fm_calloc((size_t)env->seq_len, sizeof *m->draw);
    if (!m->special || !m->draw) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an objective");
    }
    return find_tokens(m, env);
}

static fm_status reserve(mlm *m, int64_t n) {
    size_t rows = (size_t)n * (size_t)m->per_window;
    if (n <= m->cap) {
        return FM_OK;
    }
    fm_free(m->ids);
    fm_free(m->row);
    fm_free(m->target);
    fm_free(m->n_trained);
    fm_free(m->rows);
    m->cap = 0;
    m->ids = fm_calloc((size_t)n * (size_t)m->w.env.seq_len, sizeof *m->ids);
    m->row = fm_calloc(rows, sizeof *m->row);
    m->target = fm_calloc(rows, sizeof *m->target);
    m->n_trained = fm_calloc((size_t)n, sizeof *m->n_trained);
    m->rows = fm_calloc(rows, sizeof *m->rows);
    if (!m->ids || !m->row || !m->target || !m->n_trained || !m->rows) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a step of %lld windows", (long long)n);
    }
    m->cap = n;
    return FM_OK;
}

static int by_key(const void *a, const void *b) {
    const struct draw *x = a, *y = b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1) : (x->t > y->t) - (x->t < y->t);
}
static int by_token(const void *a, const void *b) {
    const struct draw *x = a, *y = b;
    return (x->t > y->t) - (x->t < y->t);
}

/* What stands in the place of a chosen token. */
static int32_t replacement(const mlm *m, fm_rng_key key, uint64_t at, int32_t id) {
    double u = fm_rng_uniform(key, at);
    if (u < 0.8) {
        return m->mask_id;
    }
    if (u >= 0.9) {
        return id;
    }
    key.stream = fm_rng_stream("mlm.random");
    int32_t v = (int32_t)fm_rng_below(key, at, (uint64_t)m->w.env.vocab);
    return m->special[v] ? id : v;
}

static void mask_window(mlm *m, int64_t i, int64_t epoch) {
    int32_t len = m->w.env.seq_len, n = 0;
    const int32_t *ids = m->w.ids + i * len;
    int32_t *out = m->ids + i * len, *row = m->row + i * m->per_window, *target = m->target + i * m->per_window;
    fm_rng_key choose = {.seed = m->w.env.seed, .stream = fm_rng_stream("mlm.choose"), .step = (uint32_t)epoch};
    fm_rng_key how = {.seed = m->w.env.seed, .stream = fm_rng_stream("mlm.how"), .step = (uint32_t)epoch};
    uint64_t first = (uint64_t)m->w.first[i];
    memcpy(out, ids, (size_t)len * sizeof *out);
    for (int32_t t = 0; t < len; t++) {
        if (!m->special[ids[t]]) {
            m->draw[n++] = (struct draw){.key = fm_rng_u32(choose, first + (uint64_t)t), .t = t};
        }
    }
    qsort(m->draw, (size_t)n, sizeof *m->draw, by_key);
    n = FM_MIN(n, m->per_window);
    qsort(m->draw, (size_t)n, sizeof *m->draw, by_token);
    for (int32_t k = 0; k < m->per_window; k++) {
        bool used = k < n;
        int32_t t = used ? m->draw[k].t : 0;
        row[k] = t;
        target[k] = used ? ids[t] : IGNORE;
        if (used) {
            out[t] = replacement(m, how, first + (uint64_t)t, ids[t]);
        }
    }
    m->n_trained[i] = n;
}

static fm_status load(void *state, fm_sampler *s, int64_t n) {
    mlm *m = state;
    FM_TRY(reserve(m, n));
    /* Windows are read one by one to know the epoch of each. */
    fm_cursor at = s ? s->at : (fm_cursor){0};
    FM_TRY(fm_windows_load(state, s, n));
    for (int64_t i = 0; i < n; i++) {
        mask_window(m, i, at.epoch);
        if (s && ++at.index >= s->n_samples) {
            at = (fm_cursor){.epoch = at.epoch + 1};
        }
    }
    return FM_OK;
}

static int64_t n_trained(const void *state, int64_t begin, int64_t end) {
    const mlm *m = state;
    int64_t n = 0;
    for (int64_t i = begin; i < end; i++) {
        n += m->n_trained[i];
    }
    return n;
}

static fm_tensor *loss(void *state, fm_ctx *c, int64_t begin, int64_t end, double scale, fm_tensor **token_loss) {
    mlm *m = state;
    int64_t per = m->per_window;
    fm_batch b = fm_windows_batch(&m->w, begin, end);
    for (int64_t k = begin * per; k < end * per; k++) {
        m->rows[k - begin * per] = (int32_t)((k / per - begin) * m->w.env.seq_len) + m->row[k];
    }
    b.ids = m->ids + begin * m->w.env.seq_len;
    b.rows = m->rows;
    b.n_rows = (int32_t)((end - begin) * per);
    b.targets = m->target + begin * per;
    bool train = fm_ctx_training(c);
    fm_loss_options o = {.ignore_index = IGNORE,
                         .label_smoothing = train ? (float)m->w.env.label_smoothing : 0,
                         .z_loss = train ? (float)m->w.env.z_loss : 0,
                         .scale = scale,
                         .is_root = fm_tape_on(c)};
    return fm_model_loss(c, m->w.env.model, &b, &o, token_loss);
}

extern const fm_objective fm_objective_mlm;
const fm_objective fm_objective_mlm = {
    .name = "mlm",
    .summary = "masked tokens, for encoders",
    .needs_tokenizer = true,
    .open = open_mlm,
    .close = close_mlm,
    .load = load,
    .n_trained = n_trained,
    .row = fm_windows_row,
    .loss = loss,
};
