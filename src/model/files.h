/* Weight files of a model; for the files of src/model only. */
#ifndef FM_MODEL_FILES_H
#define FM_MODEL_FILES_H

#include "model/model.h"

void fm_model_files_close(fm_model *m);
/* End ids: an int or a list under `key` of an object. */
int fm_eos_ids(int32_t *out, int cap, const fm_json *object);
/* "license: x" of the front matter of README.md, or the first line of LICENSE; NULL when there is none (fm_free). */
char *fm_license_of(const char *dir);

#endif
