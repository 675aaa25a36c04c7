/* Records in a temporary file: see spool.h. */
#include "data/spool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"

fm_status fm_spool_open(fm_spool *s, int words, const char *dir) {
    char path[4096];
    FM_TRY(fm_path_join(path, sizeof path, dir, "spool-XXXXXX"));
    int fd = mkstemp(path);
    s->file = fd >= 0 ? fdopen(fd, "w+b") : NULL;
    s->words = words;
    s->n = 0;
    (void)snprintf(s->dir, sizeof s->dir, "%s", dir);
    if (fd >= 0) {
        unlink(path);
    }
    if (!s->file) {
        int e = errno;
        if (fd >= 0) {
            close(fd);
        }
        FM_FAIL(FM_ERR_IO, "cannot make the temporary file '%s': %s", path, strerror(e));
    }
    return FM_OK;
}

static fm_status failed(const fm_spool *s) {
    (void)fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot write or read a temporary file in '%s': %s", s->dir,
                       strerror(errno));
    return fm_error_hint("there must be room for temporary files beside the output");
}

fm_status fm_spool_put(fm_spool *s, const uint64_t *record) {
    s->n++;
    return fwrite(record, sizeof *record, (size_t)s->words, s->file) == (size_t)s->words ? FM_OK : failed(s);
}

fm_status fm_spool_rewind(fm_spool *s) {
    return fflush(s->file) == 0 && fseeko(s->file, 0, SEEK_SET) == 0 ? FM_OK : failed(s);
}

fm_status fm_spool_get(fm_spool *s, uint64_t *record, bool *more) {
    size_t n = fread(record, sizeof *record, (size_t)s->words, s->file);
    *more = n == (size_t)s->words;
    return *more || (n == 0 && !ferror(s->file)) ? FM_OK : failed(s);
}

void fm_spool_close(fm_spool *s) {
    if (s->file) {
        fclose(s->file);
    }
    *s = (fm_spool){0};
}
