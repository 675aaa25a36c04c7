/* Copies of the pictures of a folder: a part cut out, mirrored, turned, lighter or darker. What a copy is depends on
 * the picture's path in the folder, the copy's number and the seed.
 *
 * The folder is one as Hugging Face's "imagefolder" reads: classes are subfolders, or columns of metadata.jsonl
 * (file_name, label ...). So is the output, with the metadata of the originals and what was done to each copy. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/option_row.h"
#include "base/pool.h"
#include "base/progress.h"
#include "base/rng.h"
#include "data/records.h"
#include "data/rows_out.h"
#include "fathom/images.h"
#include "io/image.h"

#define MAX_DEPTH 32

enum { FLIP_NONE, FLIP_HORIZONTAL, FLIP_VERTICAL, FLIP_BOTH };

struct fm_images_config {
    char *input, *output;
    int64_t copies, seed, threads, max_pixels;
    double crop, rotate, brightness;
    int flip;
    bool originals, overwrite;
};

#define O(k) offsetof(struct fm_images_config, k)
static const fm_option option_rows[] = {
    {"input", FM_OPT_STR, O(input), NULL, 0, 0, NULL, "i", "DIR", "folder with pictures; subfolders are classes"},
    {"output", FM_OPT_STR, O(output), NULL, 0, 0, NULL, "o", "DIR", "new folder"},
    {"copies", FM_OPT_INT, O(copies), "4", 1, 10000, NULL, NULL, NULL, "of each picture"},
    {"crop", FM_OPT_FLOAT, O(crop), "0.8", 0.01, 1, NULL, NULL, NULL,
     "smallest share of width and height that stays; 1 = all"},
    {"rotate", FM_OPT_FLOAT, O(rotate), "10", 0, 180, NULL, NULL, "DEGREES", "largest angle to either side"},
    {"flip", FM_OPT_ENUM, O(flip), "horizontal", 0, 0, "none|horizontal|vertical|both", NULL, NULL,
     "half of the copies are mirrored"},
    {"brightness", FM_OPT_FLOAT, O(brightness), "0.2", 0, 1, NULL, NULL, NULL,
     "colours are multiplied by 1 - this to 1 + this"},
    {"originals", FM_OPT_BOOL, O(originals), "true", 0, 0, NULL, NULL, NULL, "the pictures themselves come along"},
    {"max_pixels", FM_OPT_INT, O(max_pixels), "100M", 1, 1e12, NULL, NULL, NULL,
     "of a picture; larger ones are refused"},
    {"seed", FM_OPT_INT, O(seed), "0", 0, 9e15, NULL, NULL, NULL, NULL},
    {"threads", FM_OPT_INT, O(threads), "0", 0, 1024, NULL, NULL, NULL, "0 = all"},
    {"overwrite", FM_OPT_BOOL, O(overwrite), "false", 0, 0, NULL, NULL, NULL, "replace what is in the output"},
    {NULL, FM_OPT_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL, NULL},
};

const fm_option *fm_images_options(void) {
    return option_rows;
}

fm_status fm_images_config_new(fm_images_config **out) {
    fm_images_config *c = *out = fm_calloc(1, sizeof *c);
    if (!c) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a configuration");
    }
    fm_status s = fm_options_init(c, option_rows);
    if (s != FM_OK) {
        fm_images_config_free(c);
        *out = NULL;
    }
    return s;
}

void fm_images_config_free(fm_images_config *c) {
    if (c) {
        fm_options_free(c, option_rows);
        fm_free(c);
    }
}

/* ---- the folder ------------------------------------------------------------------------------- */

typedef struct picture {
    char *path;      /* in the folder: "cat/1.jpg" */
    char *meta;      /* its row of the metadata as JSON, or NULL */
    fm_str rows;     /* JSON lines of what was written */
    int64_t written; /* files */
    char bad[400];   /* why it was refused, "" = it was not */
} picture;

