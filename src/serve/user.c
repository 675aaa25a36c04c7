/* Users and groups. */
#include "serve/user.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

static fm_status change(const char *name, uid_t uid, gid_t gid) {
    if (geteuid() == uid && getuid() == uid) {
        return FM_OK;
    }
    if (initgroups(name, gid) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0) {
        int why = errno;
        (void)fm_error_set(FM_ERR_STATE, __FILE__, __LINE__, "cannot become user %s: %s", name, strerror(why));
        return fm_error_hint("--user is for a start as root");
    }
    if (uid != 0 && setuid(0) == 0) {
        FM_FAIL(FM_ERR_STATE, "user %s could become root again", name);
    }
    return FM_OK;
}

fm_status fm_become_user(const char *name) {
    enum { ROOM = 16384 };
    char *buf = fm_malloc(ROOM);
    struct passwd pw, *found = NULL;
    if (!buf) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a user's entry");
    }
    int rc = getpwnam_r(name, &pw, buf, ROOM, &found);
    fm_status st = rc == 0 && found ? change(name, pw.pw_uid, pw.pw_gid)
                                    : fm_error_set(FM_ERR_ARGUMENT, __FILE__, __LINE__, "there is no user %s", name);
    fm_free(buf);
    return st;
}
