/* API keys and what each may use. The file has a key a line:
 *   KEY [name=NAME] [requests_per_minute=N] [tokens_per_minute=N]
 * KEY is the key itself, or "sha256:" and the 64 hexadecimal digits of its hash. Empty lines and lines that begin with
 * '#' are passed over. Only hashes are kept in memory. */
#ifndef FM_NET_KEYS_H
#define FM_NET_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

typedef struct fm_keys fm_keys;
typedef struct fm_key fm_key;

FM_MUST_CHECK fm_status fm_keys_load(fm_keys **out, const char *path);
FM_MUST_CHECK fm_status fm_keys_parse(fm_keys **out, const char *text, size_t n, const char *name);
void fm_keys_free(fm_keys *k);
/* NULL when there is no such key. Takes the same time wherever a wrong key differs from a right one. */
fm_key *fm_keys_find(fm_keys *k, const char *key);
const char *fm_key_name(const fm_key *key);
int fm_key_index(const fm_keys *k, const fm_key *key);
/* Counts a request at `now` (monotonic seconds). False when a limit is reached: *wait_s says how long. */
bool fm_key_take(fm_keys *k, fm_key *key, double now, double *wait_s);
/* Counts tokens that were read and written. A request that is running is not stopped by it, the next one waits. */
void fm_key_spend(fm_keys *k, fm_key *key, double now, int64_t tokens);

#endif
