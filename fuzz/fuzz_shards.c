/* The reader of token shards: any bytes as a shard file give an error or tokens in range, never a wild read.
 * dataset.json is made to agree with the counts that the input claims, so that the deeper checks are reached. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "data/shard_format.h"
#include "data/shards.h"

#define VOCAB 300

static char dir[64];

static void remove_dir(void) {
    if (fm_remove_tree(dir) != FM_OK) {
        fm_error_clear(); /* the next process tries again */
    }
}

/* In memory where there is such a place: the disk would be what is tested. What processes that were killed left there
 * is taken away. */
static void make_dir(void) {
    const char *top = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    char **names = NULL;
    size_t n = 0;
    if (fm_dir_list(&names, &n, top) != FM_OK) {
        abort();
    }
    for (size_t i = 0; i < n; i++) {
        const char *digits = strncmp(names[i], "fuzz_shards_", 12) == 0 ? names[i] + 12 : "";
        const long pid = strtol(digits, NULL, 10);
        if (pid > 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH) {
            snprintf(dir, sizeof dir, "%s/fuzz_shards_%ld", top, pid);
            remove_dir();
        }
    }
    fm_names_free(names, n);
    snprintf(dir, sizeof dir, "%s/fuzz_shards_%d", top, (int)getpid());
    if (fm_mkdirs(dir) != FM_OK || atexit(remove_dir) != 0) {
        abort();
    }
}

static void put(const char *name, const void *data, size_t n) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n) {
        abort();
    }
    fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!dir[0]) {
        make_dir();
    }
    fm_shard_header h = {0};
    memcpy(&h, data, n < sizeof h ? n : sizeof h);
    char json[512];
    int k =
        snprintf(json, sizeof json,
                 "{\"format\":\"%s\",\"version\":1,\"complete\":true,\"hash\":\"%032d\",\"tokenizer_hash\":\"t\","
                 "\"vocab_size\":%d,\"n_tokens\":%llu,\"n_documents\":%llu,\"n_bytes\":1,\"files\":[\"a\"],\"shards\":"
                 "[{\"file\":\"s\",\"hash\":\"%032d\",\"n_tokens\":%llu,\"n_documents\":%llu}]}",
                 FM_DATASET_FORMAT, 0, VOCAB, (unsigned long long)h.n_tokens, (unsigned long long)h.n_documents, 0,
                 (unsigned long long)h.n_tokens, (unsigned long long)h.n_documents);
    put("s", data, n);
    put(FM_DATASET_FILE, json, (size_t)k);
    fm_dataset *d;
    if (fm_dataset_open(&d, dir) != FM_OK) {
        return 0;
    }
    int64_t total = fm_dataset_tokens(d);
    int32_t len = (int32_t)(total < 1000 ? total : 1000), ids[1000];
    bool start[1000];
    for (int64_t at = 0; at + len <= total; at += len) {
        if (fm_dataset_read(d, at, len, ids, start) != FM_OK) {
            continue;
        }
        for (int32_t i = 0; i < len; i++) {
            if (ids[i] < 0 || ids[i] >= VOCAB) {
                abort();
            }
        }
        int64_t document;
        char where[64];
        if (fm_dataset_locate(d, at, &document, where, sizeof where) != FM_OK) {
            abort();
        }
    }
    fm_dataset_close(d);
    return 0;
}
