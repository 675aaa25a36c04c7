/* See handover.h. */
#include "cli/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"

#define SOCKET_NAME "FATHOM_LISTEN_FD"
#define READY_NAME  "FATHOM_READY_FD"
#define MOST_ARGS   1024

static pid_t child;
static bool inner; /* this process took over from another */
static volatile sig_atomic_t asked, replaced;
static int ready_fd = -1; /* of the new process: says when it is ready */

static void on_signal(int sig) {
    if (replaced && inner) {
        (void)kill(child, sig); /* which is not yet a child of the first process */
    } else {
        asked = 1;
    }
}

void handover_watch(void) {
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    (void)sigaction(SIGUSR2, &a, NULL);
}

bool handover_asked(void) {
    bool was = asked != 0;
    asked = 0;
    return was;
}

static int number_of(const char *name) {
    const char *text = getenv(name);
    int fd = text ? atoi(text) : 0;
    return fd > 2 && fcntl(fd, F_GETFD) >= 0 ? fd : 0;
}

int handover_inherited(void) {
    int fd = number_of(SOCKET_NAME);
    if (fd > 0) {
        inner = true;
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    (void)unsetenv(SOCKET_NAME);
    return fd;
}

void handover_ready(void) {
    int fd = number_of(READY_NAME);
    if (fd > 0) {
        ssize_t n = write(fd, "r", 1);
        (void)n; /* the old process sees the end of the pipe as well */
        (void)close(fd);
    }
    (void)unsetenv(READY_NAME);
}

/* The arguments of this process, split in place; text and list are the caller's to free. */
static bool own_arguments(char **text, char **argv) {
    enum { MOST = 1 << 20 };
    FILE *f = fopen("/proc/self/cmdline", "rb");
    *text = f ? malloc(MOST) : NULL;
    size_t n = *text ? fread(*text, 1, MOST - 1, f) : 0;
    int argc = 0;
    if (f) {
        fclose(f);
    }
    for (size_t at = 0; at < n && argc < MOST_ARGS - 1; at += strlen(*text + at) + 1) {
        (*text)[n] = '\0';
        argv[argc++] = *text + at;
    }
    argv[argc] = NULL;
    return argc > 0;
}

static bool spawn(int listen_fd, int pipe_fd) {
    char *text = NULL, *argv[MOST_ARGS], number[16];
    bool ok = own_arguments(&text, argv);
    snprintf(number, sizeof number, "%d", listen_fd);
    ok = ok && setenv(SOCKET_NAME, number, 1) == 0;
    snprintf(number, sizeof number, "%d", pipe_fd);
    ok = ok && setenv(READY_NAME, number, 1) == 0;
    ok = ok && posix_spawn(&child, "/proc/self/exe", NULL, NULL, argv, environ) == 0;
    (void)unsetenv(READY_NAME);
    (void)unsetenv(SOCKET_NAME);
    free(text);
    return ok;
}

bool handover_begin(int listen_fd) {
    int ends[2] = {-1, -1}, fd = dup(listen_fd);
    child = 0;
    if (!inner) { /* the first: those whose parents end become its own */
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    }
    bool ok = fd >= 0 && pipe(ends) == 0;
    if (ok) {
        (void)fcntl(ends[0], F_SETFD, FD_CLOEXEC);
        ok = spawn(fd, ends[1]);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (ends[1] >= 0) {
        close(ends[1]);
    }
    if (!ok) {
        cli_say("reload: cannot start a new process: %s", strerror(errno));
        if (ends[0] >= 0) {
            close(ends[0]);
        }
        return false;
    }
    ready_fd = ends[0];
    cli_say("reload: process %ld starts", (long)child);
    return true;
}

handover_state handover_poll(void) {
    struct pollfd p = {.fd = ready_fd, .events = POLLIN};
    char c = 0;
    if (ready_fd < 0) {
        return HANDOVER_NONE;
    }
    if (poll(&p, 1, 0) <= 0) {
        return HANDOVER_STARTING;
    }
    ssize_t n = read(ready_fd, &c, 1);
    close(ready_fd);
    ready_fd = -1;
    if (n == 1) {
        replaced = 1;
        return HANDOVER_DONE;
    }
    (void)waitpid(child, NULL, 0);
    cli_say("reload: the new process did not start; this one goes on");
    return HANDOVER_NONE;
}

void handover_cancel(void) {
    if (ready_fd >= 0) {
        (void)kill(child, SIGTERM);
        (void)waitpid(child, NULL, 0);
        close(ready_fd);
        ready_fd = -1;
    }
}

static void signal_children(int sig) {
    char path[64];
    long pid;
    snprintf(path, sizeof path, "/proc/self/task/%ld/children", (long)getpid());
    FILE *f = fopen(path, "r");
    if (!f) {
        (void)kill(child, sig);
        return;
    }
    while (fscanf(f, "%ld", &pid) == 1) {
        (void)kill((pid_t)pid, sig);
    }
    fclose(f);
}

int handover_wait(void) {
    int status = 0, last = 0;
    bool told = false;
    if (inner) {
        if (fm_cancelled()) {
            (void)kill(child, SIGTERM); /* the signal came while it was this one's child */
        }
        return 0;
    }
    for (;;) {
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid < 0 && errno == ECHILD) {
            return last;
        }
        if (pid > 0) {
            last = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
            continue;
        }
        if (fm_cancelled() && !told) {
            told = true;
            signal_children(SIGTERM);
        }
        if (handover_asked()) {
            signal_children(SIGUSR2);
        }
        (void)poll(NULL, 0, 50);
    }
}
