/* Names of hosts in other scripts: the ASCII form that the DNS and HTTP know (IDNA 2008 with the mapping of UTS 46, as
 * browsers do), by libidn2, which is opened at run time. */
#ifndef FM_NET_IDN_H
#define FM_NET_IDN_H

#include "base/str.h"

#define FM_IDN_MAX 256

/* FM_ERR_UNSUPPORTED, with the package to install, when the library is not there. */
FM_MUST_CHECK fm_status fm_idn_open(void);
/* "münchen.de" as "xn--mnchen-3ya.de", also for a name that is partly in that form; NUL-terminated. False for a name
 * that the rules forbid, that is too long, or without the library. What comes out may still be no name of a host. */
bool fm_idn_ascii(char out[FM_IDN_MAX], const char *p, size_t n);

#endif