typedef struct run {
    const fm_images_config *c;
    picture *item;
    size_t n, cap;
    pthread_mutex_t lock;
    fm_meter meter;
    int64_t n_done;
} run;

static bool is_picture(const char *name) {
    static const char *const suffix[] = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < FM_ARRAY_LEN(suffix); i++) {
        if (strcasecmp(dot, suffix[i]) == 0) {
            return true;
        }
    }
    return false;
}

static fm_status add_picture(run *r, const char *path) {
    void *p = r->item;
    FM_TRY(fm_grow(&p, &r->cap, r->n + 1, sizeof *r->item));
    r->item = p;
    r->item[r->n] = (picture){.path = fm_strdup(path)};
    if (!r->item[r->n].path) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a list of pictures");
    }
    r->n++;
    return FM_OK;
}

static fm_status walk(run *r, const char *inside, int depth) {
    char dir[4096], path[4096], full[4096];
    char **names = NULL;
    size_t n = 0;
    FM_TRY(fm_path_join(dir, sizeof dir, r->c->input, inside));
    FM_TRY(fm_dir_list(&names, &n, *inside ? dir : r->c->input));
    fm_status s = FM_OK;
    for (size_t i = 0; i < n && s == FM_OK; i++) {
        if (*names[i] == '.') {
            continue;
        }
        int k = snprintf(path, sizeof path, "%s%s%s", inside, *inside ? "/" : "", names[i]);
        s = k > 0 && (size_t)k < sizeof path ? fm_path_join(full, sizeof full, r->c->input, path)
                                             : fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "a path is too long");
        if (s == FM_OK && fm_path_is_dir(full)) {
            s = depth < MAX_DEPTH ? walk(r, path, depth + 1) : FM_OK;
        } else if (s == FM_OK && is_picture(names[i])) {
            s = add_picture(r, path);
        }
    }
    fm_names_free(names, n);
    return s;
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const picture *)a)->path, ((const picture *)b)->path);
}

static void on_bad(void *user, const char *file, int64_t line, const char *reason) {
    FM_UNUSED(user);
    fm_warn("%s:%lld: %s", file, (long long)line, reason);
}

static fm_status take_meta(run *r, fm_records *in, const fm_rec *row) {
    const fm_cell *name = fm_rec_get(row, "file_name");
    char path[4096];
    if (!name || name->kind != FM_CELL_TEXT || name->text.len >= sizeof path) {
        fm_records_reject(in, row, "metadata without file_name");
        return FM_OK;
    }
    memcpy(path, name->text.ptr, name->text.len);
    path[name->text.len] = '\0';
    picture key = {.path = path};
    picture *p = r->n ? bsearch(&key, r->item, r->n, sizeof key, by_path) : NULL;
    if (!p || p->meta) {
        fm_records_reject(in, row, p ? "file_name is there twice" : "there is no such picture");
        return FM_OK;
    }
    fm_str json = {0};
    fm_rec_put_json(&json, row);
    FM_TRY(fm_str_check(&json));
    p->meta = fm_str_take(&json);
    return FM_OK;
}

static fm_status read_meta(run *r) {
    char path[4096];
    char *list[1] = {path};
    fm_records *in = NULL;
    FM_TRY(fm_path_join(path, sizeof path, r->c->input, "metadata.jsonl"));
    if (!fm_path_exists(path)) {
        return FM_OK;
    }
    fm_records_options o = {.input = {list, 1}, .on_bad = on_bad};
    FM_TRY(fm_records_open(&in, &o));
    fm_status s = FM_OK;
    while (s == FM_OK) {
        fm_rec *row = NULL;
        fm_bump *arena = NULL;
        s = fm_records_next(in, &row, &arena);
        if (s != FM_OK || !row) {
            break;
        }
        s = take_meta(r, in, row);
    }
    fm_records_close(in);
    return s;
}

/* ---- one picture ------------------------------------------------------------------------------ */

