/* Test cases of attention; included by attention.c only. */

static int run_with(fm_ctx *c, fm_tensor **in, fm_tensor **out, const fm_attention_options *o) {
    out[0] = fm_attention(c, in[0], in[1], in[2], in[3], o);
    return out[0] ? 1 : 0;
}

#define RUN(name, ...)                                                                                                 \
    static int name(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {                                      \
        FM_UNUSED(n_rows);                                                                                             \
        return run_with(c, in, out, &(fm_attention_options){__VA_ARGS__});                                             \
    }
static const float slopes[4] = {0.5f, 0.25f, 0.125f, 0.0625f};
static const int32_t seg_q[4] = {0, 5, 6, 17}, seg_cross_q[3] = {0, 4, 7}, seg_cross_kv[3] = {0, 9, 12},
                     seg_big[4] = {0, 70, 71, 200}, seg_empty[4] = {0, 3, 3, 8};
RUN(run_causal, .mask = FM_MASK_CAUSAL)
RUN(run_full, .mask = FM_MASK_FULL, .scale = 0.3f)
RUN(run_window, .window = 4)
RUN(run_full_window, .mask = FM_MASK_FULL, .window = 5)
RUN(run_softcap, .softcap = 1.5f, .scale = 1.0f)
RUN(run_alibi, .alibi = slopes)
RUN(run_all, .alibi = slopes, .softcap = 2.0f, .window = 6, .scale = 0.7f)
RUN(run_segments, .n_segments = 3, .q_offsets = seg_q)
RUN(run_segments_all, .n_segments = 3, .q_offsets = seg_q, .alibi = slopes, .softcap = 2.0f, .window = 6)
RUN(run_cross, .n_segments = 2, .q_offsets = seg_cross_q, .kv_offsets = seg_cross_kv, .mask = FM_MASK_FULL)
RUN(run_chunk, .n_segments = 2, .q_offsets = seg_cross_q, .kv_offsets = seg_cross_kv)
RUN(run_empty, .n_segments = 3, .q_offsets = seg_empty)
RUN(run_big_segments, .n_segments = 3, .q_offsets = seg_big)
RUN(run_big_window, .window = 50)

static int run_same(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return run_with(c, (fm_tensor *[]){in[0], in[0], in[0], NULL}, out, &(fm_attention_options){0});
}
static int run_twice(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    return run_with(c, in, out, &(fm_attention_options){.window = 3}) &&
                   run_with(c, in, out + 1, &(fm_attention_options){0})
               ? 2
               : 0;
}
/* Only v needs a gradient. */
static int run_only_v(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    return run_causal(c, in, n_rows, out);
}

/* One head, all keys seen: o = softmax(scale q k^T) v; linear multiplies by a transposed weight, so v is transposed by
 * a product with the identity. */
#define DEC_DV 5
static int decomposed_full(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    FM_UNUSED(n_rows);
    static double eye[DEC_DV * DEC_DV];
    for (int i = 0; i < DEC_DV; i++) {
        eye[i * (DEC_DV + 1)] = 1;
    }
    fm_tensor *q = in[0], *k = in[1], *v = in[2];
    fm_tensor *s = fm_linear(c, fm_view2(c, q, q->dim[0], q->dim[2]), fm_view2(c, k, k->dim[0], k->dim[2]), NULL);
    fm_tensor *p = fm_softmax(c, fm_scale(c, s, 0.3f));
    fm_tensor *i = fm_from_memory(c, FM_F64, 2, (int64_t[]){DEC_DV, DEC_DV}, eye);
    fm_tensor *vt = fm_linear(c, i, fm_view2(c, v, v->dim[0], DEC_DV), NULL);
    out[0] = fm_view3(c, fm_linear(c, p, vt, NULL), q->dim[0], 1, DEC_DV);
    return out[0] ? 1 : 0;
}

/* Lists of keys, rising: a pseudorandom part of those up to the query and a few it may not see. Query t of a case is
 * row t of the table, so the first rows alone have the same lists. */
#define SEL_T 200
#define SEL_K 24
static fm_tensor *selected(fm_ctx *c, int64_t n_rows, int64_t width, int32_t step) {
    static int32_t lists[3][SEL_T * SEL_K];
    int32_t *list = lists[step % 3];
    for (int32_t t = 0; t < SEL_T; t++) {
        int32_t n = 0;
        for (int32_t j = t % 3; j < t + 3 && n < width; j += 1 + (t * 7 + j * 5) % step) {
            list[t * width + n++] = j;
        }
        while (n < width) {
            list[t * width + n++] = -1;
        }
    }
    return fm_from_memory(c, FM_I32, 2, (int64_t[]){n_rows, width}, list);
}
static int run_selected(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    return run_with(c, in, out, &(fm_attention_options){.selected = selected(c, n_rows, 5, 3)});
}
static int run_selected_all(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    return run_with(
        c, in, out,
        &(fm_attention_options){.softcap = 2.0f, .window = 6, .scale = 0.7f, .selected = selected(c, n_rows, 5, 2)});
}
static int run_selected_big(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    return run_with(c, in, out, &(fm_attention_options){.selected = selected(c, n_rows, SEL_K, 13)});
}
static int run_selected_segments(fm_ctx *c, fm_tensor **in, int64_t n_rows, fm_tensor **out) {
    return run_with(
        c, in, out,
        &(fm_attention_options){.n_segments = 3, .q_offsets = seg_big, .selected = selected(c, n_rows, SEL_K, 7)});
}

#define Q(T, H, D, ...)                                                                                                \
    { .name = "q", .n_dims = 3, .dim = {T, H, D}, __VA_ARGS__ }
#define K(T, H, D, ...)                                                                                                \
    { .name = "k", .n_dims = 3, .dim = {T, H, D}, __VA_ARGS__ }
#define V(T, H, D, ...)                                                                                                \
    { .name = "v", .n_dims = 3, .dim = {T, H, D}, __VA_ARGS__ }
#define SINK(H)                                                                                                        \
    { .name = "sink", .n_dims = 1, .dim = {H}, .weight = true }
#define R                 .rows = true
#define FIXED             .rows = false
#define QKV(T, H, HKV, D) .n_in = 3, .in = {Q(T, H, D, R), K(T, HKV, D, R), V(T, HKV, D, R)}
#define PREFIX            .row_invariant = true, .prefix_only = true
#define SUFFIX            .row_invariant = true, .suffix_only = true
static const fm_op_case cases[] = {
    {.name = "causal", QKV(9, 2, 2, 8), .run = run_causal, PREFIX},
    {.name = "grouped heads", QKV(11, 6, 2, 5), .run = run_causal, PREFIX},
    {.name = "one kv head", QKV(7, 3, 1, 16), .run = run_causal, PREFIX},
    {.name = "v_dim", .n_in = 3, .in = {Q(8, 4, 12, R), K(8, 2, 12, R), V(8, 2, 7, R)}, .run = run_causal, PREFIX},
    {.name = "full", QKV(6, 2, 1, 4), .run = run_full},
    {.name = "full one head",
     .n_in = 3,
     .in = {Q(6, 1, 4, R), K(9, 1, 4, FIXED), V(9, 1, DEC_DV, FIXED)},
     .run = run_full,
     .decomposed = decomposed_full,
     .row_invariant = true},
    {.name = "window", QKV(13, 2, 1, 8), .run = run_window, PREFIX},
    {.name = "full with window", QKV(13, 2, 1, 8), .run = run_full_window},
    {.name = "softcap", QKV(9, 2, 2, 8), .run = run_softcap, PREFIX},
    {.name = "alibi", QKV(9, 4, 2, 8), .run = run_alibi, PREFIX},
    {.name = "sink",
     .n_in = 4,
     .in = {Q(9, 4, 8, R), K(9, 2, 8, R), V(9, 2, 8, R), SINK(4)},
     .run = run_causal,
     PREFIX},
    {.name = "all options",
     .n_in = 4,
     .in = {Q(19, 4, 8, R), K(19, 2, 8, R), V(19, 2, 8, R), SINK(4)},
     .run = run_all,
     PREFIX},
    {.name = "segments", QKV(17, 4, 2, 8), .run = run_segments},
    {.name = "segments all options",
     .n_in = 4,
     .in = {Q(17, 4, 8, R), K(17, 2, 8, R), V(17, 2, 8, R), SINK(4)},
     .run = run_segments_all},
    {.name = "empty segment", QKV(8, 2, 2, 4), .run = run_empty},
    {.name = "cross", .n_in = 3, .in = {Q(7, 2, 8, R), K(12, 2, 8, FIXED), V(12, 2, 6, FIXED)}, .run = run_cross},
    {.name = "chunked", .n_in = 3, .in = {Q(7, 2, 8, R), K(12, 2, 8, FIXED), V(12, 2, 8, FIXED)}, .run = run_chunk},
    {.name = "unused keys", .n_in = 3, .in = {Q(7, 2, 8, R), K(15, 2, 8, FIXED), V(15, 2, 8, FIXED)}, .run = run_chunk},
    {.name = "same tensor", .n_in = 1, .in = {Q(7, 2, 8, R)}, .run = run_same},
    {.name = "twice", QKV(7, 2, 1, 8), .run = run_twice},
    {.name = "gradient of v only",
     .n_in = 3,
     .in = {Q(7, 2, 8, .no_grad = true), K(7, 2, 8, .no_grad = true), V(7, 2, 8, R)},
     .run = run_only_v},
    {.name = "later queries",
     .n_in = 3,
     .in = {Q(40, 2, 16, R), K(150, 1, 16, .no_grad = true), V(150, 1, 16, .no_grad = true)},
     .run = run_causal,
     SUFFIX},
    {.name = "selected", QKV(11, 4, 2, 8), .run = run_selected, PREFIX},
    {.name = "selected, one kv head",
     .n_in = 3,
     .in = {Q(9, 4, 12, R), K(9, 1, 12, R), V(9, 1, 7, R)},
     .run = run_selected,
     PREFIX},
    {.name = "selected, all options",
     .n_in = 4,
     .in = {Q(19, 4, 8, R), K(19, 2, 8, R), V(19, 2, 8, R), SINK(4)},
     .run = run_selected_all,
     PREFIX},
    {.name = "large selected", QKV(200, 2, 1, 40), .run = run_selected_big, PREFIX},
    {.name = "large selected segments", QKV(200, 2, 2, 32), .run = run_selected_segments},
    {.name = "large", QKV(200, 4, 2, 64), .run = run_causal, PREFIX},
    {.name = "large odd",
     .n_in = 4,
     .in = {Q(137, 4, 40, R), K(137, 4, 40, R), V(137, 4, 24, R), SINK(4)},
     .run = run_all,
     PREFIX},
    {.name = "large window", QKV(200, 2, 1, 32), .run = run_big_window, PREFIX},
    {.name = "large segments", QKV(200, 2, 2, 32), .run = run_big_segments},
    {.name = "large full", QKV(140, 2, 1, 80), .run = run_full},
};
#undef R
