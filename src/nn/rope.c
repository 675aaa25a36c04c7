/* Rotary frequencies and their scaling rules.
 *
 * transformers computes these numbers in f32, and models were trained with what it computed. At position p an error of
 * one f32 spacing in a frequency turns a pair by p * 6e-8, so the same roundings are made here step by step. */
#include "nn/nn.h"

#include <math.h>
#include <string.h>

#define PI 3.14159265358979323846

static const char *const kind_names[] = {"none", "linear", "llama3", "yarn", "dynamic"};

const char *fm_rope_kind_name(fm_rope_kind k) {
    return (size_t)k < FM_ARRAY_LEN(kind_names) ? kind_names[k] : "?";
}

bool fm_rope_kind_parse(fm_rope_kind *out, const char *name) {
    if (strcmp(name, "default") == 0) {
        *out = FM_ROPE_NONE;
        return true;
    }
    for (size_t i = 1; i < FM_ARRAY_LEN(kind_names); i++) {
        if (strcmp(name, kind_names[i]) == 0) {
            *out = (fm_rope_kind)i;
            return true;
        }
    }
    return false;
}

static float pair_base(double theta, int32_t i, int32_t dim) {
    return powf((float)theta, (float)(2 * i) / (float)dim);
}

static void plain(const fm_rope_config *cfg, double theta, double *freq) {
    for (int32_t i = 0; i < cfg->dim / 2; i++) {
        freq[i] = (double)(1.0f / pair_base(theta, i, cfg->dim));
    }
}

/* Long wavelengths are stretched by factor, short ones kept, those between are blended. */
static void llama3(const fm_rope_config *cfg, double *freq) {
    double old = (double)cfg->original_max_position;
    float low_wave = (float)(old / cfg->low_freq_factor), high_wave = (float)(old / cfg->high_freq_factor);
    float factor = (float)cfg->factor;
    for (int32_t i = 0; i < cfg->dim / 2; i++) {
        float f = (float)freq[i];
        float wave = (float)(2 * PI) / f;
        float scaled = wave > low_wave ? f / factor : f;
        if (wave >= high_wave && wave <= low_wave) {
            float smooth = ((float)old / wave - (float)cfg->low_freq_factor) /
                           (float)(cfg->high_freq_factor - cfg->low_freq_factor);
            scaled = (1.0f - smooth) * scaled / factor + smooth * scaled;
        }
        freq[i] = (double)scaled;
    }
}

/* The pair that makes `rotations` turns over the original context. */
static double yarn_pair(const fm_rope_config *cfg, double rotations) {
    return cfg->dim * log((double)cfg->original_max_position / (rotations * 2 * PI)) / (2 * log(cfg->theta));
}

static double yarn_mscale(double scale, double mscale) {
    return scale <= 1 ? 1.0 : 0.1 * mscale * log(scale) + 1.0;
}

static void yarn(const fm_rope_config *cfg, double *freq, double *mscale) {
    double low = yarn_pair(cfg, cfg->beta_fast != 0 ? cfg->beta_fast : 32);
    double high = yarn_pair(cfg, cfg->beta_slow != 0 ? cfg->beta_slow : 1);
    if (!cfg->no_truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, cfg->dim - 1);
    if (low == high) {
        high += 0.001;
    }
    for (int32_t i = 0; i < cfg->dim / 2; i++) {
        float base = pair_base(cfg->theta, i, cfg->dim);
        float ramp = ((float)i - (float)low) / (float)(high - low);
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        float keep = 1.0f - ramp;
        freq[i] = (double)(1.0f / ((float)cfg->factor * base) * (1.0f - keep) + 1.0f / base * keep);
    }
    if (cfg->attention_factor != 0) {
        *mscale = cfg->attention_factor;
    } else if (cfg->mscale != 0 && cfg->mscale_all_dim != 0) {
        *mscale = yarn_mscale(cfg->factor, cfg->mscale) / yarn_mscale(cfg->factor, cfg->mscale_all_dim);
    } else {
        *mscale = yarn_mscale(cfg->factor, 1);
    }
}

