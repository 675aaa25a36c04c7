/* What HTTP costs: requests at a fixed rate over connections that stay open, each timed.
 *   cc -O2 -pthread bench/serve_load.c -o serve_load
 *   serve_load PORT [REQUESTS PER SECOND] [SECONDS] [CONNECTIONS] [PATH] [BODY]
 * Without a body: GET. A request that is late begins late, and its delay counts. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int port = 8080, rate = 1000, seconds = 5, connections = 8;
static const char *path = "/health", *body;
static double begin;

typedef struct client {
    pthread_t thread;
    int index, n, failed;
    double *ms;
} client;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Reads one answer; 0 when it is a 200 and whole. */
static int read_answer(int fd) {
    static const char length[] = "Content-Length: ";
    char buf[65536];
    size_t n = 0;
    for (;;) {
        ssize_t r = recv(fd, buf + n, sizeof buf - 1 - n, 0);
        if (r <= 0) {
            return -1;
        }
        n += (size_t)r;
        buf[n] = '\0';
        char *end = strstr(buf, "\r\n\r\n"), *at = strstr(buf, length);
        if (end && at && at < end && n >= (size_t)(end + 4 - buf) + strtoul(at + sizeof length - 1, NULL, 10)) {
            return strncmp(buf, "HTTP/1.1 200", 12) == 0 ? 0 : -1;
        }
        if (n == sizeof buf - 1) {
            return -1;
        }
    }
}

static int dial(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return connect(fd, (struct sockaddr *)&a, sizeof a) == 0 ? fd : -1;
}

static void *run(void *arg) {
    client *c = arg;
    char request[8192];
    int len = snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s",
                       body ? "POST" : "GET", path, body ? strlen(body) : 0, body ? body : "");
    int fd = dial();
    for (int i = c->index; i < rate * seconds; i += connections) {
        double due = begin + (double)i / rate, wait = due - now();
        if (wait > 0) {
            struct timespec t = {.tv_sec = (time_t)wait, .tv_nsec = (long)((wait - (double)(time_t)wait) * 1e9)};
            nanosleep(&t, NULL);
        } else {
            due = wait > -0.001 ? now() : due;
        }
        double from = wait > 0 ? now() : due;
        if (fd < 0 || send(fd, request, (size_t)len, MSG_NOSIGNAL) != len || read_answer(fd) != 0) {
            c->failed++;
            if (fd >= 0) {
                close(fd);
            }
            fd = dial();
        }
        c->ms[c->n++] = (now() - from) * 1e3;
    }
    if (fd >= 0) {
        close(fd);
    }
    return NULL;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    port = argc > 1 ? atoi(argv[1]) : port;
    rate = argc > 2 ? atoi(argv[2]) : rate;
    seconds = argc > 3 ? atoi(argv[3]) : seconds;
    connections = argc > 4 ? atoi(argv[4]) : connections;
    path = argc > 5 ? argv[5] : path;
    body = argc > 6 ? argv[6] : NULL;
    if (port < 1 || rate < 1 || seconds < 1 || connections < 1) {
        fprintf(stderr, "usage: serve_load PORT [RATE] [SECONDS] [CONNECTIONS] [PATH] [BODY]\n");
        return 2;
    }
    size_t most = (size_t)rate * (size_t)seconds, n = 0;
    client *c = calloc((size_t)connections, sizeof *c);
    double *all = calloc(most + 1, sizeof *all), sum = 0;
    int failed = 0;
    if (!c || !all) {
        return 1;
    }
    begin = now() + 0.05;
    for (int i = 0; i < connections; i++) {
        c[i].index = i;
        c[i].ms = calloc(most / (size_t)connections + 1, sizeof(double));
        if (!c[i].ms || pthread_create(&c[i].thread, NULL, run, &c[i]) != 0) {
            return 1;
        }
    }
    for (int i = 0; i < connections; i++) {
        pthread_join(c[i].thread, NULL);
        memcpy(all + n, c[i].ms, (size_t)c[i].n * sizeof *all);
        n += (size_t)c[i].n;
        failed += c[i].failed;
        free(c[i].ms);
    }
    double took = now() - begin;
    for (size_t i = 0; i < n; i++) {
        sum += all[i];
    }
    qsort(all, n, sizeof *all, by_value);
    printf("%s: %zu requests in %.2f s (%.0f a second), %d failed; ms: mean %.3f, p50 %.3f, p99 %.3f, most %.3f\n",
           path, n, took, (double)n / took, failed, sum / (double)n, all[n / 2], all[n * 99 / 100], all[n - 1]);
    free(all);
    free(c);
    return failed > 0;
}
