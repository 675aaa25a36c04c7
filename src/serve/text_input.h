/* Inputs that may be a text, token ids, or a list of either. */
#ifndef FM_SERVE_TEXT_INPUT_H
#define FM_SERVE_TEXT_INPUT_H

#include "serve/serve.h"

typedef struct fm_text_input {
    fm_tokens ids;
    fm_tokens types;   /* token types of pairs; empty: all 0 */
    int32_t *offsets;  /* [n+1] */
    const char **text; /* [n] borrowed; NULL where ids were given */
    int n;
} fm_text_input;

#define FM_MAX_INPUTS 2048

/* Reads body[key]. Special tokens that are written in a text are read as such, begin and end tokens are added as the
 * model wants them. */
FM_MUST_CHECK fm_status fm_text_input_read(fm_text_input *out, const fm_serve *s, const fm_json *body, const char *key);
/* As read, for texts that come from strangers and go to an encoder: special tokens in them are plain text. `pair`: one
 * text, joined with that of body[pair] as the model pairs texts. */
FM_MUST_CHECK fm_status fm_text_input_read_plain(fm_text_input *out, const fm_serve *s, const fm_json *body,
                                                 const char *key, const char *pair);
/* Room for n texts, then one or a pair (b NULL: one text) behind the others. */
FM_MUST_CHECK fm_status fm_text_input_room(fm_text_input *t, size_t n, const char *key);
FM_MUST_CHECK fm_status fm_text_input_add(fm_text_input *t, const fm_serve *s, fm_text a, const fm_text *b);
void fm_text_input_free(fm_text_input *t);

#endif
