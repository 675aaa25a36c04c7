/* Libraries opened at run time: see dynlib.h. */
#include "base/dynlib.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

fm_status fm_dynlib_open(void **out, const char *names, const char *package, const fm_dynlib_entry *entries, size_t n) {
    void *lib = NULL;
    char name[128] = "";
    *out = NULL;
    for (const char *p = names; *p && !lib;) {
        size_t k = strcspn(p, "|");
        snprintf(name, sizeof name, "%.*s", (int)k, p);
        lib = dlopen(name, RTLD_NOW | RTLD_LOCAL);
        p += k + (p[k] == '|');
    }
    if (!lib) {
        fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "the library %s is not installed", name);
        return fm_error_hint("install it (Debian, Ubuntu: apt-get install %s)", package);
    }
    for (size_t i = 0; i < n; i++) {
        void *f = dlsym(lib, entries[i].name);
        if (!f) {
            dlclose(lib);
            FM_FAIL(FM_ERR_UNSUPPORTED, "the library %s has no function %s", name, entries[i].name);
        }
        memcpy(entries[i].slot, &f, sizeof f); /* ISO C has no cast from void * to a function */
    }
    *out = lib;
    return FM_OK;
}
