/* How the library reports failure. Include in every .c file that can fail. */
#ifndef FM_BASE_ERROR_H
#define FM_BASE_ERROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

/* Records a failure in the thread's error record and returns `s`. Use through the macros. */
FM_PRINTF(4, 5)
fm_status fm_error_set(fm_status s, const char *file, int line, const char *fmt, ...);

/* Adds a hint (what the user can do) to the failure just recorded; returns its status. */
FM_PRINTF(1, 2)
fm_status fm_error_hint(const char *fmt, ...);

/* Prefixes the recorded message with context ("while reading X: ..."); returns its status. */
FM_PRINTF(1, 2)
fm_status fm_error_context(const char *fmt, ...);

/* Copies the record between threads: a pool worker saves its own, the caller restores it. */
typedef struct fm_error_record fm_error_record;
struct fm_error_record {
    fm_status status;
    int line;
    const char *file;
    char message[1024];
    char hint[512];
};
void fm_error_save(fm_error_record *out);
void fm_error_restore(const fm_error_record *in);

/* Returns `code` itself, a constant that static analysis can follow. */
#define FM_FAIL(code, ...)                                                                                             \
    do {                                                                                                               \
        (void)fm_error_set((code), __FILE__, __LINE__, __VA_ARGS__);                                                   \
        return (code);                                                                                                 \
    } while (0)

/* Forwards a failure. The record was written where it arose. */
#define FM_TRY(expr)                                                                                                   \
    do {                                                                                                               \
        fm_status fm_try_s_ = (expr);                                                                                  \
        if (fm_try_s_ != FM_OK) {                                                                                      \
            return fm_try_s_;                                                                                          \
        }                                                                                                              \
    } while (0)

/* As FM_TRY for functions with cleanup at a label: sets `status` and jumps. */
#define FM_TRY_GOTO(status, label, expr)                                                                               \
    do {                                                                                                               \
        (status) = (expr);                                                                                             \
        if ((status) != FM_OK) {                                                                                       \
            goto label;                                                                                                \
        }                                                                                                              \
    } while (0)

#define FM_FAIL_GOTO(status, label, code, ...)                                                                         \
    do {                                                                                                               \
        (status) = fm_error_set((code), __FILE__, __LINE__, __VA_ARGS__);                                              \
        goto label;                                                                                                    \
    } while (0)

/* A caller's bug, kept in release builds: prints and aborts. Never for bad input. */
#define FM_ASSERT(cond)                                                                                                \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            fm_assert_fail(#cond, __FILE__, __LINE__, __func__);                                                       \
        }                                                                                                              \
    } while (0)
_Noreturn void fm_assert_fail(const char *cond, const char *file, int line, const char *func);

/* Static analysis does not see into error.c; these return a failure, always. */
#if defined(__clang_analyzer__) && !defined(FM_ERROR_C)
#define fm_error_set(code, ...) ((void)fm_error_set((code), __VA_ARGS__), (code))
#define fm_error_hint(...)      ((void)fm_error_hint(__VA_ARGS__), FM_ERR_DATA)
#define fm_error_context(...)   ((void)fm_error_context(__VA_ARGS__), FM_ERR_DATA)
#endif

#define FM_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define FM_UNUSED(x)    ((void)(x))
#define FM_MIN(a, b)    ((a) < (b) ? (a) : (b))
#define FM_MAX(a, b)    ((a) > (b) ? (a) : (b))

#endif
