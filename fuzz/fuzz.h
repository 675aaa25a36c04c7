/* What the fuzz targets share: a file with the input, for readers that take a path. */
#ifndef FM_FUZZ_H
#define FM_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Defined by each target; called by libFuzzer, or by driver.c for each file of the corpus. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Writes the input to a file in memory and returns its path (the same one at each call); NULL when it cannot. */
const char *fuzz_file(const uint8_t *data, size_t size);

#endif
