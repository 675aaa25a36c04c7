/* Folders of images: a row for each file, with its place, size and class. The class is the first folder below the one
 * that was named; a text beside the image (same name, .txt or .caption) goes into the text column. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/reader.h"
#include "io/image_head.h"

#define BATCH      512
#define MOST_DEPTH 16
#define MOST_TEXT  ((size_t)16 << 20)

#define LOOK_AT 5000 /* files, to tell what a folder holds */

typedef struct images {
    const fm_reader_options *o;
    char *root;
    char **path; /* [n] relative to root, sorted by folder */
    size_t n, cap, next;
} images;

static bool ends_with(const char *name, const char *const *ends, size_t n_ends) {
    size_t n = strlen(name);
    for (size_t i = 0; i < n_ends; i++) {
        size_t k = strlen(ends[i]);
        if (n > k && strcasecmp(name + n - k, ends[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_image(const char *name) {
    static const char *const ends[] = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"};
    return ends_with(name, ends, FM_ARRAY_LEN(ends));
}

static bool is_caption(const char *name) {
    static const char *const ends[] = {".txt", ".caption"};
    return ends_with(name, ends, FM_ARRAY_LEN(ends));
}

static fm_status collect(images *k, const char *below, int depth) {
    char **names, path[4096], *copy;
    size_t n;
    if (*below) {
        FM_TRY(fm_path_join(path, sizeof path, k->root, below));
    }
    FM_TRY(fm_dir_list(&names, &n, *below ? path : k->root));
    fm_status s = FM_OK;
    for (size_t i = 0; i < n && s == FM_OK; i++) {
        char inner[4096], full[4096];
        if (names[i][0] == '.') {
            continue;
        }
        s = *below ? fm_path_join(inner, sizeof inner, below, names[i]) : FM_OK;
        const char *rel = *below ? inner : names[i];
        s = s == FM_OK ? fm_path_join(full, sizeof full, k->root, rel) : s;
        if (s == FM_OK && fm_path_is_dir(full)) {
            s = depth < MOST_DEPTH ? collect(k, rel, depth + 1) : FM_OK;
        } else if (s == FM_OK && is_image(rel)) {
            void *p = k->path;
            s = fm_grow(&p, &k->cap, k->n + 1, sizeof *k->path);
            k->path = s == FM_OK ? p : k->path;
            copy = s == FM_OK ? fm_strdup(rel) : NULL;
            if (copy) {
                k->path[k->n++] = copy;
            } else if (s == FM_OK) {
                s = fm_error_set(FM_ERR_NO_MEMORY, __FILE__, __LINE__, "cannot allocate the list of images");
            }
        }
    }
    fm_names_free(names, n);
    return s;
}

static fm_status open_images(void **state, const char *path, const fm_reader_options *o) {
    images *k = fm_calloc(1, sizeof *k);
    *state = k;
    if (k) {
        k->o = o;
        k->root = fm_strdup(path);
    }
    if (!k || !k->root) {
        FM_FAIL(FM_ERR_NO_MEMORY, "cannot allocate a reader for '%s'", path);
    }
    size_t n = strlen(k->root);
    while (n > 1 && k->root[n - 1] == '/') {
        k->root[--n] = '\0';
    }
    if (!fm_path_is_dir(k->root)) {
        FM_FAIL(FM_ERR_FORMAT, "'%s' is no folder of images", path);
    }
    return collect(k, "", 0);
}

static void close_images(void *state) {
    images *k = state;
    if (k) {
        for (size_t i = 0; i < k->n; i++) {
            fm_free(k->path[i]);
        }
        fm_free(k->path);
        fm_free(k->root);
        fm_free(k);
    }
}

/* The caption beside an image, without blanks at its end; *bad when it is no UTF-8 text. */
static fm_status read_caption(const images *k, fm_bump *a, fm_rec *r, const char *image, bool *bad) {
    static const char *const ends[] = {".txt", ".caption"};
    const char *dot = strrchr(image, '.');
    for (size_t i = 0; i < FM_ARRAY_LEN(ends); i++) {
        char path[4200], *text;
        size_t n;
        if (!dot || (size_t)(dot - image) + 10 > sizeof path) {
            return FM_OK;
        }
        memcpy(path, image, (size_t)(dot - image));
        memcpy(path + (dot - image), ends[i], strlen(ends[i]) + 1);
        if (!fm_path_exists(path)) {
            continue;
        }
        fm_status s = fm_file_read(&text, &n, path, MOST_TEXT);
        if (s == FM_ERR_NO_MEMORY) {
            return s;
        }
        fm_error_clear();
        *bad = s != FM_OK || !fm_utf8_valid(text, n);
        while (s == FM_OK && n && (unsigned char)text[n - 1] <= ' ') {
            n--;
        }
        fm_status set = *bad ? FM_OK : fm_rec_set_text(a, r, k->o->text_column, text, n);
        if (s == FM_OK) {
            fm_free(text);
        }
        return set;
    }
    return FM_OK;
}

static fm_status add_row(const images *k, fm_recs *b, const char *rel, const char *full, const fm_image_head *h,
                         int64_t line) {
    fm_rec *r;
    const char *slash = strchr(rel, '/');
    bool bad = false;
    FM_TRY(fm_recs_add(b, &r));
    r->line = line;
    FM_TRY(fm_rec_set_text(&b->arena, r, "path", full, strlen(full)));
    if (slash) {
        FM_TRY(fm_rec_set_text(&b->arena, r, "label", rel, (size_t)(slash - rel)));
    }
    FM_TRY(fm_rec_set_text(&b->arena, r, "format", h->format, strlen(h->format)));
    FM_TRY(fm_rec_set_int(&b->arena, r, "width", (int64_t)h->width));
    FM_TRY(fm_rec_set_int(&b->arena, r, "height", (int64_t)h->height));
    FM_TRY(fm_rec_set_int(&b->arena, r, "bytes", fm_file_size(full)));
    FM_TRY(read_caption(k, &b->arena, r, full, &bad));
    if (bad) {
        r->drop = "the text beside the image is no UTF-8";
        r->drop_step = -1;
    }
    return FM_OK;
}

static fm_status one(images *k, fm_recs *b, const char *rel, int64_t line) {
    char full[4096];
    fm_map m;
    fm_image_head h;
    fm_sv name = {full, 0};
    FM_TRY(fm_path_join(full, sizeof full, k->root, rel));
    name.len = strlen(full);
    if (!fm_utf8_valid(full, name.len)) {
        return fm_recs_reject(b, line, "the name is no UTF-8", NULL, name);
    }
    fm_status s = fm_map_open(&m, full);
    if (s != FM_OK) {
        fm_error_clear();
        return s == FM_ERR_NO_MEMORY ? s : fm_recs_reject(b, line, "the file cannot be opened", NULL, name);
    }
    const char *why = fm_image_look(&h, m.data, m.size);
    b->bytes += (int64_t)m.size;
    fm_map_close(&m);
    return why ? fm_recs_reject(b, line, "broken image", why, name) : add_row(k, b, rel, full, &h, line);
}

static fm_status next_images(void *state, fm_recs *b, bool *more) {
    images *k = state;
    for (int i = 0; i < BATCH && k->next < k->n; i++) {
        size_t at = k->next++;
        FM_TRY(one(k, b, k->path[at], (int64_t)at + 1));
    }
    *more = b->n > 0;
    return FM_OK;
}

/* Counts files of a folder and of the first folders in it. Allocates nothing: what a folder is must not depend on how
 * much memory there is. */
static void count(const char *dir, int depth, size_t *images_, size_t *others) {
    char path[4096];
    DIR *d = opendir(dir);
    const struct dirent *e;
    while (d && *images_ + *others < LOOK_AT && (e = readdir(d)) != NULL) {
        const char *name = e->d_name;
        if (name[0] == '.' || (size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path) {
            continue;
        }
        if (is_image(name)) {
            ++*images_;
        } else if (fm_path_is_dir(path)) {
            if (depth < 2) {
                count(path, depth + 1, images_, others);
            }
        } else if (!is_caption(name)) {
            ++*others;
        }
    }
    if (d) {
        closedir(d);
    }
}

/* A folder with more images than files that are neither images nor texts beside them. */
static bool is_mine(const char *path) {
    size_t n_images = 0, n_others = 0;
    if (!fm_path_is_dir(path)) {
        return false;
    }
    count(path, 0, &n_images, &n_others);
    return n_images > n_others;
}

const fm_reader_def fm_reader_images = {
    .name = "images",
    .help =
        "a folder of images: path, label (the folder below), format, width, height, bytes, and the text beside each",
    .open = open_images,
    .next = next_images,
    .close = close_images,
    .is_dir = true,
    .is_mine = is_mine,
};
