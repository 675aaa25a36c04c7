/* Pictures, through libvips, which is opened at run time. image.c is the only file that knows it. Loaders that libvips
 * calls unfit for files of strangers are off. */
#ifndef FM_IO_IMAGE_H
#define FM_IO_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "fathom/status.h"

typedef struct fm_image fm_image;

/* What is done, in this order. */
typedef struct fm_image_change {
    int32_t left, top, width, height; /* part that stays */
    bool flip_h, flip_v;              /* left and right, top and bottom change places */
    double angle;                     /* degrees clockwise; of the turned picture the largest upright part of the old
                                       * proportions that is all picture stays */
    double brightness;                /* factor of all colours, 1 = none; transparency stays */
} fm_image_change;

/* FM_ERR_UNSUPPORTED without libvips. */
FM_MUST_CHECK fm_status fm_image_library(void);
/* Turned upright as the camera noted. FM_ERR_DATA: no picture, damaged, or more than max_pixels. */
FM_MUST_CHECK fm_status fm_image_open(fm_image **out, const char *path, int64_t max_pixels);
void fm_image_close(fm_image *i);
int32_t fm_image_width(const fm_image *i);
int32_t fm_image_height(const fm_image *i);
/* Writes the changed picture in the format of the path's suffix. */
FM_MUST_CHECK fm_status fm_image_write(const fm_image *i, const fm_image_change *c, const char *path);
/* To be called by a thread when it has done all of its pictures. */
void fm_image_thread_end(void);

#endif
