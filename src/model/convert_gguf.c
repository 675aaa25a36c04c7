/* To GGUF: from a model, and from another GGUF file. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "model/convert.h"

#define QUANTISATION_VERSION 2

/* ---- tensors of a model ---------------------------------------------------------------------- */

typedef struct plan {
    const fm_model *m;
    const fm_gguf_arch *arch;
    fm_out_list list;
    float factors[FM_GGUF_MAX_ROPE / 2];
} plan;

static fm_status add_one(plan *p, const char *name, fm_gguf_place_kind kind, int n_dims, const int64_t *dim,
                         int32_t n_param, int32_t param) {
    fm_out_tensor *t;
    FM_TRY(fm_out_list_add(&p->list, name, n_dims, dim, &t));
    t->kind = kind;
    t->param = fm_malloc((size_t)n_param * sizeof *t->param);
    if (!t->param) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory for tensor %s", name);
    }
    for (int32_t i = 0; i < n_param; i++) {
        t->param[i] = -1;
    }
    t->n_param = n_param;
    t->param[0] = param;
    return FM_OK;
}

/* An expert's matrix goes into the stack of its name. */
static fm_status add_expert(plan *p, const fm_gguf_place *place, const fm_param *x, int32_t index) {
    int32_t n = p->m->cfg.moe.n_experts;
    FM_ASSERT(place->index < n);
    for (size_t i = p->list.n; i-- > 0;) {
        fm_out_tensor *t = &p->list.item[i];
        if (strcmp(t->name, place->name) == 0) {
            t->param[place->index] = index;
            return FM_OK;
        }
    }
    FM_ASSERT(place->index == 0);
    return add_one(p, place->name, place->kind, 3, (int64_t[]){n, x->dim[0], x->dim[1]}, n, index);
}

/* kv_b [H*(nope+v),R] as llama.cpp absorbs it: attn_k_b [H,R,nope], transposed, and attn_v_b [H,v,R]. */
static fm_status add_kv_b(plan *p, const fm_gguf_place *place, int32_t index) {
    const fm_model_config *cfg = &p->m->cfg;
    int64_t h = cfg->n_heads, r = cfg->mla.kv_rank;
    char name[64];
    snprintf(name, sizeof name, "blk.%d.attn_k_b.weight", (int)place->layer);
    FM_TRY(add_one(p, name, FM_GGUF_KV_B, 3, (int64_t[]){h, r, cfg->mla.nope_dim}, 1, index));
    p->list.item[p->list.n - 1].align = r;
    snprintf(name, sizeof name, "blk.%d.attn_v_b.weight", (int)place->layer);
    return add_one(p, name, FM_GGUF_KV_B, 3, (int64_t[]){h, cfg->mla.v_dim, r}, 1, index);
}

static fm_status add_param(plan *p, int32_t index) {
    const fm_param *x = fm_params_at(p->m->params, index);
    fm_gguf_place place;
    if (x->tie) {
        return FM_OK;
    }
    if (!fm_gguf_place_of(&place, p->arch, x->name)) {
        FM_FAIL(FM_ERR_UNSUPPORTED, "tensor %s cannot be exported to GGUF: architecture %s has no place for it",
                x->name, p->arch->name);
    }
    switch (place.kind) {
    case FM_GGUF_LEFT_OUT:
        fm_info("%s has no place in architecture %s and is left out", x->name, p->arch->name);
        return FM_OK;
    case FM_GGUF_EXPERT:
        return add_expert(p, &place, x, index);
    case FM_GGUF_KV_B:
        return add_kv_b(p, &place, index);
    default:
        return add_one(p, place.name, place.kind, x->n_dims, x->dim, 1, index);
    }
}

static fm_status make_plan(plan *p) {
    if (p->m->cfg.rope.dim > 0 && fm_gguf_rope_factors(p->factors, &p->m->cfg.rope)) {
        FM_TRY(add_one(p, "rope_freqs.weight", FM_GGUF_PLAIN, 1, (int64_t[]){p->m->cfg.rope.dim / 2}, 1, -1));
        p->list.item[0].data = p->factors;
    }
    for (int i = 0; i < fm_params_count(p->m->params); i++) {
        FM_TRY(add_param(p, i));
    }
    return FM_OK;
}

/* ---- rows of a model ------------------------------------------------------------------------- */