static fm_status check(const fm_rope_config *cfg) {
    if (cfg->dim < 2 || cfg->dim % 2 != 0) {
        FM_FAIL(FM_ERR_CONFIG, "rope: expected an even number of rotated elements, found %d", (int)cfg->dim);
    }
    if (!(cfg->theta > 0) || !isfinite(cfg->theta)) {
        FM_FAIL(FM_ERR_CONFIG, "rope_theta: expected a positive number, found %g", cfg->theta);
    }
    if (cfg->kind == FM_ROPE_NONE) {
        return FM_OK;
    }
    const char *name = fm_rope_kind_name(cfg->kind);
    if (!(cfg->factor >= 1) || !isfinite(cfg->factor)) {
        FM_FAIL(FM_ERR_CONFIG, "rope scaling %s: expected a factor of at least 1, found %g", name, cfg->factor);
    }
    if (cfg->kind != FM_ROPE_LINEAR && cfg->original_max_position < 1) {
        FM_FAIL(FM_ERR_CONFIG, "rope scaling %s: expected the original context length, found %lld", name,
                (long long)cfg->original_max_position);
    }
    if (cfg->kind == FM_ROPE_LLAMA3 && !(cfg->low_freq_factor > 0 && cfg->high_freq_factor > cfg->low_freq_factor &&
                                         isfinite(cfg->high_freq_factor))) {
        FM_FAIL(FM_ERR_CONFIG, "rope scaling llama3: expected 0 < low_freq_factor < high_freq_factor, found %g and %g",
                cfg->low_freq_factor, cfg->high_freq_factor);
    }
    if (cfg->kind == FM_ROPE_YARN && (!(cfg->theta > 1) || !(cfg->beta_fast >= 0) || !(cfg->beta_slow >= 0))) {
        FM_FAIL(FM_ERR_CONFIG, "rope scaling yarn: expected rope_theta > 1 and positive betas, found %g, %g, %g",
                cfg->theta, cfg->beta_fast, cfg->beta_slow);
    }
    if (cfg->kind == FM_ROPE_DYNAMIC && cfg->dim < 4) {
        FM_FAIL(FM_ERR_CONFIG, "rope scaling dynamic: expected at least 4 rotated elements, found %d", (int)cfg->dim);
    }
    return FM_OK;
}

bool fm_rope_depends_on_length(const fm_rope_config *cfg, int64_t seq_len) {
    return cfg->kind == FM_ROPE_DYNAMIC && seq_len > cfg->original_max_position;
}

fm_status fm_rope_frequencies_at(const fm_rope_config *cfg, int64_t seq_len, double *freq, double *mscale) {
    FM_TRY(check(cfg));
    *mscale = 1;
    double theta = cfg->theta;
    if (fm_rope_depends_on_length(cfg, seq_len)) {
        double stretch = cfg->factor * (double)seq_len / (double)cfg->original_max_position - (cfg->factor - 1);
        theta *= pow(stretch, (double)cfg->dim / (cfg->dim - 2));
    }
    plain(cfg, theta, freq);
    if (cfg->kind == FM_ROPE_LINEAR) {
        for (int32_t i = 0; i < cfg->dim / 2; i++) {
            freq[i] = (double)((float)freq[i] / (float)cfg->factor);
        }
    } else if (cfg->kind == FM_ROPE_LLAMA3) {
        llama3(cfg, freq);
    } else if (cfg->kind == FM_ROPE_YARN) {
        yarn(cfg, freq, mscale);
    }
    return FM_OK;
}

fm_status fm_rope_frequencies(const fm_rope_config *cfg, double *freq, double *mscale) {
    return fm_rope_frequencies_at(cfg, 0, freq, mscale);
}
