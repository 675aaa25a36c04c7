/* See pack.h. */
#include "net/pack.h"

#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "net/tar.h"

#define MAX_LIBS 64

typedef struct lib_list {
    const char *path[MAX_LIBS];
    size_t n;
} lib_list;

/* The C library and its parts belong to the system they run on: with another loader they do not start. */
static bool of_system(const char *base) {
    static const char *const heads[] = {"libc.so",  "ld-linux",      "libm.so",      "libdl.so",  "libpthread.so",
                                        "librt.so", "linux-vdso.so", "libresolv.so", "libutil.so"};
    for (size_t i = 0; i < FM_ARRAY_LEN(heads); i++) {
        if (strncmp(base, heads[i], strlen(heads[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* Libraries of this process up to the first that was opened at run time (libcurl and its own are not needed there). */
static int on_library(struct dl_phdr_info *info, size_t size, void *user) {
    lib_list *l = user;
    FM_UNUSED(size);
    const char *slash = info->dlpi_name ? strrchr(info->dlpi_name, '/') : NULL;
    if (slash && strncmp(slash + 1, "libcurl", 7) == 0) {
        return 1;
    }
    if (slash && !of_system(slash + 1) && l->n < MAX_LIBS) {
        l->path[l->n++] = info->dlpi_name;
    }
    return 0;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const char run_script[] = "#!/bin/sh\n"
                                 "# Runs the program beside this file with the libraries beside it.\n"
                                 "here=$(cd \"$(dirname \"$0\")\" && pwd)\n"
                                 "LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "
                                 "\"$here/bin/fathom\" \"$@\"\n";

static fm_status add_readme(fm_tar *t, const char *root, const fm_hub *h, const char *folder) {
    fm_str text = {0}, name = {0};
    fm_str_printf(&text,
                  "%s from %s, commit %s, with fathom %s.\n\n"
                  "Nothing here needs a network. On the other machine:\n\n"
                  "    tar -xf THIS_ARCHIVE\n"
                  "    cd %s\n"
                  "    ./fathom %s %s\n\n"
                  "%s"
                  "The program needs a Linux of the same processor family with a C library at least as new as that of\n"
                  "the machine that made the archive.\n",
                  h->name, h->endpoint, h->commit, FATHOM_VERSION, root, h->dataset ? "data check" : "info", folder,
                  h->dataset ? ""
                             : "`./fathom chat` and `./fathom generate` take the same folder; `./fathom --help` "
                               "lists the rest.\n");
    fm_str_printf(&name, "%s/README.txt", root);
    fm_status s = fm_str_check(&text);
    s = s == FM_OK ? fm_str_check(&name) : s;
    s = s == FM_OK ? fm_tar_add_bytes(t, name.data, text.data, text.len, false) : s;
    fm_str_free(&text);
    fm_str_free(&name);
    return s;
}

/* root/middle/rest */
static fm_status add_file(fm_tar *t, const char *root, const char *middle, const char *rest, const char *path,
                          bool executable) {
    fm_str name = {0};
    fm_str_printf(&name, "%s/%s/%s", root, middle, rest);
    fm_status s = fm_str_check(&name);
    s = s == FM_OK ? fm_tar_add_file(t, name.data, path, executable) : s;
    fm_str_free(&name);
    return s;
}

static fm_status add_program(fm_tar *t, const char *root) {
    lib_list libs = {0};
    fm_str name = {0};
    fm_str_printf(&name, "%s/fathom", root);
    fm_status s = fm_str_check(&name);
    s = s == FM_OK ? fm_tar_add_bytes(t, name.data, run_script, sizeof run_script - 1, true) : s;
    fm_str_free(&name);
    FM_TRY(s);
    FM_TRY(add_file(t, root, "bin", "fathom", "/proc/self/exe", true));
    (void)dl_iterate_phdr(on_library, &libs);
    if (libs.n) {
        qsort(libs.path, libs.n, sizeof *libs.path, by_text);
    }
    for (size_t i = 0; i < libs.n; i++) {
        FM_TRY(add_file(t, root, "lib", strrchr(libs.path[i], '/') + 1, libs.path[i], true));
    }
    return FM_OK;
}

static fm_status add_all(fm_tar *t, const fm_hub *h, const char *dir) {
    const char *slash = strrchr(h->name, '/'), *folder = slash ? slash + 1 : h->name;
    char root[300], path[4096];
    (void)snprintf(root, sizeof root, "fathom-%s", folder);
    FM_TRY(add_readme(t, root, h, folder));
    FM_TRY(add_program(t, root));
    const char **paths = fm_malloc(FM_MAX(h->n, 1) * sizeof *paths);
    if (!paths) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to pack %s", h->name);
    }
    for (size_t i = 0; i < h->n; i++) {
        paths[i] = h->file[i].path;
    }
    qsort(paths, h->n, sizeof *paths, by_text);
    fm_status s = FM_OK;
    for (size_t i = 0; i < h->n && s == FM_OK; i++) {
        s = fm_path_join(path, sizeof path, dir, paths[i]);
        s = s == FM_OK ? add_file(t, root, folder, paths[i], path, false) : s;
    }
    fm_free(paths);
    return s;
}

fm_status fm_pack_write(const char *archive, const fm_hub *h, const char *dir, int64_t *bytes) {
    fm_tar *t;
    FM_TRY(fm_tar_new(&t, archive));
    fm_status s = add_all(t, h, dir);
    s = s == FM_OK ? fm_tar_finish(t, bytes) : s;
    fm_tar_free(t);
    return s;
}