static fm_image_change draw(const fm_images_config *c, const char *path, int64_t copy, int32_t w, int32_t h) {
    fm_rng_key key = {.seed = fm_hash64(path, strlen(path), (uint64_t)c->seed),
                      .stream = fm_rng_stream("images"),
                      .step = (uint32_t)copy};
    double share = c->crop + (1 - c->crop) * fm_rng_uniform(key, 0);
    fm_image_change g = {.width = (int32_t)fmax(1, floor(share * w)), .height = (int32_t)fmax(1, floor(share * h))};
    g.left = (int32_t)fm_rng_below(key, 10, (uint64_t)(w - g.width) + 1);
    g.top = (int32_t)fm_rng_below(key, 11, (uint64_t)(h - g.height) + 1);
    g.flip_h = (c->flip == FLIP_HORIZONTAL || c->flip == FLIP_BOTH) && fm_rng_uniform(key, 20) < 0.5;
    g.flip_v = (c->flip == FLIP_VERTICAL || c->flip == FLIP_BOTH) && fm_rng_uniform(key, 30) < 0.5;
    g.angle = round(c->rotate * (2 * fm_rng_uniform(key, 40) - 1) * 100) / 100;
    g.brightness = round((1 + c->brightness * (2 * fm_rng_uniform(key, 50) - 1)) * 1000) / 1000;
    return g;
}

/* The row of a file: the metadata, or the class by folder; for copies what was done. */
static void put_row(picture *p, const char *name, const fm_image_change *g) {
    const char *slash = strchr(p->path, '/');
    fm_str_puts(&p->rows, "{\"file_name\":");
    fm_str_json(&p->rows, name, strlen(name));
    if (!p->meta && slash) {
        fm_str_puts(&p->rows, ",\"label\":");
        fm_str_json(&p->rows, p->path, (size_t)(slash - p->path));
    }
    if (g) {
        fm_str_puts(&p->rows, ",\"source_file\":");
        fm_str_json(&p->rows, p->path, strlen(p->path));
        fm_str_printf(&p->rows, ",\"crop\":[%d,%d,%d,%d],\"flip\":\"%s%s\",\"angle\":%.9g,\"brightness\":%.9g",
                      (int)g->left, (int)g->top, (int)g->width, (int)g->height, g->flip_h ? "h" : "",
                      g->flip_v ? "v" : "", g->angle, g->brightness);
    }
    fm_str_puts(&p->rows, "}\n");
}

static fm_status target(char *out, size_t cap, const run *r, const char *name) {
    char dir[4096];
    FM_TRY(fm_path_join(out, cap, r->c->output, name));
    int k = snprintf(dir, sizeof dir, "%s", out);
    char *slash = k > 0 && (size_t)k < sizeof dir ? strrchr(dir, '/') : NULL;
    if (slash) {
        *slash = '\0';
        FM_TRY(fm_mkdirs(dir));
    }
    return FM_OK;
}

static fm_status copy_file(const char *from, const char *to) {
    char *data = NULL;
    size_t n = 0;
    FM_TRY(fm_file_read(&data, &n, from, (size_t)4 << 30));
    fm_status s = fm_file_write_atomic(to, data, n);
    fm_free(data);
    return s;
}

static fm_status write_copy(const run *r, picture *p, const fm_image *image, int64_t i) {
    char name[4096], path[4096], tmp[4096];
    const char *dot = strrchr(p->path, '.');
    FM_ASSERT(dot);
    int k = snprintf(name, sizeof name, "%.*s-%lld%s", (int)(dot - p->path), p->path, (long long)i + 1, dot);
    if (k < 0 || (size_t)k >= sizeof name) {
        FM_FAIL(FM_ERR_ARGUMENT, "a path is too long");
    }
    FM_TRY(target(path, sizeof path, r, name));
    k = snprintf(tmp, sizeof tmp, "%s.tmp%s", path, dot);
    if (k < 0 || (size_t)k >= sizeof tmp) {
        FM_FAIL(FM_ERR_ARGUMENT, "a path is too long");
    }
    fm_image_change g = draw(r->c, p->path, i, fm_image_width(image), fm_image_height(image));
    fm_status s = fm_image_write(image, &g, tmp);
    if (s == FM_OK && rename(tmp, path) != 0) {
        s = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot rename '%s'", tmp);
    }
    if (s != FM_OK) {
        (void)unlink(tmp);
        return s;
    }
    p->written++;
    put_row(p, name, &g);
    return fm_str_check(&p->rows);
}

