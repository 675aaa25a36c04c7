/* A regular expression, then (behind a byte 0x01) a text that is followed through it. */
#include "grammars.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return fuzz_grammar(FM_GRAMMAR_REGEX, data, size);
}
