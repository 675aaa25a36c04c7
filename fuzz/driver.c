/* Runs a fuzz target over the files of a folder: the corpus as a regression test, without libFuzzer.
 * Every file is run whole and cut at several places. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "fuzz.h"

static fm_status run_file(const char *dir, const char *name) {
    char path[4096], *text;
    size_t n;
    FM_TRY(fm_path_join(path, sizeof path, dir, name));
    FM_TRY(fm_file_read(&text, &n, path, 0));
    for (size_t k = 0; k <= 16; k++) {
        size_t len = n - n * k / 16;
        uint8_t *exact = malloc(len ? len : 1); /* its own block: a sanitizer sees a read past the end */
        if (!exact) {
            break;
        }
        memcpy(exact, text, len);
        LLVMFuzzerTestOneInput(exact, len);
        free(exact);
    }
    fm_free(text);
    return FM_OK;
}

int main(int argc, char **argv) {
    char **names;
    size_t n;
    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
        return 2;
    }
    fm_status s = fm_dir_list(&names, &n, argv[1]);
    for (size_t i = 0; s == FM_OK && i < n; i++) {
        s = run_file(argv[1], names[i]);
    }
    if (s != FM_OK || n == 0) {
        fprintf(stderr, "%s: %s\n", argv[1], s != FM_OK ? fm_error_get().message : "no files");
        return 1;
    }
    printf("%zu files\n", n);
    fm_names_free(names, n);
    return 0;
}
