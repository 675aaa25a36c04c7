/* Sanitizers and emulation make brute force 10 to 50 times slower. With FATHOM_TEST_QUICK=1 in the environment the
 * slowest tests take a part of their cases, chosen so that every kind of case is still there. `make asan`, `make tsan`
 * and `make cross` set it; `make test` never does. */
#ifndef TESTS_QUICK_H
#define TESTS_QUICK_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static inline bool test_quick(void) {
    const char *e = getenv("FATHOM_TEST_QUICK");
    return e && strcmp(e, "1") == 0;
}

#endif
