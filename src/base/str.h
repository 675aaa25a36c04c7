/* Growable byte strings and views. */
#ifndef FM_BASE_STR_H
#define FM_BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

/* A view: not owned, not NUL-terminated. */
typedef struct fm_sv {
    const char *ptr;
    size_t len;
} fm_sv;

/* An owned buffer. Zero-initialise ({0}), then append; data is NUL-terminated when not NULL.
 * A failed append sets `failed` and later appends do nothing: check once with fm_str_check. */
typedef struct fm_str {
    char *data;
    size_t len, cap;
    bool failed;
} fm_str;

fm_sv fm_sv_of(const char *cstr);
bool fm_sv_eq(fm_sv a, const char *cstr);
fm_sv fm_sv_trim(fm_sv s); /* without blanks and line ends around it (ASCII) */
void fm_str_free(fm_str *s);
void fm_str_clear(fm_str *s); /* keeps the storage */
void fm_str_append(fm_str *s, const char *p, size_t n);
void fm_str_puts(fm_str *s, const char *cstr);
void fm_str_putc(fm_str *s, char c);
FM_PRINTF(2, 3) void fm_str_printf(fm_str *s, const char *fmt, ...);
void fm_str_vprintf(fm_str *s, const char *fmt, va_list ap);
void fm_str_base64(fm_str *s, const uint8_t *p, size_t n); /* appends base64 with its padding */
void fm_str_json(fm_str *s, const char *p, size_t n);  /* appends a quoted JSON string; invalid UTF-8 becomes U+FFFD */
FM_MUST_CHECK fm_status fm_str_check(const fm_str *s); /* FM_ERR_NO_MEMORY when an append failed */
char *fm_str_take(fm_str *s); /* hands the buffer to the caller (fm_free); s is empty afterwards */

/* Edit distance for did-you-mean; index of the nearest of n names, or -1 when none is near. */
int fm_nearest_name(const char *name, const char *const *names, int n);

/* "1.5 GiB", "12.3k", "2h 03m", into buf; return buf. */
const char *fm_format_bytes(char *buf, size_t cap, double bytes);
const char *fm_format_count(char *buf, size_t cap, double n);
const char *fm_format_duration(char *buf, size_t cap, double seconds);
/* "2026-11-21T13:00:00Z" of milliseconds since 1970. */
const char *fm_format_utc(char *buf, size_t cap, int64_t unix_ms);

/* "6GB", "512MiB", "1.5g", "4096" -> bytes (GB = 1e9, GiB = 2^30). */
FM_MUST_CHECK fm_status fm_parse_bytes(int64_t *out, const char *s);
/* "300M", "1.2B", "26m" -> count. */
FM_MUST_CHECK fm_status fm_parse_count(int64_t *out, const char *s);
/* Whole-string parse; FM_ERR_ARGUMENT otherwise. */
FM_MUST_CHECK fm_status fm_parse_i64(int64_t *out, const char *s);
FM_MUST_CHECK fm_status fm_parse_f64(double *out, const char *s);

/* UTF-8. */
/* Decodes one code point at p (end exclusive); returns its byte length, or 0 when invalid. */
int fm_utf8_decode(uint32_t *cp, const char *p, const char *end);
int fm_utf8_encode(char out[4], uint32_t cp); /* bytes written, 1-4; 0 for surrogates / > 10FFFF */
bool fm_utf8_valid(const char *p, size_t n);
/* Length of the longest prefix that ends on a complete character (for streaming). */
size_t fm_utf8_complete_prefix(const char *p, size_t n);
uint32_t fm_utf8_lower(uint32_t cp); /* the simple lower-case form */
/* Columns a terminal uses (double-width characters count two). */
int fm_utf8_width(const char *p, size_t n);

#endif
