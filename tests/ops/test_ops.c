/* fm_test_ops check|grad|fused|rows|coverage|meta|errors [operation]
 *
 *   check     every op, case, dtype and kernel set against the f64 reference, values and gradients
 *   grad      gradients of the f64 reference against central differences
 *   fused     values and gradients against the decomposition, in f64
 *   rows      bits of a row do not depend on other rows, bits of anything not on the number of threads
 *   coverage  table of operations and kernel sets; fails on a cell without kernel and without reason
 *   meta      shapes and memory peaks on the meta device are those of a device that runs
 *   errors    wrong inputs are refused with the right status and a message that names what was wrong */
#include <stdio.h>
#include <string.h>

#include "harness.h"

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        int (*run)(const char *only);
    } modes[] = {{"check", mode_check},       {"grad", mode_grad}, {"fused", mode_fused},  {"rows", mode_rows},
                 {"coverage", mode_coverage}, {"meta", mode_meta}, {"errors", mode_errors}};
    for (size_t i = 0; argc >= 2 && i < FM_ARRAY_LEN(modes); i++) {
        if (strcmp(argv[1], modes[i].name) == 0) {
            setvbuf(stdout, NULL, _IOLBF, 0);
            modes[i].run(argc > 2 ? argv[2] : NULL);
            printf("%d comparisons, %d failures\n", n_checks, n_failures);
            return n_failures > 0 || n_checks == 0;
        }
    }
    fprintf(stderr, "usage: %s check|grad|fused|rows|coverage|meta|errors [operation]\n", argv[0]);
    return 2;
}
