/* One archive for a machine without network: the fetched files, this program with the libraries it needs, and how to
 * unpack and run them. */
#ifndef FM_NET_PACK_H
#define FM_NET_PACK_H

#include "net/hub.h"

/* Files of h, below dir. *bytes gets the size of the archive. */
FM_MUST_CHECK fm_status fm_pack_write(const char *archive, const fm_hub *h, const char *dir, int64_t *bytes);

#endif
