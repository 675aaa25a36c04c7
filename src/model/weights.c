/* Opening weight files. See weights.h. */
#include "model/weights.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/torch.h"

/* One of the two. */
struct fm_weights {
    fm_safetensors *st;
    fm_torch *torch;
};

/* ---- formats --------------------------------------------------------------------------------- */

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

/* Formats that have no weights for us, each with what to do. */
static const struct {
    const char *tail, *what, *hint;
} foreign[] = {
    {".h5", "TensorFlow weights",
     "in Python with transformers before 5 and tensorflow: AutoModelForCausalLM.from_pretrained(DIR, from_tf=True)"
     ".save_pretrained(OUT)"},
    {".ckpt.index", "a TensorFlow checkpoint",
     "in Python with transformers before 5 and tensorflow: AutoModelForCausalLM.from_pretrained(FILE.ckpt.index, "
     "from_tf=True, config=CONFIG).save_pretrained(OUT)"},
    {".ckpt", "a TensorFlow or Lightning checkpoint",
     "Lightning: in Python, torch.save(torch.load(FILE)['state_dict'], 'pytorch_model.bin')"},
    {".msgpack", "JAX/Flax weights",
     "in Python with transformers before 5 and flax: AutoModelForCausalLM.from_pretrained(DIR, from_flax=True)"
     ".save_pretrained(OUT)"},
    {".onnx", "an ONNX graph", "get the model it was exported from"},
    {".gguf", "GGUF weights", "give the .gguf file itself as the model"},
};

/* What kinds of files a folder has. */
static fm_status look(const char *dir, bool *safetensors, int *other) {
    char **names;
    size_t n;
    *safetensors = false;
    *other = -1;
    FM_TRY(fm_dir_list(&names, &n, dir));
    for (size_t i = 0; i < n; i++) {
        *safetensors = *safetensors || ends_with(names[i], ".safetensors") ||
                       strcmp(names[i], "model.safetensors.index.json") == 0;
        for (int k = 0; k < (int)FM_ARRAY_LEN(foreign) && *other < 0; k++) {
            *other = ends_with(names[i], foreign[k].tail) ? k : -1;
        }
    }
    fm_names_free(names, n);
    return FM_OK;
}

static fm_status open_weights(fm_weights *ws, const char *dir) {
    bool safetensors;
    int other;
    FM_TRY(look(dir, &safetensors, &other));
    if (safetensors) {
        return fm_safetensors_open(&ws->st, dir);
    }
    if (fm_torch_in_dir(dir)) {
        return fm_torch_open(&ws->torch, dir);
    }
    if (other >= 0) {
        (void)fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "%s has %s (*%s); expected safetensors or PyTorch",
                           dir, foreign[other].what, foreign[other].tail);
        return fm_error_hint("%s", foreign[other].hint);
    }
    (void)fm_error_set(FM_ERR_NOT_FOUND, __FILE__, __LINE__, "%s has no weights", dir);
    return fm_error_hint("expected model.safetensors, model.safetensors.index.json or pytorch_model.bin");
}

fm_status fm_weights_open(fm_weights **out, const char *dir) {
    *out = NULL;
    fm_weights *ws = fm_calloc(1, sizeof *ws);
    if (!ws) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for the weight files of %s", dir);
    }
    fm_status s = open_weights(ws, dir);
    if (s != FM_OK) {
        fm_weights_close(ws);
        return s;
    }
    *out = ws;
    return FM_OK;
}

void fm_weights_close(fm_weights *ws) {
    if (ws) {
        fm_safetensors_close(ws->st);
        fm_torch_close(ws->torch);
        fm_free(ws);
    }
}

/* ---- tensors --------------------------------------------------------------------------------- */

static void of_safetensors(fm_weight *out, const fm_st_tensor *t) {
    *out = (fm_weight){.name = t->name,
                       .dtype = t->dtype,
                       .dtype_name = t->dtype_name,
                       .n_dims = t->n_dims,
                       .dense = true,
                       .data = t->data,
                       .bytes = t->bytes};
    int64_t stride = 1;
    for (int i = t->n_dims - 1; i >= 0; i--) {
        out->dims[i] = t->dims[i];
        out->stride[i] = stride;
        stride *= t->dims[i];
    }
}

static void of_torch(fm_weight *out, const fm_torch_tensor *t) {
    *out = (fm_weight){.name = t->name,
                       .dtype = t->dtype,
                       .dtype_name = t->dtype_name,
                       .n_dims = t->n_dims,
                       .dense = true,
                       .data = t->data,
                       .bytes = t->bytes};
    int64_t stride = 1;
    for (int i = t->n_dims - 1; i >= 0; i--) {
        out->dims[i] = t->dims[i];
        out->stride[i] = t->stride[i];
        out->dense = out->dense && (t->dims[i] <= 1 || t->stride[i] == stride);
        stride *= FM_MAX(t->dims[i], 1);
    }
}

size_t fm_weights_count(const fm_weights *ws) {
    return ws->st ? fm_safetensors_count(ws->st) : fm_torch_count(ws->torch);
}

void fm_weights_at(fm_weight *out, const fm_weights *ws, size_t i) {
    if (ws->st) {
        of_safetensors(out, fm_safetensors_at(ws->st, i));
    } else {
        of_torch(out, fm_torch_at(ws->torch, i));
    }
}

bool fm_weights_find(fm_weight *out, const fm_weights *ws, const char *name) {
    const fm_st_tensor *s = ws->st ? fm_safetensors_find(ws->st, name) : NULL;
    const fm_torch_tensor *t = ws->torch ? fm_torch_find(ws->torch, name) : NULL;
    if (s) {
        of_safetensors(out, s);
    } else if (t) {
        of_torch(out, t);
    }
    return s || t;
}

size_t fm_weights_n_files(const fm_weights *ws) {
    return ws->st ? fm_safetensors_n_files(ws->st) : fm_torch_n_files(ws->torch);
}

const char *fm_weights_file(const fm_weights *ws, size_t i) {
    return ws->st ? fm_safetensors_file(ws->st, i) : fm_torch_file(ws->torch, i);
}

void fm_weight_transpose(fm_weight *w) {
    FM_ASSERT(w->n_dims == 2);
    int64_t d = w->dims[0], s = w->stride[0];
    w->dims[0] = w->dims[1];
    w->stride[0] = w->stride[1];
    w->dims[1] = d;
    w->stride[1] = s;
    w->dense = false;
}

bool fm_weight_in_place(const fm_weight *w) {
    if (!w->dense || w->dtype == FM_DTYPE_COUNT) {
        return false;
    }
    const fm_dtype_info *i = fm_dtype_get(w->dtype);
    return i->block > 1 || (uintptr_t)w->data % (uintptr_t)i->block_bytes == 0;
}

void fm_weight_release(const fm_weight *w) {
    if (w->dense) { /* strided ones share their storage with others */
        fm_map_release(w->data, (size_t)w->bytes);
    }
}

const char *fm_weight_shape(char *buf, size_t cap, int n_dims, const int64_t *dims) {
    size_t n = 0;
    for (int i = 0; i < n_dims && n < cap; i++) {
        n += (size_t)snprintf(buf + n, cap - n, "%s%lld", i ? "," : "[", (long long)dims[i]);
    }
    if (n < cap) {
        snprintf(buf + n, cap - n, n_dims ? "]" : "[]");
    }
    return buf;
}
