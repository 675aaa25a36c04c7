/* Vocabularies inside GGUF files. */
#ifndef FM_TEXT_GGUF_VOCAB_H
#define FM_TEXT_GGUF_VOCAB_H

#include "base/gguf.h"
#include "base/str.h"

/* tokenizer.json and tokenizer_config.json of the file, appended: those it carries (tokenizer.huggingface.json), else
 * composed from tokenizer.ggml.*. FM_ERR_UNSUPPORTED naming the model or pre-tokenizer that has no counterpart,
 * FM_ERR_NOT_FOUND when the file has no vocabulary. */
FM_MUST_CHECK fm_status fm_gguf_tokenizer_json(fm_str *json, fm_str *config, const fm_gguf *g);

#endif