static fm_status permuted_rows(const fm_model *m, const fm_out_tensor *t, int32_t heads, int64_t row, int64_t n,
                               float *x) {
    int64_t half = t->rows / heads / 2;
    for (int64_t i = 0; i < n; i++) { /* row (h, j, t) of the file is row (h, t, j) of ours */
        int64_t r = row + i, h = r / (2 * half), j = r % (2 * half) / 2, pair = r % 2;
        FM_TRY(fm_model_param_rows(m, t->param[0], (h * 2 + pair) * half + j, 1, x + i * t->cols));
    }
    return FM_OK;
}

static fm_status kv_b_rows(const fm_model *m, const fm_out_tensor *t, int64_t row, int64_t n, float *x) {
    const fm_mla_config *a = &m->cfg.mla;
    int64_t per_head = a->nope_dim + a->v_dim, rank = a->kv_rank, nope = a->nope_dim;
    if (t->align == 1) { /* attn_v_b */
        for (int64_t i = 0; i < n; i++) {
            int64_t r = row + i;
            FM_TRY(fm_model_param_rows(m, t->param[0], r / a->v_dim * per_head + nope + r % a->v_dim, 1, x + i * rank));
        }
        return FM_OK;
    }
    FM_ASSERT(row % rank == 0 && n % rank == 0);
    float *head = fm_malloc((size_t)(nope * rank) * sizeof *head);
    if (!head) {
        FM_FAIL(FM_ERR_NO_MEMORY, "no memory to transpose %s", t->name);
    }
    fm_status s = FM_OK;
    for (int64_t h = row / rank; h < (row + n) / rank && s == FM_OK; h++, x += rank * nope) {
        s = fm_model_param_rows(m, t->param[0], h * per_head, nope, head);
        for (int64_t c = 0; c < rank && s == FM_OK; c++) {
            for (int64_t i = 0; i < nope; i++) {
                x[c * nope + i] = head[i * rank + c];
            }
        }
    }
    fm_free(head);
    return s;
}

static fm_status model_rows(const void *user, const fm_out_tensor *t, int64_t row, int64_t n, float *x) {
    const plan *p = user;
    if (t->data) {
        memcpy(x, (const float *)t->data + row, (size_t)n * sizeof *x);
        return FM_OK;
    }
    if (p->arch->permuted && (t->kind == FM_GGUF_Q_ROWS || t->kind == FM_GGUF_K_ROWS)) {
        return permuted_rows(p->m, t, t->kind == FM_GGUF_Q_ROWS ? p->m->cfg.n_heads : p->m->cfg.n_kv_heads, row, n, x);
    }
    if (t->kind == FM_GGUF_KV_B) {
        return kv_b_rows(p->m, t, row, n, x);
    }
    int64_t slice = t->rows / t->n_param;
    while (n > 0) { /* a stack's slices are parameters */
        int64_t i = row / slice, here = FM_MIN(n, (i + 1) * slice - row);
        FM_TRY(fm_model_param_rows(p->m, t->param[i], row % slice, here, x));
        row += here;
        n -= here;
        x += here * t->cols;
    }
    return FM_OK;
}

/* ---- types ----------------------------------------------------------------------------------- */

static fm_status choose_types(fm_out_list *list, fm_gguf_mix *mix) {
    for (size_t i = 0; i < list->n; i++) {
        mix->n_v += fm_gguf_counts_as_v(list->item[i].name);
    }
    for (size_t i = 0; i < list->n; i++) {
        fm_out_tensor *t = &list->item[i];
        t->dtype = fm_gguf_mix_next(mix, t->name, t->n_dims, t->dim);
    }
    return FM_OK;
}

static fm_status file_type(const fm_gguf_file_type **out, const char *dtype, fm_dtype stored) {
    bool by_itself = !dtype || strcmp(dtype, "auto") == 0;
    const char *name = !by_itself                              ? dtype
                       : stored == FM_F16 || stored == FM_BF16 ? fm_dtype_get(stored)->name
                                                               : "f32"; /* blocks lose nothing in f32 */
    *out = fm_gguf_file_type_find(name);
    if (!*out) {
        FM_FAIL(FM_ERR_ARGUMENT, "dtype: expected one of %s for GGUF, found \"%s\"", fm_gguf_file_type_names, name);
    }
    return FM_OK;
}

static fm_status declare(fm_gguf_writer *w, const fm_out_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        const fm_out_tensor *t = &list->item[i];
        FM_TRY(fm_gguf_writer_declare(w, t->name, t->dtype, t->n_dims, t->dim));
    }
    return FM_OK;
}

/* ---- a model --------------------------------------------------------------------------------- */

