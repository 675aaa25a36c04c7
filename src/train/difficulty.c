/* Difficulty of rows: a number of theirs, their length, or the loss of a model on what is learned from them. Losses are
 * kept in OUTPUT/cache, so that a resumed run has the same ones. */
#include "train/difficulty.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "data/packing.h"

#define SCORE_TOKENS 4096 /* of one pass of the model that scores */

fm_status fm_curriculum_check(const fm_train_config *c, double at[FM_MAX_LEVELS], int *n) {
    static const char *const keys[] = {"curriculum_levels", "curriculum_column", "curriculum_model"};
    const bool set[] = {c->curriculum_levels.n > 0, c->curriculum_column != NULL, c->curriculum_model != NULL};
    const bool asked[] = {c->curriculum != FM_CURRICULUM_NONE, c->curriculum == FM_CURRICULUM_COLUMN,
                          c->curriculum == FM_CURRICULUM_LOSS};
    *n = 0;
    for (size_t i = 0; i < FM_ARRAY_LEN(keys); i++) {
        if (set[i] && !asked[i]) {
            FM_FAIL(FM_ERR_CONFIG, "%s is set, but curriculum is not %s", keys[i],
                    i == 0   ? "column, length or loss"
                    : i == 1 ? "column"
                             : "loss");
        }
        if (i > 0 && asked[i] && !set[i]) {
            FM_FAIL(FM_ERR_CONFIG, "curriculum: %s needs %s", i == 1 ? "column" : "loss", keys[i]);
        }
    }
    if (c->curriculum_levels.n >= FM_MAX_LEVELS) {
        FM_FAIL(FM_ERR_CONFIG, "curriculum_levels: at most %d points, found %zu", FM_MAX_LEVELS - 1,
                c->curriculum_levels.n);
    }
    for (size_t i = 0; i < c->curriculum_levels.n; i++) {
        const char *text = c->curriculum_levels.item[i];
        if (fm_parse_f64(&at[i], text) != FM_OK || !(at[i] > (i > 0 ? at[i - 1] : 0)) || at[i] > 1e12) {
            FM_FAIL(FM_ERR_CONFIG, "curriculum_levels: '%s': expected rising numbers of epochs or steps above 0", text);
        }
        (*n)++;
    }
    if (c->curriculum != FM_CURRICULUM_NONE && *n == 0 && !c->curriculum_by_weights) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "curriculum: curriculum_levels is not set");
        return fm_error_hint("the epochs (or curriculum_unit: steps) at which the next level begins, such as 5,15; or "
                             "curriculum_mode: weights");
    }
    return FM_OK;
}

/* ---- numbers of rows -------------------------------------------------------------------------- */

static fm_status from_file(float *out, int64_t n, const char *path, const char *what) {
    char *data = NULL;
    size_t bytes = 0;
    if (!fm_path_exists(path)) {
        FM_FAIL(FM_ERR_CONFIG, "%s: %s does not exist", what, path);
    }
    FM_TRY(fm_file_read(&data, &bytes, path, (size_t)n * sizeof *out));
    bool whole = bytes == (size_t)n * sizeof *out;
    if (whole) {
        memcpy(out, data, bytes);
    }
    fm_free(data);
    for (int64_t i = 0; whole && i < n; i++) {
        whole = isfinite(out[i]);
    }
    if (!whole) {
        FM_FAIL(FM_ERR_CORRUPT, "%s: expected %lld finite numbers in %zu bytes", path, (long long)n,
                (size_t)n * sizeof *out);
    }
    return FM_OK;
}

static fm_status by_column(const fm_trainer *r, float *out, int64_t n) {
    char path[4096];
    if (!fm_dataset_is_examples(r->data)) {
        fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "curriculum: packed text has no columns");
        return fm_error_hint("curriculum: length or loss; stages with rows (sft, cls, ...) take column");
    }
    FM_TRY(fm_path_join(path, sizeof path, fm_dataset_dir(r->data), FM_DIFFICULTY_FILE));
    return from_file(out, n, path, "curriculum_column");
}

/* Weight of the loss at a token by the mark of the token after it; all count where there are no marks with weights. */
static void fill_targets(const fm_dataset *d, const fm_json *weights, int64_t begin, int32_t n, const int32_t *ids,
                         int32_t *targets, int16_t *mark) {
    fm_dataset_marks(d, begin, n, mark);
    for (int32_t t = 0; t < n; t++) {
        bool counts =
            t + 1 < n && (!weights || fm_json_num(fm_json_at(weights, (size_t)FM_MAX(mark[t + 1], 0)), 0) > 0);
        targets[t] = counts ? ids[t + 1] : -100;
    }
}

typedef struct scorer {
    const fm_dataset *d;
    fm_model *m;
    int32_t limit; /* tokens of a text that are looked at */
    int32_t ids[SCORE_TOKENS], targets[SCORE_TOKENS], offsets[SCORE_TOKENS + 1];
    int16_t mark[SCORE_TOKENS];
    bool start[SCORE_TOKENS];
    float loss[SCORE_TOKENS];
} scorer;

