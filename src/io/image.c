/* The only file that knows libvips. Its few functions are declared here as its manual has them (C API of 8.x, variadic,
 * ended by NULL), so that no build needs its many headers. See image.h. */
#include "io/image.h"

#include <math.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

#include "base/dynlib.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"

typedef struct VipsImage VipsImage;
/* enums of the library that are named by number */
enum { FAIL_ON_TRUNCATED = 1, DIRECTION_HORIZONTAL = 0, DIRECTION_VERTICAL = 1, SPACE_CMYK = 15, SPACE_SRGB = 22 };

static struct {
    void *lib;
    int (*vips_init)(const char *argv0);
    void (*vips_concurrency_set)(int n);
    void (*vips_cache_set_max)(int n);
    void (*vips_block_untrusted_set)(int state);
    void (*vips_thread_shutdown)(void);
    const char *(*vips_error_buffer)(void);
    void (*vips_error_clear)(void);
    VipsImage *(*vips_image_new_from_file)(const char *name, ...);
    int (*vips_image_write_to_file)(VipsImage *image, const char *name, ...);
    VipsImage *(*vips_image_copy_memory)(VipsImage *image);
    int (*vips_image_get_width)(const VipsImage *image);
    int (*vips_image_get_height)(const VipsImage *image);
    int (*vips_image_get_bands)(const VipsImage *image);
    int (*vips_image_get_format)(const VipsImage *image);
    int (*vips_image_get_interpretation)(const VipsImage *image);
    int (*vips_image_hasalpha)(VipsImage *image);
    int (*vips_autorot)(VipsImage *in, VipsImage **out, ...);
    int (*vips_colourspace)(VipsImage *in, VipsImage **out, int space, ...);
    int (*vips_crop)(VipsImage *in, VipsImage **out, int left, int top, int width, int height, ...);
    int (*vips_flip)(VipsImage *in, VipsImage **out, int direction, ...);
    int (*vips_rotate)(VipsImage *in, VipsImage **out, double angle, ...);
    int (*vips_linear)(VipsImage *in, VipsImage **out, const double *a, const double *b, int n, ...);
    int (*vips_cast)(VipsImage *in, VipsImage **out, int format, ...);
    void (*g_object_unref)(void *object);
    unsigned (*g_log_set_handler)(const char *domain, int levels,
                                  void (*fn)(const char *domain, int level, const char *text, void *user), void *user);
} vips;

#define FUNCTIONS(X)                                                                                                   \
    X(vips_init)                                                                                                       \
    X(vips_concurrency_set)                                                                                            \
    X(vips_cache_set_max)                                                                                              \
    X(vips_block_untrusted_set)                                                                                        \
    X(vips_thread_shutdown)                                                                                            \
    X(vips_error_buffer)                                                                                               \
    X(vips_error_clear)                                                                                                \
    X(vips_image_new_from_file)                                                                                        \
    X(vips_image_write_to_file)                                                                                        \
    X(vips_image_copy_memory)                                                                                          \
    X(vips_image_get_width)                                                                                            \
    X(vips_image_get_height)                                                                                           \
    X(vips_image_get_bands)                                                                                            \
    X(vips_image_get_format)                                                                                           \
    X(vips_image_get_interpretation)                                                                                   \
    X(vips_image_hasalpha)                                                                                             \
    X(vips_autorot)                                                                                                    \
    X(vips_colourspace)                                                                                                \
    X(vips_crop)                                                                                                       \
    X(vips_flip)                                                                                                       \
    X(vips_rotate)                                                                                                     \
    X(vips_linear)                                                                                                     \
    X(vips_cast)                                                                                                       \
    X(g_object_unref)                                                                                                  \
    X(g_log_set_handler)

struct fm_image {
    VipsImage *image;
};

#define END ((void *)NULL)

/* Its warnings (odd chunks of files) do not go to the terminal. */
static void on_warning(const char *domain, int level, const char *text, void *user) {
    FM_UNUSED(domain);
    FM_UNUSED(level);
    FM_UNUSED(user);
    fm_debug("libvips: %s", text);
}

fm_status fm_image_library(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static const fm_dynlib_entry entries[] = {
#define FM_X(name) {&vips.name, #name},
        FUNCTIONS(FM_X)
#undef FM_X
    };
    fm_status s = FM_OK;
    (void)pthread_mutex_lock(&lock);
    if (!vips.lib) {
        void *lib = NULL;
        s = fm_dynlib_open(&lib, "libvips.so.42", "libvips42", entries, FM_ARRAY_LEN(entries));
        if (s == FM_OK && vips.vips_init("fathom") != 0) {
            s = fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "libvips cannot be initialised: %s",
                             vips.vips_error_buffer());
        }
        if (s == FM_OK) {
            (void)vips.g_log_set_handler("VIPS", 1 << 4, on_warning, NULL);
            vips.vips_concurrency_set(1); /* threads are ours: a picture each */
            vips.vips_cache_set_max(0);
            vips.vips_block_untrusted_set(1);
            vips.lib = lib;
        }
    }
    (void)pthread_mutex_unlock(&lock);
    return s;
}

void fm_image_thread_end(void) {
    if (vips.lib) {
        vips.vips_thread_shutdown();
    }
}