static void put_general(fm_gguf_writer *w, const fm_model *m, const fm_gguf_arch *arch, const fm_gguf_file_type *type) {
    char name[256];
    snprintf(name, sizeof name, "%s", m->path ? m->path : "model");
    size_t n = strlen(name);
    while (n > 1 && name[n - 1] == '/') {
        name[--n] = '\0';
    }
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    fm_gguf_put_text(w, "general.architecture", arch->name, strlen(arch->name));
    fm_gguf_put_text(w, "general.type", "model", 5);
    fm_gguf_put_text(w, "general.name", base, strlen(base));
    if (m->license) {
        fm_gguf_put_text(w, "general.license", m->license, strlen(m->license));
    }
    fm_gguf_put_u32(w, "general.file_type", type->number);
    if (fm_dtype_get(type->base)->block > 1) {
        fm_gguf_put_u32(w, "general.quantization_version", QUANTISATION_VERSION);
    }
}

static fm_status write_model(fm_conversion *c, plan *p, fm_gguf_writer *w) {
    const fm_model_config *cfg = &p->m->cfg;
    const fm_gguf_file_type *type;
    FM_TRY(file_type(&type, c->options->dtype, p->m->stored));
    put_general(w, p->m, p->arch, type);
    FM_TRY(fm_gguf_config_write(w, p->arch, p->m, c->options->inexact));
    FM_TRY(fm_gguf_vocab_write(w, p->m));
    if (!c->options->no_files) {
        FM_TRY(fm_gguf_files_write(w, p->m));
    }
    FM_TRY(make_plan(p));
    fm_gguf_mix mix = {.base = type->base,
                       .k_m = type->k_m,
                       .tied = cfg->tied || p->m->family->encoder,
                       .n_layers = cfg->n_layers + cfg->n_mtp,
                       .n_experts = cfg->moe.n_experts,
                       .is_70b = cfg->n_layers == 80 && (p->arch->bit == FM_GGUF_QWEN2 ||
                                                         (p->arch->bit == FM_GGUF_LLAMA &&
                                                          cfg->n_heads != cfg->n_kv_heads && cfg->moe.n_experts != 8))};
    FM_TRY(choose_types(&p->list, &mix));
    c->report->n_fallback = mix.n_fallback;
    FM_TRY(declare(w, &p->list));
    FM_TRY(fm_gguf_writer_begin(w));
    FM_TRY(fm_convert_tensors(c, &p->list, model_rows, p, fm_convert_gguf_sink, w));
    return fm_gguf_writer_finish(w);
}

fm_status fm_convert_to_gguf(fm_conversion *c, const fm_model *m, const char *out) {
    plan p = {.m = m, .arch = fm_gguf_arch_of_family(m->family->name)};
    if (!p.arch) {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "model_type \"%s\" cannot be exported to GGUF: llama.cpp has no architecture for it",
                m->family->model_types[0]);
    }
    if (m->cfg.n_columns > 0) {
        FM_FAIL(FM_ERR_UNSUPPORTED,
                "a model with %d progressive columns cannot be exported to GGUF: llama.cpp has no "
                "architecture for it",
                (int)m->cfg.n_columns);
    }
    fm_gguf_writer *w;
    FM_TRY(fm_gguf_writer_new(&w, out));
    fm_status s = write_model(c, &p, w);
    fm_gguf_writer_free(w);
    fm_out_list_free(&p.list);
    return s;
}

/* ---- another GGUF file ----------------------------------------------------------------------- */

static fm_status file_rows(const void *user, const fm_out_tensor *t, int64_t row, int64_t n, float *x) {
    FM_UNUSED(user);
    const fm_gguf_weight *w = t->data;
    fm_gguf_read_f32(x, w, row * t->cols, n * t->cols);
    return FM_OK;
}

