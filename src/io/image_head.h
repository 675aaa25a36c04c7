/* Kind and size of an image from its headers, and whether the file is whole; pixels are not decoded. JPEG, PNG, GIF,
 * WebP, BMP, TIFF. */
#ifndef FM_IO_IMAGE_HEAD_H
#define FM_IO_IMAGE_HEAD_H

#include <stddef.h>
#include <stdint.h>

typedef struct fm_image_head {
    const char *format; /* "jpeg", "png" ... */
    uint32_t width, height;
} fm_image_head;

/* NULL, or what is wrong with the n bytes of the file, in few words. */
const char *fm_image_look(fm_image_head *out, const uint8_t *p, size_t n);

#endif
