/* Models with random weights. */
#include "measure/bench_model.h"

#include <string.h>

#include "base/error.h"

const char *fm_bench_preset(const char *shape) {
    return strcmp(shape, "a") == 0     ? "26m"
           : strcmp(shape, "b") == 0   ? "100m"
           : strcmp(shape, "moe") == 0 ? "139m-a29m"
                                       : shape;
}

fm_status fm_bench_model(fm_model **out, const char *name, fm_dtype dtype, const fm_bench_options *o) {
    fm_model_config cfg;
    *out = NULL;
    FM_TRY(fm_model_config_from_preset(&cfg, name, 0));
    fm_model *m = NULL;
    FM_TRY(fm_model_build(&m, &cfg));
    m->compute = dtype;
    fm_status s = fm_params_alloc(m->params, dtype);
    if (s == FM_OK) {
        s = fm_pool_new(&m->pool, (int)o->threads);
    }
    if (s == FM_OK) {
        s = fm_params_init(m->params, 1, m->pool);
    }
    if (s != FM_OK) {
        fm_model_close(m);
        return s;
    }
    *out = m;
    return FM_OK;
}

fm_status fm_bench_each(const char *list, fm_status (*fn)(void *arg, const char *item), void *arg) {
    char item[64];
    for (const char *p = list ? list : ""; *p;) {
        size_t n = strcspn(p, ",");
        if (n >= sizeof item) {
            FM_FAIL(FM_ERR_ARGUMENT, "list item '%.40s...' is too long", p);
        }
        memcpy(item, p, n);
        item[n] = 0;
        if (n > 0) {
            FM_TRY(fn(arg, item));
        }
        p += n + (p[n] == ',');
    }
    return FM_OK;
}

typedef struct models {
    const fm_bench_options *o;
    fm_bench_model_fn fn;
    void *arg;
} models;

static fm_status one_shape(void *arg, const char *item) {
    const models *j = arg;
    fm_dtype dtype[2];
    int n = fm_bench_dtypes(j->o, dtype);
    for (int i = 0; i < n; i++) {
        fm_model *m = NULL;
        FM_TRY(fm_bench_model(&m, fm_bench_preset(item), dtype[i], j->o));
        fm_status s = j->fn(j->arg, m, fm_bench_preset(item));
        fm_model_close(m);
        FM_TRY(s);
    }
    return FM_OK;
}

fm_status fm_bench_models(const fm_bench_options *o, fm_bench_model_fn fn, void *arg) {
    models j = {.o = o, .fn = fn, .arg = arg};
    if (!o->model) {
        return fm_bench_each(o->shape, one_shape, &j);
    }
    fm_model *m = NULL;
    fm_model_options mo = {.size = sizeof mo, .dtype = "auto", .threads = (int)o->threads};
    FM_TRY(fm_model_open(&m, o->model, &mo));
    const char *slash = strrchr(o->model, '/');
    fm_status s = fn(arg, m, slash && slash[1] ? slash + 1 : o->model);
    fm_model_close(m);
    return s;
}
