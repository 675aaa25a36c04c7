/* What the control groups (containers, batch systems) allow this process. Both versions. */
#ifndef FM_BASE_CGROUP_H
#define FM_BASE_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

/* Smallest CPU quota over the groups this process is in, in CPUs (1.5 = 150 ms per 100 ms). False
 * when there is none. */
bool fm_cgroup_cpus(double *cpus);

/* Smallest (limit - use) in bytes; page cache that can be dropped counts as free. False when there
 * is no limit. */
bool fm_cgroup_memory_left(int64_t *bytes);

#endif