/* Documents [first, ...) as many as fit into one pass; returns how many. */
static fm_status score_some(scorer *k, float *out, int64_t first, int64_t n_documents, int64_t *taken) {
    const fm_json *weights = fm_json_get(fm_dataset_json(k->d), "mark_weights");
    int32_t n = 0, at = 0;
    for (; first + n < n_documents; n++) {
        int64_t begin, len;
        fm_dataset_document(k->d, first + n, &begin, &len);
        int32_t take = (int32_t)FM_MIN(len, k->limit);
        if (n > 0 && at + take > SCORE_TOKENS) {
            break;
        }
        FM_TRY(fm_dataset_read(k->d, begin, take, k->ids + at, k->start));
        fill_targets(k->d, weights, begin, take, k->ids + at, k->targets + at, k->mark);
        at += take;
        k->offsets[n + 1] = at;
    }
    fm_texts t = {.size = sizeof t, .ids = k->ids, .offsets = k->offsets, .n = n};
    FM_TRY(fm_model_token_losses(k->m, &t, k->targets, k->loss));
    for (int32_t i = 0; i < n; i++) {
        double sum = 0;
        int64_t count = 0;
        for (int32_t s = k->offsets[i]; s < k->offsets[i + 1]; s++) {
            sum += k->targets[s] >= 0 ? (double)k->loss[s] : 0;
            count += k->targets[s] >= 0;
        }
        out[first + i] = count > 0 ? (float)(sum / (double)count) : 0;
    }
    *taken = n;
    return FM_OK;
}

static fm_status score(const fm_trainer *r, float *out, int64_t n) {
    scorer *k = fm_calloc(1, sizeof *k);
    fm_model_options o = {.size = sizeof o, .threads = (int)r->cfg->threads};
    if (!k) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to score rows");
    }
    fm_status s = fm_model_open(&k->m, r->cfg->curriculum_model, &o);
    if (s == FM_OK && !fm_model_generates(k->m)) {
        s = fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "curriculum_model %s does not predict the next token",
                         r->cfg->curriculum_model);
    }
    if (s == FM_OK && k->m->cfg.vocab_size < fm_dataset_vocab(r->data)) {
        s = fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__,
                         "curriculum_model %s has %d token ids, the data was packed with %d", r->cfg->curriculum_model,
                         k->m->cfg.vocab_size, fm_dataset_vocab(r->data));
    }
    k->d = r->data;
    k->limit =
        s == FM_OK ? (int32_t)FM_MIN(FM_MIN((int64_t)SCORE_TOKENS, r->cfg->cutoff_len), k->m->cfg.max_position) : 1;
    fm_meter meter;
    fm_meter_start(&meter, "scoring rows", "rows", (double)n);
    for (int64_t i = 0, taken = 0; i < n && s == FM_OK; i += taken) {
        s = score_some(k, out, i, n, &taken);
        fm_meter_update(&meter, (double)i, "");
        if (s == FM_OK && fm_cancelled()) {
            s = fm_error_set(FM_ERR_CANCELLED, __FILE__, __LINE__, "interrupted while scoring rows");
        }
    }
    fm_meter_end(&meter, (double)n, "");
    fm_model_close(k->m);
    fm_free(k);
    return s;
}

/* Losses, from OUTPUT/cache when they are of this data and model. */
static fm_status by_loss(const fm_trainer *r, float *out, int64_t n) {
    const char *model = r->cfg->curriculum_model;
    char dir[4096], path[4096], note[4096], config[4096], hash[33] = "";
    FM_TRY(fm_path_join(dir, sizeof dir, r->cfg->output_dir, "cache"));
    FM_TRY(fm_mkdirs(dir));
    FM_TRY(fm_path_join(path, sizeof path, dir, FM_DIFFICULTY_FILE));
    FM_TRY(fm_path_join(note, sizeof note, dir, "difficulty.txt"));
    FM_TRY(fm_path_join(config, sizeof config, model, "model.safetensors"));
    FM_TRY(fm_path_exists(config) ? fm_file_hash(hash, config) : FM_OK);
    fm_str want = {0};
    fm_str_printf(&want, "data %s\nmodel %s %s\ncutoff_len %lld\n", fm_dataset_hash(r->data), model, hash,
                  (long long)r->cfg->cutoff_len);
    fm_status s = fm_str_check(&want);
    char *have = NULL;
    size_t bytes = 0;
    bool same = s == FM_OK && fm_path_exists(note) && fm_file_read(&have, &bytes, note, 1 << 16) == FM_OK &&
                bytes == want.len && memcmp(have, want.data, bytes) == 0 && from_file(out, n, path, "") == FM_OK;
    fm_free(have);
    fm_error_clear();
    if (s == FM_OK && !same) {
        s = score(r, out, n);
        s = s == FM_OK ? fm_file_write_atomic(path, (const char *)out, (size_t)n * sizeof *out) : s;
        s = s == FM_OK ? fm_file_write_atomic(note, want.data, want.len) : s;
    }
    fm_str_free(&want);
    return s;
}