static fm_status one_picture(const run *r, picture *p) {
    char from[4096], to[4096];
    fm_image *image = NULL;
    FM_TRY(fm_path_join(from, sizeof from, r->c->input, p->path));
    fm_status s = fm_image_open(&image, from, r->c->max_pixels);
    if (s == FM_ERR_DATA) {
        (void)snprintf(p->bad, sizeof p->bad, "%s", fm_error_get().message);
        fm_error_clear();
        return FM_OK;
    }
    if (s == FM_OK && r->c->originals) {
        s = target(to, sizeof to, r, p->path);
        s = s == FM_OK ? copy_file(from, to) : s;
        p->written++;
        put_row(p, p->path, NULL);
    }
    for (int64_t i = 0; i < r->c->copies && s == FM_OK; i++) {
        s = write_copy(r, p, image, i);
    }
    fm_image_close(image);
    return s;
}

static fm_status part(void *arg, int64_t at, int64_t n_parts, int thread) {
    run *r = arg;
    FM_UNUSED(n_parts);
    FM_UNUSED(thread);
    if (fm_cancelled()) {
        FM_FAIL(FM_ERR_CANCELLED, "interrupted");
    }
    fm_status s = one_picture(r, &r->item[at]);
    fm_image_thread_end();
    (void)pthread_mutex_lock(&r->lock);
    fm_meter_update(&r->meter, (double)++r->n_done, "");
    (void)pthread_mutex_unlock(&r->lock);
    return s;
}

/* ---- the output ------------------------------------------------------------------------------- */

/* The columns of the metadata go into each row that was made of the picture. */
static fm_status put_rows(fm_rows_out *w, const picture *p) {
    for (const char *at = p->rows.data; at && *at;) {
        const char *end = strchr(at, '\n');
        size_t n = end ? (size_t)(end - at) : strlen(at);
        fm_bump *a = &w->batch.arena;
        fm_rec *r = NULL;
        const char *line = fm_bump_copy(a, at, n);
        if (!line) {
            FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a row");
        }
        FM_TRY(fm_recs_add(&w->batch, &r));
        FM_TRY(fm_rec_parse_json(a, r, line, n));
        if (p->meta) {
            fm_rec *meta = NULL;
            const char *json = fm_bump_copy(a, p->meta, strlen(p->meta));
            FM_TRY(fm_rec_new(a, &meta, NULL));
            FM_TRY(json ? fm_rec_parse_json(a, meta, json, strlen(json)) : FM_ERR_NO_MEMORY);
            for (size_t i = 0; i < meta->n; i++) {
                if (!fm_rec_get_sv(r, meta->cell[i].name)) {
                    FM_TRY(fm_rec_push(a, r, meta->cell[i]));
                }
            }
        }
        at = end ? end + 1 : NULL;
    }
    return fm_rows_out_flush(w, 256);
}

