/* Reading and writing config.json: what the families' files share. For the files of src/model only. */
#ifndef FM_MODEL_CONFIG_H
#define FM_MODEL_CONFIG_H

#include "model/model.h"

/* A key of config.json and the field of fm_model_config it is. */
typedef enum fm_key_type { FM_KEY_SIZE /* int32_t, at least 0 */, FM_KEY_LONG, FM_KEY_F64, FM_KEY_BOOL } fm_key_type;
typedef struct fm_config_key {
    const char *key, *alias; /* alias: another name the key has had, or NULL; the first is written */
    fm_key_type type;
    size_t offset;
    double def; /* of a missing key; a size below 0: the key must be there */
} fm_config_key;
#define FM_KEY(key, alias, type, field, def)                                                                           \
    { key, alias, type, offsetof(fm_model_config, field), def }
/* Lists end with {0}. */
FM_MUST_CHECK fm_status fm_config_read_keys(fm_model_config *cfg, const fm_json *json, const fm_config_key *keys);
FM_MUST_CHECK fm_status fm_config_write_keys(const fm_model_config *cfg, fm_json *json, const fm_config_key *keys);

/* A size: a number, `def` where the key is missing or null (INT64_MIN: it must be there). */
FM_MUST_CHECK fm_status fm_decoder_get_size(int32_t *out, const fm_json *json, const char *key, int64_t def);
/* Token id: a number, null or missing (-1), or a list of which the first counts here. */
FM_MUST_CHECK fm_status fm_config_id(int32_t *out, const fm_json *json, const char *key);
FM_MUST_CHECK fm_status fm_config_write_ids(const fm_model_config *cfg, fm_json *json); /* bos, eos, pad */
FM_MUST_CHECK fm_status fm_config_act(fm_act *out, const fm_json *json, const char *key, const char *def);
FM_MUST_CHECK fm_status fm_config_write_act(fm_json *json, const char *key, fm_act act);
/* A switch that changes the mathematics and has one supported position. */
FM_MUST_CHECK fm_status fm_config_refuse(const fm_json *json, const char *key, bool allowed);
/* A list, when there is one, all of whose entries are this text, or the other one (or NULL). */
FM_MUST_CHECK fm_status fm_config_only_entries(const fm_json *json, const char *key, const char *value,
                                               const char *other);

#endif
