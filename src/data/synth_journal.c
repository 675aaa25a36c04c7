/* Answers of a language model on disk: one JSON line each, found by the hash of the request. A last line that was cut
 * by a crash is passed over. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/synth.h"
#include "io/jsonl.h"
#include "io/lines.h"

#define MAX_LINE ((size_t)300 << 20)

typedef struct place {
    uint64_t key;
    int64_t at;
    size_t len;
} place;

struct fm_journal {
    int fd;
    bool torn; /* the file does not end with a line end */
    place *item;
    size_t n, cap;
    pthread_mutex_t lock;
};

enum { KEY, TEXT, CUT, PROMPT, COMPLETION, N_NAMES };
static const char *const names[] = {"key", "text", "cut", "prompt_tokens", "completion_tokens"};

static bool key_of(uint64_t *out, const fm_json_value *v) {
    char hex[17] = "";
    char *end = NULL;
    if (v->kind != FM_JSON_STRING || v->raw.len != 16) {
        return false;
    }
    memcpy(hex, v->raw.ptr, 16);
    *out = strtoull(hex, &end, 16);
    return end == hex + 16;
}

static int by_key(const void *a, const void *b) {
    const place *x = a, *y = b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1) : (x->at > y->at) - (x->at < y->at);
}

static fm_status read_places(fm_journal *j, const char *path) {
    fm_lines *in = NULL;
    fm_line line = {0};
    bool more = false;
    FM_TRY(fm_lines_open(&in, path, MAX_LINE));
    fm_status s;
    while ((s = fm_lines_next(in, &line, &more)) == FM_OK && more) {
        fm_json_value v[N_NAMES];
        place at = {.at = line.offset, .len = line.len};
        if (line.too_long || fm_jsonl_scan(line.ptr, line.len, names, N_NAMES, v) != FM_OK ||
            !key_of(&at.key, &v[KEY])) {
            fm_error_clear();
            continue;
        }
        void *p = j->item;
        s = fm_grow(&p, &j->cap, j->n + 1, sizeof *j->item);
        if (s != FM_OK) {
            break;
        }
        j->item = p;
        j->item[j->n++] = at;
    }
    fm_lines_close(in);
    if (j->n) {
        qsort(j->item, j->n, sizeof *j->item, by_key);
    }
    return s;
}

fm_status fm_journal_open(fm_journal **out, const char *path) {
    fm_journal *j = *out = fm_calloc(1, sizeof *j);
    if (!j) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for a journal");
    }
    (void)pthread_mutex_init(&j->lock, NULL);
    j->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    fm_status s = FM_OK;
    if (j->fd < 0) {
        s = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot open '%s': %s", path, strerror(errno));
    }
    int64_t size = s == FM_OK ? fm_file_size(path) : 0;
    if (size > 0) {
        char last = '\n';
        j->torn = pread(j->fd, &last, 1, size - 1) == 1 && last != '\n';
        s = read_places(j, path);
    }
    if (s != FM_OK) {
        fm_journal_close(j);
        *out = NULL;
    }
    return s;
}

void fm_journal_close(fm_journal *j) {
    if (j) {
        if (j->fd >= 0) {
            (void)close(j->fd);
        }
        (void)pthread_mutex_destroy(&j->lock);
        fm_free(j->item);
        fm_free(j);
    }
}

static fm_status parse(fm_chat_answer *a, const char *line, size_t n) {
    fm_json_value v[N_NAMES];
    double prompt = 0, completion = 0;
    fm_str text = {0};
    FM_TRY(fm_jsonl_scan(line, n, names, N_NAMES, v));
    if (v[PROMPT].kind == FM_JSON_NUMBER) {
        FM_TRY(fm_jsonl_number(&prompt, &v[PROMPT]));
    }
    if (v[COMPLETION].kind == FM_JSON_NUMBER) {
        FM_TRY(fm_jsonl_number(&completion, &v[COMPLETION]));
    }
    a->prompt_tokens = (int64_t)prompt;
    a->completion_tokens = (int64_t)completion;
    a->cut = v[CUT].kind == FM_JSON_TRUE;
    if (v[TEXT].kind == FM_JSON_STRING) {
        fm_str_puts(&text, "");
        fm_jsonl_text(&text, &v[TEXT]);
        fm_str_putc(&text, '\0');
        fm_status s = fm_str_check(&text);
        if (s != FM_OK) {
            fm_str_free(&text);
            return s;
        }
        a->text = fm_str_take(&text);
    }
    return FM_OK;
}

fm_status fm_journal_find(fm_journal *j, uint64_t key, fm_chat_answer *answer, bool *found) {
    place want = {.key = key};
    size_t lo = 0, hi = j->n;
    *found = false;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (by_key(&j->item[mid], &want) < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    if (lo == j->n || j->item[lo].key != key) {
        return FM_OK;
    }
    char *line = fm_malloc(j->item[lo].len + 1);
    if (!line) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for an answer of %zu bytes", j->item[lo].len);
    }
    ssize_t n = pread(j->fd, line, j->item[lo].len, j->item[lo].at);
    fm_status s = n == (ssize_t)j->item[lo].len
                      ? parse(answer, line, (size_t)n)
                      : fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "the journal of answers cannot be read");
    fm_free(line);
    *found = s == FM_OK;
    return s;
}

fm_status fm_journal_add(fm_journal *j, uint64_t key, const fm_chat_answer *a) {
    fm_str line = {0};
    (void)pthread_mutex_lock(&j->lock);
    fm_str_puts(&line, j->torn ? "\n" : "");
    fm_str_printf(&line, "{\"key\":\"%016llx\",\"text\":", (unsigned long long)key);
    if (a->text) {
        fm_str_json(&line, a->text, strlen(a->text));
    } else {
        fm_str_puts(&line, "null");
    }
    fm_str_printf(&line, ",\"cut\":%s,\"prompt_tokens\":%lld,\"completion_tokens\":%lld}\n", a->cut ? "true" : "false",
                  (long long)a->prompt_tokens, (long long)a->completion_tokens);
    fm_status s = fm_str_check(&line);
    for (size_t at = 0; s == FM_OK && at < line.len;) {
        ssize_t n = write(j->fd, line.data + at, line.len - at);
        if (n < 0 && errno != EINTR) {
            s = fm_error_set(FM_ERR_IO, __FILE__, __LINE__, "cannot write the journal of answers: %s", strerror(errno));
        }
        at += n > 0 ? (size_t)n : 0;
    }
    j->torn = s != FM_OK;
    (void)pthread_mutex_unlock(&j->lock);
    fm_str_free(&line);
    return s;
}
