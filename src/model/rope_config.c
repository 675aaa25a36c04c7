/* Rope in config.json. transformers 5 writes {"rope_parameters": {"rope_type", "rope_theta", ...}}; before, rope_theta
 * stood beside {"rope_scaling": {"rope_type" or "type", ...} or null}. We write the older form, which both read, and
 * keep the newer one up to date where the file we started from has it. */
#include <string.h>

#include "model/decoder.h"

static fm_status parse_scaling(fm_rope_config *r, const fm_json *o, double max_position) {
    FM_TRY(fm_json_get_f64(&r->factor, o, "factor", r->kind == FM_ROPE_YARN ? 0 : 1));
    FM_TRY(fm_json_get_f64(&r->low_freq_factor, o, "low_freq_factor", 0));
    FM_TRY(fm_json_get_f64(&r->high_freq_factor, o, "high_freq_factor", 0));
    FM_TRY(fm_json_get_f64(&r->beta_fast, o, "beta_fast", 0));
    FM_TRY(fm_json_get_f64(&r->beta_slow, o, "beta_slow", 0));
    FM_TRY(fm_json_get_f64(&r->mscale, o, "mscale", 0));
    FM_TRY(fm_json_get_f64(&r->mscale_all_dim, o, "mscale_all_dim", 0));
    FM_TRY(fm_json_get_f64(&r->attention_factor, o, "attention_factor", 0));
    FM_TRY(fm_json_get_i64(&r->original_max_position, o, "original_max_position_embeddings", (int64_t)max_position));
    bool truncate;
    FM_TRY(fm_json_get_bool(&truncate, o, "truncate", true));
    r->no_truncate = !truncate;
    if (r->kind == FM_ROPE_DYNAMIC) {
        r->original_max_position = (int64_t)max_position; /* transformers measures growth from there */
    } else if (r->kind == FM_ROPE_YARN && r->factor == 0 && r->original_max_position > 0) {
        r->factor = max_position / (double)r->original_max_position;
    }
    return FM_OK;
}

fm_status fm_rope_config_parse(fm_model_config *cfg, const fm_json *json) {
    fm_rope_config *r = &cfg->rope;
    *r = (fm_rope_config){.dim = cfg->head_dim, .factor = 1};
    const fm_json *o = fm_json_get(json, "rope_scaling");
    if (!fm_json_is_object(o)) {
        o = fm_json_get(json, "rope_parameters");
    }
    if (!fm_json_is_null(o) && !fm_json_is_object(o)) {
        FM_FAIL(FM_ERR_FORMAT, "rope_parameters or rope_scaling: expected an object");
    }
    double theta, part;
    FM_TRY(fm_json_get_f64(&theta, json, "rope_theta", 10000));
    FM_TRY(fm_json_get_f64(&part, json, "partial_rotary_factor", 1));
    r->theta = theta;
    if (fm_json_is_object(o)) {
        const char *type;
        FM_TRY(fm_json_get_str(&type, o, "type", "default"));
        FM_TRY(fm_json_get_str(&type, o, "rope_type", type));
        if (!fm_rope_kind_parse(&r->kind, type)) {
            FM_FAIL(FM_ERR_UNSUPPORTED, "rope_type \"%s\" is not supported", type);
        }
        FM_TRY(fm_json_get_f64(&r->theta, o, "rope_theta", theta));
        FM_TRY(fm_json_get_f64(&part, o, "partial_rotary_factor", part));
        FM_TRY(parse_scaling(r, o, (double)cfg->max_position));
    }
    if (part != 1) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "partial_rotary_factor: only 1 is supported in this family, found %g", part);
    }
    return FM_OK;
}

/* Numbers that have a default are written when they differ from it. */
static fm_status set_if(fm_json *o, const char *key, double v, bool wanted) {
    return wanted ? fm_json_set(o, key, fm_json_new_num(v)) : FM_OK;
}

static fm_status fill(fm_json *o, const fm_rope_config *r) {
    bool llama3 = r->kind == FM_ROPE_LLAMA3, yarn = r->kind == FM_ROPE_YARN;
    FM_TRY(
        fm_json_set(o, "rope_type", fm_json_new_str(r->kind == FM_ROPE_NONE ? "default" : fm_rope_kind_name(r->kind))));
    FM_TRY(set_if(o, "factor", r->factor, r->kind != FM_ROPE_NONE));
    FM_TRY(set_if(o, "low_freq_factor", r->low_freq_factor, llama3));
    FM_TRY(set_if(o, "high_freq_factor", r->high_freq_factor, llama3));
    FM_TRY(set_if(o, "beta_fast", r->beta_fast, yarn && r->beta_fast != 0));
    FM_TRY(set_if(o, "beta_slow", r->beta_slow, yarn && r->beta_slow != 0));
    FM_TRY(set_if(o, "mscale", r->mscale, yarn && r->mscale != 0));
    FM_TRY(set_if(o, "mscale_all_dim", r->mscale_all_dim, yarn && r->mscale_all_dim != 0));
    FM_TRY(set_if(o, "attention_factor", r->attention_factor, yarn && r->attention_factor != 0));
    if (yarn && r->no_truncate) {
        FM_TRY(fm_json_set(o, "truncate", fm_json_new_bool(false)));
    }
    if (llama3 || yarn) {
        FM_TRY(fm_json_set(o, "original_max_position_embeddings", fm_json_new_int(r->original_max_position)));
    }
    return FM_OK;
}

/* A new object under `key`. */
static fm_status set_object(fm_json *json, const char *key, const fm_rope_config *r, bool with_theta) {
    fm_json *o = fm_json_new_object();
    if (!o) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the rope part of config.json");
    }
    fm_status s = fill(o, r);
    if (s == FM_OK && with_theta) {
        s = fm_json_set(o, "rope_theta", fm_json_new_num(r->theta));
    }
    if (s != FM_OK) {
        fm_json_free(o);
        return s;
    }
    return fm_json_set(json, key, o);
}

fm_status fm_rope_config_write(const fm_model_config *cfg, fm_json *json) {
    const fm_rope_config *r = &cfg->rope;
    if (fm_json_is_object(fm_json_get(json, "rope_parameters"))) {
        FM_TRY(set_object(json, "rope_parameters", r, true));
    }
    FM_TRY(fm_json_set(json, "rope_theta", fm_json_new_num(r->theta)));
    return r->kind == FM_ROPE_NONE ? fm_json_set(json, "rope_scaling", fm_json_new_null())
                                   : set_object(json, "rope_scaling", r, false);
}