static fm_status refuse(const char *path, const char *what) {
    char words[400];
    size_t n = strcspn(vips.vips_error_buffer(), "\n");
    n = FM_MIN(n, sizeof words - 1);
    memcpy(words, vips.vips_error_buffer(), n);
    words[n] = '\0';
    vips.vips_error_clear();
    FM_FAIL(FM_ERR_DATA, "%s: %s: %s", path, what, words);
}

/* Replaces the image by the result of a step; the old one goes. */
static bool step(VipsImage **image, int rc, VipsImage *const *result) {
    if (rc != 0) {
        return false;
    }
    vips.g_object_unref(*image);
    *image = *result;
    return true;
}

fm_status fm_image_open(fm_image **out, const char *path, int64_t max_pixels) {
    *out = NULL;
    FM_TRY(fm_image_library());
    VipsImage *image = vips.vips_image_new_from_file(path, "fail_on", FAIL_ON_TRUNCATED, END), *next = NULL;
    if (!image) {
        return refuse(path, "no picture that can be read");
    }
    int64_t pixels = (int64_t)vips.vips_image_get_width(image) * vips.vips_image_get_height(image);
    if (pixels > max_pixels) { /* known from the head, before anything is unpacked */
        vips.g_object_unref(image);
        FM_FAIL(FM_ERR_DATA, "%s: %lld pixels, more than max_pixels %lld", path, (long long)pixels,
                (long long)max_pixels);
    }
    bool good = step(&image, vips.vips_autorot(image, &next, END), &next);
    if (good && vips.vips_image_get_interpretation(image) == SPACE_CMYK) {
        good = step(&image, vips.vips_colourspace(image, &next, SPACE_SRGB, END), &next);
    }
    next = good ? vips.vips_image_copy_memory(image) : NULL; /* unpacks: damage is found here */
    vips.g_object_unref(image);
    if (!next) {
        return refuse(path, "the picture is damaged");
    }
    fm_image *i = fm_calloc(1, sizeof *i);
    if (!i) {
        vips.g_object_unref(next);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a picture");
    }
    i->image = next;
    *out = i;
    return FM_OK;
}

void fm_image_close(fm_image *i) {
    if (i) {
        vips.g_object_unref(i->image);
        fm_free(i);
    }
}

int32_t fm_image_width(const fm_image *i) {
    return vips.vips_image_get_width(i->image);
}

int32_t fm_image_height(const fm_image *i) {
    return vips.vips_image_get_height(i->image);
}

/* Of a w x h picture that was turned: the largest upright part of its proportions without corners that were not there.
 * A part of s w x s h fits when its corners, turned back, lie inside. */
static double inner_scale(double w, double h, double angle) {
    double t = fmod(fabs(angle), 180) * (3.14159265358979323846 / 180);
    double c = fabs(cos(t)), s = fabs(sin(t));
    return fmin(w / (w * c + h * s), h / (w * s + h * c));
}

static bool rotate(VipsImage **image, double angle) {
    VipsImage *next = NULL;
    double w = vips.vips_image_get_width(*image), h = vips.vips_image_get_height(*image);
    if (!step(image, vips.vips_rotate(*image, &next, angle, END), &next)) {
        return false;
    }
    double k = inner_scale(w, h, angle);
    int tw = vips.vips_image_get_width(*image), th = vips.vips_image_get_height(*image);
    /* a pixel of each side less: edges are mixed with what is outside */
    int iw = (int)floor(k * w) - 2, ih = (int)floor(k * h) - 2;
    iw = iw < 1 ? 1 : iw > tw ? tw : iw;
    ih = ih < 1 ? 1 : ih > th ? th : ih;
    return step(image, vips.vips_crop(*image, &next, (tw - iw) / 2, (th - ih) / 2, iw, ih, END), &next);
}

static bool brighten(VipsImage **image, double factor) {
    double a[16], b[16] = {0};
    VipsImage *next = NULL;
    int bands = vips.vips_image_get_bands(*image), format = vips.vips_image_get_format(*image);
    if (bands < 1 || bands > 16) {
        return true;
    }
    for (int i = 0; i < bands; i++) {
        a[i] = i == bands - 1 && vips.vips_image_hasalpha(*image) ? 1 : factor;
    }
    return step(image, vips.vips_linear(*image, &next, a, b, bands, END), &next) &&
           step(image, vips.vips_cast(*image, &next, format, END), &next);
}

fm_status fm_image_write(const fm_image *i, const fm_image_change *c, const char *path) {
    VipsImage *image = NULL, *next = NULL;
    bool good = vips.vips_crop(i->image, &image, c->left, c->top, c->width, c->height, END) == 0;
    if (!good) {
        return refuse(path, "the picture cannot be cut");
    }
    if (c->flip_h) {
        good = step(&image, vips.vips_flip(image, &next, DIRECTION_HORIZONTAL, END), &next);
    }
    if (good && c->flip_v) {
        good = step(&image, vips.vips_flip(image, &next, DIRECTION_VERTICAL, END), &next);
    }
    if (good && c->angle != 0) {
        good = rotate(&image, c->angle);
    }
    if (good && c->brightness != 1) {
        good = brighten(&image, c->brightness);
    }
    good = good && vips.vips_image_write_to_file(image, path, END) == 0;
    vips.g_object_unref(image);
    return good ? FM_OK : refuse(path, "the changed picture cannot be written");
}
