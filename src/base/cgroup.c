/* Control groups, read from /proc/self/cgroup and /sys/fs/cgroup.
 *
 * A container often sees the mount of its own group only, while /proc/self/cgroup names the path
 * from the host's root. So each prefix of the path is tried, down to the root of the mount, and
 * the tightest limit counts. */
#include "base/cgroup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define MOUNT "/sys/fs/cgroup"

/* The group's path for a version 1 controller, or for version 2 when controller is "". */
static bool group_path(char out[512], const char *controller) {
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (!f) {
        return false;
    }
    char line[768];
    bool found = false;
    while (!found && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *names = strchr(line, ':');
        char *path = names ? strchr(names + 1, ':') : NULL;
        if (!path) {
            continue;
        }
        *path++ = '\0';
        names++;
        char *save = NULL;
        if (!*controller) {
            found = *names == '\0';
        } else {
            for (char *t = strtok_r(names, ",", &save); t; t = strtok_r(NULL, ",", &save)) {
                found = found || strcmp(t, controller) == 0;
            }
        }
        if (found) {
            found = snprintf(out, 512, "%s", path) < 512;
        }
    }
    fclose(f);
    return found;
}

static bool read_text(const char *dir, const char *sub, const char *name, char *buf, size_t cap) {
    char path[1024];
    if (snprintf(path, sizeof path, "%s%s/%s", dir, sub, name) >= (int)sizeof path) {
        return false;
    }
    FILE *f = fopen(path, "re");
    if (!f) {
        return false;
    }
    size_t n = fread(buf, 1, cap - 1, f);
    buf[n] = '\0';
    fclose(f);
    return n > 0;
}

static bool read_num(const char *dir, const char *sub, const char *name, int64_t *out) {
    char buf[64];
    if (!read_text(dir, sub, name, buf, sizeof buf)) {
        return false;
    }
    char *end;
    *out = strtoll(buf, &end, 10);
    return end != buf;
}

/* Cuts the last component; false when the root was already visited. */
static bool parent(char *path) {
    if (!*path) {
        return false;
    }
    char *slash = strrchr(path, '/');
    if (slash) {
        *slash = '\0';
    } else {
        *path = '\0';
    }
    return true;
}

static bool quota_at(const char *dir, const char *sub, bool v2, double *cpus) {
    long long quota = -1, period = 0;
    if (v2) {
        char buf[128];
        if (!read_text(dir, sub, "cpu.max", buf, sizeof buf) || sscanf(buf, "%lld %lld", &quota, &period) != 2) {
            return false; /* "max 100000" */
        }
    } else {
        int64_t q, p;
        if (!read_num(dir, sub, "cpu.cfs_quota_us", &q) || !read_num(dir, sub, "cpu.cfs_period_us", &p)) {
            return false;
        }
        quota = q;
        period = p;
    }
    if (quota <= 0 || period <= 0) {
        return false;
    }
    *cpus = (double)quota / (double)period;
    return true;
}

static int64_t inactive_file(const char *dir, const char *sub) {
    char buf[8192];
    if (!read_text(dir, sub, "memory.stat", buf, sizeof buf)) {
        return 0;
    }
    const char *p = strstr(buf, "\ninactive_file ");
    return p ? strtoll(p + strlen("\ninactive_file "), NULL, 10) : 0;
}

static bool memory_at(const char *dir, const char *sub, bool v2, int64_t *left) {
    int64_t limit, used;
    if (!read_num(dir, sub, v2 ? "memory.max" : "memory.limit_in_bytes", &limit) ||
        !read_num(dir, sub, v2 ? "memory.current" : "memory.usage_in_bytes", &used)) {
        return false; /* also "max" */
    }
    if (limit > (INT64_MAX >> 1)) {
        return false; /* version 1's way to say none */
    }
    *left = FM_MAX(limit - FM_MAX(used - inactive_file(dir, sub), 0), 0);
    return true;
}

static bool visit(const char *controller, bool (*at)(const char *, const char *, bool, void *), void *best) {
    bool any = false;
    for (int v2 = 0; v2 < 2; v2++) {
        char path[512], dir[64];
        if (!group_path(path, v2 ? "" : controller)) {
            continue;
        }
        if (v2) {
            snprintf(dir, sizeof dir, "%s", MOUNT);
        } else {
            snprintf(dir, sizeof dir, "%s/%s", MOUNT, controller);
        }
        if (strcmp(path, "/") == 0) {
            path[0] = '\0';
        }
        do {
            any |= at(dir, path, v2 != 0, best);
        } while (parent(path));
    }
    return any;
}

static bool least_cpus(const char *dir, const char *sub, bool v2, void *best) {
    double v;
    if (!quota_at(dir, sub, v2, &v)) {
        return false;
    }
    double *b = best;
    *b = FM_MIN(*b, v);
    return true;
}

static bool least_memory(const char *dir, const char *sub, bool v2, void *best) {
    int64_t v;
    if (!memory_at(dir, sub, v2, &v)) {
        return false;
    }
    int64_t *b = best;
    *b = FM_MIN(*b, v);
    return true;
}

bool fm_cgroup_cpus(double *cpus) {
    *cpus = 1e9;
    return visit("cpu", least_cpus, cpus);
}

bool fm_cgroup_memory_left(int64_t *bytes) {
    *bytes = INT64_MAX;
    return visit("memory", least_memory, bytes);
}
