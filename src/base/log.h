/* Messages of the library. The library never prints: a sink is given by the program. */
#ifndef FM_BASE_LOG_H
#define FM_BASE_LOG_H

#include "fathom/log.h"

FM_PRINTF(2, 3) void fm_log(fm_log_level level, const char *fmt, ...);
#define fm_info(...)  fm_log(FM_LOG_INFO, __VA_ARGS__)
#define fm_warn(...)  fm_log(FM_LOG_WARN, __VA_ARGS__)
#define fm_debug(...) fm_log(FM_LOG_DEBUG, __VA_ARGS__)

#endif
