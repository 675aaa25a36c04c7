/* Giving up the rights of root. */
#ifndef FM_SERVE_USER_H
#define FM_SERVE_USER_H

#include "fathom/status.h"

/* All threads go on as this user, with its groups, for good. FM_ERR_ARGUMENT: no such user; FM_ERR_STATE: this process
 * may not. Nothing when it is that user already. */
FM_MUST_CHECK fm_status fm_become_user(const char *name);

#endif
