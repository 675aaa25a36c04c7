/* CLD2 behind langid.h. The library has a C++ interface only, of plain functions over plain types: they are found by
 * the names that the C++ ABI of GCC and clang gives them, so that neither building nor starting the program needs it.
 */
#include "data/langid.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "base/dynlib.h"
#include "base/error.h"

/* From cld2/public: compact_lang_det.h, encodings.h, generated_language.h. */
enum { CLD2_CHINESE = 16, CLD2_UNKNOWN_ENCODING = 23, CLD2_UNKNOWN = 26, CLD2_CHINESE_T = 69, CLD2_LANGUAGES = 614 };
typedef struct cld2_hints {
    const char *content_language, *tld;
    int encoding, language;
} cld2_hints;

static struct {
    void *lib;
    int (*detect)(const char *text, int n, bool plain, const cld2_hints *hints, int flags, int language3[3],
                  int percent3[3], double score3[3], void *chunks, int *text_bytes, bool *reliable, int *valid_prefix);
    const char *(*code)(int language);
} cld2;

fm_status fm_langid_open(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static const fm_dynlib_entry entries[] = {
        {&cld2.detect, "_ZN4CLD233ExtDetectLanguageSummaryCheckUTF8EPKcibPKNS_8CLDHintsEiPNS_8LanguageEPiPdPSt6vectorIN"
                       "S_11ResultChunkESaISA_EES7_PbS7_"},
        {&cld2.code, "_ZN4CLD212LanguageCodeENS_8LanguageE"},
    };
    pthread_mutex_lock(&lock);
    fm_status s =
        cld2.lib ? FM_OK : fm_dynlib_open(&cld2.lib, "libcld2.so.0", "libcld2-0", entries, FM_ARRAY_LEN(entries));
    pthread_mutex_unlock(&lock);
    return s;
}

static const char *code_of(int language) {
    return language == CLD2_CHINESE     ? "zh-Hans"
           : language == CLD2_CHINESE_T ? "zh-Hant"
           : language == CLD2_UNKNOWN   ? "und"
                                        : cld2.code(language);
}

void fm_langid_detect(fm_langid *out, fm_sv text) {
    static const cld2_hints none = {NULL, NULL, CLD2_UNKNOWN_ENCODING, CLD2_UNKNOWN};
    int language[3] = {CLD2_UNKNOWN, CLD2_UNKNOWN, CLD2_UNKNOWN}, percent[3] = {0}, bytes = 0, valid = 0;
    double score[3] = {0};
    bool reliable = false;
    FM_ASSERT(cld2.lib);
    if (text.len) {
        (void)cld2.detect(text.ptr, (int)FM_MIN(text.len, INT32_MAX), true, &none, 0, language, percent, score, NULL,
                          &bytes, &reliable, &valid);
    }
    bool found = language[0] != CLD2_UNKNOWN && percent[0] > 0;
    *out = (fm_langid){.code = found ? code_of(language[0]) : "und",
                       .share = found ? percent[0] / 100.0 : 0,
                       .reliable = found && reliable};
}

bool fm_langid_matches(const char *code, const char *want) {
    size_t n = strlen(want);
    return strncmp(code, want, n) == 0 && (code[n] == '\0' || code[n] == '-');
}

bool fm_langid_known(const char *want) {
    FM_ASSERT(cld2.lib);
    for (int i = 0; i < CLD2_LANGUAGES; i++) {
        if (fm_langid_matches(code_of(i), want)) {
            return true;
        }
    }
    return false;
}
