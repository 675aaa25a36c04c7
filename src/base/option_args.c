/* Options from the command line. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/option_row.h"

#define WHERE "command line"

/* Length of a key before '=' in "key=value"; 0 when the word does not look like that. A path such as
 * "./a=b" is not a key. */
static size_t key_length(const char *word) {
    size_t n = 0;
    if (!isalpha((unsigned char)word[0]) && word[0] != '_') {
        return 0;
    }
    while (isalnum((unsigned char)word[n]) || (word[n] && strchr("_.-", word[n]))) {
        n++;
    }
    return word[n] == '=' ? n : 0;
}

static fm_status cut(char *buf, size_t cap, const char *p, size_t n) {
    if (n >= cap) {
        FM_FAIL(FM_ERR_CONFIG, WHERE ": option name is too long: '%.60s...'", p);
    }
    memcpy(buf, p, n);
    buf[n] = '\0';
    return FM_OK;
}

/* Stores the value of a flag. A list flag given again adds to the list: -i a -i b. */
static fm_status store_flag(void *obj, const fm_option *table, const fm_option *row, const char *value,
                            uint64_t *seen) {
    uint64_t bit = (uint64_t)1 << ((row - table) & 63);
    if (row->type == FM_OPT_LIST && (*seen & bit)) {
        return fm_options_append(obj, table, row->key, value, WHERE);
    }
    *seen |= row->type == FM_OPT_LIST ? bit : 0;
    return fm_option_store(obj, row, value, WHERE);
}

/* One word that begins with a dash; *used says whether the next word was taken as the value. */
static fm_status flag(void *obj, const fm_option *table, const char *word, const char *next, bool *used,
                      uint64_t *seen) {
    char key[128];
    bool is_long = word[1] == '-';
    const char *name = word + (is_long ? 2 : 1);
    const char *eq = is_long ? strchr(name, '=') : NULL;
    *used = false;
    FM_TRY(cut(key, sizeof key, name, eq ? (size_t)(eq - name) : strlen(name)));
    const fm_option *row = is_long || strlen(key) == 1 ? fm_option_find(table, key, strlen(key)) : NULL;
    if (!row && is_long && !eq && (strncmp(key, "no-", 3) == 0 || strncmp(key, "no_", 3) == 0)) {
        row = fm_option_find(table, key + 3, strlen(key + 3));
        if (row && row->type == FM_OPT_BOOL) {
            return fm_option_store(obj, row, "false", WHERE);
        }
        row = NULL;
    }
    if (!row) {
        return fm_option_unknown(table, key, is_long ? "--" : "-", WHERE);
    }
    if (eq) {
        return store_flag(obj, table, row, eq + 1, seen);
    }
    if (row->type == FM_OPT_BOOL) {
        return fm_option_store(obj, row, "true", WHERE);
    }
    if (!next) {
        FM_FAIL(FM_ERR_CONFIG, WHERE ": option '%s' needs a value", word);
    }
    *used = true;
    return store_flag(obj, table, row, next, seen);
}

fm_status fm_options_parse_args(void *obj, const fm_option *table, int argc, char **argv, char **positional,
                                int *n_positional) {
    bool ended = false;
    uint64_t seen = 0; /* list rows given so far; tables have fewer than 64 lists */
    *n_positional = 0;
    for (int i = 0; i < argc; i++) {
        char *word = argv[i];
        size_t n = ended ? 0 : key_length(word);
        if (!ended && strcmp(word, "--") == 0) {
            ended = true;
        } else if (!ended && word[0] == '-' && word[1]) {
            bool used;
            FM_TRY(flag(obj, table, word, i + 1 < argc ? argv[i + 1] : NULL, &used, &seen));
            i += used;
        } else if (n) {
            char key[128];
            FM_TRY(cut(key, sizeof key, word, n));
            FM_TRY(fm_options_set(obj, table, key, word + n + 1, WHERE));
        } else {
            positional[(*n_positional)++] = word;
        }
    }
    return FM_OK;
}
