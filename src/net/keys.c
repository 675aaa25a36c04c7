/* API keys. */
#include "net/keys.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/sha.h"
#include "base/str.h"

/* An allowance that refills evenly: full at most a minute's worth. */
typedef struct bucket {
    double per_minute; /* 0 = no limit */
    double left, at;
} bucket;

struct fm_key {
    char hash[65];
    char name[64];
    bucket requests, tokens;
};

struct fm_keys {
    pthread_mutex_t lock; /* of the buckets */
    fm_key *key;
    size_t n, cap;
};

static void hash_key(char out[65], const char *key) {
    fm_sha s;
    fm_sha256_init(&s);
    fm_sha_update(&s, key, strlen(key));
    fm_sha_hex(&s, out);
}

static bool is_hash(const char *s) {
    return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

static fm_status set_limit(bucket *b, const char *word, const char *value, const char *name, size_t line) {
    int64_t n = 0;
    if (fm_parse_count(&n, value) != FM_OK || n < 1) {
        FM_FAIL(FM_ERR_CONFIG, "%s:%zu: %s: expected a number of 1 or more, found \"%s\"", name, line, word, value);
    }
    b->per_minute = b->left = (double)n;
    return FM_OK;
}

static fm_status add_line(fm_keys *k, char *text, const char *name, size_t line) {
    char *save = NULL, *word = strtok_r(text, " \t\r", &save);
    if (!word || *word == '#') {
        return FM_OK;
    }
    FM_TRY(fm_grow((void **)&k->key, &k->cap, k->n + 1, sizeof *k->key));
    fm_key *key = &k->key[k->n];
    *key = (fm_key){0};
    if (strncmp(word, "sha256:", 7) == 0) {
        if (!is_hash(word + 7)) {
            FM_FAIL(FM_ERR_CONFIG, "%s:%zu: expected 64 lower-case hexadecimal digits behind \"sha256:\"", name, line);
        }
        memcpy(key->hash, word + 7, 65);
    } else {
        hash_key(key->hash, word);
    }
    snprintf(key->name, sizeof key->name, "key %zu", k->n + 1);
    while ((word = strtok_r(NULL, " \t\r", &save))) {
        char *value = strchr(word, '=');
        if (!value) {
            FM_FAIL(FM_ERR_CONFIG, "%s:%zu: expected name=, requests_per_minute= or tokens_per_minute= behind the key",
                    name, line);
        }
        *value++ = '\0';
        if (strcmp(word, "name") == 0) {
            snprintf(key->name, sizeof key->name, "%s", value);
        } else if (strcmp(word, "requests_per_minute") == 0) {
            FM_TRY(set_limit(&key->requests, word, value, name, line));
        } else if (strcmp(word, "tokens_per_minute") == 0) {
            FM_TRY(set_limit(&key->tokens, word, value, name, line));
        } else {
            FM_FAIL(FM_ERR_CONFIG, "%s:%zu: unknown setting \"%s\"", name, line, word);
        }
    }
    k->n++;
    return FM_OK;
}

fm_status fm_keys_parse(fm_keys **out, const char *text, size_t n, const char *name) {
    *out = NULL;
    fm_keys *k = fm_calloc(1, sizeof *k);
    char *copy = fm_strndup(text, n), *at = copy;
    fm_status s = FM_OK;
    if (!k || !copy) {
        fm_free(k);
        fm_free(copy);
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for API keys");
    }
    pthread_mutex_init(&k->lock, NULL);
    for (size_t line = 1; at && s == FM_OK; line++) {
        char *end = strchr(at, '\n');
        if (end) {
            *end++ = '\0';
        }
        s = add_line(k, at, name, line);
        at = end;
    }
    fm_free(copy);
    if (s == FM_OK && k->n == 0) {
        s = fm_error_set(FM_ERR_CONFIG, __FILE__, __LINE__, "%s: holds no API key", name);
    }
    if (s != FM_OK) {
        fm_keys_free(k);
        return s;
    }
    *out = k;
    return FM_OK;
}

fm_status fm_keys_load(fm_keys **out, const char *path) {
    char *text = NULL;
    size_t n = 0;
    *out = NULL;
    FM_TRY(fm_file_read(&text, &n, path, (size_t)16 << 20));
    fm_status s = fm_keys_parse(out, text, n, path);
    fm_free(text);
    return s;
}

void fm_keys_free(fm_keys *k) {
    if (!k) {
        return;
    }
    pthread_mutex_destroy(&k->lock);
    fm_free(k->key);
    fm_free(k);
}

fm_key *fm_keys_find(fm_keys *k, const char *key) {
    char hash[65];
    fm_key *found = NULL;
    hash_key(hash, key);
    for (size_t i = 0; i < k->n; i++) {
        unsigned differ = 0;
        for (int j = 0; j < 64; j++) {
            differ |= (unsigned char)(hash[j] ^ k->key[i].hash[j]);
        }
        found = differ == 0 ? &k->key[i] : found;
    }
    return found;
}

const char *fm_key_name(const fm_key *key) {
    return key->name;
}

int fm_key_index(const fm_keys *k, const fm_key *key) {
    return (int)(key - k->key);
}

static void refill(bucket *b, double now) {
    if (b->per_minute > 0) {
        b->left = fmin(b->per_minute, b->left + (b->at > 0 ? (now - b->at) * b->per_minute / 60 : 0));
        b->at = now;
    }
}

/* Seconds until there is `need` in the bucket. */
static double wait_for(const bucket *b, double need) {
    return b->per_minute > 0 && b->left < need ? (need - b->left) * 60 / b->per_minute : 0;
}

bool fm_key_take(fm_keys *k, fm_key *key, double now, double *wait_s) {
    pthread_mutex_lock(&k->lock);
    refill(&key->requests, now);
    refill(&key->tokens, now);
    *wait_s = fmax(wait_for(&key->requests, 1), wait_for(&key->tokens, 1));
    if (*wait_s <= 0) {
        key->requests.left -= 1;
    }
    pthread_mutex_unlock(&k->lock);
    return *wait_s <= 0;
}

void fm_key_spend(fm_keys *k, fm_key *key, double now, int64_t tokens) {
    pthread_mutex_lock(&k->lock);
    refill(&key->tokens, now);
    key->tokens.left -= key->tokens.per_minute > 0 ? (double)tokens : 0;
    pthread_mutex_unlock(&k->lock);
}