static fm_status mix_of_file(fm_gguf_mix *mix, const fm_gguf_set *set, const fm_gguf_file_type *type) {
    const fm_gguf *g = fm_gguf_set_meta(set);
    fm_gguf_text arch;
    char key[128];
    int64_t layers = 0, experts = 0, heads = 0, kv_heads = 0;
    FM_TRY(fm_gguf_get_text(&arch, g, "general.architecture"));
    int n = (int)FM_MIN(arch.len, 60);
    if (arch.ptr) {
        snprintf(key, sizeof key, "%.*s.block_count", n, arch.ptr);
        FM_TRY(fm_gguf_get_int(&layers, g, key, 0));
        snprintf(key, sizeof key, "%.*s.expert_count", n, arch.ptr);
        FM_TRY(fm_gguf_get_int(&experts, g, key, 0));
    }
    if (arch.ptr && layers == 80) { /* not a list of a value for each layer then */
        snprintf(key, sizeof key, "%.*s.attention.head_count", n, arch.ptr);
        FM_TRY(fm_gguf_get_int(&heads, g, key, 0));
        snprintf(key, sizeof key, "%.*s.attention.head_count_kv", n, arch.ptr);
        FM_TRY(fm_gguf_get_int(&kv_heads, g, key, heads));
    }
    bool five = arch.ptr && arch.len == 5, llama = five && memcmp(arch.ptr, "llama", 5) == 0,
         qwen2 = five && memcmp(arch.ptr, "qwen2", 5) == 0;
    *mix = (fm_gguf_mix){.base = type->base,
                         .k_m = type->k_m,
                         .tied = !fm_gguf_set_find(set, "output.weight"),
                         .n_layers = (int32_t)FM_MIN(layers, INT32_MAX),
                         .n_experts = (int32_t)FM_MIN(experts, INT32_MAX),
                         .is_70b = layers == 80 && (qwen2 || (llama && heads != kv_heads))};
    return FM_OK;
}

static bool starts(const fm_gguf_kv *kv, const char *key) {
    return kv->key.len >= strlen(key) && memcmp(kv->key.ptr, key, strlen(key)) == 0;
}

static fm_status write_copy(fm_conversion *c, const fm_gguf_set *set, fm_gguf_writer *w, fm_out_list *list) {
    const fm_gguf *g = fm_gguf_set_meta(set);
    const fm_gguf_file_type *type;
    bool again = false;
    double bytes_of[FM_DTYPE_COUNT] = {0};
    fm_dtype stored = FM_F32;
    for (size_t i = 0; i < fm_gguf_set_count(set); i++) {
        const fm_gguf_weight *x = fm_gguf_set_at(set, i);
        fm_out_tensor *t;
        FM_TRY(fm_gguf_set_get(&x, set, x->name));
        FM_TRY(fm_out_list_add(list, x->name, x->n_dims, x->dim, &t));
        t->data = x;
        c->report->bytes_in += x->bytes;
        bytes_of[x->dtype] += (double)x->bytes;
        stored = bytes_of[x->dtype] > bytes_of[stored] ? x->dtype : stored;
    }
    FM_TRY(file_type(&type, c->options->dtype, stored));
    for (size_t i = 0; i < fm_gguf_kv_count(g); i++) {
        const fm_gguf_kv *kv = fm_gguf_kv_at(g, i);
        if (!starts(kv, "split.") && !starts(kv, "general.file_type") && !starts(kv, "general.quantization_version") &&
            !starts(kv, "general.alignment")) {
            fm_gguf_put_copy(w, kv);
        }
    }
    fm_gguf_put_u32(w, "general.file_type", type->number);
    if (fm_dtype_get(type->base)->block > 1) {
        fm_gguf_put_u32(w, "general.quantization_version", QUANTISATION_VERSION);
    }
    fm_gguf_mix mix;
    FM_TRY(mix_of_file(&mix, set, type));
    FM_TRY(choose_types(list, &mix));
    c->report->n_fallback = mix.n_fallback;
    for (size_t i = 0; i < list->n; i++) {
        const fm_gguf_weight *x = list->item[i].data;
        bool same = x->dtype == list->item[i].dtype;
        list->item[i].bytes = same ? x->data : NULL;
        again = again || (!same && fm_dtype_get(x->dtype)->block > 1 && fm_dtype_get(list->item[i].dtype)->block > 1);
    }
    if (again) {
        fm_warn("the input is quantised already; quantising again adds its error to that of the first time");
    }
    FM_TRY(declare(w, list));
    FM_TRY(fm_gguf_writer_begin(w));
    FM_TRY(fm_convert_tensors(c, list, file_rows, NULL, fm_convert_gguf_sink, w));
    return fm_gguf_writer_finish(w);
}

fm_status fm_convert_gguf_to_gguf(fm_conversion *c, const char *in, const char *out) {
    fm_gguf_set *set;
    fm_gguf_writer *w = NULL;
    fm_out_list list = {0};
    FM_TRY(fm_gguf_set_open(&set, in));
    fm_status s = fm_gguf_writer_new(&w, out);
    if (s == FM_OK) {
        s = write_copy(c, set, w, &list);
    }
    fm_gguf_writer_free(w);
    fm_out_list_free(&list);
    fm_gguf_set_close(set);
    return s;
}
