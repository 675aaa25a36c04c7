/* Writing tar archives (POSIX ustar, with pax records for long names and big files). The same files give the same
 * bytes: owners, times and order do not depend on the machine. */
#ifndef FM_NET_TAR_H
#define FM_NET_TAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

typedef struct fm_tar fm_tar;
/* Written beside its name (.tmp) and renamed by finish. */
FM_MUST_CHECK fm_status fm_tar_new(fm_tar **out, const char *path);
FM_MUST_CHECK fm_status fm_tar_add_bytes(fm_tar *t, const char *name, const void *data, size_t n, bool executable);
FM_MUST_CHECK fm_status fm_tar_add_file(fm_tar *t, const char *name, const char *path, bool executable);
FM_MUST_CHECK fm_status fm_tar_finish(fm_tar *t, int64_t *bytes);
void fm_tar_free(fm_tar *t); /* without finish: removes what was written */

#endif
