/* Status codes and the error record.
 *
 * Every function that can fail returns fm_status and is marked FM_MUST_CHECK. The code says what
 * kind of failure it is; the text (what, where, expected, found, what to do) is in the calling
 * thread's error record, written where the fault arose and read by fm_error_get().
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FATHOM_STATUS_H
#define FATHOM_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FM_API                  __attribute__((visibility("default")))
#define FM_MUST_CHECK           __attribute__((warn_unused_result))
#define FM_PRINTF(fmt_i, arg_i) __attribute__((format(printf, fmt_i, arg_i)))
#else
#define FM_API
#define FM_MUST_CHECK
#define FM_PRINTF(fmt_i, arg_i)
#endif

/* X(symbol, value, exit code of the program, text) */
#define FM_STATUS_LIST(X)                                                                                              \
    X(FM_OK, 0, 0, "success")                                                                                          \
    X(FM_ERR_ARGUMENT, 1, 2, "invalid argument")                                                                       \
    X(FM_ERR_CONFIG, 2, 2, "invalid configuration")                                                                    \
    X(FM_ERR_NO_MEMORY, 3, 1, "out of memory")                                                                         \
    X(FM_ERR_IO, 4, 1, "input/output error")                                                                           \
    X(FM_ERR_NOT_FOUND, 5, 1, "not found")                                                                             \
    X(FM_ERR_FORMAT, 6, 1, "malformed file")                                                                           \
    X(FM_ERR_SHAPE, 7, 1, "shape mismatch")                                                                            \
    X(FM_ERR_DTYPE, 8, 1, "unsupported element type")                                                                  \
    X(FM_ERR_UNSUPPORTED, 9, 1, "not supported")                                                                       \
    X(FM_ERR_DATA, 10, 3, "input data refused")                                                                        \
    X(FM_ERR_NUMERIC, 11, 1, "numeric failure")                                                                        \
    X(FM_ERR_CANCELLED, 12, 130, "interrupted")                                                                        \
    X(FM_ERR_EXISTS, 13, 1, "already exists")                                                                          \
    X(FM_ERR_CORRUPT, 14, 1, "damaged file")                                                                           \
    X(FM_ERR_STATE, 15, 1, "object is in the wrong state")

typedef enum fm_status {
#define FM_X(sym, val, exit_code, text) sym = (val),
    FM_STATUS_LIST(FM_X)
#undef FM_X
} fm_status;

/* The last failure of the calling thread. Strings stay valid until that thread's next failure. */
typedef struct fm_error {
    fm_status status;
    const char *message; /* what, where, expected and found; "" when there was no failure */
    const char *hint;    /* what to do; "" when there is nothing to add */
    const char *file;    /* source file where the failure was recorded */
    int line;
} fm_error;

FM_API const char *fm_status_name(fm_status s); /* "FM_ERR_IO" */
FM_API const char *fm_status_text(fm_status s); /* "input/output error" */
FM_API int fm_status_exit_code(fm_status s);    /* exit code the program uses for it */
FM_API fm_error fm_error_get(void);
FM_API void fm_error_clear(void);

#ifdef __cplusplus
}
#endif
#endif