static fm_status describe(fm_json *doc, const run *r, int64_t n_bad) {
    fm_json *options, *bad;
    FM_TRY(fm_json_set(doc, "input", fm_json_new_str(r->c->input)));
    FM_TRY(fm_json_set(doc, "pictures", fm_json_new_int((int64_t)r->n - n_bad)));
    FM_TRY(fm_json_set(doc, "refused", bad = fm_json_new_array()));
    for (size_t i = 0; i < r->n; i++) {
        if (*r->item[i].bad) {
            FM_TRY(fm_json_append(bad, fm_json_new_str(r->item[i].bad)));
        }
    }
    FM_TRY(fm_json_set(doc, "options", options = fm_json_new_object()));
    for (const fm_option *row = option_rows; row->key; row++) {
        fm_str text = {0};
        fm_status s = fm_option_text(&text, r->c, row);
        s = s == FM_OK ? fm_json_set(options, row->key, fm_json_new_strn(text.data ? text.data : "", text.len)) : s;
        fm_str_free(&text);
        FM_TRY(s);
    }
    return FM_OK;
}

static fm_status write_lists(const run *r, fm_images_report *report) {
    char path[4096];
    fm_rows_out w = {0};
    fm_json *doc = fm_json_new_object();
    fm_status s = fm_path_join(path, sizeof path, r->c->output, "metadata.jsonl");
    s = s == FM_OK ? fm_rows_out_open(&w, path, true) : s;
    for (size_t i = 0; i < r->n && s == FM_OK; i++) {
        const picture *p = &r->item[i];
        report->n_bad += *p->bad != '\0';
        report->n_written += p->written;
        if (*p->bad) {
            fm_warn("%s", p->bad);
        }
        s = put_rows(&w, p);
    }
    report->n_pictures = (int64_t)r->n - report->n_bad;
    s = s == FM_OK ? describe(doc, r, report->n_bad) : s;
    s = s == FM_OK ? fm_rows_out_finish(&w, doc, NULL) : s;
    fm_rows_out_close(&w);
    fm_json_free(doc);
    return s;
}

static fm_status go(run *r, fm_images_report *report) {
    const fm_images_config *c = r->c;
    fm_pool *pool = NULL;
    char manifest[4096];
    if (!c->input || !c->output) {
        FM_FAIL(FM_ERR_CONFIG, "expected a folder of pictures (-i DIR) and a new one (-o DIR)");
    }
    if (!fm_path_is_dir(c->input)) {
        FM_FAIL(FM_ERR_NOT_FOUND, "'%s' is no folder", c->input);
    }
    FM_TRY(fm_path_join(manifest, sizeof manifest, c->output, "metadata.jsonl.manifest.json"));
    if (!c->overwrite && fm_path_exists(manifest)) {
        FM_FAIL(FM_ERR_EXISTS, "'%s' has pictures already (--overwrite replaces them)", c->output);
    }
    FM_TRY(fm_image_library());
    FM_TRY(walk(r, "", 0));
    if (r->n == 0) {
        FM_FAIL(FM_ERR_DATA, "'%s' has no pictures (jpg, png, webp, tif)", c->input);
    }
    qsort(r->item, r->n, sizeof *r->item, by_path);
    FM_TRY(read_meta(r));
    FM_TRY(fm_mkdirs(c->output));
    FM_TRY(fm_pool_new(&pool, (int)c->threads));
    fm_meter_start(&r->meter, "pictures", "pictures", (double)r->n);
    fm_status s = fm_pool_run_dynamic(pool, (int64_t)r->n, part, r);
    fm_meter_end(&r->meter, (double)r->n_done, "");
    fm_pool_free(pool);
    return s == FM_OK ? write_lists(r, report) : s;
}

fm_status fm_images_run(fm_images_report *out, const fm_images_config *c) {
    run r = {.c = c};
    fm_images_report report = {.size = out->size};
    double started = fm_now();
    (void)pthread_mutex_init(&r.lock, NULL);
    fm_status s = go(&r, &report);
    for (size_t i = 0; i < r.n; i++) {
        fm_free(r.item[i].path);
        fm_free(r.item[i].meta);
        fm_str_free(&r.item[i].rows);
    }
    fm_free(r.item);
    (void)pthread_mutex_destroy(&r.lock);
    report.seconds = fm_now() - started;
    memcpy(out, &report, FM_MIN(out->size, sizeof report));
    return s;
}