static fm_status difficulties(const fm_trainer *r, float *out, int64_t n) {
    if (r->cfg->curriculum == FM_CURRICULUM_COLUMN) {
        return by_column(r, out, n);
    }
    if (r->cfg->curriculum == FM_CURRICULUM_LOSS) {
        return by_loss(r, out, n);
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t begin, len;
        fm_dataset_document(r->data, i, &begin, &len);
        out[i] = (float)len;
    }
    return FM_OK;
}

/* ---- levels ----------------------------------------------------------------------------------- */

/* Draws at which levels begin, and over which weights move. */
static void place(const fm_trainer *r, fm_curriculum *k, const double *at, int n, int64_t n_windows) {
    const fm_train_config *c = r->cfg;
    double unit = c->curriculum_in_steps ? (double)(c->per_device_train_batch_size * c->gradient_accumulation_steps)
                                         : (double)n_windows;
    double run = c->max_steps > 0
                     ? (double)(c->max_steps * c->per_device_train_batch_size * c->gradient_accumulation_steps)
                     : c->num_train_epochs * (double)n_windows;
    k->by_weights = c->curriculum_by_weights;
    for (int l = 1; l <= n; l++) {
        k->from[l] = (int64_t)fmin(ceil(at[l - 1] * unit), 9e15);
    }
    k->total = (int64_t)fmin(n > 0 ? ceil(at[n - 1] * unit) : run, 9e15);
    if (n > 0 && at[n - 1] * unit >= run) {
        fm_warn("curriculum_levels: the last level begins at %s %g, the run ends at %g: its rows are %s",
                c->curriculum_in_steps ? "step" : "epoch", at[n - 1], run / unit,
                k->by_weights ? "not yet the most frequent by then" : "never seen");
    }
}

static void tell(const fm_curriculum *k, const fm_dataset *d, const float *difficulty, const uint8_t *level) {
    fm_str text = {0};
    for (int l = 0; l < k->n_levels; l++) {
        double low = INFINITY, high = -INFINITY;
        for (int64_t i = 0; i < fm_dataset_documents(d); i++) {
            if (level[i] == l) {
                low = fmin(low, (double)difficulty[i]);
                high = fmax(high, (double)difficulty[i]);
            }
        }
        fm_str_printf(&text, "%s%lld windows (%.4g to %.4g)", l ? ", " : "",
                      (long long)(k->level_begin[l + 1] - k->level_begin[l]), low, high);
    }
    if (!text.failed && text.data) {
        fm_info("curriculum: %d levels: %s", k->n_levels, text.data);
    }
    fm_str_free(&text);
}

static fm_status make(fm_trainer *r, fm_curriculum *k, const double *at, int n_at, float *difficulty, uint8_t *level) {
    int64_t n = fm_dataset_documents(r->data);
    int n_levels = n_at > 0 ? n_at + 1 : 3;
    bool examples = fm_dataset_is_examples(r->data);
    FM_TRY(difficulties(r, difficulty, n));
    FM_TRY(fm_levels_of(level, difficulty, n, n_levels));
    k->n_levels = n_levels;
    if (!examples) {
        FM_TRY(fm_curriculum_windows(k, r->data, r->seq_len, difficulty, n_levels));
    }
    FM_TRY(fm_sampler_init_levels(&r->sampler, r->data, r->seq_len, (uint64_t)r->cfg->seed, r->cfg->shuffle, k,
                                  examples ? level : NULL));
    place(r, r->sampler.levels, at, n_at, r->sampler.n_samples);
    if (r->sampler.levels->level_begin[1] == 0) {
        FM_FAIL(FM_ERR_CONFIG, "curriculum: %lld rows are too few for %d levels", (long long)n, n_levels);
    }
    tell(r->sampler.levels, r->data, difficulty, level);
    return FM_OK;
}

fm_status fm_trainer_open_sampler(fm_trainer *r) {
    const fm_train_config *c = r->cfg;
    if (c->curriculum == FM_CURRICULUM_NONE) {
        return fm_sampler_init(&r->sampler, r->data, r->seq_len, (uint64_t)c->seed, c->shuffle);
    }
    double at[FM_MAX_LEVELS];
    int n_at;
    FM_TRY(fm_curriculum_check(c, at, &n_at));
    size_t n = (size_t)fm_dataset_documents(r->data) + 1;
    fm_curriculum k = {0};
    float *difficulty = fm_calloc(n, sizeof *difficulty);
    uint8_t *level = fm_calloc(n, 1);
    fm_status s = difficulty && level ? make(r, &k, at, n_at, difficulty, level)
                                      : fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__,
                                                     "no memory for the difficulty of %zu rows", n);
    fm_free(difficulty);
    fm_free(level);
    fm_curriculum_deinit(&k); /* what the sampler took is empty here */
    return s;
}
